//! What comes back from a server: an [`Answer`], or a [`ClientError`] that says why there is none.
//!
//! The wire has one line of JSON for each reply, and three things have that shape: the reply to a request, an
//! event of a watch, and an element of a list. All three are read by [`Answer::parse`], so a member of the wire
//! is understood in one place. Members that this client does not know are passed over, because a later
//! server may send more than this one does.
//!
//! Nothing here touches a connection. The errors name the server's address all the same, since a message such as
//! "connection refused" does not tell which of two servers refused.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::result;
use std::time::Duration;

use crate::json::{self, JsonText, Parser, Value};
use crate::protocol::{AddressError, Code, Failure, KeyError, Request, duration};

/// What a method of the client gives, as `io::Result` is what a method of a file gives.
pub type Result<T, E = ClientError> = result::Result<T, E>;

/// What the server answered, where it did not refuse.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// `UPDATE`, `DELETE` or `READY`, in an event of a watch.
    pub event: Option<String>,
    /// The key that it is about.
    pub key: Option<String>,
    /// The value; null where there is none. For a list, all of the array.
    pub value: JsonText<'static>,
    /// There is no such key.
    pub missing: bool,
    /// How long the key has still to live, in a listing; `None` where that is for ever.
    pub ttl: Option<Duration>,
    /// It is a bare array. Only GETALL is answered by one.
    is_list: bool,
}

/// What kept a client from its answer. The text of each but the first begins with the server's address.
///
/// The variants are apart where a caller must act differently. After `Connect` nothing was sent, so anything may
/// be tried again. After `Timeout` and `Lost` nobody knows whether the request was carried out. After `Refused`
/// it was not; but an action that failed (`action_failed`) may have done a part.
#[derive(Debug)]
pub enum ClientError {
    /// The address is none, or leads nowhere.
    Address(AddressError),
    /// No connection; nothing was sent. What the system said of the last try.
    Connect(String, io::Error),
    /// No reply in time: the request may have been carried out.
    Timeout(String),
    /// The connection ended before the reply did: the request may have been carried out. Where the
    /// server just closed, the system's error is `UnexpectedEof`.
    Lost(String, io::Error),
    /// A watch that had told the present state was lost; what changes from now on is not told. Where the
    /// server just closed, the system's error is `UnexpectedEof`.
    WatchLost(String, io::Error),
    /// What came is no reply of ours: is this an `st` server at all?
    BadReply(String, ReplyProblem),
    /// The server's error reply, as it was.
    Refused(String, Failure),
}

/// What is wrong with a reply.
#[derive(Debug)]
pub enum ReplyProblem {
    /// It is not JSON.
    NotJson(json::Error),
    /// It is longer than this many bytes.
    TooLong(usize),
    /// It names a key that no server of ours can hold.
    BadKey(KeyError),
    /// It is not what the request asks for; the words say why.
    Mismatch(&'static str),
}

impl Answer {
    /// Reads one line, or one element of a list. The outer error says that it is no reply at all.
    pub(super) fn parse(line: &str) -> Result<Result<Answer, Failure>, ReplyProblem> {
        let mut parser = Parser::new(line);
        let (mut event, mut key, mut value, mut missing) = (None, None, None, false);
        let (mut ttl, mut failure) = (None, None);
        let is_list = parser.peek() == b'[';
        if is_list {
            value = Some(parser.compact()?.into_owned());
        } else {
            parser.object::<json::Error>(|parser, name| {
                match &*name.unescape() {
                    "value" => value = Some(parser.compact()?.into_owned()),
                    "key" => key = string(parser)?,
                    "request" => event = string(parser)?,
                    "found" => missing = parser.compact()?.as_str() == "false",
                    "ttl" => ttl = duration(&parser.compact()?),
                    "error" => failure = Some(parser.compact()?.to_value()),
                    _ => parser.skip()?,
                }
                Ok(())
            })?;
        }
        parser.end()?;
        if let Some(failure) = failure {
            let failure = read_failure(&failure)
                .ok_or(ReplyProblem::Mismatch("its error lacks a code or a message"))?;
            let present = value.map(|value| Some(value).filter(|_| !missing));
            return Ok(Err(Failure { key, present, ..failure }));
        }
        // READY is about no key, so it is the one line without a value.
        let value = value.or((event.as_deref() == Some("READY")).then_some(JsonText::NULL));
        let value = value.ok_or(ReplyProblem::Mismatch("it lacks a value"))?;
        Ok(Ok(Answer { event, key, value, missing, ttl, is_list }))
    }

    /// Whether it has what a reply to this request has. A client that believed any other would tell a script
    /// "yes" for what never happened.
    pub(super) fn answers(&self, request: &Request<'_>) -> bool {
        let fits = match request {
            Request::Get { .. } | Request::Delete { .. } | Request::Ttl { .. } => true,
            Request::Take { scope } => self.missing || self.key.as_ref().is_some_and(|key| scope.covers(key)),
            Request::Increment { .. } | Request::Count { .. } => self.value.as_i128().is_some(),
            Request::Update { .. } | Request::GetAll { .. } | Request::Keys { .. } => !self.missing,
            Request::Auth { .. } | Request::Close | Request::Call { .. } => !self.missing,
            // It is answered by events, for as long as it lasts.
            Request::Watch { .. } => false,
        };
        let about = request.key().is_none_or(|key| self.key.as_deref() == Some(key));
        fits && about && self.event.is_none() && self.is_list == matches!(request, Request::GetAll { .. })
    }

    /// The value, unless the key is missing.
    ///
    /// ```
    /// # let server = socket_tables::Server::bind("0")?.start()?;
    /// # let mut client = socket_tables::Client::connect(server.address())?;
    /// use socket_tables::protocol::Request;
    ///
    /// assert_eq!(client.ask(&Request::Get { key: "door".into() })?.found(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn found(self) -> Option<JsonText<'static>> {
        (!self.missing).then_some(self.value)
    }
}

/// The next value, if it is a string.
fn string(parser: &mut Parser<'_>) -> Result<Option<String>, json::Error> {
    Ok(parser.compact()?.as_string().map(|string| string.into_owned()))
}

/// The message is kept as it was. A code that only a later server has becomes part of the message.
fn read_failure(error: &Value) -> Option<Failure> {
    let (code, message) = (error.get("code")?.as_str()?, error.get("message")?.as_str()?);
    Some(match Code::from_word(code) {
        Some(code) => Failure::new(code, message),
        None => Failure::new(Code::Unknown, format!("{code}: {message}")),
    })
}

impl ClientError {
    /// The server's refusal, if that is what this is.
    ///
    /// ```
    /// # let server = socket_tables::Server::bind("0")?.start()?;
    /// # let mut client = socket_tables::Client::connect(server.address())?;
    /// let error = client.call("FROBNICATE", ()).unwrap_err();
    /// assert!(error.refusal().is_some_and(|failure| failure.message.contains("FROBNICATE")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refusal(&self) -> Option<&Failure> {
        match self {
            ClientError::Refused(_, failure) => Some(failure),
            _ => None,
        }
    }

    /// The refusal's code.
    pub(super) fn code(&self) -> Option<Code> {
        self.refusal().map(|failure| failure.code)
    }

    /// Whether the request was not carried out, not even in part, so that sending it again cannot do so twice.
    /// `busy` counts: a server says it in place of carrying out a request.
    ///
    /// ```
    /// let error = socket_tables::Client::connect("no address").unwrap_err();
    /// assert!(error.came_to_nothing());
    /// ```
    pub fn came_to_nothing(&self) -> bool {
        matches!(self, ClientError::Connect(..) | ClientError::Address(_)) || self.code() == Some(Code::Busy)
    }
}

impl From<json::Error> for ReplyProblem {
    fn from(error: json::Error) -> ReplyProblem {
        ReplyProblem::NotJson(error)
    }
}

impl fmt::Display for ReplyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyProblem::NotJson(error) => write!(f, "{error}"),
            ReplyProblem::TooLong(limit) => write!(f, "longer than {limit} bytes"),
            ReplyProblem::BadKey(error) => write!(f, "{error}"),
            ReplyProblem::Mismatch(why) => f.write_str(why),
        }
    }
}

// It has no source: its own text says all of the error that it holds.
impl Error for ReplyProblem {}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // "unexpected end of file" would be std's words for it; a person wants to hear who closed.
        let closed = |error: &io::Error| error.kind() == ErrorKind::UnexpectedEof;
        match self {
            Self::Address(error) => write!(f, "{error}"),
            Self::Connect(at, error) => write!(f, "{at}: cannot connect: {error}"),
            Self::Timeout(at) => write!(f, "{at}: no reply in time"),
            Self::Lost(at, e) if closed(e) => write!(f, "{at}: the server closed before it had replied"),
            Self::Lost(at, error) => write!(f, "{at}: connection lost: {error}"),
            Self::WatchLost(at, error) if closed(error) => {
                write!(f, "{at}: the watch was lost: the server closed the connection")
            }
            Self::WatchLost(at, error) => write!(f, "{at}: the watch was lost: {error}"),
            Self::BadReply(at, problem) => write!(f, "{at}: not the reply of an st server: {problem}"),
            Self::Refused(at, failure) => write!(f, "{at}: {failure}"),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Address(error) => Some(error),
            Self::Connect(_, error) | Self::Lost(_, error) | Self::WatchLost(_, error) => Some(error),
            Self::BadReply(_, problem) => Some(problem),
            Self::Timeout(_) | Self::Refused(..) => None,
        }
    }
}
