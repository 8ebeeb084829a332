//! Every test that needs only the library's public face or the binary, as one crate: it links once.
#![allow(clippy::unwrap_used)]

mod actions;
mod args;
mod bad_input;
mod cli;
mod client;
mod client_server_python;
mod dialects;
mod fake;
mod faults;
mod hostile;
mod info;
mod isocket;
mod json;
mod json_random;
mod json_tree;
mod limits;
mod log;
mod micro_client_server;
mod process;
mod programs;
mod readme;
mod recipes;
mod server;
mod session;
mod socket_tables;
mod support;
mod table;
mod tcp_client_serv;
mod tidy;
mod tokens;
mod watch;
