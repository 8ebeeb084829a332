//! A program that runs, and the end of all it started.
//!
//! A program leads a process group, and a signal reaches all of a group at once. What it starts may leave the
//! group (`timeout` does, shells with job control do), and when the program is gone nobody could tell whose it
//! was. `st server` therefore becomes a *subreaper* on Linux: processes below it whose parent has ended become
//! its children. Each program finds a random mark in its environment, which whatever it starts inherits; so
//! among those children the ones with the mark are known, killed and reaped. Killing them orphans theirs, so that
//! is repeated until none is left.
//!
//! Whoever adopts must also reap: an orphan that ends is a zombie until its parent asks for its status. (As process
//! 1 of a container the server is in that place without wanting it.) But a child of which std holds a [`Child`]
//! must be left to that: reaped by somebody else, its status is lost, and its pid may come to mean another
//! process. So those are listed, and spawning, listing and reaping take turns by one lock.
//!
//! Deliberately absent: hunting in a program that uses this library. Its process may have children that we know
//! nothing of; there only the group is killed. Out of reach everywhere is what cleared its environment (a daemon
//! does) or became another user.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use crate::sys;

/// The shortest and longest pause between two looks at whether a program has ended.
const POLL_MIN: Duration = Duration::from_micros(100);
const POLL_MAX: Duration = Duration::from_millis(10);
/// How long a program's orphans are hunted. One that cannot die because it waits for a disk is left to the reaper.
const HUNT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an orphan that has ended may stay a zombie.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// So many looks in a row must find nothing when this process is to die: one that is just being executed has no
/// environment for a moment, and so no mark.
const QUIET_LOOKS: u32 = 4;
const QUIET_PAUSE: Duration = Duration::from_millis(1);
/// How long a process that has sent itself a signal may take to end by it.
const SIGNAL_TIMEOUT: Duration = Duration::from_millis(200);
const REAPER_STACK_BYTES: usize = 64 << 10;

/// The children that a [`Job`] waits for and nobody else may reap, each with its mark. The list is a global, because
/// children belong to the whole process.
static AWAITED: Mutex<Vec<Awaited>> = Mutex::new(Vec::new());
type Awaited = (u32, Option<String>);
/// Stands for the pid of a child that has been reaped. No process has it, and nothing is sent to it.
const REAPED: u32 = 0;
/// Whether orphans become our children. It is set once, before the first program runs.
static ADOPTS: AtomicBool = AtomicBool::new(false);

/// Makes this process the parent of whatever its programs leave behind, so that it can be killed with them, and
/// reaps every child that ends and was not started as an action's program. Call it only in a process that starts no
/// other children. It does nothing where the system cannot do that: one that is not Linux.
pub fn adopt_orphans() -> io::Result<()> {
    if !sys::become_subreaper() {
        return Ok(());
    }
    ADOPTS.store(true, Relaxed);
    // No system call waits for all children but a few, so this looks once a second, into a file that is mostly empty.
    let reap = || loop {
        thread::sleep(REAP_INTERVAL);
        let mut awaited = awaited();
        // One that was just being executed had no environment, and so no mark, when its program's end looked for it.
        let marks: Vec<String> =
            awaited.iter().filter(|(pid, _)| *pid == REAPED).filter_map(mark_of).collect();
        sweep(&awaited, &marks);
        awaited.retain(|(pid, _)| *pid != REAPED);
    };
    thread::Builder::new().name("reaper".into()).stack_size(REAPER_STACK_BYTES).spawn(reap).map(drop)
}

/// A running program. It must be brought to an end by [`Job::end`].
pub(super) struct Job {
    child: Child,
    /// What its environment holds, and that of all it starts, where orphans can be found.
    mark: Option<String>,
}

impl Job {
    pub(super) fn spawn(command: &mut Command) -> io::Result<Job> {
        command.process_group(0);
        let mark = ADOPTS.load(Relaxed).then(|| {
            let mark = format!("{:016x}", RandomState::new().hash_one("job"));
            command.env("ST_JOB", &mark);
            format!("ST_JOB={mark}")
        });
        // Locked over both: were there a sweep between them, a child that has ended already would be reaped as an
        // orphan.
        let mut awaited = awaited();
        let child = command.spawn()?;
        awaited.push((child.id(), mark.clone()));
        Ok(Job { child, mark })
    }

    /// Whether the program itself has ended.
    pub(super) fn has_ended(&self) -> io::Result<bool> {
        sys::has_ended(self.child.id())
    }

    /// Kills what is left of the program and of what it started.
    pub(super) fn end(mut self) -> io::Result<ExitStatus> {
        // The group is killed before the program is reaped: until then its pid, which is the group's too, means nobody
        // else.
        sys::signal_group(self.child.id(), sys::SIGKILL);
        // The program itself may have left its group.
        let _ = self.child.kill();
        // Once it is reaped, the pid may be anybody's.
        let status = self.child.wait();
        // Its mark stays for a moment: the reaper looks for it once more, and so does the end of this process.
        let reaped = |entry: &mut Awaited| entry.0 = REAPED;
        awaited().iter_mut().filter(|(pid, _)| *pid == self.child.id()).for_each(reaped);
        let (since, mark) = (Instant::now(), self.mark.as_slice());
        while !mark.is_empty() && sweep(&awaited(), mark) > 0 && since.elapsed() < HUNT_TIMEOUT {
            thread::sleep(pause(since));
        }
        // Where nobody adopts, there is nothing to look for, and no reaper.
        awaited().retain(|entry| *entry != (REAPED, None));
        status
    }
}

/// Ends this process by a signal, and before that every program that it runs, with all it started.
pub(crate) fn die_of(signal: i32) -> ! {
    // One more signal, and nothing is waited for.
    sys::default_signals();
    // It is held to the end, so that nobody starts another one.
    let awaited = awaited();
    for (pid, _) in awaited.iter() {
        sys::signal_group(*pid, sys::SIGKILL);
        sys::kill_child(*pid);
    }
    hunt_all(&awaited);
    sys::signal_self(signal);
    // Process 1 of a container does not end by a signal that it does not handle.
    thread::sleep(SIGNAL_TIMEOUT);
    process::exit(128 + signal)
}

/// Kills what the programs that have ended may have left, when this process is about to end.
pub(crate) fn end_orphans() {
    hunt_all(&awaited());
}

/// Looks for what bears any of the marks until nothing does, or for as long as is granted.
fn hunt_all(awaited: &[Awaited]) {
    let marks: Vec<String> = awaited.iter().filter_map(mark_of).collect();
    let since = Instant::now();
    // What has left a group becomes our child when its parent has ended.
    let is_left = || {
        let lives = awaited.iter().any(|(pid, _)| matches!(sys::has_ended(*pid), Ok(false)));
        sweep(awaited, &marks) > 0 || lives
    };
    let mut quiet = if marks.is_empty() { QUIET_LOOKS } else { 0 };
    while quiet < QUIET_LOOKS && since.elapsed() < HUNT_TIMEOUT {
        thread::sleep(QUIET_PAUSE);
        quiet = if is_left() { 0 } else { quiet + 1 };
    }
}

fn mark_of((_, mark): &Awaited) -> Option<String> {
    mark.clone()
}

/// How long to wait before the next look whether something has ended that began at `since`. It grows with the time
/// that has passed, so at most an eighth of that is lost.
pub(super) fn pause(since: Instant) -> Duration {
    (since.elapsed() / 8).clamp(POLL_MIN, POLL_MAX)
}

/// Whoever holds this lock may start children or reap them. No code in between can panic, so poisoning means nothing.
fn awaited() -> MutexGuard<'static, Vec<Awaited>> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks once at each adopted child: kills those that bear one of these marks, and reaps those that have ended. Tells how
/// many had ended or were about to: each of them leaves its own children to us, so another look may find more. Whoever
/// calls it holds the lock.
fn sweep(awaited: &[Awaited], marks: &[String]) -> usize {
    let is_orphan = |pid: &u32| awaited.iter().all(|(awaited, _)| awaited != pid);
    let ending = adopted().into_iter().filter(is_orphan).filter(|pid| {
        // A child's pid stays its own until it is reaped. Only this function reaps orphans, under the lock.
        let marked = !marks.is_empty() && has_mark(*pid, marks);
        if marked {
            sys::kill_child(*pid);
        }
        // Asked last: a process that is about to end has no environment any more.
        sys::reap(*pid) || marked || is_exiting(*pid)
    });
    ending.count()
}

/// The children of the main thread: the kernel gives it the orphans. Programs may be among them too. A `/proc`
/// that belongs to another container has no such file.
fn adopted() -> Vec<u32> {
    let me = process::id();
    let children = fs::read_to_string(format!("/proc/self/task/{me}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process started with one of the marks in its environment. Its children inherit it.
fn has_mark(pid: u32, marks: &[String]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut variables = environment.split(|byte| *byte == 0);
    variables.any(|variable| marks.iter().any(|mark| mark.as_bytes() == variable))
}

/// Whether a process has begun to end. The kernel's `PF_EXITING` says so, among the flags that are the
/// seventh word behind the program's name, which is in brackets.
fn is_exiting(pid: u32) -> bool {
    const EXITING: u32 = 4;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let flags = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(6)?.parse().ok());
    flags.is_some_and(|flags: u32| flags & EXITING != 0)
}
