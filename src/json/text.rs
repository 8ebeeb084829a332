//! JSON as text: values that stay text, strings with their escapes, and writing.
//!
//! A table that keeps what it was sent need not understand it; it must only know that it is valid. Text costs a
//! fraction of a tree's memory, goes out again by one copy, and rounds no number. A [`JsonText`] is the proof
//! that somebody has checked: there is no way for a program to make one from a text that is not JSON.
//!
//! What is written follows RFC 8259 section 7 and no more: quotes, backslashes and controls are escaped, and all
//! other characters stand as themselves in UTF-8. There is no option to escape them too, as some writers have
//! it: whoever reads JSON reads UTF-8.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::fast::{self, Short};
use super::{Error, Kind, Parser, Sink, Value, number};

/// One JSON value as text, without white space outside strings. Compares by text; see [`JsonText::same_value`].
///
/// ```
/// # use socket_tables::json::JsonText;
/// let text = JsonText::parse("[ 1.0, \"a\" ]")?;
/// assert_eq!(text.as_str(), "[1.0,\"a\"]");
/// assert!(text.same_value(&JsonText::from(vec![1.into(), "a".into()])));
/// assert_eq!(JsonText::string("a").as_string().as_deref(), Some("a"));
/// # Ok::<(), socket_tables::json::Error>(())
/// ```
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

    /// Text that is known to be compact JSON already: it was a `JsonText` before, or is made of some. The table
    /// keeps values as plain `str`s and gives them back through here, without checking them once more.
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

    /// Whether it may stand this many levels deeper, in a reply for instance, without nesting too deep there.
    pub(crate) fn leaves_room(&self, levels: usize) -> bool {
        Parser::new(&self.0).compact_with_room(levels).is_ok()
    }

    /// Equality as JSON: numbers by value, objects regardless of the order of their members. A tree is built only
    /// where the texts differ and begin alike: to find that a list is not the number 5 takes one byte.
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

/// Whatever becomes a tree becomes text: a `&str` is a string here, and no JSON that would be parsed.
impl<V: Into<Value>> From<V> for JsonText<'static> {
    fn from(value: V) -> JsonText<'static> {
        JsonText::from(&value.into())
    }
}

/// A tree is only read to be written, so a borrowed one does as well.
impl From<&Value> for JsonText<'static> {
    fn from(value: &Value) -> JsonText<'static> {
        JsonText(value.written(false).into())
    }
}

/// The sink that takes white space out: it copies what stands between two gaps. It listens to nothing else, so
/// compacting a text without white space costs no more than checking it.
pub(super) struct Gaps<'t> {
    pub(super) text: &'t str,
    /// What has been copied so far; empty until the first gap.
    pub(super) out: String,
    /// From where on the text has not been copied.
    pub(super) from: usize,
}

impl<'t> Sink<'t> for Gaps<'t> {
    fn white_space(&mut self, gap: Range<usize>) {
        self.out.push_str(&self.text[self.from..gap.start]);
        self.from = gap.end;
    }
}

/// A string between its quotes, as written, escapes still escaped; or a number, as written.
#[derive(Clone, Copy, Debug)]
pub struct Str<'t> {
    /// All of the text, not only the string: `fast::Short` copies beyond the string's end.
    pub(super) text: &'t str,
    pub(super) from: usize,
    pub(super) to: usize,
    /// Whether there is a backslash in it.
    pub(super) escaped: bool,
}

impl<'t> Str<'t> {
    /// As written.
    pub fn raw(self) -> &'t str {
        &self.text[self.from..self.to]
    }

    /// The string as a value, with its quotes. Not for a number, which has none.
    pub(crate) fn quoted(self) -> JsonText<'t> {
        JsonText(Cow::Borrowed(&self.text[self.from - 1..=self.to]))
    }

    /// What is meant: each escape is replaced by its character. Borrowed where there are none. This cannot
    /// fail, because the parser has refused escapes that mean nothing.
    #[inline]
    pub fn unescape(self) -> Cow<'t, str> {
        if self.escaped { Cow::Owned(replace_escapes(self.raw())) } else { Cow::Borrowed(self.raw()) }
    }
}

fn replace_escapes(mut text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    while let Some(at) = text.find('\\') {
        let (meant, len) = read_escape(&text.as_bytes()[at..]).expect("the parser has checked it");
        out.push_str(&text[..at]);
        out.push(meant);
        text = &text[at + len..];
    }
    out + text
}

/// The escape at the start of `bytes`: what it means, and how long it is.
///
/// The parser asks this too, to check a string, and throws the character away: so what is accepted and what
/// can be unescaped are the same by construction.
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

/// The escape `\uXXXX`, which takes 16 bits. A character beyond U+FFFF does not fit and is written as two escapes, a
/// surrogate pair: of the 20 bits by which it exceeds 0x10000, the upper ten are added to 0xD800 and the lower ten to
/// 0xDC00. Both ranges are reserved for this. One half without the other is no character, no `str` can hold it,
/// and so it is an error, though the grammar alone would allow it.
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

/// Appends a JSON string: quotes, and escapes where the grammar demands them. What stands between two escapes
/// is copied as a whole.
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

/// Appends the escape for a byte that needs one. Five controls have a short one; the others take `\u00XX`. Bytes
/// beyond ASCII never come here, so this works on bytes and cannot cut a character.
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
///
/// The writer is told of brackets and of what comes next, and knows where commas, line breaks and indentation
/// go. It appends to a `Vec` and never fails. Whoever writes more than memory should hold (`st json`) takes
/// what is in `out` away between two calls and lets the writer go on.
pub(crate) struct Writer {
    pub(crate) out: Vec<u8>,
    pretty: bool,
    /// How many brackets are open: so many times is a line indented.
    depth: usize,
    /// Nothing stands in the innermost bracket yet, so the next item takes no comma.
    empty: bool,
}

impl Writer {
    pub(crate) fn new(pretty: bool) -> Writer {
        Writer { out: Vec::new(), pretty, depth: 0, empty: true }
    }

    /// `[` or `{`.
    pub(crate) fn begin(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.depth += 1;
        self.empty = true;
    }

    /// What stands before each element and each name: a comma behind the last, and a new line in pretty JSON.
    #[inline(always)]
    pub(crate) fn next(&mut self) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.line();
    }

    /// A scalar, as it was written, quotes and escapes included.
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

    /// A whole tree. The recursion is at most `DEPTH_MAX` deep, as every tree is.
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
            (0..self.depth).for_each(|_| self.out.extend_from_slice(b"  "));
        }
    }

    /// A string of a tree. Nearly all are short and need no escapes; those are copied as a whole.
    // In a debug build, inlining would swell the frames of `value` beyond what the server's small stacks hold.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn string(&mut self, string: &Short<30>) {
        if !string.is_plain() {
            return write_str(&mut self.out, string);
        }
        self.out.push(b'"');
        string.append_to(&mut self.out);
        self.out.push(b'"');
    }
}

/// What was written, as a `String`. The check costs a pass over the bytes; there is no safe way around it.
pub(super) fn utf8(out: Vec<u8>) -> String {
    String::from_utf8(out).expect("the writer puts out UTF-8")
}
