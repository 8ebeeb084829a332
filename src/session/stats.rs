//! What an operator asks about: counters and gauges, as INFO tells them.
//!
//! A session counts for itself and adds up once a batch, so that requests on two processors do not
//! fight over one cache line.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::actions::REQUESTS;
use crate::json::{Object, Value};
use crate::protocol::{Code, Request};

/// Counters of the whole server.
#[derive(Default)]
pub struct Stats {
    /// Of each of [`REQUESTS`], in their order.
    requests: [AtomicU64; REQUESTS.len()],
    /// Calls of each action.
    calls: BTreeMap<String, AtomicU64>,
    errors: [AtomicU64; Code::ALL.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Connections open.
    pub connections: AtomicU64,
    /// Threads that serve connections.
    pub workers: AtomicU64,
    /// Connections turned away because every worker had one.
    pub refused: AtomicU64,
    /// Connections closed because a deadline passed.
    pub timed_out: AtomicU64,
}

impl Stats {
    /// Counters at zero, one for each of these actions.
    pub fn new<'n>(actions: impl Iterator<Item = &'n str>) -> Stats {
        Stats {
            calls: actions.map(|name| (name.to_owned(), AtomicU64::new(0))).collect(),
            ..Stats::default()
        }
    }

    /// Counts a call of an action, if there is one of this name.
    pub fn call(&self, name: &str) {
        if let Some(counter) = self.calls.get(name) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// The counters as members of INFO.
    pub fn members(&self) -> Vec<(&'static str, Value)> {
        let number = |counter: &AtomicU64| Value::from(counter.load(Relaxed));
        let requests = REQUESTS.iter().map(|spec| spec.name).zip(&self.requests);
        let calls = self.calls.iter().map(|(name, counter)| (name.as_str(), counter));
        let errors = Code::ALL.iter().map(|code| code.as_str()).zip(&self.errors);
        vec![
            ("accepted", number(&self.accepted)),
            ("connections", number(&self.connections)),
            ("workers", number(&self.workers)),
            ("refused", number(&self.refused)),
            ("timed_out", number(&self.timed_out)),
            ("requests", told(requests.chain(calls))),
            ("errors", told(errors)),
            ("bytes_in", number(&self.bytes_in)),
            ("bytes_out", number(&self.bytes_out)),
        ]
    }
}

/// The counters that have counted anything.
fn told<'n>(counters: impl Iterator<Item = (&'n str, &'n AtomicU64)>) -> Value {
    let mut object = Object::new();
    for (name, counter) in counters {
        match counter.load(Relaxed) {
            0 => {}
            n => object.push(name, n),
        }
    }
    Value::Object(object)
}

/// What one session has counted and not yet added up.
#[derive(Default)]
pub struct Counts {
    requests: [u32; REQUESTS.len()],
    errors: [u32; Code::ALL.len()],
    bytes_in: u64,
    bytes_out: u64,
}

impl Counts {
    pub fn request(&mut self, request: &Request) {
        let at = match request {
            Request::Get { .. } => 0,
            Request::Update { .. } => 1,
            Request::Increment { .. } => 2,
            Request::Delete { .. } => 3,
            Request::GetAll { .. } => 4,
            Request::Keys { .. } => 5,
            Request::Count { .. } => 6,
            Request::Watch { .. } => 7,
            Request::Auth { .. } => 8,
            Request::Close => 9,
            Request::Call { .. } => return,
        };
        self.requests[at] += 1;
    }

    pub fn error(&mut self, code: Code) {
        self.errors[code as usize] += 1;
    }

    pub fn received(&mut self, n: usize) {
        self.bytes_in += n as u64;
    }

    pub fn sent(&mut self, n: usize) {
        self.bytes_out += n as u64;
    }

    /// Adds all to the server's counters.
    pub fn flush(&mut self, stats: &Stats) {
        let counters = stats.requests.iter().zip(&mut self.requests);
        for (total, n) in counters.chain(stats.errors.iter().zip(&mut self.errors)) {
            if *n > 0 {
                total.fetch_add(u64::from(std::mem::take(n)), Relaxed);
            }
        }
        stats.bytes_in.fetch_add(std::mem::take(&mut self.bytes_in), Relaxed);
        stats.bytes_out.fetch_add(std::mem::take(&mut self.bytes_out), Relaxed);
    }
}
