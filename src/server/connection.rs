//! One connection: moves bytes between its socket and its session, and keeps the time.
//!
//! Its socket never blocks. A connection does what it can do now ([`Connection::step`]) and says what it needs before it
//! can go on ([`Need`]), and by when ([`Connection::due`]). Whoever calls it waits for that: a thread of its own
//! (`pool::serve`), or an event loop that has ten thousand of them. Every mode uses it as it stands here.
//!
//! Deadlines are [`Instant`]s that do not move. A timeout for each read, as sockets have it, is never met by a client
//! that sends a byte a second.
//!
//! What the bytes mean is the session's business, and so is every word of every reply.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::listener::{Accepted, Place};
use super::{Level, Server};
use crate::protocol::{Code, Failure};
use crate::session::{Next, Session, TurnedAway, Workspace};
use crate::sys::Interest;

/// How long a connection that is being closed is still read from. Were it closed with bytes unread, the
/// kernel would send a reset instead of an orderly end, and a client that receives a reset throws away
/// what it has not read yet: the reply that says why it was refused would be lost, and at the server's end the replies
/// to what it had asked before.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// How long a client may take to show the token, where one is set. A stranger may not hold a connection for
/// as long as a client that is allowed in.
const AUTH_MAX: Duration = Duration::from_secs(5);
/// What is read at once, but of a large request. A client that sends and never reads has no more held for it, and a
/// turn of 16 KiB keeps other clients waiting for a tenth of a millisecond.
const READ_BYTES_MAX: usize = 16 << 10;
/// What is written at once. Where twenty clients read values of a megabyte without pause, and all that the kernel took
/// was written, a small GET of another waited 29 ms.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// No deadline is later than this. A server may be given longer times, and an [`Instant`] would overflow.
pub(super) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a connection needs before it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Bytes to read.
    Read,
    /// Room to write.
    Write,
    /// So many changes to be durable: its output may show them.
    Sync(u64),
    /// A change to tell its watcher, or bytes to read.
    Change,
    /// A thread that may be kept busy for as long as [`Connection::act`] takes.
    Act,
    /// Nothing: it is to be dropped.
    End,
}

impl Need {
    /// What its socket is waited for. Never both: nothing is read while output waits.
    pub fn interest(self) -> Interest {
        if self == Need::Write { Interest::Write } else { Interest::Read }
    }
}

/// A client's connection: its socket, its session and its deadlines.
pub(super) struct Connection<'c> {
    pub server: &'c Server,
    stream: TcpStream,
    peer: SocketAddr,
    pub session: Session<'c>,
    /// What it needs since its last step.
    pub need: Need,
    /// `None` where it is only told that there is no place for it.
    _place: Option<Place<'c>>,
    /// How much of the session's output has been written.
    written: usize,
    /// When the client must have shown the token, if one is set.
    auth_due: Instant,
    /// What is waited for: the number of the request, whether it has begun, and whether the client watches.
    awaited: (u64, bool, bool),
    /// When that must have come.
    request_due: Instant,
    /// When the output that waits must have been taken.
    reply_due: Option<Instant>,
    /// We have closed our side; when the client must have closed its own.
    linger_due: Option<Instant>,
    /// Since when the server is to end.
    stopping: Option<Instant>,
    /// A deadline has passed, and the client was told so.
    is_overdue: bool,
}

impl<'c> Connection<'c> {
    /// Begins a session on a connection as it was accepted. Where there is no place for it, the session does nothing
    /// but tell the client so, in the dialect that its first bytes choose. Closing without a word would leave it
    /// guessing whether the server is down; `busy` says that a later try may succeed, and that nothing has been carried
    /// out.
    pub fn new(
        server: &'c Server,
        (stream, peer): Accepted,
        place: Option<Place<'c>>,
        now: Instant,
    ) -> Box<Connection<'c>> {
        // These cannot fail on an open socket, but that some systems say so where the client has gone already.
        let _ = stream.set_nonblocking(true);
        // Otherwise the kernel holds a small reply back until the client has acknowledged the one before,
        // which it may put off for 40 ms.
        let _ = stream.set_nodelay(true);
        let mut session = server.session();
        // The session traces requests only where they are logged: formatting each one costs time.
        if server.log.tells(Level::Debug) {
            session.trace = Some(Box::new(move |name, key, failed| {
                let (key, failed) = (key.unwrap_or_default(), failed.map_or("", Code::as_str));
                let fields: [(&str, &dyn Display); 4] =
                    [("peer", &peer), ("name", &name), ("key", &key), ("failed", &failed)];
                server.log.event(Level::Debug, "request", &fields);
            }));
        }
        if place.is_none() {
            server.count_refused(peer);
            let mut sent = [0; 4096];
            let arrived = (&stream).read(&mut sent).unwrap_or(0);
            session.received(&sent[..arrived]);
            let message = "this server has as many connections as it takes; try again";
            session.turn_away(&Failure::new(Code::Busy, message));
        }
        Box::new(Connection {
            server,
            stream,
            peer,
            session,
            need: Need::Read,
            _place: place,
            written: 0,
            auth_due: now + AUTH_MAX,
            awaited: (0, false, false),
            request_due: now + server.idle().min(YEAR),
            reply_due: None,
            linger_due: None,
            stopping: None,
            is_overdue: false,
        })
    }

    /// What to wait for.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// When the next step is to be taken, even if nothing happens.
    pub fn due(&self) -> Instant {
        let request = if self.session.is_authenticated() {
            self.request_due
        } else {
            self.request_due.min(self.auth_due)
        };
        let due = match (self.linger_due, self.reply_due) {
            (Some(linger), _) => linger,
            // A watcher is heard while it is told changes, and what it has begun to say must end in time.
            (None, Some(reply)) if self.session.is_watching() => reply.min(request),
            (None, Some(reply)) => reply,
            (None, None) => request,
        };
        self.stop_due().map_or(due, |stop| due.min(stop))
    }

    /// When it must have ended, whatever its client does, once the server is to end.
    fn stop_due(&self) -> Option<Instant> {
        self.stopping.map(|since| since + self.server.deadline.min(YEAR))
    }

    /// Does what can be done now, and leaves in [`Connection::need`] what must happen first before it can do more.
    /// `is_ready`: the socket is ready for what was needed; `is_stopping`: what has arrived by now is answered, and no
    /// more.
    ///
    /// It works in what it is lent, reads once, and writes two pieces at most, so that no client keeps the others waiting.
    pub fn step(&mut self, now: Instant, is_ready: bool, is_stopping: bool, workspace: &mut Workspace) {
        self.session.lend(workspace);
        self.go_on(|connection| connection.exchange(now, is_ready, is_stopping, &mut workspace.buffer));
        self.session.give_back(workspace);
    }

    /// Carries out the request that may take long, after [`Need::Act`].
    pub fn act(&mut self) {
        self.go_on(|connection| {
            connection.session.act();
            Ok(Need::Act)
        });
    }

    /// Does this, and logs what an operator wants to know where it is the connection's end.
    pub fn go_on(&mut self, then: impl FnOnce(&mut Self) -> io::Result<Need>) {
        // A panic is a defect of ours, but one connection's: without this it would end the thread that serves all of
        // them. What the panic leaves half done belongs to the session, which goes with the connection.
        let done = catch_unwind(AssertUnwindSafe(|| then(self)));
        if let Ok(Ok(need)) = &done
            && *need != Need::End
        {
            self.need = *need;
            return;
        }
        self.need = Need::End;
        let (log, stats) = (&self.server.log, &self.server.core.stats);
        let peer = ("peer", &self.peer as &dyn Display);
        // A client that guesses tokens may not wait for the reply, so this is logged also where writing it failed.
        match self.session.turned_away {
            Some(TurnedAway::Http) => log.event(Level::Info, "http_refused", &[peer]),
            Some(TurnedAway::Auth) => log.event(Level::Info, "auth_refused", &[peer]),
            None => {}
        }
        match done {
            Err(_) => log.event(Level::Error, "connection_panic", &[peer]),
            Ok(_) if self.is_overdue => {
                stats.timed_out.fetch_add(1, Relaxed);
                log.event(Level::Info, "deadline", &[peer]);
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => log.event(Level::Debug, "broken", &[peer, ("error", &error)]),
        }
    }

    fn exchange(
        &mut self,
        now: Instant,
        is_ready: bool,
        is_stopping: bool,
        buffer: &mut [u8],
    ) -> io::Result<Need> {
        if is_stopping {
            self.stopping.get_or_insert(now);
        }
        // While an action ran or the journal was synced, nothing was waited for.
        let was_waiting = !matches!(self.need, Need::Act | Need::Sync(_));
        if was_waiting && now >= self.due() && self.run_out_of_time(now) {
            return Ok(Need::End);
        }
        let mut may_read = is_ready && self.need != Need::Write;
        if self.linger_due.is_some() {
            let need = if may_read { self.linger(buffer) } else { Need::Read };
            // At the server's end nobody is waited for who has been told all and says no more.
            return Ok(if is_stopping && !self.has_unread() { Need::End } else { need });
        }
        // A watcher may have so much to be told that there is always something to write, so it is heard before. But
        // what it says may be answered more slowly than it comes.
        if is_ready && self.session.is_watching() && !self.session.has_large_request() {
            self.read(buffer)?;
            may_read = false;
        }
        // Nothing is carried out while output waits.
        if self.reply_due.is_some() && !self.write()? {
            return Ok(self.need_room(now));
        }
        let mut has_written = false;
        loop {
            match self.session.advance() {
                Next::Write if has_written || !self.write()? => return Ok(self.need_room(now)),
                Next::Write => has_written = true,
                Next::Read | Next::Wait if may_read => {
                    self.read(buffer)?;
                    may_read = false;
                }
                Next::Read | Next::Wait if self.has_heard_all(now) => self.session.close(),
                next @ (Next::Read | Next::Wait) => {
                    self.await_request(now);
                    return Ok(if next == Next::Wait { Need::Change } else { Need::Read });
                }
                Next::Sync(changes) => return Ok(Need::Sync(changes)),
                Next::Act => return Ok(Need::Act),
                Next::Close if self.session.has_ended() || is_stopping && !self.has_unread() => {
                    return Ok(Need::End);
                }
                // We tell the client that no more will come, and wait until it closes its side as well.
                Next::Close => {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.linger_due = Some(now + LINGER_MAX);
                    return Ok(Need::Read);
                }
            }
        }
    }

    /// Ends what has taken too long. A client that was silent between requests has done nothing wrong and is told
    /// nothing: it may be about to send a request, and would take an error for the reply. True where nothing is to follow.
    fn run_out_of_time(&mut self, now: Instant) -> bool {
        if self.linger_due.is_some() {
            return true;
        }
        if [self.reply_due, self.stop_due()].into_iter().flatten().any(|due| now >= due) {
            self.is_overdue = true;
            return true;
        }
        if self.session.has_begun() || !self.session.is_authenticated() {
            self.session.timed_out();
            self.is_overdue = true;
        } else {
            self.session.close();
        }
        false
    }

    /// Sets the deadline for what the client must say next. It is a new one with each request that is complete and with
    /// the first byte of the next. White space is neither, so newlines hold no connection for ever.
    fn await_request(&mut self, now: Instant) {
        let awaited = (self.session.requests(), self.session.has_begun(), self.session.is_watching());
        if awaited != self.awaited {
            let (_, has_begun, is_watching) = awaited;
            let allowed = match (has_begun, is_watching) {
                (true, _) => self.server.deadline,
                // A watcher need not say anything; what it begins to say must end in time all the same.
                (false, true) => YEAR,
                (false, false) => self.server.idle(),
            };
            (self.awaited, self.request_due) = (awaited, now + allowed.min(YEAR));
        }
    }

    /// Sets the deadline for taking the output. All of it has one: a client that takes a large reply a few bytes at a
    /// time would otherwise hold its memory for hours.
    fn need_room(&mut self, now: Instant) -> Need {
        self.reply_due.get_or_insert(now + self.server.deadline.min(YEAR));
        if self.session.is_watching() {
            self.await_request(now);
        }
        Need::Write
    }

    /// Writes once, a piece of the output, and tells whether all of it has been taken.
    fn write(&mut self) -> io::Result<bool> {
        let output = &self.session.output()[self.written..];
        match self.stream.write(&output[..output.len().min(WRITE_BYTES_MAX)]) {
            Ok(n) => self.written += n,
            Err(error) if is_for_later(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        let is_taken = self.written == self.session.output().len();
        if is_taken {
            self.session.sent();
            (self.written, self.reply_due) = (0, None);
        }
        Ok(is_taken)
    }

    /// Reads what has arrived, up to a bound: all of a batch is to be answered by one write. Where the buffer is not
    /// filled, there is no more.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let is_large = self.session.has_large_request();
        let mut left = if is_large { READ_BYTES_MAX.max(buffer.len()) } else { READ_BYTES_MAX };
        loop {
            let room = left.min(buffer.len());
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => self.session.ended(),
                Ok(n) => {
                    self.session.received(&buffer[..n]);
                    left -= n;
                    if n == room && left > 0 {
                        continue;
                    }
                }
                Err(error) if is_for_later(&error) => {}
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }

    /// At the server's end all that has arrived is answered, for a second. Half a request is not carried out: with the
    /// rest it may mean something else.
    fn has_heard_all(&self, now: Instant) -> bool {
        self.stopping.is_some_and(|since| now >= since + LINGER_MAX || !self.has_unread())
    }

    /// Whether something has arrived that has not been read.
    fn has_unread(&self) -> bool {
        self.stream.peek(&mut [0]).is_ok_and(|n| n > 0)
    }

    /// Reads once what a client sends to a connection that is being closed, and throws it away.
    fn linger(&mut self, buffer: &mut [u8]) -> Need {
        match self.stream.read(buffer) {
            Ok(0) => Need::End,
            Ok(_) => Need::Read,
            Err(error) if is_for_later(&error) => Need::Read,
            Err(_) => Need::End,
        }
    }
}

/// Whether nothing is wrong: the socket is not ready, or a signal came between.
fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
