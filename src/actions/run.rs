//! Runs a program for a request, and is done with it: in time, in bounds, with nothing left behind.
//!
//! A program may sleep for ever, print without end, never read what it is sent, or leave children that
//! hold its output open. Three rules keep each of these from hanging or leaking anything:
//!
//! 1. One thread a pipe, so that no full pipe blocks another. The threads are scoped: this module cannot
//!    return before they have ended.
//! 2. The program leads a process group, and the whole group is killed when the program has ended or must.
//! 3. We keep the program's ends of its pipes open as well. A child that left the group (`setsid`) can hold
//!    a pipe open, so waiting for the end of the output could take for ever. Instead, once the program is
//!    gone, we write a random mark behind its output: the reader stops there. Likewise we read what is
//!    left of the input, which frees the thread that may be stuck writing it.
//!
//! Pipes, not sockets with a read timeout, because `echo oops >/dev/stderr` fails on a socket. The
//! program's end is polled for, since std has no wait with a deadline.
//!
//! Deliberately absent: a shell between us and the program, and reaching for those who left the group:
//! they get SIGPIPE and live on, as a daemon should. A program that became another user (`sudo`) cannot be
//! killed: it keeps its slot and its caller until it ends. Unix only: Windows has no process groups.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::BuildHasher;
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::protocol::{Code, Failure};

/// What a program run for a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// It is killed, with its process group, when it has run this long.
    pub timeout: Duration,
    /// It is killed when it has written more than this, stdout and stderr together.
    pub output_bytes_max: usize,
    /// This many run at once; one more waits up to 1 s for its turn, then gets `busy`.
    pub jobs_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { timeout: Duration::from_secs(5), output_bytes_max: 1 << 20, jobs_max: 16 }
    }
}

/// How long a call waits for its turn. Short, because it holds a worker of the server meanwhile.
const TURN_WAIT: Duration = Duration::from_secs(1);
/// The shortest and longest pause between two looks at whether a program has ended.
const POLL_MIN: Duration = Duration::from_micros(100);
const POLL_MAX: Duration = Duration::from_millis(10);
/// How long the killer of a group may take: a millisecond, unless what it is to kill stops it first.
const KILLER_TIMEOUT: Duration = Duration::from_secs(1);
const HELPER_STACK_BYTES: usize = 128 << 10;
const OUTPUT_CHUNK_BYTES: usize = 16 << 10;

/// What we write behind a program's output. Random, so that no program can print it by chance or design.
type Mark = [u8; 8];

/// Runs programs, a few at once.
#[derive(Default)]
pub(super) struct Runner {
    running: Mutex<usize>,
    freed: Condvar,
}

/// The right to run one program; given back when dropped.
struct Turn<'a>(&'a Runner);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

impl Runner {
    fn turn(&self, jobs_max: usize) -> Result<Turn<'_>, Failure> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |running: &mut usize| *running >= jobs_max;
        let (mut running, wait) =
            self.freed.wait_timeout_while(running, TURN_WAIT, full).unwrap_or_else(PoisonError::into_inner);
        if wait.timed_out() {
            let message = format!("{} programs run already, as many as may: try again", *running);
            return Err(Failure::new(Code::Busy, message));
        }
        *running += 1;
        Ok(Turn(self))
    }

    /// Runs `command` in `/`, with an environment that holds nothing of the client's, `input` on its stdin,
    /// until it ends. A program that ran too long or wrote too much is an error; one that failed is not.
    pub(super) fn run(
        &self,
        limits: Limits,
        mut command: Command,
        action: &str,
        input: &str,
    ) -> Result<Output, Failure> {
        let Limits { timeout, output_bytes_max, jobs_max } = limits;
        let _turn = self.turn(jobs_max)?;
        let mark: Mark = RandomState::new().hash_one(()).to_ne_bytes();
        let too_much = AtomicBool::new(false);
        let (mark, too_much) = (&mark, &too_much);
        let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        command.env_clear().env("PATH", path).env("LANG", "C.UTF-8").env("ST_ACTION", action);
        command.current_dir("/").process_group(0);

        // The closure owns every end of every pipe but those of the threads: when it returns early, they are
        // dropped, the threads find their pipes closed, and the scope can end.
        thread::scope(move |scope| {
            let (mut stdin, mut input_end) = io::pipe()?;
            let (output_end, mut stdout) = io::pipe()?;
            let (error_end, mut stderr) = io::pipe()?;
            command.stdin(stdin.try_clone()?).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
            let thread = || thread::Builder::new().name("program".into()).stack_size(HELPER_STACK_BYTES);
            // It fails where nobody reads any more; that is for the program to judge.
            let feeder = thread().spawn_scoped(scope, move || drop(input_end.write_all(input.as_bytes())))?;
            let collector = |pipe| move || collect(pipe, output_bytes_max, mark, too_much);
            let output = thread().spawn_scoped(scope, collector(output_end))?;
            let error = thread().spawn_scoped(scope, collector(error_end))?;
            let mut child = command.spawn().map_err(|error| cannot_run(&command, &error))?;
            drop(command);

            let exit = wait(&mut child, timeout, too_much);
            kill_group(&child);
            if !matches!(exit, Ok(Some(_))) {
                // Already dead or dying, unless the system has no /bin/sh or the program left its own group.
                let _ = child.kill();
                let _ = child.wait();
            }
            // These free the threads. A write fails only where its reader is gone already.
            let _ = stdout.write_all(mark);
            let _ = stderr.write_all(mark);
            let _ = io::copy(&mut stdin, &mut io::sink());

            // Joined one by one, since a scope by itself waits for their work, not for the threads to be gone.
            feeder.join().expect("writing does not panic");
            let [stdout, stderr] = [output, error].map(|end| end.join().expect("collect does not panic"));
            if too_much.load(Ordering::Relaxed) || stdout.len() + stderr.len() > output_bytes_max {
                let said = format!("{action} wrote more than {output_bytes_max} bytes and was ended");
                return Err(Failure::new(Code::ActionFailed, said));
            }
            let too_long = || format!("{action} ran longer than {timeout:?} and was killed");
            let status = exit?.ok_or_else(|| Failure::new(Code::ActionFailed, too_long()))?;
            Ok(Output { status, stdout, stderr })
        })
    }
}

/// Reads up to the mark, or until there is more than `bytes_max`. Then the pipe closes, and a program that
/// goes on writing gets SIGPIPE.
fn collect(mut pipe: PipeReader, bytes_max: usize, mark: &Mark, too_much: &AtomicBool) -> Vec<u8> {
    let mut output = Vec::new();
    let mut chunk = [0; OUTPUT_CHUNK_BYTES];
    loop {
        // The mark may have come in two pieces.
        let unsearched = output.len().saturating_sub(mark.len() - 1);
        match pipe.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return output,
            Ok(n) => output.extend_from_slice(&chunk[..n]),
        }
        if let Some(at) = output[unsearched..].windows(mark.len()).position(|bytes| bytes == mark) {
            output.truncate(unsearched + at);
            return output;
        }
        // A part of the mark is not output: the exact limit is checked once all has been read.
        if output.len() > bytes_max.saturating_add(mark.len()) {
            too_much.store(true, Ordering::Relaxed);
            return output;
        }
    }
}

/// Waits for a program to end. None where it ran past the timeout or wrote too much.
fn wait(child: &mut Child, timeout: Duration, too_much: &AtomicBool) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        let status = child.try_wait()?;
        let passed = started.elapsed();
        if status.is_some() || too_much.load(Ordering::Relaxed) || passed >= timeout {
            return Ok(status);
        }
        // So at most an eighth of the program's own time is lost.
        thread::sleep((passed / 8).clamp(POLL_MIN, POLL_MAX).min(timeout - passed));
    }
}

/// Kills what is left of the group that `leader` was started to lead.
///
/// std can signal a child but no group, so a shell does it; it joins the group and kills its own. Where the
/// group is empty, as mostly, joining fails: that costs little, and nobody else can be hit, as could be if we
/// named a number that the system may have given to another meanwhile.
fn kill_group(leader: &Child) {
    let Ok(group) = i32::try_from(leader.id()) else { return };
    let mut killer = Command::new("/bin/sh");
    killer.args(["-c", "kill -KILL 0"]).env_clear().current_dir("/").process_group(group);
    killer.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Ok(mut killer) = killer.spawn() {
        let _ = wait(&mut killer, KILLER_TIMEOUT, &AtomicBool::new(false));
        let _ = killer.kill();
        let _ = killer.wait();
    }
}

fn cannot_run(command: &Command, error: &io::Error) -> Failure {
    let program = super::excerpt(command.get_program().as_encoded_bytes());
    Failure::new(Code::ActionFailed, format!("cannot run {program}: {error}"))
}
