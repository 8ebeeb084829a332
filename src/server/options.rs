//! What a server grants its clients, with the defaults.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Log;
use crate::protocol::Token;
use crate::store::Store;

/// Who serves how many clients at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One request, then [`Server::run`](super::Server::run) returns.
    Once,
    /// One client after another.
    Iterative,
    /// Many clients, a worker each.
    Pool {
        /// The most clients at once.
        threads: usize,
    },
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Once => "once",
            Mode::Iterative => "iterative",
            Mode::Pool { .. } => "pool",
        })
    }
}

/// What a server grants its clients.
pub struct Options {
    /// Who serves how many clients at once.
    pub mode: Mode,
    /// The largest request, in bytes.
    pub request_bytes_max: usize,
    /// The longest silence between requests. `None`: 300 s, and 10 s in iterative mode, where
    /// all others wait for it.
    pub idle: Option<Duration>,
    /// For a request from its first byte to its last, and for taking a reply.
    pub deadline: Duration,
    /// The table that is served.
    pub store: Arc<Store>,
    /// What clients must show first.
    pub token: Option<Token>,
    /// Where events are told.
    pub log: Log,
}

impl Default for Options {
    /// A pool of 512 workers, 1 MiB a request, 10 s for it, an empty table without a limit, no token, no log.
    fn default() -> Options {
        Options {
            mode: Mode::Pool { threads: 512 },
            request_bytes_max: 1 << 20,
            idle: None,
            deadline: Duration::from_secs(10),
            store: Arc::default(),
            token: None,
            log: Log::none(),
        }
    }
}
