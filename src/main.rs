//! The `st` binary: it hands the process's arguments, environment and standard streams to the
//! command line's room, and exits with the code that comes back.
//!
//! It is the only place that reaches for them. They are globals: whatever reads them elsewhere
//! cannot be tested without starting a process, and can be surprised by whoever else reads or
//! writes them.
#![forbid(unsafe_code)]

use std::env;
use std::io;
use std::process::ExitCode;

use socket_tables::cli::{self, Io};

fn main() -> ExitCode {
    let io = Io { stdin: io::stdin(), stdout: io::stdout(), stderr: io::stderr(), log: io::stderr() };
    let exit = cli::run(env::args_os(), &|variable| env::var_os(variable), io);
    ExitCode::from(exit.code())
}
