//! Taking a port, and saying in words why it could not be had.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::{error, fmt};

use crate::sys;

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
        match self.address {
            Some(address) if self.source.kind() == ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {address}: the port is taken by another program")
            }
            Some(address) => write!(f, "cannot listen on {address}: {}", self.source),
            None => write!(f, "there is no address to listen on: {}", self.source),
        }
    }
}

impl error::Error for BindError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Listens on the first of these addresses that this machine has. One whose port is taken ends the
/// search: that clients find the other program at one address and this one at another helps nobody.
pub(super) fn listen(addresses: impl ToSocketAddrs) -> Result<(TcpListener, SocketAddr), BindError> {
    let nowhere = |source| BindError { address: None, source };
    let mut failed = nowhere(ErrorKind::AddrNotAvailable.into());
    for address in addresses.to_socket_addrs().map_err(nowhere)? {
        match TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => {
                // Without it only peers that vanish without a word are noticed later.
                let _ = sys::keepalive(&listener);
                return Ok((listener, address));
            }
            Err(source) => failed = BindError { address: Some(address), source },
        }
        if failed.source.kind() != ErrorKind::AddrNotAvailable {
            break;
        }
    }
    Err(failed)
}

/// Where to connect to in order to reach a listener of our own, which may be bound to all addresses.
pub(super) fn wake_address(mut bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() {
        bound.set_ip(match bound {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    bound
}
