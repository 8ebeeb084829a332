//! System calls that std lacks, declared by hand. This is the only file with unsafe code.
//!
//! std opens sockets, starts programs and reads files, but it has no word for some things that a server needs from its
//! system. Each is declared here as C has it, called in one place, and wrapped in a function whose arguments prove what
//! the call asks for: a `BorrowedFd` is an open descriptor, an array is memory that may be read and written. Whoever
//! calls these functions needs no unsafe code. Constants have their names from C, and the platform's numbers.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
use std::ffi::c_ulong;
use std::ffi::{c_int, c_void};
use std::io::{self, ErrorKind, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
#[cfg(target_os = "linux")]
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::Duration;

mod keepalive;
mod processes;
pub use keepalive::keepalive;
pub use processes::*;

unsafe extern "C" {
    fn poll(fds: *mut PollFd, count: NumberOfFds, timeout_ms: c_int) -> c_int;
    fn setsockopt(socket: c_int, level: c_int, name: c_int, value: *const c_void, length: u32) -> c_int;
    fn waitid(kind: c_int, id: u32, info: *mut SignalInfo, options: c_int) -> c_int;
    fn getrlimit(resource: c_int, limits: *mut [u64; 2]) -> c_int;
    fn setrlimit(resource: c_int, limits: *const [u64; 2]) -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
    #[cfg(target_os = "linux")]
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize;
    safe fn kill(pid: c_int, signal: c_int) -> c_int;
    safe fn getpgrp() -> c_int;
    safe fn tcgetpgrp(terminal: c_int) -> c_int;
    safe fn tcsetpgrp(terminal: c_int, group: c_int) -> c_int;
    safe fn listen(socket: c_int, backlog: c_int) -> c_int;
}

#[cfg(target_os = "linux")]
unsafe extern "C" {
    fn prctl(option: c_int, ...) -> c_int;
    safe fn epoll_create1(flags: c_int) -> c_int;
    fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut Event) -> c_int;
    fn epoll_wait(epoll: c_int, events: *mut Event, count: c_int, timeout_ms: c_int) -> c_int;
}

/// What most calls return: a number, or -1 and the reason in `errno`.
fn check(done: c_int) -> io::Result<c_int> {
    if done >= 0 { Ok(done) } else { Err(io::Error::last_os_error()) }
}

const P_PID: c_int = 1;

/// `siginfo_t`: 128 bytes on Linux, fewer elsewhere, of which the first four are the signal's number.
#[repr(C, align(8))]
struct SignalInfo([c_int; 32]);

/// What the system says of a child.
fn look_at(child: u32, options: c_int) -> io::Result<SignalInfo> {
    let mut info = SignalInfo([0; 32]);
    // SAFETY: `info` is as large as a `siginfo_t` at least, and may be written through the call.
    check(unsafe { waitid(P_PID, child, &raw mut info, options) })?;
    Ok(info)
}

/// Makes orphans below this process its children, instead of process 1's. False where the system cannot: it is not Linux,
/// or something that only looks like it.
#[cfg(target_os = "linux")]
pub fn become_subreaper() -> bool {
    const PR_SET_CHILD_SUBREAPER: c_int = 36;
    // SAFETY: this option takes one number, and touches no memory.
    unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1 as c_ulong) == 0 }
}

#[cfg(not(target_os = "linux"))]
pub fn become_subreaper() -> bool {
    false
}

/// Sets an option of a socket that is a number.
fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let (length, value) = (size_of::<c_int>() as u32, (&raw const value).cast());
    // SAFETY: `value` points to `length` bytes that live through the call, which only reads them.
    check(unsafe { setsockopt(socket.as_raw_fd(), level, name, value, length) }).map(drop)
}

/// Gives a listener the longest queue of clients that are not accepted yet: 4,096 on Linux, where std asks for 128. A
/// burst fills those in three milliseconds, and a client whose SYN is then dropped tries again a second later.
pub fn lengthen_queue(listener: impl AsFd) -> io::Result<()> {
    check(listen(listener.as_fd().as_raw_fd(), c_int::MAX)).map(drop)
}

/// Allows this process so many descriptors, or as many as it may have. Shells often set 1,024, for programs that use
/// select(2), which knows no more.
pub fn raise_descriptors(wanted: u64) -> io::Result<()> {
    const RLIMIT_NOFILE: c_int = if cfg!(target_os = "linux") { 7 } else { 8 };
    // What is in force, and how far this process may raise it.
    let mut limits = [0, 0];
    // SAFETY: a `struct rlimit` is two numbers of at most 64 bits, and may be written through the call.
    check(unsafe { getrlimit(RLIMIT_NOFILE, &raw mut limits) })?;
    let [soft, hard] = limits;
    let limits = [wanted.min(hard).max(soft), hard];
    // SAFETY: as above; it lives through the call, which only reads it.
    check(unsafe { setrlimit(RLIMIT_NOFILE, &raw const limits) }).map(drop)
}

/// Whether nobody else has this file open; where the system cannot tell, the answer is no.
#[cfg(target_os = "linux")]
pub fn is_open_once(file: impl AsFd) -> bool {
    const F_SETLEASE: c_int = 1024;
    const F_WRLCK: c_int = 1;
    const F_UNLCK: c_int = 2;
    // The system grants a lease for writing only to one who is alone.
    let set = |lease: c_int| {
        // SAFETY: the descriptor is open, and the kernel takes numbers.
        check(unsafe { fcntl(file.as_fd().as_raw_fd(), F_SETLEASE, lease) })
    };
    set(F_WRLCK).and_then(|_| set(F_UNLCK)).is_ok()
}

/// See above.
#[cfg(not(target_os = "linux"))]
pub fn is_open_once(_: impl AsFd) -> bool {
    false
}

/// Has a write past the limit of a file's size fail, as one to a full disk does. Otherwise it would be the end of us.
pub fn survive_size_limit() {
    const SIGXFSZ: c_int = 25;
    set_ignored(SIGXFSZ, true);
}

fn set_ignored(number: c_int, is_ignored: bool) {
    // SAFETY: neither of these is a handler of ours.
    unsafe { signal(number, if is_ignored { SIG_IGN } else { SIG_DFL }) };
}

const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

/// The pipe that [`on_signal`] writes to.
static SIGNALLED: AtomicI32 = AtomicI32::new(-1);

/// Has each SIGHUP, SIGINT and SIGTERM write its number, a byte, into `pipe`, until [`default_signals`] is called.
pub fn signals_to(pipe: PipeWriter) {
    SIGNALLED.store(pipe.into_raw_fd(), SeqCst);
    handle_signals(on_signal as *const () as usize);
}

/// Has these signals do again what they do where nobody handles them.
pub fn default_signals() {
    handle_signals(SIG_DFL);
}

extern "C" fn on_signal(number: c_int) {
    // SAFETY: the byte lives through the call, and the pipe is open for ever, since its number was given away.
    unsafe { write(SIGNALLED.load(SeqCst), [number as u8].as_ptr().cast(), 1) };
}

/// One that is ignored, as a shell has it for what runs in the background, stays so.
fn handle_signals(handler: usize) {
    for number in [SIGHUP, SIGINT, SIGTERM] {
        // SAFETY: the handlers make only calls that POSIX allows in one; the others are the system's.
        if unsafe { signal(number, handler) } == SIG_IGN {
            // SAFETY: as above.
            unsafe { signal(number, SIG_IGN) };
        }
    }
}

/// poll(2)'s `struct pollfd`.
#[derive(Clone, Copy)]
#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

/// poll(2)'s `nfds_t`.
#[cfg(target_os = "linux")]
type NumberOfFds = c_ulong;
#[cfg(not(target_os = "linux"))]
type NumberOfFds = std::ffi::c_uint;

/// A time as these calls take it, rounded up: a wait of 0 ms for what takes 0.1 ms would keep a processor busy.
fn milliseconds(time: Option<Duration>) -> c_int {
    time.map_or(-1, |time| c_int::try_from(time.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX))
}

/// How many are ready. Where a signal ended the wait none are, and the caller looks at the clock and waits again.
fn ready(waited: c_int) -> io::Result<usize> {
    match check(waited) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
        waited => waited.map(|count| count as usize),
    }
}

/// What a descriptor is waited for, by poll(2)'s numbers. epoll has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// That a read returns at once: with bytes, or since no more can come.
    Read = 0x1, // POLLIN
    /// That a small write returns at once: it is taken, or nobody is left to read it.
    Write = 0x4, // POLLOUT
    /// Either of these.
    Both = 0x5,
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
    poll_all(&mut fds, Some(timeout));
    fds.map(|fd| fd.revents != 0)
}

fn poll_all(fds: &mut [PollFd], timeout: Option<Duration>) -> c_int {
    // SAFETY: `fds` are as many pollfds as the count says, and outlive the call, which does not keep them.
    unsafe { poll(fds.as_mut_ptr(), fds.len() as NumberOfFds, milliseconds(timeout)) }
}

/// Whether nobody is left at the other end of a pipe, a socket or a terminal. Never so for a file.
pub fn hung_up(fd: BorrowedFd<'_>) -> bool {
    wait_ready([(Some(fd), Interest::HangUp)], Duration::ZERO) == [true]
}

/// Waits for many descriptors at once. Each has a number, which its owner chooses, and by which it is told. One that is
/// ready is told of for as long as it is (level-triggered), so nothing is lost by reading only a part.
///
/// poll(2) is handed all descriptors with each call. epoll remembers them, so that a wait costs as much as there are that
/// are ready: 50 busy connections beside 10,000 idle ones are served 20 times as fast.
#[cfg(target_os = "linux")]
pub struct Poller {
    epoll: OwnedFd,
    /// What the last wait found, and room for what the next one finds.
    events: [Event; 256],
}

/// `struct epoll_event`, which has no padding on x86-64.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy)]
#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(packed))]
struct Event {
    events: u32,
    number: u64,
}

#[cfg(target_os = "linux")]
impl Poller {
    /// A poller that waits for nothing yet.
    pub fn new() -> io::Result<Poller> {
        const EPOLL_CLOEXEC: c_int = 0o2_000_000;
        let epoll = check(epoll_create1(EPOLL_CLOEXEC))?;
        // SAFETY: the system has just opened this descriptor for us, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        Ok(Poller { epoll, events: [Event { events: 0, number: 0 }; 256] })
    }

    /// Waits for this one, too.
    pub fn add(&mut self, fd: impl AsFd, number: u64, interest: Interest) -> io::Result<()> {
        self.control(1, fd, number, interest)
    }

    /// Waits for this one no more. It comes before closing: a child between fork and exec may have a copy of the
    /// descriptor, and then what was closed here is still told of.
    pub fn remove(&mut self, fd: impl AsFd) -> io::Result<()> {
        self.control(2, fd, 0, Interest::HangUp)
    }

    /// Waits for something else of this one.
    pub fn change(&mut self, fd: impl AsFd, number: u64, interest: Interest) -> io::Result<()> {
        self.control(3, fd, number, interest)
    }

    fn control(&self, operation: c_int, fd: impl AsFd, number: u64, interest: Interest) -> io::Result<()> {
        let mut event = Event { events: interest as u32, number };
        let (epoll, fd) = (self.epoll.as_raw_fd(), fd.as_fd().as_raw_fd());
        // SAFETY: `event` is an `epoll_event` that lives through the call, which copies it.
        check(unsafe { epoll_ctl(epoll, operation, fd, &raw mut event) }).map(drop)
    }

    /// Waits until some are ready, or for `timeout`, and leaves their numbers in `found`. `None` is for ever.
    pub fn wait(&mut self, found: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        let (epoll, events) = (self.epoll.as_raw_fd(), &mut self.events);
        let (room, count) = (events.as_mut_ptr(), events.len() as c_int);
        // SAFETY: there is room for `count` events, and it outlives the call.
        let count = ready(unsafe { epoll_wait(epoll, room, count, milliseconds(timeout)) })?;
        found.clear();
        found.extend(self.events[..count].iter().map(|event| event.number));
        Ok(())
    }
}

#[cfg(any(test, not(target_os = "linux")))]
mod by_poll;
#[cfg(not(target_os = "linux"))]
pub use by_poll::Poller;
