//! What `st bench` sends, and what must come back.
//!
//! All of it is written before the first request is sent: a generator that formats requests while it measures is itself
//! a part of what is measured. And all of it is known beforehand. A key has one value for the whole run, so a batch of
//! requests has one right answer, to the byte; comparing it costs less than looking for the ends of lines, and finds
//! every error.
//!
//! Redis and memcached are spoken to for one reason, that of comparing: by one generator, with the same keys, values and
//! shares of writes. Only what a benchmark needs of their protocols is here: setting, getting, deleting.

use std::iter::from_fn;

/// A ring holds as many requests as there are keys, but at least so many, and no more than fit into these bytes: then
/// most keys have their turn, and more than a processor's cache holds stay as slow as they are.
const RING_REQUESTS_MIN: u64 = 10_000;
const RING_BYTES_MAX: usize = 64 << 20;
/// With fewer batches a ring would repeat itself too soon.
const RING_BATCHES_MIN: usize = 16;
/// Setting and deleting all keys is done in batches of about so many bytes, whatever depth is measured.
const SWEEP_BYTES: usize = 16 << 10;

/// A key's number is written with as many, and its value begins with zeros and ends with it.
const KEY_DIGITS: usize = 10;

/// Whose protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Ours, in JSON.
    St,
    /// That of Redis.
    Redis,
    /// The text protocol of memcached.
    Memcached,
}

/// What to do with a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Set,
    Get,
    Delete,
}

/// Requests that are sent in one piece, and all that must come back before the next piece is sent.
#[derive(Default)]
pub(super) struct Batch {
    pub requests: Vec<u8>,
    pub replies: Vec<u8>,
    pub count: usize,
}

/// What is asked of whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    /// Who is asked.
    pub target: Target,
    /// Requests that a connection sends before it waits for their replies.
    pub depth: usize,
    /// The length of a value.
    pub bytes: usize,
    /// How many keys there are.
    pub keys: u64,
    /// Of a hundred requests, so many are writes.
    pub writes: u64,
}

impl Workload {
    /// Batches to be sent again and again: of random keys, and random in what is a write.
    pub(super) fn ring(&self) -> Vec<Batch> {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |limit: u64| {
            // Marsaglia's xorshift: the same numbers in each run, so that two runs ask the same.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 11) % limit
        };
        let wanted = self.keys.max(RING_REQUESTS_MIN) as usize / self.depth;
        let (mut ring, mut bytes) = (Vec::new(), 0);
        while ring.len() < RING_BATCHES_MIN || (ring.len() < wanted && bytes < RING_BYTES_MAX) {
            let mut batch = Batch::default();
            for _ in 0..self.depth {
                let verb = if below(100) < self.writes { Verb::Set } else { Verb::Get };
                self.add(&mut batch, verb, below(self.keys));
            }
            bytes += batch.requests.len() + batch.replies.len();
            ring.push(batch);
        }
        ring
    }

    /// Batches that do the same with every key, one after another.
    pub(super) fn sweep(&self, verb: Verb) -> impl Iterator<Item = Batch> {
        let mut keys = 0..self.keys;
        from_fn(move || {
            let mut batch = Batch::default();
            while batch.requests.len() < SWEEP_BYTES
                && let Some(key) = keys.next()
            {
                self.add(&mut batch, verb, key);
            }
            (batch.count > 0).then_some(batch)
        })
    }

    /// Adds a request and its reply. Keys have one length and values have one, so that all requests weigh the same.
    #[rustfmt::skip]
    fn add(&self, batch: &mut Batch, verb: Verb, key: u64) {
        let bytes = self.bytes;
        let value = "0".repeat(bytes.saturating_sub(KEY_DIGITS)) + &format!("{key:0KEY_DIGITS$}");
        let value = &value[value.len() - bytes..];
        let key = format!("bench:{key:0KEY_DIGITS$}");
        let length = key.len();
        let (request, reply) = match (self.target, verb) {
            (Target::St, verb) => {
                let reply = format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}\n");
                let request = match verb {
                    Verb::Set => format!("{{\"request\":\"UPDATE\",\"key\":\"{key}\",\"value\":\"{value}\"}}\n"),
                    Verb::Get => format!("{{\"request\":\"GET\",\"key\":\"{key}\"}}\n"),
                    Verb::Delete => format!("{{\"request\":\"DELETE\",\"key\":\"{key}\"}}\n"),
                };
                (request, reply)
            }
            (Target::Redis, Verb::Set) =>
                (format!("*3\r\n$3\r\nSET\r\n${length}\r\n{key}\r\n${bytes}\r\n{value}\r\n"), "+OK\r\n".into()),
            (Target::Redis, Verb::Get) =>
                (format!("*2\r\n$3\r\nGET\r\n${length}\r\n{key}\r\n"), format!("${bytes}\r\n{value}\r\n")),
            (Target::Redis, Verb::Delete) =>
                (format!("*2\r\n$3\r\nDEL\r\n${length}\r\n{key}\r\n"), ":1\r\n".into()),
            (Target::Memcached, Verb::Set) =>
                (format!("set {key} 0 0 {bytes}\r\n{value}\r\n"), "STORED\r\n".into()),
            (Target::Memcached, Verb::Get) =>
                (format!("get {key}\r\n"), format!("VALUE {key} 0 {bytes}\r\n{value}\r\nEND\r\n")),
            (Target::Memcached, Verb::Delete) => (format!("delete {key}\r\n"), "DELETED\r\n".into()),
        };
        batch.requests.extend_from_slice(request.as_bytes());
        batch.replies.extend_from_slice(reply.as_bytes());
        batch.count += 1;
    }
}
