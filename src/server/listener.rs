//! The listening socket: taking a port, accepting connections, and being told to end.
//!
//! `accept` does not wait. Whoever serves waits for the listener and for [`ShutdownHandle::told`] along with its clients'
//! sockets, so that it hears of each at once, and no thread has to be woken out of a system call.
//!
//! What the accepted bytes mean, and who serves them, is not decided here.

use std::io::{self, ErrorKind, PipeReader, PipeWriter, Write, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;
use std::{error, fmt, thread};

use super::{Level, Server};
use crate::sys::{self, Interest};

/// How long accepting rests after a failure.
pub(super) const REST: Duration = Duration::from_millis(100);

/// A connection, and who made it. The peer is kept beside the stream because the system forgets it as
/// soon as the connection has ended, which is when the log wants to name it.
pub(super) type Accepted = (TcpStream, SocketAddr);

/// Why a server has no port.
#[derive(Debug)]
pub struct BindError {
    /// Where it was to listen; `None` where the address given leads nowhere.
    pub address: Option<SocketAddr>,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.source;
        match self.address {
            Some(address) if source.kind() == ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {address}: the port is taken by another program")
            }
            Some(address) => write!(f, "cannot listen on {address}: {source}"),
            None => write!(f, "there is no address to listen on: {source}"),
        }
    }
}

impl error::Error for BindError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Listens on the first of these addresses that this machine has. One whose port is taken ends the
/// search: if the server went on to the next address, clients of one name would find another program at
/// one of its addresses and this server at the other.
pub(super) fn listen(addresses: impl ToSocketAddrs) -> Result<(TcpListener, ShutdownHandle), BindError> {
    let nowhere = |source| BindError { address: None, source };
    let mut failed = nowhere(ErrorKind::AddrNotAvailable.into());
    for address in addresses.to_socket_addrs().map_err(nowhere)? {
        match listen_on(address) {
            Ok(listening) => return Ok(listening),
            Err(source) => failed = BindError { address: Some(address), source },
        }
        if failed.source.kind() != ErrorKind::AddrNotAvailable {
            break;
        }
    }
    Err(failed)
}

fn listen_on(address: SocketAddr) -> io::Result<(TcpListener, ShutdownHandle)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // Accepted connections inherit keepalive, so it costs no system call for each. Where either cannot be set the
    // server still works: it finds later that a peer has vanished, or serves a burst more slowly.
    let _ = sys::keepalive(&listener);
    let _ = sys::lengthen_queue(&listener);
    let stop = ShutdownHandle::new(listener.local_addr()?)?;
    Ok((listener, stop))
}

impl Server {
    /// The next client that waits to be accepted, if one does. Where it cannot be (the process has no descriptor left,
    /// say) the failure is logged. It is about the moment and not the server: clients leave and their descriptors return.
    /// Then accepting is to rest, for [`REST`]: the client still waits, so trying again would fail at once, for ever.
    pub(super) fn accept(&self) -> io::Result<Option<Accepted>> {
        loop {
            match self.listener.accept() {
                Ok(accepted) => {
                    self.core.stats.accepted.fetch_add(1, Relaxed);
                    return Ok(Some(accepted));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                // The client gave up before it was accepted; the next one may be waiting already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.log.event(Level::Error, "accept", &[("error", &error)]);
                    return Err(error);
                }
            }
        }
    }

    /// Waits for the next client; `None` when the server is to end. For those who serve one client at a time.
    pub(super) fn wait_for_client(&self) -> Option<Accepted> {
        loop {
            let fds = [self.stop.told().as_fd(), self.listener.as_fd()].map(|fd| (Some(fd), Interest::Read));
            if let [true, _] = sys::wait_ready(fds, Duration::MAX) {
                return None;
            }
            match self.accept() {
                Ok(None) => {}
                Ok(accepted) => return accepted,
                Err(_) => thread::sleep(REST),
            }
        }
    }
}

/// A connection's place among those that are served at once. Dropping it makes room for another.
pub(super) struct Place<'c>(&'c AtomicU64);

impl Place<'_> {
    /// A place, if fewer than `max` are taken.
    pub fn take(server: &Server, max: usize) -> Option<Place<'_>> {
        // One thread takes places, so nobody comes between.
        (Place::taken(server) < max).then(|| {
            server.core.stats.connections.fetch_add(1, Relaxed);
            Place(&server.core.stats.connections)
        })
    }

    /// How many are taken.
    pub fn taken(server: &Server) -> usize {
        server.core.stats.connections.load(Relaxed) as usize
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Ends [`Server::run`] from any thread.
///
/// ```
/// # use socket_tables::server::Server;
/// let server = Server::bind("127.0.0.1:0")?;
/// let stop = server.shutdown_handle();
/// let serving = std::thread::spawn(|| server.run());
/// stop.shutdown();
/// serving.join().expect("no panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ShutdownHandle(Arc<Stop>);

struct Stop {
    stopping: AtomicBool,
    address: SocketAddr,
    /// A pipe that every thread of the server waits for. The byte that is written into it is never read, so that each
    /// of them sees it.
    reader: PipeReader,
    writer: PipeWriter,
}

impl ShutdownHandle {
    fn new(address: SocketAddr) -> io::Result<ShutdownHandle> {
        let (reader, writer) = pipe()?;
        Ok(ShutdownHandle(Arc::new(Stop { stopping: AtomicBool::new(false), address, reader, writer })))
    }

    /// Tells the server to end. Returns at once; `run` returns when the requests under way are answered.
    pub fn shutdown(&self) {
        if !self.0.stopping.swap(true, SeqCst) {
            // Both ends are open, and there is room in the pipe.
            let _ = (&self.0.writer).write_all(&[0]);
        }
    }

    /// Has the first SIGTERM, SIGINT or SIGHUP do the same; the next one ends the process at once. A process has one handler of
    /// signals, so of several servers the last to ask for it has it.
    pub fn on_signals(&self) -> io::Result<()> {
        sys::first_signal_to(self.0.writer.try_clone()?);
        Ok(())
    }

    /// Where the server listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// What has something to read once the server is to end.
    pub(super) fn told(&self) -> &PipeReader {
        &self.0.reader
    }
}
