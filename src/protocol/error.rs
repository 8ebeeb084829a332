//! What can go wrong with a request, said in words a program can switch on and a person can act on.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// The `code` of an error reply. The words are part of the wire protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)+ }

        impl Code {
            /// Every code, in the order of their numbers (`code as usize`).
            pub const ALL: &[Code] = &[$(Code::$variant,)+];

            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $word,)+ }
            }
        }
    };
}

codes! {
    /// The bytes are not JSON.
    BadJson = "bad_json",
    /// It is JSON, but not a request: a member is missing, doubled or of the wrong type.
    BadRequest = "bad_request",
    /// No request and no action has this name.
    UnknownRequest = "unknown_request",
    /// INCREMENT of something that is not an integer.
    NotANumber = "not_a_number",
    /// The condition `if` did not hold; nothing was changed.
    Conflict = "conflict",
    /// The request is larger than the server takes.
    TooLarge = "too_large",
    /// No room: memory or disk.
    Full = "full",
    /// A token is needed, or this one is wrong, or the server does not allow this.
    Denied = "denied",
    /// Every worker has a connection already.
    Busy = "busy",
    /// The request was begun but not finished in time.
    Timeout = "timeout",
    /// The action said no, failed, was killed or panicked.
    ActionFailed = "action_failed",
    /// To a client: what a later server may send. The message begins with the word that came.
    Unknown = "unknown",
}

impl Code {
    /// The code that a reply's word stands for.
    pub fn from_word(word: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str() == word)
    }
}

/// A request refused: the code for programs, the message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// What is wrong and what to do, in one line.
    pub message: String,
}

impl Failure {
    /// A failure with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

/// Any error becomes `action_failed`, so that actions can use `?`. (`Failure` itself is no
/// `std::error::Error`: the two would overlap. The client wraps it in an error that is one.)
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(Code::ActionFailed, error.to_string())
    }
}

/// Somebody else's words, fit to stand in a one-line message: trimmed, cut, control characters escaped. No more
/// of them is looked at than is shown.
pub(crate) fn excerpt(words: &[u8]) -> String {
    const BYTES_MAX: usize = 256;
    let words = words.trim_ascii();
    // A character that this cuts in two lies beyond what is shown.
    let words = String::from_utf8_lossy(&words[..words.len().min(BYTES_MAX + 4)]);
    let mut shown = String::with_capacity(words.len());
    for c in words.trim().chars() {
        if shown.len() >= BYTES_MAX {
            shown.push('…');
            break;
        }
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}
