//! A reply, read back from its line.

use super::{ClientError, ReplyProblem};
use crate::address::Address;
use crate::json::{Error, Parser, Text, Value};
use crate::protocol::{Code, Failure};

/// What the server answered, where it did not refuse. Members that a reply lacks are `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// `UPDATE`, `DELETE` or `READY`, in what a watcher is told.
    pub event: Option<String>,
    /// The key that it is about.
    pub key: Option<String>,
    /// The value. For a list, all of the array.
    pub value: Option<Text<'static>>,
    /// False where there is no such key.
    pub missing: bool,
}

/// A reply that refuses.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Why.
    pub failure: Failure,
    /// After `conflict`: the present value, if there is one.
    pub present: Option<Text<'static>>,
}

impl Reply {
    /// Reads a line; the server's refusal is the inner error.
    pub(super) fn parse(line: &str) -> Result<Result<Reply, Refusal>, ReplyProblem> {
        let mut parser = Parser::new(line);
        let mut reply = Reply::default();
        let mut failure = None;
        if parser.peek() == b'[' {
            reply.value = Some(parser.compact()?.into_owned());
        } else {
            parser.object(|parser, name| {
                match &*name.unescape() {
                    "value" => reply.value = Some(parser.compact()?.into_owned()),
                    "key" => reply.key = string(parser)?,
                    "request" => reply.event = string(parser)?,
                    "found" => reply.missing = parser.compact()?.as_str() == "false",
                    "error" => failure = Some(read_failure(parser)?),
                    _ => parser.skip()?,
                }
                Ok::<(), Error>(())
            })?;
        }
        parser.end()?;
        Ok(match failure {
            Some(failure) => Err(Refusal { failure, present: reply.value.filter(|_| !reply.missing) }),
            None => Ok(reply),
        })
    }

    /// The value of a reply that must have one.
    pub(super) fn value(self, address: &Address) -> Result<Text<'static>, ClientError> {
        let bad = || ClientError::BadReply(address.to_string(), ReplyProblem::Lacks("a value"));
        self.value.ok_or_else(bad)
    }

    /// The value of a reply that has none where the key is missing.
    pub(super) fn found(self, address: &Address) -> Result<Option<Value>, ClientError> {
        if self.missing { Ok(None) } else { self.value(address).map(|value| Some(value.to_value())) }
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
        Some(code) => Failure { code, message },
        None => Failure { code: Code::Internal, message: format!("{code}: {message}") },
    })
}
