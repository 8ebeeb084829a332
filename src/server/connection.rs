//! Moves bytes between a socket and a session, and keeps the time.
//!
//! The socket is blocking, so a waiting connection costs no processor time, and its timeouts are the
//! kernel's. They are set once: only a request that arrives in parts, or a client that
//! takes its replies slowly, costs another system call. A deadline is absolute: what is left of it
//! is set anew before each wait, so a byte a second does not stretch it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::stop::ShutdownHandle;
use crate::session::{Next, Session};

/// How long a closed connection is read from, so that what the client still sends does not make the
/// kernel reset the connection and throw our last reply away.
const LINGER: Duration = Duration::from_secs(1);
/// How long a client may take to show the token, where one is set.
const UNKNOWN_TIME: Duration = Duration::from_secs(5);

/// How often a watcher's connection is looked at for what its client says, and for whether the client is
/// still there: a thread that waits for a change does not wait for the socket.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The time a client is given.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Between requests.
    pub idle: Duration,
    /// For a request, from its first byte to its last, and for taking a reply.
    pub request: Duration,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum End {
    /// The client closed it, or was told why it is closed.
    Closed,
    /// The client was silent between requests.
    Idle,
    /// A request took too long to arrive, or a reply to be taken.
    Deadline,
    /// Something of ours is wrong.
    Panic,
    /// The connection broke.
    Broken(io::Error),
}

/// Serves one connection to its end.
pub fn serve(
    stream: &TcpStream,
    session: &mut Session<'_>,
    deadlines: Deadlines,
    stop: &ShutdownHandle,
) -> End {
    match exchange(stream, session, deadlines, stop) {
        Ok(end) => {
            if !session.has_ended() {
                linger(stream);
            }
            end
        }
        // So the system calls the end of a timeout that we set. `TimedOut` is something else: keepalive
        // has found that the client is gone.
        Err(error) if error.kind() == ErrorKind::WouldBlock => End::Deadline,
        Err(error) => End::Broken(error),
    }
}

fn exchange(
    stream: &TcpStream,
    session: &mut Session<'_>,
    deadlines: Deadlines,
    stop: &ShutdownHandle,
) -> io::Result<End> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(deadlines.request))?;
    let mut clock = Clock::new(deadlines);
    let look_every = LOOK_EVERY.min(deadlines.idle).min(deadlines.request);
    let mut looked = Instant::now();
    let mut end = End::Closed;
    loop {
        match session.advance() {
            Next::Write => {
                write_all(stream, session.output(), deadlines.request)?;
                session.sent();
            }
            Next::Close => return Ok(end),
            Next::Wait => {
                let soon = look_every.saturating_sub(looked.elapsed());
                session.wait(if session.has_begun() { soon.min(clock.left(session)) } else { soon });
            }
            // A client that sends without pause would keep the server from ending.
            Next::Read if stop.is_stopping() => {
                look(stream, session)?;
                session.ended();
            }
            Next::Read if clock.set_timeout(stream, session)? && hear(stream, session)? => {
                while session.has_most_likely_more() && look(stream, session)? {}
            }
            // From here on the time was over.
            Next::Read if clock.is_idle() && session.is_authenticated() => {
                session.close();
                end = End::Idle;
            }
            Next::Read => {
                session.timed_out();
                end = End::Deadline;
            }
        }
        // A watcher may be silent for ever, but what it begins to say must end in time; and it is looked
        // at also while changes come so fast that there is never a wait for one.
        if session.is_watching() {
            if session.has_begun() && clock.left(session).is_zero() {
                session.timed_out();
                end = End::Deadline;
            } else if looked.elapsed() >= look_every && !look(stream, session)? {
                looked = Instant::now();
            }
        }
    }
}

/// Reads once what the client says; false where it said nothing in time.
fn hear(mut stream: &TcpStream, session: &mut Session<'_>) -> io::Result<bool> {
    match stream.read(session.space()) {
        Ok(0) => session.ended(),
        Ok(n) => session.received(n),
        Err(error) if error.kind() == ErrorKind::Interrupted => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
        Err(error) => return Err(error),
    }
    Ok(true)
}

/// Takes what the client has said meanwhile, without waiting for more; false where that is nothing.
fn look(stream: &TcpStream, session: &mut Session<'_>) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let heard = hear(stream, session);
    stream.set_nonblocking(false)?;
    heard
}

/// Knows how long the next read may wait.
struct Clock {
    deadlines: Deadlines,
    opened: Instant,
    /// What is waited for, and since when: the number of the next request, and whether it has begun.
    awaited: (u64, bool),
    since: Instant,
    /// What the socket's read timeout is set to.
    set: Option<Duration>,
}

impl Clock {
    fn new(deadlines: Deadlines) -> Clock {
        let now = Instant::now();
        Clock { deadlines, opened: now, awaited: (0, false), since: now, set: None }
    }

    /// Whether the wait is for a request to begin.
    fn is_idle(&self) -> bool {
        !self.awaited.1
    }

    /// What is left of the time for what is waited for.
    fn left(&mut self, session: &Session<'_>) -> Duration {
        let awaited = (session.requests(), session.has_begun());
        let allowed = if awaited.1 { self.deadlines.request } else { self.deadlines.idle };
        // White space is no request: it does not begin the wait anew.
        let mut left = allowed.saturating_sub(self.since.elapsed());
        if awaited != self.awaited {
            (self.awaited, self.since, left) = (awaited, Instant::now(), allowed);
        }
        if !session.is_authenticated() {
            left = left.min(UNKNOWN_TIME.saturating_sub(self.opened.elapsed()));
        }
        left
    }

    /// Sets the socket's read timeout; false where no time is left.
    fn set_timeout(&mut self, stream: &TcpStream, session: &Session<'_>) -> io::Result<bool> {
        let left = self.left(session);
        if self.set != Some(left) && !left.is_zero() {
            stream.set_read_timeout(Some(left))?;
            self.set = Some(left);
        }
        Ok(!left.is_zero())
    }
}

/// Writes all within the deadline. The kernel counts a write timeout for each call from its
/// start, so a call that takes all there is in time, as nearly every one does, needs no other care.
fn write_all(mut stream: &TcpStream, mut bytes: &[u8], deadline: Duration) -> io::Result<()> {
    let begun = Instant::now();
    let mut shortened = false;
    loop {
        match stream.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if bytes.is_empty() {
            return if shortened { stream.set_write_timeout(Some(deadline)) } else { Ok(()) };
        }
        let left = deadline.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(ErrorKind::WouldBlock.into());
        }
        stream.set_write_timeout(Some(left))?;
        shortened = true;
    }
}

/// Tells the client that no more will come, and reads what it still sends, for a while.
fn linger(mut stream: &TcpStream) {
    let until = Instant::now() + LINGER;
    let mut waste = [0; 4096];
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut waste) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
