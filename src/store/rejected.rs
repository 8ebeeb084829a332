//! Why a write is not done.

use std::fmt;
use std::io::ErrorKind;

use crate::json::JsonText;
use crate::protocol::KeyError;

/// Why a write was not done. Nothing was changed.
#[derive(Debug, PartialEq)]
pub enum Rejected {
    /// The condition did not hold; the present value, if there is one.
    Conflict(Option<JsonText<'static>>),
    /// The present value, of which this is the beginning, is no integer, or the sum has no place in 128 bits.
    NotANumber(String),
    /// Keys and values would hold more than they may.
    Full,
    /// The journal cannot be made longer, for this reason.
    NoRoom(ErrorKind),
    /// This is no key. Requests were checked when they were read; an action's code was not.
    BadKey(KeyError),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::Conflict(_) => f.write_str("the condition \"if\" does not hold; nothing was changed"),
            Rejected::NotANumber(value) => {
                write!(f, "the value {value}, or the sum, is not an integer of 128 bits")
            }
            Rejected::Full => {
                f.write_str("keys and values hold as much memory as --max-memory allows; delete some")
            }
            Rejected::NoRoom(kind) => write!(f, "the journal cannot grow: {kind}; nothing was changed"),
            Rejected::BadKey(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Rejected {}
