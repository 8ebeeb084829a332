//! Runs a program for a request, and is done with it: in time, in bounds, with nothing left behind.
//!
//! A program may sleep for ever, print without end, never read what it is sent, or leave children that
//! hold its output open. Three rules keep each of these from hanging or leaking anything:
//!
//! 1. One thread a pipe, so that no full pipe blocks another. The threads are scoped: this module cannot
//!    return before they have ended.
//! 2. What the program started is killed when the program has ended or must: `job` sees to that.
//! 3. We keep the program's ends of its pipes open as well. A child that got away can hold
//!    a pipe open, so waiting for the end of the output could take for ever. Instead, once the program is
//!    gone, we write a random mark behind its output: the reader stops there. Likewise we read what is
//!    left of the input, which frees the thread that may be stuck writing it.
//!
//! Pipes, not sockets with a read timeout, because `echo oops >/dev/stderr` fails on a socket. The
//! program's end is polled for, since std has no wait with a deadline.
//!
//! std starts a program by `posix_spawn`, which copies nothing, or else by `fork`, which copies the page tables:
//! 148 ms with a table of 2 GB, while writes stall. It forks, in a static binary, to change directory, and
//! wherever it would have to search a `PATH` that was set for the program; so neither is asked of it.
//!
//! Deliberately absent: a shell between us and the program. A program that became another user (`sudo`) cannot be
//! killed: it keeps its slot and its caller until it ends. Unix only: Windows has no process groups.

use std::collections::hash_map::RandomState;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::hash::BuildHasher;
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::job::Job;
use crate::protocol::{Code, Failure, excerpt};

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
        command.env_clear().env("PATH", search_path()).env("LANG", "C.UTF-8").env("ST_ACTION", action);
        if env::current_dir().is_ok_and(|here| here != Path::new("/")) {
            command.current_dir("/");
        }

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
            let job = Job::spawn(&mut command).map_err(|error| cannot_run(&command, &error))?;
            drop(command);
            let ended = job.wait(timeout, too_much);
            let status = job.end();
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
            if !ended? {
                return Err(Failure::new(Code::ActionFailed, too_long()));
            }
            Ok(Output { status: status?, stdout, stderr })
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

fn search_path() -> OsString {
    env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// The file that a program's name means, as the shell finds it: along `PATH`, unless it is a path itself.
/// What is not found stays a name, for the system to say so.
pub(super) fn look_up(program: &str) -> PathBuf {
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let path = search_path();
    let mut places = env::split_paths(&path).map(|folder| Path::new("/").join(folder).join(program));
    let found = if program.contains('/') { None } else { places.find(is_program) };
    found.unwrap_or_else(|| program.into())
}

fn cannot_run(command: &Command, error: &io::Error) -> Failure {
    let program = excerpt(command.get_program().as_encoded_bytes());
    Failure::new(Code::ActionFailed, format!("cannot run {program}: {error}"))
}
