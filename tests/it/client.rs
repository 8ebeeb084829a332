//! The library's client against the library's server, in this process.

use std::thread;
use std::time::Duration;

use socket_tables::client::{Client, ClientError, ClientOptions, Event};
use socket_tables::json::Value;
use socket_tables::protocol::{Code, Scope};
use socket_tables::server::{Server, ShutdownHandle};

use crate::process::eventually;
use crate::support::own_address;

/// A server in this process, shut down and joined when dropped.
struct Running {
    addr: String,
    stop: ShutdownHandle,
    thread: Option<thread::JoinHandle<std::io::Result<()>>>,
}

fn start() -> Running {
    let server = Server::bind(own_address()).unwrap();
    let (addr, stop) = (server.address().to_string(), server.shutdown_handle());
    Running { addr, stop, thread: Some(thread::spawn(move || server.run())) }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.shutdown();
        let ended = self.thread.take().unwrap().join();
        assert!(thread::panicking() || ended.unwrap().is_ok());
    }
}

#[test]
fn every_method_does_what_it_says() {
    let server = start();
    let mut client = Client::connect(&server.addr).unwrap();
    assert_eq!(client.get("a").unwrap(), None);
    client.update("a", "x").unwrap();
    assert_eq!(client.get("a").unwrap(), Some(Value::from("x")));
    assert!(!client.add("a", "y").unwrap() && client.add("b", 2).unwrap());
    assert!(!client.replace("a", "z", "y").unwrap() && client.replace("a", "x", Value::Null).unwrap());
    assert_eq!(client.get("a").unwrap(), Some(Value::Null), "null is a value, not its absence");
    assert!(client.exists("a").unwrap() && !client.exists("c").unwrap());
    assert_eq!(client.increment("n", i128::from(i64::MAX)).unwrap(), i128::from(i64::MAX));
    assert_eq!(client.increment("n", 1).unwrap(), i128::from(i64::MAX) + 1);
    assert_eq!(client.keys("").unwrap(), ["a", "b", "n"]);
    assert_eq!(client.getall("b").unwrap(), [("b".to_owned(), Value::from(2))]);
    assert_eq!((client.count("").unwrap(), client.count("zz").unwrap()), (3, 0));
    assert_eq!(client.delete("b").unwrap(), Some(Value::from(2)));
    assert_eq!(client.delete("b").unwrap(), None);
    assert_eq!(client.call("ECHO", Value::from("hi")).unwrap(), Value::from("hi"));
    assert!(client.call("HELLO", ()).unwrap().as_str().unwrap().starts_with("Hello from "));
    client.close().unwrap();
}

#[test]
fn a_refusal_is_told_as_the_server_said_it_and_the_connection_goes_on() {
    let server = start();
    let mut client = Client::connect(&server.addr).unwrap();
    client.update("a", "x").unwrap();
    let error = client.increment("a", 1).unwrap_err();
    assert_eq!(error.refusal().unwrap().code, Code::NotANumber);
    assert!(error.to_string().starts_with(&format!("{}: not_a_number: ", server.addr)), "{error}");
    assert_eq!(client.call("NOPE", ()).unwrap_err().refusal().unwrap().code, Code::UnknownRequest);
    // What is too large for the server closes the connection; the next request has a new one.
    let large = "x".repeat(2 << 20);
    assert_eq!(client.update("a", large).unwrap_err().refusal().unwrap().code, Code::TooLarge);
    assert_eq!(client.get("a").unwrap(), Some(Value::from("x")));
}

#[test]
fn a_watch_tells_the_state_then_every_change() {
    let server = start();
    let mut client = Client::connect(&server.addr).unwrap();
    client.update("k1", 1).unwrap();
    client.update("other", 0).unwrap();
    let mut watch =
        Client::connect(&server.addr).unwrap().watch(Scope::Prefix("k".into())).unwrap().map(Result::unwrap);
    assert_eq!(watch.next().unwrap(), Event::Update("k1".into(), Value::from(1)));
    assert_eq!(watch.next().unwrap(), Event::Ready);
    client.update("k2", "new").unwrap();
    client.update("other", 1).unwrap();
    client.delete("k1").unwrap();
    assert_eq!(watch.next().unwrap(), Event::Update("k2".into(), Value::from("new")));
    assert_eq!(watch.next().unwrap(), Event::Delete("k1".into(), Value::from(1)));
    let mut one = Client::connect(&server.addr).unwrap().watch("missing").unwrap();
    assert_eq!(one.next().unwrap().unwrap(), Event::Ready);
    // The server's end ends it, with the reason.
    drop(server);
    assert!(matches!(one.next(), Some(Err(ClientError::WatchLost(..)))) && one.next().is_none());
}

#[test]
fn options_are_kept_to() {
    let server = start();
    let options = ClientOptions { timeout: Duration::from_millis(300), retry: 0, token: None };
    let mut client = Client::connect_with(&server.addr, options.clone()).unwrap();
    client.update("a", 1).unwrap();
    drop(server);
    assert!(matches!(client.get("a"), Err(ClientError::Lost(..))));
    // A child that another test is starting has our listener too, until its exec: a client may still connect to it.
    eventually("nobody listens", || matches!(client.get("a"), Err(ClientError::Connect(..))));
    assert!(matches!(Client::connect_with("no address", options), Err(ClientError::Address(_))));
}
