//! What can keep a client from its answer.

use std::fmt;
use std::io::{self, ErrorKind};

use crate::json;
use crate::protocol::AddressError;
use crate::protocol::{Code, Failure, KeyError};

/// What kept a client from its answer. The text of each but the first begins with the server's address.
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
#[allow(missing_docs, reason = "the texts below say it")]
pub enum ReplyProblem {
    NotUtf8,
    NotJson(json::Error),
    TooLong(usize),
    Lacks(&'static str),
    Unrelated,
    BadKey(KeyError),
}

impl From<json::Error> for ReplyProblem {
    fn from(error: json::Error) -> ReplyProblem {
        ReplyProblem::NotJson(error)
    }
}

impl fmt::Display for ReplyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyProblem::NotUtf8 => write!(f, "not UTF-8"),
            ReplyProblem::NotJson(error) => write!(f, "{error}"),
            ReplyProblem::TooLong(limit) => write!(f, "longer than {limit} bytes"),
            ReplyProblem::Lacks(what) => write!(f, "it lacks {what}"),
            ReplyProblem::Unrelated => write!(f, "it answers something else"),
            ReplyProblem::BadKey(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Address(error) => write!(f, "{error}"),
            ClientError::Connect(address, error) => write!(f, "{address}: cannot connect: {error}"),
            ClientError::Timeout(address) => write!(f, "{address}: no reply in time"),
            ClientError::Lost(address, error) if error.kind() == ErrorKind::UnexpectedEof => {
                write!(f, "{address}: the server closed before it had replied")
            }
            ClientError::Lost(address, error) => {
                write!(f, "{address}: connection lost: {error}")
            }
            ClientError::WatchLost(address, error) if error.kind() == ErrorKind::UnexpectedEof => {
                write!(f, "{address}: the watch was lost: the server closed the connection")
            }
            ClientError::WatchLost(address, error) => write!(f, "{address}: the watch was lost: {error}"),
            ClientError::BadReply(address, problem) => {
                write!(f, "{address}: not the reply of an st server: {problem}")
            }
            ClientError::Refused(address, failure) => write!(f, "{address}: {failure}"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Address(error) => Some(error),
            ClientError::Connect(_, error)
            | ClientError::Lost(_, error)
            | ClientError::WatchLost(_, error) => Some(error),
            ClientError::BadReply(_, ReplyProblem::NotJson(error)) => Some(error),
            ClientError::BadReply(_, ReplyProblem::BadKey(error)) => Some(error),
            _ => None,
        }
    }
}

impl ClientError {
    /// The server's refusal, if that is what this is.
    pub fn refusal(&self) -> Option<&Failure> {
        match self {
            ClientError::Refused(_, failure) => Some(failure),
            _ => None,
        }
    }

    /// Whether no request got as far as being looked at.
    pub(crate) fn came_to_nothing(&self) -> bool {
        matches!(self, ClientError::Connect(..) | ClientError::Address(_)) || self.code() == Some(Code::Busy)
    }

    /// The refusal's code.
    pub(crate) fn code(&self) -> Option<Code> {
        self.refusal().map(|failure| failure.code)
    }
}
