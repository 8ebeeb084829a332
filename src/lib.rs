//! `st`: a JSON-over-TCP table in memory, its command-line client, and a reference on how such things are made.
//!
//! # The map
//!
//! Bytes come in at the left and replies leave at the right. Each room knows only those before it; a test
//! (`tests/it/tidy.rs`) holds it to that.
//!
//! ```text
//!   client ──TCP──▶ server ──bytes──▶ session ──requests──▶ store ──▶ table
//!                  (sockets,         (a pure machine:        (one lock,  (two indexes
//!                   threads,          frames, parses,         watchers)   over text)
//!                   clocks)           answers)  └──calls──▶ actions
//!   client ◀─TCP─── server ◀─bytes─── session ◀─replies─────┘
//! ```
//!
//! In reading order:
//!
//! - [`json`]: one grammar, written once, that drives whatever listens; values, numbers that keep every digit,
//!   validated text.
//! - [`protocol`]: requests, replies, errors; three ways to cut a stream into messages.
//! - [`table`]: keys and values, found by hash and listed in order.
//! - [`store`]: the table behind one lock; conditional writes; watching without gaps. The only state there is.
//! - [`actions`]: what is answered by name: built in, a closure of yours, a program of the operator's.
//! - [`session`]: one connection as a pure machine. Bytes in, bytes out. The heart.
//! - [`server`]: listening, three modes, a pool, deadlines, shutting down, the log.
//! - [`client`]: a connection with timeouts and retries; the commands of `st client`.
//! - [`args`], [`address`], [`token`], [`serve`], [`reformat`]: the words of the command line, and what they start.
//! - `sys`: the system calls that std does not offer, and all the unsafe code there is.
//!
//! # What always holds
//!
//! - The session owns no socket, thread or clock, so what is true of it in a test is true of it in the server.
//! - State changes in the store and nowhere else, under its lock; nothing waits for a socket while holding it.
//! - Whatever grows because of what a client does has a bound: requests, replies, queues, threads, logs.
//! - A reply is written before the next request is read, so a client that does not read stops only itself.
//! - No input makes a panic; should one happen all the same, it ends one connection.
//!
//! # Considered, and left
//!
//! - An event loop: not in std without unsafe code, and it would make every line of the server about readiness. A
//!   thread for each connection costs some 12 KiB and reads top to bottom.
//! - A tree of values in the table: text is smaller, quicker to send, and exact.
//! - Locks for parts of the table: they would let writers run side by side, and lose the one order of changes.
//!
//! # In your own program
//!
//! ```
//! use socket_tables::actions::Call;
//! use socket_tables::client::Client;
//! use socket_tables::json::Value;
//! use socket_tables::server::{Mode, Server};
//!
//! let server = Server::bind("127.0.0.1:0")?
//!     .mode(Mode::Pool { threads: 4 })
//!     .action("SHOUT", |call: &Call<'_>| Ok(Value::from(call.data_str()?.to_uppercase())))?
//!     .on_change("door", |change| assert_eq!(change.value.to_string(), "\"open\""));
//! let (address, stop) = (server.local_addr(), server.shutdown_handle());
//! let serving = std::thread::spawn(move || server.run());
//!
//! let mut client = Client::connect(&address.to_string())?;
//! client.update("door", Value::from("open"))?;
//! assert_eq!(client.call("SHOUT", Value::from("hi"))?.to_string(), "\"HI\"");
//!
//! drop(client);
//! stop.shutdown();
//! serving.join().expect("no panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]
#![deny(missing_docs)]

pub mod actions;
pub mod cli;
pub mod client;
pub mod json;
pub mod protocol;
pub mod server;
pub mod session;
pub mod store;
mod sys;

/// README's Rust, compiled as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
