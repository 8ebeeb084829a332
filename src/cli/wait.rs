//! The commands that may wait: `get`, `add`, `take` and `count`, with `--wait`.
//!
//! Whoever waits by asking again and again finds out late, and loads the server. So a command asks once, and where the
//! answer is no it watches what the answer depends on, and asks again when that has changed. The watch tells the
//! present state first, so what changes between the first question and the watch is not missed; and where the server
//! is restarted it tells that state again.

use std::borrow::Cow;
use std::time::Instant;

use super::Run;
use super::client::ClientArgs;
use super::follow::Follower;
use super::message::{Exit, Trouble};
use crate::client::{Answer, Client, ClientError, Event};
use crate::json::JsonText;
use crate::protocol::{Code, Condition, Request, Scope};

/// When to ask again of which nobody knows whether it was carried out.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Repeat {
    /// At once: to do it twice is to do it once.
    Freely,
    /// Never: only what was not carried out for sure.
    Undone,
}

impl Run<'_> {
    /// Attempts something until it succeeds or `--wait` is over: at once, and at each event of a watch. The attempt is told
    /// of the event, and whether the present state has been told: it knows by that where it need not ask.
    fn wait<T>(
        &mut self,
        args: &ClientArgs,
        scope: Scope<'static>,
        repeat: Repeat,
        mut attempt: impl FnMut(&mut Client, Option<&Event>, bool) -> Result<Option<T>, ClientError>,
    ) -> Result<Option<T>, Trouble> {
        // A server in iterative mode answers no WATCH, but whatever needs none.
        let first = attempt(&mut self.client, None, false)?;
        let (None, Some(time)) = (&first, args.wait) else { return Ok(first) };
        let until = Instant::now() + time;
        let mut follower = Follower::new(args, scope, Some(until));
        // The time is over only once the server has told that what is waited for is not there: "no" must be true.
        while !follower.is_ready() || Instant::now() < until {
            let Some(event) = follower.next(self)? else { continue };
            // The server may have closed this connection while the other one watched.
            self.client.drop_stale();
            match attempt(&mut self.client, Some(&event), follower.is_ready()) {
                Ok(None) => {}
                Ok(done) => return Ok(done),
                Err(error) if repeat == Repeat::Freely || error.came_to_nothing() => {
                    follower.lost(self, error)?
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// `get`: DEFAULT counts only where the server said that there is no such key. After any
    /// failure it would hide from a script that nobody knows the value.
    pub fn get(&mut self, args: &ClientArgs, key: &str, default: Option<&str>) -> Result<(), Trouble> {
        // They are looked at before the server is asked, or a script would learn of a slip in them only
        // on the day when the key is missing.
        let read = |what, word: Option<&str>| {
            word.map(|word| value(args, what, word).map(JsonText::into_owned)).transpose()
        };
        let default = read("DEFAULT", default)?;
        let until = read("the value of --until", args.until.as_deref())?;
        let not = read("the value of --not", args.not.as_deref())?;
        // Without -j, values are what they look like: a number is waited for by its digits.
        let same = |value: &JsonText<'_>, wanted: &JsonText<'_>| match args.json {
            true => value.same_value(wanted),
            false => args.plain(value) == args.plain(wanted),
        };
        let fits = |value: &JsonText<'_>| {
            until.as_ref().is_none_or(|until| same(value, until))
                && !not.as_ref().is_some_and(|not| same(value, not))
        };
        let mut last = None;
        let found =
            self.wait(args, Scope::Key(key.to_owned().into()), Repeat::Freely, |client, event, _| {
                last = match event {
                    None => client.ask(&Request::Get { key: key.into() })?.found(),
                    // It may have another value by now; but that it had this one is what was waited for.
                    Some(Event::Update(_, value)) => Some(JsonText::from(value)),
                    Some(Event::Delete(..)) => None,
                    Some(Event::Ready) => return Ok(None),
                };
                Ok(last.clone().filter(fits))
            })?;
        let value = match (found, default, last) {
            (Some(value), _, _) | (None, Some(value), None) => value,
            (None, None, None) => return Err(self.no_key(key)),
            (None, _, Some(last)) => return Err(self.no(&format!("{key:?} is still {}", described(&last)))),
        };
        self.print(args, &value)
    }

    /// Sets a key that is not there, with what `request` says. Tells when that was asked for.
    pub fn add(
        &mut self,
        args: &ClientArgs,
        key: &str,
        request: &Request<'_>,
        repeat: Repeat,
    ) -> Result<Instant, Trouble> {
        let mut present = None;
        let added = self.wait(args, Scope::Key(key.to_owned().into()), repeat, |client, event, _| {
            if matches!(event, Some(Event::Update(..))) {
                return Ok(None);
            }
            let asked = Instant::now();
            match client.ask(request) {
                Ok(_) => Ok(Some(asked)),
                Err(ClientError::Refused(_, failure)) if failure.code == Code::Conflict => {
                    present = failure.present.flatten();
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        })?;
        added.ok_or_else(|| self.no(&format!("conflict: {key:?} is {}", difference(present.as_ref(), None))))
    }

    /// `take`. A reply that is lost has lost what was taken: it is not asked for again, or two would be.
    pub fn take(&mut self, args: &ClientArgs, scope: &Scope<'static>) -> Result<(), Trouble> {
        let request = Request::Take { scope: scope.clone() };
        let taken = self.wait(args, scope.clone(), Repeat::Undone, |client, event, _| match event {
            Some(Event::Delete(..) | Event::Ready) => Ok(None),
            None | Some(Event::Update(..)) => {
                Ok(Some(client.ask(&request)?).filter(|answer| !answer.missing))
            }
        })?;
        match (taken, scope) {
            (Some(Answer { key: Some(key), value, .. }), _) if args.json => {
                let taken = format!("{{\"key\":{},\"value\":{value}}}", JsonText::string(&key));
                self.print(args, &JsonText::trusted(taken))
            }
            (Some(Answer { value, .. }), _) => self.print(args, &value),
            (None, Scope::Key(key)) => Err(self.no_key(key)),
            (None, Scope::Prefix(prefix)) => Err(self.no(&format!("no key begins with {prefix:?}"))),
        }
    }

    /// `count`. From the side that it comes from, it may go past the number between two looks.
    pub fn count(&mut self, args: &ClientArgs, prefix: &str, until: Option<i128>) -> Result<(), Trouble> {
        let (mut first, mut last) = (None, 0);
        let scope = Scope::Prefix(prefix.to_owned().into());
        let counted = self.wait(args, scope, Repeat::Freely, |client, event, ready| {
            // The present state is told a key at a time, and counted when it has been.
            if event.is_some() && !ready {
                return Ok(None);
            }
            last = i128::from(client.count(prefix)?);
            let (first, until) = (*first.get_or_insert(last), until.unwrap_or(last));
            let is_reached = if first <= until { last >= until } else { last <= until };
            Ok(is_reached.then_some(last))
        })?;
        match (counted, until) {
            (None, Some(until)) => Err(self.no(&format!("{last} keys begin with {prefix:?}, not {until}"))),
            (counted, _) => self.print(args, &JsonText::trusted(counted.unwrap_or(last).to_string())),
        }
    }

    /// The server's answer is no. Like every failure, it names the server: a script may talk to
    /// several.
    pub fn no(&self, what: &str) -> Trouble {
        Trouble { exit: Exit::No, text: format!("{}: {what}", self.client.address()) }
    }

    /// The plainest "no" there is.
    pub fn no_key(&self, key: &str) -> Trouble {
        self.no(&format!("no key {key:?}"))
    }
}

/// A word as JSON: with `-j` it must be JSON itself, else it is a string, whatever it looks like.
/// `007` stays `007`.
pub(super) fn value<'w>(args: &ClientArgs, what: &str, word: &'w str) -> Result<JsonText<'w>, Trouble> {
    match args.json {
        true => JsonText::parse(word).map_err(|error| Trouble::input(format!("{what} is not JSON: {error}"))),
        false => Ok(JsonText::string(word)),
    }
}

/// Tells what the value is and what `--if` wanted, with their kinds: the number 1 and the string "1"
/// print alike. A number that is compared without `-j` gets a hint, since no retry will ever succeed.
pub(super) fn difference(present: Option<&JsonText<'_>>, wanted: Option<Condition<'_>>) -> String {
    let Some(present) = present else { return "missing".into() };
    let is = described(present);
    let Some(Condition::Equals(wanted)) = wanted else { return is };
    let means = |word: Cow<str>| JsonText::parse(&word).is_ok_and(|value| value.same_value(present));
    let hint = if wanted.as_string().is_some_and(means) { ": use -j" } else { "" };
    format!("{is}, not {}{hint}", described(&wanted))
}

/// The beginning of a value, and its kind where that is not plain from it. Valid JSON shows its
/// kind by its first byte.
fn described(value: &JsonText<'_>) -> String {
    let value = value.as_str();
    let kind = match value.as_bytes().first() {
        Some(b'"') => "the string ",
        Some(b'[') => "the array ",
        Some(b'{') => "the object ",
        Some(b'-' | b'0'..=b'9') => "the number ",
        _ => "",
    };
    format!("{kind}{value:.256}")
}
