//! The token: a secret that a server and its clients share, kept in a file that only its owner may
//! read. It is no command-line argument, since every user of a machine can list those, and it is
//! in no log.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most bytes a token may have: AUTH must fit into what a client may send before it is known.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// A secret of 1 to [`TOKEN_BYTES_MAX`] bytes.
#[derive(Clone)]
pub struct Token(String);

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
    /// It has no bytes, or more than [`TOKEN_BYTES_MAX`].
    Length,
}

impl Token {
    /// The token of this text.
    pub fn new(text: &str) -> Result<Token, TokenError> {
        match text.len() {
            1..=TOKEN_BYTES_MAX => Ok(Token(text.to_owned())),
            _ => Err(TokenError::Length),
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
        file.take(TOKEN_BYTES_MAX as u64 + 2).read_to_string(&mut text).map_err(unreadable)?;
        Token::new(text.lines().next().unwrap_or_default())
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
            TokenError::Length => write!(f, "a token must have 1 to {TOKEN_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for TokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TokenError::Unreadable { source, .. } => Some(source),
            TokenError::NotPrivate { .. } | TokenError::Length => None,
        }
    }
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
