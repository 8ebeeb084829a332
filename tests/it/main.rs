//! Every test that needs only the library's public face or the binary, as one crate: it links once.
#![allow(clippy::unwrap_used)]

mod actions;
mod args;
mod cli;
mod client;
mod client_server_python;
mod complete;
mod dialects;
mod fake;
mod follow;
mod isocket;
mod json;
mod json_random;
mod json_tree;
mod leases;
mod library;
mod micro_client_server;
mod modes;
mod programs;
mod readme;
mod recipes;
mod reformat;
mod repl;
mod server;
mod session;
mod socket_tables;
mod support;
mod table;
mod tcp_client_serv;
mod tidy;
mod watch;

// These look into /proc, to see what a server holds and does.
#[cfg(target_os = "linux")]
mod bad_input;
#[cfg(target_os = "linux")]
mod bench;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod history;
#[cfg(target_os = "linux")]
mod hold;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod info;
#[cfg(target_os = "linux")]
mod journal;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod orphans;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod readiness;
#[cfg(target_os = "linux")]
mod stopping;
#[cfg(target_os = "linux")]
mod tokens;
#[cfg(target_os = "linux")]
mod waiting;
