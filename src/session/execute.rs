//! Answering requests. Each is cut out of the input, read, carried out and concluded. Every kind of request has an arm
//! in `execute`, which asks the store or an action and writes the answer. What cannot be read or done comes back as
//! a [`Failure`], which one place writes, counts and traces.
//! GETALL, KEYS and WATCH only begin here: see `pieces`.

use std::mem;

use super::pieces::{Columns, Listing, Watching};
use super::{Core, Next, Phase, Session, TurnedAway};
use crate::actions::FALLBACK;
use crate::json::JsonText;
use crate::protocol::{
    Code, Condition, Failure, Form, Frame, HEADER_BYTES, KEY_BYTES_MAX, Reply, Request, Scope, Verb, seconds,
};
use crate::store::{INTEGER_BYTES_MAX, Rejected};

/// The largest request of a client that has not shown the token, where one is set. Any token that a server takes
/// fits, and strangers cannot have it hold megabytes for each connection.
const UNAUTHENTICATED_REQUEST_BYTES_MAX: usize = 4 << 10;

/// A request of more bytes than this may take a millisecond, and so may a comparison with a value of as many. Other
/// clients of the same thread are not to wait for it.
const LARGE_BYTES: usize = 128 << 10;

/// How long the next request may take.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Time {
    /// Not long: others wait.
    Short,
    /// As long as it does.
    Any,
}

impl Session<'_> {
    /// Answers the next request, unless it takes more than this `time`. If it is not all there, this says what must
    /// happen first.
    pub(super) fn next_request(&mut self, time: Time) -> Option<Next> {
        let space = self.input.data().iter().take_while(|b| b" \t\r\n".contains(b)).count();
        self.input.consume(space);
        if self.input.data().is_empty() {
            return self.unless_ended(Next::Read);
        }
        let request_bytes_max = match self.authenticated {
            true => self.core.request_bytes_max,
            false => UNAUTHENTICATED_REQUEST_BYTES_MAX,
        };
        // Taken out for a moment: the request is a slice of it, and answering changes the session.
        let mut input = mem::take(&mut self.input);
        let (mut used, mut must) = (0, None);
        match self.framer.next(input.data(), self.ended, request_bytes_max) {
            Frame::Read { request, next } => {
                self.answer_or_pass_on(Form::Json, request, &input.data()[..next], time);
                used = next;
            }
            Frame::Complete { payload, .. } if time == Time::Short && payload.len() > LARGE_BYTES => {
                self.phase = Phase::Deferred;
            }
            Frame::Complete { payload, next } => {
                let (payload, framed) = (&input.data()[payload], HEADER_BYTES..next);
                let form = self.framer.form(Some(payload));
                let whole = if form == Form::FramedBare { &input.data()[framed] } else { payload };
                let request = self.read(form, payload);
                self.answer_or_pass_on(form, request, whole, time);
                used = next;
            }
            Frame::Incomplete => must = Some(Next::Read),
            Frame::Lost(failure) if failure.code == Code::TooLarge && !self.authenticated => {
                let message = format!("before AUTH a client may send {request_bytes_max} bytes");
                self.refuse_and_close(&Failure::new(Code::Denied, message));
            }
            Frame::Lost(failure) => self.refuse_and_close(&failure),
            Frame::Http => {
                self.turned_away = Some(TurnedAway::Http);
                self.phase = Phase::Closing;
            }
        }
        if !matches!(self.phase, Phase::Deferred) {
            input.consume(used);
        }
        self.input = input;
        must
    }

    /// Reads a request that was cut out.
    fn read<'d>(&mut self, form: Form, payload: &'d [u8]) -> Result<Request<'d>, Failure> {
        match (str::from_utf8(payload), form) {
            (Ok(text), Form::Json | Form::FramedJson) => Request::parse_json(text),
            (Ok(text), Form::Line | Form::FramedBare) => Request::parse_line(text),
            (Err(error), _) => {
                self.phase = Phase::Closing;
                let at = error.valid_up_to();
                let message = format!("the bytes are not UTF-8 from byte {at} of the request on");
                Err(Failure::new(Code::BadJson, message))
            }
        }
    }

    /// Answers a request, or has the catch-all answer it, if there is one and the request has no other name. Inlined,
    /// since most servers have none: their GETs take 2% more instructions otherwise.
    #[inline(always)]
    fn answer_or_pass_on(
        &mut self,
        form: Form,
        request: Result<Request<'_>, Failure>,
        whole: &[u8],
        time: Time,
    ) {
        if self.has_fallback
            && let Some(passed_on) = self.to_fallback(form, &request, whole)
        {
            return self.answer(form, Ok(passed_on), time);
        }
        self.answer(form, request, time);
    }

    /// The request to the catch-all that stands for one without a name that anybody here answers. It gets the `whole`
    /// of what was sent. Beside it names count in capitals only, as programs write them: "Update me now" is a message
    /// to the catch-all, and must not set the key "me".
    fn to_fallback<'d>(
        &self,
        form: Form,
        request: &Result<Request<'d>, Failure>,
        whole: &'d [u8],
    ) -> Option<Request<'d>> {
        let text = str::from_utf8(whole).ok()?;
        let is_action = |name: &str| name != FALLBACK && self.core.actions.knows(name);
        let is_ours = match (form, request) {
            (Form::Line | Form::FramedBare, _) => {
                let name = text.trim_start().split([' ', '\r', '\n']).next().unwrap_or_default();
                Verb::from_word(name).is_some() || name == "&END" || is_action(name)
            }
            (Form::Json | Form::FramedJson, Ok(Request::Call { name, .. })) => is_action(name),
            (Form::Json | Form::FramedJson, Ok(_)) => true,
            (Form::Json | Form::FramedJson, Err(_)) => !Request::is_nameless(text),
        };
        if is_ours {
            return None;
        }
        let data = match form {
            Form::Line | Form::FramedBare => JsonText::string(text),
            Form::Json | Form::FramedJson => JsonText::parse(text).ok()?,
        };
        Some(Request::Call { name: FALLBACK.into(), data: Some(data) })
    }

    /// Answers a request. One that may take longer than `time` is left for [`Session::act`], which comes here again.
    fn answer(&mut self, form: Form, request: Result<Request<'_>, Failure>, time: Time) {
        match request {
            Err(failure) => self.conclude(form, None, Err(failure)),
            Ok(request) if time == Time::Short && self.may_take_long(form, &request) => {
                self.phase = Phase::Deferred;
            }
            Ok(request) => {
                let outcome = self.admit(&request).and_then(|()| self.execute(form, &request));
                if request.may_write() {
                    self.told += self.core.store.watchers().0;
                }
                self.conclude(form, Some(&request), outcome);
            }
        }
    }

    /// Whether this may take long: an action that is not our own, a listing that must be made whole to be framed, a
    /// comparison with a large value, or a write for which the journal must be made longer.
    fn may_take_long(&self, form: Form, request: &Request<'_>) -> bool {
        let Core { store, actions, .. } = self.core;
        let is_framed = matches!(form, Form::FramedJson | Form::FramedBare);
        let compares = |key: &str, condition: &Option<Condition>| {
            matches!(condition, Some(Condition::Equals(_)))
                && store.get(key, |value| value.is_some_and(|value| value.len() > LARGE_BYTES))
        };
        match request {
            Request::Call { name, .. } => self.authenticated && actions.may_take_long(name),
            Request::GetAll { .. } | Request::Keys { .. } => is_framed && store.bytes() > LARGE_BYTES,
            Request::Update { key, value, condition, .. } => {
                store.may_wait(key.len(), Some(value.as_str().len())) || compares(key, condition)
            }
            Request::Increment { key, .. } => store.may_wait(key.len(), Some(INTEGER_BYTES_MAX)),
            Request::Delete { key, condition } => store.may_wait(key.len(), None) || compares(key, condition),
            Request::Take { scope: Scope::Key(key) } => store.may_wait(key.len(), None),
            Request::Take { scope: Scope::Prefix(_) } => store.may_wait(KEY_BYTES_MAX, None),
            Request::Get { .. } | Request::Ttl { .. } | Request::Count { .. } | Request::Watch { .. } => {
                false
            }
            Request::Auth { .. } | Request::Close => false,
        }
    }

    /// Counts and traces a request, `None` where it could not even be read, and writes why it failed, if it did.
    fn conclude(&mut self, form: Form, request: Option<&Request<'_>>, outcome: Result<(), Failure>) {
        self.requests += 1;
        if let Some(trace) = &self.trace {
            let name = match request.map(Request::verb) {
                Some(Ok(verb)) => verb.as_str(),
                Some(Err(name)) if self.core.actions.knows(name) => name,
                Some(Err(_)) | None => "?",
            };
            let failure = outcome.as_ref().err();
            let key = failure.and_then(|failure| failure.key.as_deref());
            trace(name, request.and_then(Request::key).or(key), failure.map(|failure| failure.code));
        }
        if let Err(failure) = outcome {
            self.refuse(form, &failure);
            // A client that is not authenticated gets one try.
            if !self.authenticated {
                self.phase = Phase::Closing;
            }
        }
    }

    /// Counts and writes an error reply.
    fn refuse(&mut self, form: Form, failure: &Failure) {
        self.core.stats.error(failure.code);
        Reply::Failure(failure).write_to(form, &mut self.output);
    }

    /// Ends a connection whose bytes cannot be read on.
    pub(super) fn refuse_and_close(&mut self, failure: &Failure) {
        self.refuse(self.framer.form(None), failure);
        self.phase = Phase::Closing;
    }

    /// Whether the client may ask this now. What may be asked is counted; so is what needs a token first, so that an
    /// operator sees in INFO that somebody tries.
    fn admit(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        // Replies among changes could not be told apart: a change of a key looks much as the reply to its UPDATE.
        if matches!(self.phase, Phase::Watching(_)) && !matches!(request, Request::Close) {
            return Err(Failure::new(Code::BadRequest, "this connection watches: ask on another one"));
        }
        if let Ok(verb) = request.verb() {
            self.counts.requests[verb as usize] += 1;
        }
        if !self.authenticated && !matches!(request, Request::Auth { .. }) {
            let message = "this server wants a token first: AUTH in the text dialect, \
                 {\"request\":\"AUTH\",\"token\":\"…\"} in JSON, ST_TOKEN or --token-file for st client";
            return Err(Failure::new(Code::Denied, message));
        }
        Ok(())
    }

    /// Carries out a request: writes its reply, or begins one that is written in pieces. To add a request, add its
    /// arm here; the match has no `_` so that the compiler asks for it.
    fn execute(&mut self, form: Form, request: &Request<'_>) -> Result<(), Failure> {
        let store = &self.core.store;
        let out = &mut self.output;
        let entry = |out: &mut Vec<u8>, key: &str, value: Option<&str>| {
            Reply::Entry { key, value }.write_to(form, out)
        };
        match request {
            Request::Get { key } => match form {
                // JSON is copied straight from the table into the output, under the lock for reading: the copy is
                // a `memcpy` of what may be a megabyte, and other readers do not wait for it.
                Form::Json | Form::FramedJson => store.get(key, |value| entry(out, key, value)),
                // A string is unescaped, and perhaps escaped anew: not while the table is locked.
                Form::Line | Form::FramedBare => {
                    let value = store.get(key, |value| value.map(str::to_owned));
                    entry(out, key, value.as_deref());
                }
            },
            // Writes answer with the value as it now stands, or stood, so that a client needs no GET to know it. The
            // store judges the condition and writes under one turn: nobody else's write comes between.
            Request::Update { key, value, condition, ttl } => {
                let updated = store.update(key, value, condition.as_ref(), *ttl);
                updated.map_err(|rejected| refusal(key, rejected))?;
                entry(out, key, Some(value.as_str()));
            }
            Request::Increment { key, by, ttl } => {
                let sum = store.increment(key, *by, *ttl).map_err(|rejected| refusal(key, rejected))?;
                entry(out, key, Some(&sum.to_string()));
            }
            Request::Delete { key, condition } => self.delete(form, key, condition.as_ref())?,
            Request::Take { scope: Scope::Key(key) } => self.delete(form, key, None)?,
            Request::Take { scope: Scope::Prefix(prefix) } => self.take_first(form, prefix)?,
            Request::Ttl { key } => {
                let left = store.ttl(key).map(|left| left.map_or("null".into(), seconds));
                entry(out, key, left.as_deref());
            }
            Request::GetAll { prefix } => {
                self.phase = Phase::Listing(Listing::new(Columns::KeysAndValues, form, prefix));
            }
            Request::Keys { prefix } => {
                self.phase = Phase::Listing(Listing::new(Columns::Keys, form, prefix))
            }
            Request::Count { prefix } => Reply::Value(&store.count(prefix).to_string()).write_to(form, out),
            Request::Watch { scope } => self.watch(form, scope)?,
            Request::Auth { token } => {
                self.authenticate(token)?;
                Reply::Value("\"ok\"").write_to(form, &mut self.output);
            }
            // The client waits for this reply to know that all it asked before is done; only then we close.
            Request::Close => {
                Reply::Closed.write_to(form, out);
                self.phase = Phase::Closing;
            }
            Request::Call { name, data } => return self.call(form, name, data.as_ref()),
        }
        Ok(())
    }

    fn delete(&mut self, form: Form, key: &str, condition: Option<&Condition<'_>>) -> Result<(), Failure> {
        let old = self.core.store.delete(key, condition).map_err(|rejected| refusal(key, rejected))?;
        Reply::Entry { key, value: old.as_ref().map(JsonText::as_str) }.write_to(form, &mut self.output);
        Ok(())
    }

    fn take_first(&mut self, form: Form, prefix: &str) -> Result<(), Failure> {
        let taken = self.core.store.take_first(prefix);
        // Where nothing was taken, nobody knows which key it would have been.
        let taken = taken.map_err(|rejected| Failure { key: None, ..refusal("", rejected) })?;
        match &taken {
            Some((key, old)) => Reply::Entry { key, value: Some(old.as_str()) },
            None => Reply::Missing,
        }
        .write_to(form, &mut self.output);
        Ok(())
    }

    fn watch(&mut self, form: Form, scope: &Scope<'_>) -> Result<(), Failure> {
        // A mode that serves one client at a time would serve nobody else until the watcher leaves.
        if !self.core.may_watch {
            let message = "WATCH needs event or pool mode: here it would keep all others waiting";
            return Err(Failure::new(Code::Denied, message));
        }
        let watcher = self.core.store.watch(scope.clone(), true);
        self.phase = Phase::Watching(Watching::new(watcher, form));
        Ok(())
    }

    /// Looks at the token that a client shows. Who shows a wrong one is closed at once, so that guessing costs a
    /// connection for each guess, and is told in the log.
    fn authenticate(&mut self, token: &str) -> Result<(), Failure> {
        // Who starts a server for one request means the one after this.
        self.requests_max = self.requests_max.saturating_add(1);
        if self.core.token.as_ref().is_some_and(|secret| !secret.matches(token)) {
            self.turned_away = Some(TurnedAway::Auth);
            self.phase = Phase::Closing;
            return Err(Failure::new(Code::Denied, "this is not the token"));
        }
        self.authenticated = true;
        Ok(())
    }

    /// Calls an action. This is the one place where a session may wait for anything but its client: a program may
    /// run for seconds. No lock is held meanwhile, and no other client waits: see [`Next::Act`].
    fn call(&mut self, form: Form, name: &str, data: Option<&JsonText<'_>>) -> Result<(), Failure> {
        let core = self.core;
        if !core.actions.knows(name) {
            // To look for the name that was meant costs as much as some GETs.
            let hint = self.hints > 0;
            self.hints = self.hints.saturating_sub(1);
            return Err(core.actions.unknown(name, hint));
        }
        if name == "INFO" {
            // What this batch has counted so far is to be told, too.
            self.counts.flush(&core.stats);
        }
        core.stats.call(name);
        let value = core.actions.call(name, data.map(JsonText::borrowed))?;
        let (value, version) = (value.as_str(), env!("CARGO_PKG_VERSION"));
        let reply = if name == "HELLO" { Reply::Hello { value, version } } else { Reply::Value(value) };
        reply.write_to(form, &mut self.output);
        Ok(())
    }
}

/// Why the store did not write, as the client is told. The store's own error knows no codes: it serves actions and
/// programs that use it as a library, too, and this is the one place where it becomes a reply.
fn refusal(key: &str, rejected: Rejected) -> Failure {
    let message = rejected.to_string();
    let (code, present) = match rejected {
        Rejected::Conflict(present) => (Code::Conflict, Some(present)),
        Rejected::NotANumber(_) => (Code::NotANumber, None),
        Rejected::BadKey(_) => (Code::BadRequest, None),
        Rejected::Full | Rejected::NoRoom(_) => (Code::Full, None),
    };
    Failure { present, ..Failure::new(code, message).about(key) }
}
