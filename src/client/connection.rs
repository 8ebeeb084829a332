//! One TCP connection: connecting, sending, and reading replies, each within a time.
//!
//! A timeout on the socket bounds one read, so a server that drips a byte a second never meets it: a reply of 100
//! bytes would take 100 s. Instead each connection has a time budget for waiting; it is refilled after every 64
//! KiB moved. A short reply gets one budget in all, and a list of any length takes as long as it takes, provided
//! that it moves. Only the time spent waiting for the server is counted. Time that we spend elsewhere, on a slow
//! reader of our stdout say, is not the server's fault.
//!
//! The waiting is done by the socket's own timeout, set to what is left of the budget before each read and write.
//! That is one cheap system call more for each. poll(2) would do for reads, but a large write to a writable socket
//! may block all the same.
//!
//! This file knows lines and the byte that ends an element, but not what they mean: that is for `answer` to say.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::answer::{Answer, ClientError, ReplyProblem, Result};
use crate::protocol::{Address, AddressError, Code};
use crate::sys::{self, Interest};

/// No line of a reply, and no element of a list, may be longer: a hostile server gets no more of our
/// memory than this.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Room for a read: most replies take one.
const READ_BYTES: usize = 16 << 10;
/// Whenever so much has moved, the budget is refilled. It is the slowest transfer that is still waited for: 64 KiB
/// within the client's timeout.
const REFILL_BYTES: usize = 64 << 10;
/// The shortest timeout: the system takes none finer, and zero means "for ever" to it.
const MILLISECOND: Duration = Duration::from_millis(1);
/// What Unix calls it when a socket's timeout is over. `ErrorKind::TimedOut` is something else: the system has given
/// up a peer that is gone without a word.
const TIMEOUT: ErrorKind = ErrorKind::WouldBlock;
/// After these refusals the server closes, or may: the next request must not meet that.
const CLOSING: [Code; 5] = [Code::Busy, Code::TooLarge, Code::Timeout, Code::Denied, Code::BadJson];

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    /// For messages.
    address: String,
    socket: BufReader<Socket>,
    /// Requests that were sent and whose replies have not been read to their end.
    pub unanswered: usize,
    /// The server has said what it closes after.
    closing: bool,
}

/// A reply's line as it came, and what it says. A refusal is an answer in this: the replies to the requests behind
/// it still come.
pub type ReplyLine = (String, Result<Answer>);

/// Connects to the addresses of the name, one after another, until one answers. The lookup and all of them
/// together take no longer than `time`.
pub(super) fn connect(address: &Address, time: Duration) -> Result<Connection> {
    let started = Instant::now();
    let all = match address.known() {
        Some(known) => known,
        None => look_up_within(time, address, Address::resolve).map_err(ClientError::Address)?,
    };
    let mut failed = io::Error::from(ErrorKind::TimedOut);
    for (at, one) in all.iter().enumerate() {
        // An address that swallows packets must leave time for those after it.
        let share = time.saturating_sub(started.elapsed()) / (all.len() - at) as u32;
        match TcpStream::connect_timeout(one, share.max(MILLISECOND)) {
            Ok(stream) => {
                // Without it only speed is lost: the kernel holds a second small write back until the first
                // is acknowledged (Nagle's algorithm), some 40 ms.
                let _ = stream.set_nodelay(true);
                let socket = Socket { stream, budget: time, left: time, moved: 0 };
                let (address, socket) = (address.to_string(), BufReader::with_capacity(READ_BYTES, socket));
                return Ok(Connection { address, socket, unanswered: 0, closing: false });
            }
            Err(error) => failed = error,
        }
    }
    Err(ClientError::Connect(address.to_string(), failed))
}

/// Looks a name up on a thread of its own, since the system's lookup has no timeout. Where it takes too
/// long the thread is left behind, and ends when the system gives up.
fn look_up_within<T: Send + 'static>(
    time: Duration,
    address: &Address,
    look_up: impl FnOnce(&Address) -> Result<T, AddressError> + Send + 'static,
) -> Result<T, AddressError> {
    let (sender, receiver) = mpsc::channel();
    let name = address.clone();
    thread::Builder::new()
        .name("lookup".into())
        .spawn(move || drop(sender.send(look_up(&name))))
        .map_err(|error| address.unknown(error))?;
    receiver.recv_timeout(time).unwrap_or_else(|_| {
        let late = io::Error::new(ErrorKind::TimedOut, "looking up the name took too long");
        Err(address.unknown(late))
    })
}

impl Connection {
    /// Has the system notice within a minute that the server is gone without a word. Only a watch needs it, which may
    /// wait for ever. Where the system refuses, such a server is noticed when it is next written to.
    pub fn keep_alive(&self) {
        let _ = sys::keepalive(&self.socket.get_ref().stream);
    }

    /// Gives the server this time to move the next 64 KiB, and again for each 64 KiB after them.
    pub fn set_budget(&mut self, budget: Duration) {
        let socket = self.socket.get_mut();
        (socket.budget, socket.left, socket.moved) = (budget, budget, 0);
    }

    /// Whether it can take the next request. Where replies are still to come, that request would get one of
    /// theirs.
    pub fn is_idle(&self) -> bool {
        self.unanswered == 0 && !self.closing
    }

    /// Sends requests, a line each. That sending failed is found out by reading, which then fails too, unless the
    /// server closed because it refuses what it has not read to its end: its reply says more than a broken pipe.
    pub fn send(&mut self, requests: &[u8]) {
        self.unanswered += requests.iter().filter(|byte| **byte == b'\n').count();
        let _ = self.socket.get_mut().write_all(requests);
    }

    /// Whether something comes, or the connection ends, within `time`. This waiting costs no budget, and what has
    /// begun to come has a full one.
    ///
    /// On a connection that waits for no reply it tells that the server has closed, or said what nobody asked for.
    pub fn is_readable_within(&mut self, time: Duration) -> bool {
        self.set_budget(self.socket.get_ref().budget);
        let stream = self.socket.get_ref().stream.as_fd();
        !self.socket.buffer().is_empty() || sys::wait_ready([(Some(stream), Interest::Read)], time) == [true]
    }

    /// The next reply.
    pub fn reply(&mut self) -> Result<ReplyLine> {
        let line = self.line()?;
        let answer = self.understand(&line)?;
        let refusal = answer.as_ref().err().and_then(ClientError::refusal);
        self.closing |= refusal.is_some_and(|refusal| CLOSING.contains(&refusal.code));
        self.unanswered -= 1;
        Ok((line, answer))
    }

    /// Whether the last reply was the last there is: no other is to come, or the server has closed.
    pub fn is_last(&mut self) -> bool {
        self.unanswered == 0 || matches!(self.socket.fill_buf(), Ok([]))
    }

    /// What a line says; a refusal is the inner error.
    pub fn understand(&self, line: &str) -> Result<Result<Answer>> {
        let refused = |failure| ClientError::Refused(self.address.clone(), failure);
        Ok(Answer::parse(line).map_err(|problem| self.bad(problem))?.map_err(refused))
    }

    /// The next line, without its newline.
    pub fn line(&mut self) -> Result<String> {
        self.read_until(|bytes| bytes.iter().position(|byte| *byte == b'\n')).map(|(line, _)| line)
    }

    /// Reads up to a byte that `find` finds in what comes, piece by piece. That byte is passed over too, and
    /// returned.
    pub fn read_until(&mut self, mut find: impl FnMut(&[u8]) -> Option<usize>) -> Result<(String, u8)> {
        // No reply announces its length, so this grows with what has come.
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
                let not_utf8 = |_| self.bad(ReplyProblem::Mismatch("not UTF-8"));
                return String::from_utf8(item).map_err(not_utf8).map(|item| (item, end));
            }
        }
    }

    /// The reply makes no sense.
    pub fn bad(&self, problem: ReplyProblem) -> ClientError {
        ClientError::BadReply(self.address.clone(), problem)
    }

    /// Reading or writing failed.
    fn failed(&self, error: io::Error) -> ClientError {
        match error.kind() {
            TIMEOUT => ClientError::Timeout(self.address.clone()),
            _ => ClientError::Lost(self.address.clone(), error),
        }
    }
}

/// A socket that waits no longer than its budget allows.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    budget: Duration,
    /// What is left of the budget.
    left: Duration,
    /// Bytes moved since the budget was refilled.
    moved: usize,
}

impl Socket {
    /// Does one read or write, and takes the time that it waited off the budget.
    fn wait(
        &mut self,
        set_timeout: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
        transfer: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        // The system would take a timeout of zero for "wait for ever".
        if self.left.is_zero() {
            return Err(TIMEOUT.into());
        }
        set_timeout(&self.stream, Some(self.left))?;
        let began = Instant::now();
        let moved = transfer(&self.stream);
        self.left = self.left.saturating_sub(began.elapsed());
        self.moved += moved.as_ref().unwrap_or(&0);
        if self.moved >= REFILL_BYTES {
            (self.left, self.moved) = (self.budget, 0);
        }
        moved
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
        let error = look_up_within(Duration::from_millis(50), &address, stuck).unwrap_err();
        assert_eq!(error.to_string(), "box: looking up the name took too long");
        assert_eq!(look_up_within(Duration::from_secs(60), &address, |_| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn a_peer_that_the_system_gave_up_is_lost_and_no_timeout_of_ours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let mut connection = connect(&address, Duration::from_millis(50)).unwrap();
        assert!(matches!(connection.reply(), Err(ClientError::Timeout(_))));
        assert!(!connection.is_readable_within(MILLISECOND));
        const ETIMEDOUT: i32 = if cfg!(target_os = "linux") { 110 } else { 60 };
        let given_up = io::Error::from_raw_os_error(ETIMEDOUT);
        assert_eq!(given_up.kind(), ErrorKind::TimedOut);
        assert!(matches!(connection.failed(given_up), ClientError::Lost(..)));
    }
}
