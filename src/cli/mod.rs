//! The command line: words to a command, a command to an exit code. Everything that `st` can be
//! asked to do on a command line is found from here.
//!
//! ```text
//!   argv ──parse──▶ Command ─┬─▶ client   ask a server: commands, or repl for many of them
//!          (words)           ├─▶ server   serve
//!                            ├─▶ json     check or reformat
//!                            └─▶ help
//!                                  └───▶ Ok, or Trouble: a line on stderr ──▶ Exit
//! ```
//!
//! It is a part of the library, and not of `main.rs`, so that tests can read command lines without
//! starting a process. For the same reason nothing in this room reaches for the process's
//! arguments, environment or standard streams: `main` hands them in. What a program that uses the
//! library would want, too, belongs in the room `client`.

mod bulk;
mod client;
mod commands;
mod follow;
mod help;
mod json;
mod message;
mod program;
mod repl;
mod server;
mod words;

use std::ffi::OsString;
use std::io::{Stderr, Stdin, Stdout, Write};
use std::path::Path;

pub use client::{ClientArgs, ClientCommand};
use commands::Run;
pub use help::help;
pub use json::{JsonArgs, Layout, ReformatError, reformat};
pub use message::{Exit, Problem, Topic, UsageError};
use message::{Messages, Trouble};
pub use server::ServerArgs;
pub use words::Env;
use words::WordReader;

use crate::protocol::did_you_mean;

/// What the program was asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// To print the help text about this.
    Help(Topic),
    /// To print its version.
    Version,
    /// To serve a table.
    Server(ServerArgs),
    /// To ask a server.
    Client(ClientArgs),
    /// To check or reformat JSON.
    Json(JsonArgs),
}

/// The standard streams. They are std's own handles and not any reader or writer, since some
/// commands must know more than bytes: whether a terminal is there, or whether the reader of a pipe
/// is gone.
pub struct Io {
    /// Values, commands, JSON: whatever the command reads.
    pub stdin: Stdin,
    /// Data alone.
    pub stdout: Stdout,
    /// Whatever is said about it.
    pub stderr: Stderr,
    /// Stderr once more: a server's log keeps it for a thread of its own.
    pub log: Stderr,
}

/// Does what the words say: those of `args`, of which the first is the name that the program was
/// called by.
pub fn run(mut args: impl Iterator<Item = OsString>, env: Env<'_>, io: Io) -> Exit {
    // Without its path: messages and help should show what can be typed.
    let name = args.next().unwrap_or_default();
    let name = Path::new(&name).file_name().map_or("st".into(), |name| name.to_string_lossy().into_owned());
    let command = parse(&name, args, env);
    let Io { stdin, mut stdout, stderr, log } = io;
    let mut messages = Messages { program: name, quiet: false, out: stderr, progress: false };
    let mut print = |text: &str| stdout.write_all(text.as_bytes()).map_err(Trouble::output);
    let done = match command {
        Ok(Command::Help(topic)) => print(&help(&messages.program, topic)),
        Ok(Command::Version) => print(concat!("st ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Server(args)) => server::serve(&messages.program, &args, env, stdout, log),
        Ok(Command::Client(args)) => {
            Run::new(&args, env, stdin, stdout, &mut messages).and_then(|mut run| match args.command {
                Some(_) => run.command(&args),
                None => repl::converse(&mut run, &args),
            })
        }
        Ok(Command::Json(args)) => json::run_json(&args, stdin, stdout),
        Err(UsageError { program, topic, problem, quiet }) => {
            messages.quiet = quiet;
            Err(Trouble::usage(&program, topic, problem))
        }
    };
    // The one place where a failure turns into what the caller sees of it.
    done.map_or_else(|trouble| messages.report(&trouble), |()| Exit::Yes)
}

/// Understands the words after the program's name. `program` is that name, for the messages.
pub fn parse(
    program: &str,
    words: impl IntoIterator<Item = OsString>,
    env: Env<'_>,
) -> Result<Command, UsageError> {
    // The reader is kept: it knows how far it came, which decides what an error points to.
    let mut words = WordReader::new(program, words, env);
    dispatch(&mut words).or_else(|problem| {
        let topic = words.topic;
        // The server's -q is about its log.
        let quiet = matches!(topic, Topic::Client | Topic::ClientCommand(_)) && words.given("quiet");
        match problem {
            Problem::Help => Ok(Command::Help(topic)),
            problem => Err(UsageError { program: program.into(), topic, problem, quiet }),
        }
    })
}

/// Finds out which of the parts is asked for, and leaves the rest of the words to it. `help` may
/// stand before everything else, since `help` is the first thing that many people type.
fn dispatch(words: &mut WordReader<'_>) -> Result<Command, Problem> {
    words.skip_help();
    let Some(word) = words.next() else { return words.end().and(Err(Problem::NoCommand)) };
    match &*word.to_string_lossy() {
        "server" => server::parse(words).map(Command::Server),
        "client" => client::parse(words, ClientArgs::new()).map(Command::Client),
        "json" => json::parse(words).map(Command::Json),
        "-h" | "--help" => Err(Problem::Help),
        "-V" | "--version" | "version" => words.end().map(|()| Command::Version),
        word if word.starts_with('-') => {
            let near = did_you_mean(word.trim_start_matches('-'), ["help", "version"]);
            Err(Problem::Unknown("option", word.into(), near.map(|near| format!("--{near}"))))
        }
        word => {
            // The client's commands are typed most often, and so is `client` left out most often.
            let before = format!("{} client ", words.program);
            let meant = client::meant(word, &before, &["server", "client", "json", "version", "help"]);
            Err(Problem::Unknown("command", word.into(), meant))
        }
    }
}
