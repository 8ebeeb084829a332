//! The commands that move many entries at once: `getall`, `keys` and `dump` out of the server, `load` and `batch`
//! into it, `delete --prefix` away. But for the names of keys to delete or to keep, none of them holds more than one entry
//! or one window of requests, so a table of any size goes through.
//!
//! `load` and `batch` send a window of requests before they read the first of their replies. Waiting for each reply
//! would cost a round trip for each: 200,000 lines take half a second over loopback in windows, and a
//! minute over a network with 0.3 ms one by one. While a window fits into what the kernel buffers of a
//! connection, neither side can come to wait for the other: no thread is needed, and nothing can deadlock. Replies
//! are written before more of stdin is read, so that a program at the other end of both pipes can answer to
//! what it got.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::mem::take;
use std::time::Duration;

use super::Run;
use super::client::ClientArgs;
use super::input::{Input, at_line, not_json};
use super::message::{Exit, Trouble};
use crate::client::{ClientError, ListItem, ListOf};
use crate::json::{self, JsonText, Parser, Value};
use crate::protocol::{Code, Condition, Request, check_key, duration, seconds};

/// Bytes of requests that are sent before the first reply is read. A single one may be larger. The kernel buffers
/// more than this for a connection on every system we know (Linux from 16 KiB at our end and 128 KiB at the other),
/// and a larger window saves no more time: the round trips are few already.
const WINDOW_BYTES: usize = 32 << 10;
/// After so many refusals `load` only counts them: a table that is full would refuse every line that is left.
const REFUSALS_TOLD: u64 = 10;

/// How a list is written: in lines, or with `-j` as one JSON object or array.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `getall`: the key, a tab, the value as JSON. Neither a key nor JSON holds a tab or a newline as such.
    Tabs,
    /// `getall -j`: one JSON object of keys and values.
    Object,
    /// `dump`: an object of `key`, `value` and perhaps `ttl` a line, in the very words in which the wire has them.
    Dump,
    /// `keys`: a key a line.
    Keys,
    /// `keys -j`: one JSON array of keys.
    Array,
}

/// Writes the keys that begin with `prefix`, and for most styles their values.
pub(super) fn list(run: &mut Run<'_>, prefix: &str, style: Style) -> Result<(), Trouble> {
    let (of, open, close) = match style {
        Style::Object => (ListOf::Entries, "{", "}\n"),
        Style::Array => (ListOf::Keys, "[", "]\n"),
        Style::Tabs | Style::Dump => (ListOf::Entries, "", ""),
        Style::Keys => (ListOf::Keys, "", ""),
    };
    let progress = style == Style::Dump && !io::stdout().is_terminal();
    // The bracket is written with the first entry, so that a failure before it leaves stdout empty.
    let (mut before, mut json) = (open, Vec::new());
    for (entry, count) in run.client.list(prefix, of)?.zip(1_u64..) {
        let ListItem { key, value, ttl } = entry.map_err(cut)?;
        let (key, value) = (key.as_str(), value.as_str().as_bytes());
        let ttl = ttl.map_or(String::new(), |ttl| format!(",\"ttl\":{}", seconds(ttl)));
        json.clear();
        json::write_str(&mut json, key);
        // These are copied as they are. Formatting them by `write!`, with the key as a `JsonText` of its own, took
        // 14% more instructions for a dump.
        let pieces: [&[u8]; 6] = match style {
            Style::Tabs => [b"", key.as_bytes(), b"\t", value, b"", b"\n"],
            Style::Object => [before.as_bytes(), &json, b":", value, b"", b""],
            Style::Dump => [b"{\"key\":", &json, b",\"value\":", value, ttl.as_bytes(), b"}\n"],
            Style::Keys => [b"", key.as_bytes(), b"", b"", b"", b"\n"],
            Style::Array => [before.as_bytes(), &json, b"", b"", b"", b""],
        };
        pieces.iter().try_for_each(|piece| run.stdout.write_all(piece)).map_err(Trouble::output)?;
        before = ",";
        if progress && count.is_multiple_of(1_000) {
            run.stderr.progress(&format!("{count} keys dumped"));
        }
    }
    let open = if before == open { open } else { "" };
    write!(run.stdout, "{open}{close}").map_err(Trouble::output)
}

/// The list broke off. A server that closes amid a list has most likely waited for us too long.
fn cut(error: ClientError) -> Trouble {
    let lost = matches!(error, ClientError::Lost(..));
    let why = "; the list is cut off: was it taken too slowly for the server's --deadline?";
    let trouble = Trouble::from(error);
    Trouble { text: trouble.text + if lost { why } else { "" }, ..trouble }
}

/// `load`: sets what stdin says, either lines as `dump` writes them, or one object of keys and values. The
/// first object tells which: in a dump it has a `key`, a `value`, perhaps a `ttl`, and nothing else. A refused line
/// ends nothing, since the others may be good; a line that makes no sense does, since nobody knows what the rest means.
pub(super) fn load(run: &mut Run<'_>, args: &ClientArgs) -> Result<(), Trouble> {
    let input = Input::new(run.take_stdin()?);
    let loaded = args.replace.then(HashSet::new);
    let mut pipeline = Pipeline { absent: args.absent, loaded, ..Pipeline::new(run, "loaded") };
    let mut first = true;
    let fed = pipeline.feed(input, |pipeline, line, object| {
        match entry(object).map_err(|error| not_json(line, &error))? {
            Some((key, value, ttl)) => {
                let ttl = ttl.map(|ttl| {
                    duration(&ttl).ok_or_else(|| at_line(line, "\"ttl\" must be a number of seconds"))
                });
                pipeline.update(line, &key, value, ttl.transpose()?)?;
            }
            None if first => Parser::new(object).object(|parser, name| {
                let value = parser.compact()?;
                pipeline.update(line, &name.unescape(), value, None)
            })?,
            None => return Err(at_line(line, r#"expected {"key":KEY,"value":VALUE}"#)),
        }
        first = false;
        Ok(())
    });
    let Pipeline { done, refused, loaded, .. } = pipeline;
    fed.map_err(|trouble| trouble.at(format_args!("{done} keys loaded, then")))?;
    match (refused, loaded) {
        (0, None) => Ok(()),
        // Without a prefix every key is meant.
        (0, Some(loaded)) => {
            let prefix = args.prefix.as_deref().unwrap_or_default();
            delete(run, prefix, |key| !loaded.contains(key)).map(drop)
        }
        (_, loaded) => {
            let kept = if loaded.is_some() { "; nothing was deleted" } else { "" };
            let text = format!("{done} keys loaded, {refused} refused{kept}");
            Err(Trouble { exit: Exit::Refused, text })
        }
    }
}

/// Deletes the keys that begin with `prefix` and are `unwanted`, and tells how many there were. Their names are held
/// in memory: a list that is read while it is being deleted from would be taken too slowly.
pub(super) fn delete(
    run: &mut Run<'_>,
    prefix: &str,
    unwanted: impl Fn(&str) -> bool,
) -> Result<u64, Trouble> {
    let keys = run.client.list(prefix, ListOf::Keys)?.map(|item| item.map(|item| item.key));
    let keys: Vec<String> = keys.collect::<Result<_, _>>().map_err(cut)?;
    let mut pipeline = Pipeline::new(run, "deleted");
    let deleted = keys.into_iter().filter(|key| unwanted(key)).try_for_each(|key| {
        Request::Delete { key: (&key).into(), condition: None }.write_to(&mut pipeline.requests);
        pipeline.added(None, Some(key))
    });
    let deleted = deleted.and_then(|()| pipeline.exchange());
    let Pipeline { done, refused, .. } = pipeline;
    deleted.map_err(|trouble| trouble.at(format_args!("{done} keys deleted, then")))?;
    match refused {
        0 => Ok(done),
        _ => Err(Trouble { exit: Exit::Refused, text: format!("{done} keys deleted, {refused} refused") }),
    }
}

/// A key, its value, and its `ttl`.
type Entry<'t> = (Cow<'t, str>, JsonText<'t>, Option<JsonText<'t>>);

/// A line of a dump: what an object of these members says. Any other object is `None`.
fn entry(object: &str) -> Result<Option<Entry<'_>>, json::Error> {
    let (mut key, mut value, mut ttl, mut more) = (None, None, None, false);
    let mut parser = Parser::new(object);
    parser.object::<json::Error>(|parser, name| {
        let text = parser.compact()?;
        match name.raw() {
            "key" if key.is_none() => key = Some(text.into_string()),
            "value" if value.is_none() => value = Some(text),
            "ttl" if ttl.is_none() => ttl = Some(text),
            _ => more = true,
        }
        Ok(())
    })?;
    parser.end()?;
    Ok(key.flatten().zip(value).filter(|_| !more).map(|(key, value)| (key, value, ttl)))
}

/// `batch`: requests in the wire's JSON; their replies as they come.
pub(super) fn batch(run: &mut Run<'_>) -> Result<(), Trouble> {
    let input = Input::new(run.take_stdin()?);
    let mut pipeline = Pipeline { print: true, ..Pipeline::new(run, "") };
    let mut closed = false;
    pipeline.feed(input, |pipeline, line, object| {
        // The server closes after its reply to CLOSE. A request sent behind it would be lost without a word.
        if closed {
            let text = "after CLOSE nothing is answered: this and what follows was not sent";
            return Err(at_line(line, text));
        }
        let request = JsonText::parse(object).map_err(|error| not_json(line, &error))?;
        let tree = request.to_value();
        let name = tree.get("request").and_then(Value::as_str);
        // It is answered by events without an end, and replies could no more be told apart.
        if name == Some("WATCH") {
            return Err(at_line(line, "a batch cannot WATCH; 'watch' can"));
        }
        // Stdin is read on to its end all the same: only then is it known whether something was not sent.
        closed = name == Some("CLOSE");
        pipeline.requests.extend_from_slice(request.as_str().as_bytes());
        pipeline.requests.push(b'\n');
        pipeline.added(Some(line), None)
    })?;
    if pipeline.worst == Exit::Yes { Ok(()) } else { Err(Trouble::silent(pipeline.worst)) }
}

/// Requests that wait to be sent, and what became of those that were.
struct Pipeline<'r, 'a> {
    run: &'r mut Run<'a>,
    /// What becomes of keys, for messages.
    doing: &'static str,
    /// Replies are data, and go to stdout. Else only their outcome counts.
    print: bool,
    /// Keys that are there are left as they are.
    absent: bool,
    /// The keys that were in the input, where they are to be known afterwards.
    loaded: Option<HashSet<String>>,
    requests: Vec<u8>,
    /// For messages, the line of the input that each of the `requests` came from, and its key.
    places: Vec<(Option<usize>, Option<String>)>,
    /// Those that changed something, or found what they asked for.
    done: u64,
    refused: u64,
    /// The worst of what the replies mean: a key that is missing weighs less than a refusal.
    worst: Exit,
}

impl<'r, 'a> Pipeline<'r, 'a> {
    fn new(run: &'r mut Run<'a>, doing: &'static str) -> Pipeline<'r, 'a> {
        let (requests, places) = (Vec::new(), Vec::new());
        Pipeline {
            run,
            doing,
            print: false,
            absent: false,
            loaded: None,
            requests,
            places,
            done: 0,
            refused: 0,
            worst: Exit::Yes,
        }
    }

    /// Hands each object to `each`, until that fails. What waits is sent before stdin is read again, because that
    /// may take for ever: whoever writes our stdin may first want to see the replies. What came before a failure is
    /// sent all the same: the message then says how far it came.
    fn feed(
        &mut self,
        mut input: Input,
        mut each: impl FnMut(&mut Self, usize, &str) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut pump = || {
            loop {
                while let Some((line, object)) = input.next()? {
                    each(self, line, object)?;
                }
                self.exchange()?;
                if input.read()? == 0 {
                    return Ok(());
                }
            }
        };
        let fed = pump();
        self.exchange().and(fed)
    }

    /// Has a key set. A bad key is told here, with its line: the server would refuse it, but only after all before it.
    fn update(
        &mut self,
        line: usize,
        key: &str,
        value: JsonText<'_>,
        ttl: Option<Duration>,
    ) -> Result<(), Trouble> {
        check_key(key).map_err(|error| at_line(line, &error.to_string()))?;
        if let Some(loaded) = &mut self.loaded {
            loaded.insert(key.to_owned());
        }
        let condition = self.absent.then_some(Condition::Absent);
        Request::Update { key: key.into(), value, condition, ttl }.write_to(&mut self.requests);
        self.added(Some(line), Some(key.to_owned()))
    }

    /// One more request waits to be sent; with a full window all of them are.
    fn added(&mut self, line: Option<usize>, key: Option<String>) -> Result<(), Trouble> {
        self.places.push((line, key));
        if self.requests.len() >= WINDOW_BYTES { self.exchange() } else { Ok(()) }
    }

    /// Sends what waits, and reads the replies. A refusal is counted; an error of the connection ends it all, and names
    /// the first request of which the outcome is unknown.
    fn exchange(&mut self) -> Result<(), Trouble> {
        let (requests, places) = (take(&mut self.requests), take(&mut self.places));
        if places.is_empty() {
            return Ok(());
        }
        let run = &mut *self.run;
        // The server may have closed while stdin brought nothing. To find that out by sending would leave all of
        // the window in doubt.
        run.client.drop_stale();
        let replies = run.client.ask_all(&requests)?;
        for ((line, key), reply) in places.iter().zip(replies) {
            let trouble = |error| {
                let place =
                    [line.map(|line| format!("line {line}")), key.as_ref().map(|key| format!("key {key:?}"))];
                Trouble::from(error).at(place.into_iter().flatten().collect::<Vec<_>>().join(", "))
            };
            let (text, answer) = reply.map_err(trouble)?;
            if self.print {
                writeln!(run.stdout, "{text}").map_err(Trouble::output)?;
            }
            let code = match answer {
                Ok(answer) if answer.missing => Exit::No,
                Ok(_) => {
                    self.done += 1;
                    Exit::Yes
                }
                Err(conflict)
                    if self.absent && conflict.refusal().is_some_and(|it| it.code == Code::Conflict) =>
                {
                    Exit::No
                }
                Err(refused) => {
                    self.refused += 1;
                    let trouble = trouble(refused);
                    if !self.print && self.refused <= REFUSALS_TOLD {
                        run.stderr.report(&trouble);
                    }
                    trouble.exit
                }
            };
            self.worst = self.worst.max(code);
        }
        if !self.print {
            run.stderr.progress(&format!("{} keys {}", self.done, self.doing));
        }
        run.stdout.flush().map_err(Trouble::output)
    }
}
