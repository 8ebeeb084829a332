//! JSON, as RFC 8259 defines it: nothing more is accepted, nothing less.
//!
//! ```
//! use socket_tables::json::{JsonText, Value};
//!
//! let value = Value::parse(r#"{"pi": 3.14159265358979323846, "list": [1, 2]}"#)?;
//! assert_eq!(value.to_string(), r#"{"pi":3.14159265358979323846,"list":[1,2]}"#);
//! assert_eq!(value.get("list"), Some(&Value::from(vec![Value::from(1), Value::from(2)])));
//! assert!(JsonText::parse("1.0")?.same_value(&JsonText::parse("10e-1")?));
//! assert_eq!(Value::parse("[1,]").unwrap_err().offset(), 3);
//! # Ok::<(), socket_tables::json::Error>(())
//! ```
//!
//! # How a text is parsed
//! The grammar is recursive: a value may be an array, and an array holds values. **Recursive descent**
//! makes each rule a function that looks at one byte, knows from it which rule applies, and calls that
//! rule's function. One byte always decides in JSON, so nothing is ever tried and taken back, and parsing takes
//! time in proportion to the text. What such functions keep on the call stack is only where to go on when
//! the inner value ends: behind an element or behind a member. That is one bit a level, so [`Parser`] keeps its
//! stack in a number and loops: nesting costs it no memory.
//!
//! # Why there is a limit to nesting
//! A tree is still walked by recursion, to clone, compare, print and drop it, and a frame for each of 100,000
//! brackets, which is one small message, overflows the stack and ends the process. Hence [`DEPTH_MAX`],
//! which holds for trees that a program puts together as well.
//!
//! # One grammar, many readers
//! The parser builds nothing. It tells a [`Sink`] what it meets, and the compiler makes one of its own for
//! each sink: for `()`, which listens to nothing, it only checks. Building a [`Value`], taking white space out
//! of a [`JsonText`] and passing over a member are sinks, so they cannot disagree on what is JSON.
//!
//! # Why text is kept
//! Whoever reads numbers into floats changes them: 2^53 + 1, 0.1 and 1e400 do not fit. A [`Number`] is its
//! digits; a [`JsonText`] is all of a value, checked and kept as it was sent.
//!
//! # Reading order
//! `parser`, `string` (escapes, surrogate pairs), `scan` (eight bytes at a time), `error`; `value`, `tree`,
//! `short`, `number`; `text`; `write`.
//!
//! Deliberately absent: input in pieces (whoever reads a socket finds the end of a message first), types of
//! one's own (no `derive`), extensions (comments, trailing commas), and anything that touches a file.

mod error;
mod number;
mod parser;
mod scan;
mod short;
mod string;
mod text;
mod tree;
mod value;
mod write;

pub use error::{Error, Kind};
pub use number::Number;
pub use parser::{DEPTH_MAX, Parser, Sink};
pub use short::Short;
pub use string::Str;
pub use text::JsonText;
pub use value::{Array, Object, Value};
pub(crate) use write::Writer;
pub use write::write_str;
