//! The token: a secret that a server and its clients share. It comes from a file that only its owner may
//! read, or from the environment, which is its owner's alone as well. It is no command-line argument, since
//! every user of a machine can list those, and it is in no log.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The environment variable that holds the token where no file is named.
pub const TOKEN_VARIABLE: &str = "ST_TOKEN";
/// The most bytes a token may have as the most cautious writer of JSON writes it, everything beyond ASCII
/// as `\uXXXX`: AUTH must fit into the 4 KiB that a client may send before it is authenticated.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// A secret that every client can show, in every dialect.
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

/// Why there is no token.
#[derive(Debug)]
pub enum TokenError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may use the file.
    NotPrivate {
        /// The file.
        path: PathBuf,
    },
    /// What the environment holds is no text.
    NotUtf8,
    /// What is there is no token.
    Bad {
        /// The file, or [`TOKEN_VARIABLE`].
        place: PathBuf,
        /// What is wrong with it.
        problem: BadToken,
    },
}

impl Token {
    /// The token of this text.
    pub fn new(text: &str) -> Result<Token, BadToken> {
        let written = text.chars().map(|c| match c {
            '"' | '\\' => 2,
            _ if c.is_ascii() => 1,
            _ => "\\u0000".len() * c.len_utf16(),
        });
        if text.is_empty() || written.sum::<usize>() > TOKEN_BYTES_MAX {
            Err(BadToken::Length)
        } else if text.chars().any(char::is_control) {
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
        match (file, variable) {
            (Some(file), _) => Token::read(file).map(Some),
            (None, Some(text)) if !text.is_empty() => {
                let text = text.into_string().map_err(|_| TokenError::NotUtf8)?;
                Token::new(&text).map(Some).map_err(|problem| bad(Path::new(TOKEN_VARIABLE), problem))
            }
            _ => Ok(None),
        }
    }

    /// The token in the first line of a file that is private.
    pub fn read(path: &Path) -> Result<Token, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        if !is_private(&file).map_err(unreadable)? {
            return Err(TokenError::NotPrivate { path: path.to_owned() });
        }
        let mut text = String::new();
        let start = file.take(TOKEN_BYTES_MAX as u64 + 2);
        BufReader::new(start).read_line(&mut text).map_err(unreadable)?;
        Token::new(text.lines().next().unwrap_or_default()).map_err(|problem| bad(path, problem))
    }

    /// The secret itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what a client has shown is the token. The time this takes tells nothing about where
    /// the two differ: every byte shown is compared, and the result is only looked at when all are.
    pub fn matches(&self, shown: &str) -> bool {
        let secret = self.0.as_bytes();
        let mut difference = secret.len() ^ shown.len();
        for (at, byte) in shown.bytes().enumerate() {
            difference |= usize::from(byte ^ secret[at % secret.len()]);
        }
        black_box(difference) == 0
    }
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
            TokenError::Unreadable { path, source } => {
                write!(f, "cannot read the token from {}: {source}", path.display())
            }
            TokenError::NotPrivate { path } => {
                let path = path.display();
                write!(f, "others may use the token file {path}: make it private with chmod 600 {path}")
            }
            TokenError::NotUtf8 => write!(f, "{TOKEN_VARIABLE} is not UTF-8 text"),
            TokenError::Bad { place, problem } => write!(f, "{}: {problem}", place.display()),
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

impl std::error::Error for TokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TokenError::Unreadable { source, .. } => Some(source),
            TokenError::Bad { problem, .. } => Some(problem),
            TokenError::NotPrivate { .. } | TokenError::NotUtf8 => None,
        }
    }
}

fn bad(place: &Path, problem: BadToken) -> TokenError {
    TokenError::Bad { place: place.to_owned(), problem }
}

#[cfg(unix)]
fn is_private(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o077 == 0)
}

#[cfg(not(unix))]
fn is_private(_: &File) -> io::Result<bool> {
    Ok(true)
}
