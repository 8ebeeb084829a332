//! The text dialect: the same requests, a line each, for people and `nc`.

use std::borrow::Cow;

use super::members::bad;
use super::{Code, Failure, Refused, Request, Scope, check_key};
use crate::json::JsonText;

impl<'a> Request<'a> {
    /// Reads a request from a line: a name in any case, and its arguments separated by spaces.
    pub fn parse_line(line: &'a str) -> Result<Request<'a>, Refused<'a>> {
        let (name, rest) = match line.split_once(' ') {
            Some((name, rest)) => (name, Some(rest)),
            None => (line.trim_end(), None),
        };
        let words = Words(rest.map_or("", |rest| rest.trim_matches(' ')));
        let name = name.to_ascii_uppercase();
        let request = match name.as_str() {
            "" => Err(bad("an empty line is no request; one is GET door")),
            "GET" => words.key().map(|key| Request::Get { key }),
            "UPDATE" => return update(rest.unwrap_or_default()),
            "INCREMENT" => return increment(words),
            "DELETE" => words.key().map(|key| Request::Delete { key, condition: None }),
            "GETALL" => words.prefix().map(|prefix| Request::GetAll { prefix }),
            "KEYS" => words.prefix().map(|prefix| Request::Keys { prefix }),
            "COUNT" => words.prefix().map(|prefix| Request::Count { prefix }),
            "WATCH" if words.0.is_empty() => Ok(Request::Watch { scope: Scope::Prefix("".into()) }),
            "WATCH" => words.key().map(|key| Request::Watch { scope: Scope::Key(key) }),
            "AUTH" => Ok(Request::Auth { token: words.0.into() }),
            "CLOSE" | "&END" => Ok(Request::Close),
            "EXEC" => Ok(Request::Call { data: Some(words.array()), name: name.into() }),
            _ => Ok(Request::Call { data: rest.map(JsonText::string), name: name.into() }),
        };
        request.map_err(|failure| Refused { key: None, failure })
    }
}

/// `UPDATE KEY VALUE`: all that follows the space behind the key is the value, a string.
fn update(rest: &str) -> Result<Request<'_>, Refused<'_>> {
    let (key, value) = match rest.split_once(' ') {
        Some((key, value)) => (key, Some(value)),
        None => (rest, None),
    };
    let key = Words(key).key().map_err(|failure| Refused { key: None, failure })?;
    match value {
        Some(value) => Ok(Request::Update { key, value: JsonText::string(value), condition: None }),
        None => Err(Refused { key: Some(key), failure: bad("UPDATE needs a key and a value") }),
    }
}

fn increment(words: Words<'_>) -> Result<Request<'_>, Refused<'_>> {
    let (key, by) = match words.0.split_once(' ') {
        Some((key, by)) => (key, by.trim_start()),
        None => (words.0, "1"),
    };
    let key = Words(key).key().map_err(|failure| Refused { key: None, failure })?;
    match by.parse() {
        Ok(by) => Ok(Request::Increment { key, by }),
        Err(_) => Err(Refused { key: Some(key), failure: bad("what INCREMENT adds must be an integer") }),
    }
}

/// What stands behind the name, without the spaces around it.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn key(&self) -> Result<Cow<'a, str>, Failure> {
        if self.0.contains(' ') {
            return Err(bad("here a key is one word; in JSON it may hold spaces"));
        }
        check_key(self.0).map_err(|error| bad(error.to_string()))?;
        Ok(self.0.into())
    }

    fn prefix(&self) -> Result<Cow<'a, str>, Failure> {
        if self.0.is_empty() { Ok("".into()) } else { self.key() }
    }

    fn array(&self) -> JsonText<'static> {
        let words = self.0.split(' ').filter(|word| !word.is_empty());
        JsonText::from(crate::json::Value::Array(words.collect()))
    }
}

/// A failure to understand bytes as UTF-8, which ends a connection in any dialect.
pub fn not_utf8(error: std::str::Utf8Error) -> Failure {
    let at = error.valid_up_to();
    Failure::new(Code::BadJson, format!("the bytes are not UTF-8 from byte {at} of the request on"))
}
