//! Following changes: [`Watch`] for programs, `watch` and `get --wait` for people.
//!
//! The server tells the present state first and then every change, so there is no gap between
//! looking and following in which a change could be missed. That is also why `watch` starts anew
//! after a lost connection: only the present state tells what was missed.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::run::{Run, Trouble, plain, spill, value};
use super::{Client, ClientError, Reply, ReplyProblem};
use crate::args::ClientArgs;
use crate::json::{Text, Value, write_str};
use crate::protocol::{Request, Scope};

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The key has this value now.
    Update {
        /// The key.
        key: String,
        /// Its value.
        value: Value,
    },
    /// The key was removed.
    Delete {
        /// The key.
        key: String,
        /// What its value was.
        value: Value,
    },
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

    fn event(&mut self) -> Result<Event, ClientError> {
        let change = self.client.watch_next()?;
        Ok(match change.map(|change| (change.event, change.key, change.value.to_value())) {
            None => Event::Ready,
            Some((event, key, value)) if event == "DELETE" => Event::Delete { key, value },
            Some((_, key, value)) => Event::Update { key, value },
        })
    }
}

impl Iterator for Watch {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.client.connection.is_some().then(|| self.event())
    }
}

/// One change, or one entry of the present state.
struct Change {
    event: String,
    key: String,
    value: Text<'static>,
}

impl Client {
    fn watch_begin(&mut self, scope: Scope<'_>) -> Result<(), ClientError> {
        self.begin(&Request::Watch { scope })?;
        let timeout = self.options.timeout;
        self.be_patient(|connection| connection.be_patient_by_piece(timeout));
        Ok(())
    }

    /// The next change; `None` when the present state has been told. From there on it waits for ever.
    fn watch_next(&mut self) -> Result<Option<Change>, ClientError> {
        match self.reply()? {
            Reply { event: Some(event), .. } if event == "READY" => {
                self.be_patient(|connection| connection.be_patient(None));
                Ok(None)
            }
            Reply { event: Some(event), key: Some(key), value, .. } => {
                Ok(Some(Change { event, key, value: value.unwrap_or(Text::NULL) }))
            }
            _ => {
                let problem = ReplyProblem::Unexpected { wanted: "a change" };
                Err(ClientError::BadReply { address: self.address.to_string(), problem })
            }
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
                Ok(Some(change)) => tell(run, args, &change, program)?,
                Ok(None) => {
                    ready = true;
                    continue;
                }
                Err(lost @ ClientError::Lost { .. }) if ready && args.retry > 0 => break lost,
                Err(error) => return Err(error.into()),
            }
            left -= 1;
            if left == 0 {
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
fn tell(run: &mut Run<'_>, args: &ClientArgs, change: &Change, program: &[OsString]) -> Result<(), Trouble> {
    let Change { event, key, value } = change;
    let Some((name, words)) = program.split_first() else {
        let mut out = Vec::new();
        if args.json {
            out.extend_from_slice(b"{\"request\":");
            write_str(&mut out, event);
            out.extend_from_slice(b",\"key\":");
            write_str(&mut out, key);
            out.extend_from_slice(format!(",\"value\":{value}}}\n").as_bytes());
        } else {
            out.extend_from_slice(format!("{event}\t{key}\t{value}\n").as_bytes());
        }
        return spill(run.stdout, &mut out, 0).map(drop);
    };
    let mut command = Command::new(name);
    command.args(words).env("ST_EVENT", event).env("ST_KEY", key).env("ST_VALUE", plain(args, value));
    // Our stdin belongs to whoever started us.
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => {}
        Ok(status) => run.stderr.say(&format!("{}: {status}", name.display())),
        Err(error) => return Err(Trouble::Local(format!("cannot run {}", name.display()), error)),
    }
    Ok(())
}

/// `get --wait`.
pub(super) fn wait(
    run: &mut Run<'_>,
    args: &ClientArgs,
    key: &str,
    default: Option<&str>,
) -> Result<(), Trouble> {
    let default = default.map(|default| value(args, "DEFAULT", default)).transpose()?;
    let until = Instant::now() + args.wait.unwrap_or_default();
    run.client.watch_begin(Scope::Key(key.into()))?;
    let mut ready = false;
    let found = loop {
        match run.client.watch_next() {
            Ok(Some(change)) if change.event == "UPDATE" => break Some(change.value),
            Ok(Some(_)) => {}
            Ok(None) => {
                ready = true;
                let left = until.saturating_duration_since(Instant::now());
                run.client.be_patient(|connection| connection.be_patient(Some(left)));
            }
            Err(ClientError::Timeout { .. }) if ready => break None,
            Err(error) => return Err(error.into()),
        }
    };
    // Nothing more is asked of a connection that is told of changes.
    run.client.connection = None;
    match found.or(default.map(Text::into_owned)) {
        Some(value) => run.print(args, &value),
        None => Err(run.no_key(key)),
    }
}
