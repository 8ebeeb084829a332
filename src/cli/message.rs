//! Why a command did not succeed: its exit code, and what is said about it on stderr.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::client::ClientError;
use crate::json;
use crate::protocol::{AddressError, Code, Escape, TokenError, one_line};

/// A message is one line of at most this, whatever the server put into it.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// Why a command did not succeed.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The exit code.
    pub code: u8,
    /// What to say about it; empty for nothing.
    pub text: String,
}

impl Trouble {
    /// All has been said, or the exit code alone is the answer.
    pub fn silent(code: u8) -> Trouble {
        Trouble { code, text: String::new() }
    }

    /// What was read or typed is not valid.
    pub fn input(text: impl Into<String>) -> Trouble {
        Trouble { code: 2, text: text.into() }
    }

    /// A local file or program failed.
    pub fn local(what: impl Display, error: io::Error) -> Trouble {
        Trouble { code: 6, text: format!("{what}: {error}") }
    }

    /// Our stdin failed.
    pub fn stdin(error: io::Error) -> Trouble {
        Trouble::local("cannot read stdin", error)
    }

    /// Our stdout failed. Whoever closed the pipe has read all they wanted: `st client keys | head`
    /// went well, and ends with exit code 0.
    pub fn output(error: io::Error) -> Trouble {
        match error.kind() {
            ErrorKind::BrokenPipe => Trouble::silent(0),
            _ => Trouble::local("cannot write to stdout", error),
        }
    }

    /// The same, with the place in the input where it happened; nothing is still nothing.
    pub fn at(self, place: impl Display) -> Trouble {
        let text = if self.text.is_empty() { self.text } else { format!("{place}: {}", self.text) };
        Trouble { text, ..self }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        let code = match &error {
            ClientError::Address(AddressError::UnknownHost(..)) | ClientError::Connect(..) => 3,
            ClientError::Address(_) => 2,
            ClientError::Refused(_, failure) if failure.code == Code::Conflict => 1,
            ClientError::Refused(..) => 5,
            ClientError::Timeout(_)
            | ClientError::Lost(..)
            | ClientError::WatchLost(..)
            | ClientError::BadReply(..) => 4,
        };
        Trouble { code, text: error.to_string() }
    }
}

impl From<json::Error> for Trouble {
    fn from(error: json::Error) -> Trouble {
        Trouble::input(error.to_string())
    }
}

impl From<TokenError> for Trouble {
    fn from(error: TokenError) -> Trouble {
        let code = if matches!(error, TokenError::Unreadable { .. }) { 6 } else { 2 };
        Trouble { code, text: error.to_string() }
    }
}

/// Messages to people, each one line. That stderr cannot be written to is no reason to fail: there is
/// nobody to tell.
pub(super) struct Messages<'a> {
    pub program: &'a str,
    pub quiet: bool,
    pub out: &'a mut dyn Write,
    /// A line that shows how far something has come stands on the terminal.
    pub progress: bool,
}

impl Messages<'_> {
    /// Says what went wrong, and gives the exit code.
    pub fn report(&mut self, trouble: &Trouble) -> u8 {
        if !trouble.text.is_empty() {
            self.say(&trouble.text);
        }
        trouble.code
    }

    /// Says something, in one line whatever a server put into it.
    pub fn say(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        self.clear();
        let text = one_line(text, MESSAGE_BYTES_MAX, Escape::Message);
        let line = format!("{}: {text}\n", self.program);
        let _ = self.out.write_all(line.as_bytes());
    }

    /// Shows a person how far something has come, in place of what was shown before.
    pub fn progress(&mut self, text: &str) {
        if !self.quiet && io::stderr().is_terminal() {
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
