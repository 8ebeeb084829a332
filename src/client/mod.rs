//! The library's client: [`Client`] asks a server, and tells what came of it.
//!
//! A request gets one of four answers, and callers must be able to tell them apart: yes, no, refused,
//! and nobody knows. The last is what TCP makes of a connection lost after the request was sent: it may
//! have been carried out, so it is never sent again behind the caller's back. Only connecting is tried
//! again, and what the server answered with `busy`, which says that it did nothing for that request.
//!
//! Most methods are one request and its reply, by way of [`Client::ask`], and stand in `requests`. Three are more than that:
//! [`Client::ask_all`] sends many requests before it reads the first reply, [`Client::list`] reads a reply that may be
//! larger than memory, and [`Client::watch`] never comes to an end by itself. Underneath, each of them is
//! `begin`: connect if there is no connection, send, read the first of what comes.
//!
//! The files, in reading order: `answer` (what comes back), `connection` (one socket and its times), `requests` (a method
//! each), `stream` (lists and watches).
//!
//! Deliberately absent: threads (but for one that looks up a name, so that it can be left behind), a pool of
//! connections, caching, and whatever the command line needs: retries of a lost watch and messages are in `cli`.

/// An example of a method, as its documentation shows it and `cargo test --doc` runs it. The lines given stand between
/// hidden ones that start a server and connect to it. The error's type is cut in two because the housekeeper
/// (`tests/it/tidy.rs`) takes it for code of this file, where that type has no place.
macro_rules! example {
    ($($line:literal)*) => {
        concat!(
            "```\n# let server = socket_tables::server::Server::bind(\"0\")?.start()?;\n",
            "# let mut client = socket_tables::client::Client::connect(server.address())?;\n",
            $($line, "\n",)*
            "# Ok::<(), Box<dyn std::error::", "Error>>(())\n```",
        )
    };
}

mod answer;
mod connection;
mod requests;
mod stream;

use std::fmt::{self, Display};
use std::iter::{once, successors};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use answer::{Answer, ClientError, ReplyProblem, Result};
pub use connection::ReplyLine;
pub use requests::Data;
pub use stream::{Event, ListItem, ListOf, Watch};

use crate::protocol::{Address, Request, Scope, Token};
use connection::{Connection, connect};
use stream::items;

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
/// use socket_tables::client::{Client, ClientOptions};
/// # use socket_tables::server::Server;
/// use std::time::Duration;
///
/// # let server = Server::bind("127.0.0.1:0")?.start()?;
/// let options = ClientOptions { timeout: Duration::from_secs(2), retry: 5, token: None };
/// let mut client = Client::connect_with(server.address(), options)?;
/// client.update("door", "open")?;
/// assert_eq!(client.get("door")?, Some("open".into()));
/// assert_eq!(client.get_or("colour", "red")?.as_str(), Some("red"));
/// let refused = client.call("FROBNICATE", ()).unwrap_err();
/// assert_eq!(refused.refusal().map(|said| said.code.as_str()), Some("unknown_request"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client {
    address: Address,
    /// They may be changed between requests; a new token counts from the next connection.
    pub options: ClientOptions,
    connection: Option<Connection>,
    hook: Option<Hook>,
}

/// What is told of each request and its reply.
struct Hook(Box<OnExchange>);

type OnExchange = dyn FnMut(&Request<'_>, &Result<Answer>) + Send;

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

impl Client {
    /// Connects to a server, with the default options. The address is `7777`, `box:80`, a service's name, a `SocketAddr`,
    /// or whatever else [`Address::parse`] reads.
    #[doc = example!("use socket_tables::client::Client;"
        "let client = Client::connect(server.address())?;"
        "assert!(Client::connect(\"no address\").is_err());")]
    pub fn connect(address: impl Display) -> Result<Client> {
        Client::connect_with(address, ClientOptions::default())
    }

    /// Connects to a server.
    pub fn connect_with(address: impl Display, options: ClientOptions) -> Result<Client> {
        let address = Address::parse(&address.to_string()).map_err(ClientError::Address)?;
        let mut client = Client::new(address, options);
        client.begin(b"", |_| Ok(()))?;
        Ok(client)
    }

    /// A client that connects when it is first asked something.
    ///
    /// ```
    /// use socket_tables::client::{Client, ClientOptions};
    /// use socket_tables::protocol::Address;
    ///
    /// let client = Client::new(Address::parse("box:7777")?, ClientOptions::default());
    /// # Ok::<(), socket_tables::protocol::AddressError>(())
    /// ```
    pub fn new(address: Address, options: ClientOptions) -> Client {
        Client { address, options, connection: None, hook: None }
    }

    /// The server's address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Follows a key, or by [`Scope::Prefix`] many: the present state first, then each change. The watch has a connection
    /// of its own, so the client goes on as it was.
    #[doc = example!("client.update(\"door\", \"open\")?;"
        "let mut watch = client.watch(\"door\")?;"
        "let first = watch.next().expect(\"an event\")?;"
        "assert_eq!(first, socket_tables::client::Event::Update(\"door\".into(), \"open\".into()));")]
    pub fn watch<'s>(&self, scope: impl Into<Scope<'s>>) -> Result<Watch> {
        Client::new(self.address.clone(), self.options.clone()).watch_here(scope)
    }

    /// As [`Client::watch`], by the connection that there is, so that it costs no second one; the next request makes a
    /// new one.
    #[doc = example!("client.update(\"door\", \"open\")?;" "let watch = client.watch_here(\"door\")?;")]
    pub fn watch_here<'s>(&mut self, scope: impl Into<Scope<'s>>) -> Result<Watch> {
        let scope = scope.into().into_owned();
        let first = self.begin(&bytes(&Request::Watch { scope: scope.clone() }), |connection| {
            connection.keep_alive();
            Event::read(connection, &scope)
        })?;
        Ok(Watch { connection: self.connection.take(), scope, first: Some(first), ready: false })
    }

    /// Has `hook` called with each request and what came of it, before the method that sent it returns: to log, to count,
    /// or to act on certain replies in one place. There is one hook; another takes its place. What has no single
    /// reply is not told: lists, watches, and what [`Client::ask_all`] sends.
    #[doc = example!("let (told, replies) = std::sync::mpsc::channel();"
        "client.on_exchange(move |sent, reply| {"
        "    if let Ok(answer) = reply { told.send(format!(\"{}: {}\", sent.name(), answer.value)).expect(\"a receiver\"); }"
        "});"
        "client.call(\"ECHO\", \"hi\")?;"
        "assert_eq!(replies.recv()?, \"ECHO: \\\"hi\\\"\");")]
    pub fn on_exchange(&mut self, hook: impl FnMut(&Request<'_>, &Result<Answer>) + Send + 'static) {
        self.hook = Some(Hook(Box::new(hook)));
    }

    /// Says goodbye, and waits until the server has said it too: all that was asked is done by then.
    #[doc = example!("client.update(\"door\", \"shut\")?;" "client.close()?;")]
    pub fn close(mut self) -> Result<()> {
        match self.connection.as_ref().is_some_and(Connection::is_idle) {
            true => self.ask(&Request::Close).map(drop),
            false => Ok(()),
        }
    }

    /// Sends any request but WATCH, and gives its reply.
    #[doc = example!("use socket_tables::protocol::Request;"
        "assert!(client.ask(&Request::Get { key: \"door\".into() })?.missing);")]
    pub fn ask(&mut self, request: &Request<'_>) -> Result<Answer> {
        let reply = match self.begin(&bytes(request), |connection| connection.reply()?.1) {
            Ok(answer) if !answer.answers(request) => Err(self.bad("it answers something else")),
            reply => reply,
        };
        if let Some(Hook(hook)) = &mut self.hook {
            hook(request, &reply);
        }
        reply
    }

    /// Sends many requests, which takes one round trip where asking them one by one takes many, and gives their
    /// replies in order. `requests` are as [`Request::write_to`] writes them, a line each.
    ///
    /// A refusal among the replies is no end; the first error of the connection is. Each reply has the timeout for
    /// itself, since the server carries one request out after another. The replies wait in the kernel's buffers until
    /// all is sent, so send some 32 KiB at a time: with a few MiB either side could come to wait for the other,
    /// until the server gives up.
    #[doc = example!("let requests = br#\"{\"request\":\"INCREMENT\",\"key\":\"n\"}\"#;"
        "let requests = [&requests[..], b\"\\n\", requests, b\"\\n\"].concat();"
        "let (line, second) = client.ask_all(&requests)?.last().expect(\"two replies\")?;"
        "assert_eq!(second?.value.as_i128(), Some(2));")]
    pub fn ask_all(&mut self, requests: &[u8]) -> Result<impl Iterator<Item = Result<ReplyLine>>> {
        let first = self.begin(requests, |connection| match connection.reply()? {
            // An action that found no slot is busy, too, and what was sent behind it is carried out all the same. Only a
            // server that closes after this word has looked at nothing.
            (_, Err(error)) if error.came_to_nothing() && connection.is_last() => Err(error),
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
    #[doc = example!("client.drop_stale();" "client.get(\"door\")?;")]
    pub fn drop_stale(&mut self) {
        self.connection.take_if(|connection| connection.is_readable_within(Duration::ZERO));
    }

    /// The reply makes no sense. Nobody knows what comes next on such a connection, so it is dropped.
    fn bad(&mut self, why: &'static str) -> ClientError {
        self.connection = None;
        ClientError::BadReply(self.address.to_string(), ReplyProblem::Mismatch(why))
    }

    /// Sends requests, a line each, and has `read` read the first reply, or as much of it as the caller wants to know.
    /// The rest can be read from the connection after that.
    ///
    /// What cannot have been carried out is tried again: connecting, and what was answered with `busy`. No try begins
    /// later than the timeout.
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
