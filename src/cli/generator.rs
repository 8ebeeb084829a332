//! The load that `st bench` makes: one thread, many connections, and as little work for each request as can be.
//!
//! Each connection sends a batch, waits for all of its replies, notes how long that took, and sends the next one: one
//! write and one read a batch. The thread waits for all connections at once, by what the server's event loop waits
//! with. So the generator makes the system calls that a client must make, and a comparison of bytes; what limits the
//! rate is the server.
//!
//! That makes a closed loop: a slow server is asked less often. The times are those of clients who wait for their
//! replies, and say nothing of how a queue would grow that nobody holds back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::message::{Exit, Trouble};
use super::workload::{Batch, Target};
use crate::client::ClientError;
use crate::protocol::{Address, Request, Token, excerpt};
use crate::sys::{Interest, Poller};

/// How long connecting may take, and how long no reply of any connection may come.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is read at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Wrong replies that are kept to be counted. A batch of error replies is far smaller, and what sends more is no server
/// of ours.
const WRONG_BYTES_MAX: usize = 64 << 20;
/// What a server of ours says to the right token.
const AUTHENTICATED: &[u8] = b"{\"value\":\"ok\"}\n";

/// The system's number for "too many open files".
const EMFILE: i32 = 24;

/// Where to connect to, and what to show first.
pub(super) struct Endpoint {
    /// As it was written, for messages.
    pub address: Address,
    pub target: Target,
    pub token: Option<Token>,
}

impl Endpoint {
    /// Connects to the first of the name's addresses that answers.
    pub fn connect(&self) -> Result<TcpStream, Trouble> {
        let mut failed = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in self.address.resolve().map_err(ClientError::Address)? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    self.authenticate(&stream)?;
                    stream.set_nonblocking(true).map_err(no_poller)?;
                    return Ok(stream);
                }
                // That is up to this machine: each connection is a descriptor.
                Err(error) if error.raw_os_error() == Some(EMFILE) => {
                    return Err(Trouble::local(format_args!("{}: cannot connect", self.address), error));
                }
                Err(error) => failed = error,
            }
        }
        Err(ClientError::Connect(self.address.to_string(), failed).into())
    }

    /// Shows the token, and waits for the answer: requests alone are to be measured.
    fn authenticate(&self, mut stream: &TcpStream) -> Result<(), Trouble> {
        let Some(token) = &self.token else { return Ok(()) };
        let mut request = Vec::new();
        Request::Auth { token: token.as_str().into() }.write_to(&mut request);
        let mut reply = [0; AUTHENTICATED.len()];
        let exchanged = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.write_all(&request))
            .and_then(|()| stream.read_exact(&mut reply));
        match exchanged {
            Ok(()) if reply == AUTHENTICATED => Ok(()),
            Ok(()) => Err(self.refused(&reply)),
            Err(error) => Err(self.lost(error)),
        }
    }

    fn lost(&self, error: io::Error) -> Trouble {
        let address = self.address.to_string();
        match error.kind() {
            ErrorKind::WouldBlock => ClientError::Timeout(address).into(),
            _ => ClientError::Lost(address, error).into(),
        }
    }

    fn refused(&self, reply: &[u8]) -> Trouble {
        Trouble { exit: Exit::Refused, text: format!("{}: the reply was {}", self.address, excerpt(reply)) }
    }
}

fn no_poller(error: io::Error) -> Trouble {
    Trouble::local("cannot wait for sockets", error)
}

/// When a run ends. What is under way then is still answered, and counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Limit {
    Batches(u64),
    Until(Instant),
}

/// What the thread that makes the load and the one that watches it tell each other.
#[derive(Default)]
pub(super) struct Progress {
    /// Requests that were answered.
    pub answered: AtomicU64,
    /// No batch is to be begun any more.
    pub stop: AtomicBool,
}

/// What came of a run.
#[derive(Default)]
pub(super) struct Tally {
    pub requests: u64,
    /// Replies other than they must be, and the first of them.
    pub wrong: u64,
    pub first_wrong: Option<String>,
    /// How long all of it took.
    pub elapsed: Duration,
    /// How long each batch took, from its first byte sent to the last byte of its replies.
    pub times: Histogram,
}

impl Tally {
    /// Adds what another thread has counted.
    pub fn merge(&mut self, other: Tally) {
        self.requests += other.requests;
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.times.merge(&other.times);
    }

    /// Compares each line that came with what it must be.
    fn judge(&mut self, came: &[u8], batch: &Batch) {
        let lines = |bytes| <[u8]>::split_inclusive(bytes, |byte| *byte == b'\n');
        for (line, _) in lines(came).zip(lines(&batch.replies)).filter(|(line, right)| line != right) {
            self.wrong += 1;
            self.first_wrong.get_or_insert_with(|| excerpt(line));
        }
    }
}

/// One connection, and the batch that is under way on it.
struct Connection {
    stream: TcpStream,
    /// What the poller waits for.
    interest: Interest,
    /// Its number in the ring.
    batch: Option<usize>,
    since: Instant,
    /// How many of its bytes have been sent, and how many of its replies' have come as they must.
    sent: usize,
    came: usize,
    /// All that has come, once something else came.
    wrong: Vec<u8>,
}

/// What a read brought.
enum Came {
    Part,
    /// The last byte of the replies, and each byte was right.
    Whole,
    /// Something else than the replies.
    Wrong,
}

impl Connection {
    fn begin(&mut self, batch: usize, now: Instant) {
        (self.batch, self.since, self.sent, self.came) = (Some(batch), now, 0, 0);
        self.wrong.clear();
    }

    /// Sends what there is room for. That sending failed is found out by reading, which may bring the reason.
    fn send(&mut self, batch: &Batch) {
        self.sent += self.stream.write(&batch.requests[self.sent..]).unwrap_or(0);
    }

    /// Reads once: there is more to read later if this was not all.
    fn receive(&mut self, batch: &Batch, buffer: &mut [u8]) -> io::Result<Came> {
        let length = match self.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        let (right, due) = batch.replies.split_at(self.came);
        if self.wrong.is_empty() && due.starts_with(&buffer[..length]) {
            self.came += length;
            return Ok(if length == due.len() { Came::Whole } else { Came::Part });
        }
        if self.wrong.is_empty() {
            self.wrong.extend_from_slice(right);
        }
        self.wrong.extend_from_slice(&buffer[..length]);
        Ok(Came::Wrong)
    }
}

/// Connections, and what one thread needs to serve them.
pub(super) struct Generator<'a> {
    endpoint: &'a Endpoint,
    connections: Vec<Connection>,
    poller: Poller,
    buffer: Vec<u8>,
}

impl<'a> Generator<'a> {
    /// Connects so many times.
    pub fn connect(endpoint: &'a Endpoint, connections: usize) -> Result<Generator<'a>, Trouble> {
        let mut poller = Poller::new().map_err(no_poller)?;
        let connections = (0..connections as u64).map(|number| {
            let (stream, interest) = (endpoint.connect()?, Interest::Read);
            poller.add(&stream, number, interest).map_err(no_poller)?;
            let (since, wrong) = (Instant::now(), Vec::new());
            Ok(Connection { stream, interest, batch: None, since, sent: 0, came: 0, wrong })
        });
        let connections = connections.collect::<Result<_, Trouble>>()?;
        Ok(Generator { endpoint, connections, poller, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Sends the batches of the ring, from `first` on and again and again, over all connections.
    pub fn run(
        &mut self,
        ring: &[Batch],
        first: u64,
        limit: Limit,
        progress: &Progress,
    ) -> Result<Tally, Trouble> {
        let (mut tally, mut begun, mut open) = (Tally::default(), 0, 0);
        let mut next = |now: Instant| {
            let more = match limit {
                Limit::Batches(batches) => begun < batches,
                Limit::Until(end) => now < end,
            };
            let number = (first + begun) % ring.len() as u64;
            begun += 1;
            (more && !progress.stop.load(Relaxed)).then_some(number as usize)
        };
        let started = Instant::now();
        for at in 0..self.connections.len() {
            let now = Instant::now();
            let Some(batch) = next(now) else { break };
            self.connections[at].begin(batch, now);
            self.send(at, &ring[batch])?;
            open += 1;
        }
        let (mut ready, mut heard) = (Vec::new(), started);
        while open > 0 {
            self.poller.wait(&mut ready, Some(PATIENCE)).map_err(no_poller)?;
            for at in ready.iter().map(|number| *number as usize) {
                let Some(batch) = self.advance(at, ring, &mut tally)? else { continue };
                heard = Instant::now();
                tally.times.add(heard - self.connections[at].since);
                tally.requests += batch.count as u64;
                progress.answered.fetch_add(batch.count as u64, Relaxed);
                match next(heard) {
                    Some(batch) => {
                        self.connections[at].begin(batch, heard);
                        self.send(at, &ring[batch])?;
                    }
                    None => {
                        self.connections[at].batch = None;
                        open -= 1;
                    }
                }
            }
            // A signal, too, ends the wait without one that is ready.
            if ready.is_empty() && heard.elapsed() >= PATIENCE {
                return Err(self.endpoint.lost(ErrorKind::WouldBlock.into()));
            }
        }
        tally.elapsed = heard - started;
        Ok(tally)
    }

    /// Sends, and has the poller wait for room where not all could be sent. It waits for replies all the same: a server
    /// that cannot get rid of them reads no further, and each side would wait for the other.
    fn send(&mut self, at: usize, batch: &Batch) -> Result<(), Trouble> {
        let connection = &mut self.connections[at];
        connection.send(batch);
        let is_sent = connection.sent == batch.requests.len();
        let interest = if is_sent { Interest::Read } else { Interest::Both };
        if connection.interest != interest {
            connection.interest = interest;
            self.poller.change(&connection.stream, at as u64, interest).map_err(no_poller)?;
        }
        Ok(())
    }

    /// Sends and reads what can be, and gives the batch back once it is answered.
    fn advance<'r>(
        &mut self,
        at: usize,
        ring: &'r [Batch],
        tally: &mut Tally,
    ) -> Result<Option<&'r Batch>, Trouble> {
        // Nothing is due to one that has no batch, so what is there to be read is its end.
        let Some(number) = self.connections[at].batch else {
            return Err(self.endpoint.lost(ErrorKind::UnexpectedEof.into()));
        };
        let batch = &ring[number];
        if self.connections[at].interest == Interest::Both {
            self.send(at, batch)?;
        }
        let connection = &mut self.connections[at];
        let came = connection.receive(batch, &mut self.buffer);
        let wrong = &connection.wrong;
        match came {
            Ok(Came::Part) => Ok(None),
            Ok(Came::Whole) => Ok(Some(batch)),
            // Each reply of ours is a line. Where those of others end after a wrong one, nobody can say.
            Ok(Came::Wrong) if self.endpoint.target == Target::St && wrong.len() < WRONG_BYTES_MAX => {
                let whole = wrong.iter().filter(|byte| **byte == b'\n').count() >= batch.count;
                if whole {
                    tally.judge(wrong, batch);
                }
                Ok(whole.then_some(batch))
            }
            // It may have said why it ends: that it has no room for one more client, say.
            Ok(Came::Wrong) => Err(self.endpoint.refused(wrong)),
            Err(_) if !wrong.is_empty() => Err(self.endpoint.refused(wrong)),
            Err(error) => Err(self.endpoint.lost(error)),
        }
    }
}
