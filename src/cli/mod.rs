//! The command line: words to a command, a command to an exit code.

mod args;
mod bulk;
mod client;
mod commands;
mod follow;
mod help;
mod json;
mod message;
mod options;
mod program;
mod repl;
mod serve;
mod server;
mod values;

pub use args::{Command, JsonArgs, Problem, Topic, UsageError, parse};
pub use client::{ClientArgs, ClientCommand};
pub use commands::{Io, run};
pub use help::text as help;
pub use json::{Layout, ReformatError, reformat};
pub use serve::{ServeError, run as serve};
pub use server::ServerArgs;
