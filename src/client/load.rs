//! `load`: sets what stdin says, either lines as `dump` writes them, or one object of keys and values.
//! The first object tells which: in a dump it has a `key` and a `value` and nothing else.
//!
//! Requests are pipelined: a window of them is sent before the first reply is read. While the window
//! fits into what the kernel buffers of a connection, neither side can come to wait for the other; so
//! no thread is needed, and nothing can deadlock.

use super::input::{Input, at_line, not_json};
use super::list::entry;
use super::listing::Progress;
use super::run::{Run, Trouble};
use super::{Client, ClientError, ReplyProblem};
use crate::json::{Error, Parser, Text};
use crate::protocol::{Request, check_key};

/// Bytes of requests that are sent before the first reply is read. A single one may be larger.
pub(super) const WINDOW_BYTES: usize = 32 << 10;
/// After so many refusals they are only counted.
const REFUSALS_TOLD: u64 = 10;

/// Requests that wait to be sent, and what became of those that were.
struct Loader<'r, 'a> {
    run: &'r mut Run<'a>,
    output: Vec<u8>,
    /// The place in the input of each request in `output`, for messages.
    places: Vec<String>,
    loaded: u64,
    refused: u64,
    progress: Progress,
}

pub(super) fn load(run: &mut Run<'_>) -> Result<(), Trouble> {
    let mut input = Input::new(run.take_stdin()?);
    let (output, places, progress) = (Vec::new(), Vec::new(), Progress::new(true));
    let mut loader = Loader { run, output, places, loaded: 0, refused: 0, progress };
    let outcome = loader.all(&mut input);
    // What came before the bad line is sent all the same: the message then says how far it came.
    let outcome = loader.exchange().and(outcome);
    loader.progress.clear(&mut loader.run.stderr);
    let (loaded, refused) = (loader.loaded, loader.refused);
    match outcome {
        Err(trouble) => Err(Trouble::At(format!("{loaded} keys loaded, then"), Box::new(trouble))),
        Ok(()) if refused > 0 => {
            loader.run.stderr.say(&format!("{loaded} keys loaded, {refused} refused"));
            Err(Trouble::Silent(5))
        }
        Ok(()) => Ok(()),
    }
}

impl Loader<'_, '_> {
    fn all(&mut self, input: &mut Input<'_>) -> Result<(), Trouble> {
        let mut first = true;
        loop {
            while let Some((line, object)) = input.next()? {
                match entry(object) {
                    Ok((key, value)) => self.add(line, &key.as_string().unwrap_or_default(), &value)?,
                    Err(ReplyProblem::NotJson(error)) => return Err(not_json(line, &error)),
                    Err(_) if first => self.object(line, object)?,
                    Err(_) => return Err(at_line(line, r#"expected {"key":KEY,"value":VALUE}"#)),
                }
                first = false;
            }
            self.exchange()?;
            if !input.read()? {
                return Ok(());
            }
        }
    }

    /// One object of keys and values.
    fn object(&mut self, line: usize, object: &str) -> Result<(), Trouble> {
        let mut trouble = None;
        let done = Parser::new(object).object(|parser, name| {
            let value = parser.compact()?;
            if trouble.is_none() {
                trouble = self.add(line, &name.unescape(), &value).err();
            }
            Ok::<(), Error>(())
        });
        done.map_err(|error| not_json(line, &error))?;
        trouble.map_or(Ok(()), Err)
    }

    fn add(&mut self, line: usize, key: &str, value: &Text<'_>) -> Result<(), Trouble> {
        check_key(key).map_err(|error| at_line(line, &error.to_string()))?;
        Request::Update { key: key.into(), value: value.borrowed(), condition: None }
            .write_to(&mut self.output);
        self.places.push(format!("line {line}, key {key:?}"));
        if self.output.len() >= WINDOW_BYTES { self.exchange() } else { Ok(()) }
    }

    /// Sends what waits, and reads the replies.
    fn exchange(&mut self) -> Result<(), Trouble> {
        let places = std::mem::take(&mut self.places);
        if places.is_empty() {
            return Ok(());
        }
        let output = std::mem::take(&mut self.output);
        let client: &mut Client = &mut self.run.client;
        client.begin_all(&output)?;
        for place in places {
            match client.reply() {
                Ok(_) => self.loaded += 1,
                Err(error @ ClientError::Refused(..)) => {
                    self.refused += 1;
                    if self.refused <= REFUSALS_TOLD {
                        self.progress.clear(&mut self.run.stderr);
                        self.run.stderr.say(&format!("{place}: {error}"));
                    }
                }
                Err(error) => return Err(Trouble::At(place, Box::new(error.into()))),
            }
        }
        self.progress.show(&mut self.run.stderr, self.loaded, "loaded");
        Ok(())
    }
}
