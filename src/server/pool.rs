//! Worker threads, to which a loop lends connections.
//!
//! In pool mode a worker serves a connection from its first byte to its last: the kernel switches between clients. In
//! event mode it carries out one request that may take long, while the loop goes on with its other connections. Either
//! way the connection itself is handed over, and comes back by a channel. It is the loop's or a worker's and never
//! both's, so no lock is needed for it.
//!
//! Workers are started as connections come, up to a limit, and end when they have had nothing to do for a while, so there
//! are as many as the load needs. They are scoped: `thread::scope` does not return before each has ended.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::connection::{Connection, Need};
use super::{Level, Server};
use crate::session::Workspace;
use crate::sys::{Interest, wait_ready};

/// A request needs far less than std's 2 MiB, and an action may need half of one. Only pages that
/// are touched take memory, but a limit on address space counts all of them, for each worker.
const STACK_BYTES: usize = 1 << 20;
/// How long a worker without work stays. Starting a thread takes 50 to 100 us, which a client that
/// reconnects should not pay each time; a burst's workers should not hold their memory for ever.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How long a client may keep others waiting without having said a word, where one is served after another.
const PATIENCE: Duration = Duration::from_secs(1);
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
    pub bell: Arc<Bell>,
    queue: Mutex<Queue<'c>>,
    /// Notified when a connection is lent, and at the end.
    wake: Condvar,
}

#[derive(Default)]
struct Queue<'c> {
    waiting: VecDeque<Lent<'c>>,
    threads: usize,
    /// Workers without work, less what waits for them or has been promised one. Below zero, requests wait for a worker.
    spare: isize,
    is_closed: bool,
}

impl<'c> Pool<'c> {
    /// A pool without a worker yet, and where what it was lent comes back.
    pub fn new(
        server: &'c Server,
        work: Work,
        threads_max: usize,
    ) -> io::Result<(Pool<'c>, Receiver<Lent<'c>>)> {
        let ((home, returned), bell, queue, wake) =
            (channel(), Bell::new()?, Mutex::default(), Condvar::new());
        Ok((Pool { server, work, threads_max, home, bell, queue, wake }, returned))
    }

    /// Promises a worker for one connection, starting one where none is free. Where the system has no thread for it, or
    /// there are enough, the answer is no to a connection that would keep a worker for as long as it likes; a request
    /// that may take long waits for one of those that there are.
    pub fn promise<'s>(&'s self, scope: &'s Scope<'s, '_>) -> bool {
        let mut queue = self.lock();
        if queue.spare <= 0 && queue.threads < self.threads_max {
            match Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || self.run()) {
                Ok(_) => (queue.threads, queue.spare) = (queue.threads + 1, queue.spare + 1),
                Err(error) => self.server.log.event(Level::Error, "no_thread", &[("error", &error)]),
            }
        }
        let may_wait = self.work == Work::Act && queue.threads > 0;
        let is_promised = queue.spare > 0 || may_wait;
        queue.spare -= isize::from(is_promised);
        is_promised
    }

    /// Hands a connection to the worker that it was promised.
    pub fn lend(&self, lent: Lent<'c>) {
        self.lock().waiting.push_back(lent);
        self.wake.notify_one();
    }

    /// Has workers end when nothing waits any more.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_all();
    }

    fn run(&self) {
        let workers = &self.server.core.stats.workers;
        workers.fetch_add(1, Relaxed);
        let mut workspace = Workspace::new(BUFFER_BYTES);
        while let Some(lent) = self.next() {
            self.work_on(lent, &mut workspace);
        }
        workers.fetch_sub(1, Relaxed);
    }

    fn work_on(&self, (number, mut connection): Lent<'c>, workspace: &mut Workspace) {
        match self.work {
            Work::Act => connection.act(),
            Work::Serve => serve(&mut connection, workspace, None),
        }
        // First of all: the loop may have another connection for this worker as soon as it has this one.
        self.lock().spare += 1;
        // While anything is lent, the loop is there to take it back.
        let _ = self.home.send((number, connection));
        self.bell.ring(number);
    }

    /// The next connection; `None` when the worker is to end.
    fn next(&self) -> Option<Lent<'c>> {
        let mut queue = self.lock();
        loop {
            let is_idle = |queue: &mut Queue<'_>| queue.waiting.is_empty() && !queue.is_closed;
            let woken = self.wake.wait_timeout_while(queue, IDLE_MAX, is_idle);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
            let lent = queue.waiting.pop_front();
            if lent.is_some() {
                return lent;
            }
            // One that is promised stays.
            if queue.spare > 0 || queue.is_closed {
                queue.threads -= 1;
                queue.spare -= 1;
                return None;
            }
        }
    }

    // Nothing between lock and unlock panics; should it ever, the counts are still whole numbers.
    fn lock(&self) -> MutexGuard<'_, Queue<'c>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a connection to its end, on this thread: takes its steps, and waits for what it needs between them. A client
/// that says nothing gives way after [`PATIENCE`] where `others`, the listener that they wait at, is ready.
pub(super) fn serve(
    connection: &mut Connection<'_>,
    workspace: &mut Workspace,
    others: Option<&TcpListener>,
) {
    let stop = connection.server.stop.told().as_fd();
    let (mut is_ready, mut is_stopping) = (true, false);
    let gives_way = Instant::now() + PATIENCE;
    // A bell takes two descriptors, and few clients watch.
    let mut bell = None;
    loop {
        let now = Instant::now();
        connection.step(now, is_ready, is_stopping, workspace);
        match connection.need {
            Need::Read | Need::Write => {}
            Need::Change => match bell.take().map_or_else(Bell::new, Ok) {
                Ok(rings) => connection.session.wake_by(bell.insert(rings).waker(0)),
                // Without a descriptor for it the watcher could not be told.
                Err(error) => return connection.go_on(|_| Err(error)),
            },
            Need::Sync(changes) => {
                connection.server.core.store.journal().map(|journal| journal.wait(changes));
                is_ready = false;
                continue;
            }
            Need::Act => {
                connection.act();
                is_ready = false;
                continue;
            }
            Need::End => return,
        }
        let changes = bell.as_ref().map(|bell| bell.reader().as_fd());
        let has_spoken = connection.session.requests() > 0 || connection.session.has_begun();
        let others = others.filter(|_| !has_spoken);
        let (due, others) = match others {
            Some(_) if now < gives_way => (connection.due().min(gives_way), None),
            others => (connection.due(), others.map(AsFd::as_fd)),
        };
        let [socket, told, changed, somebody_waits] = wait_ready(
            [
                (Some(connection.stream().as_fd()), connection.need.interest()),
                ((!is_stopping).then_some(stop), Interest::Read),
                (changes, Interest::Read),
                (others, Interest::Read),
            ],
            due.saturating_duration_since(now),
        );
        // It may have begun to speak just now. If not, nothing that it could miss was sent, so it is not lingered for.
        if somebody_waits && !socket {
            return connection.go_on(|_| Ok(Need::End));
        }
        (is_ready, is_stopping) = (socket, is_stopping || told);
        if let (true, Some(bell)) = (changed, &bell) {
            bell.answer();
        }
    }
}
