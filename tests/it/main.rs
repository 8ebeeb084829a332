//! Every test that needs only the library's public face or the binary, as one crate: it links once.
#![allow(clippy::unwrap_used)]

mod actions;
mod json;
mod json_random;
mod json_tree;
mod programs;
mod server;
mod session;
mod tidy;
