//! Why a command did not succeed: its exit code, and what is said about it on stderr.

use std::io::{self, ErrorKind, Write};

use super::ClientError;
use crate::address::AddressError;
use crate::json;
use crate::protocol::Code;
use crate::token::TokenError;

/// A message is one line of at most this, whatever the server put into it.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// Why a command did not succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The answer is no.
    No(String),
    /// All has been said, or the exit code alone is the answer.
    Silent(u8),
    /// What was read or typed is not valid.
    Input(String),
    /// The server, or the way to it.
    Client(ClientError),
    /// A local file or program.
    Local(String, io::Error),
    /// Our stdout.
    Output(io::Error),
    /// What went wrong at a place in the input.
    At(String, Box<Trouble>),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        Trouble::Client(error)
    }
}

impl From<json::Error> for Trouble {
    fn from(error: json::Error) -> Trouble {
        Trouble::Input(error.to_string())
    }
}

impl Trouble {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Trouble::No(_) => 1,
            Trouble::Silent(code) => *code,
            Trouble::At(_, trouble) => trouble.code(),
            Trouble::Input(_) => 2,
            Trouble::Client(ClientError::Address(AddressError::UnknownHost(..))) => 3,
            Trouble::Client(ClientError::Address(_)) => 2,
            Trouble::Client(ClientError::Connect(..)) => 3,
            Trouble::Client(error) if error.has_code(Code::Conflict) => 1,
            Trouble::Client(ClientError::Refused(..)) => 5,
            Trouble::Client(_) => 4,
            // Whoever closed the pipe has read all they wanted: `st client keys | head` went well.
            Trouble::Output(error) if error.kind() == ErrorKind::BrokenPipe => 0,
            Trouble::Local(..) | Trouble::Output(_) => 6,
        }
    }

    /// What to say about it; empty for nothing.
    pub fn text(&self) -> String {
        match self {
            Trouble::No(text) | Trouble::Input(text) => text.clone(),
            Trouble::Silent(_) => String::new(),
            Trouble::At(place, trouble) => format!("{place}: {}", trouble.text()),
            Trouble::Client(error) => error.to_string(),
            Trouble::Local(what, error) => format!("{what}: {error}"),
            Trouble::Output(error) if error.kind() == ErrorKind::BrokenPipe => String::new(),
            Trouble::Output(error) => format!("cannot write to stdout: {error}"),
        }
    }
}

impl From<TokenError> for Trouble {
    fn from(error: TokenError) -> Trouble {
        match error {
            TokenError::Unreadable { path, source } => {
                Trouble::Local(format!("cannot read the token from {}", path.display()), source)
            }
            error => Trouble::Input(error.to_string()),
        }
    }
}

/// Messages to people, each one line.
pub(super) struct Messages<'a> {
    pub program: &'a str,
    pub quiet: bool,
    pub out: &'a mut dyn Write,
}

impl Messages<'_> {
    /// Says what went wrong, and gives the exit code.
    pub fn report(&mut self, trouble: &Trouble) -> u8 {
        let text = trouble.text();
        if !text.is_empty() {
            self.say(&text);
        }
        trouble.code()
    }

    /// Says something, in one line whatever a server put into it. That stderr cannot be written to is
    /// no reason to fail: there is nobody to tell.
    pub fn say(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        let mut line = format!("{}: ", self.program);
        for c in text.chars().take(MESSAGE_CHARS_MAX) {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
        line.push('\n');
        let _ = self.out.write_all(line.as_bytes());
    }

    /// Overwrites the line that shows how far something has come; an empty text clears it.
    pub fn progress(&mut self, text: &str) {
        if !self.quiet {
            let _ = write!(self.out, "\r{text}\x1b[K").and_then(|()| self.out.flush());
        }
    }
}
