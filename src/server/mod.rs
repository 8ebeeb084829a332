//! The server: listens, accepts, and has each connection served in one of four modes.
//!
//! | mode | who serves | what it teaches |
//! |---|---|---|
//! | [`Mode::Once`], [`Mode::Iterative`] | this thread, one client after another | the smallest server there is |
//! | [`Mode::Pool`] | a worker thread for each client | to wait for one client a thread, and let the kernel switch |
//! | [`Mode::Event`] | one thread, all clients | to wait for all of them at once, and never for one |
//!
//! The first has a flaw: a client keeps all others waiting, be it only a second that it says nothing. Threads mend that,
//! at the price of a switch of threads for each request and a stack for each client. The event loop saves both, at the
//! price of a rule: nothing that it does may take long.
//!
//! All of them serve the same `Connection`; they differ in how many connections a thread waits for. Who asks for
//! the mode is this file alone: for what a session is, how long a client may be silent, and whether it may WATCH.
//!
//! Read the files in this order: `setup` (what a server is given), `listener` (taking a port, accepting, stopping),
//! `running` (a server on a thread of its own), `connection` (one client), `pool`
//! (threads that serve or help), `bell` (waking what waits), `event_loop` (many), `info`, `log`. What the bytes mean is the
//! session's business and not known here. Considered and left: a thread for each connection without a bound (a flood of
//! clients would take all memory).

mod bell;
mod connection;
mod event_loop;
mod info;
mod listener;
mod log;
mod pool;
mod running;
mod setup;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, Builder, Scope as Threads};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::protocol::Scope;
use crate::session::{Core, Session, Stats, Workspace};
use crate::store::{Change, Durability, Journal, WatchEnd, Watcher};
use crate::sys::{Interest, raise_descriptors, wait_ready};
use connection::{Connection, YEAR};
use event_loop::{EventLoop, WAITING_MAX};
pub use listener::{BindError, ShutdownHandle};
use listener::{Place, SMALL_STACK_BYTES};
pub use log::{Level, Log};
use pool::{Pool, Work, serve};
pub use running::Running;
pub use setup::Options;

/// Who serves how many clients at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One request, then [`Server::run`] returns.
    Once,
    /// One client after another.
    Iterative,
    /// Many clients on one thread.
    Event {
        /// The most clients at once.
        connections: usize,
    },
    /// Many clients, a worker each.
    Pool {
        /// The most clients at once.
        threads: usize,
    },
}

impl Mode {
    /// Event mode with as many connections as it has where nothing else is said.
    pub const EVENT: Mode = Mode::Event { connections: 10_000 };
    /// Pool mode with as many workers as it has where nothing else is said.
    pub const POOL: Mode = Mode::Pool { threads: 512 };
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Once => "once",
            Mode::Iterative => "iterative",
            Mode::Event { .. } => "event",
            Mode::Pool { .. } => "pool",
        })
    }
}

/// Workers for what may take long in event mode.
const HELPERS_MAX: usize = 512;

type Callback = Box<dyn Fn(&Change) + Send + Sync>;

/// A server that has its port. [The crate's page](crate) shows one at work. Once it runs, its threads share
/// it and nothing in it changes but what has its own lock.
///
/// ```
/// use socket_tables::client::Client;
/// use socket_tables::server::Server;
///
/// let server = Server::bind("127.0.0.1:0")?.action("SHOUT", |call| Ok(call.data_str()?.to_uppercase()))?.start()?;
/// let mut client = Client::connect(server.address())?;
/// assert_eq!(client.call("SHOUT", "hi")?.as_str(), Some("HI"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    listener: TcpListener,
    stop: ShutdownHandle,
    mode: Mode,
    idle: Option<Duration>,
    deadline: Duration,
    log: Log,
    /// What sessions need to answer requests.
    core: Core,
    callbacks: Vec<(Scope<'static>, Callback)>,
}

impl Server {
    /// Serves until it is shut down (in [`Mode::Once`]: until one request is answered). Requests
    /// under way are finished, and every thread has ended when this returns.
    ///
    /// Where the store has a journal, this is what writes it. A journal that fails ends the server, and no change is
    /// acknowledged any more.
    ///
    /// This takes the thread that calls it; [`Server::start`] takes one of its own.
    ///
    /// ```no_run
    /// # use socket_tables::server::Server;
    /// Server::bind("7777")?.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(mut self) -> io::Result<()> {
        // A client that watches is served for as long as it likes. In the first two modes no other client would be.
        self.core.may_watch = match self.mode {
            Mode::Once | Mode::Iterative => false,
            Mode::Event { .. } | Mode::Pool { .. } => true,
        };
        self.core.stats = Arc::new(Stats::new(self.core.actions.names()));
        self.core.actions.info = self.info();
        let server = &self;
        // The watches begin before the first request can come, so that a callback misses no change.
        let watch = |scope: &Scope<'static>| server.core.store.watch(scope.clone(), false);
        let watches: Vec<_> =
            server.callbacks.iter().map(|(scope, callback)| (watch(scope), callback)).collect();
        let is_over = &AtomicBool::new(false);
        thread::scope(|scope| {
            let started = watches.iter().try_for_each(|(watch, callback)| {
                Builder::new().spawn_scoped(scope, || server.call_back(watch, callback)).map(drop)
            });
            let store = &server.core.store;
            let started = started.and_then(|()| {
                Builder::new().name("leases".into()).spawn_scoped(scope, || store.expire(is_over)).map(drop)
            });
            let started = started.and_then(|()| {
                let ending = Builder::new().name("ending".into()).stack_size(SMALL_STACK_BYTES);
                ending.spawn_scoped(scope, || server.begin_to_end()).map(drop)
            });
            let ended = started.and_then(|()| match store.journal() {
                Some(journal) => server.run_beside_committer(journal, scope),
                None => server.run_mode(),
            });
            // The scope waits for these threads, which wait to be told.
            store.end_expiry(is_over);
            server.stop.shutdown();
            watches.iter().for_each(|(watch, _)| watch.end());
            ended
        })
        .inspect(|()| server.log.event(Level::Info, "stopped", &[]))
    }

    /// Serves clients while a thread writes the journal. It ends when they have been served, and the other way round.
    fn run_beside_committer<'s>(&'s self, journal: &Journal, scope: &'s Threads<'s, '_>) -> io::Result<()> {
        journal.begin().map_err(io::Error::other)?;
        let committer = Builder::new().name("journal".into()).spawn_scoped(scope, || {
            let committed = self.core.store.commit();
            self.stop.shutdown();
            committed
        })?;
        // However that ends, the committer must learn of it: this scope waits for its thread.
        let ended = catch_unwind(AssertUnwindSafe(|| self.run_mode()));
        journal.close();
        let committed = committer.join().unwrap_or_else(|panic| resume_unwind(panic));
        let ended = ended.unwrap_or_else(|panic| resume_unwind(panic));
        committed.map_err(io::Error::other).and(ended)
    }

    /// Waits until the server is to end, says so, and sees to it that no program keeps it for longer than a deadline. A
    /// thread does this, since in two of the modes the one that serves may be waiting for that program.
    fn begin_to_end(&self) {
        while wait_ready([(Some(self.stop.told().as_fd()), Interest::Read)], Duration::MAX) != [true] {}
        self.log.event(Level::Info, "stopping", &[]);
        self.core.actions.end_programs(Instant::now() + self.deadline.min(YEAR));
    }

    fn run_mode(&self) -> io::Result<()> {
        match self.mode {
            Mode::Once | Mode::Iterative => {
                self.run_iterative();
                Ok(())
            }
            Mode::Event { connections } => self.run_event_loop(connections, Work::Act, HELPERS_MAX),
            Mode::Pool { threads } => self.run_event_loop(threads, Work::Serve, threads),
        }
    }

    /// Serves one client after another, until a session has had all the requests that it takes.
    fn run_iterative(&self) {
        let mut workspace = Workspace::new(16 << 10);
        while let Some(accepted) = self.wait_for_client() {
            let mut connection = Connection::new(self, accepted, Place::take(self, 1), Instant::now());
            serve(&mut connection, &mut workspace, Some(&self.listener));
            if connection.session.is_spent() {
                break;
            }
        }
    }

    /// Serves clients side by side, by one thread that waits for all of them and workers.
    fn run_event_loop(&self, places: usize, work: Work, workers_max: usize) -> io::Result<()> {
        // Where the system grants fewer descriptors, accepting fails at times and is tried again.
        let _ = raise_descriptors((places + 2 * WAITING_MAX + 1024) as u64);
        let (pool, returned) = Pool::new(self, work, workers_max)?;
        thread::scope(|scope| {
            let event_loop = EventLoop::new(self, places, (&pool, returned), scope);
            let ended = event_loop.and_then(EventLoop::run);
            // Where it ended by a failure, workers do not know yet.
            self.stop.shutdown();
            pool.close();
            ended
        })
    }

    /// A session on a new connection, in this mode.
    fn session(&self) -> Session<'_> {
        match self.mode {
            Mode::Once => Session::once(&self.core),
            Mode::Iterative | Mode::Event { .. } | Mode::Pool { .. } => Session::new(&self.core),
        }
    }

    /// The longest silence between requests, in this mode.
    fn idle(&self) -> Duration {
        self.idle.unwrap_or(match self.mode {
            Mode::Iterative => Duration::from_secs(10),
            Mode::Once | Mode::Event { .. } | Mode::Pool { .. } => Duration::from_secs(300),
        })
    }

    fn count_refused(&self, peer: SocketAddr) {
        self.core.stats.refused.fetch_add(1, Relaxed);
        self.log.event(Level::Info, "busy", &[("peer", &peer)]);
    }

    /// Calls back for each change until the watch ends. This is done on a thread of its own, so that no client
    /// waits for a callback: a write is answered when the change is queued.
    fn call_back(&self, watch: &Watcher<'_>, callback: &Callback) {
        loop {
            match watch.take() {
                Ok(Some(waiting)) => {
                    // A callback may do what no crash takes back, so it waits as a reply does.
                    if let Some(journal) = self.core.store.journal()
                        && journal.wait(journal.changes()) == Durability::Never
                    {
                        break;
                    }
                    // A callback is not our code. If it panics it is still told of the changes after this one.
                    if catch_unwind(AssertUnwindSafe(|| callback(&waiting.change))).is_err() {
                        self.log.event(Level::Error, "callback_panic", &[("key", &waiting.change.key)]);
                    }
                }
                Ok(None) => watch.wait(),
                Err(WatchEnd::TooSlow) => break self.log.event(Level::Error, "callback_too_slow", &[]),
                Err(WatchEnd::Stopped) => break,
            }
        }
    }
}
