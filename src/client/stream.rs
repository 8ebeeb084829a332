//! Replies that have no end in sight: lists, read an element at a time, and watches, which tell of every change
//! until somebody closes.
//!
//! A list of a million keys is one line on the wire. Reading that line whole would take the memory of the
//! table a second time, so an element is cut out as soon as its last byte has come, and at most one is held.
//!
//! A watch is told the present state first and then every change, on one connection. There is no gap
//! between looking and following in which a change could be missed. A lost connection makes such a gap, so a watch
//! ends there with an error. The next watch is told the present state again, which the caller can compare.
//!
//! Keys are checked here as strictly as a server checks them: a program prints what it is told, and a terminal or
//! a script acts on what is printed.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::iter::from_fn;
use std::time::Duration;

use super::answer::{Answer, ClientError, ReplyProblem, Result};
use super::connection::Connection;
use crate::json::{JsonText, Scan, Scanner, Value};
use crate::protocol::{Scope, check_key};

/// An element of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListItem {
    /// The key.
    pub key: String,
    /// Its value; null where the list is of keys alone.
    pub value: JsonText<'static>,
    /// How long it has still to live; `None` where that is for ever, or the list is of keys alone.
    pub ttl: Option<Duration>,
}

/// What a list is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOf {
    /// Keys alone.
    Keys,
    /// Keys, each with its value.
    Entries,
}

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
///
/// ```
/// # let server = socket_tables::server::Server::bind("127.0.0.1:0")?.start()?;
/// use socket_tables::client::{Client, Event};
///
/// let mut client = Client::connect(server.address())?;
/// client.update("door", "open")?;
/// for event in client.watch("door")? {
///     match event? {
///         Event::Update(key, value) => assert_eq!((&*key, value.as_str()), ("door", Some("open"))),
///         Event::Delete(key, _) => panic!("nobody has deleted {key}"),
///         Event::Ready => break,
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Watch {
    /// `None` once it has ended.
    pub(super) connection: Option<Connection>,
    pub(super) scope: Scope<'static>,
    /// The first event. It is read before there is a watch, since a refusal would come in its place.
    pub(super) first: Option<Event>,
    /// The present state has been told. From here on silence is good: nothing changes.
    pub(super) ready: bool,
}

/// Passes over the beginning of a list: `before`, and its `[`. A refusal comes in place of a list, and is an error. The
/// two cannot be told apart by their first byte, since the list of KEYS stands in an object as refusals do.
pub(super) fn open_list(connection: &mut Connection, before: &str) -> Result<()> {
    let bracket_or_end = |bytes: &[u8]| bytes.iter().position(|byte| matches!(byte, b'[' | b'\n'));
    let (mut came, end) = connection.read_until(bracket_or_end)?;
    if end == b'[' && came == before {
        return Ok(());
    }
    // The bracket may belong to something else: the message of a refusal, say.
    if end == b'[' {
        came = came + "[" + &connection.line()?;
    }
    connection.understand(&came)?.and(Err(connection.bad(ReplyProblem::Mismatch("it is no list"))))
}

/// Gives what `read` reads, for as long as there are unanswered requests, until the first error: what comes behind an
/// error cannot be told apart.
pub(super) fn items<T>(
    mut connection: Option<&mut Connection>,
    mut read: impl FnMut(&mut Connection) -> Result<T>,
) -> impl Iterator<Item = Result<T>> {
    from_fn(move || {
        let open = connection.as_deref_mut().filter(|connection| connection.unanswered > 0)?;
        let item = read(open);
        if item.is_err() {
            connection = None;
        }
        Some(item)
    })
}

/// The next element of a list that has been opened; `None` in a list that has none. `after` ends the line.
pub(super) fn next_element(
    connection: &mut Connection,
    of: ListOf,
    after: &str,
    scope: &Scope<'_>,
) -> Result<Option<ListItem>> {
    let (element, end) = connection.read_until(element_end())?;
    if end != b',' {
        if end != b']' || connection.line()? != after {
            return Err(connection.bad(ReplyProblem::Mismatch("it lacks the end of a list")));
        }
        // The reply has been read to its end, so the connection can take another request.
        connection.unanswered -= 1;
        // Between the brackets of an empty list stands nothing.
        if element.is_empty() {
            return Ok(None);
        }
    }
    let item = read_element(&element, of).map_err(|problem| connection.bad(problem))?;
    check(connection, &item.key, scope)?;
    Ok(Some(item))
}

/// What one element says. An entry looks like the reply to a GET, and is read as one.
fn read_element(element: &str, of: ListOf) -> Result<ListItem, ReplyProblem> {
    let (key, value, ttl) = match of {
        ListOf::Keys => (JsonText::parse(element)?.as_string().map(Cow::into_owned), JsonText::NULL, None),
        ListOf::Entries => match Answer::parse(element)? {
            Ok(answer) => (answer.key, answer.value, answer.ttl),
            Err(_) => (None, JsonText::NULL, None),
        },
    };
    Ok(ListItem { key: key.ok_or(ReplyProblem::Mismatch("it lacks a key"))?, value, ttl })
}

/// Refuses a key that no server of ours has, or that was not asked for.
fn check(connection: &Connection, key: &str, scope: &Scope<'_>) -> Result<()> {
    let problem = match check_key(key) {
        Err(error) => ReplyProblem::BadKey(error),
        Ok(()) if scope.covers(key) => return Ok(()),
        Ok(()) => ReplyProblem::Mismatch("it answers something else"),
    };
    Err(connection.bad(problem))
}

/// Finds the comma or closing bracket after an element that comes in pieces, each looked at once.
fn element_end() -> impl FnMut(&[u8]) -> Option<usize> {
    let mut scanner = Scanner::in_array();
    // What does not fit together ends at the bracket that does not fit, and is then refused as no JSON.
    move |piece| match scanner.scan_piece(piece) {
        Scan::Complete(end) => Some(end - 1),
        Scan::Lost(at) => Some(at),
        Scan::Incomplete => None,
    }
}

impl Event {
    /// Reads the next event, which must be about a key of this scope.
    pub(super) fn read(connection: &mut Connection, scope: &Scope<'_>) -> Result<Event> {
        let line = connection.line()?;
        let answer = connection.understand(&line)??;
        if let Some(key) = &answer.key {
            check(connection, key, scope)?;
        }
        match (answer.event.as_deref(), answer.key) {
            (Some("READY"), _) => Ok(Event::Ready),
            (Some("UPDATE"), Some(key)) => Ok(Event::Update(key, answer.value.to_value())),
            (Some("DELETE"), Some(key)) => Ok(Event::Delete(key, answer.value.to_value())),
            _ => Err(connection.bad(ReplyProblem::Mismatch("it lacks a change"))),
        }
    }
}

impl Watch {
    /// Whether the present state has been told.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The next event; `None` where none begins within `time`, or the watch has ended.
    ///
    /// The present state is no matter of waiting: as long as it is being told, an event may take the client's
    /// timeout, as any reply may. The same goes for an event of which the first byte has come.
    ///
    /// ```
    /// # let server = socket_tables::Server::bind("0")?.start()?;
    /// # let mut client = socket_tables::Client::connect(server.address())?;
    /// let mut watch = client.watch("door")?;
    /// assert_eq!(watch.next_within(std::time::Duration::ZERO)?, Some(socket_tables::Event::Ready));
    /// assert!(watch.is_ready() && watch.next_within(std::time::Duration::ZERO)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_within(&mut self, time: Duration) -> Result<Option<Event>> {
        let event = match (self.first.take(), &mut self.connection) {
            (None, Some(connection)) if self.ready => next_change(connection, &self.scope, time),
            (None, Some(connection)) => Event::read(connection, &self.scope).map(Some),
            (first, _) => Ok(first),
        };
        match &event {
            Ok(event) => self.ready |= *event == Some(Event::Ready),
            Err(_) => self.connection = None,
        }
        event
    }
}

/// The next change, if one begins within `time`. What ends a watch here is told apart from what ends a request: no
/// request is in doubt, but changes may be missed from now on.
fn next_change(connection: &mut Connection, scope: &Scope<'_>, time: Duration) -> Result<Option<Event>> {
    let change = connection.is_readable_within(time).then(|| Event::read(connection, scope));
    change.transpose().map_err(|error| match error {
        ClientError::Lost(address, error) => ClientError::WatchLost(address, error),
        // A change has begun and does not end.
        ClientError::Timeout(address) => ClientError::WatchLost(address, ErrorKind::TimedOut.into()),
        other => other,
    })
}

impl Iterator for Watch {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.connection.is_some() {
            // Any time will do; the loop waits for ever.
            if let Some(event) = self.next_within(Duration::from_secs(3_600)).transpose() {
                return Some(event);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::element_end;

    #[test]
    fn elements_end_at_the_same_places_however_they_are_cut() {
        let elements =
            [r#""a""#, r#""b,]\\""#, r#""\"]""#, r#"{"x":[1,{}],"y":"}"}"#, "1.5", r#"[[],","]"#, ""];
        for (element, end) in elements.iter().flat_map(|element| [(element, ","), (element, "]")]) {
            let text = format!("{element}{end}");
            for step in 1..=text.len() {
                let mut find = element_end();
                let found = text.as_bytes().chunks(step).map(&mut find).enumerate();
                let found: Vec<_> = found.filter_map(|(nth, at)| Some(nth * step + at?)).collect();
                assert_eq!(found, [element.len()], "{text} cut every {step} bytes");
            }
        }
    }
}
