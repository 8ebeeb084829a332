//! Every test that needs only the library's public face or the binary, as one crate: it links once.
#![allow(clippy::unwrap_used)]

mod actions;
mod args;
mod cli;
mod client;
mod fake;
mod hostile;
mod json;
mod json_random;
mod json_tree;
mod limits;
mod log;
mod process;
mod programs;
mod readme;
mod recipes;
mod server;
mod session;
mod support;
mod table;
mod tidy;
mod tokens;
mod watch;
