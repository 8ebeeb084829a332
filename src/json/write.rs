//! Trees and strings to text.
//!
//! One walker for both layouts: a [`Writer`] knows where commas, line breaks and indentation go, and is told
//! of brackets and of what comes next. It escapes what RFC 8259 section 7 demands, quotes, backslashes and
//! controls, and nothing else: other characters are themselves in UTF-8.

use std::convert::Infallible;

use super::{Short, Str, Value, scan};

const INDENT: &[u8] = b"  ";
const BUFFER_BYTES: usize = 16 * 1024;
/// From here on a string is better passed on than gathered.
const LONG_BYTES: usize = 96;

/// Appends a JSON string: quotes, and escapes where the grammar demands them.
pub fn write_str(out: &mut Vec<u8>, s: &str) {
    out.reserve(s.len() + 2);
    let done = write_pieces(out, s, &mut append);
    done.unwrap_or_else(|never| match never {});
}

/// The `full` of a [`Writer`] whose buffer is all that is wanted.
pub(super) fn append(out: &mut Vec<u8>, text: &str) -> Result<(), Infallible> {
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_pieces<E>(
    out: &mut Vec<u8>,
    s: &str,
    full: &mut impl FnMut(&mut Vec<u8>, &str) -> Result<(), E>,
) -> Result<(), E> {
    let mut from = 0;
    out.push(b'"');
    loop {
        let to = scan::plain(s.as_bytes(), from);
        if to - from < LONG_BYTES {
            out.extend_from_slice(&s.as_bytes()[from..to]);
        } else {
            full(out, &s[from..to])?;
        }
        let Some(special) = s.as_bytes().get(to) else { break };
        escape(out, *special);
        from = to + 1;
    }
    out.push(b'"');
    Ok(())
}

#[cold]
fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let hex = |half: u8| b"0123456789abcdef"[usize::from(half & 15)];
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)]);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// JSON on its way out, compact or indented. What is written gathers in a buffer. `full` is called with the
/// buffer and a text that comes next: it takes both away, or keeps both in the buffer. It is called whenever
/// the buffer holds `BUFFER_BYTES`, for long strings, which so are not copied twice, and by `close`.
pub(crate) struct Writer<F> {
    out: Vec<u8>,
    full: F,
    pretty: bool,
    depth: usize,
    /// Nothing stands in the innermost bracket yet.
    empty: bool,
}

impl<E, F: FnMut(&mut Vec<u8>, &str) -> Result<(), E>> Writer<F> {
    pub(crate) fn new(out: Vec<u8>, pretty: bool, full: F) -> Self {
        Writer { out, full, pretty, depth: 0, empty: true }
    }

    /// `[` or `{`.
    pub(crate) fn begin(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.depth += 1;
        self.empty = true;
    }

    /// Called before each element and each name.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<(), E> {
        if self.out.len() >= BUFFER_BYTES {
            (self.full)(&mut self.out, "")?;
        }
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        if self.pretty {
            self.line();
        }
        Ok(())
    }

    /// A scalar, as written.
    pub(crate) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A name as it was written, and its colon.
    pub(crate) fn raw_name(&mut self, name: Str<'_>) {
        self.out.push(b'"');
        self.raw(name.raw());
        self.out.push(b'"');
        self.colon();
    }

    /// `]` or `}`.
    pub(crate) fn end(&mut self, bracket: u8) {
        self.depth -= 1;
        if self.pretty && !self.empty {
            self.line();
        }
        self.out.push(bracket);
        self.empty = false;
    }

    pub(super) fn value(&mut self, value: &Value) -> Result<(), E> {
        match value {
            Value::Null => self.raw("null"),
            Value::Bool(true) => self.raw("true"),
            Value::Bool(false) => self.raw("false"),
            Value::Number(number) => number.digits().append(&mut self.out),
            Value::String(string) => self.string(string)?,
            Value::Array(items) => {
                self.begin(b'[');
                for item in items.iter() {
                    self.next()?;
                    self.value(item)?;
                }
                self.end(b']');
            }
            Value::Object(object) => {
                self.begin(b'{');
                for (name, value) in &object.members {
                    self.next()?;
                    self.string(name)?;
                    self.colon();
                    self.value(value)?;
                }
                self.end(b'}');
            }
        }
        Ok(())
    }

    /// The end of a line, for what holds a text a line.
    pub(crate) fn end_line(&mut self) -> Result<(), E> {
        self.out.push(b'\n');
        if self.out.len() < BUFFER_BYTES { Ok(()) } else { (self.full)(&mut self.out, "") }
    }

    /// The end of the text: what is left in the buffer goes out.
    pub(crate) fn close(mut self) -> Result<Vec<u8>, E> {
        (self.full)(&mut self.out, "")?;
        Ok(self.out)
    }

    #[inline(always)]
    fn colon(&mut self) {
        self.out.push(b':');
        if self.pretty {
            self.out.push(b' ');
        }
    }

    fn line(&mut self) {
        self.out.push(b'\n');
        (0..self.depth).for_each(|_| self.out.extend_from_slice(INDENT));
    }

    /// Nearly all strings are short and need no escapes: those are copied as a whole.
    #[cfg_attr(not(debug_assertions), inline(always))] // There it would swell the frame of the recursion.
    fn string(&mut self, string: &Short<30>) -> Result<(), E> {
        if !string.is_plain() {
            return write_pieces(&mut self.out, string.as_str(), &mut self.full);
        }
        self.out.push(b'"');
        string.append(&mut self.out);
        self.out.push(b'"');
        Ok(())
    }
}
