//! The pool: a worker thread for each live connection, up to a limit.
//!
//! A worker serves one connection from its first byte to its last, with blocking reads: the simplest
//! server there is, and the kernel schedules it well. Workers are started as connections come and retire
//! when they have been idle for a while, so the pool is as large as the load.
//!
//! The threads that accept do nothing else: they queue a connection and go on. The usher, a thread
//! of its own, sees to the queue: it starts workers while there are fewer than connections, and
//! when the limit is reached and a connection has waited for a second, it tells the client
//! `busy` and closes. All threads are scoped: they borrow what they share, and the
//! scope cannot end before each of them has.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, Scope};
use std::time::{Duration, Instant};

use super::log::{Level, Log};
use super::service::Accepted;
use crate::protocol::{Code, Failure, Framer, Reply};
use crate::session::Stats;

/// Far more than the deepest request needs, for actions that need more; what is not touched costs no memory.
const WORKER_STACK_BYTES: usize = 1 << 20;
/// How long a worker without a connection stays.
const WORKER_IDLE: Duration = Duration::from_secs(5);
/// How long a connection waits for a worker, and a refused one for its client to read why.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Connections that may wait, and refused ones that may linger. One more is closed at once.
const WAITING_MAX: usize = 4096;
/// How often the usher looks after refused connections, while there are any.
const TICK: Duration = Duration::from_millis(20);
/// The usher's rest after starting workers. Were it woken for each connection of a burst, it would take
/// the processor from the thread that accepts each time.
const BATCH: Duration = Duration::from_millis(1);
/// How long to wait after the system had no thread for us.
const START_AGAIN: Duration = Duration::from_millis(100);

/// Serves connections on a changing number of threads.
pub struct Pool<'p, F> {
    pub threads_max: usize,
    pub stats: &'p Stats,
    pub log: &'p Log,
    /// Serves one connection to its end.
    pub serve: F,
    pub queue: Mutex<Queue>,
    /// Told when a connection is queued for an idle worker, and at the end.
    pub work: Condvar,
    /// Told when a connection is queued and no worker is idle, and at the end.
    pub waiting: Condvar,
}

/// What the pool's threads share.
#[derive(Default)]
pub struct Queue {
    /// Accepted, and since when they wait.
    connections: VecDeque<(Accepted, Instant)>,
    workers: usize,
    /// Those of them without a connection: waiting for one, just being woken, or just being started.
    idle: usize,
    closed: bool,
}

impl<F: Fn(Accepted) + Sync> Pool<'_, F> {
    /// Starts the usher.
    pub fn open<'s>(&'s self, scope: &'s Scope<'s, '_>) -> std::io::Result<()> {
        Builder::new().name("usher".into()).spawn_scoped(scope, || self.usher(scope)).map(drop)
    }

    /// Takes a connection for a worker, present or future. Never waits, nor starts a thread: the
    /// kernel drops a client's SYN when the queue of those to be accepted is full, and holds only 128.
    pub fn submit(&self, accepted: Accepted) {
        let mut queue = self.lock();
        if queue.connections.len() >= WAITING_MAX {
            return self.count_refused(accepted.1);
        }
        queue.connections.push_back((accepted, Instant::now()));
        match queue.connections.len() <= queue.idle {
            true => self.work.notify_one(),
            false => self.waiting.notify_one(),
        }
    }

    /// Ends all threads as soon as they have nothing left to serve.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.connections.clear();
        self.work.notify_all();
        self.waiting.notify_all();
    }

    fn worker(&self) {
        self.stats.workers.fetch_add(1, Relaxed);
        while let Some(accepted) = self.next() {
            (self.serve)(accepted);
            self.lock().idle += 1;
        }
        self.stats.workers.fetch_sub(1, Relaxed);
    }

    /// The next connection; `None` when the worker is to end.
    fn next(&self) -> Option<Accepted> {
        let mut queue = self.lock();
        let mut timed_out = false;
        loop {
            let next = queue.connections.pop_front();
            if next.is_some() || queue.closed || timed_out {
                queue.idle -= 1;
                queue.workers -= usize::from(next.is_none());
                return next.map(|(accepted, _)| accepted);
            }
            let woken = self.work.wait_timeout(queue, WORKER_IDLE);
            let (guard, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            timed_out = timeout.timed_out();
        }
    }

    /// Starts workers where there are too few, and turns away who has waited too long.
    fn usher<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let mut lingering = Vec::new();
        let mut start_again = Instant::now();
        let mut started_some = false;
        let mut queue = self.lock();
        while !queue.closed {
            let now = Instant::now();
            let unserved = queue.connections.len() > queue.idle;
            let oldest = queue.connections.front().filter(|_| unserved);
            let left = oldest.map(|(_, since)| (*since + WAIT_MAX).saturating_duration_since(now));
            if unserved && queue.workers < self.threads_max && now >= start_again {
                queue.workers += 1;
                queue.idle += 1;
                drop(queue);
                let started = self.start_worker(scope);
                queue = self.lock();
                started_some = true;
                if !started {
                    queue.workers -= 1;
                    queue.idle -= 1;
                    start_again = now + START_AGAIN;
                }
            } else if left == Some(Duration::ZERO) {
                let overdue = queue.connections.pop_front();
                drop(queue);
                if let Some(((stream, peer), _)) = overdue {
                    self.count_refused(peer);
                    lingering.extend(refuse(stream).map(|stream| (stream, now)));
                }
                queue = self.lock();
            } else if mem::take(&mut started_some) {
                drop(queue);
                thread::sleep(BATCH);
                queue = self.lock();
            } else {
                // Unserved and below the limit: a thread could not be started and will be tried again.
                let soon = !lingering.is_empty() || unserved && queue.workers < self.threads_max;
                let tick = if soon { TICK } else { Duration::MAX };
                let woken = self.waiting.wait_timeout(queue, tick.min(left.unwrap_or(tick)));
                queue = woken.unwrap_or_else(PoisonError::into_inner).0;
                lingering.retain_mut(|(stream, since)| {
                    since.elapsed() < WAIT_MAX && drain(stream, &mut Vec::new())
                });
            }
        }
    }

    fn start_worker<'s>(&'s self, scope: &'s Scope<'s, '_>) -> bool {
        let started = Builder::new().stack_size(WORKER_STACK_BYTES).spawn_scoped(scope, || self.worker());
        if let Err(error) = &started {
            self.log.event(Level::Error, "no_thread", &[("error", error)]);
        }
        started.is_ok()
    }

    fn count_refused(&self, peer: SocketAddr) {
        self.stats.refused.fetch_add(1, Relaxed);
        self.log.event(Level::Info, "busy", &[("peer", &peer)]);
    }

    // Nothing between lock and unlock panics; should it ever, the counts are still whole numbers.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a client that there is no worker for it. The connection must linger until the client has
/// read that: closed with bytes unread, it would be reset, and the reply thrown away.
fn refuse(mut stream: TcpStream) -> Option<TcpStream> {
    stream.set_nonblocking(true).ok()?;
    let mut request = Vec::new();
    let open = drain(&mut stream, &mut request);
    let mut framer = Framer::default();
    let request = request.trim_ascii_start();
    if !request.is_empty() {
        framer.next(request, false, usize::MAX);
    }
    let mut reply = Vec::new();
    let failure = Failure::new(Code::Busy, "every worker of this server has a connection; try again");
    Reply::Failure(&failure).write_to(framer.form(None), &mut reply);
    stream.write_all(&reply).ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    open.then_some(stream)
}

/// Reads what has arrived, and keeps the first of it; false when the connection has ended.
fn drain(stream: &mut TcpStream, first: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 4096];
    // Bounded, so that one client cannot keep the usher to itself.
    for _ in 0..16 {
        match stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(n) if first.is_empty() => first.extend_from_slice(&bytes[..n]),
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
    true
}
