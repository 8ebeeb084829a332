//! `load` and `batch`: many requests from stdin over one connection, without waiting for each reply.
//!
//! A window of requests is sent before the first of their replies is read. While the window fits into what
//! the kernel buffers of a connection, neither side can come to wait for the other: no thread is
//! needed, and nothing can deadlock. Replies are written before more of stdin is read, so that a program at
//! the other end of both pipes can answer to what it got.

use super::input::{Input, at_line, not_json};
use super::list::entry;
use super::listing::Progress;
use super::run::{OUTPUT_BYTES, Run, spill};
use super::trouble::Trouble;
use super::{Refusal, Reply, ReplyProblem};
use crate::json::{Error, Parser, Text};
use crate::protocol::{Code, Request, check_key};

/// Bytes of requests that are sent before the first reply is read. A single one may be larger.
const WINDOW_BYTES: usize = 32 << 10;
/// After so many refusals `load` only counts them.
const REFUSALS_TOLD: u64 = 10;

/// `load`: sets what stdin says, either lines as `dump` writes them, or one object of keys and values. The
/// first object tells which: in a dump it has a `key` and a `value` and nothing else.
pub(super) fn load(run: &mut Run<'_>) -> Result<(), Trouble> {
    let mut input = Input::new(run.take_stdin()?);
    let mut pipeline = Pipeline::new(run, false);
    let mut first = true;
    let outcome = pipeline.feed(&mut input, |pipeline, line, object| {
        match entry(object) {
            Ok((key, value)) => pipeline.update(line, &key.as_string().unwrap_or_default(), &value)?,
            Err(ReplyProblem::NotJson(error)) => return Err(not_json(line, &error)),
            Err(_) if first => pipeline.update_all(line, object)?,
            Err(_) => return Err(at_line(line, r#"expected {"key":KEY,"value":VALUE}"#)),
        }
        first = false;
        Ok(true)
    });
    let Pipeline { done, refused, .. } = pipeline;
    match outcome {
        Err(trouble) => Err(trouble.at(format_args!("{done} keys loaded, then"))),
        Ok(()) if refused > 0 => {
            run.stderr.say(&format!("{done} keys loaded, {refused} refused"));
            Err(Trouble::silent(5))
        }
        Ok(()) => Ok(()),
    }
}

/// `batch`: requests in the wire's JSON; their replies as they come.
pub(super) fn batch(run: &mut Run<'_>) -> Result<(), Trouble> {
    let mut input = Input::new(run.take_stdin()?);
    let mut pipeline = Pipeline::new(run, true);
    pipeline.feed(&mut input, |pipeline, line, object| {
        let request = Text::parse(object).map_err(|error| not_json(line, &error))?;
        let name = name(object).map_err(|error| not_json(line, &error))?;
        if name == "WATCH" {
            return Err(at_line(line, "a batch cannot WATCH; 'watch' can"));
        }
        pipeline.output.extend_from_slice(request.as_str().as_bytes());
        pipeline.output.push(b'\n');
        pipeline.sent(format!("line {line}"))?;
        // Nothing after CLOSE would be answered.
        Ok(name != "CLOSE")
    })?;
    match pipeline.worst {
        0 => Ok(()),
        worst => Err(Trouble::silent(worst)),
    }
}

/// Requests that wait to be sent, and what became of those that were.
struct Pipeline<'r, 'a> {
    run: &'r mut Run<'a>,
    /// Whether replies are data, or only their outcome counts.
    print: bool,
    output: Vec<u8>,
    /// The place in the input of each request in `output`, for messages.
    places: Vec<String>,
    done: u64,
    refused: u64,
    /// The worst exit code of a reply.
    worst: u8,
    progress: Progress,
}

impl<'r, 'a> Pipeline<'r, 'a> {
    fn new(run: &'r mut Run<'a>, print: bool) -> Pipeline<'r, 'a> {
        let (output, places, progress) = (Vec::new(), Vec::new(), Progress::new(!print));
        Pipeline { run, print, output, places, done: 0, refused: 0, worst: 0, progress }
    }

    /// Hands each object to `each`, until that fails or has enough. What came before a failure is sent all
    /// the same: the message then says how far it came.
    fn feed(
        &mut self,
        input: &mut Input<'_>,
        mut each: impl FnMut(&mut Self, usize, &str) -> Result<bool, Trouble>,
    ) -> Result<(), Trouble> {
        let fed = loop {
            match input.next() {
                Ok(Some((line, object))) => match each(self, line, object) {
                    Ok(true) => {}
                    enough => break enough,
                },
                Ok(None) => match self.exchange().and_then(|()| input.read()) {
                    Ok(true) => {}
                    ended => break ended,
                },
                Err(trouble) => break Err(trouble),
            }
        };
        let sent = self.exchange();
        self.progress.clear(&mut self.run.stderr);
        sent.and(fed.map(drop))
    }

    /// Each member of an object is a key and its value.
    fn update_all(&mut self, line: usize, object: &str) -> Result<(), Trouble> {
        Parser::new(object).skip().map_err(|error| not_json(line, &error))?;
        Parser::new(object).object(|parser, name| {
            let value = parser.compact().map_err(|error| not_json(line, &error))?;
            self.update(line, &name.unescape(), &value)
        })
    }

    fn update(&mut self, line: usize, key: &str, value: &Text<'_>) -> Result<(), Trouble> {
        check_key(key).map_err(|error| at_line(line, &error.to_string()))?;
        let request = Request::Update { key: key.into(), value: value.borrowed(), condition: None };
        request.write_to(&mut self.output);
        self.sent(format!("line {line}, key {key:?}"))
    }

    /// A request was appended to the output.
    fn sent(&mut self, place: String) -> Result<(), Trouble> {
        self.places.push(place);
        if self.output.len() >= WINDOW_BYTES { self.exchange() } else { Ok(()) }
    }

    /// Sends what waits, and reads the replies.
    fn exchange(&mut self) -> Result<(), Trouble> {
        let places = std::mem::take(&mut self.places);
        if places.is_empty() {
            return Ok(());
        }
        let begun = self.run.client.begin_all(&self.output);
        self.output.clear();
        begun?;
        let mut out = Vec::new();
        let read = places.into_iter().try_for_each(|place| self.reply(place, &mut out));
        self.progress.show(&mut self.run.stderr, self.done, "loaded");
        // What came before a failure is the reader's all the same.
        spill(self.run.stdout, &mut out, 0).map(drop).and(read)
    }

    fn reply(&mut self, place: String, out: &mut Vec<u8>) -> Result<(), Trouble> {
        let print = self.print;
        let reply = self.run.client.reply_text(|text| {
            if print {
                out.extend_from_slice(text.as_bytes());
                out.push(b'\n');
            }
            Reply::parse(text)
        });
        let code = match reply.map_err(|error| Trouble::from(error).at(&place))? {
            Ok(reply) => {
                self.done += 1;
                u8::from(reply.missing)
            }
            Err(refusal) => {
                self.refused += 1;
                self.refuse(&place, &refusal);
                if refusal.failure.code == Code::Conflict { 1 } else { 5 }
            }
        };
        self.worst = self.worst.max(code);
        spill(self.run.stdout, out, OUTPUT_BYTES).map(drop)
    }

    fn refuse(&mut self, place: &str, refusal: &Refusal) {
        if !self.print && self.refused <= REFUSALS_TOLD {
            self.progress.clear(&mut self.run.stderr);
            let text = format!("{place}: {}: {}", self.run.client.address, refusal.failure);
            self.run.stderr.say(&text);
        }
    }
}

/// The request's name; empty where it has none, which is for the server to say.
fn name(object: &str) -> Result<String, Error> {
    let mut found = String::new();
    Parser::new(object).object(|parser, name| {
        match &*name.unescape() {
            "request" => found = parser.compact()?.as_string().unwrap_or_default().into_owned(),
            _ => parser.skip()?,
        }
        Ok::<(), Error>(())
    })?;
    Ok(found)
}
