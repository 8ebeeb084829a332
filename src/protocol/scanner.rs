//! Where does a request end? TCP carries a stream of bytes, not messages: one read may bring half a
//! request, or three and a half. Every dialect needs framing, and JSON's is the hardest of ours:
//! an object ends at the brace that closes it, which only its nesting tells.
//!
//! The scanner knows strings, braces and brackets and nothing else of JSON. It remembers where it
//! stopped, so each byte is looked at once however many reads it took to arrive; a scanner that
//! began anew with each read would let a client who sends byte by byte cost the server O(n²).

use crate::json::DEPTH_MAX;

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
    /// Bytes looked at so far.
    at: usize,
    /// Braces and brackets open.
    depth: usize,
    /// Which of the open ones are brackets, the innermost lowest, as deep as a request may nest.
    /// What nests deeper is only counted, and refused by the parser when it is complete.
    brackets: u128,
    /// Inside a string.
    string: bool,
}

const _: () = assert!(DEPTH_MAX <= u128::BITS as usize);

impl Scanner {
    /// Looks on in `buffer`, which begins with the same bytes as last time, and with `{`.
    /// After `Complete` or `Lost` the scanner is as new, for the next request.
    pub fn scan(&mut self, buffer: &[u8]) -> Scan {
        // The place lives in a register while bytes are looked at.
        let mut at = self.at;
        while let Some(&byte) = buffer.get(at) {
            if self.string {
                (at, self.string) = string_end(buffer, at);
                if self.string {
                    break;
                }
                continue;
            }
            at += 1;
            match byte {
                b'"' => self.string = true,
                b'{' | b'[' => self.open(byte == b'['),
                b'}' | b']' => {
                    if !self.close(byte == b']') {
                        return self.done(Scan::Lost(at - 1));
                    }
                    if self.depth == 0 {
                        return self.done(Scan::Complete(at));
                    }
                }
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

/// From inside a string past its end, or past what there is of it; and whether it goes on. An escape
/// that is cut in two is left for the next time.
fn string_end(buffer: &[u8], mut at: usize) -> (usize, bool) {
    loop {
        let rest = &buffer[at..];
        let found = match rest.first_chunk() {
            Some(word) => quote_or_backslash(u64::from_le_bytes(*word)),
            None => rest.iter().position(|byte| matches!(byte, b'"' | b'\\')),
        };
        match found.map(|found| &rest[found..]) {
            None => at += rest.len().min(8),
            Some([b'"', after @ ..]) => return (buffer.len() - after.len(), false),
            Some([_, _, after @ ..]) => at = buffer.len() - after.len(),
            Some(cut) => return (buffer.len() - cut.len(), true),
        }
        if at == buffer.len() {
            return (at, true);
        }
    }
}

/// The first of eight bytes that is `"` or `\`. For each, an exclusive or makes the sought byte zero, and
/// `(x - 1) & !x` has a byte's high bit set where the lowest zero byte is. (A borrow can set the bit
/// of a later byte too, never of an earlier one, so the first is exact.)
fn quote_or_backslash(word: u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    let quote = word ^ (ONES * u64::from(b'"'));
    let backslash = word ^ (ONES * u64::from(b'\\'));
    let found = (zero(quote) | zero(backslash)) & HIGHS;
    (found != 0).then_some(found.trailing_zeros() as usize / 8)
}
