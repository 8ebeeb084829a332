//! What all sessions of a server share.

use std::hint::black_box;
use std::sync::Arc;

use super::Stats;
use crate::actions::Actions;
use crate::store::Store;

/// The shared state and the rules that a session needs to answer requests.
pub struct Core {
    /// The table.
    pub store: Arc<Store>,
    /// What is answered by name.
    pub actions: Actions,
    /// Counters.
    pub stats: Arc<Stats>,
    /// What a client must show before anything else.
    pub token: Option<Token>,
    /// The largest request taken.
    pub request_bytes_max: usize,
}

/// A secret that client and server share.
pub struct Token(String);

impl Token {
    /// A token of this text, which may not be empty.
    pub fn new(text: String) -> Option<Token> {
        (!text.is_empty()).then_some(Token(text))
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
