//! A session: one connection as a pure machine. Bytes go in, bytes come out, and it says what it needs next; it
//! owns no socket, no thread and no clock.
//!
//! That is the point of it. A test feeds it bytes cut at every place and compares the replies, with no network and
//! no waiting, and the server's modes differ only in who calls it. This is a whole server, for one client at a time:
//!
//! ```
//! use socket_tables::session::{Core, Next, Session};
//! use std::io::{Read, Write};
//! use std::net::{TcpListener, TcpStream};
//!
//! fn serve(mut client: TcpStream, core: &Core) -> std::io::Result<()> {
//!     let (mut session, mut buffer) = (Session::new(core), [0; 4096]);
//!     loop {
//!         match session.advance() {
//!             Next::Read | Next::Wait => match client.read(&mut buffer)? {
//!                 0 => session.ended(),
//!                 n => session.received(&buffer[..n]),
//!             },
//!             Next::Write => {
//!                 client.write_all(session.output())?;
//!                 session.sent();
//!             }
//!             Next::Sync(_) => unreachable!("this table has no journal to wait for"),
//!             Next::Act => session.act(),
//!             Next::Close => return Ok(()),
//!         }
//!     }
//! }
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! std::thread::spawn(move || {
//!     let core = Core { request_bytes_max: 1 << 20, ..Core::default() };
//!     for client in listener.incoming() {
//!         // A connection that breaks is its client's loss and nobody else's.
//!         let _ = client.and_then(|client| serve(client, &core));
//!     }
//! });
//!
//! let mut client = TcpStream::connect(address)?;
//! client.write_all(b"UPDATE door open\nGET door\nCLOSE\n")?;
//! let mut replies = String::new();
//! client.read_to_string(&mut replies)?;
//! assert_eq!(replies, "MSG open\nMSG open\nCLOSE CONFIRM\n");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! What the rest of the program adds to these lines is: more clients than one, clients that are slow, silent, gone
//! or hostile, and an orderly end.
//!
//! Replies gather until there is no whole request left or [`OUTPUT_BYTES_HIGH`] is reached, so a batch of pipelined
//! requests costs one read and one write, and a client that sends and never reads costs one buffer: nothing is
//! read or executed while output waits.
//!
//! A request comes by here on its way: `protocol/framing` cuts it out, `protocol/parse` reads it, `execute` asks the
//! store or an action, and `protocol/reply` writes the answer into the output.

mod execute;
mod pieces;
mod shared;
mod workspace;

use std::task::Waker;

use crate::actions::FALLBACK;
use crate::protocol::{Code, Failure, Framer};
use crate::store::{Durability, Journal};
use execute::Time;
use pieces::{Left, Listing, Watching};
use shared::Counts;
pub use shared::{Core, Stats};
use workspace::Input;
pub use workspace::Workspace;

/// Output that is sent before more is made. One reply can go past it by its own size.
pub const OUTPUT_BYTES_HIGH: usize = 16 << 10;

/// Input of more than this is a large request's as a rule.
const INPUT_BYTES_HIGH: usize = 16 << 10;

/// Watchers that one client's changes may have to be compared with, whether or not it is their key, before its replies are
/// sent and others have their turn. A turn of 1,490
/// short UPDATEs of a key that 3,000 clients watch took 1.5 s.
const TOLD_MAX: usize = 2_000;

/// Unknown names for which the one that was meant is looked up. A person makes no more slips on one connection, and
/// a program that sends such names without end should get no more of the processor than it could by GET.
const HINTS_MAX: u32 = 16;

/// What a session needs before it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More bytes from the client: hand them to [`Session::received`], or tell [`Session::ended`] where there are no
    /// more.
    Read,
    /// Its output taken: send all of [`Session::output`], then tell [`Session::sent`].
    Write,
    /// So many changes as durable as the journal's policy says, as `Journal::wait` and `Journal::wake_by` tell. The output
    /// may show them, and what a client has been shown, no crash may take back.
    Sync(u64),
    /// A change to tell, of which [`Session::wake_by`] has somebody told; or bytes from the client.
    Wait,
    /// Time: [`Session::act`] carries out a request that may take long. Whoever has other clients to look after has
    /// another thread do it.
    Act,
    /// Nothing: close the connection.
    Close,
}

/// Why a client was turned away, where an operator wants to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// It spoke HTTP.
    Http,
    /// It showed a token, and not the right one.
    Auth,
}

/// What a session is about.
enum Phase<'c> {
    /// Answering requests as they come.
    Requests,
    /// The next request may take long, and is left in the input. The replies before it are sent first: whoever waits for
    /// those is not to wait for it.
    Deferred,
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
    phase: Phase<'c>,
    input: Input,
    /// The client will send no more.
    ended: bool,
    framer: Framer,
    output: Vec<u8>,
    /// How many changes there had been when the output was whole: it is held until they are durable. `None` while it
    /// is being made.
    held: Option<u64>,
    /// How many watchers changes have been compared with since output was sent last.
    told: usize,
    /// The client has shown the token, or none is set.
    authenticated: bool,
    /// There is an action for whatever has no other name.
    has_fallback: bool,
    counts: Counts,
    /// How many of [`HINTS_MAX`] are left.
    hints: u32,
    /// Requests answered so far, and how many will be.
    requests: u64,
    requests_max: u64,
    /// Why the client was turned away, if it was.
    pub turned_away: Option<TurnedAway>,
    /// Is told of each request.
    pub trace: Option<Trace<'c>>,
}

/// Told of each request: its name if it is one that the server knows (anything else may be a value, or
/// a token, in the wrong place), its key if it has one, and what it was refused with, if it was.
pub type Trace<'c> = Box<dyn Fn(&str, Option<&str>, Option<Code>) + Send + 'c>;

impl<'c> Session<'c> {
    /// A session on a new connection.
    pub fn new(core: &'c Core) -> Session<'c> {
        Session {
            core,
            phase: Phase::Requests,
            input: Input::default(),
            ended: false,
            framer: Framer::default(),
            output: Vec::new(),
            held: None,
            told: 0,
            authenticated: core.token.is_none(),
            has_fallback: core.actions.knows(FALLBACK),
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

    /// Works on what there is, and says what must happen before it can go on.
    pub fn advance(&mut self) -> Next {
        if self.held.is_none() {
            let next = loop {
                if self.output.len() >= OUTPUT_BYTES_HIGH || self.told >= TOLD_MAX {
                    break Next::Write;
                }
                if let Some(next) = self.step() {
                    break if self.output.is_empty() { next } else { Next::Write };
                }
            };
            if next == Next::Write {
                // Count before sending, so that INFO includes every reply that a client has read.
                self.counts.bytes_out += self.output.len() as u64;
                self.held = Some(self.core.store.journal().map_or(0, Journal::changes));
            }
            self.counts.flush(&self.core.stats);
            if next != Next::Write {
                return next;
            }
        }
        let (journal, changes) = (self.core.store.journal(), self.held.unwrap_or_default());
        match journal.map_or(Durability::Reached, |journal| journal.durability(changes)) {
            Durability::Reached => Next::Write,
            Durability::Awaited => Next::Sync(changes),
            // What it shows may be lost.
            Durability::Never => {
                self.output.clear();
                self.ended = true;
                Next::Close
            }
        }
    }

    /// The client has sent these bytes.
    pub fn received(&mut self, bytes: &[u8]) {
        self.counts.bytes_in += bytes.len() as u64;
        self.input.append(bytes);
    }

    /// Whether so much has come and is not used that there is a large request, or more than is answered at a time.
    pub fn has_large_request(&self) -> bool {
        self.input.data().len() >= INPUT_BYTES_HIGH
    }

    /// The client will send no more. It still gets all its replies.
    pub fn ended(&mut self) {
        self.ended = true;
    }

    /// The time for the request that has begun is over.
    pub fn timed_out(&mut self) {
        let (code, message) = match self.authenticated {
            true => (Code::Timeout, "the request was begun and not finished in time"),
            false => (Code::Denied, "no token was shown in time"),
        };
        self.refuse_and_close(&Failure::new(code, message));
    }

    /// Turns the client away, in the dialect of what it has said so far.
    pub fn turn_away(&mut self, failure: &Failure) {
        let request = self.input.data().trim_ascii_start();
        if !request.is_empty() {
            self.framer.next(request, false, usize::MAX);
        }
        self.refuse_and_close(failure);
    }

    /// What to send, after [`Next::Write`].
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// All of the output has been sent.
    pub fn sent(&mut self) {
        self.held = None;
        self.told = 0;
        self.output.clear();
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

    /// Answer nothing that comes after what has come so far.
    pub fn close(&mut self) {
        self.phase = Phase::Closing;
    }

    /// Whether the client is told changes. What it says is not heard before it has been told the state: what it has sent
    /// behind WATCH is answered after that.
    pub fn is_watching(&self) -> bool {
        matches!(&self.phase, Phase::Watching(watching) if watching.ready)
    }

    /// After [`Next::Wait`]: has `waker` woken, once, when there is a change to tell.
    pub fn wake_by(&self, waker: Waker) {
        if let Phase::Watching(watching) = &self.phase {
            watching.watcher.wake_by(waker);
        }
    }

    /// After [`Next::Act`]: carries out the request that may take long.
    pub fn act(&mut self) {
        if let Phase::Deferred = self.phase {
            self.phase = Phase::Requests;
            self.next_request(Time::Any);
            // Of a listing that takes long, the first piece is all.
            if let Phase::Listing(_) = self.phase {
                self.step();
            }
        }
    }

    /// Whether the client has said that it will send no more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Does the next thing, whatever the phase. Where nothing can be done, it says what must happen first.
    fn step(&mut self) -> Option<Next> {
        // A watcher may still say CLOSE, or be told that it can ask for nothing else.
        if self.is_watching() && self.next_request(Time::Any).is_none() {
            return None;
        }
        match &mut self.phase {
            Phase::Requests if self.requests == self.requests_max => self.phase = Phase::Closing,
            Phase::Requests => return self.next_request(Time::Short),
            Phase::Deferred => return Some(Next::Act),
            Phase::Listing(listing) => match listing.write_piece(&self.core.store, &mut self.output) {
                Left::More => {}
                Left::NothingYet | Left::Nothing => self.phase = Phase::Requests,
            },
            Phase::Watching(watching) => match watching.write_piece(&mut self.output) {
                Left::More => {}
                Left::NothingYet => return self.unless_ended(Next::Wait),
                Left::Nothing => self.phase = Phase::Closing,
            },
            Phase::Closing => return Some(Next::Close),
        }
        None
    }

    /// What must happen first where everything that has come is done. A client that will send no more has had all.
    fn unless_ended(&self, next: Next) -> Option<Next> {
        Some(if self.ended { Next::Close } else { next })
    }
}
