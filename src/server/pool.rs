//! Worker threads, to which a loop lends connections.
//!
//! In pool mode a worker serves a connection from its first byte to its last: the kernel switches between clients. In event
//! mode it carries out one request that may take long, while the loop goes on with its other connections. Either
//! way the connection itself is handed over, and comes back by a channel. It is the loop's or a worker's and never both's, so
//! no lock is needed for it.
//!
//! Workers are started as connections come, up to a limit, and end when they have had nothing to do for a while, so there
//! are as many as the load needs. They are scoped: `thread::scope` does not return before each has ended.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Duration;

use super::bell::Bell;
use super::connection::Connection;
use super::{Level, Server};

/// A request needs far less than std's 2 MiB, and an action may need half of one. Only pages that
/// are touched take memory, but a limit on address space counts all of them, for each worker.
const STACK_BYTES: usize = 1 << 20;
/// How long a worker without work stays. Starting a thread takes 50 to 100 us, which a client that
/// reconnects should not pay each time; a burst's workers should not hold their memory for ever.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// A worker's buffer is as small as a page: each idle connection in pool mode holds one.
const BUFFER_BYTES: usize = 4 << 10;

/// What workers do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Carry out the request that may take long.
    Act,
    /// Serve it to its end.
    Serve,
}

/// A connection that is lent, and its number.
pub(super) type Lent<'c> = (u64, Box<Connection<'c>>);

/// Workers, and what waits for them.
pub(super) struct Pool<'c> {
    server: &'c Server,
    pub work: Work,
    threads_max: usize,
    /// Where connections go back to, and what tells the loop.
    home: Sender<Lent<'c>>,
    bell: Arc<Bell>,
    queue: Mutex<Queue<'c>>,
    /// Notified when a connection is lent, and at the end.
    wake: Condvar,
}

#[derive(Default)]
struct Queue<'c> {
    waiting: VecDeque<Lent<'c>>,
    threads: usize,
    /// Workers that are idle, being woken or starting.
    idle: usize,
    is_closed: bool,
}

impl<'c> Pool<'c> {
    /// A pool without a worker yet.
    pub fn new(
        server: &'c Server,
        work: Work,
        threads_max: usize,
        home: Sender<Lent<'c>>,
        bell: Arc<Bell>,
    ) -> Pool<'c> {
        Pool { server, work, threads_max, home, bell, queue: Mutex::default(), wake: Condvar::new() }
    }

    /// Has a worker do its work on a connection, now or when one is free. Where there is none and the system has no thread for one, this
    /// thread does the work itself: others have to wait, which is better than to serve nobody.
    pub fn lend<'s>(&'s self, scope: &'s Scope<'s, '_>, lent: Lent<'c>) {
        let mut queue = self.lock();
        queue.waiting.push_back(lent);
        if queue.waiting.len() <= queue.idle || queue.threads == self.threads_max {
            return self.wake.notify_one();
        }
        // It counts before it runs, so that the next connection does not rely on it as well.
        queue.threads += 1;
        queue.idle += 1;
        drop(queue);
        let started = Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || self.run());
        if let Err(error) = started {
            self.server.log.event(Level::Error, "no_thread", &[("error", &error)]);
            let mut queue = self.lock();
            queue.threads -= 1;
            queue.idle -= 1;
            let lent = if queue.threads == 0 { queue.waiting.pop_back() } else { None };
            drop(queue);
            lent.map(|lent| self.work_on(lent, &mut [0; BUFFER_BYTES]));
        }
    }

    /// Has workers end when nothing waits any more.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_all();
    }

    fn run(&self) {
        let workers = &self.server.core.stats.workers;
        workers.fetch_add(1, Relaxed);
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Some(lent) = self.next() {
            self.work_on(lent, &mut buffer);
            self.lock().idle += 1;
        }
        workers.fetch_sub(1, Relaxed);
    }

    fn work_on(&self, (number, mut connection): Lent<'c>, buffer: &mut [u8]) {
        match self.work {
            Work::Act => connection.act(),
            Work::Serve => connection.serve(buffer),
        }
        // While anything is lent, the loop is there to take it back.
        let _ = self.home.send((number, connection));
        self.bell.ring(number);
    }

    /// The next connection; `None` when the worker is to end.
    fn next(&self) -> Option<Lent<'c>> {
        let is_idle = |queue: &mut Queue<'_>| queue.waiting.is_empty() && !queue.is_closed;
        let woken = self.wake.wait_timeout_while(self.lock(), IDLE_MAX, is_idle);
        let mut queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        queue.idle -= 1;
        let lent = queue.waiting.pop_front();
        queue.threads -= usize::from(lent.is_none());
        lent
    }

    // Nothing between lock and unlock panics; should it ever, the counts are still whole numbers.
    fn lock(&self) -> MutexGuard<'_, Queue<'c>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
