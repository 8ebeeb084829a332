//! System calls that std lacks, declared by hand. This is the only file with unsafe code.
//!
//! std opens sockets, starts programs and reads files, but it has no word for some things that a server needs from its
//! system. Each is declared here as C has it, called in one place, and wrapped in a function whose arguments prove what
//! the call asks for: a `BorrowedFd` is an open descriptor, an array is memory that may be read and written. Whoever
//! calls these functions needs no unsafe code. Constants have their names from C, and the platform's numbers.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_ulong, c_void};
use std::io::{self, ErrorKind, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
#[cfg(target_os = "linux")]
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::Duration;

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

/// Makes orphans below this process its children, instead of process 1's. False where the system cannot.
#[cfg(target_os = "linux")]
pub fn become_subreaper() -> io::Result<bool> {
    const PR_SET_CHILD_SUBREAPER: c_int = 36;
    // SAFETY: this option takes one number, and touches no memory.
    check(unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1 as c_ulong) }).map(|_| true)
}

#[cfg(not(target_os = "linux"))]
pub fn become_subreaper() -> io::Result<bool> {
    Ok(false)
}

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
        let length = size_of::<c_int>() as u32;
        let value = std::ptr::from_ref(value).cast();
        // SAFETY: `value` points to `length` bytes that live through the call, which only reads them.
        check(unsafe { setsockopt(socket.as_fd().as_raw_fd(), *level, *name, value, length) })?;
    }
    Ok(())
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
    // SAFETY: to ignore a signal takes no handler.
    unsafe { signal(SIGXFSZ, SIG_IGN) };
}

const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

/// The pipe that [`on_signal`] writes to.
static SIGNALLED: AtomicI32 = AtomicI32::new(-1);

/// Has SIGINT or SIGTERM, whichever comes first, write a byte into `pipe`. The next one ends the process at once.
pub fn signals_to(pipe: PipeWriter) {
    SIGNALLED.store(pipe.into_raw_fd(), SeqCst);
    handle_signals(on_signal as *const () as usize);
}

extern "C" fn on_signal(_: c_int) {
    handle_signals(SIG_DFL);
    // SAFETY: the byte lives through the call, and the pipe is open for ever, since `signals_to` gave its number away.
    unsafe { write(SIGNALLED.load(SeqCst), [0_u8].as_ptr().cast(), 1) };
}

/// One that is ignored, as a shell has it for what runs in the background, stays so.
fn handle_signals(handler: usize) {
    for number in [SIGINT, SIGTERM] {
        // SAFETY: the handler is `on_signal`, which makes only calls that POSIX allows in one, or the system's.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write, pipe};

    macro_rules! tells_what_is_ready {
        ($($name:ident: $poller:ty,)*) => { $(
            #[test]
            fn $name() {
                let (mut poller, mut found) = (<$poller>::new().unwrap(), vec![99]);
                let mut wait = |poller: &mut $poller| {
                    poller.wait(&mut found, Some(Duration::from_millis(5))).unwrap();
                    found.clone()
                };
                let (mut reader, mut writer) = pipe().unwrap();
                poller.add(&reader, 7, Interest::Read).unwrap();
                assert_eq!(wait(&mut poller), [], "nothing to read yet");
                writer.write_all(b"ab").unwrap();
                assert_eq!(wait(&mut poller), [7]);
                reader.read_exact(&mut [0]).unwrap();
                assert_eq!(wait(&mut poller), [7], "it is told again for as long as it is so");
                reader.read_exact(&mut [0]).unwrap();
                poller.add(&writer, 8, Interest::Write).unwrap();
                assert_eq!(wait(&mut poller), [8]);
                poller.change(&writer, 9, Interest::HangUp).unwrap();
                assert_eq!(wait(&mut poller), []);
                poller.remove(&writer).unwrap();
                assert!(poller.remove(&writer).is_err());
                drop(writer);
                assert_eq!(wait(&mut poller), [7], "an end is there to be read");
                poller.remove(&reader).unwrap();
                assert_eq!(wait(&mut poller), []);
            }
        )* };
    }
    tells_what_is_ready! { of_this_system: Poller, by_poll: by_poll::Poller, }
}
