//! What all sessions of a server share.

use std::sync::Arc;

use super::Stats;
use crate::actions::Actions;
use crate::protocol::Token;
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
    /// Whether clients may WATCH: not where one that does would keep all others waiting.
    pub may_watch: bool,
    /// The largest request taken.
    pub request_bytes_max: usize,
}
