//! Requests, replies and errors, and how they look on the wire.

mod error;
mod request;

pub use error::{Code, Failure};
pub use request::{Condition, Request, Scope};
