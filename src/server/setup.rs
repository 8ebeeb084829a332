//! What a server is given before it runs: a port, options, actions, callbacks. The methods that set something take the
//! server and give it back, so that a server is written as one sentence from [`Server::bind`] to [`Server::start`].
//!
//! Nothing here is done while the server runs. So nothing here has a lock.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::listener::listen;
use super::{BindError, Log, Mode, Server, ShutdownHandle};
use crate::actions::{Action, Actions, Call, FALLBACK, Outcome, RegisterError};
use crate::json::JsonText;
use crate::protocol::{Address, Scope, Token};
use crate::session::Core;
use crate::store::{Change, Store};

/// What a server grants its clients. Every limit bounds what one client can take from the others.
///
/// ```
/// use socket_tables::server::{Options, Server};
/// use std::time::Duration;
///
/// let options = Options { idle: Some(Duration::from_secs(60)), ..Options::default() };
/// let server = Server::bind("127.0.0.1:0")?.options(options);
/// # Ok::<(), socket_tables::server::BindError>(())
/// ```
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

impl Server {
    /// Takes a port, with the default [`Options`]. The address is what a client connects to: `7777`, `[::1]:80`, a service's
    /// name, a `SocketAddr`, or whatever else [`Address::parse`] reads. Port 0 is any that is free.
    ///
    /// ```
    /// # use socket_tables::server::Server;
    /// let server = Server::bind("0")?;
    /// assert!(server.address().ip().is_loopback());
    /// assert!(Server::bind(server.address()).is_err());
    /// # Ok::<(), socket_tables::server::BindError>(())
    /// ```
    pub fn bind(address: impl Display) -> Result<Server, BindError> {
        let address = Address::parse(&address.to_string()).map_err(BindError::Address)?;
        Server::bind_to(&address.resolve().map_err(BindError::Address)?)
    }

    /// As [`Server::bind`], at the first of these addresses that this machine has.
    ///
    /// ```
    /// # use socket_tables::server::Server;
    /// let server = Server::bind_to(&["127.0.0.1:0".parse()?, "[::1]:0".parse()?])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_to(addresses: &[SocketAddr]) -> Result<Server, BindError> {
        let (listener, stop) = listen(addresses)?;
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
    ///
    /// ```
    /// # use socket_tables::server::{Mode, Server};
    /// let server = Server::bind("0")?.mode(Mode::Pool { threads: 4 });
    /// # Ok::<(), socket_tables::server::BindError>(())
    /// ```
    pub fn mode(self, mode: Mode) -> Server {
        Server { mode, ..self }
    }

    /// Answers requests named `name` by a closure, which may take the place of ECHO, TIME or HELLO. A name that is taken,
    /// or is none, is an error. What actions share is what they hold: an `Arc` of your own, or the table.
    ///
    /// ```
    /// # use socket_tables::server::Server;
    /// # let server = Server::bind("0")?;
    /// let table = server.store();
    /// let visit = server.action("VISIT", move |call| {
    ///     Ok(table.increment(&format!("visits/{}", call.data_str()?), 1, None)?)
    /// })?;
    /// assert!(visit.action("VISIT", |_| Ok("twice")).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn action<V: Into<JsonText<'static>>>(
        mut self,
        name: &str,
        action: impl Fn(&Call<'_>) -> Outcome<V> + Send + Sync + 'static,
    ) -> Result<Server, RegisterError> {
        self.actions().add(name, action)?;
        Ok(self)
    }

    /// As [`Server::action`], by a struct. Rust tells a closure's types only to a method that takes nothing else, so
    /// there are two.
    ///
    /// ```
    /// use socket_tables::actions::{Action, Call, Outcome};
    /// # use socket_tables::server::Server;
    ///
    /// struct Repeat { times: usize }
    ///
    /// impl Action for Repeat {
    ///     fn call(&self, call: &Call<'_>) -> Outcome {
    ///         Ok(call.data_str()?.repeat(self.times).into())
    ///     }
    /// }
    ///
    /// let server = Server::bind("0")?.action_by("TWICE", Repeat { times: 2 })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn action_by(mut self, name: &str, action: impl Action + 'static) -> Result<Server, RegisterError> {
        self.actions().add_by(name, action)?;
        Ok(self)
    }

    /// Answers whatever has no other name by `action`: a message of its own protocol, say. Its `data` is the line or
    /// the frame's payload as a string, or the whole JSON object. The names of requests and actions then count in
    /// capitals only. A second one is an error. It is the action named [`FALLBACK`], by which a struct can be it too.
    ///
    /// ```
    /// # use socket_tables::server::Server;
    /// let server = Server::bind("0")?.fallback(|call| Ok(format!("You said: {}", call.data_str()?)))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fallback<V: Into<JsonText<'static>>>(
        self,
        action: impl Fn(&Call<'_>) -> Outcome<V> + Send + Sync + 'static,
    ) -> Result<Server, RegisterError> {
        self.action(FALLBACK, action)
    }

    /// Calls `callback` for each change of a key (`"door"`), or of all keys under a prefix
    /// (`Scope::Prefix("sensor/".into())`), in their order, on a thread of its own. As for any watcher, a
    /// callback that is much too slow is given up on, and that is logged.
    ///
    /// ```
    /// # let server = socket_tables::server::Server::bind("0")?;
    /// let server = server.on_change("door", |change| match change.value().as_str() {
    ///     Some("open") => { /* ring the bell */ }
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

    /// The registry, for what [`Server::action`] does not do: adding actions in a loop, each with its words for INFO,
    /// and allowing EXEC.
    ///
    /// ```
    /// # let mut server = socket_tables::server::Server::bind("0")?;
    /// for (name, status) in [("IS-UP", true), ("IS-BUSY", false)] {
    ///     server.actions().add(name, move |_| Ok(status))?;
    /// }
    /// server.actions().limits.timeout = std::time::Duration::from_secs(1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn actions(&mut self) -> &mut Actions {
        &mut self.core.actions
    }

    /// The table, for actions and threads of the server's own program: that of the options set last.
    ///
    /// ```
    /// # let server = socket_tables::server::Server::bind("0")?;
    /// let table = server.store();
    /// table.update("door", &"shut".into(), None, None)?;
    /// assert_eq!(table.count(""), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn store(&self) -> Arc<Store> {
        self.core.store.clone()
    }

    /// The address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.stop.address()
    }

    /// Ends [`Server::run`], from any thread.
    ///
    /// ```
    /// # let server = socket_tables::Server::bind("0")?;
    /// let stop = server.shutdown_handle();
    /// let server = server.action("STOP", move |_| {
    ///     stop.shutdown();
    ///     Ok("goodbye")
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.stop.clone()
    }
}
