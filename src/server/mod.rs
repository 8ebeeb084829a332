//! The server: listens, accepts, and has each connection served in one of four modes.
//!
//! | mode | who serves | what it teaches |
//! |---|---|---|
//! | [`Mode::Once`], [`Mode::Iterative`] | this thread, one client after another | the smallest server there is |
//! | [`Mode::Pool`] | a worker thread for each client | to wait for one client a thread, and let the kernel switch |
//! | [`Mode::Event`] | one thread, all clients | to wait for all of them at once, and never for one |
//!
//! The first has a flaw: a client that says nothing keeps all others waiting. Threads mend that, at the price of a switch
//! of threads for each request and a stack for each client. The event loop saves both, at the price of a rule: nothing
//! that it does may take long.
//!
//! All of them serve the same `Connection`; they differ in how many connections a thread waits for. Who asks for
//! the mode is this file alone: for what a session is, how long a client may be silent, and whether it may WATCH.
//!
//! Read the files in this order: `listener` (taking a port, accepting, stopping), `connection` (one client), `pool`
//! (threads that serve or help), `bell` (waking what waits), `event_loop` (many), `log`. What the bytes mean is the
//! session's business and not known here. Considered and left: a thread for each connection without a bound (a flood of
//! clients would take all memory).

mod bell;
mod connection;
mod event_loop;
mod listener;
mod log;
mod pool;

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, Builder, Scope as Threads};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::actions::{Action, Actions, RegisterError};
use crate::json::{Object, Value};
use crate::protocol::{Scope, Spec, Token};
use crate::session::{Core, Session, Stats};
use crate::store::{Change, Durability, Journal, Store, WatchEnd, Watcher};
use crate::sys::raise_descriptors;
use connection::Connection;
use event_loop::{EventLoop, WAITING_MAX};
pub use listener::{BindError, ShutdownHandle};
use listener::{Place, listen};
pub use log::{Level, Log};
use pool::{Pool, Work, serve};

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

/// What a server grants its clients. Every limit bounds what one client can take from the others.
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
    /// Event mode with 10,000 connections, 1 MiB a request, 10 s for it, an empty table without a limit, no token, no
    /// log.
    fn default() -> Options {
        Options {
            mode: Mode::EVENT,
            request_bytes_max: 1 << 20,
            idle: None,
            deadline: Duration::from_secs(10),
            store: Arc::default(),
            token: None,
            log: Log::none(),
        }
    }
}

/// Workers for what may take long in event mode.
const HELPERS_MAX: usize = 512;

type Callback = Box<dyn Fn(&Change) + Send + Sync>;

/// A server that has its port. [The crate's page](crate) shows one at work. Once it runs, its threads share
/// it and nothing in it changes but what has its own lock.
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
    /// Takes a port, with the default [`Options`]: of the first address given that this machine has.
    /// Port 0 is any that is free.
    pub fn bind(address: impl ToSocketAddrs) -> Result<Server, BindError> {
        let (listener, stop) = listen(address)?;
        let Options { mode, request_bytes_max, idle, deadline, store, token, log } = Options::default();
        let (actions, stats, may_watch) = (Actions::default(), Arc::default(), true);
        let core = Core { store, actions, stats, token, may_watch, request_bytes_max };
        Ok(Server { listener, stop, mode, idle, deadline, log, core, callbacks: Vec::new() })
    }

    /// Sets all options.
    pub fn options(self, options: Options) -> Server {
        let Options { mode, request_bytes_max, idle, deadline, store, token, log } = options;
        let core = Core { store, token, request_bytes_max, ..self.core };
        Server { mode, idle, deadline, log, core, ..self }
    }

    /// Sets the mode.
    pub fn mode(self, mode: Mode) -> Server {
        Server { mode, ..self }
    }

    /// Answers requests named `name` by `action`. A name that is taken, or is none, is an error. What
    /// actions share is what they hold: an `Arc` of your own, or the table.
    ///
    /// ```
    /// # use socket_tables::{actions::Call, json::Value, server::Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// let table = server.store();
    /// let server = server.action("VISIT", move |call: &Call<'_>| {
    ///     Ok(Value::from(table.increment(&format!("visits/{}", call.data_str()?), 1, None)?))
    /// })?;
    /// assert!(server.action("VISIT", |_: &Call<'_>| Ok(Value::Null)).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn action(mut self, name: &str, action: impl Action + 'static) -> Result<Server, RegisterError> {
        self.actions().register(name, "[DATA]", "an action of this server's own", action)?;
        Ok(self)
    }

    /// Calls `callback` for each change of a key (`"door"`), or of all keys under a prefix
    /// (`Scope::Prefix("sensor/".into())`), in their order, on a thread of its own. As for any watcher, a
    /// callback that is much too slow is given up on, and that is logged.
    ///
    /// ```
    /// # let server = socket_tables::server::Server::bind("127.0.0.1:0")?;
    /// let server = server.on_change("door", |change| match change.value.as_str() {
    ///     "\"open\"" => { /* ring the bell */ }
    ///     _ => {}
    /// });
    /// # Ok::<(), socket_tables::server::BindError>(())
    /// ```
    pub fn on_change<'a>(
        mut self,
        scope: impl Into<Scope<'a>>,
        callback: impl Fn(&Change) + Send + Sync + 'static,
    ) -> Server {
        self.callbacks.push((scope.into().into_owned(), Box::new(callback)));
        self
    }

    /// The registry, for what [`Server::action`] does not do.
    pub fn actions(&mut self) -> &mut Actions {
        &mut self.core.actions
    }

    /// The table, for actions and threads of the server's own program: that of the options set last.
    pub fn store(&self) -> Arc<Store> {
        self.core.store.clone()
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.stop.address()
    }

    /// Ends [`Server::run`], from any thread.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.stop.clone()
    }

    /// Serves until it is shut down (in [`Mode::Once`]: until one request is answered). Requests
    /// under way are finished, and every thread has ended when this returns.
    ///
    /// Where the store has a journal, this is what writes it. A journal that fails ends the server, and no change is
    /// acknowledged any more.
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
            let ended = started.and_then(|()| {
                let ended = match store.journal() {
                    Some(journal) => server.run_beside_committer(journal, scope),
                    None => server.run_mode(),
                };
                store.end_expiry(is_over);
                ended
            });
            // The scope waits for the callbacks' threads, which wait for their watches to end.
            watches.iter().for_each(|(watch, _)| watch.end());
            ended
        })
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
        let mut buffer = vec![0; 16 << 10];
        while let Some(accepted) = self.wait_for_client() {
            let mut connection = Connection::new(self, accepted, Place::take(self, 1), Instant::now());
            serve(&mut connection, &mut buffer);
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

    /// What INFO answers: all that an operator may ask, and what a client can ask for. The closure owns
    /// what it reads, since the actions that hold it are a part of this server themselves.
    fn info(&self) -> Box<dyn Fn() -> Value + Send + Sync> {
        let (store, stats) = (self.core.store.clone(), self.core.stats.clone());
        let (mode, address, started) = (self.mode, self.local_addr(), Instant::now());
        let usage = |Spec { name, args, help }| (format!("{name} {args}").trim_end().to_owned(), help);
        let help: Object = self.core.actions.specs().map(usage).collect();
        Box::new(move || {
            let (watchers, watch_bytes) = store.watchers();
            let own = [
                ("version", env!("CARGO_PKG_VERSION").into()),
                ("mode", mode.to_string().into()),
                ("address", address.to_string().into()),
                ("uptime_s", started.elapsed().as_secs().into()),
                ("keys", (store.count("") as u64).into()),
                ("memory_bytes", (store.bytes() as u64).into()),
                ("watchers", (watchers as u64).into()),
                ("watch_bytes", (watch_bytes as u64).into()),
            ];
            let journal = store.journal().map(|journal| ("journal", journal.info()));
            let help = [("help", Value::Object(help.clone()))];
            Value::Object(own.into_iter().chain(journal).chain(stats.members()).chain(help).collect())
        })
    }
}
