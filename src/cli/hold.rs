//! `hold`: runs a program for as long as a key is ours. A lock is that, and so is being listed among those who are there.
//!
//! The key is a lease: the server deletes it when its time is over, so a holder that crashes blocks nobody for longer. A
//! holder that lives renews it. What is left is the holder that lives and cannot reach the server: it must be out of
//! PROGRAM before another gets in. It counts from when it sent the last renewal that succeeded, which is earlier than the
//! server does; at two thirds of the lease it has PROGRAM end, and kills it a quarter later.
//!
//! Should `st` itself be killed, nobody would end PROGRAM. So a third process, a shell that reads from a pipe, leads the
//! process group that PROGRAM runs in: the pipe ends with `st`, and then the shell kills the group.
//!
//! Four threads wait for what may happen, each for one thing: PROGRAM stops or ends, a signal comes, a renewal is due, the
//! key is deleted or another's. They tell a fifth, which alone decides.
//!
//! Out of reach is what left PROGRAM's process group, and a machine, or `st` itself, that is stopped and goes on later:
//! until its clock is looked at again, PROGRAM runs on. Who must exclude even that sends the key's value along with each
//! write, and has the other end compare.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, scope, sleep};
use std::time::{Duration, Instant};

use super::Run;
use super::client::ClientArgs;
use super::follow::cannot_run;
use super::message::{Exit, Trouble};
use super::wait::{Repeat, difference, value};
use crate::actions::{find_program, host_name};
use crate::client::{Answer, Client, ClientError, Event, Watch};
use crate::json::JsonText;
use crate::protocol::{Code, Condition, Request};
use crate::sys;

/// How long the server keeps the key where nothing is said.
const LEASE: Duration = Duration::from_secs(10);

/// How soon a watch is begun again that was lost.
const WATCH_PAUSE: Duration = Duration::from_millis(100);

/// What the threads tell.
enum Happened {
    /// The key was renewed, by what was sent then.
    Renewed(Instant),
    /// It was not, for this reason, and will be tried again.
    Failed(String),
    /// It is not ours any more, but is this.
    Lost(String),
    /// A signal for PROGRAM.
    Signal(i32),
    /// PROGRAM was stopped by this signal.
    Stopped(i32),
    /// PROGRAM has ended.
    Ended,
}

/// The key, and what makes it ours.
#[derive(Clone, Copy)]
struct Lease<'a> {
    key: &'a str,
    value: &'a JsonText<'a>,
    ttl: Duration,
}

impl<'a> Lease<'a> {
    fn is_ours(self) -> Condition<'a> {
        Condition::Equals(self.value.borrowed())
    }

    fn give_back(self) -> Request<'a> {
        Request::Delete { key: self.key.into(), condition: Some(self.is_ours()) }
    }

    fn write(self, condition: Condition<'a>) -> Request<'a> {
        let (value, ttl) = (self.value.borrowed(), Some(self.ttl));
        Request::Update { key: self.key.into(), value, condition: Some(condition), ttl }
    }
}

/// `hold`: adds the key, runs the program, deletes the key, and ends as the program did.
pub(super) fn hold(
    run: &mut Run<'_>,
    args: &ClientArgs,
    key: &str,
    word: Option<&str>,
    program: &[OsString],
) -> Result<(), Trouble> {
    let Some((name, words)) = program.split_first() else { return Err(Trouble::input("PROGRAM is missing")) };
    // A program that cannot be run fails here, and not when the key is ours at last.
    find_program(name, Path::new("")).map_err(|error| cannot_run(name, error))?;
    let own = format!("{}:{}", host_name(), process::id());
    let value = word.map_or(Ok(JsonText::string(&own)), |word| value(args, "VALUE", word))?;
    let lease = Lease { key, value: &value, ttl: args.ttl.unwrap_or(LEASE) };
    // Where nobody knows whether it was added, it is free when its time is over.
    let added = run.add(args, key, &lease.write(Condition::Absent), Repeat::Freely);
    let added = added.map_err(|trouble| match args.conflict {
        Some(code) if trouble.exit == Exit::No => Trouble { exit: Exit::As(code), ..trouble },
        Some(_) | None => trouble,
    })?;

    let mut command = Command::new(name);
    command.args(words);
    if run.stdin.is_none() {
        command.stdin(Stdio::null());
    }
    // A server that does not answer must leave time for another try, and PROGRAM's end must not wait for long.
    run.client.options.timeout = args.timeout.min(lease.ttl / 4);
    let ended = run_while_held(&mut command, &mut run.client, lease, added);
    let Ended { status, mut lost, given_back } = match ended {
        Ok(ended) => ended,
        Err(error) => {
            // What becomes of this try, the lease makes good.
            let _ = run.client.ask(&lease.give_back());
            return Err(cannot_run(name, error));
        }
    };
    if let Some(Err(error)) = given_back {
        match other(&error) {
            Some(other) => lost = lost.or(Some(format!("it is {other}"))),
            None => run.stderr.say(&format!("{error}; {key:?} is free when its {:?} are over", lease.ttl)),
        }
    }
    match (lost, status.code(), status.signal()) {
        (Some(why), _, _) => {
            let text = format!("the lease of {key:?} was lost: {why}; another may have had it meanwhile");
            Err(Trouble { exit: Exit::Unknown, text: format!("{}: {text}", run.client.address()) })
        }
        (None, Some(0), _) => Ok(()),
        (None, Some(code), _) => Err(Trouble::silent(Exit::As(code as u8))),
        // As shells tell it.
        (None, None, signal) => Err(Trouble::silent(Exit::As(128 + signal.unwrap_or_default() as u8))),
    }
}

/// What the key is instead of ours, where that is what the server said.
fn other(error: &ClientError) -> Option<String> {
    let failure = error.refusal().filter(|failure| failure.code == Code::Conflict)?;
    Some(difference(failure.present.as_ref().and_then(Option::as_ref), None))
}

/// How it came to an end.
struct Ended {
    status: ExitStatus,
    /// Why the key was lost, if it was.
    lost: Option<String>,
    /// What the server said to that; it is not tried with a key that was lost.
    given_back: Option<Result<Answer, ClientError>>,
}

/// Ends its process group when its stdin ends, and itself when a line comes. To all that may be sent to the group it is
/// deaf.
const GUARD: &str = "trap '' HUP INT TERM TSTP TTIN TTOU; read line || kill -s KILL 0";

/// Runs the program to its end while the lease is renewed, and gives the key back.
fn run_while_held(
    command: &mut Command,
    client: &mut Client,
    lease: Lease<'_>,
    added: Instant,
) -> io::Result<Ended> {
    let (guarded, mut guarding) = io::pipe()?;
    let mut guard = Command::new("sh");
    guard.args(["-c", GUARD]).stdin(guarded).stdout(Stdio::null()).process_group(0);
    let why = |error: io::Error| io::Error::new(error.kind(), format!("sh, which is to guard it: {error}"));
    let mut guard = guard.spawn().map_err(why)?;
    // It is not reaped before all else is done: until then its pid means this group and no other.
    let group = guard.id();
    let ended = run_in_group(group, command, client, lease, added);
    let _ = guarding.write_all(b"\n");
    drop(guarding);
    hand_terminal(group, sys::own_group());
    guard.wait()?;
    ended
}

fn run_in_group(
    group: u32,
    command: &mut Command,
    client: &mut Client,
    lease: Lease<'_>,
    added: Instant,
) -> io::Result<Ended> {
    let (signals, writer) = io::pipe()?;
    let mut end_of_signals = writer.try_clone()?;
    let mut program = command.process_group(group as i32).spawn()?;
    sys::signals_to(writer);
    sys::ignore_suspend(true);
    let pid = program.id();
    let (tell, happened) = channel();
    let (stop, stopped) = channel();
    let is_over = Arc::new(AtomicBool::new(false));
    let ended = scope(|scope| {
        let thread = || Builder::new().name("hold".into());
        let (told_by_program, told_by_signals, told_by_server) = (tell.clone(), tell.clone(), tell.clone());
        let watching = Client::new(client.address().clone(), client.options.clone());
        let (key, own, over) = (lease.key.to_owned(), lease.value.clone().into_owned(), is_over.clone());
        let begun = thread()
            .spawn_scoped(scope, move || watch_program(pid, &told_by_program))
            .and_then(|_| thread().spawn_scoped(scope, move || pass_signals(signals, &told_by_signals)))
            .and_then(|_| thread().spawn(move || watch_key(watching, &key, &own, &over, &told_by_server)))
            .and_then(|_| thread().spawn_scoped(scope, move || renew(client, lease, &stopped, &tell)));
        let keeper =
            Keeper { group, ttl: lease.ttl, renewed: added, failed: None, lost: None, wants_terminal: false };
        let ended = begun.map(|renewing| {
            let lost = keeper.stand(&happened);
            if lost.is_none() {
                let _ = stop.send(());
            }
            drop(stop);
            (renewing.join().ok().flatten(), lost)
        });
        // Where a thread could not be started, PROGRAM still runs. Where it was made to end, others of its group may.
        if !matches!(ended, Ok((_, None))) {
            sys::signal_group(group, sys::SIGKILL);
        }
        sys::default_signals();
        // Its reader is the one thread that would not end by itself.
        let _ = end_of_signals.write_all(&[0]);
        ended
    });
    is_over.store(true, Relaxed);
    sys::ignore_suspend(false);
    let status = program.wait()?;
    ended.map(|(given_back, lost)| Ended { status, lost, given_back })
}

/// What is known of the lease, and what PROGRAM wants.
struct Keeper {
    group: u32,
    ttl: Duration,
    /// When the last renewal that succeeded was sent, and why those since have not.
    renewed: Instant,
    failed: Option<String>,
    /// Why the key is not ours any more, and since when PROGRAM is to end.
    lost: Option<(String, Instant)>,
    wants_terminal: bool,
}

impl Keeper {
    /// Decides what is done about what happens, until the program has ended. Tells why the key was lost, if it was.
    fn stand(mut self, happened: &Receiver<Happened>) -> Option<String> {
        loop {
            let due = match &self.lost {
                None => self.renewed + self.ttl * 2 / 3,
                Some((_, since)) => *since + self.ttl / 4,
            };
            match happened.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Happened::Ended) | Err(RecvTimeoutError::Disconnected) => {
                    return self.lost.map(|(why, _)| why);
                }
                // One that was sent when the lease was over renewed the lease of another, whose VALUE is the same.
                Ok(Happened::Renewed(sent)) if sent >= self.renewed + self.ttl => {
                    self.end("it was over before it was renewed".into());
                }
                Ok(Happened::Renewed(sent)) => (self.renewed, self.failed) = (sent, None),
                Ok(Happened::Failed(why)) => self.failed = Some(why),
                Ok(Happened::Lost(other)) => self.end(format!("it is {other}")),
                Ok(Happened::Signal(signal)) => sys::signal_group(self.group, signal),
                Ok(Happened::Stopped(sys::SIGTTIN | sys::SIGTTOU | sys::SIGTSTP)) => {
                    self.wants_terminal = true
                }
                // Somebody stopped it by hand, and will have it go on so.
                Ok(Happened::Stopped(_)) => {}
                Err(RecvTimeoutError::Timeout) if self.lost.is_none() => {
                    let why = self.failed.take().unwrap_or_else(|| "none came to an end".into());
                    self.end(format!("no renewal has succeeded for {:.1?}: {why}", self.ttl * 2 / 3));
                }
                Err(RecvTimeoutError::Timeout) => {
                    sys::signal_group(self.group, sys::SIGKILL);
                    self.lost = self.lost.map(|(why, _)| (why, Instant::now()));
                }
            }
            // PROGRAM has a process group of its own, to which the terminal does not listen until PROGRAM is stopped for
            // reading from it. Nor can it be suspended: its lease would go on. While the terminal is not ours to give,
            // it waits.
            if self.wants_terminal && hand_terminal(sys::own_group(), self.group) {
                self.wants_terminal = false;
                sys::signal_group(self.group, sys::SIGCONT);
            }
        }
    }

    /// Has PROGRAM end, since the key is lost.
    fn end(&mut self, why: String) {
        sys::signal_group(self.group, sys::SIGTERM);
        // One that is stopped would not hear it.
        sys::signal_group(self.group, sys::SIGCONT);
        self.lost.get_or_insert((why, Instant::now()));
    }
}

/// Tells when the program is stopped, and that it has ended.
fn watch_program(pid: u32, tell: &Sender<Happened>) {
    loop {
        let happened = match sys::wait_for_stop(pid) {
            Ok(Some(signal)) => Happened::Stopped(signal),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // It is our child and nobody reaps it, so there is nothing else that an error could say.
            Ok(None) | Err(_) => return drop(tell.send(Happened::Ended)),
        };
        // Where nobody listens any more, the program has ended.
        let _ = tell.send(happened);
    }
}

/// Tells each signal that comes through the pipe, until a zero does.
fn pass_signals(mut signals: PipeReader, tell: &Sender<Happened>) {
    let mut signal = [0];
    while signals.read_exact(&mut signal).is_ok() && signal != [0] {
        let _ = tell.send(Happened::Signal(i32::from(signal[0])));
    }
}

/// Tells when the key is no more what a renewal makes it. Nobody waits for this thread: a server that is gone without a
/// word would keep it for a minute. Without it the next renewal would find out, which may be long.
fn watch_key(client: Client, key: &str, own: &JsonText<'_>, is_over: &AtomicBool, tell: &Sender<Happened>) {
    while !is_over.load(Relaxed) {
        if let Some(other) = client.watch(key).ok().and_then(|watch| become_other(watch, own)) {
            return drop(tell.send(Happened::Lost(other)));
        }
        // The connection was lost, or there is none.
        sleep(WATCH_PAUSE);
    }
}

/// Waits until a watched key is something else, and tells what. `None` where the watch ends before that.
fn become_other(watch: Watch, own: &JsonText<'_>) -> Option<String> {
    let mut is_there = false;
    for event in watch {
        match event.ok()? {
            Event::Update(_, value) if own.same_value(&JsonText::from(&value)) => is_there = true,
            Event::Update(_, value) => return Some(difference(Some(&JsonText::from(value)), None)),
            Event::Ready if is_there => {}
            Event::Delete(..) | Event::Ready => return Some(difference(None, None)),
        }
    }
    None
}

/// Renews the key each third of its time, and after a failure sooner. When it is told to stop it gives the key back, and
/// where nobody is left to tell it, it does not: the key is lost.
fn renew(
    client: &mut Client,
    lease: Lease<'_>,
    stopped: &Receiver<()>,
    tell: &Sender<Happened>,
) -> Option<Result<Answer, ClientError>> {
    let mut pause = lease.ttl / 3;
    loop {
        let stop = stopped.recv_timeout(pause);
        client.drop_stale();
        match stop {
            Ok(()) => return Some(client.ask(&lease.give_back())),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let sent = Instant::now();
        let (happened, next) = match client.ask(&lease.write(lease.is_ours())) {
            Ok(_) => (Happened::Renewed(sent), lease.ttl / 3),
            Err(error) => match other(&error) {
                // From here on there is nothing to renew.
                Some(other) => (Happened::Lost(other), Duration::MAX),
                None => (Happened::Failed(error.to_string()), lease.ttl / 20),
            },
        };
        pause = next.saturating_sub(sent.elapsed());
        let _ = tell.send(happened);
    }
}

/// Has our terminal, if we have one, listen to another process group.
fn hand_terminal(from: u32, to: u32) -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| sys::hand_terminal(terminal, from, to))
}
