//! The commands that move many entries at once: `getall`, `keys` and `dump` out of the server, `load` and `batch`
//! into it. None of them holds more than one entry or one window of requests, so a table of any size goes through.
//!
//! `load` and `batch` send a window of requests before they read the first of their replies. Waiting for each reply
//! would cost a round trip for each: 200,000 lines take half a second over loopback in windows, and a
//! minute over a network with 0.3 ms one by one. While a window fits into what the kernel buffers of a
//! connection, neither side can come to wait for the other: no thread is needed, and nothing can deadlock. Replies
//! are written before more of stdin is read, so that a program at the other end of both pipes can answer to
//! what it got.
//!
//! Objects are cut out of stdin by the scanner that the server cuts requests out with: one grammar, and a dump in
//! one line is as good as one of many lines.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Read, Stdin, Write};
use std::mem::take;

use super::message::{Exit, Trouble};
use super::{INPUT_BYTES_MAX, Run};
use crate::client::{ClientError, ListOf};
use crate::json::{self, JsonText, Parser, Scan, Scanner, Value};
use crate::protocol::{Request, check_key};

/// Bytes of requests that are sent before the first reply is read. A single one may be larger. The kernel buffers
/// more than this for a connection on every system we know (Linux from 16 KiB at our end and 128 KiB at the other),
/// and a larger window saves no more time: the round trips are few already.
const WINDOW_BYTES: usize = 32 << 10;
/// What one read of stdin may bring.
const READ_BYTES: usize = 64 << 10;
/// After so many refusals `load` only counts them: a table that is full would refuse every line that is left.
const REFUSALS_TOLD: u64 = 10;

/// How a list is written: in lines, or with `-j` as one JSON object or array.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `getall`: the key, a tab, the value as JSON. Neither a key nor JSON holds a tab or a newline as such.
    Tabs,
    /// `getall -j`: one JSON object of keys and values.
    Object,
    /// `dump`: an object of `key` and `value` a line, in the very words in which the wire has them.
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
        let (key, value) = entry.map_err(cut)?;
        let (key, value) = (key.as_str(), value.as_str().as_bytes());
        json.clear();
        json::write_str(&mut json, key);
        // These are copied as they are. Formatting them by `write!`, with the key as a `JsonText` of its own, took
        // 14% more instructions for a dump.
        let pieces: [&[u8]; 5] = match style {
            Style::Tabs => [b"", key.as_bytes(), b"\t", value, b"\n"],
            Style::Object => [before.as_bytes(), &json, b":", value, b""],
            Style::Dump => [b"{\"key\":", &json, b",\"value\":", value, b"}\n"],
            Style::Keys => [b"", key.as_bytes(), b"", b"", b"\n"],
            Style::Array => [before.as_bytes(), &json, b"", b"", b""],
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
/// first object tells which: in a dump it has a `key` and a `value` and nothing else. A refused line ends nothing,
/// since the others may be good; a line that makes no sense does, since nobody knows what the rest means.
pub(super) fn load(run: &mut Run<'_>) -> Result<(), Trouble> {
    let input = Input::new(run.take_stdin()?);
    let mut pipeline = Pipeline::new(run);
    let mut first = true;
    let loaded = pipeline.feed(input, |pipeline, line, object| {
        match entry(object).map_err(|error| not_json(line, &error))? {
            Some((key, value)) => pipeline.update(line, &key, value)?,
            None if first => Parser::new(object).object(|parser, name| {
                let value = parser.compact()?;
                pipeline.update(line, &name.unescape(), value)
            })?,
            None => return Err(at_line(line, r#"expected {"key":KEY,"value":VALUE}"#)),
        }
        first = false;
        Ok(())
    });
    let Pipeline { done, refused, .. } = pipeline;
    loaded.map_err(|trouble| trouble.at(format_args!("{done} keys loaded, then")))?;
    match refused {
        0 => Ok(()),
        _ => Err(Trouble { exit: Exit::Refused, text: format!("{done} keys loaded, {refused} refused") }),
    }
}

/// A line of a dump: the key and the value of an object of these two members. Any other object is `None`.
fn entry(object: &str) -> Result<Option<(Cow<'_, str>, JsonText<'_>)>, json::Error> {
    let (mut key, mut value, mut more) = (None, None, false);
    let mut parser = Parser::new(object);
    parser.object::<json::Error>(|parser, name| {
        let text = parser.compact()?;
        match name.raw() {
            "key" if key.is_none() => key = Some(text.into_string()),
            "value" if value.is_none() => value = Some(text),
            _ => more = true,
        }
        Ok(())
    })?;
    parser.end()?;
    Ok(key.flatten().zip(value).filter(|_| !more))
}

/// `batch`: requests in the wire's JSON; their replies as they come.
pub(super) fn batch(run: &mut Run<'_>) -> Result<(), Trouble> {
    let input = Input::new(run.take_stdin()?);
    let mut pipeline = Pipeline { print: true, ..Pipeline::new(run) };
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
        pipeline.added(line, None)
    })?;
    if pipeline.worst == Exit::Yes { Ok(()) } else { Err(Trouble::silent(pipeline.worst)) }
}

/// Requests that wait to be sent, and what became of those that were.
struct Pipeline<'r, 'a> {
    run: &'r mut Run<'a>,
    /// Replies are data, and go to stdout. Else only their outcome counts.
    print: bool,
    requests: Vec<u8>,
    /// The place in the input of each of the `requests`, for messages: the line, and the key where there is one.
    places: Vec<(usize, Option<String>)>,
    done: u64,
    refused: u64,
    /// The worst of what the replies mean: a key that is missing weighs less than a refusal.
    worst: Exit,
}

impl<'r, 'a> Pipeline<'r, 'a> {
    fn new(run: &'r mut Run<'a>) -> Pipeline<'r, 'a> {
        let (requests, places) = (Vec::new(), Vec::new());
        Pipeline { run, print: false, requests, places, done: 0, refused: 0, worst: Exit::Yes }
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
    fn update(&mut self, line: usize, key: &str, value: JsonText<'_>) -> Result<(), Trouble> {
        check_key(key).map_err(|error| at_line(line, &error.to_string()))?;
        let request = Request::Update { key: key.into(), value, condition: None };
        request.write_to(&mut self.requests);
        self.added(line, Some(key.to_owned()))
    }

    /// One more request waits to be sent; with a full window all of them are.
    fn added(&mut self, line: usize, key: Option<String>) -> Result<(), Trouble> {
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
                let key = key.as_ref().map_or(String::new(), |key| format!(", key {key:?}"));
                Trouble::from(error).at(format_args!("line {line}{key}"))
            };
            let (text, answer) = reply.map_err(trouble)?;
            if self.print {
                writeln!(run.stdout, "{text}").map_err(Trouble::output)?;
            }
            let code = match answer {
                Ok(answer) => {
                    self.done += 1;
                    if answer.missing { Exit::No } else { Exit::Yes }
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
            run.stderr.progress(&format!("{} keys loaded", self.done));
        }
        run.stdout.flush().map_err(Trouble::output)
    }
}

/// JSON objects from stdin, one after another, with the line that each began on.
struct Input {
    stdin: Stdin,
    /// What has been read; objects have been taken out of it up to `start`. It is only moved to the front of the
    /// buffer before a read: moving it for each object would cost O(n²).
    buffer: Vec<u8>,
    start: usize,
    /// The line that `start` is on, from 1.
    line: usize,
    /// It remembers how far it has looked into an object that is not whole yet.
    scanner: Scanner,
}

impl Input {
    fn new(stdin: Stdin) -> Input {
        Input { stdin, buffer: Vec::new(), start: 0, line: 1, scanner: Scanner::default() }
    }

    /// The next object that has been read whole, and the line it begins on; `None` where more must be read.
    fn next(&mut self) -> Result<Option<(usize, &str)>, Trouble> {
        let unread = &self.buffer[self.start..];
        let space = unread.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let (space, unread) = unread.split_at(space);
        let line = self.line + lines(space);
        (self.start, self.line) = (self.start + space.len(), line);
        let object = match unread.first() {
            None => return Ok(None),
            Some(b'{') => match self.scanner.scan(unread) {
                Scan::Complete(length) => &unread[..length],
                Scan::Incomplete => return Ok(None),
                Scan::Lost(at) => {
                    let text = "a bracket closes what was not opened";
                    return Err(at_line(line + lines(&unread[..at]), text));
                }
            },
            Some(_) => return Err(at_line(line, "expected a JSON object, which begins with '{'")),
        };
        (self.start, self.line) = (self.start + object.len(), line + lines(object));
        let not_utf8 = |_| at_line(line, "not UTF-8 text; other bytes can be stored as base64");
        Ok(Some((line, str::from_utf8(object).map_err(not_utf8)?)))
    }

    /// Reads more; 0 bytes at the end of stdin, where nothing may be left over. One read brings what is there, so that
    /// a line that somebody types is sent before the next one is typed.
    fn read(&mut self) -> Result<usize, Trouble> {
        self.buffer.drain(..take(&mut self.start));
        let end = self.buffer.len();
        if end > INPUT_BYTES_MAX {
            return Err(at_line(self.line, &format!("an object of more than {INPUT_BYTES_MAX} bytes")));
        }
        self.buffer.resize(end + READ_BYTES, 0);
        let got = self.stdin.read(&mut self.buffer[end..]).map_err(Trouble::stdin)?;
        self.buffer.truncate(end + got);
        if got == 0 && end > 0 {
            return Err(at_line(self.line + lines(&self.buffer), "the input ends inside an object"));
        }
        Ok(got)
    }
}

/// How many lines end in these bytes. Within a JSON string a newline is written as an escape, so none is counted
/// that an editor would not count.
fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Something is wrong with the input at this line.
fn at_line(line: usize, text: &str) -> Trouble {
    Trouble::input(format!("line {line}: {text}"))
}

/// An object that began on this line is not JSON. The error counts lines from the object's first, and a person
/// counts them from the beginning of the file.
fn not_json(line: usize, error: &json::Error) -> Trouble {
    let hint = error.hint.map_or(String::new(), |hint| format!(": {hint}"));
    let text = format!("column {}: expected {}{hint}", error.column, error.kind.expected());
    at_line(line + error.line - 1, &text)
}
