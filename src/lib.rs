//! `st`: a JSON-over-TCP in-memory table.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod actions;
pub mod address;
pub mod args;
pub mod client;
pub mod json;
mod near;
pub mod protocol;
pub mod reformat;
pub mod serve;
pub mod server;
pub mod session;
pub mod store;
pub mod table;
pub mod token;
