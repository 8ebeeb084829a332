//! The client: [`Client`] for programs, and the commands of `st client` on top of it.
//!
//! A request gets one of four answers, and callers must be able to tell them apart: yes, no, refused,
//! and nobody knows. The last is what TCP makes of a connection lost after the request was sent: it may
//! have been carried out, so it is never sent again behind the caller's back. Only connecting is tried
//! again, and what the server answered with `busy`, which says that it did nothing.
//!
//! Deliberately absent: threads (but for one that looks up a name, so that it can be left behind), a pool of connections, and caching.

mod connection;
mod error;
mod list;
mod reply;
mod watch;

use std::iter::successors;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use error::{ClientError, ReplyProblem};
pub use reply::Answer;
pub use watch::{Event, Watch};

use crate::json::{JsonText, Value};
use crate::protocol::Address;
use crate::protocol::Token;
use crate::protocol::{Code, Condition, Request, Scope};
pub(crate) use connection::Connection;
use connection::connect;
pub(crate) use list::{List, entry};

/// After these the server closes, or may: the next request must not meet that.
const CLOSING: [Code; 5] = [Code::Busy, Code::TooLarge, Code::Timeout, Code::Denied, Code::BadJson];
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How patient a client is, and what it shows the server first.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The most time that connecting may take, all tries together, and then the server for each 64 KiB
    /// of a request and its reply.
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
    pub(crate) address: Address,
    pub(crate) options: ClientOptions,
    /// Taken out while it is in use, and put back only where the next reply is the next request's.
    pub(crate) connection: Option<Connection>,
}

impl Client {
    /// Connects to a server, with the default options. Addresses are as [`Address::parse`] takes them.
    pub fn connect(address: &str) -> Result<Client, ClientError> {
        Client::connect_with(address, ClientOptions::default())
    }

    /// Connects to a server.
    pub fn connect_with(address: &str, options: ClientOptions) -> Result<Client, ClientError> {
        let address = Address::parse(address).map_err(ClientError::Address)?;
        let mut client = Client { address, options, connection: None };
        let (connection, ()) = client.begin(b"", |_| Ok(()))?;
        client.connection = Some(connection);
        Ok(client)
    }

    /// The value of a key, if it has one.
    pub fn get(&mut self, key: &str) -> Result<Option<Value>, ClientError> {
        let reply = self.ask(&Request::Get { key: key.into() })?;
        Ok(reply.found().map(|value| value.to_value()))
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
        self.write(key, value.into(), Some(Condition::Equals(JsonText::from(present.into()))))
    }

    fn write(
        &mut self,
        key: &str,
        value: Value,
        condition: Option<Condition<'_>>,
    ) -> Result<bool, ClientError> {
        let request = Request::Update { key: key.into(), value: JsonText::from(value), condition };
        match self.ask(&request) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(Code::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a key; what its value was, if it had one.
    pub fn delete(&mut self, key: &str) -> Result<Option<Value>, ClientError> {
        let reply = self.ask(&Request::Delete { key: key.into(), condition: None })?;
        Ok(reply.found().map(|value| value.to_value()))
    }

    /// Adds to a number, and gives the sum. A missing key counts as 0, a string that is an integer as that.
    pub fn increment(&mut self, key: &str, by: i128) -> Result<i128, ClientError> {
        self.integer(&Request::Increment { key: key.into(), by })
    }

    /// How many keys begin so.
    pub fn count(&mut self, prefix: &str) -> Result<u64, ClientError> {
        self.integer(&Request::Count { prefix: prefix.into() })
    }

    /// The keys that begin so, sorted.
    pub fn keys(&mut self, prefix: &str) -> Result<Vec<String>, ClientError> {
        self.collect(prefix, true, |key, _| key)
    }

    /// The keys that begin so and their values, sorted by key.
    pub fn getall(&mut self, prefix: &str) -> Result<Vec<(String, Value)>, ClientError> {
        self.collect(prefix, false, |key, value| (key, value.to_value()))
    }

    /// Runs an action: its value, or [`ClientError::Refused`] with what it said went wrong.
    pub fn call(&mut self, name: &str, data: impl Into<Option<Value>>) -> Result<Value, ClientError> {
        let data = data.into().map(JsonText::from);
        Ok(self.value(&Request::Call { name: name.into(), data })?.to_value())
    }

    /// Follows a key, or by [`Scope::Prefix`] many: the present state first, then each change.
    pub fn watch<'s>(mut self, scope: impl Into<Scope<'s>>) -> Result<Watch, ClientError> {
        self.follow(scope.into())
    }

    /// Says goodbye, and waits until the server has said it too: all that was asked is done by then.
    pub fn close(mut self) -> Result<(), ClientError> {
        if self.connection.is_some() { self.ask(&Request::Close).map(drop) } else { Ok(()) }
    }

    /// Sends any request but WATCH, and gives its reply.
    pub fn ask(&mut self, request: &Request<'_>) -> Result<Answer, ClientError> {
        let read = |connection: &mut Connection| {
            let reply = connection.reply()?;
            if reply.answers(request) { Ok(reply) } else { Err(connection.bad(ReplyProblem::Unrelated)) }
        };
        let (connection, reply) = self.begin(&bytes(request), read)?;
        self.connection = Some(connection);
        Ok(reply)
    }

    pub(crate) fn value(&mut self, request: &Request<'_>) -> Result<JsonText<'static>, ClientError> {
        Ok(self.ask(request)?.value)
    }

    fn integer<N: TryFrom<i128>>(&mut self, request: &Request<'_>) -> Result<N, ClientError> {
        let integer = self.value(request)?.as_i128().and_then(|integer| integer.try_into().ok());
        integer.ok_or_else(|| self.bad("an integer"))
    }

    pub(crate) fn bad(&self, lacks: &'static str) -> ClientError {
        ClientError::BadReply(self.address.to_string(), ReplyProblem::Lacks(lacks))
    }

    /// Lets go of a connection that the server has closed since it was last used.
    pub(crate) fn drop_stale(&mut self) {
        self.connection.take_if(|connection| connection.is_stale());
    }

    pub(crate) fn follow(&mut self, scope: Scope<'_>) -> Result<Watch, ClientError> {
        let scope = scope.into_owned();
        let request = bytes(&Request::Watch { scope: scope.clone() });
        let (connection, first) = self.begin(&request, |connection| Event::read(connection, &scope))?;
        connection.keep_alive();
        Ok(Watch { connection: Some(connection), scope, first: Some(first), ready: false })
    }

    pub(crate) fn list(&mut self, prefix: &str, keys_only: bool) -> Result<List, ClientError> {
        let scope = Scope::Prefix(prefix.to_owned().into());
        let prefix = prefix.into();
        let (request, before) = match keys_only {
            true => (Request::Keys { prefix }, "{\"value\":["),
            false => (Request::GetAll { prefix }, "["),
        };
        let (connection, ()) = self.begin(&bytes(&request), |connection| connection.expect(before))?;
        Ok(List { connection, scope, keys_only, closed: false })
    }

    fn collect<T>(
        &mut self,
        prefix: &str,
        keys_only: bool,
        each: fn(String, JsonText<'_>) -> T,
    ) -> Result<Vec<T>, ClientError> {
        let (mut list, mut all) = (self.list(prefix, keys_only)?, Vec::new());
        while let Some((key, value)) = list.next()? {
            all.push(each(key.as_string().unwrap_or_default().into_owned(), value));
        }
        self.connection = Some(list.connection);
        Ok(all)
    }

    /// Sends requests, and has `read` read the first reply, or as much of it as the caller wants to know.
    /// What cannot have been carried out is tried again: connecting, and what was answered with `busy`,
    /// which says that the connection never got as far as a request. All tries together take no longer
    /// than the timeout.
    pub(crate) fn begin<T>(
        &mut self,
        requests: &[u8],
        read: impl Fn(&mut Connection) -> Result<T, ClientError>,
    ) -> Result<(Connection, T), ClientError> {
        let (started, timeout) = (Instant::now(), self.options.timeout);
        let mut pauses = pauses(self.options.retry);
        loop {
            let error = match self.try_begin(requests, &read, timeout.saturating_sub(started.elapsed())) {
                Ok(begun) => return Ok(begun),
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) if error.came_to_nothing() && started.elapsed() + pause < timeout => sleep(pause),
                _ => return Err(error),
            }
        }
    }

    fn try_begin<T>(
        &mut self,
        requests: &[u8],
        read: impl Fn(&mut Connection) -> Result<T, ClientError>,
        connecting: Duration,
    ) -> Result<(Connection, T), ClientError> {
        let (mut connection, token) = match self.connection.take() {
            Some(connection) => (connection, None),
            None => (connect(&self.address, connecting)?, self.options.token.as_ref()),
        };
        connection.be_patient(self.options.timeout);
        let auth = token.map(|token| bytes(&Request::Auth { token: token.as_str().into() }));
        // Together, so that it costs neither a second write nor a wait.
        let sent = connection.send(&[auth.as_deref().unwrap_or_default(), requests].concat());
        let known = if auth.is_some() { connection.reply().map(drop) } else { Ok(()) };
        match (sent, known.and_then(|()| read(&mut connection))) {
            // A server that refuses what it has not read to its end closes, and our sending fails: then
            // its reply says more than that failure.
            (Err(sent), Err(read)) if read.refusal().is_none() => Err(sent),
            (_, Ok(first)) => Ok((connection, first)),
            (_, Err(error)) => {
                // A refusal may be AUTH's, and then the request's own reply is still to come.
                if auth.is_none() && error.code().is_some_and(|code| !CLOSING.contains(&code)) {
                    self.connection = Some(connection);
                }
                Err(error)
            }
        }
    }
}

/// How long to wait before each of so many more tries: growing, so that a server that is starting is met
/// soon, and one that struggles is left alone.
pub(crate) fn pauses(retry: u32) -> impl Iterator<Item = Duration> {
    let longer = |pause: &Duration| Some((*pause * 2).min(PAUSE_MAX));
    successors(Some(PAUSE_FIRST), longer).take(retry as usize)
}

fn bytes(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.write_to(&mut bytes);
    bytes
}
