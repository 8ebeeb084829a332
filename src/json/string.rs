//! Strings as they stand in a text, and what their escapes mean (RFC 8259 section 7).

use std::borrow::Cow;

use super::{Kind, scan};

/// A string between its quotes, as written, escapes still escaped; or a number, as written.
#[derive(Clone, Copy, Debug)]
pub struct Str<'t> {
    /// All of the text, so that a short string can be copied by a fixed number of bytes.
    pub(super) text: &'t str,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) escaped: bool,
}

impl<'t> Str<'t> {
    /// What stands between the quotes of a valid JSON string.
    pub(super) fn within(quoted: &'t str) -> Str<'t> {
        let to = quoted.len() - 1;
        Str { text: quoted, from: 1, to, escaped: scan::plain(quoted.as_bytes(), 1) < to }
    }

    /// As written.
    pub fn raw(self) -> &'t str {
        &self.text[self.from..self.to]
    }

    /// As meant; borrowed where there are no escapes. Cannot fail: the parser refuses any that mean nothing.
    pub fn unescape(self) -> Cow<'t, str> {
        let mut rest = self.raw();
        if !self.escaped {
            return Cow::Borrowed(rest);
        }
        let mut out = String::with_capacity(rest.len());
        while let Some(at) = rest.find('\\') {
            let (meant, len) = escape(&rest.as_bytes()[at..]).expect("the parser has checked it");
            out.push_str(&rest[..at]);
            out.push(meant);
            rest = &rest[at + len..];
        }
        Cow::Owned(out + rest)
    }
}

/// The escape at the start of `bytes`: what it means, and how long it is.
///
/// `\u` takes 16 bits. A character beyond U+FFFF is written as two of them, a surrogate pair: of the 20 bits by
/// which it exceeds 0x10000, the upper ten on D800 and the lower ten on DC00. These numbers are reserved for
/// this: one without the other is no character, and no `str` could hold it.
pub(super) fn escape(bytes: &[u8]) -> Result<(char, usize), Kind> {
    let meant = match bytes.get(1) {
        Some(itself @ (b'"' | b'\\' | b'/')) => char::from(*itself),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let first = code_unit(bytes).ok_or(Kind::Hex)?;
            if let Some(meant) = char::from_u32(first) {
                return Ok((meant, 6));
            }
            let pair = match (first, bytes.get(6..).and_then(code_unit)) {
                (0xD800..0xDC00, Some(low @ 0xDC00..0xE000)) => {
                    char::from_u32(0x10000 + ((first - 0xD800) << 10) + (low - 0xDC00))
                }
                _ => None,
            };
            return pair.map(|meant| (meant, 12)).ok_or(Kind::Surrogate);
        }
        _ => return Err(Kind::Escape),
    };
    Ok((meant, 2))
}

/// The number in an escape `\uXXXX` at the start of `bytes`.
fn code_unit(bytes: &[u8]) -> Option<u32> {
    let [b'\\', b'u', hex @ ..] = bytes.first_chunk::<6>()? else { return None };
    hex.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}
