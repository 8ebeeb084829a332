//! Programs as actions, `--action NAME=PROGRAM`, and how a program is run for a request: in time, in bounds, with
//! nothing left behind.
//!
//! The operator names a program at start, and it answers the requests of that name:
//!
//! - stdin: the request's `data` as one line of JSON; `null` where there is none.
//! - arguments: none. Environment: `PATH` as the server has it, `LANG=C.UTF-8`, `ST_ACTION=NAME`, under
//!   `st server` on Linux also `ST_JOB` (see `job`), and nothing else. A client decides nothing but what stands
//!   on stdin, so there is nothing to quote or to smuggle.
//! - stdout: the value. JSON if it is JSON, else a string, less one newline at its end; no output is `""`.
//!   It has to be UTF-8. JSON that is nested deeper than a stored value may be, 126 levels, is a string too.
//! - a status other than 0, or death by a signal: `action_failed`, with what stands on stderr, cut.
//!
//! A program may sleep for ever, print without end, never read what it is sent, or leave children that hold its
//! output open. Three rules keep each of these from hanging or leaking anything:
//!
//! 1. Each pipe has a thread of its own, so that no full pipe blocks another. The threads are scoped: the call cannot
//!    return before they have ended.
//! 2. What the program started is killed when the program has ended or must end: `job` sees to that.
//! 3. We keep the program's ends of its pipes open as well. A child that got away can hold a pipe open, so waiting for
//!    the end of the output could take for ever. Instead, once the program is gone, we write a random mark
//!    behind its output, and the reader stops there. Likewise we read what is left of the input, which frees the
//!    thread that may be stuck writing it.
//!
//! Pipes, not sockets with a read timeout, because `echo oops >/dev/stderr` fails on a socket.
//!
//! std starts a program by `posix_spawn`, which copies nothing, or else by `fork`, which copies the page tables:
//! 148 ms with a table of 2 GB, while writes stall. In a static binary it forks to change directory, and
//! wherever it would have to search a `PATH` that was set for the program; so neither is asked of it.
//!
//! Deliberately absent: a shell between us and the program. A program that became another user (`sudo`) cannot be
//! killed: it keeps its slot and its caller until it ends. Unix only: Windows has no process groups.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use std::{env, error, fmt, fs, thread};

use super::job::Job;
use super::{Action, Call, ROOM_LEVELS};
use crate::json::{JsonText, Parser};
use crate::protocol::{Code, Failure, excerpt};

/// What a program run for a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// It is killed, with all it started, when it has run this long.
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
const PIPE_CHUNK_BYTES: usize = 16 << 10;

/// A program that answers requests. It is looked at when made and started anew for each call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Takes a program by its absolute path: a file that is executable. Checked now, so that a slip shows when the
    /// server starts and not when the first client asks; what is deleted later fails each call.
    pub fn new(path: impl Into<PathBuf>) -> Result<Program, ProgramError> {
        let path = path.into();
        if !path.is_absolute() {
            return Err(ProgramError::NotAbsolute(path));
        }
        match fs::metadata(&path) {
            Err(cause) => Err(ProgramError::Unreachable(path, cause)),
            Ok(found) if !found.is_file() => Err(ProgramError::NotAFile(path)),
            Ok(found) if found.permissions().mode() & 0o111 == 0 => Err(ProgramError::NotExecutable(path)),
            Ok(_) => Ok(Program { path }),
        }
    }
}

impl Action for Program {
    fn call(&self, call: &Call<'_>) -> Result<JsonText<'static>, Failure> {
        let fail = |what: String| Failure::new(Code::ActionFailed, format!("{} {what}", call.name()));
        let input = format!("{}\n", call.data().map_or("null", JsonText::as_str));
        let done = call.run(Command::new(&self.path), &input)?;
        if !done.status.success() {
            let said = excerpt(&done.stderr);
            let colon = if said.is_empty() { "" } else { ": " };
            return Err(fail(format!("failed ({}){colon}{said}", done.status)));
        }
        let output = String::from_utf8(done.stdout).map_err(|error| {
            fail(format!("wrote bytes that are not UTF-8, at {}", error.utf8_error().valid_up_to()))
        })?;
        let mut parser = Parser::new(&output);
        let value = parser.compact_with_room(ROOM_LEVELS).and_then(|value| parser.end().map(|()| value));
        Ok(match value {
            Ok(value) => value.into_owned(),
            Err(_) => JsonText::string(output.strip_suffix('\n').unwrap_or(&output)),
        })
    }
}

/// Why a file, the path given, cannot be an action.
#[derive(Debug)]
pub enum ProgramError {
    /// A relative path would depend on where the server was started.
    NotAbsolute(PathBuf),
    /// It does not exist, or may not be looked at, as the system says.
    Unreachable(PathBuf, io::Error),
    /// It is a directory, a device or the like.
    NotAFile(PathBuf),
    /// Nobody has the right to execute it.
    NotExecutable(PathBuf),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::NotAbsolute(path) => write!(f, "{path:?} is no absolute path: begin it with '/'"),
            ProgramError::Unreachable(path, cause) => write!(f, "no program at {path:?}: {cause}"),
            ProgramError::NotAFile(path) => write!(f, "{path:?} is not a file"),
            ProgramError::NotExecutable(path) => write!(f, "{path:?} is not executable: try chmod +x"),
        }
    }
}

impl error::Error for ProgramError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            ProgramError::Unreachable(_, cause) => Some(cause),
            ProgramError::NotAbsolute(_) | ProgramError::NotAFile(_) | ProgramError::NotExecutable(_) => None,
        }
    }
}

/// Counts the programs that run: a semaphore, which std lacks.
#[derive(Default)]
pub(super) struct Running {
    count: Mutex<usize>,
    freed: Condvar,
}

/// The right to run one program; given back when dropped.
struct Slot<'a>(&'a Running);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

impl Running {
    fn slot(&self, jobs_max: usize) -> Result<Slot<'_>, Failure> {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |count: &mut usize| *count >= jobs_max;
        let waited = self.freed.wait_timeout_while(count, TURN_WAIT, is_full);
        let (mut count, wait) = waited.unwrap_or_else(PoisonError::into_inner);
        if wait.timed_out() {
            let message = format!("{} programs run already, as many as may: try again", *count);
            return Err(Failure::new(Code::Busy, message));
        }
        *count += 1;
        Ok(Slot(self))
    }
}

impl Call<'_> {
    /// Runs `command` in `/`, with an environment that holds nothing of the client's, `input` on its stdin,
    /// until it ends. A program that ran too long or wrote too much is an error; one that failed is not.
    pub(super) fn run(&self, mut command: Command, input: &str) -> Result<Output, Failure> {
        let Limits { timeout, output_bytes_max, jobs_max } = self.actions.limits;
        let fail = |what: String| Err(Failure::new(Code::ActionFailed, format!("{} {what}", self.name)));
        let _slot = self.actions.running.slot(jobs_max)?;
        let (mark, too_much) = (&Mark::new(), &AtomicBool::new(false));
        command.env_clear().env("PATH", search_path()).env("LANG", "C.UTF-8").env("ST_ACTION", self.name);
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
            let collector = |pipe| move || collect(pipe, mark, output_bytes_max, too_much);
            let output = thread().spawn_scoped(scope, collector(output_end))?;
            let error = thread().spawn_scoped(scope, collector(error_end))?;
            let job = Job::spawn(&mut command).map_err(|error| cannot_run(command.get_program(), &error))?;
            drop(command);
            let status = job.finish(timeout, too_much);
            // These free the threads. A write fails only where its reader is gone already.
            let _ = stdout.write_all(&mark.0);
            let _ = stderr.write_all(&mark.0);
            let _ = io::copy(&mut stdin, &mut io::sink());

            // Joined one by one, since a scope by itself waits for their work, not for the threads to be gone.
            feeder.join().expect("writing does not panic");
            let [stdout, stderr] = [output, error].map(|end| end.join().expect("collect does not panic"));
            if too_much.load(Relaxed) || stdout.len() + stderr.len() > output_bytes_max {
                return fail(format!("wrote more than {output_bytes_max} bytes and was ended"));
            }
            match status? {
                Some(status) => Ok(Output { status, stdout, stderr }),
                None => fail(format!("ran longer than {timeout:?} and was killed")),
            }
        })
    }
}

/// Reads a program's output. Where there is more than `bytes_max` the pipe closes, and a program that goes on writing
/// gets SIGPIPE.
fn collect(mut pipe: PipeReader, mark: &Mark, bytes_max: usize, too_much: &AtomicBool) -> Vec<u8> {
    let mut output = Vec::new();
    mark.read_before(&mut pipe, |bytes| {
        output.extend_from_slice(bytes);
        if output.len() <= bytes_max {
            return ControlFlow::Continue(());
        }
        too_much.store(true, Relaxed);
        ControlFlow::Break(())
    });
    output
}

/// What we write behind a program's output. Random, so that no program can print it by chance or design.
pub(crate) struct Mark(pub [u8; 8]);

impl Mark {
    pub fn new() -> Mark {
        Mark(RandomState::new().hash_one(()).to_ne_bytes())
    }

    /// Passes on what comes before the mark, as it comes, for as long as `pass_on` says so.
    pub fn read_before(&self, pipe: &mut PipeReader, mut pass_on: impl FnMut(&[u8]) -> ControlFlow<()>) {
        let (mut bytes, mut chunk) = (Vec::new(), [0; PIPE_CHUNK_BYTES]);
        loop {
            match pipe.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return,
                Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            }
            let marked = bytes.windows(self.0.len()).position(|window| window == self.0);
            // A pipe may deliver the mark in two pieces: what may be its beginning waits for what comes next.
            let begun = (1..self.0.len()).rev().find(|n| bytes.ends_with(&self.0[..*n])).unwrap_or(0);
            let rest = bytes.split_off(marked.unwrap_or(bytes.len() - begun));
            if pass_on(&bytes).is_break() || marked.is_some() {
                return;
            }
            bytes = rest;
        }
    }
}

fn search_path() -> OsString {
    env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// The file that a program's name means, as the shell finds it: a name with a slash is a path, any other is looked for
/// along `PATH`. Relative paths begin at `here`.
pub(crate) fn find_program(name: &OsStr, here: &Path) -> io::Result<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return executable(here.join(name));
    }
    let mut problem = io::Error::new(ErrorKind::NotFound, "there is no such program in PATH");
    for folder in env::split_paths(&search_path()) {
        match executable(here.join(folder).join(name)) {
            Ok(path) => return Ok(path),
            // It says more than that there is none.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => problem = error,
            Err(_) => {}
        }
    }
    Err(problem)
}

fn executable(path: PathBuf) -> io::Result<PathBuf> {
    let found = fs::metadata(&path)?;
    let problem = match found.is_file() {
        true if found.permissions().mode() & 0o111 != 0 => return Ok(path),
        true => "it is not executable",
        false => "it is not a file",
    };
    Err(io::Error::new(ErrorKind::PermissionDenied, problem))
}

pub(super) fn cannot_run(program: &OsStr, error: &io::Error) -> Failure {
    let program = excerpt(program.as_encoded_bytes());
    Failure::new(Code::ActionFailed, format!("cannot run {program}: {error}"))
}
