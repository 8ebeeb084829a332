//! The `st` binary: it hands the process's arguments, environment and standard streams to the
//! command line's room, and exits with the code that comes back.
//!
//! It is the only place that reaches for them. They are globals: whatever reads them elsewhere
//! cannot be tested without starting a process, and can be surprised by whoever else reads or
//! writes them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[cfg(unix)]
fn main() -> ExitCode {
    use socket_tables::cli::{self, Io};
    use std::{env, io};

    let io = Io { stdin: io::stdin(), stdout: io::stdout(), stderr: io::stderr(), log: io::stderr() };
    let exit = cli::run(env::args_os(), &|variable| env::var_os(variable), io);
    ExitCode::from(exit.code())
}

/// The rooms that serve and ask are left out where there is no Unix.
#[cfg(not(unix))]
fn main() -> ExitCode {
    use std::io::{Write, stderr};
    let _ = writeln!(stderr(), "st needs Linux, macOS or another Unix; on Windows it runs in WSL");
    ExitCode::from(6)
}
