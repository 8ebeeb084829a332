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
mod service;
mod stop;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::actions::{Action, Actions, RegisterError};
use crate::protocol::Scope;
use crate::session::{Core, Stats};
use crate::store::{Change, Store};
pub use bind::BindError;
use callbacks::Callback;
pub use connection::Deadlines;
use info::Info;
pub use log::{Level, Log};
pub use options::{Mode, Options};
use service::Service;
pub use stop::ShutdownHandle;

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
