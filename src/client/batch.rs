//! `batch`: requests in the wire's JSON from stdin, their replies on stdout as they come. Requests are
//! sent in windows, as [`load`](super::load) explains; the replies to one are written before more is read,
//! so that a program at the other end of two pipes can answer to what it got.

use super::Reply;
use super::input::{Input, at_line, not_json};
use super::load::WINDOW_BYTES;
use super::run::{OUTPUT_BYTES, Run, Trouble, spill};
use crate::json::{Error, Parser, Text};
use crate::protocol::Code;

pub(super) fn batch(run: &mut Run<'_>) -> Result<(), Trouble> {
    let mut input = Input::new(run.take_stdin()?);
    let mut batch = Batch { run, output: Vec::new(), requests: 0, closed: false, worst: 0 };
    let outcome = batch.all(&mut input);
    batch.exchange().and(outcome)?;
    match batch.worst {
        0 => Ok(()),
        worst => Err(Trouble::Silent(worst)),
    }
}

struct Batch<'r, 'a> {
    run: &'r mut Run<'a>,
    /// Requests that wait to be sent, and how many.
    output: Vec<u8>,
    requests: usize,
    /// CLOSE was among them: nothing after it would be answered.
    closed: bool,
    /// The worst exit code of a reply.
    worst: u8,
}

impl Batch<'_, '_> {
    fn all(&mut self, input: &mut Input<'_>) -> Result<(), Trouble> {
        loop {
            while let Some((line, object)) = input.next()? {
                let request = Text::parse(object).map_err(|error| not_json(line, &error))?;
                match &*name(object).map_err(|error| not_json(line, &error))? {
                    "WATCH" => return Err(at_line(line, "a batch cannot WATCH; 'watch' can")),
                    "CLOSE" => self.closed = true,
                    _ => {}
                }
                self.output.extend_from_slice(request.as_str().as_bytes());
                self.output.push(b'\n');
                self.requests += 1;
                if self.output.len() >= WINDOW_BYTES {
                    self.exchange()?;
                }
                if self.closed {
                    return Ok(());
                }
            }
            self.exchange()?;
            if !input.read()? {
                return Ok(());
            }
        }
    }

    /// Sends what waits, and copies the replies.
    fn exchange(&mut self) -> Result<(), Trouble> {
        let requests = std::mem::take(&mut self.requests);
        if requests == 0 {
            return Ok(());
        }
        self.run.client.begin_all(&self.output)?;
        self.output.clear();
        let mut out = Vec::new();
        let replies = (0..requests).try_for_each(|_| {
            let reply = self.run.client.reply_text(|text| {
                out.extend_from_slice(text.as_bytes());
                out.push(b'\n');
                Reply::parse(text)
            });
            let code = match reply? {
                Ok(reply) => u8::from(reply.missing),
                Err(refusal) if refusal.failure.code == Code::Conflict => 1,
                Err(_) => 5,
            };
            self.worst = self.worst.max(code);
            spill(self.run.stdout, &mut out, OUTPUT_BYTES).map(drop)
        });
        // What came before a failure is the reader's all the same.
        spill(self.run.stdout, &mut out, 0).map(drop).and(replies)
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
