//! `load` and `batch`: many requests from stdin over one connection, without waiting for each reply.
//!
//! A window of requests is sent before the first of their replies is read. While the window fits into what
//! the kernel buffers of a connection, neither side can come to wait for the other: no thread is
//! needed, and nothing can deadlock. Replies are written before more of stdin is read, so that a program at
//! the other end of both pipes can answer to what it got.

use std::io::Write;
use std::mem::take;

use super::commands::Run;
use super::input::{Input, at_line, not_json};
use super::message::{Exit, Trouble};
use crate::client::Connection;
use crate::client::entry;
use crate::client::{Answer, ClientError, ReplyProblem};
use crate::json::{JsonText, Parser, Value};
use crate::protocol::{Code, Request, check_key};

/// Bytes of requests that are sent before the first reply is read. A single one may be larger.
const WINDOW_BYTES: usize = 32 << 10;
/// After so many refusals `load` only counts them.
const REFUSALS_TOLD: u64 = 10;

/// `load`: sets what stdin says, either lines as `dump` writes them, or one object of keys and values. The
/// first object tells which: in a dump it has a `key` and a `value` and nothing else.
pub(super) fn load(run: &mut Run<'_>) -> Result<(), Trouble> {
    let mut stdin = run.take_stdin()?;
    let input = Input::new(&mut stdin);
    let mut pipeline = Pipeline::new(run, false);
    let mut first = true;
    let outcome = pipeline.feed(input, |pipeline, line, object| {
        match entry(object) {
            Ok((key, value)) => pipeline.update(line, &key.as_string().unwrap_or_default(), &value)?,
            Err(ReplyProblem::NotJson(error)) => return Err(not_json(line, &error)),
            Err(_) if first => pipeline.update_all(line, object)?,
            Err(_) => return Err(at_line(line, r#"expected {"key":KEY,"value":VALUE}"#)),
        }
        first = false;
        Ok(())
    });
    let Pipeline { done, refused, .. } = pipeline;
    outcome.map_err(|trouble| trouble.at(format_args!("{done} keys loaded, then")))?;
    if refused > 0 {
        run.stderr.say(&format!("{done} keys loaded, {refused} refused"));
        return Err(Trouble::silent(Exit::Refused));
    }
    Ok(())
}

/// `batch`: requests in the wire's JSON; their replies as they come.
pub(super) fn batch(run: &mut Run<'_>) -> Result<(), Trouble> {
    let mut stdin = run.take_stdin()?;
    let input = Input::new(&mut stdin);
    let mut pipeline = Pipeline::new(run, true);
    let mut closed = false;
    pipeline.feed(input, |pipeline, line, object| {
        if closed {
            let text = "after CLOSE nothing is answered: this and what follows was not sent";
            return Err(at_line(line, text));
        }
        let request = JsonText::parse(object).map_err(|error| not_json(line, &error))?;
        let tree = request.to_value();
        let name = tree.get("request").and_then(Value::as_str);
        if name == Some("WATCH") {
            return Err(at_line(line, "a batch cannot WATCH; 'watch' can"));
        }
        pipeline.requests.extend_from_slice(request.as_str().as_bytes());
        pipeline.requests.push(b'\n');
        // Stdin is read on to its end, or what was piped to us later would be lost without a word.
        closed = name == Some("CLOSE");
        pipeline.added(format!("line {line}"))
    })?;
    if pipeline.worst == Exit::Yes { Ok(()) } else { Err(Trouble::silent(pipeline.worst)) }
}

/// Requests that wait to be sent, and what became of those that were.
struct Pipeline<'r, 'a> {
    run: &'r mut Run<'a>,
    /// Whether replies are data, or only their outcome counts.
    print: bool,
    requests: Vec<u8>,
    /// The place in the input of each of the `requests`, for messages.
    places: Vec<String>,
    done: u64,
    refused: u64,
    /// The worst exit code of a reply.
    worst: Exit,
}

impl<'r, 'a> Pipeline<'r, 'a> {
    fn new(run: &'r mut Run<'a>, print: bool) -> Pipeline<'r, 'a> {
        Pipeline {
            run,
            print,
            requests: Vec::new(),
            places: Vec::new(),
            done: 0,
            refused: 0,
            worst: Exit::Yes,
        }
    }

    /// Hands each object to `each`, until that fails. What came before a failure is sent all
    /// the same: the message then says how far it came.
    fn feed(
        &mut self,
        mut input: Input<'_>,
        mut each: impl FnMut(&mut Self, usize, &str) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let fed = loop {
            let more = match input.next() {
                Ok(Some((line, object))) => each(self, line, object).map(|()| true),
                Ok(None) => self.exchange().and_then(|()| input.read()),
                Err(trouble) => Err(trouble),
            };
            if !matches!(more, Ok(true)) {
                break more;
            }
        };
        self.exchange().and(fed.map(drop))
    }

    /// Each member of an object, which is known to be JSON, is a key and its value.
    fn update_all(&mut self, line: usize, object: &str) -> Result<(), Trouble> {
        Parser::new(object).object(|parser, name| {
            let value = parser.compact()?;
            self.update(line, &name.unescape(), &value)
        })
    }

    fn update(&mut self, line: usize, key: &str, value: &JsonText<'_>) -> Result<(), Trouble> {
        check_key(key).map_err(|error| at_line(line, &error.to_string()))?;
        let request = Request::Update { key: key.into(), value: value.borrowed(), condition: None };
        request.write_to(&mut self.requests);
        self.added(format!("line {line}, key {key:?}"))
    }

    /// One more waits to be sent.
    fn added(&mut self, place: String) -> Result<(), Trouble> {
        self.places.push(place);
        if self.requests.len() >= WINDOW_BYTES { self.exchange() } else { Ok(()) }
    }

    /// Sends what waits, and reads the replies.
    fn exchange(&mut self) -> Result<(), Trouble> {
        let (requests, places) = (take(&mut self.requests), take(&mut self.places));
        if places.is_empty() {
            return Ok(());
        }
        // The server may have closed while stdin brought nothing.
        self.run.client.drop_stale();
        let timeout = self.run.client.options.timeout;
        let (mut connection, first) = self.run.client.begin(&requests, reply)?;
        let mut first = Some(Ok(first));
        for place in places {
            // Whole again for each: the requests are carried out one after another.
            connection.be_patient(timeout);
            let told = first.take().unwrap_or_else(|| reply(&mut connection));
            let (text, reply) = told.map_err(|error| Trouble::from(error).at(&place))?;
            if self.print {
                writeln!(self.run.stdout, "{text}").map_err(Trouble::output)?;
            }
            self.count(&place, reply);
        }
        self.run.client.connection = Some(connection);
        if !self.print {
            self.run.stderr.progress(&format!("{} keys loaded", self.done));
        }
        self.run.stdout.flush().map_err(Trouble::output)
    }

    fn count(&mut self, place: &str, reply: Result<Answer, ClientError>) {
        let code = match reply {
            Ok(reply) => {
                self.done += 1;
                if reply.missing { Exit::No } else { Exit::Yes }
            }
            Err(error) => {
                self.refused += 1;
                let trouble = Trouble::from(error).at(place);
                if !self.print && self.refused <= REFUSALS_TOLD {
                    self.run.stderr.report(&trouble);
                }
                trouble.exit
            }
        };
        self.worst = self.worst.max(code);
    }
}

/// The next reply, as it stands on the wire and as it is meant; here a refusal is none of the errors that
/// end it all, but for `busy`.
fn reply(connection: &mut Connection) -> Result<(String, Result<Answer, ClientError>), ClientError> {
    let text = connection.line()?;
    match connection.understand(&text) {
        Err(error) if error.code().is_none_or(|code| code == Code::Busy) => Err(error),
        reply => Ok((text, reply)),
    }
}
