//! Words to a [`Command`]: what the program was asked to do, as data. Nothing here opens a file or
//! a socket or ends the process, so a test can try every line a person might type. The words and
//! the environment come in as arguments; `main` fetches them.
//!
//! Options are read by getopt's conventions, with one rule of our own: the client's options end
//! where its data begins, so that `st client update temp -5` stores `-5`.

mod client;
mod help;
mod options;
mod server;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

pub use client::{ClientArgs, ClientCommand, Data, Secret};
pub use help::text as help;
pub use server::ServerArgs;

use crate::near::nearest;
use crate::protocol::KeyError;
use crate::reformat::Layout;
use options::{Opt, Words};
use values::put;

/// What the program was asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Explain something.
    Help(Topic),
    /// Say which version this is.
    Version,
    /// Serve.
    Server(ServerArgs),
    /// Ask a server.
    Client(ClientArgs),
    /// Check or reformat JSON.
    Json(JsonArgs),
}

/// What there is help about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The program.
    Program,
    /// `st server`.
    Server,
    /// `st client`.
    Client,
    /// One of the client's commands.
    ClientCommand(&'static str),
    /// `st json`.
    Json,
}

/// `st json`: what to do with which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonArgs {
    /// What to write.
    pub layout: Layout,
    /// What to read; stdin where there is none.
    pub file: Option<PathBuf>,
}

type O = Opt<JsonArgs>;

const JSON_OPTIONS: &[Opt<JsonArgs>] = &[
    O::new(Some('c'), "compact", "", |args, _| put(&mut args.layout, Ok(Layout::Compact)))
        .help("one line, no spaces"),
    O::new(Some('p'), "pretty", "", |args, _| put(&mut args.layout, Ok(Layout::Pretty)))
        .help("indented (the default)"),
    O::new(None, "check", "", |args, _| put(&mut args.layout, Ok(Layout::Check)))
        .help("write nothing: the exit code tells"),
];

/// Words that ask for nothing we have. Its text is one line and names the help to read.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageError {
    /// The name the program was called by.
    pub program: String,
    /// Where it is explained.
    pub topic: Topic,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with the words. What was typed comes first.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// None: help was asked for, which ends the reading of words as an error does.
    Help,
    /// No command at all.
    NoCommand,
    /// There is no such command; perhaps this one was meant.
    UnknownCommand(String, Option<&'static str>),
    /// There is no such option; perhaps this one was meant.
    UnknownOption(String, Option<&'static str>),
    /// The option needs a value, which is called so.
    MissingValue(String, &'static str),
    /// A flag was given a value.
    UnwantedValue(String),
    /// The option, variable or operand was given a value that will not do.
    BadValue {
        /// What was given the value.
        what: String,
        /// As typed.
        value: String,
        /// What would do.
        expected: String,
    },
    /// A key that no server would take.
    BadKey(KeyError),
    /// The option belongs to these commands only.
    Misplaced(&'static str, &'static [&'static str]),
    /// The command needs one more word, which is called so.
    MissingOperand(&'static str),
    /// A word too many.
    Unexpected(String),
    /// What is called so is not text.
    NotUtf8(&'static str),
    /// The first option needs the second.
    Needs(&'static str, &'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Help => write!(f, "help is there"),
            Problem::NoCommand => write!(f, "a command is needed"),
            Problem::UnknownCommand(word, None) => write!(f, "no command {word:?}"),
            Problem::UnknownCommand(word, Some(near)) => {
                write!(f, "no command {word:?}; did you mean '{near}'?")
            }
            Problem::UnknownOption(option, Some(near)) => {
                write!(f, "no option {option:?}; did you mean '--{near}'?")
            }
            Problem::UnknownOption(option, None) => {
                write!(f, "no option {option:?}; before data that begins with a dash put '--'")
            }
            Problem::MissingValue(option, value) => write!(f, "{option} needs a value, {value}"),
            Problem::UnwantedValue(option) => write!(f, "{option} takes no value"),
            Problem::BadValue { what, value, expected } => {
                write!(f, "{what} wants {expected}, not {value:?}")
            }
            Problem::BadKey(error) => write!(f, "{error}"),
            Problem::Misplaced(option, only) => write!(f, "--{option} goes with {} only", only.join(" and ")),
            Problem::MissingOperand(operand) => write!(f, "{operand} is missing"),
            Problem::Unexpected(word) => write!(f, "a word too many: {word:?}"),
            Problem::NotUtf8(what) => {
                write!(f, "{what} is not UTF-8 text; other bytes can be stored as base64")
            }
            Problem::Needs(option, other) => write!(f, "--{option} needs --{other}"),
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UsageError { program, topic, problem } = self;
        write!(f, "{program}: {problem} (see '{program}")?;
        match topic {
            Topic::Program => {}
            Topic::Server => f.write_str(" server")?,
            Topic::Client => f.write_str(" client")?,
            Topic::ClientCommand(name) => write!(f, " client {name}")?,
            Topic::Json => f.write_str(" json")?,
        }
        f.write_str(" --help')")
    }
}

impl std::error::Error for UsageError {}

/// Understands the words after the program's name; `program` is that name, for the messages, and
/// `env` looks up environment variables.
pub fn parse(
    program: &str,
    words: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Command, UsageError> {
    let (mut words, mut topic) = (Words::new(words), Topic::Program);
    let parsed = dispatch(&mut words, env, &mut topic);
    concluded(program, topic, parsed)
}

/// Understands a line of a session, whose own arguments are the defaults.
pub fn parse_line(words: Vec<String>, args: &ClientArgs) -> Result<Command, UsageError> {
    let (mut words, mut topic) = (Words::new(words.into_iter().map(OsString::from)), Topic::Client);
    // The environment had its say when the session began.
    let parsed = client::parse(&mut words, args.clone(), &|_| None, false, &mut topic);
    concluded("", topic, parsed)
}

fn concluded(program: &str, topic: Topic, parsed: Result<Command, Problem>) -> Result<Command, UsageError> {
    match parsed {
        Err(Problem::Help) => Ok(Command::Help(topic)),
        parsed => parsed.map_err(|problem| UsageError { program: program.into(), topic, problem }),
    }
}

/// `topic` follows how far the words were understood: an error points to the help for that.
fn dispatch(
    words: &mut Words,
    env: &dyn Fn(&str) -> Option<OsString>,
    topic: &mut Topic,
) -> Result<Command, Problem> {
    let help = words.skip_help();
    let Some(word) = words.next() else { return Err(if help { Problem::Help } else { Problem::NoCommand }) };
    let word = word.to_string_lossy().into_owned();
    *topic = match &*word {
        "server" => Topic::Server,
        "client" => return client::parse(words, ClientArgs::default(), env, help, topic),
        "json" => Topic::Json,
        "-h" | "--help" => return Err(Problem::Help),
        "-V" | "--version" => return words.end().map(|()| Command::Version),
        _ if word.starts_with('-') => {
            let near = nearest(word.trim_start_matches('-'), ["help", "version"]);
            return Err(Problem::UnknownOption(word, near));
        }
        _ => {
            let near = nearest(&word, ["server", "client", "json", "help"]);
            return Err(Problem::UnknownCommand(word, near));
        }
    };
    match topic {
        _ if help => words.end().and(Err(Problem::Help)),
        Topic::Server => server::parse(words),
        _ => {
            let mut args = JsonArgs { layout: Layout::Pretty, file: None };
            let file = words.around(JSON_OPTIONS, &mut args)?;
            args.file = file.filter(|file| file != "-").map(PathBuf::from);
            Ok(Command::Json(args))
        }
    }
}
