//! `st`: a JSON-over-TCP table in memory, its command-line client, and a reference on how such things are made.
//!
//! # The map
//!
//! Eight rooms. Bytes come in at the left and replies leave there; each room knows only those that stand before it in the
//! list, and a test (`tests/it/tidy.rs`) holds it to that.
//!
//! ```text
//!   client ──TCP──▶ server ───bytes───▶ session ──requests──▶ store
//!                   sockets, readiness, a pure machine:        the table, its
//!                   threads, clocks     frames, parses,        indexes, its locks,
//!                                       answers                watchers
//!   client ◀──TCP── server ◀──bytes──── session ◀──replies──── store
//!                                          └─────calls───────▶ actions
//! ```
//!
//! In reading order:
//!
//! 1. [`json`]: one grammar, written once, that drives whatever listens: values, numbers that keep every digit, validated
//!    text. What is there for speed alone stands in one file.
//! 2. [`protocol`]: requests, replies and errors; three ways to cut a stream into messages; addresses and the token.
//! 3. [`store`]: keys and values, found by hash and listed in order, behind one lock; conditional writes; leases, which are
//!    keys that end by themselves; watching without gaps; the journal, which is a write-ahead log. The only state there is.
//! 4. [`actions`]: what is answered by name: built in, a closure of yours, a program of the operator's.
//! 5. [`session`]: one connection as a pure machine, bytes in and bytes out. The heart; a whole server of fifteen lines
//!    stands at its head, and is the place to begin.
//! 6. [`server`]: listening, the modes (one thread for one client, for each, for all), deadlines, ending, the log.
//! 7. [`client`]: a connection with timeouts and retries, for programs.
//! 8. [`cli`]: words to a command, a command to an exit code: every `st …` there is.
//!
//! Beside them stands `sys`, the system calls that std lacks and all the unsafe code there is, and `main`, which hands the
//! process's words, environment and standard streams to `cli`.
//!
//! # One request, from its first byte to its last
//!
//! A GET passes nine files: `server/event_loop` is told that its bytes have come, `server/connection` reads them,
//! `session/mod` takes them, `protocol/framing` finds where the request ends and `protocol/parse` what it says,
//! `session/execute` carries it out, `store/mod` locks the table, `store/table` finds the key, and `protocol/reply` writes
//! the answer where `server/connection` sends it from. Three of them ask the room `json` for what is JSON about it.
//!
//! # What always holds
//!
//! - The session owns no socket, thread or clock, so what is true of it in a test is true of it in the server.
//! - State changes in the store and nowhere else, under its lock; nothing waits for a socket while holding it.
//! - Whatever grows because of what a client does has a bound: requests, replies, queues, threads, logs; keys and values
//!   where `--max-memory` says so.
//! - Nothing is read or carried out while output waits to be sent, so a client that does not read stops only itself.
//! - A connection is one thread's at a time: it is handed over whole, so no lock guards it.
//! - With a journal, no byte of output leaves before every change that it could have seen is as durable as promised.
//! - No input makes a panic. Should one happen all the same, it ends the connection or the action in which it
//!   happened, and is logged; the server goes on.
//!
//! # To add something, touch these
//!
//! Each was done once, on a branch that was thrown away. Where several places are named, the compiler names them, but for
//! the words by which users and clients ask for something new. README has five more to try, as exercises.
//!
//! - **A request** (APPEND, 35 lines): a row of `Verb` and a variant of `Request` in `protocol/mod`; then the compiler asks
//!   for its help, members and text form (`protocol/mod`, `protocol/parse`), its carrying out (`session/execute`) and what a
//!   client may take for its reply (`client/answer`). What it does to the table is a method of `store/mod`. It is counted,
//!   traced and listed in INFO and `--help` from then on. What no compiler asks for: a method in `client/requests`, a row
//!   in `cli/grammar` with what it does in `cli/commands`, and README's row, which a test asks for.
//! - **A dialect** (RESP, as Redis speaks it, 46 lines): a variant of `Form` in `protocol/reply`; the compiler asks for its
//!   first byte and its end (`protocol/framing`), its replies (`protocol/reply`), and who reads it (`protocol/parse`,
//!   `session/execute`). The client, the server and the store never hear of it.
//! - **A mode** (a thread for each client, 21 lines): a variant of `Mode` and a method beside `run_iterative` in
//!   `server/mod`, which calls `pool::serve` for each connection, and its word in `cli/server`.
//! - **An action** (REVERSE, 6 lines): a function and a row in `actions/builtin`; without touching the source,
//!   `Server::action` in your own program, or `--action NAME=PROGRAM`.
//!
//! # Considered, and left
//!
//! - A tree of values in the table: text is smaller, quicker to send, and exact.
//! - Locks for parts of the table: they would let writers run side by side, and lose the one order of changes.
//!
//! # In your own program
//!
//! ```
//! use socket_tables::{Client, Mode, Server};
//!
//! let server = Server::bind("127.0.0.1:0")?
//!     .mode(Mode::Pool { threads: 4 })
//!     .action("SHOUT", |call| Ok(call.data_str()?.to_uppercase()))?
//!     .on_change("door", |change| assert_eq!(change.value().as_str(), Some("open")))
//!     .start()?;
//!
//! let mut client = Client::connect(server.address())?;
//! client.update("door", "open")?;
//! assert_eq!(client.call("SHOUT", "hi")?.as_str(), Some("HI"));
//!
//! server.shutdown();
//! server.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(unix), allow(dead_code, unused_imports, unused_macros))]

// What needs sockets that are waited for, processes and signals is made of Unix's. Elsewhere there are JSON and the
// protocol, and a binary that says so.
#[cfg(unix)]
pub mod actions;
#[cfg(unix)]
pub mod cli;
#[cfg(unix)]
pub mod client;
pub mod json;
pub mod protocol;
#[cfg(unix)]
pub mod server;
#[cfg(unix)]
pub mod session;
#[cfg(unix)]
pub mod store;
#[cfg(unix)]
mod sys;

// What most programs need, so that they can name it without knowing the rooms.
#[cfg(unix)]
pub use actions::{Action, Call, Outcome};
#[cfg(unix)]
pub use client::{Client, ClientOptions, Event};
pub use json::Value;
pub use protocol::{Failure, Scope, Token};
#[cfg(unix)]
pub use server::{Mode, Options, Running, Server};

/// README's Rust, compiled as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
