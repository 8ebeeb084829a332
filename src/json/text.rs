//! JSON that stays text.
//!
//! A table that keeps what it was sent need not understand it, only know that it is valid. Text costs a
//! fraction of a tree's memory, goes out again by one copy, and rounds no number. A [`JsonText`] is the proof
//! that somebody has checked: there is no way to make one from a text that is not JSON.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::{DEPTH_MAX, Error, Parser, Sink, Str, Value, number, write_str};

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
        let mut out = Vec::with_capacity(s.len() + 2);
        write_str(&mut out, s);
        JsonText(Cow::Owned(String::from_utf8(out).expect("UTF-8 with ASCII escapes")))
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
        self.0.starts_with('"').then(|| Str::within(&self.0).unescape())
    }

    /// The same, as long-lived as the text.
    pub fn into_string(self) -> Option<Cow<'a, str>> {
        match self.0 {
            Cow::Borrowed(text) => text.starts_with('"').then(|| Str::within(text).unescape()),
            Cow::Owned(_) => self.as_string().map(|string| string.into_owned().into()),
        }
    }

    /// The integer, if this is a number that is one by value and fits: `5`, `5.0` and `0.5e1` are.
    pub fn as_i128(&self) -> Option<i128> {
        let is_number = self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        is_number.then(|| number::integer(&self.0)).flatten()
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// Whether it may stand this many levels deeper without nesting too deep.
    pub(crate) fn leaves_room(&self, levels: usize) -> bool {
        let brackets = self.0.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
        brackets + levels <= DEPTH_MAX || Parser::new(&self.0).compact_with_room(levels).is_ok()
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

impl From<&Value> for JsonText<'static> {
    fn from(value: &Value) -> JsonText<'static> {
        JsonText(Cow::Owned(value.to_string()))
    }
}

impl From<Value> for JsonText<'static> {
    fn from(value: Value) -> JsonText<'static> {
        JsonText::from(&value)
    }
}

/// The sink that takes white space out. It listens to nothing else, so a text without any costs no more
/// than checking it.
pub(super) struct Gaps<'t> {
    text: &'t str,
    /// What has been copied so far; empty until the first gap.
    out: String,
    /// From where on the text has not been copied.
    from: usize,
}

impl<'t> Gaps<'t> {
    pub(super) fn new(text: &'t str, from: usize) -> Gaps<'t> {
        Gaps { text, out: String::new(), from }
    }

    pub(super) fn close(mut self, to: usize) -> JsonText<'t> {
        let rest = &self.text[self.from..to];
        if self.out.is_empty() {
            return JsonText(Cow::Borrowed(rest));
        }
        self.out.push_str(rest);
        JsonText(Cow::Owned(self.out))
    }
}

impl<'t> Sink<'t> for Gaps<'t> {
    fn white_space(&mut self, gap: Range<usize>) {
        self.out.push_str(&self.text[self.from..gap.start]);
        self.from = gap.end;
    }
}
