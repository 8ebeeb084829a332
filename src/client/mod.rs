//! The client: [`Client`] for programs, and the commands of `st client` on top of it.
//!
//! A request gets one of four answers, and callers must be able to tell them apart: yes, no, refused,
//! and nobody knows. The last is what TCP makes of a connection lost after the request was sent: it may
//! have been carried out, so it is never sent again behind the caller's back. Only connecting is tried
//! again, and what the server answered with `busy`, which says that it did nothing.
//!
//! Deliberately absent: threads, a pool of connections, and caching.

mod connection;
mod error;
mod input;
mod list;
mod listing;
mod pipeline;
mod reply;
mod run;
mod session;
mod trouble;
mod watch;

use std::borrow::Cow;
use std::io::ErrorKind;
use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

pub use error::{ClientError, ReplyProblem};
pub use reply::{Refusal, Reply};
pub use run::{Io, run};
pub use watch::{Event, Watch};

use crate::address::Address;
use crate::json::{Text, Value};
use crate::protocol::{Code, Condition, Request, Scope};
use crate::token::Token;
use connection::{Connection, Patience, connect, pauses};
use list::List;

/// How patient a client is, and what it shows the server first.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The most time that connecting may take, all tries together, and the most that a request may.
    pub timeout: Duration,
    /// How many times connecting is tried again within that time.
    pub retry: u32,
    /// The server's token, if it wants one.
    pub token: Option<Token>,
}

impl Default for ClientOptions {
    /// 5 seconds, 3 times, no token.
    fn default() -> ClientOptions {
        ClientOptions { timeout: Duration::from_secs(5), retry: 3, token: None }
    }
}

/// A connection to a server, made anew where it was lost.
///
/// ```
/// # let server = socket_tables::server::Server::bind("127.0.0.1:0").unwrap();
/// # let address = server.local_addr().to_string();
/// # std::thread::spawn(|| server.run());
/// use socket_tables::client::{Client, ClientError, ClientOptions};
/// use socket_tables::json::Value;
/// use std::time::Duration;
///
/// let options = ClientOptions { timeout: Duration::from_secs(2), retry: 5, token: None };
/// let mut client = Client::connect_with(&address, options)?;
/// client.update("door", "open")?;
/// let colour = client.get("colour")?.unwrap_or(Value::from("red"));
/// assert_eq!((client.get("door")?, colour), (Some(Value::from("open")), Value::from("red")));
/// let refused = client.call("FROBNICATE", None).unwrap_err();
/// assert_eq!(refused.refusal().map(|said| said.code.as_str()), Some("unknown_request"));
/// # Ok::<(), ClientError>(())
/// ```
#[derive(Debug)]
pub struct Client {
    address: Address,
    options: ClientOptions,
    connection: Option<Connection>,
}

impl Client {
    /// Connects to a server, with the default options. Addresses are as [`Address::parse`] takes them.
    pub fn connect(address: &str) -> Result<Client, ClientError> {
        Client::connect_with(address, ClientOptions::default())
    }

    /// Connects to a server.
    pub fn connect_with(address: &str, options: ClientOptions) -> Result<Client, ClientError> {
        let mut client = Client::new(Address::parse(address).map_err(ClientError::Address)?, options);
        client.connection = Some(connect(&client.address, &client.options)?);
        Ok(client)
    }

    /// A client that connects when it has something to ask.
    fn new(address: Address, options: ClientOptions) -> Client {
        Client { address, options, connection: None }
    }

    /// The value of a key, if it has one.
    pub fn get(&mut self, key: &str) -> Result<Option<Value>, ClientError> {
        self.ask(&Request::Get { key: key.into() })?.found(&self.address)
    }

    /// Whether a key has a value.
    pub fn exists(&mut self, key: &str) -> Result<bool, ClientError> {
        Ok(!self.ask(&Request::Get { key: key.into() })?.missing)
    }

    /// Sets a value.
    pub fn update(&mut self, key: &str, value: impl Into<Value>) -> Result<(), ClientError> {
        self.write(key, value.into(), None).map(drop)
    }

    /// Sets a value if there is none yet; false where there is.
    pub fn add(&mut self, key: &str, value: impl Into<Value>) -> Result<bool, ClientError> {
        self.write(key, value.into(), Some(Condition::Absent))
    }

    /// Sets a value if the present one equals `present`; false where it does not.
    pub fn replace(
        &mut self,
        key: &str,
        present: impl Into<Value>,
        value: impl Into<Value>,
    ) -> Result<bool, ClientError> {
        self.write(key, value.into(), Some(Condition::Equals(Text::from(present.into()))))
    }

    fn write(
        &mut self,
        key: &str,
        value: Value,
        condition: Option<Condition<'_>>,
    ) -> Result<bool, ClientError> {
        let request = Request::Update { key: key.into(), value: Text::from(value), condition };
        match self.ask(&request) {
            Ok(_) => Ok(true),
            Err(error) if error.has_code(Code::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a key; what its value was, if it had one.
    pub fn delete(&mut self, key: &str) -> Result<Option<Value>, ClientError> {
        self.ask(&Request::Delete { key: key.into(), condition: None })?.found(&self.address)
    }

    /// Adds to a number, and gives the sum. A missing key counts as 0.
    pub fn increment(&mut self, key: &str, by: i128) -> Result<i128, ClientError> {
        self.integer(&Request::Increment { key: key.into(), by })
    }

    /// How many keys begin so.
    pub fn count(&mut self, prefix: &str) -> Result<u64, ClientError> {
        self.integer(&Request::Count { prefix: prefix.into() })
    }

    /// The keys that begin so, sorted.
    pub fn keys(&mut self, prefix: &str) -> Result<Vec<String>, ClientError> {
        let value = self.value(&Request::Keys { prefix: prefix.into() })?.to_value();
        Ok(value.as_array().into_iter().flatten().filter_map(|key| key.as_str()).map(str::to_owned).collect())
    }

    /// The keys that begin so and their values, sorted by key.
    pub fn getall(&mut self, prefix: &str) -> Result<Vec<(String, Value)>, ClientError> {
        let value = self.value(&Request::GetAll { prefix: prefix.into() })?.to_value();
        let pair =
            |entry: &Value| Some((entry.get("key")?.as_str()?.to_owned(), entry.get("value")?.clone()));
        Ok(value.as_array().into_iter().flatten().filter_map(pair).collect())
    }

    /// Runs an action: its value, or [`ClientError::Refused`] with what it said went wrong.
    pub fn call(&mut self, name: &str, data: impl Into<Option<Value>>) -> Result<Value, ClientError> {
        let data = data.into().map(Text::from);
        Ok(self.value(&Request::Call { name: name.into(), data })?.to_value())
    }

    /// Follows a key: its present value first, then each change.
    pub fn watch(self, key: &str) -> Result<Watch, ClientError> {
        Watch::new(self, Scope::Key(Cow::Borrowed(key)))
    }

    /// Follows every key that begins so: the present values first, then each change.
    pub fn watch_prefix(self, prefix: &str) -> Result<Watch, ClientError> {
        Watch::new(self, Scope::Prefix(Cow::Borrowed(prefix)))
    }

    /// Says goodbye, and waits until the server has said it too: all that was asked is done by then.
    pub fn close(mut self) -> Result<(), ClientError> {
        if self.connection.is_some() { self.ask(&Request::Close).map(drop) } else { Ok(()) }
    }

    /// Sends any request but WATCH, and gives its reply.
    pub fn ask(&mut self, request: &Request<'_>) -> Result<Reply, ClientError> {
        self.begin(request)?;
        let reply = self.reply();
        // After these the server closes, or may: the next request must not meet that.
        let closing = [Code::Busy, Code::TooLarge, Code::Timeout, Code::Denied, Code::BadJson];
        if reply.as_ref().is_err_and(|error| closing.iter().any(|code| error.has_code(*code))) {
            self.connection = None;
        }
        reply
    }

    fn value(&mut self, request: &Request<'_>) -> Result<Text<'static>, ClientError> {
        self.ask(request)?.value(&self.address)
    }

    fn integer<N: TryFrom<i128>>(&mut self, request: &Request<'_>) -> Result<N, ClientError> {
        let value = self.value(request)?.as_i128().and_then(|integer| integer.try_into().ok());
        value.ok_or_else(|| self.bad(ReplyProblem::Lacks("an integer")))
    }

    /// Sends a request, and waits for its reply to begin.
    fn begin(&mut self, request: &Request<'_>) -> Result<(), ClientError> {
        let mut output = Vec::new();
        request.write_to(&mut output);
        self.begin_all(&output)
    }

    /// Sends requests, and waits for the first reply to begin. They are sent again after `busy`, the
    /// refusal that says that the connection never got as far as a request.
    fn begin_all(&mut self, requests: &[u8]) -> Result<(), ClientError> {
        let mut pauses = pauses(self.options.retry);
        loop {
            let begun = self.try_begin(requests);
            if begun.is_err() {
                self.connection = None;
            }
            match begun {
                Err(error) if error.has_code(Code::Busy) => sleep(pauses.next().ok_or(error)?),
                begun => return begun,
            }
        }
    }

    fn try_begin(&mut self, requests: &[u8]) -> Result<(), ClientError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.address, &self.options)?),
        };
        let fresh = std::mem::take(&mut connection.fresh);
        let token = self.options.token.as_ref().map(Token::as_str).filter(|_| fresh);
        connection.be_patient(Patience::Whole(self.options.timeout));
        let sent = match token {
            None => connection.send(requests),
            Some(token) => {
                let mut output = Vec::with_capacity(requests.len() + token.len() + 64);
                Request::Auth { token: token.into() }.write_to(&mut output);
                output.extend_from_slice(requests);
                connection.send(&output)
            }
        };
        let begun = match token {
            None => await_reply(connection),
            Some(_) => read_reply(connection).and_then(|_| await_reply(connection)),
        };
        // A server that refuses what it has not read to its end closes, and our sending fails: then its
        // reply says more than that failure.
        match (sent, begun) {
            (Err(sent), Err(begun)) if begun.refusal().is_none() => Err(sent),
            (_, begun) => begun,
        }
    }

    /// The next reply to what was sent.
    fn reply(&mut self) -> Result<Reply, ClientError> {
        let Some(connection) = &mut self.connection else { return Err(self.no_connection()) };
        let reply = read_reply(connection);
        if reply.as_ref().is_err_and(|error| error.refusal().is_none()) {
            // A late reply must never pass for the next request's.
            self.connection = None;
        }
        reply
    }

    /// The next reply to what was sent, as it stands on the wire, for `read` to understand.
    fn reply_text<T>(
        &mut self,
        read: impl FnOnce(&str) -> Result<T, ReplyProblem>,
    ) -> Result<T, ClientError> {
        let Some(connection) = &mut self.connection else { return Err(self.no_connection()) };
        let line = connection.line()?;
        read(connection.text(line)?).map_err(|problem| connection.bad(problem))
    }

    /// Sends a request whose reply is a list, which begins after the text `before`. The list takes the
    /// connection with it: what is left of one that is not read to its end must not pass for a reply.
    fn list(&mut self, request: &Request<'_>, before: &'static str) -> Result<List, ClientError> {
        self.begin(request)?;
        let mut connection = self.connection.take().ok_or_else(|| self.no_connection())?;
        connection.be_patient(Patience::Piece(self.options.timeout));
        if connection.begins_with(REFUSED)? {
            read_reply(&mut connection)?;
        }
        List::new(connection, before)
    }

    /// Forgets a connection that the server has closed meanwhile.
    fn refresh(&mut self) {
        self.connection.take_if(|connection| connection.is_stale());
    }

    fn bad(&self, problem: ReplyProblem) -> ClientError {
        ClientError::BadReply(self.address.to_string(), problem)
    }

    fn no_connection(&self) -> ClientError {
        ClientError::Lost(self.address.to_string(), ErrorKind::NotConnected.into())
    }
}

/// How a reply begins that refuses without regard to a key, as all do that mean the connection.
const REFUSED: &[u8] = b"{\"error\":";

/// Waits until a reply begins; where it is `busy`, that is the error. Any other is left to be read.
fn await_reply(connection: &mut Connection) -> Result<(), ClientError> {
    if !connection.begins_with(REFUSED)? {
        return Ok(());
    }
    let line = connection.line()?;
    match parse_reply(connection, line.clone()) {
        Err(error) if error.has_code(Code::Busy) => Err(error),
        _ => {
            connection.unread(line);
            Ok(())
        }
    }
}

fn read_reply(connection: &mut Connection) -> Result<Reply, ClientError> {
    let line = connection.line()?;
    parse_reply(connection, line)
}

fn parse_reply(connection: &Connection, line: Range<usize>) -> Result<Reply, ClientError> {
    match Reply::parse(connection.text(line)?) {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(refusal)) => Err(connection.refused(refusal)),
        Err(problem) => Err(connection.bad(problem)),
    }
}
