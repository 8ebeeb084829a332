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

mod bind;
mod callbacks;
mod connection;
mod info;
mod log;
mod options;
mod pool;
mod stop;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crate::actions::{Action, Actions, RegisterError};
use crate::protocol::{Code, Scope};
use crate::session::{Core, Session, Stats};
use crate::store::{Change, Store};
pub use bind::BindError;
use callbacks::Callback;
pub use connection::Deadlines;
use connection::End;
use info::Info;
pub use log::{Level, Log};
pub use options::{Mode, Options};
use pool::Pool;
pub use stop::ShutdownHandle;

/// After a failure to accept: how long to wait before the next try, at first and at most.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// A server that has its port and is not serving yet. [The crate's page](crate) shows one at work.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    options: Options,
    actions: Actions,
    callbacks: Vec<(Scope<'static>, Callback)>,
    stop: ShutdownHandle,
}

impl Server {
    /// Takes a port, with the default [`Options`]: of the first address given that this machine has.
    /// Port 0 is any that is free.
    pub fn bind(address: impl ToSocketAddrs) -> Result<Server, BindError> {
        let (listener, address) = bind::listen(address)?;
        Ok(Server {
            listener,
            address,
            options: Options::default(),
            actions: Actions::default(),
            callbacks: Vec::new(),
            stop: ShutdownHandle::new(bind::wake_address(address)),
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

    /// Answers requests named `name` by `action`. A name that is taken, or is none, is an error. What
    /// actions share is what they hold: an `Arc` of your own, or the table.
    ///
    /// ```
    /// # use socket_tables::{actions::Call, json::Value, server::Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// let table = server.store();
    /// let server = server.action("VISIT", move |call: &Call<'_>| {
    ///     Ok(Value::from(table.increment(&format!("visits/{}", call.data_str()?), 1)?))
    /// })?;
    /// assert!(server.action("VISIT", |_: &Call<'_>| Ok(Value::Null)).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn action(mut self, name: &str, action: impl Action + 'static) -> Result<Server, RegisterError> {
        self.actions.register(name, "[DATA]", "an action of this server's own", action)?;
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
        &mut self.actions
    }

    /// The table, for actions and threads of the server's own program: that of the options set last.
    pub fn store(&self) -> Arc<Store> {
        self.options.store.clone()
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
        let Options { mode, store, .. } = options;
        let stats = Arc::new(Stats::new(actions.names()));
        let help = info::help(&actions);
        let (told, table) = (stats.clone(), store.clone());
        let info = Info { stats: told, store: table, mode, address, started: Instant::now(), help };
        actions.info = Box::new(move || info.value());
        let idle = options.idle.unwrap_or(match mode {
            Mode::Iterative => Duration::from_secs(10),
            Mode::Once | Mode::Pool { .. } => Duration::from_secs(300),
        });
        // The watches come before the first request, so that a callback misses no change.
        let watched = store.clone();
        let watches: Vec<_> =
            callbacks.iter().map(|(scope, call)| (watched.watch(scope.clone(), false), call)).collect();
        let core = Core {
            store,
            actions,
            stats,
            token: options.token,
            may_watch: matches!(mode, Mode::Pool { .. }),
            request_bytes_max: options.request_bytes_max,
        };
        let deadlines = Deadlines { idle, request: options.deadline };
        let service = Service { listener, core, deadlines, log: options.log, stop };
        thread::scope(|scope| {
            let mut callbacks = watches.iter();
            let started =
                callbacks.try_for_each(|(watch, call)| callbacks::start(scope, watch, call, &service.log));
            let ended = started.and_then(|()| match mode {
                Mode::Once | Mode::Iterative => {
                    service.one_by_one(mode == Mode::Once);
                    Ok(())
                }
                Mode::Pool { threads } => service.side_by_side(threads),
            });
            watches.iter().for_each(|(watch, _)| watch.end());
            ended
        })
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
