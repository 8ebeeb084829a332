//! The token: a secret that a server and its clients share. It comes from a file that only its owner may
//! read, or from the environment, which is its owner's alone as well. It is no command-line argument, since
//! every user of a machine can list those, and it is in no log.
//!
//! It is sent as it is, on a connection that nothing encrypts: it keeps strangers out, not eavesdroppers. Who must
//! cross an open network does so within ssh or the like.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The environment variable that holds the token where no file is named.
pub const TOKEN_VARIABLE: &str = "ST_TOKEN";
/// The most bytes a token may have as the most cautious writer of JSON writes it, everything beyond ASCII
/// as `\uXXXX`: AUTH must fit into the 4 KiB that a client may send before it is authenticated.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// A secret that every client can show, in every dialect. It does not say itself: `Debug` of whatever holds one may
/// end in a log.
#[derive(Clone)]
pub struct Token(String);

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// It has no bytes, or more than [`TOKEN_BYTES_MAX`].
    Length,
    /// It holds a control character, which no line can hold.
    Control,
    /// It begins or ends with a space, which a line would lose.
    OuterSpace,
}

/// Why there is no token, and in which file, or in [`TOKEN_VARIABLE`]. `Display` tells the cause too.
#[derive(Debug)]
pub enum TokenError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// Others than its owner may use the file.
    NotPrivate(PathBuf),
    /// What the environment holds is no text.
    NotUtf8,
    /// What is there is no token.
    Bad(PathBuf, BadToken),
}

impl Token {
    /// The token of this text, if it can be shown in each of the dialects. A server whose token cannot be sent as a
    /// line would be one that some clients can never use, and it would not say why.
    pub fn new(text: &str) -> Result<Token, BadToken> {
        let written = text.chars().map(|c| match c {
            '"' | '\\' => 2,
            _ if c.is_ascii() => 1,
            _ => "\\u0000".len() * c.len_utf16(),
        });
        if text.is_empty() || written.sum::<usize>() > TOKEN_BYTES_MAX {
            Err(BadToken::Length)
        } else if text.contains(char::is_control) {
            Err(BadToken::Control)
        } else if text.trim() != text {
            Err(BadToken::OuterSpace)
        } else {
            Ok(Token(text.to_owned()))
        }
    }

    /// The token in the file, if one is named, or else the one that the environment holds. A variable that
    /// is empty counts as unset.
    pub fn find(file: Option<&Path>, variable: Option<OsString>) -> Result<Option<Token>, TokenError> {
        let (place, text) = match (file, variable.filter(|text| !text.is_empty())) {
            (Some(file), _) => (file, first_line(file)?),
            (None, Some(text)) => {
                (Path::new(TOKEN_VARIABLE), text.into_string().map_err(|_| TokenError::NotUtf8)?)
            }
            (None, None) => return Ok(None),
        };
        Token::new(&text).map(Some).map_err(|problem| TokenError::Bad(place.to_owned(), problem))
    }

    /// The secret itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what a client has shown is the token. The time this takes tells nothing about where
    /// the two differ: every byte shown is compared, and the result is only looked at when all are. A comparison
    /// that stopped at the first difference would let a patient stranger find one byte after another.
    pub fn matches(&self, shown: &str) -> bool {
        let secret = self.0.as_bytes();
        let mut difference = secret.len() ^ shown.len();
        for (at, byte) in shown.bytes().enumerate() {
            difference |= usize::from(byte ^ secret[at % secret.len()]);
        }
        black_box(difference) == 0
    }
}

/// The first line of a file that is private.
fn first_line(path: &Path) -> Result<String, TokenError> {
    let unreadable = |error| TokenError::Unreadable(path.to_owned(), error);
    let file = File::open(path).map_err(unreadable)?;
    // The open file is asked, not its name, which could come to mean another file in between.
    if file.metadata().map_err(unreadable)?.permissions().mode() & 0o077 != 0 {
        return Err(TokenError::NotPrivate(path.to_owned()));
    }
    let mut line = String::new();
    // Bounded, since it may be any file: one byte more than fits shows that it is too long, whatever ends the line.
    BufReader::new(file.take(TOKEN_BYTES_MAX as u64 + 2)).read_line(&mut line).map_err(unreadable)?;
    Ok(line.lines().next().unwrap_or_default().to_owned())
}

/// Says that there is one, and not which.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Unreadable(path, error) => {
                write!(f, "cannot read the token from {}: {error}", path.display())
            }
            TokenError::NotPrivate(path) => {
                let path = path.display();
                write!(f, "others may use the token file {path}: make it private with chmod 600 {path}")
            }
            TokenError::NotUtf8 => write!(f, "{TOKEN_VARIABLE} is not UTF-8 text"),
            TokenError::Bad(place, problem) => write!(f, "{}: {problem}", place.display()),
        }
    }
}

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadToken::Length => {
                write!(f, "a token must have 1 to {TOKEN_BYTES_MAX} bytes, escaped as in JSON")
            }
            BadToken::Control => f.write_str("a token must not hold control characters"),
            BadToken::OuterSpace => f.write_str("a token must not begin or end with a space"),
        }
    }
}

impl std::error::Error for BadToken {}

impl std::error::Error for TokenError {}
