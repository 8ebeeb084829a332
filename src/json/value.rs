//! JSON as a tree.

use std::convert::Infallible;
use std::fmt;

use super::{DEPTH_MAX, Error, Kind, Number, Parser, Short, Sink, Str, Writer};

/// Any JSON value. 32 bytes; a string of up to 30 and a number of up to 22 take no memory beyond that.
/// Compares by value: numbers exactly, objects regardless of the order of their members.
#[derive(Debug, PartialEq, Eq)]
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
    Array(Vec<Value>),
    /// An object.
    Object(Object),
}

/// An object: its members in the order they were written, duplicates kept. Lookup takes time in proportion
/// to the number of members, which for the few that objects have beats hashing.
#[derive(Default)]
pub struct Object {
    pub(super) members: Vec<(Short<30>, Value)>,
}

impl Value {
    /// The tree of a text that holds one value.
    pub fn parse(text: &str) -> Result<Value, Error> {
        let mut parser = Parser::new(text);
        let mut tree = Tree::default();
        parser.value(&mut tree)?;
        parser.end()?;
        Ok(tree.values.pop().expect("the parser has told of one value"))
    }

    /// As [`Value::parse`], of bytes that may not be UTF-8.
    pub fn from_slice(bytes: &[u8]) -> Result<Value, Error> {
        Value::parse(utf8(bytes)?)
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(string) = self { Some(string) } else { None }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(bool) = self { Some(*bool) } else { None }
    }

    /// The number, if it is one.
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

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The value of a member, if this is an object that has it; of duplicates, the last.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get(name)
    }

    /// Compact JSON, appended.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_as(out, false);
    }

    /// JSON for people: a line an element, indented by two spaces.
    pub fn pretty(&self) -> String {
        let mut out = Vec::new();
        self.write_as(&mut out, true);
        String::from_utf8(out).expect(UTF8)
    }

    fn write_as(&self, out: &mut Vec<u8>, pretty: bool) {
        let mut writer = Writer::new(std::mem::take(out), pretty, |_: &mut Vec<u8>| Ok(()));
        let done: Result<_, Infallible> = writer.value(self).and_then(|()| writer.close());
        *out = done.unwrap_or_else(|never| match never {});
    }
}

const UTF8: &str = "the writer puts out UTF-8";

/// Compact JSON.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = Writer::new(Vec::new(), false, |out: &mut Vec<u8>| {
            f.write_str(std::str::from_utf8(out).expect(UTF8))?;
            out.clear();
            Ok(())
        });
        writer.value(self)?;
        writer.close().map(drop)
    }
}

/// By hand, one frame a level: what `derive` and `Vec` make of it takes seven, too many for a small stack.
impl Clone for Value {
    fn clone(&self) -> Value {
        match self {
            Value::Null => Value::Null,
            Value::Bool(bool) => Value::Bool(*bool),
            Value::Number(number) => Value::Number(number.clone()),
            Value::String(string) => Value::String(string.clone()),
            Value::Array(items) => {
                let mut copy = Vec::with_capacity(items.len());
                for item in items {
                    copy.push(item.clone());
                }
                Value::Array(copy)
            }
            Value::Object(object) => {
                let mut members = Vec::with_capacity(object.len());
                for (name, value) in &object.members {
                    members.push((name.clone(), value.clone()));
                }
                Value::Object(Object { members })
            }
        }
    }
}

impl Object {
    /// An object without members.
    pub fn new() -> Object {
        Object::default()
    }

    /// How many members, duplicates counted.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The value of a member; of duplicates, the last.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let name = name.as_bytes();
        self.members.iter().rev().find(|(own, _)| own.as_bytes() == name).map(|(_, value)| value)
    }

    /// Appends a member; an earlier one of that name stays, and no longer counts.
    pub fn push(&mut self, name: &str, value: impl Into<Value>) {
        self.members.push((name.into(), value.into()));
    }

    /// The members in order, duplicates included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.members.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The members that count, sorted by name.
    fn sorted(&self) -> Vec<(&[u8], &Value)> {
        let mut members: Vec<_> =
            self.members.iter().rev().map(|(name, value)| (name.as_bytes(), value)).collect();
        members.sort_by_key(|(name, _)| *name);
        // Reversed, and sorted stably: the last written of each name is now its first.
        members.dedup_by_key(|(name, _)| *name);
        members
    }
}

/// By sorting, since trying every member against every other would let one request of a megabyte
/// cost minutes.
impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Eq for Object {}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: AsRef<str>, V: Into<Value>> FromIterator<(N, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(members: I) -> Object {
        let members = members.into_iter().map(|(name, value)| (name.as_ref().into(), value.into())).collect();
        Object { members }
    }
}

macro_rules! from {
    ($($type:ty => $value:expr;)*) => {$(
        impl From<$type> for Value {
            fn from(from: $type) -> Value {
                $value(from.into())
            }
        }
    )*};
}
from! {
    bool => Value::Bool;
    &str => Value::String;
    String => Value::String;
    Number => Value::Number;
    i32 => Value::Number;
    u32 => Value::Number;
    i64 => Value::Number;
    u64 => Value::Number;
    i128 => Value::Number;
    usize => Value::Number;
    Vec<Value> => Value::Array;
    Object => Value::Object;
}

pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to there");
        Error::new(Kind::Utf8, valid, valid.len())
    })
}

/// The sink that builds a tree. What is finished waits on a stack until the bracket around it closes; then
/// it moves, all at once, into a `Vec` of just its number.
#[derive(Default)]
struct Tree {
    /// Elements of the arrays that are open; at last, the one value of the text.
    values: Vec<Value>,
    /// Members of the objects that are open.
    members: Vec<(Short<30>, Value)>,
    /// For each open bracket, where in its stack its contents start.
    starts: Vec<usize>,
    /// And whether it is an object's, innermost lowest.
    objects: u128,
}

const _: () = assert!(DEPTH_MAX <= u128::BITS as usize);

impl Tree {
    /// Puts a value in its place: into the member that waits for it, or behind the element before. Longer
    /// ones are then filled where they are: moving bytes just written stalls the processor.
    #[inline(always)]
    fn put(&mut self, value: Value) -> &mut Value {
        if self.objects & 1 == 0 {
            self.values.push(value);
            return self.values.last_mut().expect("just pushed");
        }
        let place = &mut self.members.last_mut().expect("its name came first").1;
        // What was there is null, which needs no dropping; the compiler cannot know.
        std::mem::forget(std::mem::replace(place, value));
        place
    }
}

#[inline(always)]
fn fill(place: &mut Short<30>, string: Str<'_>) {
    if string.escaped { *place = string.unescape().into_owned().into() } else { place.set(string) }
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
        if let Value::Number(place) = self.put(Value::Number(Number::UNSET)) {
            place.set(number);
        }
    }

    #[inline(always)]
    fn string(&mut self, string: Str<'t>) {
        if let Value::String(place) = self.put(Value::String(Short::EMPTY)) {
            fill(place, string);
        }
    }

    #[inline(always)]
    fn name(&mut self, name: Str<'t>) {
        self.members.push((Short::EMPTY, Value::Null));
        fill(&mut self.members.last_mut().expect("just pushed").0, name);
    }

    fn begin_array(&mut self) {
        self.starts.push(self.values.len());
        self.objects <<= 1;
    }

    fn end_array(&mut self) {
        self.objects >>= 1;
        let start = self.starts.pop().expect("it was begun");
        let items = self.values.split_off(start);
        self.put(Value::Array(items));
    }

    fn begin_object(&mut self) {
        self.starts.push(self.members.len());
        self.objects = self.objects << 1 | 1;
    }

    fn end_object(&mut self) {
        self.objects >>= 1;
        let start = self.starts.pop().expect("it was begun");
        let members = self.members.split_off(start);
        self.put(Value::Object(Object { members }));
    }
}
