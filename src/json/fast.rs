//! How it is made fast.

use std::fmt;
use std::ops::Deref;

use super::{DEPTH_MAX, Str};

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// Where the first byte stands, from `at` on, that a string cannot hold as it is: `"`, `\` or a control; the
/// length where there is none.
#[inline(always)]
pub(super) fn plain(bytes: &[u8], at: usize) -> usize {
    search(bytes, at, |word| (quote_or_backslash(word) | word.wrapping_sub(ONES * 0x20)) & !word)
}

fn quote_or_backslash(word: u64) -> u64 {
    let equals = |byte: u8| (word ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
    (equals(b'"') | equals(b'\\')) & !word
}

/// Where the run of digits that starts at `at` ends.
#[inline(always)]
pub(super) fn digits(bytes: &[u8], at: usize) -> usize {
    search(bytes, at, |word| {
        let from_zero = word ^ (ONES * u64::from(b'0'));
        // 0..=9 stay below 0x80 when 0x76 is added; masking first keeps each sum within its byte.
        ((from_zero & !HIGHS) + ONES * 0x76) | from_zero
    })
}

/// Where the first byte stands, from `at` on, that `marks` marks: by a high bit in a word of eight bytes.
/// Only the lowest mark of a word must be right.
#[inline(always)]
fn search(bytes: &[u8], mut at: usize, marks: impl Fn(u64) -> u64) -> usize {
    while let Some(chunk) = bytes[at..].first_chunk() {
        let found = marks(u64::from_le_bytes(*chunk)) & HIGHS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    // Fewer than eight are left. Zeros stand for those that are missing.
    let last = bytes[at..].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    bytes.len().min(at + (marks(last) & HIGHS).trailing_zeros() as usize / 8)
}

/// Where the white space that starts at `at` ends.
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

/// A string of any length; up to `N` bytes are kept in place. Reads as a `str`.
#[derive(Clone)]
pub struct Short<const N: usize>(Held<N>);

#[derive(Clone)]
enum Held<const N: usize> {
    /// The bytes past `len` are whatever followed in the source: copying a fixed number is faster.
    Here {
        len: u8,
        bytes: [u8; N],
    },
    Boxed(Box<str>),
}

impl<const N: usize> Short<N> {
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

    /// Whether it is kept in place and JSON can hold it without escapes. What follows it does not matter.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        matches!(&self.0, Held::Here { len, bytes } if plain(bytes, 0) >= usize::from(*len))
    }

    /// Appends the bytes; those in place by a copy of fixed size, cut off after.
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

/// How far the request at the start of the buffer has come. Incomplete is not invalid.
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
#[derive(Debug, Default)]
pub struct Scanner {
    /// Where to go on. One behind the end of what there was, where that ended in a backslash: the byte that it
    /// escapes is none of ours.
    at: usize,
    /// Inside a string.
    string: bool,
    /// Braces and brackets open.
    depth: usize,
    /// Which of the open ones are brackets, the innermost lowest, as deep as a request may nest.
    /// What nests deeper is only counted, and refused by the parser when it is complete.
    brackets: u128,
    /// Where this deep, a comma is an end as well. At depth 0 there are none.
    list_depth: usize,
}

const _: () = assert!(DEPTH_MAX <= u128::BITS as usize);

impl Scanner {
    /// A scanner inside an array, for its next element: that ends with a comma, or with the array's bracket.
    pub(crate) fn in_array() -> Scanner {
        Scanner { depth: 1, brackets: 1, list_depth: 1, ..Scanner::default() }
    }

    /// As [`Scanner::scan`], where `piece` follows what was looked at before.
    pub(crate) fn scan_piece(&mut self, piece: &[u8]) -> Scan {
        let scan = self.scan(piece);
        self.at = self.at.saturating_sub(piece.len());
        scan
    }

    /// Looks on in `buffer`, which begins with the same bytes as last time, and with `{`.
    /// After `Complete` or `Lost` the scanner is as new, for the next request.
    pub fn scan(&mut self, buffer: &[u8]) -> Scan {
        // The place lives in a register while bytes are looked at.
        let mut at = self.at;
        if self.string {
            (at, self.string) = string_end(buffer, at);
        }
        while let Some(&byte) = buffer.get(at) {
            at += 1;
            match byte {
                b'"' => (at, self.string) = string_end(buffer, at),
                b'{' | b'[' => self.open(byte == b'['),
                b'}' | b']' => {
                    if !self.close(byte == b']') {
                        return self.done(Scan::Lost(at - 1));
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

    fn open(&mut self, bracket: bool) {
        self.depth += 1;
        if self.depth <= DEPTH_MAX {
            self.brackets = self.brackets << 1 | u128::from(bracket);
        }
    }

    /// Whether this is what was opened last.
    fn close(&mut self, bracket: bool) -> bool {
        self.depth -= 1;
        if self.depth >= DEPTH_MAX {
            return true;
        }
        let fits = (self.brackets & 1 == 1) == bracket;
        self.brackets >>= 1;
        fits
    }

    fn done(&mut self, scan: Scan) -> Scan {
        *self = Scanner::default();
        scan
    }
}

/// From inside a string past its end, or past what there is of it; and whether it goes on.
fn string_end(buffer: &[u8], mut at: usize) -> (usize, bool) {
    while at < buffer.len() {
        at = search(buffer, at, quote_or_backslash);
        match buffer.get(at) {
            Some(b'"') => return (at + 1, false),
            Some(_) => at += 2,
            None => {}
        }
    }
    (at, true)
}
