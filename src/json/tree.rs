//! The sink that builds a tree.
//!
//! What is finished waits on a stack until the bracket around it closes; then it moves, all at once, into a
//! `Vec` of just its number. So a tree takes one allocation for each array and object that is not empty, and
//! none is larger than it must be.

use super::{DEPTH_MAX, Error, Number, Parser, Short, Sink, Str, Value, value::Array, value::Object};

/// The tree of a text that holds one value.
pub(super) fn build(text: &str) -> Result<Value, Error> {
    let (mut parser, mut tree) = (Parser::new(text), Tree::default());
    parser.value(&mut tree)?;
    parser.end()?;
    Ok(tree.values.pop().expect("the parser has told of one value"))
}

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
        self.put(Value::Array(Array(items)));
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
