//! The PROGRAM of `watch`: found before the server is asked for anything, then run for each change.
//!
//! Its stderr comes through us, so that the message about a failure can quote the last line of it. A program
//! may leave a child behind that keeps stderr open, so the end of stderr may never come. Therefore we keep
//! its writing end too: once the program has ended we write a random mark there, and read no further.
//! A pipe keeps the order of what is written, so all that the program itself wrote lies before the mark.
//!
//! Deliberately absent: a time limit. The program is the caller's own, and a watch that kills it would be a
//! surprise; changes wait on the server meanwhile, which closes a watch that falls too far behind.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;

use super::message::{Messages, Trouble};
use crate::actions::find_program;

/// A message quotes no more than this of what a program said. Only the end is kept, however much it says.
const TAIL_BYTES: usize = 1_000;

/// A program and its arguments. It is started directly, with no shell between: keys and values reach it by its
/// environment and its stdin, where nothing in them can be taken for a command.
pub(super) struct WatchProgram<'a> {
    name: &'a OsStr,
    words: &'a [OsString],
}

impl<'a> WatchProgram<'a> {
    /// Takes the words of a command line, if there are any. What cannot be run fails here, and not when the
    /// first change comes.
    pub fn find(words: &'a [OsString]) -> Result<Option<WatchProgram<'a>>, Trouble> {
        let Some((name, words)) = words.split_first() else { return Ok(None) };
        let program = WatchProgram { name, words };
        find_program(name, Path::new("")).map_err(|error| program.cannot_run(error))?;
        Ok(Some(program))
    }

    /// Runs it for a change, to its end, and only then is the next change looked at: changes come to the program in
    /// their order, one at a time. That it failed is said, and is no failure of ours: the next change may go well.
    pub fn run(
        &self,
        stderr: &mut Messages,
        event: &str,
        key: &str,
        value: &str,
        newline: &str,
    ) -> Result<(), Trouble> {
        let command = |value: Option<&str>| {
            let mut command = Command::new(self.name);
            command.args(self.words).env("ST_EVENT", event).env("ST_KEY", key).env_remove("ST_VALUE");
            command.envs(value.map(|value| ("ST_VALUE", value)));
            command
        };
        let input = format!("{value}{newline}");
        let mut ended = attempt(command(Some(value)), &input, &mut stderr.out);
        // No environment takes a NUL, nor more than the system's limit for all of it and the arguments.
        if let Err(error) = &ended
            && matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::ArgumentListTooLong)
        {
            stderr.say(&format!("{key:?}: the value does not fit into ST_VALUE; it is on stdin alone"));
            ended = attempt(command(None), &input, &mut stderr.out);
        }
        let (status, last) = ended.map_err(|error| self.cannot_run(error))?;
        if !status.success() {
            let colon = if last.is_empty() { "" } else { ": " };
            stderr.say(&format!("{}: {status}{colon}{last}", self.name.display()));
        }
        Ok(())
    }

    fn cannot_run(&self, error: io::Error) -> Trouble {
        Trouble::local(format_args!("cannot run {}", self.name.display()), error)
    }
}

/// Runs a program once, passes on what it says on stderr, and gives its status and the last line of that.
fn attempt(mut command: Command, input: &str, out: &mut dyn Write) -> io::Result<(ExitStatus, String)> {
    // Its stdout is ours, inherited, and needs no pipe.
    let (stdin, mut feed) = io::pipe()?;
    let (mut said, mut stderr) = io::pipe()?;
    let mut child = command.stdin(stdin).stderr(stderr.try_clone()?).spawn()?;
    // It holds the program's ends of the pipes, and nobody would see them closed.
    drop(command);

    // Nobody waits for this thread: what the program left behind may hold stdin and never read it.
    let input = input.as_bytes().to_vec();
    helper(move || drop(feed.write_all(&input)))?;
    // Random, so that no program can print it by chance or design. Std's hasher is seeded by the system.
    let mark = RandomState::new().hash_one(()).to_ne_bytes();
    let waiter = helper(move || {
        let status = child.wait();
        // It fails where we could not read stderr, and then nobody waits for the mark.
        let _ = stderr.write_all(&mark);
        status
    })?;
    let last = pass_on(&mut said, &mark, out);
    let status = waiter.join().expect("waiting does not panic")?;
    // What the program left behind would be killed by SIGPIPE if nobody read its stderr.
    let _ = helper(move || drop(io::copy(&mut said, &mut io::sink())));
    Ok((status, last))
}

/// Starts a thread. That there are too many already is an error here, where std's shorter way would panic.
fn helper<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name("program".into()).spawn(work)
}

/// Passes on what comes before the mark, as it comes, and gives the last line of it.
fn pass_on(pipe: &mut PipeReader, mark: &[u8], out: &mut dyn Write) -> String {
    // `held` has come and was not passed on; `tail` is the end of what was.
    let (mut held, mut tail, mut chunk) = (Vec::new(), Vec::new(), [0; 4096]);
    let mut marked = None;
    while marked.is_none() {
        match pipe.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(n) => held.extend_from_slice(&chunk[..n]),
        }
        marked = held.windows(mark.len()).position(|bytes| bytes == mark);
        // What may be the beginning of the mark waits for what comes next.
        let begun = (1..mark.len()).rev().find(|n| held.ends_with(&mark[..*n])).unwrap_or(0);
        let before = marked.unwrap_or(held.len() - begun);
        // That stderr cannot be written to is no reason to fail: there is nobody to tell.
        let _ = out.write_all(&held[..before]);
        tail.extend(held.drain(..before));
        tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
    }
    let tail = String::from_utf8_lossy(&tail);
    tail.trim_end().lines().next_back().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_is_passed_on_up_to_the_mark_however_it_is_cut() {
        let (text, mark) = ("one\nmar\nmark\nlast word\n\n", b"marker\n!");
        let all = [text.as_bytes(), mark, b"not ours"].concat();
        for cut in 0..=all.len() {
            let (mut reader, mut writer) = io::pipe().unwrap();
            let (first, second) = all.split_at(cut);
            let (first, second) = (first.to_vec(), second.to_vec());
            let (wrote, passed) = std::sync::mpsc::channel();
            writer.write_all(&first).unwrap();
            let writing = thread::spawn(move || {
                // The second piece comes once the first has been read.
                passed.recv_timeout(std::time::Duration::from_secs(9)).unwrap();
                writer.write_all(&second).unwrap();
            });
            let mut out = Tell(Vec::new(), wrote);
            if cut == 0 {
                out.write_all(b"").unwrap();
            }
            let last = pass_on(&mut reader, mark, &mut out);
            writing.join().unwrap();
            assert_eq!((out.0.as_slice(), &*last), (text.as_bytes(), "last word"), "cut at {cut}");
        }
    }

    /// A writer that tells of each write.
    struct Tell(Vec<u8>, std::sync::mpsc::Sender<()>);

    impl Write for Tell {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            let _ = self.1.send(());
            Ok(bytes.len())
        }

        fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.write(bytes).map(drop)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
