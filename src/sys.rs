//! System calls that std lacks, declared by hand. This is the only file with unsafe code.
//!
//! std opens sockets, starts programs and reads files, but it has no word for some things that a server
//! needs from its system. Each is declared here as C has it, called in one place, and wrapped in a
//! function whose arguments prove what the call asks for: a `BorrowedFd` is an open descriptor, an array
//! is memory that may be read and written. Whoever calls these functions needs no unsafe code.
//!
//! Each constant has its name from C, or beside it; its number is the platform's.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
use std::ffi::c_ulong;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

unsafe extern "C" {
    fn poll(fds: *mut PollFd, count: NumberOfFds, timeout_ms: c_int) -> c_int;
    fn setsockopt(socket: c_int, level: c_int, name: c_int, value: *const c_void, length: u32) -> c_int;
    fn waitid(kind: c_int, id: u32, info: *mut SignalInfo, options: c_int) -> c_int;
    safe fn kill(pid: c_int, signal: c_int) -> c_int;
    #[cfg(target_os = "linux")]
    fn prctl(option: c_int, ...) -> c_int;
}

/// What most calls return: 0, or -1 and the reason in `errno`.
fn check(done: c_int) -> io::Result<()> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `siginfo_t`: 128 bytes on Linux, fewer elsewhere, of which the first four are the signal's number.
#[repr(C, align(8))]
struct SignalInfo([c_int; 32]);

const P_PID: c_int = 1;
const WNOHANG: c_int = 1;
const WEXITED: c_int = 4;
#[cfg(not(target_vendor = "apple"))]
const WNOWAIT: c_int = 0x0100_0000;
#[cfg(target_vendor = "apple")]
const WNOWAIT: c_int = 0x20;
const SIGKILL: c_int = 9;

/// Whether a child of ours has ended, without reaping it: std's `try_wait` does, and from then on the pid may
/// be another process's.
pub fn has_ended(child: u32) -> io::Result<bool> {
    ended(child, WNOWAIT)
}

/// Reaps a child of ours that no `std::process::Child` stands for, if it has ended, and tells whether it had.
pub fn reap(child: u32) -> bool {
    ended(child, 0).unwrap_or(false)
}

fn ended(child: u32, option: c_int) -> io::Result<bool> {
    let mut info = SignalInfo([0; 32]);
    // SAFETY: `info` is as large as a `siginfo_t` at least, and may be written through the call.
    check(unsafe { waitid(P_PID, child, &raw mut info, WEXITED | WNOHANG | option) })?;
    Ok(info.0[0] != 0)
}

/// Kills a process. It must be a child of ours that has not been reaped, or it may be anybody.
pub fn kill_child(child: u32) {
    pid(child).map(|child| kill(child, SIGKILL));
}

/// Kills a process group, which std cannot. Its leader must be a child of ours that has not been reaped.
pub fn kill_group(leader: u32) {
    pid(leader).map(|leader| kill(-leader, SIGKILL));
}

/// A pid as C has it. To `kill`, 0 and -1 stand for many processes, and -1 is what negating 1 gives.
fn pid(child: u32) -> Option<c_int> {
    c_int::try_from(child).ok().filter(|pid| *pid > 1)
}

/// Makes orphans below this process its children, instead of process 1's. False where the system has no such thing.
#[cfg(target_os = "linux")]
pub fn become_subreaper() -> io::Result<bool> {
    const PR_SET_CHILD_SUBREAPER: c_int = 36;
    // SAFETY: this option takes one number, and touches no memory.
    check(unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1 as c_ulong) }).map(|()| true)
}

/// Other systems have no subreaper.
#[cfg(not(target_os = "linux"))]
pub fn become_subreaper() -> io::Result<bool> {
    Ok(false)
}

/// A peer is probed after this silence, and again at this interval. After three probes without an answer the
/// connection ends. A watcher's thread takes up to a second more to notice, which makes less than a minute.
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

/// Has the kernel end a connection, with `ETIMEDOUT`, when its peer has been unreachable for 55 seconds. It finds out
/// by probes while nothing is sent, and by the age of what was sent and not acknowledged. Connections that a
/// listener accepts inherit these options.
pub fn keepalive(socket: impl AsFd) -> io::Result<()> {
    for (level, name, value) in KEEPALIVE {
        let length = size_of::<c_int>() as u32;
        let value = std::ptr::from_ref(value).cast();
        // SAFETY: `value` points to `length` bytes that live through the call, which only reads them.
        check(unsafe { setsockopt(socket.as_fd().as_raw_fd(), *level, *name, value, length) })?;
    }
    Ok(())
}

/// poll(2)'s `struct pollfd`.
#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

/// poll(2)'s `nfds_t`.
#[cfg(target_os = "linux")]
type NumberOfFds = std::ffi::c_ulong;
#[cfg(not(target_os = "linux"))]
type NumberOfFds = std::ffi::c_uint;

/// What a descriptor is waited for.
#[derive(Clone, Copy)]
pub enum Interest {
    /// That a read returns at once: with bytes, or since no more can come.
    Read = 0x1, // POLLIN
    /// That a small write returns at once: it is taken, or nobody is left to read it.
    Write = 0x4, // POLLOUT
    /// That nobody is left at the other end. poll(2) tells that unasked.
    HangUp = 0,
}

/// Waits until one of these has what it is waited for, or for `timeout`, and tells which have it. A descriptor that
/// is `None` never has.
pub fn wait_ready<const N: usize>(
    fds: [(Option<BorrowedFd<'_>>, Interest); N],
    timeout: Duration,
) -> [bool; N] {
    let mut fds = fds.map(|(fd, interest)| {
        // poll(2) passes over negative descriptors.
        let fd = fd.map_or(-1, |fd| fd.as_raw_fd());
        PollFd { fd, events: interest as i16, revents: 0 }
    });
    // Rounded up: a wait of 0 ms for what takes 0.1 ms would keep a processor busy.
    let timeout_ms = c_int::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX);
    // SAFETY: `fds` are N pollfds, as the count says, and outlive the call, which does not keep them.
    unsafe { poll(fds.as_mut_ptr(), N as NumberOfFds, timeout_ms) };
    fds.map(|fd| fd.revents != 0)
}

/// Whether nobody is left at the other end of a pipe, a socket or a terminal. Never so for a file.
pub fn hung_up(fd: BorrowedFd<'_>) -> bool {
    wait_ready([(Some(fd), Interest::HangUp)], Duration::ZERO) == [true]
}
