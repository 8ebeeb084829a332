//! A reply, read back from its line.

use super::ReplyProblem;
use crate::json::{Error, JsonText, Parser};
use crate::protocol::{Code, Failure, Request};

/// What the server answered, where it did not refuse.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// `UPDATE`, `DELETE` or `READY`, in what a watcher is told.
    pub event: Option<String>,
    /// The key that it is about.
    pub key: Option<String>,
    /// The value; null where there is none. For a list, all of the array.
    pub value: JsonText<'static>,
    /// There is no such key.
    pub missing: bool,
    /// It is a bare array, as only GETALL is answered by.
    pub(crate) is_list: bool,
}

impl Answer {
    /// Reads a line; the server's refusal is the inner error.
    pub(crate) fn parse(line: &str) -> Result<Result<Answer, Failure>, ReplyProblem> {
        let mut parser = Parser::new(line);
        let (mut event, mut key, mut value, mut missing, mut failure) = (None, None, None, false, None);
        let is_list = parser.peek() == b'[';
        if is_list {
            value = Some(parser.compact()?.into_owned());
        } else {
            parser.object(|parser, name| {
                match &*name.unescape() {
                    "value" => value = Some(parser.compact()?.into_owned()),
                    "key" => key = string(parser)?,
                    "request" => event = string(parser)?,
                    "found" => missing = parser.compact()?.as_str() == "false",
                    "error" => failure = Some(read_failure(parser)?),
                    _ => parser.skip()?,
                }
                Ok::<(), Error>(())
            })?;
        }
        parser.end()?;
        if let Some(failure) = failure {
            let present = value.map(|value| Some(value).filter(|_| !missing));
            return Ok(Err(Failure { key, present, ..failure }));
        }
        let value = value.or((event.as_deref() == Some("READY")).then_some(JsonText::NULL));
        let value = value.ok_or(ReplyProblem::Lacks("a value"))?;
        Ok(Ok(Answer { event, key, value, missing, is_list }))
    }

    /// Whether it has what a reply to this request has. Who believes any other tells a script "yes" for
    /// what never happened.
    pub(crate) fn answers(&self, request: &Request<'_>) -> bool {
        let fits = match request {
            Request::Get { .. } | Request::Delete { .. } => true,
            Request::Increment { .. } | Request::Count { .. } => self.value.as_i128().is_some(),
            _ => !self.missing,
        };
        let about = request.key().is_none_or(|key| self.key.as_deref() == Some(key));
        fits && about && self.event.is_none() && self.is_list == matches!(request, Request::GetAll { .. })
    }

    /// The value, unless the key is missing.
    pub fn found(self) -> Option<JsonText<'static>> {
        (!self.missing).then_some(self.value)
    }
}

fn string(parser: &mut Parser<'_>) -> Result<Option<String>, Error> {
    Ok(parser.compact()?.as_string().map(|string| string.into_owned()))
}

/// The message is kept as it was; a code that a later server may have is told with it.
fn read_failure(parser: &mut Parser<'_>) -> Result<Failure, Error> {
    let (mut code, mut message) = (String::new(), String::new());
    parser.object(|parser, name| {
        match &*name.unescape() {
            "code" => code = string(parser)?.unwrap_or_default(),
            "message" => message = string(parser)?.unwrap_or_default(),
            _ => parser.skip()?,
        }
        Ok::<(), Error>(())
    })?;
    Ok(match Code::from_word(&code) {
        Some(code) => Failure::new(code, message),
        None => Failure::new(Code::Unknown, format!("{code}: {message}")),
    })
}
