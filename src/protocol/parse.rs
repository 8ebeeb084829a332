//! Reading a request, from a JSON object or from a line of text. Whatever does not make sense becomes the
//! [`Failure`] that the client is answered.
//!
//! The members of an object may come in any order, and the request's name, which decides what the others mean, may
//! come last. So the object is walked once: the JSON parser checks all of it and hands over each member, those
//! that some request takes are kept as slices of the input, and they are judged when the walk is over.
//!
//! Strings are borrowed from the input wherever they hold no escapes, and values where they hold no white space, so
//! most requests are read without a copy. What is kept longer (by the table, or a call that waits) is copied there.
//!
//! Nothing is judged that the request does not take. Clients of other systems send members of no use to us
//! (SocketTables' Java client says `"value":"null"` with GET), and they must get their answer.

use std::borrow::Cow;
use std::time::Duration;

use super::failure::bad;
use super::{
    Code, Condition, Failure, KeyError, Request, Scope, TTL_MAX, TTL_MIN, Verb, check_key, duration,
};
use crate::json::{Error, JsonText, Parser, Str, Value};

words! {
    /// The members that some request takes; every other one is passed over.
    enum Member {
        Request = "request",
        Key = "key",
        Value = "value",
        If = "if",
        By = "by",
        Ttl = "ttl",
        Prefix = "prefix",
        Data = "data",
        Token = "token",
    }
}

/// What a request's object held, by [`Member`], not yet judged.
#[derive(Default)]
struct Members<'a> {
    values: [Option<Held<'a>>; Member::ALL.len()],
    /// Those that came more than once. JSON's standard leaves open which of two counts, and a proxy that checks the
    /// first while we obey the second could be fooled. So two are an error, but only of a request that takes them.
    repeated: [bool; Member::ALL.len()],
}

/// A member's value. Most are strings, and what the parser knows of one is kept: where strings are taken for any
/// value and searched for escapes once more, a GET takes 17% more instructions.
enum Held<'a> {
    String(Str<'a>),
    Other(JsonText<'a>),
}

impl<'a> Request<'a> {
    /// Reads a request from the text of one JSON object. Fails with `bad_json` where it is no JSON, and else with
    /// `bad_request` and the key.
    pub fn parse_json(text: &'a str) -> Result<Request<'a>, Failure> {
        let mut members = Members::default();
        let read = members.read(text).and_then(|mut parser| parser.end());
        read.map_err(|error| Failure::new(Code::BadJson, error.to_string()))?;
        members.request()
    }

    /// Whether a text is a JSON object that has no name for what it asks.
    pub fn is_nameless(text: &str) -> bool {
        let mut members = Members::default();
        let read = members.read(text).and_then(|mut parser| parser.end());
        read.is_ok() && !matches!(members.values[Member::Request as usize], Some(Held::String(_)))
    }

    /// Reads the request that a text begins with, and tells where it ends. `None` where the text begins with no JSON
    /// object: perhaps it is not all there.
    pub fn parse_first(text: &'a str) -> Option<(Result<Request<'a>, Failure>, usize)> {
        let mut members = Members::default();
        let end = members.read(text).ok()?.offset();
        Some((members.request(), end))
    }

    /// Reads a request from a line: a name in any case, and its arguments separated by spaces. People type these, so
    /// spaces around arguments do not matter, but for those of UPDATE's value: they are data.
    ///
    /// A line can say less than JSON can: its keys have no spaces, its values are strings, its writes have no
    /// conditions. Who needs more speaks JSON; escapes and quotes would make lines another language to learn.
    pub fn parse_line(line: &'a str) -> Result<Request<'a>, Failure> {
        let (name, rest) = match line.split_once(' ') {
            Some((name, rest)) => (name, Some(rest)),
            None => (line.trim_end(), None),
        };
        let words = rest.unwrap_or_default().trim_matches(' ');
        // Capitals, as most write them, need no copy.
        let verb = Verb::from_word(name).or_else(|| Verb::from_word(&name.to_ascii_uppercase()));
        let Some(verb) = verb else {
            let name = name.to_ascii_uppercase();
            let data = match &*name {
                "" => return Err(bad("an empty line is no request; one is GET door")),
                // micro-client-server's clients end by this word.
                "&END" => return Ok(Request::Close),
                "EXEC" => Some(array(words)),
                _ => rest.map(JsonText::string),
            };
            return Ok(Request::Call { name: name.into(), data });
        };
        Ok(match verb {
            Verb::Get => Request::Get { key: word(words)? },
            Verb::Update => {
                // All that follows the space behind the key is the value, further spaces included.
                let (key, value) = first_word(rest.unwrap_or_default())?;
                let value = value.ok_or_else(|| bad("UPDATE needs a key and a value").about(&key))?;
                Request::Update { key, value: JsonText::string(value), condition: None, ttl: None }
            }
            Verb::Increment => {
                // The number may have more than one space before it, unlike UPDATE's value.
                let (key, by) = first_word(words)?;
                let by = by.map_or(Ok(1), |by| by.trim_start().parse());
                let by = by.map_err(|_| bad("what INCREMENT adds must be an integer").about(&key))?;
                Request::Increment { key, by, ttl: None }
            }
            Verb::Delete => Request::Delete { key: word(words)?, condition: None },
            Verb::Take => Request::Take { scope: Scope::Key(word(words)?) },
            Verb::Ttl => Request::Ttl { key: word(words)? },
            Verb::GetAll => Request::GetAll { prefix: word_or_nothing(words)? },
            Verb::Keys => Request::Keys { prefix: word_or_nothing(words)? },
            Verb::Count => Request::Count { prefix: word_or_nothing(words)? },
            // To a person at `nc`, WATCH alone means all there is.
            Verb::Watch if words.is_empty() => Request::Watch { scope: Scope::Prefix("".into()) },
            Verb::Watch => Request::Watch { scope: Scope::Key(word(words)?) },
            Verb::Auth => Request::Auth { token: words.into() },
            Verb::Close => Request::Close,
        })
    }
}

impl<'a> Members<'a> {
    /// Takes the members of the object that the text begins with. Gives the parser, which stands behind it.
    fn read(&mut self, text: &'a str) -> Result<Parser<'a>, Error> {
        let mut parser = Parser::new(text);
        parser.object(|parser, name| {
            let Some(member) = Member::from_word(&name.unescape()) else { return parser.skip() };
            // A value will stand one level deeper in GETALL's reply, and in an "if", than it does here. What is
            // stored must fit there, or a client could not parse the listing.
            let value = match parser.string()? {
                Some(string) => Held::String(string),
                None => Held::Other(parser.compact_with_room(usize::from(member == Member::Value))?),
            };
            self.repeated[member as usize] = self.values[member as usize].replace(value).is_some();
            Ok(())
        })?;
        Ok(parser)
    }

    /// What the members ask for. A client that sent many requests learns from the key which of them failed.
    fn request(&mut self) -> Result<Request<'a>, Failure> {
        self.judge().map_err(|failure| {
            let key = self.string(Member::Key).ok().flatten().filter(|key| check_key(key).is_ok());
            Failure { key: key.map(Cow::into_owned), ..failure }
        })
    }

    /// Judges the members by the request's name. The key is judged before the value, and the value before the
    /// condition, so that of several things wrong the client is told the first.
    fn judge(&mut self) -> Result<Request<'a>, Failure> {
        let name = self.string(Member::Request)?.ok_or_else(|| {
            bad(r#"an object without the member "request"; one is {"request":"GET","key":"door"}"#)
        })?;
        let Some(verb) = Verb::from_word(&name) else {
            // Whether there is such an action is not known here: this room knows the wire alone.
            return Ok(Request::Call { data: self.take(Member::Data)?, name });
        };
        Ok(match verb {
            Verb::Get => Request::Get { key: self.key()? },
            Verb::Update => {
                let key = self.key()?;
                let value = self.take(Member::Value)?;
                let value = value.ok_or_else(|| bad(r#"UPDATE needs the member "value""#))?;
                Request::Update { key, value, condition: self.condition()?, ttl: self.ttl()? }
            }
            Verb::Increment => Request::Increment { key: self.key()?, by: self.by()?, ttl: self.ttl()? },
            Verb::Delete => Request::Delete { key: self.key()?, condition: self.condition()? },
            Verb::Take => Request::Take { scope: self.scope()? },
            Verb::Ttl => Request::Ttl { key: self.key()? },
            Verb::GetAll => Request::GetAll { prefix: self.prefix()?.unwrap_or_default() },
            Verb::Keys => Request::Keys { prefix: self.prefix()?.unwrap_or_default() },
            Verb::Count => Request::Count { prefix: self.prefix()?.unwrap_or_default() },
            Verb::Watch => Request::Watch { scope: self.scope()? },
            Verb::Auth => {
                let token = self.string(Member::Token)?;
                Request::Auth { token: token.ok_or_else(|| bad(r#"AUTH needs the member "token""#))? }
            }
            Verb::Close => Request::Close,
        })
    }

    /// A member's value. It is taken out, since it may be long and a request takes it once.
    fn take(&mut self, member: Member) -> Result<Option<JsonText<'a>>, Failure> {
        let Some(value) = self.values[member as usize].take() else { return Ok(None) };
        self.refuse_repeated(member)?;
        Ok(Some(match value {
            Held::String(string) => string.quoted(),
            Held::Other(text) => text,
        }))
    }

    /// A member that must be a string. It stays, since the key is asked for again where the request is a bad one.
    fn string(&self, member: Member) -> Result<Option<Cow<'a, str>>, Failure> {
        self.refuse_repeated(member)?;
        match &self.values[member as usize] {
            None => Ok(None),
            Some(Held::String(string)) => Ok(Some(string.unescape())),
            Some(Held::Other(_)) => Err(bad(format!("the member {:?} must be a string", member.as_str()))),
        }
    }

    fn refuse_repeated(&self, member: Member) -> Result<(), Failure> {
        if !self.repeated[member as usize] {
            return Ok(());
        }
        Err(bad(format!("the member {:?} stands there twice", member.as_str())))
    }

    /// The key that the request needs. Whoever carries the request out may rely on it being a good one.
    fn key(&self) -> Result<Cow<'a, str>, Failure> {
        let key = self.string(Member::Key)?.ok_or_else(|| bad(r#"this request needs the member "key""#))?;
        check_key(&key).map_err(|error| bad(error.to_string()))?;
        Ok(key)
    }

    /// A prefix is like a key, but may be empty.
    fn prefix(&self) -> Result<Option<Cow<'a, str>>, Failure> {
        let prefix = self.string(Member::Prefix)?;
        match prefix.as_deref().map_or(Ok(()), check_key) {
            Ok(()) | Err(KeyError::Empty) => Ok(prefix),
            Err(error @ (KeyError::TooLong(_) | KeyError::Control(_))) => {
                Err(bad(format!("in \"prefix\": {error}")))
            }
        }
    }

    /// What INCREMENT adds. 128 bits hold any sum of 64-bit counters; `1e2` and `5.0` are integers by their value.
    fn by(&mut self) -> Result<i128, Failure> {
        let Some(text) = self.take(Member::By)? else { return Ok(1) };
        text.as_i128().ok_or_else(|| bad(r#"the member "by" must be an integer of 128 bits"#))
    }

    /// For how long a key is set, to the millisecond.
    fn ttl(&mut self) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.take(Member::Ttl)? else { return Ok(None) };
        let ttl = duration(&text).filter(|ttl| (TTL_MIN..=TTL_MAX).contains(ttl));
        ttl.map(Some)
            .ok_or_else(|| bad(r#"the member "ttl" must be a number of seconds from 0.001 to 31536000"#))
    }

    /// What WATCH or TAKE is about. An empty prefix is every key; no member at all is an error, since a client that forgot
    /// the key would otherwise be told of everything.
    fn scope(&self) -> Result<Scope<'a>, Failure> {
        match (self.prefix()?, &self.values[Member::Key as usize]) {
            (None, Some(_)) => Ok(Scope::Key(self.key()?)),
            (None, None) => Err(bad(r#"this request needs the member "key" or "prefix""#)),
            (Some(prefix), None) => Ok(Scope::Prefix(prefix)),
            // Even where the key is a bad one: nobody can say which of the two was meant.
            (Some(_), Some(_)) => Err(bad(r#"this request takes "key" or "prefix", not both"#)),
        }
    }

    /// The condition of a write: one of the two forms, and nothing beside it. A form that a later version may add
    /// must not be taken for "no condition" by this one.
    fn condition(&mut self) -> Result<Option<Condition<'a>>, Failure> {
        let Some(text) = self.take(Member::If)? else { return Ok(None) };
        let wrong = || bad(r#"the member "if" must be {"absent":true} or {"equals":VALUE}"#);
        let mut condition = None;
        // A second walk, over this small part alone: before the request's name is known, nobody can say whether
        // an "if" that makes no sense matters.
        Parser::new(text.as_str())
            .object(|parser, name| {
                let value = parser.compact()?;
                condition = Some(match &*name.unescape() {
                    "absent" if value.as_str() == "true" && condition.is_none() => Condition::Absent,
                    "equals" if condition.is_none() => Condition::Equals(value.into_owned()),
                    _ => return Err(wrong()),
                });
                Ok(())
            })
            .map_err(|_: Failure| wrong())?;
        condition.map(Some).ok_or_else(wrong)
    }
}

/// A key or prefix in a line, which must be all that is left of it.
fn word(words: &str) -> Result<Cow<'_, str>, Failure> {
    if words.contains(' ') {
        return Err(bad("here a key is one word; in JSON it may hold spaces"));
    }
    check_key(words).map_err(|error| bad(error.to_string()))?;
    Ok(words.into())
}

/// A prefix in a line, which is nothing where every key is meant.
fn word_or_nothing(words: &str) -> Result<Cow<'_, str>, Failure> {
    if words.is_empty() { Ok("".into()) } else { word(words) }
}

/// The key that a line's arguments begin with, and what follows the space behind it.
fn first_word(words: &str) -> Result<(Cow<'_, str>, Option<&str>), Failure> {
    let (key, rest) = words.split_once(' ').map_or((words, None), |(key, rest)| (key, Some(rest)));
    Ok((word(key)?, rest))
}

/// The words as a JSON array of strings, as EXEC takes them.
fn array(words: &str) -> JsonText<'static> {
    let words = words.split(' ').filter(|word| !word.is_empty());
    JsonText::from(Value::Array(words.collect()))
}
