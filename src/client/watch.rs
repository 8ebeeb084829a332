//! Following changes, for programs. The server tells the present state first and then every change, so
//! there is no gap between looking and following in which a change could be missed.

use std::io::ErrorKind;
use std::time::Duration;

use super::connection::Connection;
use super::{ClientError, ReplyProblem};
use crate::json::Value;
use crate::protocol::Scope;

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
#[derive(Debug)]
pub struct Watch {
    /// `None` once it has ended.
    pub(crate) connection: Option<Connection>,
    pub(crate) scope: Scope<'static>,
    /// What was told before anybody asked.
    pub(crate) first: Option<Event>,
    /// The present state has been told.
    pub(crate) ready: bool,
}

impl Event {
    /// The next event, which must be about a key of this scope.
    pub(crate) fn read(connection: &mut Connection, scope: &Scope<'_>) -> Result<Event, ClientError> {
        let reply = connection.reply()?;
        if let Some(key) = &reply.key {
            connection.check_key(key, scope)?;
        }
        match (reply.event.as_deref(), reply.key) {
            (Some("READY"), _) => Ok(Event::Ready),
            (Some("UPDATE"), Some(key)) => Ok(Event::Update(key, reply.value.to_value())),
            (Some("DELETE"), Some(key)) => Ok(Event::Delete(key, reply.value.to_value())),
            _ => Err(connection.bad(ReplyProblem::Lacks("a change"))),
        }
    }
}

impl Watch {
    /// The next event; `None` where the present state has been told and no event begins within `time`.
    pub(crate) fn next_within(&mut self, time: Option<Duration>) -> Result<Option<Event>, ClientError> {
        let event = self.first.take().map_or_else(|| self.read(time), |first| Ok(Some(first)));
        match &event {
            Ok(event) => self.ready |= *event == Some(Event::Ready),
            Err(_) => self.connection = None,
        }
        event
    }

    fn read(&mut self, time: Option<Duration>) -> Result<Option<Event>, ClientError> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        if !self.ready {
            return Event::read(connection, &self.scope).map(Some);
        }
        let begun = connection.begins(time);
        let event = begun.and_then(|begun| begun.then(|| Event::read(connection, &self.scope)).transpose());
        event.map_err(|error| match error {
            ClientError::Lost(address, error) => ClientError::WatchLost(address, error),
            // An event has begun and does not end.
            ClientError::Timeout(address) => ClientError::WatchLost(address, ErrorKind::TimedOut.into()),
            other => other,
        })
    }
}

impl Iterator for Watch {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.connection.as_ref()?;
            if let Some(event) = self.next_within(None).transpose() {
                return Some(event);
            }
        }
    }
}
