//! Every test that needs only the library's public face or the binary, as one crate: it links once.

mod actions;
mod json;
mod programs;
mod server;
mod session;
mod tidy;
mod watch;
