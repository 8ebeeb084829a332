//! JSON as text.

use std::borrow::{Borrow, Cow};
use std::fmt;

use super::fast::{self, Short};
use super::{Error, Kind, Parser, Value, number};

const INDENT: &[u8] = b"  ";

/// One JSON value as text, without white space outside strings. Compares by text; see [`JsonText::same_value`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText<'a>(Cow<'a, str>);

impl<'a> JsonText<'a> {
    /// `null`.
    pub const NULL: JsonText<'static> = JsonText(Cow::Borrowed("null"));

    /// Checks a text that holds one value, and takes its white space out.
    pub fn parse(text: &'a str) -> Result<JsonText<'a>, Error> {
        let mut parser = Parser::new(text);
        let value = parser.compact()?;
        parser.end().map(|()| value)
    }

    /// The string `s` as JSON.
    pub fn string(s: &str) -> JsonText<'static> {
        let mut out = Vec::new();
        write_str(&mut out, s);
        JsonText(utf8(out).into())
    }

    /// Text that is known to be compact JSON already: it was a `JsonText` before, or is made of some.
    pub(crate) fn trusted(text: impl Into<Cow<'a, str>>) -> JsonText<'a> {
        JsonText(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, borrowed from this.
    pub fn borrowed(&self) -> JsonText<'_> {
        JsonText(Cow::Borrowed(&self.0))
    }

    /// The same, borrowed from nobody.
    pub fn into_owned(self) -> JsonText<'static> {
        JsonText(Cow::Owned(self.0.into_owned()))
    }

    /// The tree.
    pub fn to_value(&self) -> Value {
        Value::parse(&self.0).expect("JsonText is valid")
    }

    /// The string that is meant, if this is a string. Borrowed where it has no escapes.
    pub fn as_string(&self) -> Option<Cow<'_, str>> {
        self.borrowed().into_string()
    }

    /// The same, as long-lived as the text.
    pub fn into_string(self) -> Option<Cow<'a, str>> {
        match self.0 {
            Cow::Borrowed(text) => text.starts_with('"').then(|| {
                let escaped = text.contains('\\');
                Str { text, from: 1, to: text.len() - 1, escaped }.unescape()
            }),
            Cow::Owned(_) => self.as_string().map(|string| string.into_owned().into()),
        }
    }

    /// The integer, if this is a number that is one by value and fits: `5`, `5.0` and `0.5e1` are.
    pub fn as_i128(&self) -> Option<i128> {
        (self.kind() == b'-').then(|| number::integer(&self.0)).flatten()
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// Whether it may stand this many levels deeper without nesting too deep.
    pub(crate) fn leaves_room(&self, levels: usize) -> bool {
        Parser::new(&self.0).compact_with_room(levels).is_ok()
    }

    /// Equality as JSON: numbers by value, objects regardless of the order of their members. Trees are only
    /// built of two arrays, two objects and so on.
    pub fn same_value(&self, other: &JsonText<'_>) -> bool {
        self.0 == other.0 || self.kind() == other.kind() && self.to_value() == other.to_value()
    }

    /// The byte that begins all values of its kind, `-` for a number.
    fn kind(&self) -> u8 {
        match self.0.as_bytes()[0] {
            b'0'..=b'9' => b'-',
            first => first,
        }
    }
}

impl fmt::Display for JsonText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<V: Borrow<Value>> From<V> for JsonText<'static> {
    fn from(value: V) -> JsonText<'static> {
        JsonText(utf8(value.borrow().written(Vec::new(), false)).into())
    }
}

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
            let (meant, len) = read_escape(&rest.as_bytes()[at..]).expect("the parser has checked it");
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
pub(super) fn read_escape(bytes: &[u8]) -> Result<(char, usize), Kind> {
    let meant = match bytes.get(1) {
        Some(itself @ (b'"' | b'\\' | b'/')) => char::from(*itself),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return read_unicode_escape(bytes),
        _ => return Err(Kind::Escape),
    };
    Ok((meant, 2))
}

fn read_unicode_escape(bytes: &[u8]) -> Result<(char, usize), Kind> {
    let first = code_unit(bytes).ok_or(Kind::Hex)?;
    let second = bytes.get(6..).and_then(code_unit);
    match (first, second) {
        (0xD800..0xDC00, Some(second @ 0xDC00..0xE000)) => {
            let meant = char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00));
            Ok((meant.expect("20 bits above 0x10000"), 12))
        }
        _ => char::from_u32(first).map(|meant| (meant, 6)).ok_or(Kind::Surrogate),
    }
}

/// The number in an escape `\uXXXX` at the start of `bytes`.
fn code_unit(bytes: &[u8]) -> Option<u32> {
    let [b'\\', b'u', hex @ ..] = bytes.first_chunk::<6>()? else { return None };
    hex.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Appends a JSON string: quotes, and escapes where the grammar demands them.
pub fn write_str(out: &mut Vec<u8>, s: &str) {
    let mut rest = s.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let (plain, special) = rest.split_at(fast::plain(rest, 0));
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        write_escape(out, *byte);
        rest = after;
    }
    out.push(b'"');
}

#[cold]
fn write_escape(out: &mut Vec<u8>, byte: u8) {
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

/// JSON on its way out, compact or indented.
pub(crate) struct Writer {
    pub(crate) out: Vec<u8>,
    pretty: bool,
    depth: usize,
    /// Nothing stands in the innermost bracket yet.
    empty: bool,
}

impl Writer {
    pub(crate) fn new(out: Vec<u8>, pretty: bool) -> Writer {
        Writer { out, pretty, depth: 0, empty: true }
    }

    /// `[` or `{`.
    pub(crate) fn begin(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.depth += 1;
        self.empty = true;
    }

    /// Called before each element and each name.
    #[inline(always)]
    pub(crate) fn next(&mut self) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.line();
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
        if !self.empty {
            self.line();
        }
        self.out.push(bracket);
        self.empty = false;
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.raw("null"),
            Value::Bool(true) => self.raw("true"),
            Value::Bool(false) => self.raw("false"),
            Value::Number(number) => number.0.append_to(&mut self.out),
            Value::String(string) => self.string(string),
            Value::Array(items) => {
                self.begin(b'[');
                for item in items.iter() {
                    self.next();
                    self.value(item);
                }
                self.end(b']');
            }
            Value::Object(object) => {
                self.begin(b'{');
                for (name, value) in &object.0 {
                    self.next();
                    self.string(name);
                    self.colon();
                    self.value(value);
                }
                self.end(b'}');
            }
        }
    }

    #[inline(always)]
    fn colon(&mut self) {
        self.out.push(b':');
        if self.pretty {
            self.out.push(b' ');
        }
    }

    #[inline(always)]
    fn line(&mut self) {
        if self.pretty {
            self.out.push(b'\n');
            (0..self.depth).for_each(|_| self.out.extend_from_slice(INDENT));
        }
    }

    /// Nearly all strings are short and need no escapes: those are copied as a whole.
    #[cfg_attr(not(debug_assertions), inline(always))] // There it would swell the frame of the recursion.
    fn string(&mut self, string: &Short<30>) {
        if !string.is_plain() {
            return write_str(&mut self.out, string);
        }
        self.out.push(b'"');
        string.append_to(&mut self.out);
        self.out.push(b'"');
    }
}

pub(super) fn utf8(out: Vec<u8>) -> String {
    String::from_utf8(out).expect("the writer puts out UTF-8")
}
