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
use connection::{Connection, connect, pauses};
use list::List;

/// After these the server closes, or may: the next request must not meet that.
const CLOSING: [Code; 4] = [Code::TooLarge, Code::Timeout, Code::Denied, Code::BadJson];

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
    /// Taken out while it is in use, and put back only where the next reply is the next request's.
    connection: Option<Connection>,
}

impl Client {
    /// Connects to a server, with the default options. Addresses are as [`Address::parse`] takes them.
    pub fn connect(address: &str) -> Result<Client, ClientError> {
        Client::connect_with(address, ClientOptions::default())
    }

    /// Connects to a server.
    pub fn connect_with(address: &str, options: ClientOptions) -> Result<Client, ClientError> {
        let address = Address::parse(address).map_err(ClientError::Address)?;
        let connection = Some(connect(&address, &options)?);
        Ok(Client { address, options, connection })
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
            Err(error) if error.code() == Some(Code::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a key; what its value was, if it had one.
    pub fn delete(&mut self, key: &str) -> Result<Option<Value>, ClientError> {
        let reply = self.ask(&Request::Delete { key: key.into(), condition: None })?;
        Ok(reply.found().map(|value| value.to_value()))
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
    pub fn watch(mut self, key: &str) -> Result<Watch, ClientError> {
        self.follow(Scope::Key(key.into()))
    }

    /// Follows every key that begins so: the present values first, then each change.
    pub fn watch_prefix(mut self, prefix: &str) -> Result<Watch, ClientError> {
        self.follow(Scope::Prefix(prefix.into()))
    }

    /// Says goodbye, and waits until the server has said it too: all that was asked is done by then.
    pub fn close(mut self) -> Result<(), ClientError> {
        if self.connection.is_some() { self.ask(&Request::Close).map(drop) } else { Ok(()) }
    }

    /// Sends any request but WATCH, and gives its reply.
    pub fn ask(&mut self, request: &Request<'_>) -> Result<Reply, ClientError> {
        let (connection, reply) = self.begin(&bytes(request), Connection::reply)?;
        self.connection = Some(connection);
        Ok(reply)
    }

    fn value(&mut self, request: &Request<'_>) -> Result<Text<'static>, ClientError> {
        Ok(self.ask(request)?.value)
    }

    fn integer<N: TryFrom<i128>>(&mut self, request: &Request<'_>) -> Result<N, ClientError> {
        let integer = self.value(request)?.as_i128().and_then(|integer| integer.try_into().ok());
        let bad = || ClientError::BadReply(self.address.to_string(), ReplyProblem::Lacks("an integer"));
        integer.ok_or_else(bad)
    }

    fn follow(&mut self, scope: Scope<'_>) -> Result<Watch, ClientError> {
        let (connection, first) = self.begin(&bytes(&Request::Watch { scope }), Event::read)?;
        Ok(Watch { connection: Some(connection), first: Some(first) })
    }

    /// Sends a request whose reply is a list, which begins after the text `before`.
    fn list(&mut self, request: &Request<'_>, before: &'static str) -> Result<List, ClientError> {
        let (connection, ()) = self.begin(&bytes(request), |connection| connection.expect(before))?;
        Ok(List { connection, first: true, closed: false })
    }

    /// Sends requests, and has `read` read the first reply, or as much of it as the caller wants to know.
    /// Both are done again after `busy`, the refusal that says that the connection never got as far as a
    /// request.
    fn begin<T>(
        &mut self,
        requests: &[u8],
        read: impl Fn(&mut Connection) -> Result<T, ClientError>,
    ) -> Result<(Connection, T), ClientError> {
        let mut pauses = pauses(self.options.retry);
        loop {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => connect(&self.address, &self.options)?,
            };
            connection.be_patient(Some(self.options.timeout));
            let begun = match self.options.token.as_ref().filter(|_| connection.fresh) {
                None => send(&mut connection, requests, &read),
                Some(token) => {
                    let auth = bytes(&Request::Auth { token: token.as_str().into() });
                    let both = [&auth, requests].concat();
                    send(&mut connection, &both, |connection| {
                        connection.reply().and_then(|_| read(connection))
                    })
                }
            };
            connection.fresh = false;
            let error = match begun {
                Ok(first) => return Ok((connection, first)),
                Err(error) => error,
            };
            match error.code() {
                Some(Code::Busy) => sleep(pauses.next().ok_or(error)?),
                Some(code) if !CLOSING.contains(&code) => {
                    self.connection = Some(connection);
                    return Err(error);
                }
                _ => return Err(error),
            }
        }
    }
}

fn bytes(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.write_to(&mut bytes);
    bytes
}

/// A server that refuses what it has not read to its end closes, and our sending fails: then its reply
/// says more than that failure.
fn send<T>(
    connection: &mut Connection,
    requests: &[u8],
    read: impl Fn(&mut Connection) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    match (connection.send(requests), read(connection)) {
        (Err(sent), Err(read)) if read.refusal().is_none() => Err(sent),
        (_, read) => read,
    }
}
