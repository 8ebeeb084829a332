//! Following changes: [`Watch`] for programs, `watch` and `get --wait` for people.
//!
//! The server tells the present state first and then every change, so there is no gap between
//! looking and following in which a change could be missed. That is also why `watch` starts anew
//! after a lost connection: only the present state tells what was missed.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::run::{Run, plain};
use super::trouble::Trouble;
use super::{ClientError, ReplyProblem, pauses};
use crate::args::ClientArgs;
use crate::json::{Text, Value};
use crate::protocol::Scope;

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The key has this value now.
    Update(String, Value),
    /// The key was removed; this was its value.
    Delete(String, Value),
    /// The present state has been told; what follows are changes.
    Ready,
}

/// Follows changes: an iterator that waits for the next one, and ends with the error that ended it.
#[derive(Debug)]
pub struct Watch {
    pub(super) connection: Option<Connection>,
    /// What was told before anybody asked.
    pub(super) first: Option<Event>,
}

impl Event {
    /// The next event. After `Ready` it waits for ever.
    pub(super) fn read(connection: &mut Connection) -> Result<Event, ClientError> {
        let reply = connection.reply()?;
        match (reply.event.as_deref(), reply.key) {
            (Some("READY"), _) => {
                connection.be_patient(None);
                Ok(Event::Ready)
            }
            (Some("UPDATE"), Some(key)) => Ok(Event::Update(key, reply.value.to_value())),
            (Some("DELETE"), Some(key)) => Ok(Event::Delete(key, reply.value.to_value())),
            _ => Err(connection.bad(ReplyProblem::Lacks("a change"))),
        }
    }
}

impl Iterator for Watch {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let event = Event::read(self.connection.as_mut()?);
        if event.is_err() {
            self.connection = None;
        }
        Some(event)
    }
}

/// `watch`. Once it has been ready, it is worth more than one timeout to find the server again: each try
/// may take that long.
pub(super) fn follow(
    run: &mut Run<'_>,
    args: &ClientArgs,
    scope: &Scope<'_>,
    program: &[OsString],
) -> Result<(), Trouble> {
    let (mut left, mut tries) = (args.count.unwrap_or(u64::MAX), pauses(0));
    loop {
        let mut ready = false;
        let ended = match run.client.follow(scope.clone()) {
            Ok(watch) => relay(run, args, watch, program, &mut left, &mut ready)?,
            Err(error) => Some(error),
        };
        let Some(error) = ended else { return Ok(()) };
        if ready {
            (tries, run.client.options.retry) = (pauses(args.retry), 0);
        }
        let passing = matches!(error, ClientError::Lost(..) | ClientError::Timeout(_));
        match tries.next() {
            Some(pause) if passing || error.came_to_nothing() => {
                if ready {
                    run.stderr.say(&format!("{error}; connecting again"));
                }
                sleep(pause);
            }
            _ => return Err(error.into()),
        }
    }
}

/// Tells what a watch says, until that is all that was asked for; or else what ended it.
fn relay(
    run: &mut Run<'_>,
    args: &ClientArgs,
    watch: Watch,
    program: &[OsString],
    left: &mut u64,
    ready: &mut bool,
) -> Result<Option<ClientError>, Trouble> {
    for event in watch {
        match event {
            Ok(Event::Ready) => {
                *ready = true;
                continue;
            }
            Ok(Event::Update(key, value)) => tell(run, args, "UPDATE", &key, &value, program)?,
            Ok(Event::Delete(key, value)) => tell(run, args, "DELETE", &key, &value, program)?,
            Err(error) => return Ok(Some(error)),
        }
        *left -= 1;
        if *left == 0 {
            break;
        }
    }
    Ok(None)
}

/// Writes a change, or runs the program for it. The line is flushed at once: somebody waits for it.
fn tell(
    run: &mut Run<'_>,
    args: &ClientArgs,
    event: &str,
    key: &str,
    value: &Value,
    program: &[OsString],
) -> Result<(), Trouble> {
    let Some((name, words)) = program.split_first() else {
        let line = match args.json {
            true => format!("{{\"request\":\"{event}\",\"key\":{},\"value\":{value}}}\n", Value::from(key)),
            false => format!("{event}\t{key}\t{value}\n"),
        };
        return run.write(line.as_bytes());
    };
    let start = |value: Option<String>| {
        let mut command = Command::new(name);
        command.args(words).env("ST_EVENT", event).env("ST_KEY", key).env_remove("ST_VALUE");
        // Our stdin belongs to whoever started us.
        command.envs(value.map(|value| ("ST_VALUE", value))).stdin(Stdio::null()).status()
    };
    let mut status = start(Some(plain(args, &Text::from(value))));
    if let Err(error) = &status
        && matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::ArgumentListTooLong)
    {
        run.stderr.say(&format!("{key:?}: the value does not fit into ST_VALUE, which is left out"));
        status = start(None);
    }
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => run.stderr.say(&format!("{}: {status}", name.display())),
        Err(error) => return Err(Trouble::local(format_args!("cannot run {}", name.display()), error)),
    }
    Ok(())
}

/// `get --wait`: the value, once there is one.
pub(super) fn wait(run: &mut Run<'_>, key: &str, time: Duration) -> Result<Option<Text<'static>>, Trouble> {
    let until = Instant::now() + time;
    let mut watch = run.client.follow(Scope::Key(key.into()))?;
    let mut ready = false;
    while let Some(event) = watch.next() {
        match event {
            Ok(Event::Update(told, value)) if told == key => return Ok(Some(Text::from(value))),
            Ok(Event::Update(..) | Event::Delete(..)) => {}
            Ok(Event::Ready) => ready = true,
            Err(ClientError::Timeout(_)) if ready => break,
            Err(error) => return Err(error.into()),
        }
        if let Some(connection) = watch.connection.as_mut().filter(|_| ready) {
            connection.be_patient(Some(until.saturating_duration_since(Instant::now())));
        }
    }
    Ok(None)
}
