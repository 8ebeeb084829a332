//! The command line: words to a command, a command to an exit code. Everything that `st` can be
//! asked to do on a command line is found from here.
//!
//! ```text
//!   argv ──parse──▶ Command ─┬─▶ client   ask a server: commands, or repl for many of them
//!          (words)           ├─▶ server   serve
//!                            ├─▶ bench    load a server, and measure it
//!                            ├─▶ json     check or reformat
//!                            ├─▶ journal  check or repair
//!                            └─▶ help     (complete: what a shell offers where TAB is pressed)
//!                                  └───▶ Ok, or Trouble: a line on stderr ──▶ Exit
//! ```
//!
//! It is a part of the library, and not of `main.rs`, so that tests can read command lines without
//! starting a process. For the same reason nothing in this room reaches for the process's
//! arguments, environment or standard streams: `main` hands them in. What a program that uses the
//! library would want, too, belongs in the room `client`.

mod bench;
mod bulk;
mod client;
mod commands;
mod complete;
mod follow;
mod generator;
mod grammar;
mod help;
mod histogram;
mod hold;
mod input;
mod journal;
mod json;
mod load;
mod message;
mod repl;
mod server;
mod wait;
mod words;
mod workload;

use std::ffi::OsString;
use std::io::{BufWriter, Stderr, Stdin, Stdout, Write};
use std::path::Path;

pub use bench::{BenchArgs, Length};
pub use client::{ClientArgs, ClientCommand};
pub use help::help;
pub use journal::JournalArgs;
pub use json::{JsonArgs, Layout, ReformatError, reformat};
pub use message::{Exit, Problem, Topic, UsageError};
use message::{Messages, Trouble};
pub use server::ServerArgs;
pub use words::Env;
use words::WordReader;
pub use workload::{Target, Workload};

use crate::client::{Client, ClientOptions};
use crate::protocol::{Address, TOKEN_VARIABLE, Token, did_you_mean};

/// No value from stdin may be longer. The server's own limit is far lower unless it was raised, and
/// without one here `st client set k - < /dev/zero` would take all memory before it asked the
/// server.
const INPUT_BYTES_MAX: usize = 64 << 20;
/// Output of any length is written in pieces of about this size: a system call for each line of a
/// listing would take longer than the listing.
const OUTPUT_BYTES: usize = 64 << 10;

/// What can stand first.
const PARTS: [&str; 6] = ["server", "client", "bench", "json", "journal", "help"];

/// What the program was asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// To print the help text about this.
    Help(Topic),
    /// To print its version.
    Version,
    /// To serve a table.
    Server(ServerArgs),
    /// To load a server, and measure it.
    Bench(BenchArgs),
    /// To ask a server.
    Client(ClientArgs),
    /// To check or reformat JSON.
    Json(JsonArgs),
    /// To look at a journal.
    Journal(JournalArgs),
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

/// What the commands of the client work with. It outlives a command: a repl carries out many with
/// one connection.
struct Run<'a> {
    client: Client,
    /// `None` in a repl: there the commands come from stdin, and none of them may read it.
    stdin: Option<Stdin>,
    /// Buffered once more than std does: std's buffer is written out at every newline.
    stdout: BufWriter<Stdout>,
    stderr: &'a mut Messages,
}

impl Run<'_> {
    /// Writes data, and all that is still held back: whoever reads our stdout may act on it at
    /// once.
    fn write(&mut self, data: &[u8]) -> Result<(), Trouble> {
        self.stdout.write_all(data).and_then(|()| self.stdout.flush()).map_err(Trouble::output)
    }

    /// Stdin, for the one command that reads it. In a repl the user learns why there is none,
    /// instead of seeing the next lines vanish into a value.
    fn take_stdin(&mut self) -> Result<Stdin, Trouble> {
        let text = "in a session stdin holds the commands, and no command can read it";
        self.stdin.take().ok_or_else(|| Trouble::input(text))
    }
}

/// Does what the words say: those of `args`, of which the first is the name that the program was
/// called by.
pub fn run(mut args: impl Iterator<Item = OsString>, env: Env<'_>, io: Io) -> Exit {
    // Without its path: messages and help should show what can be typed.
    let name = args.next().unwrap_or_default();
    let name = Path::new(&name).file_name().map_or("st".into(), |name| name.to_string_lossy().into_owned());
    let args: Vec<OsString> = args.collect();
    let Io { stdin, mut stdout, stderr, log } = io;
    if let Some(offered) = complete::offered(&args, env) {
        return stdout.write_all(offered.as_bytes()).map_or(Exit::Local, |()| Exit::Yes);
    }
    let command = parse(&name, args, env);
    let mut messages = Messages { program: name, quiet: false, out: stderr, progress: false };
    let mut print = |text: &str| stdout.write_all(text.as_bytes()).map_err(Trouble::output);
    let done = match command {
        Ok(Command::Help(topic)) => print(&help(&messages.program, topic)),
        Ok(Command::Version) => print(concat!("st ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Server(args)) => server::serve(&messages.program, &args, env, stdout, log),
        Ok(Command::Bench(args)) => bench::run_bench(&args, env, stdout, &mut messages),
        Ok(Command::Client(args)) => ask(&args, env, stdin, stdout, &mut messages),
        Ok(Command::Json(args)) => json::run_json(&args, stdin, stdout),
        Ok(Command::Journal(args)) => journal::run_journal(&args, stdout),
        Err(UsageError { program, topic, problem, quiet }) => {
            messages.quiet = quiet;
            Err(Trouble::usage(&program, topic, problem))
        }
    };
    // The one place where a failure turns into what the caller sees of it.
    done.map_or_else(|trouble| messages.report(&trouble), |()| Exit::Yes)
}

/// Carries out a command of the client, or a repl's commands. It does not connect: a command that has
/// nothing to ask, as `load` of an empty file, needs no server.
fn ask(
    args: &ClientArgs,
    env: Env<'_>,
    stdin: Stdin,
    stdout: Stdout,
    stderr: &mut Messages,
) -> Result<(), Trouble> {
    stderr.quiet = args.quiet;
    let address = Address::parse(&args.address)
        .map_err(|error| Trouble::usage(&stderr.program, Topic::Client, error))?;
    let token = Token::find(args.token_file.as_deref(), env(TOKEN_VARIABLE))?;
    let client = Client::new(address, ClientOptions { timeout: args.timeout, retry: args.retry, token });
    let stdout = BufWriter::with_capacity(OUTPUT_BYTES, stdout);
    let mut run = Run { client, stdin: Some(stdin), stdout, stderr };
    match args.command {
        Some(_) => run.command(args),
        None => repl::converse(&mut run, args),
    }
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
        "bench" => bench::parse(words).map(Command::Bench),
        "client" => grammar::parse(words, ClientArgs::new()).map(Command::Client),
        "json" => json::parse(words).map(Command::Json),
        "journal" => journal::parse(words).map(Command::Journal),
        "-h" | "--help" => Err(Problem::Help),
        "-V" | "--version" | "version" => words.end().map(|()| Command::Version),
        word if word.starts_with('-') => {
            let near = did_you_mean(word.trim_start_matches('-'), ["help", "version"]);
            Err(Problem::Unknown("option", word.into(), near.map(|near| format!("--{near}"))))
        }
        word => {
            // The client's commands are typed most often, and so is `client` left out most often.
            let before = format!("{} client ", words.program);
            let meant = grammar::meant(word, &before, &[&PARTS[..], &["version"]].concat());
            Err(Problem::Unknown("command", word.into(), meant))
        }
    }
}
