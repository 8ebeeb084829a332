//! A session: one connection as a pure machine. Bytes go in, bytes come out, and it says what it
//! needs next; it owns no socket, no thread and no clock.
//!
//! That is the point of it. A test feeds it bytes cut at every place and compares the replies, with no
//! network and no waiting, and the server's modes differ only in who calls it:
//!
//! ```text
//! loop {
//!     match session.advance() {
//!         Next::Read  => read into session.space(), tell session.received(n), or session.ended()
//!         Next::Write => write session.output(), tell session.sent()
//!         Next::Wait  => session.wait(a while), and see whether the client is still there
//!         Next::Close => break
//!     }
//! }
//! ```
//!
//! Replies gather until there is no whole request left or [`OUTPUT_BYTES_HIGH`] is reached, so a
//! batch of pipelined requests costs one read and one write, and a client that sends and
//! never reads costs one buffer: nothing is read or executed while output waits.

mod buffer;
mod core;
mod execute;
mod listing;
mod next;
mod stats;
mod watching;

use std::time::Duration;

pub use self::core::Core;
pub use next::{Next, TurnedAway};
pub use stats::Stats;

use crate::protocol::{Code, Failure, Form, Frame, Framer, Refused, Reply, Request, not_utf8};
use buffer::Buffer;
use execute::{After, Execution};
use listing::Listing;
use stats::Counts;
use watching::{Told, Watching};

/// Output that is sent before more is made. One reply can go past it by its own size.
pub const OUTPUT_BYTES_HIGH: usize = 16 << 10;
/// The most that a client may send before it has shown the token, where one is set.
const UNKNOWN_REQUEST_BYTES_MAX: usize = 4 << 10;

/// Unknown names for which the one that was meant is looked up. A person makes no more slips on one connection, and
/// a program that sends such names without end should get no more of the processor than it could by GET.
const HINTS_MAX: u32 = 16;

/// What a session is about.
enum State<'c> {
    /// Answering requests as they come.
    Requests,
    /// Sending a long reply piece by piece.
    Listing(Listing),
    /// Telling a watcher the present state, then changes.
    Watching(Watching<'c>),
    /// Sending what is left, then ending.
    Closing,
}

/// One connection's state.
pub struct Session<'c> {
    core: &'c Core,
    state: State<'c>,
    input: Buffer,
    /// No more will come.
    ended: bool,
    framer: Framer,
    output: Vec<u8>,
    /// What the last output held: the best guess at the next.
    output_bytes: usize,
    /// The client has shown the token, or none is set.
    authenticated: bool,
    counts: Counts,
    /// Of [`HINTS_MAX`], what is left.
    hints: u32,
    /// Requests cut from the input so far, and how many will be.
    requests: u64,
    requests_max: u64,
    turned_away: Option<TurnedAway>,
    trace: Option<Trace<'c>>,
}

/// Told of each request: its name if it is one that the server knows (anything else may be a value, or
/// a token, in the wrong place), its key if it has one, and what it was refused with, if it was.
pub type Trace<'c> = Box<dyn Fn(&str, Option<&str>, Option<Code>) + 'c>;

impl<'c> Session<'c> {
    /// A session on a new connection.
    pub fn new(core: &'c Core) -> Session<'c> {
        Session {
            core,
            state: State::Requests,
            input: Buffer::default(),
            ended: false,
            framer: Framer::default(),
            output: Vec::new(),
            output_bytes: 0,
            authenticated: core.token.is_none(),
            counts: Counts::default(),
            hints: HINTS_MAX,
            requests: 0,
            requests_max: u64::MAX,
            turned_away: None,
            trace: None,
        }
    }

    /// A session that ends after one request; showing the token is not counted as one.
    pub fn once(core: &'c Core) -> Session<'c> {
        Session { requests_max: 1, ..Session::new(core) }
    }

    /// Has `trace` told of each request.
    pub fn trace(&mut self, trace: Trace<'c>) {
        self.trace = Some(trace);
    }

    /// Works on what there is, and says what must happen before it can go on.
    pub fn advance(&mut self) -> Next {
        let next = loop {
            if self.output.len() >= OUTPUT_BYTES_HIGH {
                break Next::Write;
            }
            if self.is_watching() && self.request() {
                continue;
            }
            match &mut self.state {
                State::Requests if self.requests == self.requests_max => self.state = State::Closing,
                State::Requests => {
                    if !self.request() {
                        break if self.output.is_empty() { self.at_end() } else { Next::Write };
                    }
                }
                State::Listing(listing) => {
                    if listing.write_piece(&self.core.store, &mut self.output) {
                        self.state = State::Requests;
                    }
                }
                State::Watching(watching) => match watching.write_piece(&mut self.output) {
                    Told::All if !self.output.is_empty() => break Next::Write,
                    Told::All if self.ended => self.state = State::Closing,
                    Told::All => break Next::Wait,
                    Told::Some => {}
                    Told::Ended => self.state = State::Closing,
                },
                State::Closing => break if self.output.is_empty() { Next::Close } else { Next::Write },
            }
        };
        // Before they are sent: who has a reply finds it counted.
        if next == Next::Write {
            self.counts.sent(self.output.len());
        }
        self.counts.flush(&self.core.stats);
        next
    }

    /// Where to read into, after [`Next::Read`].
    pub fn space(&mut self) -> &mut [u8] {
        self.input.space()
    }

    /// This many bytes have been read into [`Session::space`].
    pub fn received(&mut self, n: usize) {
        self.counts.received(n);
        self.input.received(n);
    }

    /// Whether more has most likely arrived than there was space for. Who reads that too, before
    /// going on, has the whole batch answered by one write.
    pub fn has_most_likely_more(&self) -> bool {
        self.input.is_small_and_full()
    }

    /// The client will send no more. It still gets all its replies.
    pub fn ended(&mut self) {
        self.ended = true;
    }

    /// The time for the request that has begun is over.
    pub fn timed_out(&mut self) {
        let failure = match self.authenticated {
            true => Failure::new(Code::Timeout, "the request was begun and not finished in time"),
            false => Failure::new(Code::Denied, "no token was shown in time"),
        };
        self.refuse_and_close(self.framer.form(None), &failure);
    }

    /// What to send, after [`Next::Write`].
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// All of the output has been sent.
    pub fn sent(&mut self) {
        self.output_bytes = self.output.len();
        // Memory given back here is what keeps an idle connection small; it costs a few nanoseconds.
        self.output = Vec::new();
    }

    /// Whether a request has begun that is not complete.
    pub fn has_begun(&self) -> bool {
        !self.input.data().is_empty()
    }

    /// How many whole requests have come.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether it has had all the requests it will take.
    pub fn is_spent(&self) -> bool {
        self.requests == self.requests_max
    }

    /// Whether the client may use the table: it has shown the token, or none is set.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Why the client was turned away, if it was.
    pub fn turned_away(&self) -> Option<TurnedAway> {
        self.turned_away
    }

    /// Answer nothing that comes after what has come so far.
    pub fn close(&mut self) {
        self.state = State::Closing;
    }

    /// Whether the client is told changes, and is read from only when somebody looks. It is not read from
    /// before it has been told the state: what it has sent behind WATCH is answered after that.
    pub fn is_watching(&self) -> bool {
        matches!(&self.state, State::Watching(watching) if watching.is_ready())
    }

    /// After [`Next::Wait`]: waits until there is a change to tell, or this long.
    pub fn wait(&self, timeout: Duration) {
        if let State::Watching(watching) = &self.state {
            watching.wait(timeout);
        }
    }

    /// Whether the client has said that it will send no more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    fn at_end(&self) -> Next {
        if self.ended { Next::Close } else { Next::Read }
    }

    /// Answers the next request, if it is all there.
    fn request(&mut self) -> bool {
        let space = self.input.data().iter().take_while(|b| b" \t\r\n".contains(b)).count();
        self.input.consume(space);
        let data = self.input.data();
        if data.is_empty() {
            return false;
        }
        let request_bytes_max = match self.authenticated {
            true => self.core.request_bytes_max,
            // Whatever requests may have here: any token that the server takes can be shown.
            false => UNKNOWN_REQUEST_BYTES_MAX,
        };
        match self.framer.next(data, self.ended, request_bytes_max) {
            Frame::Incomplete => return false,
            Frame::Complete { payload, next } => {
                if !self.answer(payload) {
                    return false;
                }
                self.requests += 1;
                self.input.consume(next);
            }
            Frame::Lost(mut failure) => {
                if !self.authenticated && failure.code == Code::TooLarge {
                    let message = format!("before AUTH a client may send {request_bytes_max} bytes");
                    failure = Failure::new(Code::Denied, message);
                }
                self.refuse_and_close(self.framer.form(None), &failure);
            }
            Frame::Http => {
                self.turned_away = Some(TurnedAway::Http);
                self.state = State::Closing;
            }
        }
        true
    }

    /// Answers a request; false where the replies before it must be sent first.
    fn answer(&mut self, payload: std::ops::Range<usize>) -> bool {
        let payload = &self.input.data()[payload];
        let form = self.framer.form(Some(payload));
        let text = match std::str::from_utf8(payload) {
            Ok(text) => text,
            Err(error) => {
                self.refuse_and_close(form, &not_utf8(error));
                return true;
            }
        };
        let request = match form {
            Form::Json | Form::FramedJson => Request::parse_json(text),
            Form::Line | Form::FramedBare => Request::parse_line(text),
        };
        let (core, out, counts) = (self.core, &mut self.output, &mut self.counts);
        if out.is_empty() {
            out.reserve(self.output_bytes);
        }
        match request {
            Err(Refused { key, failure }) => {
                counts.error(failure.code);
                if let Some(trace) = &self.trace {
                    trace("?", key.as_deref(), Some(failure.code));
                }
                Reply::Failure { key: key.as_deref(), failure: &failure, present: None }.write_to(form, out);
                if !self.authenticated {
                    self.state = State::Closing;
                }
            }
            Ok(request) if matches!(self.state, State::Watching(_)) && request != Request::Close => {
                let failure = Failure::new(Code::BadRequest, "this connection watches: ask on another one");
                counts.error(failure.code);
                Reply::Failure { key: None, failure: &failure, present: None }.write_to(form, out);
            }
            Ok(Request::Call { name, .. }) if !out.is_empty() && core.actions.may_take_long(&name) => {
                return false;
            }
            Ok(request) => {
                counts.request(&request);
                let mut execution =
                    Execution { core, form, out, counts, hints: &mut self.hints, failed: None };
                let after = execution.run(&request, &mut self.authenticated);
                if let Some(trace) = &self.trace {
                    let name = core.actions.names().find(|name| *name == request.name());
                    trace(name.unwrap_or("?"), request.key(), execution.failed);
                }
                if matches!(request, Request::Auth { .. }) {
                    self.requests_max = self.requests_max.saturating_add(1);
                    self.turned_away = execution.failed.map(|_| TurnedAway::Auth);
                }
                match after {
                    After::Nothing => {}
                    After::Watch(watch) => self.state = State::Watching(Watching::new(watch, form)),
                    After::List(listing) => self.state = State::Listing(listing),
                    After::Close => self.state = State::Closing,
                }
            }
        }
        true
    }

    fn refuse_and_close(&mut self, form: Form, failure: &Failure) {
        self.counts.error(failure.code);
        Reply::Failure { key: None, failure, present: None }.write_to(form, &mut self.output);
        self.state = State::Closing;
    }
}
