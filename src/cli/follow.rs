//! Following changes on the command line: `watch` and `get --wait`.
//!
//! The library's watch ends with its connection. A script that follows a key for weeks would rather go on when the
//! server is restarted, so a [`Follower`] connects again and starts a new watch. Only the present state can tell
//! what was missed meanwhile, and it says nothing of a key that is gone. Therefore `watch` remembers what it
//! printed, and prints a `DELETE` for each key that the new present state lacks.
//!
//! What is missed all the same: a key that was changed twice while the connection was lost is told once, and one that
//! was created and deleted is not told at all. A server that kept changes for absent watchers would need memory
//! without a bound.
//!
//! `watch` can run a PROGRAM for each change in place of printing it. The program is started directly, with no shell
//! between: keys and values reach it by its environment and its stdin, where nothing in them can be taken for a
//! command. Deliberately absent is a time limit for it. The program is the caller's own, and a watch that kills it
//! would be a surprise; changes wait on the server meanwhile, which closes a watch that falls too far behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::{replace, take};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use super::Run;
use super::client::ClientArgs;
use super::message::{Messages, Trouble};
use crate::actions::find_program;
use crate::client::{Client, ClientError, Event, Watch, pauses};
use crate::json::JsonText;
use crate::protocol::Scope;
use crate::sys::{Interest, hung_up, wait_ready};

/// While nothing changes, a watch looks this often whether anybody still reads its stdout.
const QUIET: Duration = Duration::from_millis(250);
/// So much is remembered of keys and values that were printed: the server's table may be larger than our memory.
const REMEMBERED_BYTES_MAX: usize = 256 << 20;
/// What an entry costs beside its key and its value: two allocations with their headers, and its share of a node of
/// the tree.
const ENTRY_BYTES: usize = 100;
const TOO_MANY: &str =
    "more keys and values than are remembered: not all that vanish during a reconnect will be told";
/// What a pipe holds on Linux, unless the program made it larger.
const PIPE_BYTES: usize = 64 << 10;
/// A message quotes no more than this of what a program said. Only the end is kept, however much it says.
const TAIL_BYTES: usize = 1_000;
/// The longest pause between two looks at whether a program has ended. It matters only where the program left behind
/// what holds its stderr: else the end of the pipe wakes us.
const POLL_MAX: Duration = Duration::from_millis(50);

/// `watch`: prints each change, or runs a program for it. It ends after `--count` changes, when nobody reads what
/// it prints any more, or with an error.
pub(super) fn follow(
    run: &mut Run<'_>,
    args: &ClientArgs,
    scope: &Scope<'static>,
    program: &[OsString],
) -> Result<(), Trouble> {
    // A program that cannot be run fails here, and not when the first change comes.
    if let Some(name) = program.first() {
        find_program(name, Path::new("")).map_err(|error| cannot_run(name, error))?;
    }
    let mut follower = Follower::new(args, scope.clone(), None);
    let mut remembered = Remembered::default();
    // Without --count it ends long after everything else.
    let mut left = args.count.unwrap_or(u64::MAX);
    loop {
        let event = follower.next(run)?;
        let ready = event == Some(Event::Ready);
        let (word, changes) = match event {
            // Else `watch KEY | head -1` would last until one more change. A program is run whether or not
            // somebody reads what it prints.
            None if program.is_empty() && hung_up(run.stdout.get_ref().as_fd()) => return Ok(()),
            None => continue,
            Some(Event::Update(key, value)) => {
                let value = JsonText::from(value);
                remembered.update(follower.connections, &key, &value, run.stderr);
                ("UPDATE", vec![(key, value)])
            }
            Some(Event::Delete(key, value)) => {
                remembered.remove(&key);
                ("DELETE", vec![(key, JsonText::from(value))])
            }
            // The whole present state has been told: what it did not name has vanished.
            Some(Event::Ready) => ("DELETE", remembered.take_vanished(follower.connections)),
        };
        // One of them, as a rule; after a reconnect as many as have vanished.
        for (key, value) in changes {
            tell(run, args, program, word, &key, &value)?;
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
        if ready && args.json && program.is_empty() {
            run.write(b"{\"request\":\"READY\"}\n")?;
        }
    }
}

/// Tells a change by a line on stdout, which is flushed at once since somebody waits for it, or by running the program.
///
/// The program runs to its end before the next change is looked at: changes come to it in their order, one at a time.
/// That it failed is said, and does not end the watch: the next change may go well.
fn tell(
    run: &mut Run<'_>,
    args: &ClientArgs,
    program: &[OsString],
    word: &str,
    key: &str,
    value: &JsonText<'_>,
) -> Result<(), Trouble> {
    let Some((name, words)) = program.split_first() else {
        let line = match args.json {
            true => {
                format!("{{\"request\":\"{word}\",\"key\":{},\"value\":{value}}}\n", JsonText::string(key))
            }
            false => format!("{word}\t{key}\t{value}\n"),
        };
        return run.write(line.as_bytes());
    };
    let stderr = &mut *run.stderr;
    let value = args.plain(value);
    let input = format!("{value}{}", if args.no_newline { "" } else { "\n" });
    let command = |value: Option<&str>| {
        let mut command = Command::new(name);
        command.args(words).env("ST_EVENT", word).env("ST_KEY", key).env_remove("ST_VALUE");
        command.envs(value.map(|value| ("ST_VALUE", value)));
        command
    };
    let mut ended = run_once(command(Some(&value)), &input, &mut stderr.out);
    // No environment takes a NUL, nor more than the system's limit for all of it and the arguments.
    if let Err(error) = &ended
        && matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::ArgumentListTooLong)
    {
        stderr.say(&format!("{key:?}: the value does not fit into ST_VALUE; it is on stdin alone"));
        ended = run_once(command(None), &input, &mut stderr.out);
    }
    let (status, last) = ended.map_err(|error| cannot_run(name, error))?;
    if !status.success() {
        let colon = if last.is_empty() { "" } else { ": " };
        stderr.say(&format!("{}: {status}{colon}{last}", name.display()));
    }
    Ok(())
}

pub(super) fn cannot_run(name: &OsString, error: io::Error) -> Trouble {
    Trouble::local(format_args!("cannot run {}", name.display()), error)
}

/// Runs a program once, passes on what it says on stderr, and gives its status and the last line of that.
///
/// Its stderr comes through a pipe of ours, for that last line. The end of the pipe may never come, since a program may
/// leave a child behind that keeps it open. So the program's own end is looked for too: all that it wrote lies in
/// the pipe by then.
fn run_once(mut command: Command, input: &str, out: &mut dyn Write) -> io::Result<(ExitStatus, String)> {
    let helper = || Builder::new().name("program".into());
    let (stdin, mut feed) = io::pipe()?;
    let (mut said, stderr) = io::pipe()?;
    let mut child = command.stdin(stdin).stderr(stderr).spawn()?;
    // It holds the program's ends of the pipes: while they are open here, ours never see an end.
    drop(command);
    // Nobody waits for this thread: what the program left behind may hold stdin and never read it.
    let input = input.as_bytes().to_vec();
    helper().spawn(move || drop(feed.write_all(&input)))?;

    let (started, mut tail, mut chunk) = (Instant::now(), Vec::new(), vec![0; PIPE_BYTES]);
    let status = loop {
        // Asked before the pipe is read: one read then takes all that the program wrote.
        let ended = child.try_wait()?;
        let pause = if ended.is_some() { Duration::ZERO } else { (started.elapsed() / 8).min(POLL_MAX) };
        if wait_ready([(Some(said.as_fd()), Interest::Read)], pause) == [true] {
            let bytes = said.read(&mut chunk)?;
            if bytes == 0 {
                break child.wait()?;
            }
            // That stderr cannot be written to is no reason to fail: there is nobody to tell.
            let _ = out.write_all(&chunk[..bytes]);
            tail.extend_from_slice(&chunk[..bytes]);
            tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
        }
        if let Some(status) = ended {
            // What the program left behind would be killed by SIGPIPE if nobody read its stderr.
            let _ = helper().spawn(move || io::copy(&mut said, &mut io::sink()));
            break status;
        }
    };
    let tail = String::from_utf8_lossy(&tail);
    Ok((status, tail.trim_end().lines().next_back().unwrap_or_default().to_owned()))
}

/// A watch that outlives its connection.
pub(super) struct Follower {
    scope: Scope<'static>,
    /// There is no connecting after this. `watch` has no such time: it follows until somebody ends it.
    until: Option<Instant>,
    watch: Option<Watch>,
    /// Counts the connections, so that what one of them told can be known from what another did.
    connections: u64,
    /// The pauses before further tries to connect, until one succeeds.
    pauses: Box<dyn Iterator<Item = Duration>>,
    /// How many pauses there are once a watch has been ready.
    retry: u32,
}

impl Follower {
    /// Before a first watch is ready, the client's own retries have to do: a wrong address should fail soon.
    /// With `until` that time is the limit, and tries are many.
    pub fn new(args: &ClientArgs, scope: Scope<'static>, until: Option<Instant>) -> Follower {
        let (first, retry) = match until {
            Some(_) if args.retry > 0 => (u32::MAX, u32::MAX),
            _ => (0, args.retry),
        };
        Follower { scope, until, watch: None, connections: 0, pauses: Box::new(pauses(first)), retry }
    }

    /// The next event; `None` where there has been none for a while, so that the caller can look at other things. A
    /// lost connection is such a while too.
    pub fn next(&mut self, run: &mut Run<'_>) -> Result<Option<Event>, Trouble> {
        self.listen(&mut run.client).or_else(|error| self.lost(run, error).map(|()| None))
    }

    /// Whether the present state has been told on the connection that there is.
    pub fn is_ready(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::is_ready)
    }

    /// After an error, waits for a while before the watch begins anew. Fails where it will not.
    pub fn lost(&mut self, run: &mut Run<'_>, error: ClientError) -> Result<(), Trouble> {
        let was_ready = self.watch.take().is_some_and(|watch| watch.is_ready());
        // What the server has said, it would say again; but for `busy`.
        let said = matches!(error, ClientError::Refused(..) | ClientError::BadReply(..));
        let may_pass = !said || error.came_to_nothing();
        let in_time = |pause: &Duration| self.until.is_none_or(|until| Instant::now() + *pause < until);
        match self.pauses.next().filter(in_time) {
            Some(pause) if may_pass => {
                // Said once for each connection that was good: a server that is down is no news every second.
                if was_ready {
                    run.stderr.say(&format!("{error}; connecting again"));
                }
                sleep(pause);
                Ok(())
            }
            _ => Err(error.into()),
        }
    }

    /// Waits for an event of the present watch, or of a new one where there is none.
    fn listen(&mut self, client: &mut Client) -> Result<Option<Event>, ClientError> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => {
                self.connections += 1;
                self.watch.insert(client.watch_here(self.scope.clone())?)
            }
        };
        // Where there is a time to keep, the last wait ends with it.
        let left = self.until.map_or(QUIET, |until| until.saturating_duration_since(Instant::now()));
        let event = watch.next_within(left.min(QUIET))?;
        if event == Some(Event::Ready) {
            // A watch that has been ready is worth more than one timeout to find the server again: from now on each
            // try may take that long, so they are counted here and no more by the client.
            client.options.retry = 0;
            self.pauses = Box::new(pauses(self.retry));
        }
        Ok(event)
    }
}

/// The keys that were told and still are there, as far as is known, with their last values: what `DELETE`
/// tells of a key that vanished unseen.
#[derive(Default)]
struct Remembered {
    /// With the number of the connection that told last.
    keys: BTreeMap<String, (u64, JsonText<'static>)>,
    /// What they hold.
    bytes: usize,
    /// Some were not remembered, and that was said.
    overflowed: bool,
}

impl Remembered {
    /// Remembers a value. Where there is no room for it, that is said once: a `DELETE` may be missing later.
    fn update(&mut self, connection: u64, key: &str, value: &JsonText<'static>, stderr: &mut Messages) {
        self.remove(key);
        let bytes = held(key, value);
        if self.bytes + bytes <= REMEMBERED_BYTES_MAX {
            self.bytes += bytes;
            self.keys.insert(key.to_owned(), (connection, value.clone()));
        } else if !replace(&mut self.overflowed, true) {
            stderr.say(TOO_MANY);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some((_, value)) = self.keys.remove(key) {
            self.bytes -= held(key, &value);
        }
    }

    /// Takes out the keys that this connection has not told of, sorted, as a listing would be.
    fn take_vanished(&mut self, connection: u64) -> Vec<(String, JsonText<'static>)> {
        let vanished: BTreeMap<_, _>;
        let all = take(&mut self.keys).into_iter();
        (self.keys, vanished) = all.partition(|(_, (last, _))| *last == connection);
        self.bytes -= vanished.iter().map(|(key, (_, value))| held(key, value)).sum::<usize>();
        vanished.into_iter().map(|(key, (_, value))| (key, value)).collect()
    }
}

/// What an entry holds. An estimate will do: the limit is there to end well below the machine's memory.
fn held(key: &str, value: &JsonText<'_>) -> usize {
    ENTRY_BYTES + key.len() + value.as_str().len()
}
