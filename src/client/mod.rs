//! The library's client: [`Client`] asks a server, and tells what came of it.
//!
//! A request gets one of four answers, and callers must be able to tell them apart: yes, no, refused,
//! and nobody knows. The last is what TCP makes of a connection lost after the request was sent: it may
//! have been carried out, so it is never sent again behind the caller's back. Only connecting is tried
//! again, and what the server answered with `busy`, which says that it did nothing.
//!
//! Most methods are one request and its reply, by way of [`Client::ask`]. Three are more than that:
//! [`Client::ask_all`] sends many requests before it reads the first reply, [`Client::list`] reads a reply that may be
//! larger than memory, and [`Client::watch`] never comes to an end by itself. Underneath, each of them is
//! `begin`: connect if there is no connection, send, read the first of what comes.
//!
//! The files, in reading order: `answer` (what comes back), `connection` (one socket and its times), `stream`
//! (lists and watches).
//!
//! Deliberately absent: threads (but for one that looks up a name, so that it can be left behind), a pool of
//! connections, caching, and whatever the command line needs: retries of a lost watch and messages are in `cli`.

mod answer;
mod connection;
mod stream;

use std::iter::{once, successors};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use answer::{Answer, ClientError, ReplyProblem, Result};
pub use connection::ReplyLine;
pub use stream::{Event, ListItem, ListOf, Watch};

use crate::json::{JsonText, Value};
use crate::protocol::{Address, Code, Condition, Request, Scope, Token, duration};
use connection::{Connection, connect};
use stream::{items, next_element, open_list};

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long a client waits, and what it shows the server first.
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
    address: Address,
    /// They may be changed between requests; a new token counts from the next connection.
    pub options: ClientOptions,
    connection: Option<Connection>,
}

impl Client {
    /// Connects to a server, with the default options. Addresses are as [`Address::parse`] takes them.
    pub fn connect(address: &str) -> Result<Client> {
        Client::connect_with(address, ClientOptions::default())
    }

    /// Connects to a server.
    pub fn connect_with(address: &str, options: ClientOptions) -> Result<Client> {
        let address = Address::parse(address).map_err(ClientError::Address)?;
        let mut client = Client::new(address, options);
        client.begin(b"", |_| Ok(()))?;
        Ok(client)
    }

    /// A client that connects when it is first asked something.
    pub fn new(address: Address, options: ClientOptions) -> Client {
        Client { address, options, connection: None }
    }

    /// The server's address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The value of a key, if it has one.
    pub fn get(&mut self, key: &str) -> Result<Option<Value>> {
        let answer = self.ask(&Request::Get { key: key.into() })?;
        Ok(answer.found().map(|value| value.to_value()))
    }

    /// Whether a key has a value.
    pub fn exists(&mut self, key: &str) -> Result<bool> {
        Ok(!self.ask(&Request::Get { key: key.into() })?.missing)
    }

    /// Sets a value.
    pub fn update(&mut self, key: &str, value: impl Into<Value>) -> Result<()> {
        self.write(key, value, None, None).map(drop)
    }

    /// Sets a value if there is none yet; false where there is.
    pub fn add(&mut self, key: &str, value: impl Into<Value>) -> Result<bool> {
        self.write(key, value, Some(Condition::Absent), None)
    }

    /// Sets a value if the present one equals `present`; false where it does not.
    pub fn replace(&mut self, key: &str, present: impl Into<Value>, value: impl Into<Value>) -> Result<bool> {
        self.write(key, value, Some(Condition::Equals(JsonText::from(present.into()))), None)
    }

    /// Sets a value if the condition holds, and tells whether it did. With `ttl` (a millisecond to a year) the server
    /// deletes the key when that is over, unless it was written again before.
    pub fn write(
        &mut self,
        key: &str,
        value: impl Into<Value>,
        condition: Option<Condition<'_>>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let value = JsonText::from(value.into());
        match self.ask(&Request::Update { key: key.into(), value, condition, ttl }) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(Code::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a key; what its value was, if it had one.
    pub fn delete(&mut self, key: &str) -> Result<Option<Value>> {
        let answer = self.ask(&Request::Delete { key: key.into(), condition: None })?;
        Ok(answer.found().map(|value| value.to_value()))
    }

    /// Takes a key out, or by [`Scope::Prefix`] the first one by order that begins so, and gives it with the value it had.
    /// Of many who take at once, each gets another entry.
    pub fn take<'s>(&mut self, scope: impl Into<Scope<'s>>) -> Result<Option<(String, Value)>> {
        let answer = self.ask(&Request::Take { scope: scope.into() })?;
        Ok(answer.key.filter(|_| !answer.missing).map(|key| (key, answer.value.to_value())))
    }

    /// How long a key has still to live: `None` where there is no such key, `Some(None)` where it is for ever.
    pub fn ttl(&mut self, key: &str) -> Result<Option<Option<Duration>>> {
        Ok(self.ask(&Request::Ttl { key: key.into() })?.found().map(|seconds| duration(&seconds)))
    }

    /// Adds to a number, and gives the sum. A missing key counts as 0, a string that is an integer as that.
    pub fn increment(&mut self, key: &str, by: i128) -> Result<i128> {
        self.integer(&Request::Increment { key: key.into(), by, ttl: None })
    }

    /// How many keys begin so.
    pub fn count(&mut self, prefix: &str) -> Result<u64> {
        self.integer(&Request::Count { prefix: prefix.into() })
    }

    /// The keys that begin so, sorted.
    pub fn keys(&mut self, prefix: &str) -> Result<Vec<String>> {
        self.list(prefix, ListOf::Keys)?.map(|item| Ok(item?.key)).collect()
    }

    /// The keys that begin so and their values, sorted by key.
    pub fn getall(&mut self, prefix: &str) -> Result<Vec<(String, Value)>> {
        let entries = self.list(prefix, ListOf::Entries)?;
        entries.map(|item| item.map(|ListItem { key, value, .. }| (key, value.to_value()))).collect()
    }

    /// The keys that begin so, sorted, each as soon as it arrives. However long the list is, one entry is held. It ends with the first error; a list that is dropped
    /// before its end costs the connection, and the next request makes a new one.
    pub fn list(&mut self, prefix: &str, of: ListOf) -> Result<impl Iterator<Item = Result<ListItem>>> {
        // The list of KEYS stands in an object, that of GETALL alone.
        let (request, before, after) = match of {
            ListOf::Keys => (Request::Keys { prefix: prefix.into() }, "{\"value\":", "}"),
            ListOf::Entries => (Request::GetAll { prefix: prefix.into() }, "", ""),
        };
        self.begin(&bytes(&request), |connection| open_list(connection, before))?;
        let scope = Scope::Prefix(prefix.into());
        let elements = items(self.connection.as_mut(), move |open| next_element(open, of, after, &scope));
        Ok(elements.filter_map(Result::transpose))
    }

    /// Runs an action: its value, or [`ClientError::Refused`] with what it said went wrong.
    pub fn call(&mut self, name: &str, data: impl Into<Option<Value>>) -> Result<Value> {
        let data = data.into().map(JsonText::from);
        Ok(self.ask(&Request::Call { name: name.into(), data })?.value.to_value())
    }

    /// Follows a key, or by [`Scope::Prefix`] many: the present state first, then each change. The watch has the
    /// connection for itself; the next request makes a new one.
    pub fn watch<'s>(&mut self, scope: impl Into<Scope<'s>>) -> Result<Watch> {
        let scope = scope.into().into_owned();
        let first = self.begin(&bytes(&Request::Watch { scope: scope.clone() }), |connection| {
            connection.keep_alive();
            Event::read(connection, &scope)
        })?;
        Ok(Watch { connection: self.connection.take(), scope, first: Some(first), ready: false })
    }

    /// Says goodbye, and waits until the server has said it too: all that was asked is done by then.
    pub fn close(mut self) -> Result<()> {
        match self.connection.as_ref().is_some_and(Connection::is_idle) {
            true => self.ask(&Request::Close).map(drop),
            false => Ok(()),
        }
    }

    /// Sends any request but WATCH, and gives its reply.
    pub fn ask(&mut self, request: &Request<'_>) -> Result<Answer> {
        let answer = self.begin(&bytes(request), |connection| connection.reply()?.1)?;
        if answer.answers(request) { Ok(answer) } else { Err(self.bad("it answers something else")) }
    }

    /// Sends many requests, which takes one round trip where asking them one by one takes many, and gives their
    /// replies in order. `requests` are as [`Request::write_to`] writes them, a line each.
    ///
    /// A refusal among the replies is no end; the first error of the connection is. Each reply has the timeout for
    /// itself, since the server carries one request out after another. The replies wait in the kernel's buffers until
    /// all is sent, so send some 32 KiB at a time: with a few MiB either side could come to wait for the other,
    /// until the server gives up.
    pub fn ask_all(&mut self, requests: &[u8]) -> Result<impl Iterator<Item = Result<ReplyLine>>> {
        let first = self.begin(requests, |connection| match connection.reply()? {
            (_, Err(error)) if error.came_to_nothing() => Err(error),
            reply => Ok(reply),
        })?;
        let timeout = self.options.timeout;
        let others = items(self.connection.as_mut(), move |open| {
            open.set_budget(timeout);
            open.reply()
        });
        Ok(once(Ok(first)).chain(others))
    }

    /// Lets go of a connection that the server has closed since it was last used. A request would only find out
    /// after it was sent, and end as [`ClientError::Lost`]: call this first after a long silence.
    pub fn drop_stale(&mut self) {
        self.connection.take_if(|connection| connection.is_readable_within(Duration::ZERO));
    }

    fn integer<N: TryFrom<i128>>(&mut self, request: &Request<'_>) -> Result<N> {
        let integer = self.ask(request)?.value.as_i128().and_then(|integer| integer.try_into().ok());
        integer.ok_or_else(|| self.bad("it lacks an integer"))
    }

    /// The reply makes no sense. Nobody knows what comes next on such a connection, so it is dropped.
    fn bad(&mut self, why: &'static str) -> ClientError {
        self.connection = None;
        ClientError::BadReply(self.address.to_string(), ReplyProblem::Mismatch(why))
    }

    /// Sends requests, a line each, and has `read` read the first reply, or as much of it as the caller wants to know.
    /// The rest can be read from the connection after that.
    ///
    /// What cannot have been carried out is tried again: connecting, and what was answered with `busy`. All tries
    /// together take no longer than the timeout.
    fn begin<T>(&mut self, requests: &[u8], read: impl Fn(&mut Connection) -> Result<T>) -> Result<T> {
        let (started, timeout) = (Instant::now(), self.options.timeout);
        let mut pauses = pauses(self.options.retry);
        loop {
            let begun = self.try_begin(requests, &read, timeout.saturating_sub(started.elapsed()));
            let came_to_nothing = begun.as_ref().is_err_and(ClientError::came_to_nothing);
            match pauses.next() {
                Some(pause) if came_to_nothing && started.elapsed() + pause < timeout => sleep(pause),
                _ => return begun,
            }
        }
    }

    fn try_begin<T>(
        &mut self,
        requests: &[u8],
        read: impl Fn(&mut Connection) -> Result<T>,
        connecting: Duration,
    ) -> Result<T> {
        let (mut connection, token) = match self.connection.take().filter(Connection::is_idle) {
            Some(connection) => (connection, None),
            None => (connect(&self.address, connecting)?, self.options.token.as_ref()),
        };
        connection.set_budget(self.options.timeout);
        // The token goes before the requests in one write, so that it costs neither a second one nor a wait.
        let auth = token.map(|token| bytes(&Request::Auth { token: token.as_str().into() }));
        connection.send(&[auth.as_deref().unwrap_or_default(), requests].concat());
        if auth.is_some() {
            // Where the token is refused, the reply to the request itself is still to come: nobody must get it.
            connection.reply()?.1?;
        }
        let first = read(&mut connection);
        // After a refusal the connection is as good as before.
        if first.is_ok() || connection.is_idle() {
            self.connection = Some(connection);
        }
        first
    }
}

/// How long to wait before each of so many more tries: growing, so that a server that is starting is met
/// soon, and one that struggles is left alone.
pub fn pauses(retry: u32) -> impl Iterator<Item = Duration> {
    let longer = |pause: &Duration| Some((*pause * 2).min(PAUSE_MAX));
    successors(Some(PAUSE_FIRST), longer).take(retry as usize)
}

fn bytes(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.write_to(&mut bytes);
    bytes
}
