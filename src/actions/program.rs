//! Programs as actions, `--action NAME=PROGRAM`, and how a program is run for a request: in time, in bounds, with
//! nothing left behind.
//!
//! The operator names a program at start, and it answers the requests of that name:
//!
//! - stdin: the request's `data` as one line of JSON; `null` where there is none. To the action `*` all of the request.
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
//! 1. One loop serves all three pipes, and moves bytes only where poll(2) says that it need not wait. So no full
//!    pipe blocks another, and time and output are looked at after every step.
//! 2. The program's end is what counts, not the end of its output: a child that got away can hold a pipe open for
//!    ever. Once the program is gone, what lies in the pipes is taken, and they are closed.
//! 3. What the program started is killed when the program has ended or must end: `job` sees to that.
//!
//! Pipes, not sockets with a read timeout, because `echo oops >/dev/stderr` fails on a socket. That the program has
//! ended is polled for, since std has no wait with a deadline; mostly a pipe that closes wakes us just then.
//!
//! std starts a program by `posix_spawn`, which copies nothing, or else by `fork`, which copies the page tables:
//! 148 ms with a table of 2 GB, while writes stall. In a static binary it forks to change directory, and
//! wherever it would have to search a `PATH` that was set for the program; so neither is asked of it.
//!
//! Deliberately absent: a shell between us and the program, and Windows, which has no process groups. A program that
//! became another user (`sudo`) cannot be killed: it keeps its slot and its caller until it ends.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use super::job::{self, Job};
use super::{Action, Call, Outcome, ROOM_LEVELS};
use crate::json::JsonText;
use crate::protocol::{Code, Failure, excerpt};
use crate::sys::{self, Interest};

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

/// How long a call waits for a slot. Short, because it holds a worker of the server meanwhile.
const SLOT_WAIT: Duration = Duration::from_secs(1);
/// A pipe that poll(2) calls writable takes this much, C's `PIPE_BUF`, at once. More might wait for the reader.
const PIPE_WRITE_BYTES: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };
const PIPE_READ_BYTES: usize = 16 << 10;

/// A program that answers requests. It is looked at when made and started anew for each call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Takes a program by its absolute path: a file that is executable. It is checked now, so that a slip shows when
    /// the server starts and not when the first client asks; a file that is deleted later fails each call. The
    /// error's message names the path.
    ///
    /// ```no_run
    /// use socket_tables::actions::Program;
    ///
    /// let server = socket_tables::Server::bind("0")?.action_by("COUNT", Program::new("/usr/bin/wc")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Program> {
        let path = path.into();
        // A relative path would depend on where the server was started.
        let checked = match path.is_absolute() {
            true => check_executable(&path),
            false => Err(io::Error::new(ErrorKind::InvalidInput, "its path must begin with '/'")),
        };
        let named =
            |problem: io::Error| io::Error::new(problem.kind(), format!("no program at {path:?}: {problem}"));
        checked.map_err(named)?;
        Ok(Program { path })
    }
}

impl Action for Program {
    fn call(&self, call: &Call<'_>) -> Outcome {
        let input = format!("{}\n", call.data().map_or("null", JsonText::as_str));
        let done = call.run(Command::new(&self.path), &input)?;
        if !done.status.success() {
            let said = excerpt(&done.stderr);
            let colon = if said.is_empty() { "" } else { ": " };
            return Err(call.failed(format_args!("failed ({}){colon}{said}", done.status)));
        }
        let output = String::from_utf8(done.stdout).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            call.failed(format_args!("wrote bytes that are not UTF-8, at {at}"))
        })?;
        Ok(match JsonText::parse(&output) {
            Ok(value) if value.leaves_room(ROOM_LEVELS) => value.into_owned(),
            Ok(_) | Err(_) => JsonText::string(output.strip_suffix('\n').unwrap_or(&output)),
        })
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
    /// Waits for one of `jobs_max` slots, then takes it.
    fn slot(&self, jobs_max: usize) -> Result<Slot<'_>, Failure> {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |count: &mut usize| *count >= jobs_max;
        let waited = self.freed.wait_timeout_while(count, SLOT_WAIT, is_full);
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
        let _slot = self.actions.running.slot(jobs_max)?;
        command.env_clear().env("PATH", search_path()).env("LANG", "C.UTF-8").env("ST_ACTION", self.name);
        // A folder that has been deleted has no path any more, and is not the root either.
        if env::current_dir().ok().as_deref() != Some(Path::new("/")) {
            command.current_dir("/");
        }
        let mut pipes = Pipes::open(&mut command, input)?;
        let job = Job::spawn(&mut command).map_err(|error| cannot_run(command.get_program(), &error))?;
        // The command holds the program's ends of the pipes. As long as they are open here, ours never see an end.
        drop(command);

        // Nothing may return before `job.end()`, or what the program started would be left behind.
        let started = Instant::now();
        let mut quiet_since = started;
        let mut ended = job.has_ended();
        let due = &self.actions.programs_due;
        let is_overdue = || due.get().is_some_and(|due| Instant::now() >= *due);
        let is_late = || started.elapsed() >= timeout || is_overdue();
        while matches!(ended, Ok(false)) && !is_late() && pipes.bytes() <= output_bytes_max {
            let left = timeout.saturating_sub(started.elapsed());
            if pipes.advance(job::pause(quiet_since).min(left)) > 0 {
                quiet_since = Instant::now();
            }
            ended = job.has_ended();
        }
        let status = job.end();
        // What the program wrote last still lies in the pipes. A child that got away may write on, until the limit.
        while pipes.bytes() <= output_bytes_max && pipes.advance(Duration::ZERO) > 0 {}

        if pipes.bytes() > output_bytes_max {
            return Err(self.failed(format_args!("wrote more than {output_bytes_max} bytes and was ended")));
        }
        match ended? {
            true => {}
            false if is_overdue() => return Err(self.failed("was killed: the server has to end")),
            false => return Err(self.failed(format_args!("ran longer than {timeout:?} and was killed"))),
        }
        let [stdout, stderr] = pipes.outputs.map(|(_, bytes)| bytes);
        Ok(Output { status: status?, stdout, stderr })
    }
}

/// Our ends of a program's pipes. Each is dropped, and so closed, when there is nothing more to write or to read.
struct Pipes<'a> {
    stdin: Option<PipeWriter>,
    /// What is still to be written.
    input: &'a [u8],
    /// stdout and stderr, with what came of each.
    outputs: [(Option<PipeReader>, Vec<u8>); 2],
}

impl<'a> Pipes<'a> {
    fn open(command: &mut Command, input: &'a str) -> io::Result<Pipes<'a>> {
        let (stdin_end, stdin) = io::pipe()?;
        let (stdout, stdout_end) = io::pipe()?;
        let (stderr, stderr_end) = io::pipe()?;
        command.stdin(stdin_end).stdout(stdout_end).stderr(stderr_end);
        let outputs = [stdout, stderr].map(|pipe| (Some(pipe), Vec::new()));
        Ok(Pipes { stdin: Some(stdin), input: input.as_bytes(), outputs })
    }

    /// How much the program has written.
    fn bytes(&self) -> usize {
        self.outputs.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Waits until some pipes can be written, read or closed without blocking, or for `timeout`. Serves each of those
    /// once, and tells how many they were.
    fn advance(&mut self, timeout: Duration) -> usize {
        let [stdout, stderr] = self.outputs.each_ref().map(|(pipe, _)| pipe.as_ref().map(AsFd::as_fd));
        let stdin = self.stdin.as_ref().map(AsFd::as_fd);
        if stdin.or(stdout).or(stderr).is_none() {
            // No pipe will wake us, and a sleep can be shorter than the millisecond that poll(2) counts in.
            thread::sleep(timeout);
            return 0;
        }
        let fds = [(stdin, Interest::Write), (stdout, Interest::Read), (stderr, Interest::Read)];
        let ready = sys::wait_ready(fds, timeout);
        if ready[0]
            && let Some(pipe) = &mut self.stdin
        {
            // Writing fails where the program no longer reads. Its status says whether that was a failure.
            let piece = &self.input[..self.input.len().min(PIPE_WRITE_BYTES)];
            let written = pipe.write(piece).unwrap_or(self.input.len());
            self.input = &self.input[written..];
            self.stdin.take_if(|_| self.input.is_empty());
        }
        for ((pipe, bytes), is_ready) in self.outputs.iter_mut().zip(&ready[1..]) {
            if *is_ready && let Some(reader) = pipe {
                let mut chunk = [0; PIPE_READ_BYTES];
                match reader.read(&mut chunk) {
                    Ok(n @ 1..) => bytes.extend_from_slice(&chunk[..n]),
                    Ok(0) | Err(_) => *pipe = None,
                }
            }
        }
        ready.iter().filter(|is_ready| **is_ready).count()
    }
}

/// Where programs are looked for; the fallback is what shells use where `PATH` is not set.
fn search_path() -> OsString {
    env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// The file that a program's name means, as the shell finds it: a name with a slash is a path, any other is looked
/// for along `PATH`. Relative paths begin at `here`.
pub(crate) fn find_program(name: &OsStr, here: &Path) -> io::Result<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        let path = here.join(name);
        return check_executable(&path).map(|()| path);
    }
    let mut problem = io::Error::new(ErrorKind::NotFound, "there is no such program in PATH");
    for folder in env::split_paths(&search_path()) {
        let path = here.join(folder).join(name);
        match check_executable(&path) {
            Ok(()) => return Ok(path),
            // A file that is there and cannot be run says more than that there is none.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => problem = error,
            Err(_) => {}
        }
    }
    Err(problem)
}

/// Fails unless the path leads to a file that can be executed. The problem is told without the path, which the
/// caller's message names as the user typed it.
fn check_executable(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    let problem = match found.is_file() {
        true if found.permissions().mode() & 0o111 != 0 => return Ok(()),
        true => "it is not executable: try chmod +x",
        false => "it is not a file",
    };
    Err(io::Error::new(ErrorKind::PermissionDenied, problem))
}

pub(super) fn cannot_run(program: &OsStr, error: &io::Error) -> Failure {
    let program = excerpt(program.as_encoded_bytes());
    Failure::new(Code::ActionFailed, format!("cannot run {program}: {error}"))
}
