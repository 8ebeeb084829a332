//! The wire: requests, replies and errors, and how each looks in the three dialects. Bytes in,
//! bytes out; nothing here opens a socket or knows what a request does.

mod address;
mod error;
mod framing;
mod hint;
mod line;
mod members;
mod reply;
mod request;
mod token;

pub use crate::json::{Scan, Scanner};
pub use address::{Address, AddressError, DEFAULT as ADDRESS_DEFAULT};
pub(crate) use error::excerpt;
pub use error::{Code, Failure};
pub use framing::{Frame, Framer};
pub(crate) use hint::did_you_mean;
pub use line::not_utf8;
pub use reply::{Form, HEADER_BYTES, Reply, begin, end};
pub use request::{Condition, KEY_BYTES_MAX, KeyError, Refused, Request, Scope, check_key};
pub use token::{BadToken, TOKEN_BYTES_MAX, TOKEN_VARIABLE, Token, TokenError};
