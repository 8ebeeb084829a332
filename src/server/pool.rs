//! Pool mode: a worker thread for each live connection, up to a limit.
//!
//! A worker serves one connection from its first byte to its last, with blocking reads: the simplest
//! server there is, and the kernel schedules it well. Three kinds of threads share the work:
//!
//! - **Acceptors** take connections from the kernel, put them into the backlog, and do nothing else.
//! - **Workers** take connections from the backlog and serve them. They are started as connections come
//!   and end when they have had nothing to do for a while, so the pool is as large as its load.
//! - The **usher** looks after the backlog: it starts workers while too few are idle, and when the limit is
//!   reached and a connection has waited for a second, it tells the client `busy` and closes.
//!
//! This looks like one kind too many, and was not: the kernel holds 128 connections that nobody has
//! accepted yet, drops the SYN of any client beyond those, and a client whose SYN was dropped tries again
//! after a second. When one thread accepted and also started the workers, a burst of 10,000 connects took
//! 2 to 5 s. Four acceptors that never wait for anything else keep those 128 places free.
//!
//! All threads are scoped: they borrow the server instead of counting references to it, and
//! `thread::scope` does not return before each of them has ended. There is no way
//! around the limit: a thread for each client, however many there are, would let a flood take all memory.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, Scope};
use std::time::{Duration, Instant};

use super::connection::{LINGER_MAX, ServedConnection, still_sends};
use super::listener::Accepted;
use super::{Level, Server};
use crate::protocol::{Code, Failure, Framer, Reply};

/// Threads that accept. A client can fill the kernel's 128 places in three milliseconds; the scheduler may
/// well leave one thread waiting for a processor that long, and rarely four at once.
const ACCEPTORS: usize = 4;
/// A request needs far less than std's 2 MiB, and an action may need half of one. Only pages that
/// are touched take memory, but a limit on address space counts all of them, for each worker.
const WORKER_STACK_BYTES: usize = 1 << 20;
/// How long a worker without a connection stays. Starting a thread takes 50 to 100 us, which a client that
/// reconnects should not pay each time; a burst's workers should not hold their memory for ever.
const WORKER_IDLE_MAX: Duration = Duration::from_secs(5);
/// How long a connection waits for a worker.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Connections that may wait. One more is closed at once, without a word, so that a flood of clients
/// takes no more than this many descriptors from those that are served.
const WAITING_MAX: usize = 4096;
/// How often the usher looks after connections that wait or linger, while there are any.
const TICK: Duration = Duration::from_millis(20);
/// The usher's rest after starting workers. Were it woken for each connection of a burst, it would take
/// the processor from the acceptors each time.
const BATCH: Duration = Duration::from_millis(1);
/// The usher's rest when the system had no thread for it. Others must end first; asking does not help.
const START_AGAIN: Duration = Duration::from_millis(100);

/// What the threads of pool mode share.
pub(super) struct Pool<'s> {
    server: &'s Server,
    threads_max: usize,
    backlog: Mutex<Backlog>,
    /// Notified when a connection waits that an idle worker can take, and when the server stops.
    wake_worker: Condvar,
    /// Notified when a connection waits and no worker is idle, and when the server stops.
    wake_usher: Condvar,
}

#[derive(Default)]
struct Backlog {
    /// Accepted connections, and until when each of them waits.
    waiting: VecDeque<(Accepted, Instant)>,
    /// Workers that are idle, being woken or starting: each will take a connection without the usher's help.
    idle: usize,
}

impl Backlog {
    /// How many connections no idle worker will take.
    fn unserved(&self) -> usize {
        self.waiting.len().saturating_sub(self.idle)
    }

    /// Takes out the connections that have waited too long; the oldest come first.
    fn take_overdue(&mut self) -> Vec<Accepted> {
        let now = Instant::now();
        let oldest = self.waiting.iter().take(self.unserved());
        let overdue = oldest.take_while(|(_, due)| now >= *due).count();
        self.waiting.drain(..overdue).map(|(accepted, _)| accepted).collect()
    }
}

impl Server {
    /// Serves clients side by side until the server stops.
    pub(super) fn run_pool(&self, threads_max: usize) -> io::Result<()> {
        let (backlog, wake_worker, wake_usher) = (Mutex::default(), Condvar::new(), Condvar::new());
        let pool = Pool { server: self, threads_max, backlog, wake_worker, wake_usher };
        // The kernel's table of a process's descriptors doubles when it is full, and where there are threads
        // that stops the one that needs it for tens of milliseconds: in a burst, long enough for the 128
        // places to overflow. Filling it once, before there is a client, makes it as large as it must be.
        drop((0..threads_max).map_while(|_| self.listener.try_clone().ok()).collect::<Vec<_>>());
        thread::scope(|scope| {
            Builder::new().name("usher".into()).spawn_scoped(scope, || pool.usher(scope))?;
            // Where the system has no thread for the others, this one accepts alone.
            (1..ACCEPTORS).for_each(|_| drop(Builder::new().spawn_scoped(scope, || pool.accept_all())));
            pool.accept_all();
            // Workers and the usher look at the server's flag while they hold this lock, so none of them can
            // find it unset and begin to wait after it has been notified.
            pool.lock().waiting.clear();
            pool.wake_worker.notify_all();
            pool.wake_usher.notify_all();
            Ok(())
        })
    }
}

impl Pool<'_> {
    /// Puts connections into the backlog until the server stops. It neither waits there nor starts a thread, so
    /// that it is back in `accept` before the kernel's 128 places are taken.
    fn accept_all(&self) {
        while let Some(accepted) = self.server.accept() {
            let mut backlog = self.lock();
            if backlog.waiting.len() >= WAITING_MAX {
                self.count_refused(accepted.1);
                continue;
            }
            backlog.waiting.push_back((accepted, Instant::now() + WAIT_MAX));
            match backlog.unserved() {
                0 => self.wake_worker.notify_one(),
                _ => self.wake_usher.notify_one(),
            }
        }
        // Another acceptor still blocks in accept(): wake it too.
        self.server.stop.wake();
    }

    fn worker(&self) {
        while let Some(accepted) = self.next_connection() {
            ServedConnection::new(self.server, accepted).serve();
            self.lock().idle += 1;
        }
    }

    /// Waits for the next connection; `None` when the worker is to end.
    fn next_connection(&self) -> Option<Accepted> {
        let is_idle = |backlog: &mut Backlog| backlog.waiting.is_empty() && !self.server.stop.is_stopping();
        let woken = self.wake_worker.wait_timeout_while(self.lock(), WORKER_IDLE_MAX, is_idle);
        let (mut backlog, _) = woken.unwrap_or_else(PoisonError::into_inner);
        let next = backlog.waiting.pop_front();
        backlog.idle -= 1;
        if next.is_none() {
            self.workers().fetch_sub(1, Relaxed);
        }
        next.map(|(accepted, _)| accepted)
    }

    /// Starts workers where there are too few, and turns away clients that have waited too long.
    fn usher<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let mut lingering: Vec<(TcpStream, Instant)> = Vec::new();
        let mut backlog = self.lock();
        while !self.server.stop.is_stopping() {
            // Workers count before they run, so that nobody starts another one for the same connection; and
            // they are started without the lock, which the acceptors need meanwhile.
            let missing = self.missing(&backlog);
            backlog.idle += missing;
            self.workers().fetch_add(missing as u64, Relaxed);
            drop(backlog);
            let failed = missing - (0..missing).take_while(|_| self.start_worker(scope)).count();
            if missing > 0 {
                thread::sleep(if failed > 0 { START_AGAIN } else { BATCH });
            }
            lingering.retain(|(stream, due)| Instant::now() < *due && still_sends(stream));

            backlog = self.lock();
            backlog.idle -= failed;
            self.workers().fetch_sub(failed as u64, Relaxed);
            let overdue = backlog.take_overdue();
            drop(backlog);
            lingering.extend(overdue.into_iter().filter_map(|accepted| self.refuse(accepted).ok()));

            backlog = self.lock();
            let is_quiet = lingering.is_empty() && backlog.unserved() == 0;
            let tick = if is_quiet { Duration::MAX } else { TICK };
            // Between ticks the usher is needed only by connections for which a worker can be started; one that
            // came while it was busy above is seen before it waits.
            let goes_on = |backlog: &mut Backlog| {
                let needed_by = if is_quiet { backlog.unserved() } else { self.missing(backlog) };
                needed_by == 0 && !self.server.stop.is_stopping()
            };
            let woken = self.wake_usher.wait_timeout_while(backlog, tick, goes_on);
            backlog = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many workers are to be started.
    fn missing(&self, backlog: &Backlog) -> usize {
        backlog.unserved().min(self.threads_max - self.workers().load(Relaxed) as usize)
    }

    /// How many worker threads there are, as INFO tells it. It changes only under the backlog's lock.
    fn workers(&self) -> &AtomicU64 {
        &self.server.core.stats.workers
    }

    fn start_worker<'s>(&'s self, scope: &'s Scope<'s, '_>) -> bool {
        let started = Builder::new().stack_size(WORKER_STACK_BYTES).spawn_scoped(scope, || self.worker());
        if let Err(error) = &started {
            self.server.log.event(Level::Error, "no_thread", &[("error", error)]);
        }
        started.is_ok()
    }

    /// Tells a client that there is no worker for it, in the dialect that its first bytes choose. Closing
    /// without a word would leave it guessing whether the server is down; `busy` says that a later try
    /// may succeed, and that nothing has been carried out. The connection then has to linger.
    fn refuse(&self, (mut stream, peer): Accepted) -> io::Result<(TcpStream, Instant)> {
        self.count_refused(peer);
        stream.set_nonblocking(true)?;
        let mut sent = [0; 4096];
        let arrived = stream.read(&mut sent).unwrap_or(0);
        let mut framer = Framer::default();
        let request = sent[..arrived].trim_ascii_start();
        if !request.is_empty() {
            framer.next(request, false, usize::MAX);
        }
        let mut reply = Vec::new();
        let failure = Failure::new(Code::Busy, "every worker of this server has a connection; try again");
        Reply::Failure(&failure).write_to(framer.form(None), &mut reply);
        // A new connection's buffer has room for this, so the write does not fail for want of it.
        stream.write_all(&reply)?;
        stream.shutdown(Shutdown::Write)?;
        Ok((stream, Instant::now() + LINGER_MAX))
    }

    fn count_refused(&self, peer: SocketAddr) {
        self.server.core.stats.refused.fetch_add(1, Relaxed);
        self.server.log.event(Level::Info, "busy", &[("peer", &peer)]);
    }

    // Nothing between lock and unlock panics; should it ever, the counts are still whole numbers.
    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
