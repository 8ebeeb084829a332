//! tcp-client-serv: a one-shot, an iterative and a multithreaded server over one protocol of the user's own,
//! which is one struct with one method on each side.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use socket_tables::actions::{Action, Call, FALLBACK, Outcome};
use socket_tables::client::{Client, ClientError};
use socket_tables::json::{Object, Value};
use socket_tables::server::{Mode, Options, Server};

use crate::modes::{ALL, SEVERAL};
use crate::server::{Running, eventually};
use crate::support::own_address;

/// The protocol's side of the server.
struct CountWords {
    longer_than: usize,
}

impl Action for CountWords {
    fn call(&self, call: &Call<'_>) -> Outcome {
        let text = call.data_str()?;
        let words = text.split_whitespace().filter(|word| word.chars().count() > self.longer_than);
        let counted = Object::from_iter([("words", words.count()), ("bytes", text.len())]);
        Ok(counted.into())
    }
}

/// The protocol's side of the client.
struct WordCounter(Client);

impl WordCounter {
    fn count(&mut self, text: &str) -> Result<(Value, Value), ClientError> {
        let counted = self.0.call("COUNT-WORDS", text)?;
        let member = |name| counted.get(name).cloned().unwrap_or(Value::Null);
        Ok((member("words"), member("bytes")))
    }
}

fn serve(mode: Mode) -> Running {
    let server = Server::bind(own_address()).unwrap().mode(mode);
    Running::run(server.action_by("COUNT-WORDS", CountWords { longer_than: 2 }).unwrap())
}

#[test]
fn one_protocol_over_all_servers() {
    for mode in ALL.iter().copied() {
        let server = serve(mode);
        let mut counter = WordCounter(server.client());
        assert_eq!(counter.count("to be or not to be").unwrap(), (1.into(), 18.into()), "{mode}");
        if mode != Mode::Once {
            assert_eq!(counter.count("").unwrap(), (0.into(), 0.into()), "{mode}");
            // What the protocol refuses reaches its client as it was, and the connection goes on.
            let refused = counter.0.call("COUNT-WORDS", Value::from(7)).unwrap_err();
            assert!(refused.refusal().unwrap().message.contains("a string"), "{refused}");
            assert_eq!(counter.count("words").unwrap().0, 1.into(), "{mode}");
        }
    }
}

/// Its protocol object answers whatever comes: no name, no quotes, only a line.
struct Greeter;

impl Action for Greeter {
    fn call(&self, call: &Call<'_>) -> Outcome {
        Ok(format!("Hello Client! You said: {}", call.data_str()?).into())
    }
}

#[test]
fn a_protocol_object_answers_hello_server_over_all_servers() {
    for mode in ALL.iter().copied() {
        let server = Server::bind(own_address()).unwrap().mode(mode).action_by(FALLBACK, Greeter).unwrap();
        let server = Running::run(server);
        let answer = server.ask("Hello Server!\n");
        assert_eq!(answer, "MSG Hello Client! You said: Hello Server!\n", "{mode}");
        if mode != Mode::Once {
            // A message that nothing ends is one when the client has no more to say.
            let answer = server.ask("Hello Server!");
            assert_eq!(answer, "MSG Hello Client! You said: Hello Server!\n", "{mode}");
            // What the protocol refuses is told as any action's error is.
            let refused = server.ask("{\"greeting\":\"Hello Server!\"}");
            assert!(refused.contains("bad_request") && refused.contains("* needs"), "{mode}: {refused}");
        }
    }
}

#[test]
fn a_message_without_a_newline_is_incomplete_until_the_deadline() {
    let options = Options { deadline: Duration::from_millis(300), ..Options::default() };
    let server = Server::bind(own_address()).unwrap().options(options).action_by(FALLBACK, Greeter).unwrap();
    let server = Running::run(server);
    let mut stream = server.connect();
    stream.write_all(b"Hello Server!").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "MSG error: the request was begun and not finished in time\n");
}

#[test]
fn the_one_shot_server_ends_after_one_request() {
    let server = serve(Mode::Once);
    let address = server.address;
    let mut counter = WordCounter(server.client());
    counter.count("once").unwrap();
    server.ended();
    // The port may be another test's for a while.
    eventually(|| TcpStream::connect(address).is_err());
    let gone = counter.count("twice").unwrap_err();
    assert!(matches!(gone, ClientError::Lost { .. } | ClientError::Connect { .. }), "{gone}");
    assert!(gone.to_string().contains(&address.to_string()), "{gone}");
}

#[test]
fn the_iterative_server_takes_one_client_after_another() {
    let server = serve(Mode::Iterative);
    let mut first = server.connect();
    let ask = br#"{"request":"COUNT-WORDS","data":"one two three"}"#;
    let answer = b"{\"value\":{\"words\":3,\"bytes\":13}}\n";
    let mut reply = [0; 33];
    first.write_all(ask).unwrap();
    first.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, answer);
    let mut second = server.connect();
    second.write_all(ask).unwrap();
    // The first is still served, and the second has its turn when the first is done.
    first.write_all(ask).unwrap();
    first.read_exact(&mut reply).unwrap();
    second.set_nonblocking(true).unwrap();
    assert_eq!(second.read(&mut reply).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    second.set_nonblocking(false).unwrap();
    drop(first);
    second.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, answer);
}

/// Its clients connect before a person has typed anything.
#[test]
fn a_client_that_says_nothing_gives_way_in_the_iterative_server() {
    let server = serve(Mode::Iterative);
    let since = Instant::now();
    let mut silent = [server.connect(), server.connect()];
    // White space says nothing either.
    silent[0].write_all(b"\n").unwrap();
    let mut counter = WordCounter(server.client());
    assert_eq!(counter.count("three words here").unwrap().0, 3.into());
    let took = since.elapsed();
    assert!(took >= Duration::from_secs(2), "each of the two has a second: {took:?}");
    assert!(took < Duration::from_secs(8), "not its whole idle time: {took:?}");
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it has given way");
    }
    // Who has spoken is between two requests, and has the idle time for it; so has who keeps nobody waiting.
    let mut waiting = server.connect();
    waiting.write_all(b"HELLO\n").unwrap();
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(counter.count("").unwrap().0, 0.into());
    drop(counter);
    let mut greeting = [0; 4];
    waiting.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"MSG ");
    drop(waiting);
    let mut alone = server.connect();
    thread::sleep(Duration::from_millis(1500));
    alone.write_all(b"HELLO\n").unwrap();
    alone.read_exact(&mut greeting).unwrap();
}

#[test]
fn the_multithreaded_server_serves_clients_at_the_same_time() {
    // Each request waits until all four are being answered.
    for mode in SEVERAL {
        let all = Arc::new(Barrier::new(4));
        let meet = move |_: &Call<'_>| Ok(Value::Bool(all.wait().is_leader()));
        let server = Server::bind("127.0.0.1:0").unwrap().mode(*mode);
        let server = Running::run(server.action("MEET", meet).unwrap());
        let leaders: usize = thread::scope(|scope| {
            let ask = || server.client().call("MEET", ()).unwrap() == Value::Bool(true);
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            clients.into_iter().map(|client| usize::from(client.join().unwrap())).sum()
        });
        assert_eq!(leaders, 1, "{mode}");
    }
}
