//! The wire: requests, replies and failures, and how each looks in the three dialects. Bytes in, bytes out;
//! nothing here opens a socket or knows what a request does.
//!
//! This file says what can be asked. The rest of the room, in the order in which a request meets it:
//!
//! - `framing` cuts the stream of bytes into requests: TCP carries bytes, not messages.
//! - `parse` reads a [`Request`] from JSON or from a line of text.
//! - `reply` writes the answer in the dialect that the connection speaks.
//! - `failure` is what is said instead when something is wrong, and how to say it to people.
//! - `access` is what both ends must have before the first byte is sent: an address, and perhaps a token.
//!
//! Both ends share these types: the client writes a request by [`Request::write_to`], the server reads it by
//! [`Request::parse_json`], and tests compare the two.
//!
//! # To add a request
//!
//! Add a variant to [`Verb`] and one to [`Request`]. Every match over them is exhaustive, so the compiler then
//! names each place that is left: its help text, its members in JSON, its words in a line, the arm in
//! `session/execute.rs` that carries it out, and others that `lib.rs` lists. INFO counts it and hints know it without
//! another line.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::json::JsonText;

/// An enum whose variants each stand for a word on the wire. The list of all variants, each one's word and the way
/// back are made of one list, so that none of the three can lack a variant or have another order.
macro_rules! words {
    ($(#[$about:meta])* $vis:vis enum $enum:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $enum { $($(#[$doc])* $variant,)+ }

        impl $enum {
            /// Each of them, in the order of their numbers (`as usize`).
            $vis const ALL: &[$enum] = &[$($enum::$variant,)+];

            /// The word on the wire.
            $vis fn as_str(self) -> &'static str {
                match self { $($enum::$variant => $word,)+ }
            }

            /// What a word on the wire stands for.
            $vis fn from_word(word: &str) -> Option<$enum> {
                match word {
                    $($word => Some($enum::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

mod access;
mod failure;
mod framing;
mod parse;
mod reply;

pub use access::{ADDRESS_DEFAULT, Address, AddressError};
pub use access::{BadToken, TOKEN_BYTES_MAX, TOKEN_VARIABLE, Token, TokenError};
pub use failure::{Code, Failure};
pub(crate) use failure::{Escape, did_you_mean, excerpt, one_line};
pub use framing::{Frame, Framer};
pub use reply::{Form, HEADER_BYTES, Reply, begin_reply, end_reply};

use reply::{write_member, write_text};

/// The most bytes that a key may have. Keys are repeated in every reply, listing and line of the log; what is longer
/// is a value.
pub const KEY_BYTES_MAX: usize = 1024;

/// The shortest and the longest time for which a key can be set.
pub const TTL_MIN: Duration = Duration::from_millis(1);
/// A year: who means longer means for ever.
pub const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

words! {
    /// The names of the requests that a session answers itself, since they need the table or the connection. Any
    /// other name is an action's.
    #[allow(missing_docs, reason = "the variants of Request say it")]
    pub enum Verb {
        Get = "GET",
        Update = "UPDATE",
        Increment = "INCREMENT",
        Delete = "DELETE",
        Take = "TAKE",
        Ttl = "TTL",
        GetAll = "GETALL",
        Keys = "KEYS",
        Count = "COUNT",
        Watch = "WATCH",
        Auth = "AUTH",
        Close = "CLOSE",
    }
}

/// What people are told about a request: `--help`, INFO and error messages read this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec<'a> {
    /// The name, in capitals.
    pub name: &'a str,
    /// Its arguments as the text dialect takes them; empty for none.
    pub args: &'a str,
    /// What it answers, in a few words.
    pub help: &'a str,
}

impl Verb {
    /// What people are told about it.
    pub fn spec(self) -> Spec<'static> {
        let (args, help) = match self {
            Verb::Get => ("KEY", "the value of a key"),
            Verb::Update => ("KEY VALUE", "set a key"),
            Verb::Increment => ("KEY [BY]", "add to a number"),
            Verb::Delete => ("KEY", "remove a key"),
            Verb::Take => ("KEY", "remove a key, or in JSON the first of a prefix, and get its value"),
            Verb::Ttl => ("KEY", "the seconds until a key is deleted"),
            Verb::GetAll => ("[PREFIX]", "keys and values, sorted by key"),
            Verb::Keys => ("[PREFIX]", "keys, sorted"),
            Verb::Count => ("[PREFIX]", "how many keys there are"),
            Verb::Watch => ("[KEY]", "what is there, of one key or of all, then every change"),
            Verb::Auth => ("TOKEN", "show the token, where the server wants one"),
            Verb::Close => ("", "end the connection"),
        };
        Spec { name: self.as_str(), args, help }
    }
}

/// One request. It borrows from the bytes that it was read from, which the session holds until it is answered; a
/// string is a `Cow`, since one with escapes has to be copied to be read. Keys have been checked; values are JSON text
/// without white space outside strings.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are the members of the wire's requests, by their names there")]
pub enum Request<'a> {
    /// The value of a key.
    Get { key: Cow<'a, str> },
    /// Set a key, if the condition holds.
    Update { key: Cow<'a, str>, value: JsonText<'a>, condition: Option<Condition<'a>>, ttl: Option<Duration> },
    /// Add to an integer, or a string that is one; a missing key counts as 0.
    Increment { key: Cow<'a, str>, by: i128, ttl: Option<Duration> },
    /// Remove a key, if the condition holds.
    Delete { key: Cow<'a, str>, condition: Option<Condition<'a>> },
    /// Remove a key, or the first one of a prefix, and get its value.
    Take { scope: Scope<'a> },
    /// When a key will be deleted.
    Ttl { key: Cow<'a, str> },
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

/// What must hold for a write to happen. With it two clients that read, decide and write cannot undo each other: of
/// two that saw the same value, the second one's write is a `conflict`.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition<'a> {
    /// The key has no value.
    Absent,
    /// The key's value equals this JSON: numbers by value, objects regardless of member order.
    Equals(JsonText<'a>),
}

/// What a WATCH is about. Both ends judge by it: the server which changes to tell, and the client whether it was
/// told what it asked for.
///
/// ```
/// # use socket_tables::protocol::Scope;
/// assert!(Scope::from("door").covers("door") && !Scope::from("door").covers("door/2"));
/// assert!(Scope::Prefix("door".into()).covers("door/2"));
/// ```
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

/// A key is 1 to [`KEY_BYTES_MAX`] bytes of UTF-8 with no control characters, so that it can be printed and logged
/// as it is. The table relies on it, too: a newline ends the key where key and value lie side by side.
pub fn check_key(key: &str) -> Result<(), KeyError> {
    if key.is_empty() {
        return Err(KeyError::Empty);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong(key.len()));
    }
    // Nearly every key is printable ASCII, and bytes are quicker to look at than characters. All of them are looked at,
    // since the compiler makes of that a loop over many at once: an UPDATE takes 4% more instructions with `all` where
    // its key has 16 bytes, and 12% where it has 32.
    if key.bytes().fold(true, |all, b| all & (0x20..0x7f).contains(&b)) {
        return Ok(());
    }
    key.chars().find(|c| c.is_control()).map_or(Ok(()), |c| Err(KeyError::Control(c)))
}

impl Request<'_> {
    /// Its verb, by which it is counted and traced, or else the name of the action that it calls.
    pub fn verb(&self) -> Result<Verb, &str> {
        Ok(match self {
            Request::Get { .. } => Verb::Get,
            Request::Update { .. } => Verb::Update,
            Request::Increment { .. } => Verb::Increment,
            Request::Delete { .. } => Verb::Delete,
            Request::Take { .. } => Verb::Take,
            Request::Ttl { .. } => Verb::Ttl,
            Request::GetAll { .. } => Verb::GetAll,
            Request::Keys { .. } => Verb::Keys,
            Request::Count { .. } => Verb::Count,
            Request::Watch { .. } => Verb::Watch,
            Request::Auth { .. } => Verb::Auth,
            Request::Close => Verb::Close,
            Request::Call { name, .. } => return Err(name),
        })
    }

    /// Its name as it is sent: `GET`, or the action's.
    pub fn name(&self) -> &str {
        match self.verb() {
            Ok(verb) => verb.as_str(),
            Err(name) => name,
        }
    }

    /// The key that the request is about, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Request::Get { key }
            | Request::Update { key, .. }
            | Request::Increment { key, .. }
            | Request::Delete { key, .. }
            | Request::Ttl { key }
            | Request::Take { scope: Scope::Key(key) }
            | Request::Watch { scope: Scope::Key(key) } => Some(key),
            Request::GetAll { .. } | Request::Keys { .. } | Request::Count { .. } => None,
            Request::Take { scope: Scope::Prefix(_) } | Request::Watch { scope: Scope::Prefix(_) } => None,
            Request::Auth { .. } | Request::Close | Request::Call { .. } => None,
        }
    }

    /// Whether it may change the table by itself, without an action.
    pub fn may_write(&self) -> bool {
        match self {
            Request::Update { .. } | Request::Increment { .. } => true,
            Request::Delete { .. } | Request::Take { .. } => true,
            Request::Get { .. } | Request::Ttl { .. } | Request::GetAll { .. } | Request::Keys { .. } => {
                false
            }
            Request::Count { .. } | Request::Watch { .. } | Request::Auth { .. } => false,
            Request::Close | Request::Call { .. } => false,
        }
    }

    /// Appends the request as compact JSON with a newline, as [`Request::parse_json`] reads it. Members that have
    /// their default are left out.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        write_text(out, "{\"request\":", self.name());
        if let Some(key) = self.key() {
            write_text(out, ",\"key\":", key);
        }
        match self {
            Request::Get { .. } | Request::Ttl { .. } | Request::Close => {}
            Request::Watch { scope: Scope::Key(_) } | Request::Take { scope: Scope::Key(_) } => {}
            Request::Call { data: None, .. } => {}
            Request::Update { value, condition, ttl, .. } => {
                write_member(out, ",\"value\":", value.as_str());
                write_condition(out, condition.as_ref());
                write_ttl(out, *ttl);
            }
            Request::Delete { condition, .. } => write_condition(out, condition.as_ref()),
            Request::Increment { by, ttl, .. } => {
                if *by != 1 {
                    write_member(out, ",\"by\":", &by.to_string());
                }
                write_ttl(out, *ttl);
            }
            Request::GetAll { prefix } | Request::Keys { prefix } | Request::Count { prefix } => {
                if !prefix.is_empty() {
                    write_text(out, ",\"prefix\":", prefix);
                }
            }
            Request::Watch { scope: Scope::Prefix(prefix) }
            | Request::Take { scope: Scope::Prefix(prefix) } => {
                write_text(out, ",\"prefix\":", prefix);
            }
            Request::Auth { token } => write_text(out, ",\"token\":", token),
            Request::Call { data: Some(data), .. } => write_member(out, ",\"data\":", data.as_str()),
        }
        out.extend_from_slice(b"}\n");
    }
}

fn write_ttl(out: &mut Vec<u8>, ttl: Option<Duration>) {
    if let Some(ttl) = ttl {
        write_member(out, ",\"ttl\":", &seconds(ttl));
    }
}

/// A time in seconds as JSON, to the millisecond: `10`, `0.5`.
pub fn seconds(time: Duration) -> String {
    (time.as_millis() as f64 / 1000.0).to_string()
}

/// The way back, to the nearest millisecond. `None` where the JSON is no number, or one that is below zero or beyond all
/// times.
pub fn duration(seconds: &JsonText<'_>) -> Option<Duration> {
    // A string has its quotes here, so it is no number.
    let seconds: f64 = seconds.as_str().parse().ok()?;
    Duration::try_from_secs_f64((seconds * 1e3).round() / 1e3).ok()
}

fn write_condition(out: &mut Vec<u8>, condition: Option<&Condition<'_>>) {
    match condition {
        None => {}
        Some(Condition::Absent) => out.extend_from_slice(b",\"if\":{\"absent\":true}"),
        Some(Condition::Equals(value)) => {
            write_member(out, ",\"if\":{\"equals\":", value.as_str());
            out.push(b'}');
        }
    }
}
