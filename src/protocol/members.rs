//! Reading a request from JSON: one walk over the text, in which the parser hands over each member.
//! Those with names we know are kept, as slices of the input, and judged when the request's name is
//! known, which may stand last.

use std::borrow::Cow;

use super::request::KeyError;
use super::{Code, Condition, Failure, Refused, Request, Scope, check_key};
use crate::json::{JsonText, Parser};

impl<'a> Request<'a> {
    /// Reads a request from the text of one JSON object.
    pub fn parse_json(text: &'a str) -> Result<Request<'a>, Refused<'a>> {
        let mut members = Members::default();
        members.read(text).map_err(|failure| Refused { key: None, failure })?;
        let key = members.key();
        let good_key = key.as_ref().ok().cloned();
        members.request(key).map_err(|failure| Refused { key: good_key, failure })
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

fn member(name: &str) -> Option<Member> {
    Some(match name {
        "request" => Member::Request,
        "key" => Member::Key,
        "value" => Member::Value,
        "if" => Member::If,
        "by" => Member::By,
        "prefix" => Member::Prefix,
        "data" => Member::Data,
        "token" => Member::Token,
        _ => return None,
    })
}

/// What a request's object held, not yet judged: which member counts, and whether having it twice
/// matters, depends on the request's name, and that may come last.
#[derive(Default)]
struct Members<'a> {
    texts: [Option<JsonText<'a>>; MEMBERS.len()],
    doubled: [bool; MEMBERS.len()],
    has_key: bool,
}

impl<'a> Members<'a> {
    fn read(&mut self, text: &'a str) -> Result<(), Failure> {
        let mut parser = Parser::new(text);
        parser
            .object(|parser, name| {
                let Some(member) = member(&name.unescape()) else { return parser.skip() };
                let at = member as usize;
                self.doubled[at] = self.texts[at].is_some();
                self.texts[at] = Some(match member {
                    // In GETALL's reply, and in an "if", it stands one level deeper than here.
                    Member::Value => parser.compact_with_room(1)?,
                    _ => parser.compact()?,
                });
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

    fn take(&mut self, member: Member) -> Result<Option<JsonText<'a>>, Failure> {
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
        self.has_key = self.texts[Member::Key as usize].is_some();
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
        text.as_i128().ok_or_else(|| bad(r#"the member "by" must be an integer of 128 bits"#))
    }

    fn scope(&mut self, key: Result<Cow<'a, str>, Failure>) -> Result<Scope<'a>, Failure> {
        match self.prefix()? {
            None => Ok(Scope::Key(key?)),
            Some(prefix) if !self.has_key => Ok(Scope::Prefix(prefix)),
            Some(_) => Err(bad(r#"WATCH takes "key" or "prefix", not both"#)),
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
