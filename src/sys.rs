//! System calls that std lacks, declared by hand. This is the only file with unsafe code.
//!
//! std opens sockets, starts programs and reads files, but it has no word for some things that a server
//! needs from its system. Each is declared here as C has it, called in one place, and wrapped in a
//! function whose arguments prove what the call asks for: a `BorrowedFd` is an open descriptor, a slice
//! is memory that may be read. Whoever calls these functions needs no unsafe code.
//!
//! What a constant is called in C stands before it; its number is the platform's.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

unsafe extern "C" {
    fn poll(fds: *mut PollFd, count: Count, timeout_ms: c_int) -> c_int;
    fn setsockopt(socket: c_int, level: c_int, name: c_int, value: *const c_void, length: u32) -> c_int;
}

const POLLERR: i16 = 0x8;
const POLLHUP: i16 = 0x10;

/// poll(2)'s `struct pollfd`.
#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

/// poll(2)'s `nfds_t`.
#[cfg(target_os = "linux")]
type Count = std::ffi::c_ulong;
#[cfg(not(target_os = "linux"))]
type Count = std::ffi::c_uint;

/// A peer is probed after this silence, and again at this interval; the third silence is its end. Together with
/// the second that a watcher's thread takes to look at its socket, that is less than a minute.
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

/// Has the kernel end a connection, with `ETIMEDOUT`, whose peer has been gone without a word for 55
/// seconds: by probes while nothing is sent, and by the age of what was sent and not acknowledged.
/// Connections that a listener accepts inherit all of it.
pub fn keepalive(socket: impl AsFd) -> io::Result<()> {
    for (level, name, value) in KEEPALIVE {
        let length = size_of::<c_int>() as u32;
        let value = std::ptr::from_ref(value).cast();
        // SAFETY: `value` points to `length` bytes that live through the call, which only reads them.
        let done = unsafe { setsockopt(socket.as_fd().as_raw_fd(), *level, *name, value, length) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Whether nobody is left at the other end of a pipe, a socket or a terminal. Never so for a file.
pub fn hung_up(fd: BorrowedFd<'_>) -> bool {
    // These two are reported unasked.
    let mut fd = PollFd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `fd` is one pollfd, as the count says, and outlives the call, which does not keep it.
    let found = unsafe { poll(&mut fd, 1, 0) };
    found > 0 && fd.revents & (POLLERR | POLLHUP) != 0
}
