//! Following changes, for people: `watch` and `get --wait`. A lost connection is made again, and the watch
//! starts anew: only the present state tells what was missed. It tells of no key that is gone, so `watch`
//! remembers what it told.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::ClientArgs;
use super::commands::{Run, plain};
use super::message::Trouble;
use super::program::Program;
use crate::client::{ClientError, Event, Watch, pauses};
use crate::json::JsonText;
use crate::protocol::Scope;

/// While nothing changes, a watch looks this often whether anybody still reads its stdout.
const QUIET: Duration = Duration::from_millis(250);
/// So much is remembered of the keys and values that were told.
const TOLD_BYTES_MAX: usize = 256 << 20;
/// What an entry costs beside its key and its value.
const TOLD_ENTRY_BYTES: usize = 100;
const TOO_MANY: &str =
    "more keys and values than are remembered: not all that vanish during a reconnect will be told";

/// `watch`: prints each change, or runs a program for it.
pub(super) fn follow(
    run: &mut Run<'_>,
    args: &ClientArgs,
    scope: &Scope<'_>,
    program: &[OsString],
) -> Result<(), Trouble> {
    let program = Program::find(program)?;
    let left = args.count.unwrap_or(u64::MAX);
    let mut teller = Teller { args, program, left, told: Told::default() };
    track(run, args, scope, None, |run, connection, event| teller.hear(run, connection, event))
}

/// `get --wait`: the value, once there is one.
pub(super) fn wait(
    run: &mut Run<'_>,
    args: &ClientArgs,
    key: &str,
    time: Duration,
) -> Result<Option<JsonText<'static>>, Trouble> {
    let mut found = None;
    track(run, args, &Scope::Key(key.into()), Some(Instant::now() + time), |_, _, event| {
        let Some(Event::Update(_, value)) = event else { return Ok(ControlFlow::Continue(())) };
        found = Some(JsonText::from(value));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Hands each event to `each`, with the number of the connection that it came by, until that has enough; and
/// `None` when there has been none for a while.
///
/// A watch that has been ready is worth more than one timeout to find the server again: each of --retry
/// tries may take that long. With `until` that time is the limit, and tries are many.
fn track(
    run: &mut Run<'_>,
    args: &ClientArgs,
    scope: &Scope<'_>,
    until: Option<Instant>,
    mut each: impl FnMut(&mut Run<'_>, u64, Option<Event>) -> Result<ControlFlow<()>, Trouble>,
) -> Result<(), Trouble> {
    let (retry, first) = match until {
        Some(_) if args.retry > 0 => (u32::MAX, u32::MAX),
        _ => (args.retry, 0),
    };
    let mut tries = pauses(first);
    for connection in 1.. {
        let mut ready = false;
        let error = match run.client.follow(scope.clone()) {
            Ok(watch) => {
                match relay(run, watch, until, &mut ready, |run, event| each(run, connection, event))? {
                    None => break,
                    Some(error) => error,
                }
            }
            Err(error) => error,
        };
        if ready {
            (tries, run.client.options.retry) = (pauses(retry), 0);
        }
        let lost =
            matches!(error, ClientError::Lost(..) | ClientError::WatchLost(..) | ClientError::Timeout(_));
        let in_time = |pause: &Duration| until.is_none_or(|until| Instant::now() + *pause < until);
        match tries.next().filter(in_time) {
            Some(pause) if lost || error.came_to_nothing() => {
                if ready {
                    run.stderr.say(&format!("{error}; connecting again"));
                }
                if each(run, connection, None)?.is_break() {
                    break;
                }
                sleep(pause);
            }
            _ => return Err(error.into()),
        }
    }
    Ok(())
}

/// The events of one connection; or else what ended it. Time is over only once the server has told that what
/// is waited for is not there.
fn relay(
    run: &mut Run<'_>,
    mut watch: Watch,
    until: Option<Instant>,
    ready: &mut bool,
    mut each: impl FnMut(&mut Run<'_>, Option<Event>) -> Result<ControlFlow<()>, Trouble>,
) -> Result<Option<ClientError>, Trouble> {
    loop {
        let left = until.map_or(QUIET, |until| until.saturating_duration_since(Instant::now()));
        if *ready && left.is_zero() {
            return Ok(None);
        }
        // No system takes a timeout of nothing.
        let time = left.clamp(Duration::from_millis(1), QUIET);
        let event = match watch.next_within(Some(time)) {
            Ok(event) => event,
            Err(error) => return Ok(Some(error)),
        };
        *ready |= event == Some(Event::Ready);
        if each(run, event)?.is_break() {
            return Ok(None);
        }
    }
}

/// Tells a reader, or a program, what changes.
struct Teller<'a> {
    args: &'a ClientArgs,
    program: Option<Program<'a>>,
    /// Of --count.
    left: u64,
    told: Told,
}

impl Teller<'_> {
    fn hear(
        &mut self,
        run: &mut Run<'_>,
        connection: u64,
        event: Option<Event>,
    ) -> Result<ControlFlow<()>, Trouble> {
        match event {
            // Else `watch KEY | head -1` would last until one more change. A program is run whether or not
            // somebody reads what it prints.
            None if self.program.is_none() && run.reader_is_gone() => Ok(ControlFlow::Break(())),
            None => Ok(ControlFlow::Continue(())),
            Some(Event::Update(key, value)) => {
                let value = JsonText::from(value);
                if !self.told.update(connection, &key, &value) {
                    run.stderr.say(TOO_MANY);
                }
                self.tell(run, "UPDATE", &key, &value)
            }
            Some(Event::Delete(key, value)) => {
                self.told.remove(&key);
                self.tell(run, "DELETE", &key, &JsonText::from(value))
            }
            Some(Event::Ready) => {
                for (key, value) in self.told.gone(connection) {
                    if self.tell(run, "DELETE", &key, &value)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                if self.args.json && self.program.is_none() {
                    run.write(b"{\"request\":\"READY\"}\n")?;
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// Writes a change, or runs the program for it. The line is flushed at once: somebody waits for it.
    fn tell(
        &mut self,
        run: &mut Run<'_>,
        event: &str,
        key: &str,
        value: &JsonText<'_>,
    ) -> Result<ControlFlow<()>, Trouble> {
        if let Some(program) = &self.program {
            let plain = plain(self.args, value);
            let newline = if self.args.no_newline { "" } else { "\n" };
            let input = format!("{plain}{newline}");
            program.run(run.stderr, event, key, &plain, input)?;
        } else {
            let line = match self.args.json {
                true => {
                    format!(
                        "{{\"request\":\"{event}\",\"key\":{},\"value\":{value}}}\n",
                        JsonText::string(key)
                    )
                }
                false => format!("{event}\t{key}\t{value}\n"),
            };
            run.write(line.as_bytes())?;
        }
        self.left -= 1;
        Ok(if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// The keys that were told and still are there, as far as is known, with their last values: what `DELETE`
/// tells of a key that vanished unseen.
#[derive(Default)]
struct Told {
    /// With the number of the connection that told last.
    keys: BTreeMap<String, (u64, JsonText<'static>)>,
    /// What they hold.
    bytes: usize,
    /// Some were not remembered, and that was said.
    overflowed: bool,
}

impl Told {
    /// Remembers a value; false where there is no more room, the first time.
    fn update(&mut self, connection: u64, key: &str, value: &JsonText<'_>) -> bool {
        self.remove(key);
        let bytes = held(key, value);
        if self.bytes + bytes > TOLD_BYTES_MAX {
            return std::mem::replace(&mut self.overflowed, true);
        }
        self.bytes += bytes;
        self.keys.insert(key.to_owned(), (connection, value.borrowed().into_owned()));
        true
    }

    fn remove(&mut self, key: &str) {
        if let Some((_, value)) = self.keys.remove(key) {
            self.bytes -= held(key, &value);
        }
    }

    /// Takes out the keys that this connection has not told of.
    fn gone(&mut self, connection: u64) -> Vec<(String, JsonText<'static>)> {
        let gone = self.keys.iter().filter(|(_, (last, _))| *last != connection);
        let gone: Vec<_> = gone.map(|(key, (_, value))| (key.clone(), value.clone())).collect();
        gone.iter().for_each(|(key, _)| self.remove(key));
        gone
    }
}

fn held(key: &str, value: &JsonText<'_>) -> usize {
    TOLD_ENTRY_BYTES + key.len() + value.as_str().len()
}
