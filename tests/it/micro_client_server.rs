//! micro-client-server: a server is a callback, services go by name, messages have a header of 64 bytes
//! that tells their length, and `&END` closes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use socket_tables::actions::Call;
use socket_tables::json::{JsonText, Value};
use socket_tables::server::{Mode, Server};

use crate::modes::ALL;
use crate::server::{Running, read_once};
use crate::support::{self, run, st};

fn frame(payload: &str) -> String {
    format!("{:<64}{payload}", payload.len())
}

/// Sends a message, and reads its answer: the header, then as many bytes as it tells.
fn ask(stream: &mut TcpStream, payload: &str) -> String {
    stream.write_all(frame(payload).as_bytes()).unwrap();
    let mut header = [0; 64];
    stream.read_exact(&mut header).unwrap();
    let length = std::str::from_utf8(&header).unwrap().trim_end_matches(' ').parse().unwrap();
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// The callback: the next generation of a row of cells.
fn life(row: &str) -> String {
    let cells: Vec<char> = row.chars().collect();
    let alive = |at: Option<usize>| at.and_then(|at| cells.get(at)) == Some(&'#');
    let next = |at: usize| alive(at.checked_sub(1)) != alive(Some(at + 1));
    (0..cells.len()).map(|at| if next(at) { '#' } else { '.' }).collect()
}

#[test]
fn a_callback_over_64_byte_headers() {
    for mode in ALL.iter().copied() {
        let callback = |call: &Call<'_>| Ok(Value::from(life(&call.data_str()?)));
        let server = Server::bind("127.0.0.1:0").unwrap().mode(mode);
        let server = Running::run(server.action("LIFE_GEN", callback).unwrap());
        let mut stream = server.connect();
        assert_eq!(ask(&mut stream, "LIFE_GEN ..#.."), ".#.#.", "{mode}");
        if mode != Mode::Once {
            // JSON for JSON, on the same connection; an answer may be long, and so may a message.
            let json = r#"{"request":"LIFE_GEN","data":"..#.."}"#;
            assert_eq!(ask(&mut stream, json), r#"{"value":".#.#."}"#, "{mode}");
            let row = "#".repeat(500_000);
            assert_eq!(ask(&mut stream, &format!("LIFE_GEN {row}")), life(&row));
            assert_eq!(ask(&mut stream, "&END"), "CLOSE CONFIRM", "{mode}");
        }
        assert_eq!(read_once(&stream, &mut [0]), 0, "{mode}: closed");
    }
}

#[test]
fn give_me_some_data_back() {
    for mode in ALL.iter().copied() {
        let call_back_function =
            |call: &Call<'_>| Ok(Value::from(call.data_str()?.replace("Give me", "Here is")));
        let server = Server::bind("127.0.0.1:0").unwrap().mode(mode).fallback(call_back_function).unwrap();
        let server = Running::run(server);
        let mut stream = server.connect();
        assert_eq!(ask(&mut stream, "Give me some data back!!"), "Here is some data back!!", "{mode}");
        if mode != Mode::Once {
            // The callback gets a message as it is, whatever it begins and ends with; and it may be empty.
            for message in ["  7 up\n", "", "get door", "\t", "9"] {
                let shown = JsonText::string(message).as_str().to_owned();
                let answer = if message.contains(char::is_control) { &shown } else { message };
                assert_eq!(ask(&mut stream, message), answer, "{mode}");
            }
            assert_eq!(ask(&mut stream, "&END"), "CLOSE CONFIRM", "{mode}");
        }
        assert_eq!(read_once(&stream, &mut [0]), 0, "{mode}: closed");
    }
}

#[test]
fn give_me_some_data_back_of_a_program() {
    let server = support::Server::start(&["--action", "*=/bin/cat"]);
    let mut stream = TcpStream::connect(&server.addr).unwrap();
    let long = "Give me some data back!! ".repeat(10_000);
    for message in ["Give me some data back!!", &long] {
        assert_eq!(ask(&mut stream, message), message);
    }
    let named = run(&mut st(&["client", "-a", &server.addr, "call", "GIVE", "some"]), b"").stdout;
    assert_eq!(String::from_utf8(named).unwrap(), "{\"request\":\"GIVE\",\"data\":\"some\"}\n");
    let twice = ["server", "--action", "*=/bin/cat", "--action", "*=/bin/cat", "0"];
    assert_eq!(run(&mut st(&twice), b"").status.code(), Some(2));
}

/// A file of services, removed when dropped.
struct Services(PathBuf);

impl Services {
    fn new(name: &str, text: &str) -> Services {
        let path = std::env::temp_dir().join(format!("st-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Services(path)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_service_is_picked_by_name_on_both_sides() {
    // Between our finding a free port and the server's taking it another may take it: then another one.
    for _ in 0..20 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let services = Services::new("services", &format!("other 1/tcp\nLIFE_GEN\t{port}/tcp life\n"));
        let flags = ["server", "--action", "LIFE=/bin/cat", "--action", "*=/bin/cat", "LIFE_GEN"];
        let mut command = st(&flags);
        command.env("ST_SERVICES", &services.0);
        let server = support::Server::spawn(command);
        if server.addr.is_empty() {
            continue;
        }
        assert_eq!(server.addr, format!("127.0.0.1:{port}"));
        let client = |words: &[&str]| {
            let output = run(st(&["client", "-a"]).args(words).env("ST_SERVICES", &services.0), b"");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(client(&["LIFE_GEN", "hello"]).starts_with("Hello from "));
        assert!(client(&["localhost:life", "hello"]).starts_with("Hello from "));
        let mut stream = TcpStream::connect(&server.addr).unwrap();
        assert_eq!(ask(&mut stream, "Give me some data back!!"), "Give me some data back!!");
        // The callback may be any program.
        assert_eq!(client(&["LIFE_GEN", "call", "LIFE", "..#.."]), "..#..\n");
        return;
    }
    panic!("no port stayed free");
}

#[test]
fn an_unknown_name_says_which_file_was_read() {
    let services = Services::new("few-services", "LIFE_GEN 7002/tcp\nUDP_ONLY 7003/udp\n");
    for (name, said) in [("LIFE_GAME", "no tcp service \"LIFE_GAME\" in "), ("UDP_ONLY", "no tcp service")] {
        for words in [&["server", name][..], &["client", "-a", name, "hello"]] {
            let output = run(st(words).env("ST_SERVICES", &services.0), b"");
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{words:?}: {error}");
            assert!(error.contains(said) && error.contains(services.0.to_str().unwrap()), "{error}");
        }
    }
    let missing = run(st(&["server", "LIFE_GEN"]).env("ST_SERVICES", "/no/such/file"), b"");
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(missing.status.code() == Some(2) && error.contains("/no/such/file"), "{error}");
    let default = run(&mut st(&["server", "NO_SUCH_SERVICE"]), b"");
    let error = String::from_utf8(default.stderr).unwrap();
    assert!(default.status.code() == Some(2) && error.contains("/etc/services"), "{error}");
}
