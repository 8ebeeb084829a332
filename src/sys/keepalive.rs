//! When a peer that is gone without a word is given up. The options and their numbers differ from system to system.

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use super::set_option;

/// A peer is probed after this silence, and again at this interval. After three probes without an answer the
/// connection ends: after less than a minute in all.
const KEEPALIVE_IDLE_S: c_int = 25;
const KEEPALIVE_INTERVAL_S: c_int = 10;
const KEEPALIVE_PROBES: c_int = 3;

/// `(level, name, value)` of each option that [`keepalive`] sets.
#[cfg(any(target_os = "linux", target_os = "android"))]
const KEEPALIVE: &[(c_int, c_int, c_int)] = &[
    (1, 9, 1),                    // SOL_SOCKET, SO_KEEPALIVE
    (6, 4, KEEPALIVE_IDLE_S),     // IPPROTO_TCP, TCP_KEEPIDLE
    (6, 5, KEEPALIVE_INTERVAL_S), // IPPROTO_TCP, TCP_KEEPINTVL
    (6, 6, KEEPALIVE_PROBES),     // IPPROTO_TCP, TCP_KEEPCNT
    (6, 18, 55_000),              // IPPROTO_TCP, TCP_USER_TIMEOUT, milliseconds
];
#[cfg(target_vendor = "apple")]
const KEEPALIVE: &[(c_int, c_int, c_int)] = &[
    (0xffff, 8, 1),                   // SOL_SOCKET, SO_KEEPALIVE
    (6, 0x10, KEEPALIVE_IDLE_S),      // IPPROTO_TCP, TCP_KEEPALIVE
    (6, 0x101, KEEPALIVE_INTERVAL_S), // IPPROTO_TCP, TCP_KEEPINTVL
    (6, 0x102, KEEPALIVE_PROBES),     // IPPROTO_TCP, TCP_KEEPCNT
];
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
const KEEPALIVE: &[(c_int, c_int, c_int)] = &[];

/// Has the kernel end a connection, with `ETIMEDOUT`, when its peer has been unreachable for 55 seconds: by probes while
/// nothing is sent, by the age of what is not acknowledged else. What a listener accepts inherits these options.
pub fn keepalive(socket: impl AsFd) -> io::Result<()> {
    for (level, name, value) in KEEPALIVE {
        set_option(socket.as_fd(), *level, *name, *value)?;
    }
    Ok(())
}
