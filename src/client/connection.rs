//! One TCP connection: connecting, sending, and reading replies, each within a time.
//!
//! A timeout on the socket bounds one read, and a server that drips a byte a second never meets it.
//! So a connection has patience: a time that each wait for the server uses up, and that is whole again
//! only after [`PIECE_BYTES`] have moved. A short reply has it once; a long list takes as long as it
//! takes. Time that we spend elsewhere (on a slow reader of our stdout, say) is not the server's fault
//! and does not count. Std has no `poll`; the socket's own timeout, set to what is left, does the waiting.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Answer, ClientError, ReplyProblem};
use crate::protocol::{Address, AddressError};
use crate::protocol::{Scope, check_key};
use crate::sys;

/// No line of a reply, and no element of a list, may be longer: a hostile server gets no more of our
/// memory than this.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Room for a read; most replies take one.
const READ_BYTES: usize = 16 << 10;
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Connection {
    /// For messages.
    address: String,
    socket: BufReader<Socket>,
}

/// Takes each address of the name in turn, the lookup and all of them together within `timeout`.
pub(crate) fn connect(address: &Address, timeout: Duration) -> Result<Connection, ClientError> {
    let started = Instant::now();
    let all = match address.known() {
        Some(known) => known,
        None => within(timeout, address, Address::resolve).map_err(ClientError::Address)?,
    };
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
                let socket = Socket { stream, patience: timeout, left: timeout, moved: 0 };
                let socket = BufReader::with_capacity(READ_BYTES, socket);
                return Ok(Connection { address: address.to_string(), socket });
            }
            Err(error) => failed = error,
        }
    }
    Err(ClientError::Connect(address.to_string(), failed))
}

/// Looks an address up by a thread of its own, since the system's lookup has no timeout. Where it takes too
/// long the thread is left behind, and ends when the system gives up.
fn within<T: Send + 'static>(
    timeout: Duration,
    address: &Address,
    look_up: impl FnOnce(&Address) -> Result<T, AddressError> + Send + 'static,
) -> Result<T, AddressError> {
    let (tell, told) = mpsc::channel();
    let name = address.clone();
    thread::Builder::new()
        .name("lookup".into())
        .spawn(move || drop(tell.send(look_up(&name))))
        .map_err(|error| address.unknown(error))?;
    told.recv_timeout(timeout).unwrap_or_else(|_| {
        let late = io::Error::new(ErrorKind::TimedOut, "looking up the name took too long");
        Err(address.unknown(late))
    })
}

impl Connection {
    /// Has the system notice within a minute that the server is gone without a word. Only who waits for ever
    /// needs it; where the system refuses, such a server is noticed when it is next written to.
    pub fn keep_alive(&self) {
        let _ = sys::keepalive(&self.socket.get_ref().stream);
    }

    /// How long to wait for each piece from here on.
    pub fn be_patient(&mut self, patience: Duration) {
        let socket = self.socket.get_mut();
        (socket.patience, socket.left, socket.moved) = (patience, patience, 0);
    }

    /// Sends all of it.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.socket.get_mut().write_all(bytes).map_err(|error| self.failed(error))
    }

    /// Waits until something comes, or the connection ends, and tells whether it did within `time`; `None` is
    /// for ever. What has begun then has the whole patience to come to its end.
    pub fn begins(&mut self, time: Option<Duration>) -> Result<bool, ClientError> {
        if self.socket.buffer().is_empty() {
            let stream = &self.socket.get_ref().stream;
            match stream.set_read_timeout(time).and_then(|()| stream.peek(&mut [0])) {
                Ok(_) => {}
                // That is how Unix calls a timeout. `TimedOut` means that the system gave the peer up.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Ok(false);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.be_patient(self.socket.get_ref().patience);
        Ok(true)
    }

    /// The next reply; a refusal is an error.
    pub fn reply(&mut self) -> Result<Answer, ClientError> {
        let line = self.line()?;
        self.understand(&line)
    }

    /// What a line says.
    pub fn understand(&self, line: &str) -> Result<Answer, ClientError> {
        match Answer::parse(line) {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(failure)) => Err(ClientError::Refused(self.address.clone(), failure)),
            Err(problem) => Err(self.bad(problem)),
        }
    }

    /// The next line, without its newline.
    pub fn line(&mut self) -> Result<String, ClientError> {
        self.item(|bytes| bytes.iter().position(|byte| *byte == b'\n')).map(|(line, _)| line)
    }

    /// The next item, up to a byte that `find` finds in what comes, piece by piece. That byte is passed
    /// over too, and returned.
    pub fn item(
        &mut self,
        mut find: impl FnMut(&[u8]) -> Option<usize>,
    ) -> Result<(String, u8), ClientError> {
        let mut item = Vec::new();
        loop {
            let bytes = match self.socket.fill_buf() {
                Ok([]) => return Err(self.failed(ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error)),
                Ok(bytes) => bytes,
            };
            let found = find(bytes);
            let length = found.unwrap_or(bytes.len());
            item.extend_from_slice(&bytes[..length]);
            let end = found.map(|at| bytes[at]);
            self.socket.consume(length + usize::from(end.is_some()));
            if item.len() > REPLY_BYTES_MAX {
                return Err(self.bad(ReplyProblem::TooLong(REPLY_BYTES_MAX)));
            }
            if let Some(end) = end {
                let item = String::from_utf8(item).map_err(|_| self.bad(ReplyProblem::NotUtf8))?;
                return Ok((item, end));
            }
        }
    }

    /// Passes over `text`, which must come next. Where it does not, the server may have refused.
    pub fn expect(&mut self, text: &'static str) -> Result<(), ClientError> {
        let mut left = text.len();
        let mut is_last = |byte: &u8| {
            left -= 1;
            left == 0 || *byte == b'\n'
        };
        let (mut came, last) = self.item(|bytes| bytes.iter().position(&mut is_last))?;
        came.push(char::from(last));
        if came == text {
            return Ok(());
        }
        if last != b'\n' {
            came += &self.line()?;
        }
        self.understand(&came).and(Err(self.bad(ReplyProblem::Lacks(text))))
    }

    /// Whether the server has closed, or said what nobody asked for, while we did not look.
    pub fn is_stale(&self) -> bool {
        let stream = &self.socket.get_ref().stream;
        let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
        let quiet = matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        !quiet || stream.set_nonblocking(false).is_err()
    }

    /// Refuses a key that no server of ours has, or that was not asked for: it would be printed, and somebody
    /// acts on what is printed.
    pub fn check_key(&self, key: &str, scope: &Scope<'_>) -> Result<(), ClientError> {
        check_key(key).map_err(|error| self.bad(ReplyProblem::BadKey(error)))?;
        if scope.covers(key) { Ok(()) } else { Err(self.bad(ReplyProblem::Unrelated)) }
    }

    /// The reply makes no sense.
    pub fn bad(&self, problem: ReplyProblem) -> ClientError {
        ClientError::BadReply(self.address.clone(), problem)
    }

    fn failed(&self, source: io::Error) -> ClientError {
        let address = self.address.clone();
        match source.kind() {
            // Our own patience has no number. The system's ETIMEDOUT has: the peer is gone without a word.
            ErrorKind::TimedOut if source.raw_os_error().is_none() => ClientError::Timeout(address),
            _ => ClientError::Lost(address, source),
        }
    }
}

/// A socket that waits no longer than its patience.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    patience: Duration,
    /// What is left of it for the present piece.
    left: Duration,
    /// Bytes of the present piece.
    moved: usize,
}

impl Socket {
    /// One read or write.
    fn wait(
        &mut self,
        set_timeout: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
        act: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        set_timeout(&self.stream, Some(self.left))?;
        let began = Instant::now();
        let moved = act(&self.stream);
        self.left = self.left.saturating_sub(began.elapsed());
        let moved = moved.map_err(|error| match error.kind() {
            // So does Unix call a timeout.
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        })?;
        self.moved += moved;
        if self.moved >= PIECE_BYTES {
            (self.left, self.moved) = (self.patience, 0);
        }
        Ok(moved)
    }
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.wait(TcpStream::set_read_timeout, |mut stream| stream.read(room))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(TcpStream::set_write_timeout, |mut stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_that_takes_too_long_is_left_behind() {
        let address = Address::parse("box:1").unwrap();
        // It would last until this is dropped.
        let (_kept, never) = mpsc::channel::<()>();
        let stuck = move |address: &Address| match never.recv() {
            Ok(()) => Ok(()),
            Err(_) => Err(address.unknown(ErrorKind::NotFound.into())),
        };
        let error = within(Duration::from_millis(50), &address, stuck).unwrap_err();
        assert_eq!(error.to_string(), "box: looking up the name took too long");
        assert_eq!(within(Duration::from_secs(60), &address, |_| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn a_peer_that_the_system_gave_up_is_lost_and_no_timeout_of_ours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let mut connection = connect(&address, Duration::from_millis(50)).unwrap();
        assert!(matches!(connection.reply(), Err(ClientError::Timeout(_))));
        assert!(!connection.begins(Some(Duration::from_millis(1))).unwrap());
        const ETIMEDOUT: i32 = if cfg!(target_os = "linux") { 110 } else { 60 };
        let given_up = io::Error::from_raw_os_error(ETIMEDOUT);
        assert_eq!(given_up.kind(), ErrorKind::TimedOut);
        assert!(matches!(connection.failed(given_up), ClientError::Lost(..)));
    }
}
