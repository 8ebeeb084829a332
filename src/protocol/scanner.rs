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
        while let Some(&byte) = buffer.get(self.at) {
            if self.string {
                self.skip_string(buffer);
                if self.string {
                    break;
                }
                continue;
            }
            self.at += 1;
            match byte {
                b'"' => self.string = true,
                b'{' | b'[' => self.open(byte == b'['),
                b'}' | b']' => {
                    if !self.close(byte == b']') {
                        return self.done(Scan::Lost(self.at - 1));
                    }
                    if self.depth == 0 {
                        return self.done(Scan::Complete(self.at));
                    }
                }
                _ => {}
            }
        }
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

    /// On to the end of the string, or of what there is of it. An escape that is cut in two is left
    /// for the next time.
    fn skip_string(&mut self, buffer: &[u8]) {
        let mut rest = &buffer[self.at..];
        loop {
            while let Some((word, after)) = rest.split_first_chunk::<8>()
                && !holds_quote_or_backslash(u64::from_le_bytes(*word))
            {
                rest = after;
            }
            match rest {
                [b'"', after @ ..] => {
                    self.string = false;
                    rest = after;
                    break;
                }
                [b'\\', _, after @ ..] => rest = after,
                [] | [b'\\'] => break,
                [_, after @ ..] => rest = after,
            }
        }
        self.at = buffer.len() - rest.len();
    }

    fn done(&mut self, scan: Scan) -> Scan {
        *self = Scanner::default();
        scan
    }
}

/// Whether any of eight bytes is `"` or `\`. For each, an exclusive or makes the sought byte zero, and
/// `(x - 1) & !x` has a byte's high bit set where the lowest zero byte is. (A borrow can set the bit
/// of a later byte too, never of an earlier one, so "any" is exact.)
fn holds_quote_or_backslash(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    (zero(quote) | zero(backslash)) & HIGHS != 0
}
