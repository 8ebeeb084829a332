//! JSON as a tree: what a program takes apart and puts together.
//!
//! The server itself keeps values as text (see `text`); trees are what its library's users, actions and a few
//! comparisons work with. A [`Value`] owns all that it holds and borrows nothing from the text.
//!
//! An object is a list and not a map: it keeps the order of its members and those that stand twice, so that what
//! comes in goes out the same. There are no paths, no patches and no conversion to types of one's own here.

use std::fmt;
use std::ops::Deref;

use super::fast::Short;
use super::text::{Writer, utf8};
use super::{DEPTH_MAX, Error, Number, Parser, Sink, Str};

/// Any JSON value. 32 bytes; a string of up to 30 and a number of up to 22 take no memory beyond that.
/// Compares by value: numbers exactly, objects regardless of the order of their members.
///
/// A value is never nested deeper than [`DEPTH_MAX`] levels, however it was made: putting a deeper one
/// together panics. So a value can be walked by recursion, and what is printed can be parsed again.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as written.
    Number(Number),
    /// A string, unescaped.
    String(Short<30>),
    /// An array.
    Array(Array),
    /// An object.
    Object(Object),
}

/// An array. It reads as a slice. It is made of a `Vec` or an iterator, which panics where it would nest
/// deeper than [`DEPTH_MAX`] levels.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Array(pub(super) Vec<Value>);

/// An object: its members in the order they were written, duplicates kept. Lookup takes time in proportion
/// to the number of members, which for the few that objects have beats hashing.
///
/// ```
/// # use socket_tables::json::{Object, Value};
/// let mut door = Object::from_iter([("name", "front")]);
/// door.push("open", true);
/// assert_eq!(door.get("open"), Some(&Value::from(true)));
/// assert_eq!(Value::from(door).to_string(), r#"{"name":"front","open":true}"#);
/// ```
#[derive(Debug, Default)]
pub struct Object(pub(super) Vec<(Short<30>, Value)>);

impl Value {
    /// The tree of a text that holds one value.
    pub fn parse(text: &str) -> Result<Value, Error> {
        let (mut parser, mut tree) = (Parser::new(text), Tree::default());
        parser.value(&mut tree)?;
        parser.end()?;
        Ok(tree.values.pop().expect("the parser has told of one value"))
    }

    /// As [`Value::parse`], of bytes that may not be UTF-8.
    pub fn from_slice(bytes: &[u8]) -> Result<Value, Error> {
        Value::parse(Error::unless_utf8(bytes)?)
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(string) = self { Some(string) } else { None }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(bool) = self { Some(*bool) } else { None }
    }

    /// The integer, if it is a number that is one by value and fits: `5.0` and `1e3` are integers, `"5"` is a string.
    ///
    /// ```
    /// # use socket_tables::json::Value;
    /// let value = Value::parse(r#"{"age": 7, "width": 0.1}"#)?;
    /// assert_eq!(value.get("age").and_then(Value::as_i64), Some(7));
    /// assert_eq!(value.get("width").and_then(Value::as_i64), None);
    /// assert_eq!(value.get("width").and_then(Value::as_f64), Some(0.1));
    /// assert_eq!(value.get("width").and_then(Value::as_exact_f64), None);
    /// # Ok::<(), socket_tables::json::Error>(())
    /// ```
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    /// As [`Value::as_i64`], of the integers that have no sign.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// The nearest float, if it is a number; infinite where it is too large for one.
    pub fn as_f64(&self) -> Option<f64> {
        Some(self.as_number()?.to_f64())
    }

    /// The float, if it is a number that has exactly this value: `0.5` has one, `0.1` and `1e400` have none.
    pub fn as_exact_f64(&self) -> Option<f64> {
        self.as_number()?.as_exact_f64()
    }

    /// The number with every digit, if it is one.
    pub fn as_number(&self) -> Option<&Number> {
        if let Value::Number(number) = self { Some(number) } else { None }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Value::Array(items) = self { Some(items) } else { None }
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object> {
        if let Value::Object(object) = self { Some(object) } else { None }
    }

    /// The value of a member, if this is an object that has it; of duplicates, the last.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get(name)
    }

    /// Whether it nests at most this deep. This stops at the first branch that does not.
    fn fits(&self, levels: usize) -> bool {
        match self {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
            Value::Array(items) => levels > 0 && items.iter().all(|item| item.fits(levels - 1)),
            Value::Object(object) => levels > 0 && object.0.iter().all(|(_, value)| value.fits(levels - 1)),
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Compact JSON, appended. It saves the check and the copy that a `String` costs.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(false);
        writer.out = std::mem::take(out);
        writer.value(self);
        *out = writer.out;
    }

    /// JSON for people: a line an element, indented by two spaces.
    pub fn pretty(&self) -> String {
        self.written(true)
    }

    /// All of it as JSON.
    pub(super) fn written(&self, pretty: bool) -> String {
        let mut writer = Writer::new(pretty);
        writer.value(self);
        utf8(writer.out)
    }
}

/// Compact JSON.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(false))
    }
}

/// Compact JSON too.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Written by hand, as is that of [`Object`]: a derived `clone` goes through seven functions a level (`Vec`, `to_vec`
/// and so on), and in a debug build 128 levels of them overflow a stack of 128 KiB.
impl Clone for Array {
    fn clone(&self) -> Array {
        Array(copy(&self.0))
    }
}

impl Clone for Object {
    fn clone(&self) -> Object {
        Object(copy(&self.0))
    }
}

fn copy<T: Clone>(items: &[T]) -> Vec<T> {
    let mut copy = Vec::with_capacity(items.len());
    for item in items {
        copy.push(item.clone());
    }
    copy
}

impl Object {
    /// An object without members.
    pub fn new() -> Object {
        Object::default()
    }

    /// The value of a member; of duplicates, the last.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let name = name.as_bytes();
        self.0.iter().rev().find(|(own, _)| own.as_bytes() == name).map(|(_, value)| value)
    }

    /// Appends a member; an earlier one of that name stays, and no longer counts.
    ///
    /// # Panics
    /// Where the object would nest deeper than [`DEPTH_MAX`] levels.
    pub fn push(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.into(), element(value)));
    }

    /// The members in order, duplicates included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// The members that count, sorted by name: what two objects must have in common to be equal.
    fn sorted(&self) -> Vec<(&[u8], &Value)> {
        let mut members: Vec<_> = self.0.iter().rev().map(|(name, value)| (name.as_bytes(), value)).collect();
        members.sort_by_key(|(name, _)| *name);
        // Reversed, and sorted stably: the last written of each name is now its first.
        members.dedup_by_key(|(name, _)| *name);
        members
    }
}

/// Both sides are sorted. To look each member up in the other object would take n² steps, and one request of a
/// megabyte could keep the server busy for minutes.
impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Eq for Object {}

impl<N: AsRef<str>, V: Into<Value>> FromIterator<(N, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(members: I) -> Object {
        let members =
            members.into_iter().map(|(name, value)| (name.as_ref().into(), element(value))).collect();
        Object(members)
    }
}

impl Deref for Array {
    type Target = [Value];
    fn deref(&self) -> &[Value] {
        &self.0
    }
}

impl From<Vec<Value>> for Array {
    fn from(items: Vec<Value>) -> Array {
        items.into_iter().collect()
    }
}

impl<V: Into<Value>> FromIterator<V> for Array {
    fn from_iter<I: IntoIterator<Item = V>>(items: I) -> Array {
        Array(items.into_iter().map(element).collect())
    }
}

/// A value that is about to be put into an array or object.
///
/// A program can put values together only through here, so this bounds how deep they get. The other way would be
/// to clone, print and drop trees of any depth without recursion. We tried that for dropping, and parsing and
/// dropping ordinary trees became 5 to 40% slower.
fn element(value: impl Into<Value>) -> Value {
    let value = value.into();
    assert!(value.fits(DEPTH_MAX - 1), "a value may be nested {DEPTH_MAX} levels deep, not more");
    value
}

macro_rules! from {
    ($($variant:ident: $($type:ty)*;)*) => {$($(
        impl From<$type> for Value {
            fn from(from: $type) -> Value {
                Value::$variant(from.into())
            }
        }
    )*)*};
}
from! {
    Bool: bool;
    Number: Number i8 u8 i16 u16 i32 u32 i64 u64 i128 u128 isize usize;
    String: &str String;
    Array: Vec<Value> Array;
    Object: Object;
}

/// JSON has no NaN and no infinities: those become null, as JavaScript writes them. [`Number::from_f64`] refuses them.
impl From<f64> for Value {
    fn from(float: f64) -> Value {
        Number::from_f64(float).map_or(Value::Null, Value::Number)
    }
}

/// The sink that builds a tree.
///
/// What is finished waits on one of two stacks until the bracket around it closes. Then it moves, all at once, into
/// a `Vec` of just its number. So a tree takes one allocation for each array and object that is not empty, and
/// none is larger than it must be, which a `Vec` that grew by pushing would be.
#[derive(Default)]
struct Tree {
    /// Elements of the arrays that are open; at last, the one value of the text.
    values: Vec<Value>,
    /// Members of the objects that are open.
    members: Vec<(Short<30>, Value)>,
    /// Whether the innermost bracket is an object's.
    in_object: bool,
    /// For each open bracket, where in its stack its contents start, and `in_object` as it was outside.
    outer: Vec<(usize, bool)>,
}

impl Tree {
    /// Puts a value in its place. In an object, the member that waits for it was pushed with its name and holds null
    /// so far. In an array, or where the text ends, it goes on the stack of elements.
    #[inline(always)]
    fn put(&mut self, value: Value) {
        match self.members.last_mut() {
            Some((_, place)) if self.in_object => *place = value,
            _ => self.values.push(value),
        }
    }
}

/// A string as the tree keeps it, its escapes replaced.
#[inline(always)]
fn short(string: Str<'_>) -> Short<30> {
    if string.escaped { string.unescape().into_owned().into() } else { Short::copy(string) }
}

impl<'t> Sink<'t> for Tree {
    fn null(&mut self) {
        self.put(Value::Null);
    }

    fn bool(&mut self, value: bool) {
        self.put(Value::Bool(value));
    }

    #[inline(always)]
    fn number(&mut self, number: Str<'t>) {
        self.put(Value::Number(Number(Short::copy(number))));
    }

    #[inline(always)]
    fn string(&mut self, string: Str<'t>) {
        self.put(Value::String(short(string)));
    }

    #[inline(always)]
    fn name(&mut self, name: Str<'t>) {
        self.members.push((short(name), Value::Null));
    }

    fn begin(&mut self, open: u8) {
        let in_object = open == b'{';
        let start = if in_object { self.members.len() } else { self.values.len() };
        self.outer.push((start, self.in_object));
        self.in_object = in_object;
    }

    fn end(&mut self, close: u8) {
        let (start, in_object) = self.outer.pop().expect("the parser has told that it began");
        self.in_object = in_object;
        let value = match close {
            b'}' => Value::Object(Object(self.members.split_off(start))),
            _ => Value::Array(Array(self.values.split_off(start))),
        };
        self.put(value);
    }
}
