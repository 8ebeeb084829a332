//! System calls that std does not offer, and the only place with unsafe code. Each is wrapped in a function
//! that is safe to call with anything its types let through.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

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

unsafe extern "C" {
    fn poll(fds: *mut PollFd, count: Count, timeout_ms: i32) -> i32;
}

/// Whether nobody is left at the other end of a pipe, a socket or a terminal. Never so for a file.
pub fn hung_up(fd: BorrowedFd<'_>) -> bool {
    // These two are reported unasked.
    let mut fd = PollFd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `fd` is one pollfd, as the count says, and outlives the call, which does not keep it.
    let found = unsafe { poll(&mut fd, 1, 0) };
    found > 0 && fd.revents & (POLLERR | POLLHUP) != 0
}
