//! A request as both sides know it: the client writes one, the server reads it, and a test asks
//! that what was written is read back.
//!
//! Reading is one walk over the text: the parser hands over each member, those with names we know
//! are kept as slices of the input, and what is kept is then judged by the request's name. Nothing
//! here knows what a request does.

use std::borrow::Cow;
use std::fmt;

use super::{Code, Failure};
use crate::json::{self, Parser, Text};

/// The most bytes that a key may have.
pub const KEY_BYTES_MAX: usize = 1024;

/// One request. Keys have been checked; values are JSON text without white space outside strings.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    /// The value of a key.
    Get {
        /// The key.
        key: Cow<'a, str>,
    },
    /// Set a key.
    Update {
        /// The key.
        key: Cow<'a, str>,
        /// Its new value.
        value: Text<'a>,
        /// What must hold for the write to happen.
        condition: Option<Condition<'a>>,
    },
    /// Add to an integer; a missing key counts as 0.
    Increment {
        /// The key.
        key: Cow<'a, str>,
        /// What to add.
        by: i128,
    },
    /// Remove a key.
    Delete {
        /// The key.
        key: Cow<'a, str>,
        /// What must hold for the removal to happen.
        condition: Option<Condition<'a>>,
    },
    /// Every key and value under a prefix, sorted by key.
    GetAll {
        /// What the keys begin with; empty for all.
        prefix: Cow<'a, str>,
    },
    /// The keys under a prefix, sorted.
    Keys {
        /// What the keys begin with; empty for all.
        prefix: Cow<'a, str>,
    },
    /// How many keys there are under a prefix.
    Count {
        /// What the keys begin with; empty for all.
        prefix: Cow<'a, str>,
    },
    /// Be told of changes.
    Watch {
        /// Of this one key, or of every key that begins so.
        scope: Scope<'a>,
    },
    /// Show the token.
    Auth {
        /// The secret that the server was started with.
        token: Cow<'a, str>,
    },
    /// End the connection.
    Close,
    /// An action by name: built in (HELLO, TIME, ECHO, INFO, EXEC, HISTORY) or registered.
    Call {
        /// The action's name.
        name: Cow<'a, str>,
        /// Its argument, if any.
        data: Option<Text<'a>>,
    },
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
    Equals(Text<'a>),
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
    /// Reads a request from the text of one JSON object.
    pub fn parse(text: &'a str) -> Result<Request<'a>, Refused<'a>> {
        let mut members = Members::default();
        members.read(text).map_err(|failure| Refused { key: None, failure })?;
        let key = members.key();
        let good_key = key.as_ref().ok().cloned();
        members.request(key).map_err(|failure| Refused { key: good_key, failure })
    }

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

/// The members that some request takes; every other one is passed over.
#[derive(Clone, Copy)]
enum Member {
    Request,
    Key,
    Value,
    If,
    By,
    Prefix,
    Data,
    Token,
}

const MEMBERS: [&str; 8] = ["request", "key", "value", "if", "by", "prefix", "data", "token"];

/// What a request's object held, not yet judged: which member counts, and whether having it twice
/// matters, depends on the request's name, and that may come last.
#[derive(Default)]
struct Members<'a> {
    texts: [Option<Text<'a>>; MEMBERS.len()],
    doubled: [bool; MEMBERS.len()],
}

impl<'a> Members<'a> {
    fn read(&mut self, text: &'a str) -> Result<(), Failure> {
        let mut parser = Parser::new(text);
        parser
            .object(|parser, name| {
                let name = name.unescape();
                let Some(at) = MEMBERS.iter().position(|member| *member == name) else {
                    return parser.skip();
                };
                self.doubled[at] = self.texts[at].is_some();
                self.texts[at] = Some(parser.compact()?);
                Ok(())
            })
            .and_then(|()| parser.end())
            .map_err(|error| Failure::new(Code::BadJson, error.to_string()))
    }

    /// Judges the members by the request's name.
    fn request(&mut self, key: Result<Cow<'a, str>, Failure>) -> Result<Request<'a>, Failure> {
        let name = self.string(Member::Request)?.ok_or_else(|| {
            bad(r#"an object without the member "request"; one is {"request":"GET","key":"door"}"#)
        })?;
        Ok(match &*name {
            "GET" => Request::Get { key: key? },
            "UPDATE" => Request::Update {
                key: key?,
                value: self.take(Member::Value)?.ok_or_else(|| bad(r#"UPDATE needs the member "value""#))?,
                condition: self.condition()?,
            },
            "INCREMENT" => Request::Increment { key: key?, by: self.by()? },
            "DELETE" => Request::Delete { key: key?, condition: self.condition()? },
            "GETALL" => Request::GetAll { prefix: self.prefix()?.unwrap_or_default() },
            "KEYS" => Request::Keys { prefix: self.prefix()?.unwrap_or_default() },
            "COUNT" => Request::Count { prefix: self.prefix()?.unwrap_or_default() },
            "WATCH" => Request::Watch { scope: self.scope(key)? },
            "AUTH" => {
                let token = self.string(Member::Token)?;
                Request::Auth { token: token.ok_or_else(|| bad(r#"AUTH needs the member "token""#))? }
            }
            "CLOSE" => Request::Close,
            _ => Request::Call { data: self.take(Member::Data)?, name },
        })
    }

    fn take(&mut self, member: Member) -> Result<Option<Text<'a>>, Failure> {
        let at = member as usize;
        if self.doubled[at] {
            return Err(bad(format!("the member {:?} stands there twice", MEMBERS[at])));
        }
        Ok(self.texts[at].take())
    }

    fn string(&mut self, member: Member) -> Result<Option<Cow<'a, str>>, Failure> {
        let Some(text) = self.take(member)? else { return Ok(None) };
        match text.into_string() {
            Some(string) => Ok(Some(string)),
            None => Err(bad(format!("the member {:?} must be a string", MEMBERS[member as usize]))),
        }
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Failure> {
        let key = self.string(Member::Key)?.ok_or_else(|| bad(r#"this request needs the member "key""#))?;
        check_key(&key).map_err(|error| bad(error.to_string()))?;
        Ok(key)
    }

    /// A prefix is like a key, but may be empty.
    fn prefix(&mut self) -> Result<Option<Cow<'a, str>>, Failure> {
        let prefix = self.string(Member::Prefix)?;
        match prefix.as_deref().map_or(Ok(()), check_key) {
            Ok(()) | Err(KeyError::Empty) => Ok(prefix),
            Err(error) => Err(bad(format!("in \"prefix\": {error}"))),
        }
    }

    fn by(&mut self) -> Result<i128, Failure> {
        let Some(text) = self.take(Member::By)? else { return Ok(1) };
        text.as_i128().ok_or_else(|| bad(r#"the member "by" must be an integer of at most 38 digits"#))
    }

    fn scope(&mut self, key: Result<Cow<'a, str>, Failure>) -> Result<Scope<'a>, Failure> {
        match (self.prefix()?, key) {
            (None, key) => Ok(Scope::Key(key?)),
            (Some(prefix), Err(_)) => Ok(Scope::Prefix(prefix)),
            (Some(_), Ok(_)) => Err(bad(r#"WATCH takes "key" or "prefix", not both"#)),
        }
    }

    fn condition(&mut self) -> Result<Option<Condition<'a>>, Failure> {
        let Some(text) = self.take(Member::If)? else { return Ok(None) };
        let wrong = || bad(r#"the member "if" must be {"absent":true} or {"equals":VALUE}"#);
        // The text is borrowed from the request, or was compacted; either way this parse is of a
        // small part that the first walk could not judge before it knew the request's name.
        let mut found = None;
        let text = text.into_owned();
        Parser::new(text.as_str())
            .object(|parser, name| {
                let value = parser.compact().map_err(|_| wrong())?;
                if found.is_some() {
                    return Err(wrong());
                }
                found = Some(match &*name.unescape() {
                    "absent" if value.as_str() == "true" => Condition::Absent,
                    "equals" => Condition::Equals(value.into_owned()),
                    _ => return Err(wrong()),
                });
                Ok(())
            })
            .map_err(|_: Failure| wrong())?;
        found.map(Some).ok_or_else(wrong)
    }
}

pub(super) fn bad(message: impl Into<String>) -> Failure {
    Failure::new(Code::BadRequest, message)
}
