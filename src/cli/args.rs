//! Words to a [`Command`]: what the program was asked to do, as data. Nothing here opens a file or
//! a socket or ends the process, so a test can try every line a person might type. The words and
//! the environment come in as arguments; `main` fetches them.
//!
//! Options are read by getopt's conventions, with one rule of our own: the client's options end
//! where its data begins, so that `st client update temp -5` stores `-5`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::client::{self, ClientArgs};
use super::json::Layout;
use super::options::{Opt, Words};
use super::server::{self, ServerArgs};
use super::values::put;
use crate::protocol::ADDRESS_DEFAULT;
use crate::protocol::KeyError;
use crate::protocol::did_you_mean;

/// What the program was asked to do.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each stands for the words of its name")]
pub enum Command {
    Help(Topic),
    Version,
    Server(ServerArgs),
    Client(ClientArgs),
    Json(JsonArgs),
}

/// What there is help about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the help texts are about these")]
pub enum Topic {
    Program,
    Server,
    Client,
    ClientCommand(&'static str),
    Json,
}

/// `st json`: what to write, and what to read; stdin where there is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "said above")]
pub struct JsonArgs {
    pub layout: Layout,
    pub file: Option<PathBuf>,
}

type O = Opt<JsonArgs>;

pub(super) const JSON_OPTIONS: &[O] = &[
    O::new("-c, --compact", "a line each, no spaces", |args, _| put(&mut args.layout, Ok(Layout::Compact))),
    O::new("-p, --pretty", "indented (the default)", |args, _| put(&mut args.layout, Ok(Layout::Pretty))),
    O::new("    --check", "write nothing: the exit code tells", |args, _| {
        put(&mut args.layout, Ok(Layout::Check))
    }),
];

/// Words that ask for nothing we have. Its text is one line and names the help to read.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageError {
    /// The name the program was called by.
    pub program: Box<str>,
    /// Where it is explained.
    pub topic: Topic,
    /// What is wrong.
    pub problem: Problem,
    /// The client's `-q` came before the problem: the exit code is all that was asked for.
    pub quiet: bool,
}

/// What is wrong with the words. What was typed comes first, then what we can say about it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the messages below explain them")]
pub enum Problem {
    /// None: help was asked for, which ends the reading of words as an error does.
    Help,
    NoCommand,
    UnknownCommand(String, Option<String>),
    UnknownOption(String, Option<&'static str>),
    /// An option of ours where data stands.
    LateOption(String),
    /// No option of ours, where data may have been meant.
    DashedData(String),
    MissingValue(String, &'static str),
    UnwantedValue(String),
    BadValue {
        what: String,
        value: String,
        expected: String,
    },
    BadKey(KeyError),
    Misplaced(&'static str, &'static [&'static str]),
    MissingOperand(&'static str),
    Unexpected(String),
    NotUtf8(&'static str),
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
            Problem::UnknownOption(option, None) => write!(f, "no option {option:?}"),
            Problem::LateOption(option) => {
                write!(f, "{option:?} is an option: put options before KEY, or '--' before data")
            }
            Problem::DashedData(option) => {
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
            Problem::Unexpected(word) if word.len() > 1 && word.starts_with('-') => {
                write!(f, "a word too many: {word:?}; options come before data")
            }
            Problem::Unexpected(word) => write!(f, "a word too many: {word:?}"),
            Problem::NotUtf8(what) => {
                write!(f, "{what} is not UTF-8 text; other bytes can be stored as base64")
            }
            Problem::Needs(option, other) => write!(f, "--{option} needs {other}"),
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UsageError { program, topic, problem, .. } = self;
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
    let mut words = Words::new(program, words, env);
    let parsed = dispatch(&mut words);
    conclude(&words, parsed)
}

/// Understands a line of a session, whose own arguments are the defaults.
pub fn parse_line(words: Vec<String>, args: &ClientArgs) -> Result<Command, UsageError> {
    // The environment had its say when the session began.
    let mut words = Words::new("", words.into_iter().map(OsString::from), &|_| None);
    let parsed = client::parse(&mut words, args.clone());
    conclude(&words, parsed)
}

fn conclude(words: &Words, parsed: Result<Command, Problem>) -> Result<Command, UsageError> {
    let (program, topic) = (words.program.into(), words.topic);
    // The server's -q is about its log.
    let quiet = matches!(topic, Topic::Client | Topic::ClientCommand(_)) && words.given("quiet");
    match parsed {
        Err(Problem::Help) => Ok(Command::Help(topic)),
        parsed => parsed.map_err(|problem| UsageError { program, topic, problem, quiet }),
    }
}

fn dispatch(words: &mut Words) -> Result<Command, Problem> {
    words.skip_help();
    let Some(word) = words.next() else { return words.end().and(Err(Problem::NoCommand)) };
    match &*word.to_string_lossy() {
        "server" => server::parse(words),
        "client" => {
            let (timeout, retry) = (Duration::from_secs(5), 3);
            client::parse(
                words,
                ClientArgs { address: ADDRESS_DEFAULT.into(), timeout, retry, ..ClientArgs::default() },
            )
        }
        "json" => json(words),
        "-h" | "--help" => Err(Problem::Help),
        "-V" | "--version" | "version" => words.end().map(|()| Command::Version),
        word if word.starts_with('-') => {
            let near = did_you_mean(word.trim_start_matches('-'), ["help", "version"]);
            Err(Problem::UnknownOption(word.into(), near))
        }
        word => {
            let of_the_client = |name| format!("{} client {name}", words.program);
            let meant = client::meant(word).map(of_the_client);
            let near =
                || did_you_mean(word, ["server", "client", "json", "version", "help"]).map(str::to_owned);
            let far = || client::near(word).map(of_the_client);
            Err(Problem::UnknownCommand(word.into(), meant.or_else(near).or_else(far)))
        }
    }
}

fn json(words: &mut Words) -> Result<Command, Problem> {
    words.topic = Topic::Json;
    let mut args = JsonArgs { layout: Layout::Pretty, file: None };
    let file = words.around(JSON_OPTIONS, &mut args)?;
    args.file = file.filter(|file| file != "-").map(PathBuf::from);
    Ok(Command::Json(args))
}
