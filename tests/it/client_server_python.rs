//! ClientServerPython: commands a line each, HELLO and CLOSE, and new ones by registering a function on
//! either side. Its client as it speaks, and that client again in Rust, with responses to hook.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use socket_tables::actions::{Call, RegisterError};
use socket_tables::json::Value;
use socket_tables::server::{Mode, Server};

use crate::modes::ALL;
use crate::programs::Dir;
use crate::server::{Running, in_mode, read_once};
use crate::support::{self, own_address, run, st};

/// What its client does with a reply: the rest of the line, behind the prefix, becomes what it prints.
type Response = fn(&str) -> String;

/// Its client: sends a line, and takes the reply to the first response whose prefix fits.
struct LineClient {
    stream: BufReader<TcpStream>,
    responses: Vec<(&'static str, Response)>,
}

impl LineClient {
    fn new(server: &Running) -> LineClient {
        let stream = BufReader::with_capacity(1, server.connect());
        let close = |_: &str| "The connection to the server has been closed.".to_owned();
        LineClient { stream, responses: vec![("CLOSE CONFIRM", close), ("MSG ", |rest| rest.to_owned())] }
    }

    fn hook(&mut self, prefix: &'static str, response: Response) {
        self.responses.insert(0, (prefix, response));
    }

    fn ask(&mut self, line: &str) -> String {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut reply = String::new();
        self.stream.read_line(&mut reply).unwrap();
        let reply = reply.strip_suffix('\n').expect("a reply is a line");
        let mut responses = self.responses.iter();
        responses.find_map(|(prefix, response)| reply.strip_prefix(prefix).map(response)).expect("a response")
    }
}

#[test]
fn hello_then_close() {
    for mode in ALL.iter().copied() {
        let server = in_mode(mode);
        let mut client = LineClient::new(&server);
        let hello = client.ask("HELLO");
        assert!(hello.len() > "Hello from ".len() && hello.starts_with("Hello from "), "{mode}: {hello}");
        if mode != Mode::Once {
            assert_eq!(client.ask("CLOSE"), "The connection to the server has been closed.");
        }
        assert_eq!(read_once(&mut client.stream, &mut [0]), 0, "{mode}: closed");
    }
}

#[test]
fn a_command_that_is_not_found_is_told_and_the_connection_goes_on() {
    let server = in_mode(Mode::EVENT);
    let mut client = LineClient::new(&server);
    assert_eq!(client.ask("HELO"), "error: no request is named HELO: did you mean HELLO?");
    assert!(client.ask("hello").starts_with("Hello from "));
}

#[test]
fn the_new_command_time_hooked_on_both_sides() {
    // Its server's example, whatTimeRequest, takes the place of our TIME; a second one is an error.
    let what_time_request = |_: &Call<'_>| Ok(Value::from("TIME 20.11.2026 12:00:00"));
    for mode in ALL.iter().copied() {
        let server = Server::bind(own_address()).unwrap().mode(mode);
        let server = server.action("TIME", what_time_request).unwrap();
        let server = Running::run(server);
        let mut client = LineClient::new(&server);
        // Its client's, timeResponse, takes the word out of the reply.
        client.hook("MSG TIME ", |rest| rest.to_owned());
        assert_eq!(client.ask("TIME"), "20.11.2026 12:00:00", "{mode}");
        if mode != Mode::Once {
            assert!(client.ask("HELLO").starts_with("Hello from "), "{mode}");
            assert_eq!(client.ask("CLOSE"), "The connection to the server has been closed.");
            // The same with the library's client, where to hook a reply is to call a function with it.
            drop(client);
            let say = |time: Value| time.as_str().unwrap().replace("TIME ", "");
            assert_eq!(say(server.client().call("TIME", ()).unwrap()), "20.11.2026 12:00:00");
        }
    }
    let twice = Server::bind("127.0.0.1:0").unwrap().action("TIME", what_time_request).unwrap();
    assert_eq!(twice.action("TIME", what_time_request).err(), Some(RegisterError::Taken("TIME".into())));
}

#[test]
fn the_hooked_time_of_a_program() {
    let dir = Dir::new();
    let clock = format!("TIME={}", dir.script_file("date '+TIME %d.%m.%Y %H:%M:%S'").display());
    let server = support::Server::start(&["--action", &clock]);
    let time = run(&mut st(&["client", "-a", &server.addr, "time"]), b"").stdout;
    let time = String::from_utf8(time).unwrap();
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "TIME 00.00.0000 00:00:00\n", "{time}");
    for taken in ["TIME", "EXEC", "CLOSE"] {
        let twice = format!("{taken}=/bin/true");
        let refused = run(&mut st(&["server", "--action", &clock, "--action", &twice, "0"]), b"");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && said.contains(&format!("{taken} is taken")), "{said}");
    }
}

/// What its server's `.*` does: any other command gets an answer of the operator's.
#[test]
fn any_other_command_may_have_an_answer_of_ones_own() {
    let not_found = |_: &Call<'_>| Ok(Value::from("Command not found"));
    let server = Server::bind("127.0.0.1:0").unwrap().fallback(not_found).unwrap();
    let server = Running::run(server);
    let mut client = LineClient::new(&server);
    assert_eq!(client.ask("FROBNICATE the door"), "Command not found");
    assert!(client.ask("HELLO").starts_with("Hello from "));
}

#[test]
fn many_clients_at_once_and_one_that_drops_its_connection_disturbs_none() {
    let server = in_mode(Mode::EVENT);
    let mut clients: Vec<LineClient> = (0..4).map(|_| LineClient::new(&server)).collect();
    for round in 0..3 {
        clients.iter_mut().for_each(|client| assert!(client.ask("HELLO").starts_with("Hello from ")));
        // Half a command, then gone.
        let mut gone = clients.remove(0);
        gone.stream.get_mut().write_all(b"HEL").unwrap();
        assert_eq!(clients.len(), 3 - round);
    }
}

/// Its interactive client: a command a line from stdin, until CLOSE.
#[test]
fn the_interactive_client() {
    let server = support::Server::start(&[]);
    let output = run(&mut st(&["client", "-a", &server.addr]), b"HELLO\nTIME\nCLOSE\nHELLO\n");
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("Hello from ") && lines[1].ends_with('Z'), "{said}");
    assert!(output.status.success() && output.stderr.is_empty());
}
