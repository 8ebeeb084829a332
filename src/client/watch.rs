//! Following changes: [`Watch`] for programs, `watch` and `get --wait` for people.
//!
//! The server tells the present state first and then every change, so there is no gap between
//! looking and following in which a change could be missed. That is also why `watch` starts anew
//! after a lost connection: only the present state tells what was missed.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::connection::Patience;
use super::run::{Run, plain};
use super::trouble::Trouble;
use super::{Client, ClientError, ReplyProblem};
use crate::args::ClientArgs;
use crate::json::{Text, Value};
use crate::protocol::{Request, Scope};

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
    client: Client,
}

impl Watch {
    pub(super) fn new(mut client: Client, scope: Scope<'_>) -> Result<Watch, ClientError> {
        client.watch_begin(scope)?;
        Ok(Watch { client })
    }
}

impl Iterator for Watch {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.client.connection.is_some().then(|| self.client.watch_next())
    }
}

impl Client {
    fn watch_begin(&mut self, scope: Scope<'_>) -> Result<(), ClientError> {
        self.begin(&Request::Watch { scope })?;
        self.be_patient(Patience::Piece(self.options.timeout));
        Ok(())
    }

    /// The next event. From `Ready` on it waits for ever.
    fn watch_next(&mut self) -> Result<Event, ClientError> {
        let reply = self.reply()?;
        match (reply.event.as_deref(), reply.key, reply.value) {
            (Some("READY"), ..) => {
                self.be_patient(Patience::Endless);
                Ok(Event::Ready)
            }
            (Some("UPDATE"), Some(key), Some(value)) => Ok(Event::Update(key, value.to_value())),
            (Some("DELETE"), Some(key), value) => {
                Ok(Event::Delete(key, value.map_or(Value::Null, |value| value.to_value())))
            }
            _ => Err(self.bad(ReplyProblem::Lacks("a change"))),
        }
    }

    fn be_patient(&mut self, patience: Patience) {
        if let Some(connection) = &mut self.connection {
            connection.be_patient(patience);
        }
    }
}

/// `watch`.
pub(super) fn follow(
    run: &mut Run<'_>,
    args: &ClientArgs,
    key: Option<&str>,
    program: &[OsString],
) -> Result<(), Trouble> {
    const PAUSE: Duration = Duration::from_millis(50);
    let mut left = args.count.unwrap_or(u64::MAX);
    loop {
        let scope = match key {
            Some(key) => Scope::Key(key.into()),
            None => Scope::Prefix(args.prefix.as_deref().unwrap_or_default().into()),
        };
        run.client.watch_begin(scope)?;
        let mut ready = false;
        let lost = loop {
            match run.client.watch_next() {
                Ok(Event::Ready) => {
                    ready = true;
                    continue;
                }
                Ok(Event::Update(key, value)) => tell(run, args, "UPDATE", &key, &value, program)?,
                Ok(Event::Delete(key, value)) => tell(run, args, "DELETE", &key, &value, program)?,
                Err(lost @ ClientError::Lost(..)) if ready && args.retry > 0 => break lost,
                Err(error) => return Err(error.into()),
            }
            left -= 1;
            if left == 0 {
                // Nothing else can be asked of a connection that is told of changes.
                run.client.connection = None;
                return Ok(());
            }
        };
        run.stderr.say(&format!("{lost}; connecting again"));
        // A server that closes at once must not be met by a loop as quick.
        sleep(PAUSE);
    }
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
    let mut command = Command::new(name);
    let value = plain(args, &Text::from(value));
    command.args(words).env("ST_EVENT", event).env("ST_KEY", key).env("ST_VALUE", value);
    // Our stdin belongs to whoever started us.
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => {}
        Ok(status) => run.stderr.say(&format!("{}: {status}", name.display())),
        Err(error) => return Err(Trouble::local(format_args!("cannot run {}", name.display()), error)),
    }
    Ok(())
}

/// `get --wait`: the value, once there is one.
pub(super) fn wait(run: &mut Run<'_>, key: &str, time: Duration) -> Result<Option<Text<'static>>, Trouble> {
    let until = Instant::now() + time;
    run.client.watch_begin(Scope::Key(key.into()))?;
    let mut ready = false;
    let found = loop {
        match run.client.watch_next() {
            Ok(Event::Update(_, value)) => break Some(Text::from(value)),
            Ok(Event::Delete(..)) => {}
            Ok(Event::Ready) => {
                ready = true;
                let left = until.saturating_duration_since(Instant::now());
                run.client.be_patient(Patience::Whole(left));
            }
            Err(ClientError::Timeout(_)) if ready => break None,
            Err(error) => return Err(error.into()),
        }
    };
    run.client.connection = None;
    Ok(found)
}
