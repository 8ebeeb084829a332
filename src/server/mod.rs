//! The server: listens, accepts, and lets connections be served in one of three modes.
//!
//! | mode | who serves | for |
//! |---|---|---|
//! | [`Mode::Once`] | this thread, one request in all | scripts and tests |
//! | [`Mode::Iterative`] | this thread, one client after another | the simplest server that can be |
//! | [`Mode::Pool`] | a worker thread for each client | everything else |
//!
//! The modes differ in who calls `connection::serve`, and in nothing else. What the bytes mean is the
//! session's business. Considered and left: an event loop (`epoll` is not in std), and a
//! thread for each connection without a bound (a flood of clients would take all memory).

mod connection;
mod log;
mod pool;
mod stop;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crate::actions::{Action, Actions, Call, RegisterError};
use crate::json::{Object, Value};
use crate::protocol::{Code, Scope};
use crate::session::{Core, Session, Stats};
use crate::store::{self, Change, Store, Watch};
use crate::token::Token;
pub use connection::Deadlines;
use connection::End;
pub use log::{Level, Log};
use pool::Pool;
pub use stop::ShutdownHandle;

/// After a failure to accept: how long to wait before the next try, at first and at most.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// Who serves how many clients at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One request, then [`Server::run`] returns.
    Once,
    /// One client after another.
    Iterative,
    /// Many clients, a worker each.
    Pool {
        /// The most clients at once.
        threads: usize,
    },
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Once => "once",
            Mode::Iterative => "iterative",
            Mode::Pool { .. } => "pool",
        })
    }
}

/// What a server grants its clients.
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
    /// What keys and values may hold, in bytes.
    pub memory_max: Option<usize>,
    /// What clients must show first.
    pub token: Option<Token>,
    /// Where events are told.
    pub log: Log,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            mode: Mode::Pool { threads: 512 },
            request_bytes_max: 1 << 20,
            idle: None,
            deadline: Duration::from_secs(10),
            memory_max: None,
            token: None,
            log: Log::none(),
        }
    }
}

/// A server that has its port and is not serving yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    options: Options,
    actions: Actions,
    callbacks: Vec<(Scope<'static>, Callback)>,
    stop: ShutdownHandle,
}

type Callback = Box<dyn Fn(&Change) + Send + Sync>;

impl Server {
    /// Takes a port: that of the first address that is free, with the default [`Options`].
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        Ok(Server {
            listener,
            address,
            options: Options::default(),
            actions: Actions::new(),
            callbacks: Vec::new(),
            stop: ShutdownHandle::new(wake_address(address)),
        })
    }

    /// Sets all options.
    pub fn options(self, options: Options) -> Server {
        Server { options, ..self }
    }

    /// Sets the mode.
    pub fn mode(mut self, mode: Mode) -> Server {
        self.options.mode = mode;
        self
    }

    /// Answers requests named `name` by `action`. A name that is taken, or is none, is an error.
    pub fn action(mut self, name: &str, action: impl Action + 'static) -> Result<Server, RegisterError> {
        self.actions.register(name, "[DATA]", "registered by this server's program", action)?;
        Ok(self)
    }

    /// Calls `callback` for each change of a key (`"door"`), or of all keys under a prefix
    /// (`Scope::Prefix("sensor/".into())`), in their order, on a thread of its own. As for any watcher, a
    /// callback that is much too slow is given up on, and that is logged.
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
        &mut self.actions
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Ends [`Server::run`], from any thread.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.stop.clone()
    }

    /// Serves until it is shut down (in [`Mode::Once`]: until one request is answered). Requests
    /// under way are finished, and every thread has ended when this returns.
    pub fn run(self) -> io::Result<()> {
        let Server { listener, address, options, mut actions, callbacks, stop } = self;
        let stats = Arc::new(Stats::new(actions.names().chain(["INFO"])));
        let store = Arc::new(Store::new(options.memory_max));
        let info = Info { stats: stats.clone(), store: store.clone(), mode: options.mode, address };
        let started = Instant::now();
        actions
            .register("INFO", "", "what the server is and does", move |_: &Call<'_>| Ok(info.value(started)))
            .map_err(io::Error::other)?;
        let idle = options.idle.unwrap_or(match options.mode {
            Mode::Iterative => Duration::from_secs(10),
            Mode::Once | Mode::Pool { .. } => Duration::from_secs(300),
        });
        let core = Core {
            store,
            actions,
            stats,
            token: options.token,
            may_watch: matches!(options.mode, Mode::Pool { .. }),
            request_bytes_max: options.request_bytes_max,
        };
        let deadlines = Deadlines { idle, request: options.deadline };
        let service = Service { listener, core, deadlines, log: options.log, stop };
        // The watches come before the first request, so that a callback misses no change.
        let store = service.core.store.clone();
        let watches: Vec<_> =
            callbacks.iter().map(|(scope, call)| (store.watch(scope.clone(), false), call)).collect();
        thread::scope(|scope| {
            let log = &service.log;
            let started = watches.iter().try_for_each(|(watch, callback)| {
                thread::Builder::new().spawn_scoped(scope, move || call_back(watch, callback, log)).map(drop)
            });
            let ended = started.and_then(|()| match options.mode {
                Mode::Once | Mode::Iterative => {
                    service.one_by_one(options.mode == Mode::Once);
                    Ok(())
                }
                Mode::Pool { threads } => service.side_by_side(threads),
            });
            watches.iter().for_each(|(watch, _)| watch.end());
            ended
        })
    }
}

/// Calls back for each change, until the watch ends.
fn call_back(watch: &Watch<'_>, callback: &Callback, log: &Log) {
    loop {
        match watch.take() {
            Ok(Some(change)) => {
                // The next change is told all the same: a callback is a guest here.
                if catch_unwind(AssertUnwindSafe(|| callback(&change))).is_err() {
                    log.event(Level::Error, "callback_panic", &[("key", &change.key)]);
                }
            }
            Ok(None) => watch.wait(Duration::MAX),
            Err(end) => {
                if end == store::End::TooSlow {
                    log.event(Level::Error, "callback_too_slow", &[]);
                }
                return;
            }
        }
    }
}

/// A connection, and who made it: once it has ended, the system no longer knows.
type Accepted = (TcpStream, SocketAddr);

/// What the threads of a running server share.
struct Service {
    listener: TcpListener,
    core: Core,
    deadlines: Deadlines,
    log: Log,
    stop: ShutdownHandle,
}

impl Service {
    /// Serves one client after another; with `once`, until one of them has been answered.
    fn one_by_one(&self, once: bool) {
        let session = if once { Session::once } else { Session::new };
        while let Some(stream) = self.accept() {
            if self.serve(stream, session(&self.core)) > 0 && once {
                return;
            }
        }
    }

    fn side_by_side(&self, threads_max: usize) -> io::Result<()> {
        let pool = Pool {
            threads_max,
            stats: &self.core.stats,
            log: &self.log,
            serve: |accepted| _ = self.serve(accepted, Session::new(&self.core)),
            queue: Default::default(),
            work: Default::default(),
            waiting: Default::default(),
        };
        self.make_room(threads_max);
        thread::scope(|scope| {
            pool.open(scope)?;
            while let Some(accepted) = self.accept() {
                pool.submit(accepted);
            }
            pool.close();
            Ok(())
        })
    }

    /// Has the kernel make the process's table of descriptors as large as it will be needed, by filling
    /// it once. It doubles as it fills up, which takes tens of milliseconds where there are threads; in
    /// a burst of connects the queue to `accept` would overflow meanwhile, and clients
    /// whose SYN is dropped try again after a second.
    fn make_room(&self, descriptors: usize) {
        let filled: Vec<_> = (0..descriptors).map_while(|_| self.listener.try_clone().ok()).collect();
        drop(filled);
    }

    /// The next connection; `None` when the server is to stop. Where none can be accepted (no
    /// descriptor is left, say) that is told and tried again, a little later each time: the reason
    /// is most often gone soon, and a loop without a pause would take a whole processor.
    fn accept(&self) -> Option<Accepted> {
        let mut backoff = BACKOFF_MIN;
        loop {
            let accepted = self.listener.accept();
            if self.stop.is_stopping() {
                return None;
            }
            match accepted {
                Ok(accepted) => {
                    self.core.stats.accepted.fetch_add(1, Relaxed);
                    return Some(accepted);
                }
                // The client was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.log.event(Level::Error, "accept", &[("error", &error)]);
                    thread::sleep(backoff);
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Serves one connection to its end.
    fn serve<'c>(&'c self, (stream, peer): Accepted, mut session: Session<'c>) -> u64 {
        let _open = Counted::new(&self.core.stats.connections);
        let stream = self.stop.watch(stream);
        if self.log.tells(Level::Debug) {
            session.trace(Box::new(move |name, key, failed| {
                let (key, failed) = (key.unwrap_or_default(), failed.map_or("", Code::as_str));
                let fields: &[(&str, &dyn fmt::Display)] =
                    &[("peer", &peer), ("name", &name), ("key", &key), ("failed", &failed)];
                self.log.event(Level::Debug, "request", fields);
            }));
        }
        match connection::serve(&stream, &mut session, self.deadlines) {
            End::Closed if session.spoke_http() => {
                self.log.event(Level::Info, "http_refused", &[("peer", &peer)]);
            }
            End::Closed | End::Idle => {}
            End::Deadline => {
                self.core.stats.timed_out.fetch_add(1, Relaxed);
                self.log.event(Level::Info, "deadline", &[("peer", &peer)]);
            }
            End::Broken(error) => {
                self.log.event(Level::Debug, "broken", &[("peer", &peer), ("error", &error)]);
            }
        }
        session.requests()
    }
}

/// Counts up, and down again when it is dropped, however that comes about.
struct Counted<'c>(&'c std::sync::atomic::AtomicU64);

impl<'c> Counted<'c> {
    fn new(counter: &'c std::sync::atomic::AtomicU64) -> Counted<'c> {
        counter.fetch_add(1, Relaxed);
        Counted(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What INFO tells.
struct Info {
    stats: Arc<Stats>,
    store: Arc<Store>,
    mode: Mode,
    address: SocketAddr,
}

impl Info {
    fn value(&self, started: Instant) -> Value {
        let mut info = Object::new();
        info.push("version", env!("CARGO_PKG_VERSION"));
        info.push("mode", self.mode.to_string());
        info.push("address", self.address.to_string());
        info.push("uptime_s", started.elapsed().as_secs());
        info.push("keys", self.store.count("") as u64);
        info.push("memory_bytes", self.store.bytes() as u64);
        for (name, value) in self.stats.members() {
            info.push(name, value);
        }
        Value::Object(info)
    }
}

/// Where to connect to in order to reach a listener of our own, which may be bound to all addresses.
fn wake_address(mut bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() {
        bound.set_ip(match bound {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    bound
}
