//! How it is made fast. Nothing here changes what is accepted or written; without this file the rest would be the
//! same with a loop over bytes, a `String`, and a parser that starts anew with each read.
//!
//! What each trick brings was measured on three files shaped like those that JSON parsers are compared by: tweets
//! (strings, escapes, Unicode), a catalogue (integers, names, indentation) and a map (floats in nested arrays).
//! A trick that brings less than 5% on all of them is not worth its explanation and is not here.
//!
//! - **Eight bytes at a time** ([`plain`], [`digits`], [`space`]). A `u64` is a register of eight bytes: one
//!   subtraction and a mask ask all eight the same question ("are you a quote?"), and counting trailing zeros
//!   tells which was first to say yes. This is called SWAR, SIMD within a register. It needs neither unsafe code nor
//!   a particular processor. Without it for strings, checking the tweets takes 56% longer and writing them 30%.
//! - **Short strings in place** ([`Short`]). Most names, strings and numbers are a few bytes long, and allocating
//!   and freeing each costs more than parsing it. With all of them on the heap, building a tree takes 1.6 to 2.1
//!   times as long.
//! - **Copies of fixed size** ([`Short::copy`], [`Short::append_to`]). Thirty bytes are two registers, copied by two
//!   instructions; "as many as the string has" is a call with a loop in it. So more is copied than the string
//!   has, and its length says what counts. Building a tree takes 16 to 21% longer without, writing one 11 to 27%.
//! - **No escapes, no loop** ([`Short::is_plain`]). Whether a short string needs escapes is asked of all its bytes at
//!   once, and if not it is copied as a whole. Writing the tweets takes twice as long without, the catalogue 57%
//!   longer.
//! - **Resuming** ([`Scanner`]). A request of a megabyte that arrives in 64-byte pieces would be parsed 16,000 times
//!   from its start. The scanner looks at each byte once.
//!
//! One more is where it works and not here: `inline(always)` on the small rules of the parser, which hand the place in
//! the text on as an argument. So it stays in a register; without, checking takes 12 to 22% longer.

use std::fmt;
use std::ops::Deref;

use super::{DEPTH_MAX, Str};

/// A one in each of eight bytes: times a byte, that byte eight times.
const ONES: u64 = u64::MAX / 255;
/// The high bit of each byte, by which a byte says yes.
const HIGHS: u64 = ONES << 7;

/// The place of the first byte, from `at` on, that a string cannot hold as it is: `"`, `\` or a control. Where there
/// is none, it is the length.
#[inline(always)]
pub(super) fn plain(bytes: &[u8], at: usize) -> usize {
    search(bytes, at, |word| (quote_or_backslash(word) | word.wrapping_sub(ONES * 0x20)) & !word)
}

/// Marks the bytes that end a run inside a string. An exclusive or makes the sought byte zero, and subtracting one
/// sets the high bit of a zero. The subtraction may borrow from the byte above and mark that as well; only
/// the first mark counts, so this does no harm. Bytes beyond ASCII have their high bit set before, and `!word`
/// takes that away.
fn quote_or_backslash(word: u64) -> u64 {
    let equals = |byte: u8| (word ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
    (equals(b'"') | equals(b'\\')) & !word
}

/// The place where the run of digits ends that starts at `at`. Behind a point there are often fifteen: checking the
/// map takes 30% longer without this.
#[inline(always)]
pub(super) fn digits(bytes: &[u8], at: usize) -> usize {
    search(bytes, at, |word| {
        let from_zero = word ^ (ONES * u64::from(b'0'));
        // 0..=9 stay below 0x80 when 0x76 is added; masking first keeps each sum within its byte.
        ((from_zero & !HIGHS) + ONES * 0x76) | from_zero
    })
}

/// The place where a short run of digits ends. Before a point there are seldom more than three, and looking at eight at
/// once took a file of such numbers 10% longer.
#[inline(always)]
pub(super) fn few_digits(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// The place of the first newline; the length where there is none. The compiler makes of each chunk two comparisons of
/// sixteen bytes. With a loop over bytes a GET takes 6% more instructions, an UPDATE 9%.
pub(crate) fn newline(bytes: &[u8]) -> usize {
    let lacks = |chunk: &&[u8; 32]| !chunk.iter().fold(false, |found, byte| found | (*byte == b'\n'));
    let from = 32 * bytes.as_chunks().0.iter().take_while(lacks).count();
    let rest = bytes[from..].iter().take_while(|byte| **byte != b'\n');
    from + rest.count()
}

/// The place of the first byte, from `at` on, that `marks` marks; the length where there is none. `marks` is given
/// eight bytes, the first of them lowest, and sets the high bit of those that are sought. Only the lowest mark
/// of a word must be right.
#[inline(always)]
fn search(bytes: &[u8], mut at: usize, marks: impl Fn(u64) -> u64) -> usize {
    while let Some(chunk) = bytes[at..].first_chunk() {
        let found = marks(u64::from_le_bytes(*chunk)) & HIGHS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    // Fewer than eight are left. Zeros stand for those that are missing; it does not matter whether they are marked.
    let last = bytes[at..].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    bytes.len().min(at + (marks(last) & HIGHS).trailing_zeros() as usize / 8)
}

/// The place where the white space ends that starts at `at`. In indented text that is a line break and a run of
/// spaces: checking the catalogue takes half as long again if each of them is looked at.
#[inline(always)]
pub(super) fn space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
        while bytes[at..].first_chunk() == Some(b"        ") {
            at += 8;
        }
    }
    at
}

/// A string of any length; up to `N` bytes are kept in place, and longer ones on the heap. Reads as a `str`.
///
/// The price of having no unsafe code: bytes in place are proved to be UTF-8 again each time they are asked for as
/// a `str`. So writing and comparing ask for bytes.
#[derive(Clone)]
pub struct Short<const N: usize>(Held<N>);

#[derive(Clone)]
enum Held<const N: usize> {
    /// What stands behind the first `len` bytes means nothing: it is what followed the string in its text.
    Here {
        len: u8,
        bytes: [u8; N],
    },
    Boxed(Box<str>),
}

impl<const N: usize> Short<N> {
    /// A piece of a text, escapes and all. All `N` bytes are copied wherever the text goes on for so long, which it
    /// does but for its last few strings.
    #[inline(always)]
    pub(super) fn copy(piece: Str<'_>) -> Short<N> {
        match piece.text.as_bytes()[piece.from..].first_chunk() {
            Some(bytes) if piece.to - piece.from <= N => {
                Short(Held::Here { len: (piece.to - piece.from) as u8, bytes: *bytes })
            }
            _ => Short::from(piece.raw()),
        }
    }

    /// The bytes, UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Held::Here { len, bytes } => &bytes[..usize::from(*len)],
            Held::Boxed(text) => text.as_bytes(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Held::Here { .. } => std::str::from_utf8(self.as_bytes()).expect("copied from a str"),
            Held::Boxed(text) => text,
        }
    }

    /// Whether it is kept in place and JSON can hold it without escapes. All `N` bytes are asked, in words, and what
    /// those behind the string say does not count.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        matches!(&self.0, Held::Here { len, bytes } if plain(bytes, 0) >= usize::from(*len))
    }

    /// Appends the bytes. Those in place are appended with all that stands behind them, which is then cut off.
    #[inline(always)]
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Held::Here { len, bytes } => {
                let end = out.len() + usize::from(*len);
                out.extend_from_slice(bytes);
                out.truncate(end);
            }
            Held::Boxed(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
}

impl<const N: usize, S: AsRef<str> + Into<Box<str>>> From<S> for Short<N> {
    fn from(text: S) -> Short<N> {
        let len = text.as_ref().len();
        if len > N {
            return Short(Held::Boxed(text.into()));
        }
        let mut bytes = [0; N];
        bytes[..len].copy_from_slice(text.as_ref().as_bytes());
        Short(Held::Here { len: len as u8, bytes })
    }
}

impl<const N: usize> Deref for Short<N> {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> PartialEq for Short<N> {
    fn eq(&self, other: &Short<N>) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for Short<N> {}

impl<const N: usize> fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        str::fmt(self, f)
    }
}

/// How far the value at the start of the buffer has come. Incomplete is not invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// It ends before this offset.
    Complete(usize),
    /// More bytes are needed.
    Incomplete,
    /// The byte at this offset closes what was not opened: nobody can say where a next request begins.
    Lost(usize),
}

/// Finds the end of a JSON object, over as many calls as it takes.
///
/// TCP carries a stream of bytes and not messages: one read may bring half a request, or three and a half. A JSON
/// object ends at the brace that closes it, which only its nesting tells. The scanner knows strings, braces and
/// brackets and nothing else of JSON: what it finds the end of is for the parser to judge. It remembers where
/// it stopped, so each byte is looked at once however many reads it took to arrive. If it began anew with each
/// read, a client that sends a megabyte byte by byte would cost the server 500 billion steps.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Where to go on. Where the bytes so far end in a backslash, this is one more than there are: the next byte
    /// is escaped, and is passed over unseen.
    at: usize,
    /// Inside a string.
    string: bool,
    /// Braces and brackets open.
    depth: usize,
    /// Which of the open ones are brackets, the innermost in the lowest bit. Beyond `DEPTH_MAX` they are only
    /// counted: the parser refuses such an object when it is complete, and the connection can go on behind it.
    brackets: u128,
    /// At this depth a comma is an end, too. For an object it is 0, where no comma comes.
    list_depth: usize,
}

const _: () = assert!(DEPTH_MAX <= u128::BITS as usize);

impl Scanner {
    /// A scanner for one element of an array that has been opened. It ends behind the comma that follows the element,
    /// or behind the array's bracket.
    pub(crate) fn in_array() -> Scanner {
        Scanner { depth: 1, brackets: 1, list_depth: 1, ..Scanner::default() }
    }

    /// As [`Scanner::scan`], for a caller that keeps no buffer: `piece` is only what has come since the last call, and
    /// places count from its start.
    pub(crate) fn scan_piece(&mut self, piece: &[u8]) -> Scan {
        let scan = self.scan(piece);
        self.at = self.at.saturating_sub(piece.len());
        scan
    }

    /// Goes on in `buffer`, which begins with the same bytes as last time, the first of which is `{`. After `Complete`
    /// or `Lost` the scanner is as new, for the next object.
    pub fn scan(&mut self, buffer: &[u8]) -> Scan {
        // The place lives in a register while bytes are looked at.
        let mut at = self.at;
        if self.string {
            at = self.pass_string(buffer, at);
        }
        while let Some(&byte) = buffer.get(at) {
            at += 1;
            match byte {
                b'"' => at = self.pass_string(buffer, at),
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth <= DEPTH_MAX {
                        self.brackets = self.brackets << 1 | u128::from(byte == b'[');
                    }
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth < DEPTH_MAX {
                        if self.brackets & 1 != u128::from(byte == b']') {
                            return self.done(Scan::Lost(at - 1));
                        }
                        self.brackets >>= 1;
                    }
                    if self.depth == 0 {
                        return self.done(Scan::Complete(at));
                    }
                }
                b',' if self.depth == self.list_depth => return self.done(Scan::Complete(at)),
                _ => {}
            }
        }
        self.at = at;
        Scan::Incomplete
    }

    /// Whether it has seen nothing yet of the object that comes next.
    pub(crate) fn is_new(&self) -> bool {
        self.at == 0
    }

    fn done(&mut self, scan: Scan) -> Scan {
        *self = Scanner::default();
        scan
    }

    /// From inside a string to the place behind it, or to the end of what there is of it. Controls are passed over.
    /// They are not allowed in a string, but saying so is the parser's task.
    fn pass_string(&mut self, buffer: &[u8], mut at: usize) -> usize {
        self.string = true;
        while at < buffer.len() {
            at = search(buffer, at, quote_or_backslash);
            match buffer.get(at) {
                Some(b'"') => {
                    self.string = false;
                    return at + 1;
                }
                Some(_) => at += 2,
                None => {}
            }
        }
        at
    }
}
