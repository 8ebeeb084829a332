//! How a command fails: the exit code for scripts, one line on stderr for people.
//!
//! A script can only tell failures apart by the exit code, so each code means one thing for every
//! command: "no" is not "refused", and neither is "nobody knows". All failures end up in one type,
//! [`Trouble`]: the library's errors, the system's and our own are each turned into a code and a
//! text at the place that knows what was tried. Nothing above that place looks at the cause again,
//! so nothing else needs to be kept of it.
//!
//! What is wrong with a command line is told as data, by [`Problem`], since tests and hints look
//! into it.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, IsTerminal, Stderr, Write};

use crate::client::ClientError;
use crate::json;
use crate::protocol::{AddressError, Code, Escape, KeyError, TokenError, one_line};

/// A message has at most so many bytes, whatever a server or a user put into it.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// How `st` ended. The numbers are a promise to scripts: none changes its meaning. They are in the
/// order of their weight, since of many things that were asked at once the worst counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// It was done, or it is so.
    Yes,
    /// The question was understood, and the answer is no: nothing failed.
    No,
    /// The words, or what was read from stdin, are at fault: the same call will fail again.
    Usage,
    /// No request was sent: trying again later is safe.
    Connect,
    /// A request was sent and no reply came. Only the server knows whether it was carried out.
    Unknown,
    /// The server answered with an error.
    Refused,
    /// A file, a program, a port or a standard stream of this machine failed.
    Local,
    /// What a program that ran in our place ended with, or what the user said.
    As(u8),
}

impl Exit {
    /// The number that the caller sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Yes => 0,
            Exit::No => 1,
            Exit::Usage => 2,
            Exit::Connect => 3,
            Exit::Unknown => 4,
            Exit::Refused => 5,
            Exit::Local => 6,
            Exit::As(code) => code,
        }
    }

    /// What each code means for a command of the client, as the help texts say it.
    #[rustfmt::skip]
    pub(super) const MEANINGS: [(Exit, &str); 7] = [
        (Exit::Yes, "yes: it was done, it is there"),
        (Exit::No, "no: missing, exists already, conflict, wait expired"),
        (Exit::Usage, "usage, or input that is not valid"),
        (Exit::Connect, "cannot connect"),
        (Exit::Unknown, "timeout, or connection lost after the request was sent: a write's outcome is unknown"),
        (Exit::Refused, "the server refused, or an action failed"),
        (Exit::Local, "local input or output failed"),
    ];
}

/// What there is help about. It also says how far a command line was understood: an error points to
/// the help for the last thing that was clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// `st` as a whole.
    Program,
    /// `st server`.
    Server,
    /// `st client`, with a list of its commands.
    Client,
    /// One command of the client, by its name.
    ClientCommand(&'static str),
    /// `st bench`.
    Bench,
    /// `st json`.
    Json,
    /// `st journal`.
    Journal,
}

impl Topic {
    /// The client's command that it is about, or nothing.
    pub(super) fn command(self) -> &'static str {
        match self {
            Topic::ClientCommand(command) => command,
            Topic::Program | Topic::Server | Topic::Client => "",
            Topic::Bench | Topic::Json | Topic::Journal => "",
        }
    }
}

/// The words to type behind the program's name, each with a space before it.
impl Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Program => Ok(()),
            Topic::Server => write!(f, " server"),
            Topic::Client => write!(f, " client"),
            Topic::ClientCommand(command) => write!(f, " client {command}"),
            Topic::Bench => write!(f, " bench"),
            Topic::Json => write!(f, " json"),
            Topic::Journal => write!(f, " journal"),
        }
    }
}

/// What is wrong with the words. What was typed comes first, then what can be said about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// Nothing is wrong: help was asked for, which ends the reading of words as a mistake does.
    Help,
    /// `st` alone.
    NoCommand,
    /// There is no such command or option, whichever the first field says. The last one is what was
    /// meant, perhaps.
    Unknown(&'static str, String, Option<String>),
    /// An option of ours where data stands.
    LateOption(String),
    /// No option of ours, where data may have been meant.
    DashedData(String),
    /// A flag with a value: `--json=1`.
    UnwantedValue(String),
    /// A value out of range, or of another kind.
    BadValue {
        /// The option, environment variable or operand.
        what: String,
        /// What was given.
        value: String,
        /// What would have been taken, limits included.
        expected: String,
    },
    /// No key can be this.
    BadKey(KeyError),
    /// An option of these other commands.
    Misplaced(&'static str, &'static [&'static str]),
    /// A command lacks this word.
    MissingOperand(&'static str),
    /// A word too many.
    Unexpected(String),
    /// These words must be text, and bytes were given.
    NotUtf8(&'static str),
    /// Two words of which one at most can be given.
    Exclusive(&'static str, &'static str),
    /// An option that is nothing without a value or without another one.
    Needs(String, String),
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Problem as P;
        match self {
            P::Help => write!(f, "help was asked for"),
            P::NoCommand => write!(f, "a command is needed"),
            P::Unknown(what, word, None) => write!(f, "no {what} {word:?}"),
            P::Unknown(what, word, Some(near)) => write!(f, "no {what} {word:?}; did you mean '{near}'?"),
            P::LateOption(word) => {
                write!(f, "{word:?} is an option: put options before KEY, or '--' before data")
            }
            P::DashedData(word) => {
                write!(f, "no option {word:?}; before data that begins with a dash put '--'")
            }
            P::UnwantedValue(option) => write!(f, "{option} takes no value"),
            P::BadValue { what, value, expected } => write!(f, "{what} wants {expected}, not {value:?}"),
            P::BadKey(error) => write!(f, "{error}"),
            P::Misplaced(option, only) => {
                let (last, others) = only.split_last().unwrap_or((&"", &[]));
                let and = if others.is_empty() { "" } else { " and " };
                write!(f, "--{option} goes with {}{and}{last} only", others.join(", "))
            }
            P::MissingOperand(operand) => write!(f, "{operand} is missing"),
            P::Unexpected(word) if word.len() > 1 && word.starts_with('-') => {
                write!(f, "a word too many: {word:?}; options come before data")
            }
            P::Unexpected(word) => write!(f, "a word too many: {word:?}"),
            P::NotUtf8(what) => write!(f, "{what} is not UTF-8 text; other bytes can be stored as base64"),
            P::Exclusive(one, other) => write!(f, "{one} and {other} exclude each other"),
            P::Needs(option, other) => write!(f, "{option} needs {other}"),
        }
    }
}

/// Words that ask for nothing there is. Its text is one line, and names the help to read.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageError {
    /// The name that the program was called by.
    pub program: Box<str>,
    /// Where it is explained what could have been asked.
    pub topic: Topic,
    /// What is wrong.
    pub problem: Problem,
    /// The client's `-q` came before the problem: the exit code is all that was asked for.
    pub quiet: bool,
}

impl Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UsageError { program, topic, problem, .. } = self;
        write!(f, "{program}: {}", Trouble::usage(program, *topic, problem).text)
    }
}

impl std::error::Error for UsageError {}

/// Why a command did not succeed. It is a struct of what is left to do, to say a text and to exit,
/// and no enum of causes: by the time that one exists, nobody asks for the cause any more.
#[derive(Debug)]
pub(super) struct Trouble {
    pub exit: Exit,
    /// What to say about it; nothing where the exit code says all.
    pub text: String,
}

impl Trouble {
    /// All has been said, or the exit code alone is the answer.
    pub fn silent(exit: Exit) -> Trouble {
        Trouble { exit, text: String::new() }
    }

    /// What was read or typed is not valid.
    pub fn input(text: impl Into<String>) -> Trouble {
        Trouble { exit: Exit::Usage, text: text.into() }
    }

    /// The same, where a help text says what would be.
    pub fn usage(program: &str, topic: Topic, problem: impl Display) -> Trouble {
        Trouble::input(format!("{problem} (see '{program}{topic} --help')"))
    }

    /// Something of this machine failed.
    pub fn local(what: impl Display, error: io::Error) -> Trouble {
        Trouble { exit: Exit::Local, text: format!("{what}: {error}") }
    }

    /// Our stdin failed.
    pub fn stdin(error: io::Error) -> Trouble {
        Trouble::local("cannot read stdin", error)
    }

    /// Our stdout failed. Whoever closed the pipe has read all they wanted: `st client keys | head`
    /// went well, and ends with exit code 0.
    pub fn output(error: io::Error) -> Trouble {
        match error.kind() {
            ErrorKind::BrokenPipe => Trouble::silent(Exit::Yes),
            _ => Trouble::local("cannot write to stdout", error),
        }
    }

    /// The same failure with the place in the input where it happened. One that says nothing still
    /// says nothing.
    pub fn at(self, place: impl Display) -> Trouble {
        let text = if self.text.is_empty() { self.text } else { format!("{place}: {}", self.text) };
        Trouble { text, ..self }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        use ClientError as E;
        let exit = match &error {
            // A name server may be down for a while; what is no address will never be one.
            E::Address(AddressError::UnknownHost(..)) | E::Connect(..) => Exit::Connect,
            E::Address(_) => Exit::Usage,
            E::Refused(_, failure) if failure.code == Code::Conflict => Exit::No,
            E::Refused(..) => Exit::Refused,
            E::Timeout(_) | E::Lost(..) | E::WatchLost(..) | E::BadReply(..) => Exit::Unknown,
        };
        Trouble { exit, text: error.to_string() }
    }
}

impl From<json::Error> for Trouble {
    fn from(error: json::Error) -> Trouble {
        Trouble::input(error.to_string())
    }
}

impl From<TokenError> for Trouble {
    fn from(error: TokenError) -> Trouble {
        let unreadable = matches!(error, TokenError::Unreadable { .. });
        Trouble { exit: if unreadable { Exit::Local } else { Exit::Usage }, text: error.to_string() }
    }
}

/// Messages to people, each one line. That stderr cannot be written to is no reason to fail: there
/// is nobody to tell.
pub(super) struct Messages {
    /// The name that the program was called by begins each line.
    pub program: String,
    /// Nothing is to be said.
    pub quiet: bool,
    pub out: Stderr,
    /// A line that shows how far something has come stands on the terminal.
    pub progress: bool,
}

impl Messages {
    /// Says what went wrong, and gives the exit code.
    pub fn report(&mut self, trouble: &Trouble) -> Exit {
        if !trouble.text.is_empty() {
            self.say(&trouble.text);
        }
        trouble.exit
    }

    /// Says something, in one line. A script's log stays one line a failure, and `grep` finds it
    /// whole.
    pub fn say(&mut self, text: &str) {
        if !self.quiet {
            self.clear();
            // In one piece, or the lines of two programs that share a terminal would run into each
            // other.
            let text = one_line(text, MESSAGE_BYTES_MAX, Escape::Message);
            let _ = self.out.write_all(format!("{}: {text}\n", self.program).as_bytes());
        }
    }

    /// Shows a person how far something has come, in place of what was shown before. Where stderr
    /// is no terminal nobody is looking, and a log would fill with half lines.
    pub fn progress(&mut self, text: &str) {
        if !self.quiet && self.out.is_terminal() {
            self.progress = write!(self.out, "\r{text}\x1b[K").and_then(|()| self.out.flush()).is_ok();
        }
    }

    /// Takes away what [`Messages::progress`] has shown.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.progress) {
            let _ = self.out.write_all(b"\r\x1b[K");
        }
    }
}
