//! A request as both sides know it: the client writes one, the server reads it ([`Request::parse`],
//! [`Request::parse_line`]), and a test asks that what was written is read back. Nothing here knows what a
//! request does.

use std::borrow::Cow;
use std::fmt;

use super::Failure;
use crate::json::{self, JsonText};

/// The most bytes that a key may have.
pub const KEY_BYTES_MAX: usize = 1024;

/// One request. Keys have been checked; values are JSON text without white space outside strings.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are the members of the wire's requests, by their names there")]
pub enum Request<'a> {
    /// The value of a key.
    Get { key: Cow<'a, str> },
    /// Set a key, if the condition holds.
    Update { key: Cow<'a, str>, value: JsonText<'a>, condition: Option<Condition<'a>> },
    /// Add to an integer, or a string that is one; a missing key counts as 0.
    Increment { key: Cow<'a, str>, by: i128 },
    /// Remove a key, if the condition holds.
    Delete { key: Cow<'a, str>, condition: Option<Condition<'a>> },
    /// Every key and value under a prefix, sorted by key.
    GetAll { prefix: Cow<'a, str> },
    /// The keys under a prefix, sorted.
    Keys { prefix: Cow<'a, str> },
    /// How many keys there are under a prefix.
    Count { prefix: Cow<'a, str> },
    /// Be told of changes.
    Watch { scope: Scope<'a> },
    /// Show the secret that the server was started with.
    Auth { token: Cow<'a, str> },
    /// End the connection.
    Close,
    /// An action by name: built in (HELLO, TIME, ECHO, INFO, EXEC, HISTORY) or registered.
    Call { name: Cow<'a, str>, data: Option<JsonText<'a>> },
}

/// What a WATCH is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// One key.
    Key(Cow<'a, str>),
    /// Every key that begins so; empty for all.
    Prefix(Cow<'a, str>),
}

impl Scope<'_> {
    /// Whether it is about this key.
    pub fn covers(&self, key: &str) -> bool {
        match self {
            Scope::Key(one) => one == key,
            Scope::Prefix(prefix) => key.starts_with(&**prefix),
        }
    }

    /// The same, borrowed from nobody.
    pub fn into_owned(self) -> Scope<'static> {
        match self {
            Scope::Key(key) => Scope::Key(key.into_owned().into()),
            Scope::Prefix(prefix) => Scope::Prefix(prefix.into_owned().into()),
        }
    }
}

/// One key.
impl<'a> From<&'a str> for Scope<'a> {
    fn from(key: &'a str) -> Scope<'a> {
        Scope::Key(key.into())
    }
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition<'a> {
    /// The key has no value.
    Absent,
    /// The key's value equals this JSON: numbers by value, objects regardless of member order.
    Equals(JsonText<'a>),
}

/// A text that is no request: why, and the key it named if that was a good one.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused<'a> {
    /// The key, where the request had a good one.
    pub key: Option<Cow<'a, str>>,
    /// Why.
    pub failure: Failure,
}

/// Why a string cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It has no bytes.
    Empty,
    /// It has this many bytes, more than [`KEY_BYTES_MAX`].
    TooLong(usize),
    /// It holds this control character.
    Control(char),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Empty => write!(f, "a key may not be empty"),
            KeyError::TooLong(n) => write!(f, "a key may have {KEY_BYTES_MAX} bytes, this one has {n}"),
            KeyError::Control(c) => write!(f, "a key may not hold control characters, this one holds {c:?}"),
        }
    }
}

impl std::error::Error for KeyError {}

/// A key is 1 to [`KEY_BYTES_MAX`] bytes of UTF-8 with no control characters.
pub fn check_key(key: &str) -> Result<(), KeyError> {
    if key.is_empty() {
        return Err(KeyError::Empty);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong(key.len()));
    }
    // Nearly every key is printable ASCII, and bytes are quicker to look at than characters.
    if key.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Ok(());
    }
    key.chars().find(|c| c.is_control()).map_or(Ok(()), |c| Err(KeyError::Control(c)))
}

impl<'a> Request<'a> {
    /// The request's name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Request::Get { .. } => "GET",
            Request::Update { .. } => "UPDATE",
            Request::Increment { .. } => "INCREMENT",
            Request::Delete { .. } => "DELETE",
            Request::GetAll { .. } => "GETALL",
            Request::Keys { .. } => "KEYS",
            Request::Count { .. } => "COUNT",
            Request::Watch { .. } => "WATCH",
            Request::Auth { .. } => "AUTH",
            Request::Close => "CLOSE",
            Request::Call { name, .. } => name,
        }
    }

    /// The key that the request is about, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Request::Get { key }
            | Request::Update { key, .. }
            | Request::Increment { key, .. }
            | Request::Delete { key, .. }
            | Request::Watch { scope: Scope::Key(key) } => Some(key),
            _ => None,
        }
    }

    /// Appends the request as compact JSON with a newline, as [`Request::parse`] reads it.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let string = |out: &mut Vec<u8>, name: &str, value: &str| {
            out.extend_from_slice(name.as_bytes());
            json::write_str(out, value);
        };
        string(out, "{\"request\":", self.name());
        if let Some(key) = self.key() {
            string(out, ",\"key\":", key);
        }
        match self {
            Request::Update { value, condition, .. } => {
                out.extend_from_slice(b",\"value\":");
                out.extend_from_slice(value.as_str().as_bytes());
                write_condition(out, condition.as_ref());
            }
            Request::Delete { condition, .. } => write_condition(out, condition.as_ref()),
            Request::Increment { by, .. } if *by != 1 => {
                out.extend_from_slice(format!(",\"by\":{by}").as_bytes());
            }
            Request::GetAll { prefix } | Request::Keys { prefix } | Request::Count { prefix }
                if !prefix.is_empty() =>
            {
                string(out, ",\"prefix\":", prefix);
            }
            Request::Watch { scope: Scope::Prefix(prefix) } => string(out, ",\"prefix\":", prefix),
            Request::Auth { token } => string(out, ",\"token\":", token),
            Request::Call { data: Some(data), .. } => {
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(data.as_str().as_bytes());
            }
            _ => {}
        }
        out.extend_from_slice(b"}\n");
    }
}

fn write_condition(out: &mut Vec<u8>, condition: Option<&Condition<'_>>) {
    match condition {
        None => {}
        Some(Condition::Absent) => out.extend_from_slice(b",\"if\":{\"absent\":true}"),
        Some(Condition::Equals(value)) => {
            out.extend_from_slice(b",\"if\":{\"equals\":");
            out.extend_from_slice(value.as_str().as_bytes());
            out.push(b'}');
        }
    }
}
