//! What all sessions of a server share: the state and rules by which they answer, and the counters that INFO tells.
//!
//! Threads on two processors that add to one counter take turns at one cache line, which costs each of them more
//! than a GET's own work. So a session counts for itself, in [`Counts`], and adds up once a batch.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::actions::Actions;
use crate::json::Value;
use crate::protocol::{Code, Token, Verb};
use crate::store::Store;

/// The shared state and the rules that a session needs to answer requests.
#[derive(Default)]
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

/// Counters of the whole server. They are read one by one while others count on: what INFO tells is of no single
/// moment, and nothing is decided by it, so `Relaxed` is order enough.
#[derive(Default)]
pub struct Stats {
    /// By [`Verb`].
    requests: [AtomicU64; Verb::ALL.len()],
    /// Calls of each action.
    calls: BTreeMap<String, AtomicU64>,
    /// By [`Code`].
    errors: [AtomicU64; Code::ALL.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Connections open.
    pub connections: AtomicU64,
    /// Threads that serve connections, or help the one that does.
    pub workers: AtomicU64,
    /// Connections turned away because there were as many as there may be.
    pub refused: AtomicU64,
    /// Connections closed because a deadline passed.
    pub timed_out: AtomicU64,
}

impl Stats {
    /// Counters at zero, one for each of these actions. The map is never changed afterwards, so that counting a call
    /// takes no lock.
    pub fn new<'n>(actions: impl Iterator<Item = &'n str>) -> Stats {
        let calls = actions.map(|name| (name.to_owned(), AtomicU64::new(0))).collect();
        Stats { calls, ..Stats::default() }
    }

    /// Counts a call of an action, if there is one of this name.
    pub fn call(&self, name: &str) {
        if let Some(counter) = self.calls.get(name) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Counts an error reply.
    pub fn error(&self, code: Code) {
        self.errors[code as usize].fetch_add(1, Relaxed);
    }

    /// The counters as members of INFO.
    pub fn members(&self) -> Vec<(&'static str, Value)> {
        let number = |counter: &AtomicU64| Value::from(counter.load(Relaxed));
        let requests = Verb::ALL.iter().map(|verb| verb.as_str()).zip(&self.requests);
        let calls = self.calls.iter().map(|(name, counter)| (name.as_str(), counter));
        let errors = Code::ALL.iter().map(|code| code.as_str()).zip(&self.errors);
        vec![
            ("accepted", number(&self.accepted)),
            ("connections", number(&self.connections)),
            ("workers", number(&self.workers)),
            ("refused", number(&self.refused)),
            ("timed_out", number(&self.timed_out)),
            ("requests", above_zero(requests.chain(calls))),
            ("errors", above_zero(errors)),
            ("bytes_in", number(&self.bytes_in)),
            ("bytes_out", number(&self.bytes_out)),
        ]
    }
}

/// The counters that have counted anything.
fn above_zero<'n>(counters: impl Iterator<Item = (&'n str, &'n AtomicU64)>) -> Value {
    let counts = counters.map(|(name, counter)| (name, counter.load(Relaxed)));
    Value::Object(counts.filter(|(_, n)| *n > 0).collect())
}

/// What one session has counted and not yet added up. Errors are added one by one, since they are rare: to look at
/// their counters after each batch, too, took 1,000 instructions of the 4,400 of a GET that came alone.
#[derive(Default)]
pub(super) struct Counts {
    /// By [`Verb`].
    pub requests: [u32; Verb::ALL.len()],
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Counts {
    /// Adds all to the server's counters. What is zero is not added: most are, and each addition locks a cache line.
    pub fn flush(&mut self, stats: &Stats) {
        for (total, n) in stats.requests.iter().zip(&mut self.requests) {
            if *n > 0 {
                total.fetch_add(u64::from(mem::take(n)), Relaxed);
            }
        }
        for (total, n) in [(&stats.bytes_in, &mut self.bytes_in), (&stats.bytes_out, &mut self.bytes_out)] {
            if *n > 0 {
                total.fetch_add(mem::take(n), Relaxed);
            }
        }
    }
}
