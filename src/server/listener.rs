//! The listening socket: taking a port, accepting connections, and being woken in order to stop.
//!
//! A thread that waits in `accept` or `read` looks at no flag, so a flag alone cannot stop a server.
//! [`ShutdownHandle::shutdown`] sets the flag and then wakes every thread that may be waiting: `accept`
//! returns because the handle connects to the server's own address, and a `read` returns because the
//! handle shuts its socket for reading, which looks as if the client had sent its last byte. The session
//! then answers what has arrived, and closes. A signal would need unsafe code, and a timeout on every
//! wait would wake idle threads for nothing.
//!
//! What the accepted bytes mean, and who serves them, is not decided here.

use std::collections::HashMap;
use std::io::{self, ErrorKind, PipeReader, pipe};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{error, fmt, thread};

use super::{Level, Server};
use crate::sys;

/// How long to wait after a failure to accept. A loop without a pause would take a whole processor, since
/// the connection that could not be accepted is still there and `accept` fails again at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long to try to connect to our own listener. On one machine it answers at once or not at all.
const WAKE_MAX: Duration = Duration::from_secs(1);

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
        match TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => {
                // Accepted connections inherit keepalive, so it costs no system call for each. Where it
                // cannot be set the server still works; it finds peers that vanish without a word later.
                let _ = sys::keepalive(&listener);
                return Ok((listener, ShutdownHandle::new(address)));
            }
            Err(source) => failed = BindError { address: Some(address), source },
        }
        if failed.source.kind() != ErrorKind::AddrNotAvailable {
            break;
        }
    }
    Err(failed)
}

impl Server {
    /// Waits for the next connection; `None` when the server is to stop. Where none can be accepted (the
    /// process has no descriptor left, say) the failure is logged and accepting is tried again after a pause.
    /// Such a failure is about the moment and not the server: clients leave and their descriptors return.
    pub(super) fn accept(&self) -> Option<Accepted> {
        loop {
            let accepted = self.listener.accept();
            // This comes first, because what woke `accept` may be the handle's own connection.
            if self.stop.is_stopping() {
                return None;
            }
            match accepted {
                Ok(accepted) => {
                    self.core.stats.accepted.fetch_add(1, Ordering::Relaxed);
                    return Some(accepted);
                }
                // The client gave up before it was accepted; the next one may be waiting already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.log.event(Level::Error, "accept", &[("error", &error)]);
                    thread::sleep(ACCEPT_AGAIN);
                }
            }
        }
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
pub struct ShutdownHandle(Arc<StopState>);

struct StopState {
    stopping: AtomicBool,
    address: SocketAddr,
    /// Every connection that is being served, by its descriptor: no two open sockets have the same one.
    live: Mutex<HashMap<RawFd, Arc<TcpStream>>>,
    /// A descriptor that is held only to be closed by [`ShutdownHandle::wake`]. A server that has run out of
    /// descriptors could not connect to itself, and so could not be stopped.
    spare: Mutex<Option<PipeReader>>,
}

impl ShutdownHandle {
    fn new(address: SocketAddr) -> ShutdownHandle {
        let spare = Mutex::new(pipe().ok().map(|(reader, _)| reader));
        let stopping = AtomicBool::new(false);
        ShutdownHandle(Arc::new(StopState { stopping, address, live: Mutex::default(), spare }))
    }

    /// Tells the server to end. Returns at once; `run` returns when the requests under way are answered.
    pub fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.live().values().for_each(|stream| end_reading(stream));
        self.wake();
    }

    /// Where the server listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Wakes one thread that waits in `accept`, by connecting to it.
    pub(super) fn wake(&self) {
        drop(self.0.spare.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut address = self.0.address;
        // A listener bound to all addresses of the machine has no address of its own to connect to.
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        // Where this fails there is no listener any more, or one that a client has just woken.
        let _ = TcpStream::connect_timeout(&address, WAKE_MAX);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }

    /// Has `shutdown` end the reading of this connection, until [`ShutdownHandle::untrack`].
    pub(super) fn track(&self, stream: TcpStream) -> Arc<TcpStream> {
        let stream = Arc::new(stream);
        self.live().insert(stream.as_raw_fd(), stream.clone());
        // `shutdown` sets the flag and then goes through the map; we add to the map and then look at the
        // flag. Whichever of the two comes first, this connection is not missed.
        if self.is_stopping() {
            end_reading(&stream);
        }
        stream
    }

    /// Forgets a connection. It must still be open: once closed, its descriptor may be another's.
    pub(super) fn untrack(&self, stream: &TcpStream) {
        self.live().remove(&stream.as_raw_fd());
    }

    // No statement that changes the map can panic halfway, so a poisoned lock is used on.
    fn live(&self) -> MutexGuard<'_, HashMap<RawFd, Arc<TcpStream>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end_reading(stream: &TcpStream) {
    // This fails where the client has gone already, and then there is nothing to end.
    let _ = stream.shutdown(Shutdown::Read);
}
