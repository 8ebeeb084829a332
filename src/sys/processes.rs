//! Children, process groups, and the terminal that they share. A pid means a process for as long as that is our child and
//! has not been reaped: after that it may be anybody's, and nobody may be killed by it.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::{getpgrp, kill, look_at, set_ignored, tcgetpgrp, tcsetpgrp};

const WNOHANG: c_int = 1;
const WEXITED: c_int = 4;
#[cfg(not(target_vendor = "apple"))]
const WNOWAIT: c_int = 0x0100_0000;
#[cfg(target_vendor = "apple")]
const WNOWAIT: c_int = 0x20;
const WSTOPPED: c_int = if cfg!(target_vendor = "apple") { 8 } else { 2 };
const CLD_STOPPED: c_int = 5;

/// The signals that somebody here sends or is told of, by their numbers.
pub const SIGHUP: c_int = 1;
/// What Ctrl-C sends.
pub const SIGINT: c_int = 2;
/// What nobody can handle or ignore.
pub const SIGKILL: c_int = 9;
/// What asks a process to end.
pub const SIGTERM: c_int = 15;
/// What lets a stopped process go on.
pub const SIGCONT: c_int = if cfg!(target_vendor = "apple") { 19 } else { 18 };
/// What Ctrl-Z sends.
pub const SIGTSTP: c_int = if cfg!(target_vendor = "apple") { 18 } else { 20 };
/// What stops those who read from a terminal that listens to others.
pub const SIGTTIN: c_int = 21;
/// The same for those who set it up.
pub const SIGTTOU: c_int = 22;

/// Whether a child of ours has ended, without reaping it: std's `try_wait` does, and from then on the pid may
/// be another process's.
pub fn has_ended(child: u32) -> io::Result<bool> {
    Ok(look_at(child, WEXITED | WNOHANG | WNOWAIT)?.0[0] != 0)
}

/// Reaps a child of ours that no `std::process::Child` stands for, if it has ended, and tells whether it had.
pub fn reap(child: u32) -> bool {
    look_at(child, WEXITED | WNOHANG).is_ok_and(|info| info.0[0] != 0)
}

/// Waits until a child of ours is stopped, and gives the signal that did it, or until it ends, which is `None`. It is not
/// reaped.
pub fn wait_for_stop(child: u32) -> io::Result<Option<c_int>> {
    let info = look_at(child, WEXITED | WSTOPPED | WNOWAIT)?;
    if info.0[2] != CLD_STOPPED {
        return Ok(None);
    }
    // Told of once, or the next call would be told of it again.
    look_at(child, WSTOPPED | WNOHANG)?;
    // Behind the code come the pid and the user; on Linux with pointers of 64 bits there is a gap before them.
    let gap = usize::from(cfg!(all(target_os = "linux", target_pointer_width = "64")));
    Ok(Some(info.0[5 + gap]))
}

/// Kills a process. It must be a child of ours that has not been reaped, or it may be anybody.
pub fn kill_child(child: u32) {
    pid(child).map(|child| kill(child, SIGKILL));
}

/// Sends a signal to this process.
pub fn signal_self(signal: c_int) {
    pid(std::process::id()).map(|own| kill(own, signal));
}

/// Sends a signal to a process group, which std cannot. Its leader must be a child of ours that has not been reaped.
pub fn signal_group(leader: u32, signal: c_int) {
    pid(leader).map(|leader| kill(-leader, signal));
}

/// A pid as C has it. To `kill`, 0 and -1 stand for many processes, and -1 is what negating 1 gives.
fn pid(child: u32) -> Option<c_int> {
    c_int::try_from(child).ok().filter(|pid| *pid > 1)
}

/// The process group that we are in.
pub fn own_group() -> u32 {
    getpgrp().unsigned_abs()
}

/// Has a terminal listen to the process group `to`, if it is `from` to which it listens now: that group may read from it,
/// and is what Ctrl-C ends. Tells whether it listens to `to`.
pub fn hand_terminal(terminal: impl AsFd, from: u32, to: u32) -> bool {
    let terminal = terminal.as_fd().as_raw_fd();
    if let (Some(from), Some(to)) = (pid(from), pid(to))
        && tcgetpgrp(terminal) == from
    {
        // To those to whom it does not listen, asking for it means to be stopped.
        set_ignored(SIGTTOU, true);
        tcsetpgrp(terminal, to);
        set_ignored(SIGTTOU, false);
    }
    pid(to) == Some(tcgetpgrp(terminal))
}

/// Has Ctrl-Z do nothing to us, or what it does to others.
pub fn ignore_suspend(is_ignored: bool) {
    set_ignored(SIGTSTP, is_ignored);
}
