//! Requests carried out: one arm each, in which the store or an action is asked and its answer written.

use super::core::Core;
use super::listing::{Columns, Listing};
use super::stats::Counts;
use crate::json::JsonText;
use crate::protocol::{Code, Failure, Form, Reply, Request};
use crate::store::{Rejected, Watcher};

/// What the session does after the request.
pub enum After<'c> {
    /// The next request.
    Nothing,
    /// Tells changes.
    Watch(Watcher<'c>),
    /// Sends a listing.
    List(Listing),
    /// Ends, when what is written has been sent.
    Close,
}

/// Where a request is carried out: for whom, and where to the reply goes.
pub struct Execution<'c, 'e> {
    pub core: &'c Core,
    pub form: Form,
    pub out: &'e mut Vec<u8>,
    pub counts: &'e mut Counts,
    /// How many unknown names will still be told which name was probably meant.
    pub hints: &'e mut u32,
    /// What the request was refused with, if it was.
    pub failed: Option<Code>,
}

impl<'c> Execution<'c, '_> {
    /// Carries out a request. `authenticated` tells, and learns, whether the client has shown the token.
    pub fn run(&mut self, request: &Request<'_>, authenticated: &mut bool) -> After<'c> {
        if !*authenticated && !matches!(request, Request::Auth { .. }) {
            let message = "this server wants a token first: AUTH in the text dialect, \
                 {\"request\":\"AUTH\",\"token\":\"…\"} in JSON, ST_TOKEN or --token-file for st client";
            return self.deny(message);
        }
        let store = &self.core.store;
        match request {
            Request::Get { key } => match self.form {
                // JSON is copied straight from the table into the output.
                form @ (Form::Json | Form::FramedJson) => {
                    store.get(key, |value| Reply::Entry { key, value }.write_to(form, self.out));
                }
                // A string is unescaped, and perhaps escaped anew: not while the table is locked.
                Form::Line | Form::FramedBare => {
                    let value = store.get(key, |value| value.map(str::to_owned));
                    self.reply(&Reply::Entry { key, value: value.as_deref() });
                }
            },
            Request::Update { key, value, condition } => {
                let outcome = store.update(key, value, condition.as_ref());
                self.written(key, outcome.map(|()| Some(value.borrowed())));
            }
            Request::Increment { key, by } => {
                let outcome = store.increment(key, *by);
                self.written(key, outcome.map(|sum| Some(JsonText::trusted(sum.to_string()))));
            }
            Request::Delete { key, condition } => {
                let outcome = store.delete(key, condition.as_ref());
                self.written(key, outcome);
            }
            Request::GetAll { prefix } => {
                return After::List(Listing::new(Columns::KeysAndValues, self.form, prefix));
            }
            Request::Keys { prefix } => return After::List(Listing::new(Columns::Keys, self.form, prefix)),
            Request::Count { prefix } => {
                let count = store.count(prefix).to_string();
                self.reply(&Reply::Value(&count));
            }
            Request::Watch { .. } if !self.core.may_watch => {
                self.fail(
                    Code::Denied,
                    "WATCH needs a server in pool mode: here it would keep all others waiting",
                );
            }
            Request::Watch { scope } => return After::Watch(store.watch(scope.clone(), true)),
            Request::Auth { token } => match &self.core.token {
                Some(secret) if !secret.matches(token) => return self.deny("this is not the token"),
                _ => {
                    *authenticated = true;
                    self.reply(&Reply::Value("\"ok\""));
                }
            },
            Request::Close => {
                self.reply(&Reply::Closed);
                return After::Close;
            }
            Request::Call { name, data } => self.call(name, data.as_ref()),
        }
        After::Nothing
    }

    fn call(&mut self, name: &str, data: Option<&JsonText<'_>>) {
        if name == "INFO" {
            // So that it tells of the request that asks it, too.
            self.counts.flush(&self.core.stats);
        }
        if !self.core.actions.knows(name) {
            let hint = *self.hints > 0;
            *self.hints = self.hints.saturating_sub(1);
            return self.refuse(None, &self.core.actions.unknown(name, hint), None);
        }
        self.core.stats.call(name);
        match self.core.actions.call(name, data.map(JsonText::borrowed)) {
            Ok(value) if name == "HELLO" => {
                let version = env!("CARGO_PKG_VERSION");
                self.reply(&Reply::Hello { value: value.as_str(), version });
            }
            Ok(value) => self.reply(&Reply::Value(value.as_str())),
            Err(failure) => self.refuse(None, &failure, None),
        }
    }

    /// Answers a write: with the value as it now stands (or stood), or why nothing was changed.
    fn written(&mut self, key: &str, outcome: Result<Option<JsonText<'_>>, Rejected>) {
        let rejected = match outcome {
            Ok(value) => {
                return self.reply(&Reply::Entry { key, value: value.as_ref().map(JsonText::as_str) });
            }
            Err(rejected) => rejected,
        };
        let (code, present) = match &rejected {
            Rejected::Conflict(present) => (Code::Conflict, Some(present.as_ref().map(JsonText::as_str))),
            Rejected::NotANumber(_) => (Code::NotANumber, None),
            Rejected::BadKey(_) => (Code::BadRequest, None),
            Rejected::Full => (Code::Full, None),
        };
        self.refuse(Some(key), &Failure::new(code, rejected.to_string()), present);
    }

    fn deny(&mut self, message: &str) -> After<'c> {
        self.fail(Code::Denied, message);
        After::Close
    }

    fn fail(&mut self, code: Code, message: &str) {
        self.refuse(None, &Failure::new(code, message), None);
    }

    fn refuse(&mut self, key: Option<&str>, failure: &Failure, present: Option<Option<&str>>) {
        self.counts.error(failure.code);
        self.failed = Some(failure.code);
        self.reply(&Reply::Failure { key, failure, present });
    }

    fn reply(&mut self, reply: &Reply<'_>) {
        reply.write_to(self.form, self.out);
    }
}
