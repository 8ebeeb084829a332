//! A server on a thread of its own, held by one object: where it is, and its end.

use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::thread::{self, Builder, JoinHandle};

use super::{Server, ShutdownHandle};

/// A server at work. It ends when this is dropped, so keep it for as long as there are to be clients: by
/// [`Running::join`], say.
///
/// ```
/// # use socket_tables::{client::Client, server::Server};
/// let server = Server::bind("127.0.0.1:0")?.start()?;
/// Client::connect(server.address())?.update("door", "open")?;
/// server.shutdown();
/// server.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it tells the server to end and waits until it has, as [`Running::shutdown`] and [`Running::join`] do. So
/// whatever comes after can rely on it: the port is free, no action runs, the journal is closed. What went wrong is not
/// told then; `join` tells it. Where the thread that drops it panics, nothing is waited for, since an action may
/// be waiting for just that thread.
pub struct Running {
    stop: ShutdownHandle,
    /// `None` once it was waited for.
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Serves on a thread of its own, and gives what ends it. Clients can connect already.
    pub fn start(self) -> io::Result<Running> {
        let stop = self.shutdown_handle();
        let thread = Builder::new().name("server".into()).spawn(|| self.run())?;
        Ok(Running { stop, thread: Some(thread) })
    }
}

impl Running {
    /// The address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.stop.address()
    }

    /// Tells the server to end. Returns at once; [`Running::join`] returns when the requests under way are answered.
    pub fn shutdown(&self) {
        self.stop.shutdown();
    }

    /// What tells the server to end from any thread, or by a signal.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.stop.clone()
    }

    /// Waits until the server has ended, for whatever reason, and tells how: as [`Server::run`] does.
    pub fn join(mut self) -> io::Result<()> {
        self.wait()
    }

    fn wait(&mut self) -> io::Result<()> {
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.shutdown();
        if !thread::panicking() {
            let _ = self.wait();
        }
    }
}
