//! One connection: moves bytes between its socket and its session, and keeps the time.
//!
//! The session says what it needs next (bytes from the client, its output taken, a change to tell) and
//! this file does it with blocking calls, so the way of a request can be read from top to bottom. A
//! thread that waits in the kernel costs no processor time, and the kernel counts its timeouts.
//!
//! Two things make time harder than it looks. A kernel's timeout bounds one call, so a client that sends
//! a byte a second never meets it; therefore every wait here has a deadline, an [`Instant`] that does not
//! move, and the kernel is told what is left until then before each call. And telling the kernel is a
//! system call, which would be a third one for each request; therefore it is told only what has
//! changed, and after its first requests a client that takes its replies causes no such call.
//!
//! What the bytes mean is the session's business, and so is every word of every reply.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::listener::Accepted;
use super::{Level, Server};
use crate::protocol::Code;
use crate::session::{Next, Session, TurnedAway};

/// How long a connection that is being closed is still read from. Were it closed with bytes unread, the
/// kernel would send a reset instead of an orderly end, and a client that receives a reset throws away
/// what it has not read yet: the reply that says why it was refused would be lost.
pub(super) const LINGER_MAX: Duration = Duration::from_secs(1);
/// What is read of a lingering connection at a time, and thrown away. It lies on the worker's stack, where it counts for
/// as long as the connection lives: with 64 KiB here an idle connection held 75 KiB instead of 15.
const LINGER_READ_BYTES: usize = 4 << 10;
/// How long a client may take to show the token, where one is set. A stranger may not hold a worker for
/// as long as a client that is allowed in.
const AUTH_MAX: Duration = Duration::from_secs(5);
/// How often a watcher's socket is looked at, for what its client says and for whether it is still there.
/// A thread that waits for a change cannot wait for the socket at the same time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// No deadline is later than this. A server may be given longer times, and an [`Instant`] would overflow.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The error that the system gives when a socket's timeout is over, and we when a deadline is. `TimedOut`
/// is something else: keepalive has found that the client's machine no longer answers.
const OVERDUE: ErrorKind = ErrorKind::WouldBlock;

/// A client's connection: its socket, its session and its deadlines.
pub(super) struct ServedConnection<'c> {
    server: &'c Server,
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    pub session: Session<'c>,
    deadline: ClientDeadline,
    read_timeout: Duration,
    write_timeout: Duration,
    /// When a watcher's socket is to be looked at.
    look_due: Instant,
    /// A deadline has passed, and the client was told so.
    is_overdue: bool,
}

impl<'c> ServedConnection<'c> {
    /// Begins a session.
    pub fn new(server: &'c Server, (stream, peer): Accepted) -> ServedConnection<'c> {
        server.core.stats.connections.fetch_add(1, Relaxed);
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
        let now = Instant::now();
        let (idle, request) = (server.idle().min(YEAR), server.deadline.min(YEAR));
        let (auth_due, awaited) = (now + AUTH_MAX, (0, false, false));
        ServedConnection {
            server,
            stream: server.stop.track(stream),
            peer,
            session,
            deadline: ClientDeadline { idle, request, auth_due, awaited, due: now + idle },
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            look_due: now + LOOK_EVERY,
            is_overdue: false,
        }
    }

    /// Serves the connection to its end, and logs what an operator wants to know of how it ended.
    pub fn serve(&mut self) {
        let (log, stats) = (&self.server.log, &self.server.core.stats);
        // A panic is a defect of ours, but one connection's: without this it would end the worker's thread,
        // and a server whose clients find the defect again and again would lose all its threads. What the
        // panic leaves half done belongs to the session, which goes with the connection.
        let ended = catch_unwind(AssertUnwindSafe(|| self.exchange()));
        let peer = ("peer", &self.peer as &dyn Display);
        // A client that guesses tokens may not wait for the reply, so this is logged also where writing it failed.
        match self.session.turned_away {
            Some(TurnedAway::Http) => log.event(Level::Info, "http_refused", &[peer]),
            Some(TurnedAway::Auth) => log.event(Level::Info, "auth_refused", &[peer]),
            None => {}
        }
        match ended {
            Err(_) => log.event(Level::Error, "connection_panic", &[peer]),
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.kind() == OVERDUE => {
                stats.timed_out.fetch_add(1, Relaxed);
                log.event(Level::Info, "deadline", &[peer]);
            }
            Ok(Err(error)) => log.event(Level::Debug, "broken", &[peer, ("error", &error)]),
        }
    }

    /// Does what the session asks for until there is no more to do.
    fn exchange(&mut self) -> io::Result<()> {
        // Otherwise the kernel holds a small reply back until the client has acknowledged the one before,
        // which it may put off for 40 ms.
        self.stream.set_nodelay(true)?;
        loop {
            match self.session.advance() {
                Next::Write => self.write_output()?,
                // Reading has been shut down, and yet what a client goes on sending can be read: one that
                // never pauses would keep the server from ending. What has arrived by now is answered.
                Next::Read if self.server.stop.is_stopping() => {
                    self.read_ready()?;
                    self.session.ended();
                }
                Next::Read => match self.read_waiting() {
                    Err(error) if error.kind() == OVERDUE => self.run_out_of_time(),
                    read => read?,
                },
                Next::Wait => {
                    let now = Instant::now();
                    let due = self.look_due.min(self.deadline.due(&self.session, now));
                    self.session.wait(due.saturating_duration_since(now));
                }
                Next::Close => break,
            }
            // This is done in every round: changes may come so fast that the session never waits.
            if self.session.is_watching() {
                self.look_at_watcher()?;
            }
        }
        if !self.session.has_ended() {
            self.linger();
        }
        if self.is_overdue { Err(OVERDUE.into()) } else { Ok(()) }
    }

    /// Reads what the client sends next, and waits for it until the client's deadline.
    fn read_waiting(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let due = self.deadline.due(&self.session, now);
        set_timeout(&mut self.read_timeout, due, now, |left| self.stream.set_read_timeout(left))?;
        self.read()?;
        // Where more has arrived than there was space for, all of it is to be answered by one write.
        while self.session.has_most_likely_more() && self.read_ready()? > 0 {}
        Ok(())
    }

    /// Reads what has arrived, without waiting for more.
    fn read_ready(&mut self) -> io::Result<usize> {
        self.stream.set_nonblocking(true)?;
        let read = self.read();
        self.stream.set_nonblocking(false)?;
        match read {
            Err(error) if error.kind() == OVERDUE => Ok(0),
            read => read,
        }
    }

    /// Reads once, waiting as long as the socket's timeout says, and hands the bytes to the session. Tells how many
    /// they were: 0 at the end of the stream, and where a signal came between.
    fn read(&mut self) -> io::Result<usize> {
        let read = (&*self.stream).read(self.session.space());
        match &read {
            Ok(0) => self.session.ended(),
            Ok(n) => self.session.received(*n),
            // A signal came between. The session still needs bytes, and will ask for them again.
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            Err(_) => {}
        }
        read
    }

    /// Reads what a watcher has sent, once in [`LOOK_EVERY`], and then again at once until there is no more.
    fn look_at_watcher(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if now >= self.look_due && self.read_ready()? == 0 {
            self.look_due = now + LOOK_EVERY;
        }
        if now >= self.deadline.due(&self.session, now) {
            self.run_out_of_time();
        }
        Ok(())
    }

    /// Ends the session. A client that was silent between requests has done nothing wrong and is told
    /// nothing: it may be about to send a request, and would take an error for the reply.
    fn run_out_of_time(&mut self) {
        if self.session.has_begun() || !self.session.is_authenticated() {
            self.session.timed_out();
            self.is_overdue = true;
        } else {
            self.session.close();
        }
    }

    /// Writes the session's output. All of it has one deadline: a client that takes a large reply a few
    /// bytes at a time would otherwise hold its worker, and the reply's memory, for hours.
    fn write_output(&mut self) -> io::Result<()> {
        let mut now = Instant::now();
        let due = now + self.deadline.request;
        let mut output = self.session.output();
        while !output.is_empty() {
            set_timeout(&mut self.write_timeout, due, now, |left| self.stream.set_write_timeout(left))?;
            match (&*self.stream).write(output) {
                Ok(n) => output = &output[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            now = Instant::now();
        }
        self.session.sent();
        Ok(())
    }

    /// Tells the client that no more will come, and waits until it closes its side as well.
    fn linger(&mut self) {
        let due = Instant::now() + LINGER_MAX;
        let mut set =
            |now| set_timeout(&mut self.read_timeout, due, now, |left| self.stream.set_read_timeout(left));
        if self.stream.shutdown(Shutdown::Write).is_ok() {
            while set(Instant::now()).is_ok() && still_sends(&self.stream) {}
        }
    }
}

impl Drop for ServedConnection<'_> {
    fn drop(&mut self) {
        self.server.stop.untrack(&self.stream);
        self.server.core.stats.connections.fetch_sub(1, Relaxed);
    }
}

/// When the client must have said what the connection waits for. It reads no clock and touches no socket.
struct ClientDeadline {
    idle: Duration,
    request: Duration,
    /// When the client must have shown the token, if one is set.
    auth_due: Instant,
    /// What is waited for: the number of the request, whether it has begun, and whether the client watches.
    awaited: (u64, bool, bool),
    due: Instant,
}

impl ClientDeadline {
    /// When the client's time is over. It begins anew with each request that is complete and with the first
    /// byte of the next. White space is neither, so newlines hold no worker for ever.
    fn due(&mut self, session: &Session<'_>, now: Instant) -> Instant {
        let awaited = (session.requests(), session.has_begun(), session.is_watching());
        if awaited != self.awaited {
            let (_, has_begun, is_watching) = awaited;
            let allowed = match (has_begun, is_watching) {
                (true, _) => self.request,
                // A watcher need not say anything; what it begins to say must end in time all the same.
                (false, true) => YEAR,
                (false, false) => self.idle,
            };
            (self.awaited, self.due) = (awaited, now + allowed);
        }
        if session.is_authenticated() { self.due } else { self.due.min(self.auth_due) }
    }
}

/// Has one of a socket's two timeouts end at `due`; `told` is what the kernel has been told of it so far.
fn set_timeout(
    told: &mut Duration,
    due: Instant,
    now: Instant,
    tell: impl Fn(Option<Duration>) -> io::Result<()>,
) -> io::Result<()> {
    let left = due.saturating_duration_since(now);
    if left.is_zero() {
        return Err(OVERDUE.into());
    }
    if left != *told {
        tell(Some(left))?;
        *told = left;
    }
    Ok(())
}

/// Reads once what a client sends to a connection that is being closed, throws it away, and says whether
/// more may come. A worker's socket blocks here; those of clients that the pool refuses do not.
pub(super) fn still_sends(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; LINGER_READ_BYTES]) {
        Ok(n) => n > 0,
        Err(error) => matches!(error.kind(), OVERDUE | ErrorKind::Interrupted),
    }
}
