//! JSON, as RFC 8259 defines it: nothing more is accepted, nothing less.
//!
//! ```
//! use socket_tables::json::{JsonText, Value};
//!
//! let value = Value::parse(r#"{"pi": 3.14159265358979323846, "list": [1, 2]}"#)?;
//! assert_eq!(value.to_string(), r#"{"pi":3.14159265358979323846,"list":[1,2]}"#);
//! assert_eq!(value.get("list"), Some(&Value::from(vec![Value::from(1), Value::from(2)])));
//! assert!(JsonText::parse("1.0")?.same_value(&JsonText::parse("10e-1")?));
//! assert_eq!(Value::parse("[1,]").unwrap_err().offset, 3);
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
//! This file's [`Error`] says why a text is not JSON. `parser` is the grammar and its sinks, `text` the strings with
//! their escapes and all writing, `value` the tree, `number` the numbers. Whoever wants to know how JSON works may
//! stop there. `fast` is how it is made fast: the others call it for "where is the next quote?" and the like, and
//! each such question could be a loop over bytes.
//!
//! Deliberately absent: input in pieces (whoever reads a socket finds the end of a message first), types of
//! one's own (no `derive`), extensions (comments, trailing commas), and anything that touches a file.

use std::fmt;
use std::ops::Deref;

mod fast;
mod number;
mod parser;
mod text;
mod value;

pub(crate) use fast::newline;
pub use fast::{Scan, Scanner, Short};
pub use number::Number;
pub use parser::{DEPTH_MAX, Parser, Sink};
pub(crate) use text::Writer;
pub use text::{JsonText, Str, write_str};
pub use value::{Array, Object, Value};

// One row for each kind of error gives both its name here and its words in a message, so no kind lacks words.
macro_rules! kinds {
    ($($kind:ident: $expected:literal,)*) => {
        /// What was wrong, by what should have stood there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $(#[doc = concat!("Expected ", $expected, ".")] $kind,)* }

        impl Kind {
            /// What should have stood there.
            pub fn expected(self) -> &'static str {
                match self { $(Kind::$kind => $expected,)* }
            }
        }
    };
}

kinds! {
    Value: "a value",
    Object: "an object",
    Array: "an array",
    Name: "a name in double quotes",
    Colon: "':'",
    CommaOrBrace: "',' or '}'",
    CommaOrBracket: "',' or ']'",
    End: "the end",
    Gap: "white space between values",
    Digit: "a digit",
    Quote: "'\"' to end the string",
    Control: "no control character inside a string",
    Escape: r#"one of \" \\ \/ \b \f \n \r \t \u"#,
    Hex: r"\u and four hex digits",
    Surrogate: "a surrogate pair, not half of one",
    Depth: "at most 128 levels of nesting",
    Utf8: "UTF-8",
}

/// Why a text is not JSON. It reads as its [`Facts`]: `error.line`.
///
/// The facts are boxed, so that a `Result<(), Error>` is one word and stays in a register where all is well.
/// Nearly every rule of the grammar returns one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Facts>);

/// What an [`Error`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What was wrong.
    pub kind: Kind,
    /// Where, in bytes from the start of the text.
    pub offset: usize,
    /// The line, from 1.
    pub line: usize,
    /// The character in its line, from 1.
    pub column: usize,
    /// What stands there; `None` at the end of the text.
    pub found: Option<char>,
    /// What was probably meant, and what to write for it.
    pub hint: Option<&'static str>,
}

impl Error {
    /// Lines and columns are counted here, from the start of the text, and nowhere else: a parser that kept count as it
    /// went would make every good text pay for the bad ones.
    pub(super) fn new(kind: Kind, text: &str, offset: usize) -> Error {
        let (before, rest) = text.split_at(offset);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Error(Box::new(Facts {
            kind,
            offset,
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            found: rest.chars().next(),
            hint: hint(kind, before, rest),
        }))
    }

    /// The bytes as text, if that is what they are. Everything else in this room takes a `str`, so this is the one
    /// place where bytes that are not UTF-8 are met.
    pub(crate) fn unless_utf8(bytes: &[u8]) -> Result<&str, Error> {
        std::str::from_utf8(bytes).map_err(|error| {
            let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to there");
            Error::new(Kind::Utf8, valid, valid.len())
        })
    }
}

impl Deref for Error {
    type Target = Facts;
    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { kind, offset, line, column, found, hint } = &**self;
        write!(f, "byte {offset} (line {line}, column {column}): expected {}", kind.expected())?;
        match found {
            _ if *kind == Kind::Utf8 => {}
            Some(found) => write!(f, ", found {found:?}")?,
            None => f.write_str(", found the end")?,
        }
        hint.map_or(Ok(()), |hint| write!(f, ": {hint}"))
    }
}

impl std::error::Error for Error {}

/// The usual slips: other languages' quotes, comments, commas and names. A hint says what to write instead, and is
/// given only where the text makes the slip likely; a wrong hint is worse than none.
fn hint(kind: Kind, before: &str, rest: &str) -> Option<&'static str> {
    let starts = |words: &[&str]| words.iter().any(|word| rest.starts_with(word));
    let next = rest.chars().next()?;
    Some(match kind {
        Kind::Utf8 | Kind::Depth => return None,
        Kind::Control if next == '\n' => "write a line break inside a string as \\n",
        Kind::Control if next == '\t' => "write a tab inside a string as \\t",
        Kind::Control => "write it as \\u and four hex digits",
        Kind::Escape => "write a backslash itself as \\\\",
        Kind::Surrogate => "write the character itself, or both halves, as in \\ud83d\\ude00",
        _ if starts(&["'"]) => "JSON strings take double quotes",
        _ if starts(&["\u{201c}", "\u{201d}", "\u{2018}", "\u{2019}"]) => "JSON takes straight double quotes",
        _ if starts(&["//", "/*", "#"]) => "JSON has no comments",
        _ if next == '\u{feff}' => "take the byte order mark away",
        _ if next != '\n' && next.is_whitespace() => "JSON's white space is space, tab, \\n and \\r",
        Kind::Value | Kind::Name if matches!(next, ']' | '}') && before.trim_end().ends_with(',') => {
            "take the trailing comma away"
        }
        Kind::Value if starts(&["None", "NULL", "Null", "nil", "undefined"]) => "write null",
        Kind::Value if starts(&["True", "TRUE"]) => "write true",
        Kind::Value if starts(&["False", "FALSE"]) => "write false",
        Kind::Value | Kind::Digit if starts(&["NaN", "nan", "Inf", "inf", "+Inf"]) => {
            "JSON has no NaN or Infinity: write null, or a string"
        }
        Kind::Value if next == '+' => "a number takes no plus sign",
        Kind::Value if next == '.' => "write a digit before the point",
        Kind::Digit if before.ends_with('.') => "write a digit after the point",
        Kind::Name if next.is_alphanumeric() || next == '_' || next == '$' => "put the name in double quotes",
        Kind::Value if next.is_alphabetic() => "a string goes in double quotes",
        _ if next.is_ascii_digit() && before.ends_with('0') => "a number takes no leading zeros",
        Kind::CommaOrBrace | Kind::CommaOrBracket if matches!(next, '"' | '{' | '[') => "is a comma missing?",
        Kind::End => "there must be one value only",
        _ => return None,
    })
}
