//! The listening socket: taking a port, accepting connections, and being told to end.
//!
//! `accept` does not wait. Whoever serves waits for the listener and for [`ShutdownHandle::told`] along with its clients'
//! sockets, so that it hears of each at once, and no thread has to be woken out of a system call.
//!
//! What the accepted bytes mean, and who serves them, is not decided here.

use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;
use std::{error, fmt, thread};

use super::{Level, Server};
use crate::actions::die_of;
use crate::protocol::AddressError;
use crate::sys::{self, Interest};

/// For threads that wait for one thing, and then do little.
pub(super) const SMALL_STACK_BYTES: usize = 64 << 10;
/// How long accepting rests after a failure.
pub(super) const REST: Duration = Duration::from_millis(100);

/// A connection, and who made it. The peer is kept beside the stream because the system forgets it as
/// soon as the connection has ended, which is when the log wants to name it.
pub(super) type Accepted = (TcpStream, SocketAddr);

/// Why a server has no port.
#[derive(Debug)]
pub enum BindError {
    /// The address is none, or leads nowhere.
    Address(AddressError),
    /// The list of addresses was empty.
    Nowhere,
    /// The port cannot be had; what the system said.
    Listen(SocketAddr, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Address(error) => write!(f, "there is no address to listen on: {error}"),
            BindError::Nowhere => f.write_str("there is no address to listen on"),
            BindError::Listen(address, error) if error.kind() == ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {address}: the port is taken by another program")
            }
            BindError::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
        }
    }
}

impl error::Error for BindError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            BindError::Address(error) => Some(error),
            BindError::Nowhere => None,
            BindError::Listen(_, error) => Some(error),
        }
    }
}

/// Listens on the first of these addresses that this machine has. One whose port is taken ends the
/// search: if the server went on to the next address, clients of one name would find another program at
/// one of its addresses and this server at the other.
pub(super) fn listen(addresses: &[SocketAddr]) -> Result<(TcpListener, ShutdownHandle), BindError> {
    let mut failed = BindError::Nowhere;
    for address in addresses {
        match listen_on(*address) {
            Ok(listening) => return Ok(listening),
            Err(error) => {
                let is_ours = error.kind() != ErrorKind::AddrNotAvailable;
                failed = BindError::Listen(*address, error);
                if is_ours {
                    break;
                }
            }
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
/// # use socket_tables::Server;
/// let server = Server::bind("127.0.0.1:0")?;
/// let stop = server.shutdown_handle();
/// std::thread::spawn(move || stop.shutdown());
/// server.run()?;
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

    /// Has the first SIGTERM, SIGINT or SIGHUP do the same; the next one ends the process at once, and the programs that
    /// it runs for clients. A process has one handler of signals, so of several servers the last to ask for it has it.
    ///
    /// ```no_run
    /// # use socket_tables::Server;
    /// let server = Server::bind("7777")?;
    /// server.shutdown_handle().on_signals()?;
    /// server.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_signals(&self) -> io::Result<()> {
        let ((mut signals, writer), stop) = (pipe()?, self.clone());
        // A handler may do next to nothing, so a thread does it. It waits for nobody else.
        let obey = move || {
            let mut number = [0];
            for is_first in [true, false] {
                match signals.read_exact(&mut number) {
                    Ok(()) if is_first => stop.shutdown(),
                    Ok(()) => die_of(number[0].into()),
                    // The other end is never closed.
                    Err(_) => return,
                }
            }
        };
        thread::Builder::new().name("signals".into()).stack_size(SMALL_STACK_BYTES).spawn(obey)?;
        sys::signals_to(writer);
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
