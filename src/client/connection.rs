//! One TCP connection: connecting, sending, and reading lines, each within a time.
//!
//! A timeout on the socket bounds one read, and a server that drips a byte a second never meets it.
//! So a request has patience: a time that each wait for the server uses up, and that nothing the
//! server sends fills up again. Time that we spend elsewhere (on a slow reader of our stdout, say) is
//! not the server's fault and does not count. Std has no `poll`; the socket's own timeout, set to the
//! patience that is left, does the waiting.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{ClientError, ClientOptions, Refusal, ReplyProblem};
use crate::address::Address;

/// No line of a reply, and no element of a list, may be longer: a hostile server gets no more of our
/// memory than this.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Room for a read; most replies take one.
const READ_BYTES: usize = 16 << 10;
/// A list may be of any length: each piece of so many bytes has the patience of a whole short reply.
const PIECE_BYTES: usize = 64 << 10;
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long we wait for the server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// So long in all.
    Whole(Duration),
    /// So long for each piece of what it sends.
    Piece(Duration),
    /// For ever.
    Endless,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// For messages.
    address: String,
    /// Nothing has been asked yet: a client that has a token shows it first.
    pub fresh: bool,
    /// Received and not yet consumed: `input[start..end]`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    patience: Patience,
    /// What is left of it; `None` is for ever.
    left: Option<Duration>,
    /// Bytes of the present piece.
    received: usize,
}

/// Connects within the time of `options`, all tries together. A try takes each address of the name
/// in turn.
pub(super) fn connect(address: &Address, options: &ClientOptions) -> Result<Connection, ClientError> {
    let started = Instant::now();
    let mut pauses = pauses(options.retry);
    loop {
        let failed = match try_all(address, options.timeout, started) {
            Ok(connection) => return Ok(connection),
            Err(failed) => failed,
        };
        match pauses.next() {
            Some(pause) if started.elapsed() + pause < options.timeout => sleep(pause),
            _ => return Err(failed),
        }
    }
}

/// The pauses between tries: growing, so that a server that is starting is met soon, and one that
/// struggles is left alone.
pub(super) fn pauses(retry: u32) -> impl Iterator<Item = Duration> {
    let longer = |pause: &Duration| Some((*pause * 2).min(PAUSE_MAX));
    std::iter::successors(Some(PAUSE_FIRST), longer).take(retry as usize)
}

fn try_all(address: &Address, timeout: Duration, started: Instant) -> Result<Connection, ClientError> {
    let all = address.resolve().map_err(ClientError::Address)?;
    let mut failed = io::Error::from(ErrorKind::TimedOut);
    for (at, one) in all.iter().enumerate() {
        // An address that swallows packets must leave time for those after it.
        let share = timeout.saturating_sub(started.elapsed()) / (all.len() - at) as u32;
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(one, share) {
            Ok(stream) => {
                // Without it only speed is lost: a second small write would wait for the first's echo.
                let _ = stream.set_nodelay(true);
                return Ok(Connection::new(stream, address.to_string(), timeout));
            }
            Err(error) => failed = error,
        }
    }
    Err(ClientError::Connect(address.to_string(), failed))
}

impl Connection {
    fn new(stream: TcpStream, address: String, timeout: Duration) -> Connection {
        let patience = Patience::Whole(timeout);
        let input = Vec::new();
        Connection {
            stream,
            address,
            fresh: true,
            input,
            start: 0,
            end: 0,
            patience,
            left: Some(timeout),
            received: 0,
        }
    }

    /// How long to wait from here on.
    pub fn be_patient(&mut self, patience: Patience) {
        (self.patience, self.received) = (patience, 0);
        self.left = match patience {
            Patience::Whole(time) | Patience::Piece(time) => Some(time),
            Patience::Endless => None,
        };
    }

    /// Sends all of it.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), ClientError> {
        while !bytes.is_empty() {
            let sent = wait(&self.stream, &mut self.left, TcpStream::set_write_timeout, |mut stream| {
                stream.write(bytes)
            });
            bytes = &bytes[sent.map_err(|error| self.failed(error))?..];
        }
        Ok(())
    }

    /// The next line, without its newline: where it stands, for [`Connection::text`].
    pub fn line(&mut self) -> Result<Range<usize>, ClientError> {
        let mut looked = 0;
        let find = |unread: &[u8]| {
            let found = unread[looked..].iter().position(|byte| *byte == b'\n').map(|at| looked + at);
            looked = unread.len();
            found
        };
        self.item(find).map(|(line, _)| line)
    }

    /// The next item, up to a byte that `find` finds in what is unread; `find` is asked again when
    /// more has arrived. That byte is passed over too, and returned.
    pub fn item(
        &mut self,
        mut find: impl FnMut(&[u8]) -> Option<usize>,
    ) -> Result<(Range<usize>, u8), ClientError> {
        loop {
            if let Some(length) = find(&self.input[self.start..self.end]) {
                let item = self.start..self.start + length;
                self.start = item.end + 1;
                return Ok((item.clone(), self.input[item.end]));
            }
            self.fill()?;
        }
    }

    /// The text of what was consumed last.
    pub fn text(&self, range: Range<usize>) -> Result<&str, ClientError> {
        std::str::from_utf8(&self.input[range]).map_err(|_| self.bad(ReplyProblem::NotUtf8))
    }

    /// Whether the unread bytes begin so; waits until that can be told.
    pub fn begins_with(&mut self, prefix: &[u8]) -> Result<bool, ClientError> {
        loop {
            let unread = &self.input[self.start..self.end];
            let known = unread.len().min(prefix.len());
            if unread[..known] != prefix[..known] {
                return Ok(false);
            }
            if known == prefix.len() {
                return Ok(true);
            }
            self.fill()?;
        }
    }

    /// Passes over bytes that must stand there.
    pub fn expect(&mut self, bytes: &'static str) -> Result<(), ClientError> {
        if !self.begins_with(bytes.as_bytes())? {
            return Err(self.bad(ReplyProblem::Lacks(bytes)));
        }
        self.start += bytes.len();
        Ok(())
    }

    /// Whether the server has closed, or said what nobody asked for, while we did not look.
    pub fn is_stale(&self) -> bool {
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        let quiet = matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        !quiet || self.stream.set_nonblocking(false).is_err()
    }

    /// Puts back what was consumed last.
    pub fn unread(&mut self, range: Range<usize>) {
        self.start = range.start;
    }

    /// The server said no.
    pub fn refused(&self, refusal: Refusal) -> ClientError {
        ClientError::Refused(self.address.clone(), Box::new(refusal))
    }

    /// The reply makes no sense.
    pub fn bad(&self, problem: ReplyProblem) -> ClientError {
        ClientError::BadReply(self.address.clone(), problem)
    }

    /// Reads more, at least a byte.
    fn fill(&mut self) -> Result<(), ClientError> {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end > REPLY_BYTES_MAX {
            return Err(self.bad(ReplyProblem::TooLong(REPLY_BYTES_MAX)));
        }
        if self.input.len() - self.end < READ_BYTES {
            self.input.resize(self.input.len() * 2 + READ_BYTES, 0);
        }
        let room = &mut self.input[self.end..];
        let got =
            wait(&self.stream, &mut self.left, TcpStream::set_read_timeout, |mut stream| stream.read(room));
        let got = got.map_err(|error| self.failed(error))?;
        self.end += got;
        self.received += got;
        if matches!(self.patience, Patience::Piece(_)) && self.received >= PIECE_BYTES {
            self.be_patient(self.patience);
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> ClientError {
        let address = self.address.clone();
        match source.kind() {
            ErrorKind::TimedOut => ClientError::Timeout(address),
            _ => ClientError::Lost(address, source),
        }
    }
}

/// One read or write, within the patience, which it uses up.
fn wait(
    stream: &TcpStream,
    left: &mut Option<Duration>,
    set_timeout: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
    mut act: impl FnMut(&TcpStream) -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        if left.is_some_and(|left| left.is_zero()) {
            return Err(ErrorKind::TimedOut.into());
        }
        set_timeout(stream, *left)?;
        let began = Instant::now();
        let moved = act(stream);
        *left = left.map(|left| left.saturating_sub(began.elapsed()));
        match moved {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // So does Unix call a timeout.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            moved => return moved,
        }
    }
}
