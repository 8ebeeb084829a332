//! The client against servers that misbehave: whatever they do, it ends in time, with bounded memory, one
//! line on stderr, and an exit code that tells whether the request can have been carried out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{run, st};

/// A listener whose connections, one after another, get what a function does to them.
pub struct Fake {
    pub addr: String,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Fake {
    /// `act` is told the connection's number, from 1. It may fail: the client may be gone.
    pub fn start(act: impl Fn(TcpStream, usize) -> std::io::Result<()> + Send + 'static) -> Fake {
        Fake::on(TcpListener::bind("127.0.0.1:0").unwrap(), act)
    }

    fn on(
        listener: TcpListener,
        act: impl Fn(TcpStream, usize) -> std::io::Result<()> + Send + 'static,
    ) -> Fake {
        let addr = listener.local_addr().unwrap().to_string();
        let (connections, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (connections.clone(), stop.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let _ = act(stream.unwrap(), count.fetch_add(1, Ordering::SeqCst) + 1);
            }
        });
        Fake { addr, connections, stop, thread: Some(thread) }
    }

    /// Says `reply` to each request line, and waits for the next.
    pub fn saying(reply: &'static str) -> Fake {
        Fake::start(move |stream, _| {
            let mut requests = BufReader::new(stream.try_clone()?);
            while requests.read_line(&mut String::new())? > 0 {
                (&stream).write_all(reply.as_bytes())?;
            }
            Ok(())
        })
    }

    pub fn client(&self, words: &[&str], stdin: &str) -> (i32, String, String) {
        let output = run(st(&["client", "-a", &self.addr]).args(words), stdin.as_bytes());
        let (exit, out, err) = told(output);
        assert!(err.lines().all(|line| line.starts_with("st: ")), "{words:?}: {err}");
        (exit, out, err)
    }

    /// One call, which ends with this exit code and says this in one line that names the address.
    #[track_caller]
    pub fn expect(&self, words: &[&str], exit: i32, said: &str) {
        let (code, out, err) = self.client(words, "");
        assert_eq!((code, &*out), (exit, ""), "{words:?}: {err}");
        assert!(
            err.lines().count() == 1 && err.contains(said) && err.contains(&self.addr),
            "{words:?}: {err}"
        );
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.addr);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

pub fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Reads one request line, and gives it.
pub fn request(stream: &TcpStream) -> std::io::Result<String> {
    let mut line = String::new();
    // A byte at a time: what follows the line is for the next to read.
    let mut stream = stream;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte != *b"\n" {
        line.push(byte[0].into());
    }
    Ok(line)
}

/// Until the client has closed.
pub fn drain(mut stream: &TcpStream) -> std::io::Result<()> {
    while stream.read(&mut [0; 4096])? > 0 {}
    Ok(())
}

const COMMANDS: [&[&str]; 8] = [
    &["get", "a"],
    &["get", "a", "default"],
    &["set", "a", "b"],
    &["getall"],
    &["keys"],
    &["dump"],
    &["watch", "a"],
    &["get", "-w9", "a"],
];

#[test]
fn a_server_that_never_answers_is_exit_4_within_the_timeout() {
    let fake = Fake::start(|stream, _| drain(&stream));
    for words in COMMANDS {
        let began = Instant::now();
        fake.expect(&[&["-T0.2"], words].concat(), 4, "no reply in time");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(4), "{words:?}: {took:?}");
    }
    assert_eq!(fake.connections(), COMMANDS.len(), "what may have been carried out is never sent again");
}

#[test]
fn a_server_that_drips_does_not_stretch_the_timeout() {
    // Each byte comes well within the timeout; the reply does not.
    let reply = br#"{"key":"a","value":"the quick brown fox jumps over the lazy dog"}"#;
    let fake = Fake::start(move |mut stream, _| {
        for byte in reply {
            stream.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    });
    for words in [&["-T0.4", "get", "a"][..], &["-T0.4", "set", "a", "b"]] {
        let began = Instant::now();
        fake.expect(words, 4, "no reply in time");
        assert!(began.elapsed() < Duration::from_secs(3), "{words:?}: {:?}", began.elapsed());
    }
    let list = Fake::start(|mut stream, _| {
        stream.write_all(b"[")?;
        loop {
            stream.write_all(b"{\"key\":\"a\",\"value\":1},")?;
            thread::sleep(Duration::from_millis(50));
        }
    });
    let (exit, _, err) = list.client(&["-T0.4", "getall"], "");
    assert!(exit == 4 && err.contains("no reply in time"), "{exit} {err}");
}

#[test]
fn a_server_that_closes_is_exit_4_and_not_asked_again() {
    let at_once = Fake::start(|_, _| Ok(()));
    let after_the_request = Fake::start(|stream, _| request(&stream).map(drop));
    let half_a_reply = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"{\"key\":\"a\",\"val")
    });
    for fake in [at_once, after_the_request, half_a_reply] {
        for (words, writes) in [
            (&["get", "a", "default"][..], false),
            (&["keys"], false),
            (&["set", "a", "b"], true),
            (&["incr", "a"], true),
            (&["echo", "a"], true),
        ] {
            let (exit, out, err) = fake.client(words, "");
            assert_eq!((exit, &*out, err.lines().count()), (4, "", 1), "{words:?}: {err}");
            assert_eq!(err.ends_with("; outcome unknown\n"), writes, "{words:?}: {err}");
        }
        assert_eq!(fake.connections(), 5);
    }
}

#[test]
fn what_is_no_reply_of_ours_is_exit_4() {
    for reply in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "220 mail.example.org ESMTP\n",
        "\n",
        "{\n",
        "null\n",
        "{}\n",
        "{\"key\":\"a\"}\n",
        "{\"error\":null}\n",
        "{\"error\":{\"code\":\n",
        "{\"value\":1}}\n",
        "-ERR unknown command\r\n",
    ] {
        let fake = Fake::saying(reply);
        fake.expect(&["get", "a"], 4, "not the reply of an st server");
        fake.expect(&["get", "a", "default"], 4, "not the reply of an st server");
        fake.expect(&["getall"], 4, "not the reply of an st server");
    }
    let fake = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"{\"key\":\"a\",\"value\":\"\xff\"}\n")
    });
    fake.expect(&["get", "a"], 4, "not UTF-8");
    for list in
        ["[1]\n", "[{\"key\":\"a\"}]\n", "[{\"key\":1,\"value\":2}]\n", "[}\n", "[x]\n", "[]x\n", "[{},]\n"]
    {
        Fake::saying(list).expect(&["getall"], 4, "not the reply of an st server");
    }
    for list in ["{\"value\":[1]}\n", "{\"value\":\"a\"}\n", "{\"value\":[]]\n"] {
        Fake::saying(list).expect(&["keys"], 4, "not the reply of an st server");
    }
    for (words, reply) in [
        ("get a", r#"{"key":"other","value":9}"#),
        ("get a", "[1,2]"),
        ("get a", r#"{"value":9}"#),
        ("get a", r#"{"request":"UPDATE","key":"a","value":9}"#),
        ("exists a", "{}"),
        ("exists a", r#"{"key":"b","value":1}"#),
        ("set a b", "{}"),
        ("set a b", "[1,2]"),
        ("set a b", r#"{"key":"b","value":"b"}"#),
        ("add a b", r#"{"found":false,"value":null}"#),
        ("add a b", r#"{"key":"a","found":false,"value":null}"#),
        ("del a", "[1,2]"),
        ("del a", r#"{"key":"b","value":1}"#),
        ("incr a", r#"{"key":"a","value":null}"#),
        ("incr a", r#"{"key":"a","value":1.5}"#),
        ("incr a", r#"{"key":"b","value":1}"#),
        ("count", r#"{"value":"abc"}"#),
        ("count", "[1,2]"),
        ("hello", "[1,2]"),
        ("exec true", r#"{"value":1}"#),
        ("exec true", r#"{"value":{"status":"0","stdout":"","stderr":""}}"#),
        ("exec true", r#"{"value":{"status":0,"stdout":""}}"#),
        ("exec true", r#"{"value":{"status":0,"stdout":1,"stderr":""}}"#),
        ("watch a", r#"{"request":"UPDATE","key":"a"}"#),
    ] {
        let fake = Fake::start(move |mut stream, _| {
            request(&stream)?;
            stream.write_all(format!("{reply}\n").as_bytes())
        });
        let words: Vec<&str> = words.split(' ').collect();
        fake.expect(&words, 4, "not the reply of an st server");
    }
    for count in ["{\"value\":\"many\"}\n", "{\"key\":1}\n"] {
        let fake = Fake::saying(count);
        let mut client = socket_tables::client::Client::connect(&fake.addr).unwrap();
        assert!(client.count("").is_err());
        // A list that is none is no empty list.
        assert!(client.keys("").is_err() && client.getall("").is_err());
    }
}

#[test]
fn a_list_that_is_cut_gives_what_came_and_exit_4() {
    let fake = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"[{\"key\":\"a\",\"value\":1},{\"key\":\"b\",\"value\":2},{\"key\":\"c")
    });
    let (exit, out, err) = fake.client(&["getall"], "");
    assert_eq!((exit, &*out), (4, "a\t1\nb\t2\n"), "{err}");
    let hint = "the list is cut off: was it taken too slowly for the server's --deadline?\n";
    assert!(err.ends_with(hint) && err.lines().count() == 1, "{err}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_reply_without_an_end_costs_bounded_memory() {
    // The process gets too little memory to hold what the server sends.
    let limited = |fake: &Fake, kilobytes: u32, words: &str| {
        let mut command = std::process::Command::new("sh");
        command.arg("-c").arg(format!("ulimit -v {kilobytes}; exec \"$ST\" client -T 60 {words}"));
        told(run(command.env("ST", env!("CARGO_BIN_EXE_st")).env("ST_ADDR", &fake.addr), b""))
    };
    let endless = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"{\"key\":\"a\",\"value\":\"")?;
        loop {
            stream.write_all(&[b'x'; 1 << 16])?;
        }
    });
    for words in ["get a", "watch a"] {
        let (exit, out, err) = limited(&endless, 400_000, words);
        assert_eq!((exit, &*out), (4, ""), "{words}: {err}");
        assert_eq!(err.lines().count(), 1, "{words}: {err}");
    }
    let element = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"[{\"key\":\"a\",\"value\":\"")?;
        loop {
            stream.write_all(&[b'x'; 1 << 16])?;
        }
    });
    let (exit, _, err) = limited(&element, 400_000, "dump");
    assert!(exit == 4 && err.contains("longer than"), "{exit} {err}");
    // A long list is no such thing: more than the memory goes through.
    let long = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"[")?;
        let piece = "{\"key\":\"aaaaaaaaaaaaaaaa\",\"value\":\"bbbbbbbbbbbbbbbbbbbbbbb\"},".repeat(1 << 10);
        for _ in 0..1_000 {
            stream.write_all(piece.as_bytes())?;
        }
        stream.write_all(b"{\"key\":\"z\",\"value\":0}]\n")
    });
    let (exit, out, err) = limited(&long, 50_000, "getall | tail -n 1");
    assert_eq!((exit, &*out, &*err), (0, "z\t0\n", ""));
}

#[test]
fn an_error_reply_is_exit_5_with_its_message_in_one_line() {
    let fake = Fake::saying("{\"error\":{\"code\":\"full\",\"message\":\"no room\"}}\n");
    for words in COMMANDS {
        fake.expect(words, 5, "full: no room\n");
    }
    let fake = Fake::saying("{\"key\":\"a\",\"error\":{\"code\":\"of_the_future\",\"message\":\"x\"}}\n");
    fake.expect(&["get", "a", "default"], 5, "of_the_future: x");
    let fake = Fake::saying("{\"error\":{\"code\":\"full\",\"message\":\"a\\nb\\u001b[31m\\u0000\"}}\n");
    fake.expect(&["get", "a"], 5, "full: a\\nb\\u{1b}[31m\\u{0}\n");
    let fake = Fake::saying("{\"error\":{\"code\":\"conflict\",\"message\":\"x\"},\"value\":1}\n");
    fake.expect(
        &["--if", "x", "set", "a", "b"],
        1,
        "conflict: \"a\" is the number 1, not the string \"x\"\n",
    );
}

#[test]
fn busy_is_tried_again_and_nothing_else() {
    const BUSY: &[u8] = b"{\"error\":{\"code\":\"busy\",\"message\":\"all workers are taken\"}}\n";
    let fake = Fake::start(|mut stream, nth| {
        if nth <= 2 {
            stream.write_all(BUSY)?;
            stream.shutdown(Shutdown::Write)?;
            return drain(&stream);
        }
        request(&stream)?;
        stream.write_all(b"{\"key\":\"a\",\"value\":\"yes\"}\n")
    });
    assert_eq!(fake.client(&["get", "a"], ""), (0, "yes\n".into(), String::new()));
    assert_eq!(fake.connections(), 3);
    let fake = Fake::start(|mut stream, _| {
        stream.write_all(BUSY)?;
        stream.shutdown(Shutdown::Write)?;
        drain(&stream)
    });
    fake.expect(&["-r2", "get", "a"], 5, "busy: all workers are taken");
    assert_eq!(fake.connections(), 3);
    fake.expect(&["-r0", "keys"], 5, "busy");
    assert_eq!(fake.connections(), 4);
    let began = Instant::now();
    fake.expect(&["-T0.3", "-r1000", "keys"], 5, "busy");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// An action without a slot is busy, and the server carries out what stands behind it.
#[test]
fn a_batch_is_not_sent_again_where_only_its_first_request_was_busy() {
    let fake = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(
            b"{\"error\":{\"code\":\"busy\",\"message\":\"16 programs run\"}}\n{\"key\":\"n\",\"value\":1}\n",
        )?;
        drain(&stream)
    });
    let lines = "{\"request\":\"EXEC\",\"data\":\"date\"}\n{\"request\":\"INCREMENT\",\"key\":\"n\"}\n";
    let (exit, out, _) = fake.client(&["batch"], lines);
    assert_eq!((exit, out.lines().last()), (5, Some("{\"key\":\"n\",\"value\":1}")));
    assert_eq!(fake.connections(), 1);
}

#[test]
fn a_request_refused_before_it_was_read_to_its_end_tells_why() {
    let fake = Fake::start(|mut stream, _| {
        stream.read_exact(&mut [0; 1000])?;
        stream.write_all(b"{\"error\":{\"code\":\"too_large\",\"message\":\"at most 1 KiB\"}}\n")?;
        stream.shutdown(Shutdown::Write)?;
        drain(&stream)
    });
    let large = "x".repeat(8 << 20);
    let (exit, _, err) = fake.client(&["set", "a", "-"], &large);
    assert!(exit == 5 && err.contains("too_large: at most 1 KiB"), "{exit} {err}");
}

#[test]
fn the_token_goes_first_in_the_same_write() {
    let fake = Fake::start(|mut stream, _| {
        let mut bytes = [0; 4096];
        let got = stream.read(&mut bytes)?;
        let expected = "{\"request\":\"AUTH\",\"token\":\"s3\"}\n{\"request\":\"GET\",\"key\":\"a\"}\n";
        assert_eq!(String::from_utf8_lossy(&bytes[..got]), expected);
        stream.write_all(b"{\"value\":\"ok\"}\n{\"key\":\"a\",\"value\":1}\n")
    });
    let output = run(st(&["client", "-a", &fake.addr, "get", "a"]).env("ST_TOKEN", "s3"), b"");
    assert_eq!(told(output), (0, "1\n".into(), String::new()));
}

#[test]
fn after_a_refused_token_the_reply_to_the_request_behind_it_is_nobody_s() {
    use socket_tables::client::{Client, ClientError, ClientOptions};
    use socket_tables::json::Value;
    let fake = Fake::start(|mut stream, nth| {
        request(&stream)?;
        match nth {
            1 => return stream.write_all(b"{\"value\":\"ok\"}\n"),
            2 => stream.write_all(b"{\"error\":{\"code\":\"unknown_request\",\"message\":\"AUTH\"}}\n")?,
            _ => stream.write_all(b"{\"value\":\"ok\"}\n")?,
        }
        request(&stream)?;
        stream.write_all(format!("{{\"key\":\"a\",\"value\":{nth}}}\n").as_bytes())
    });
    let token = Some(socket_tables::protocol::Token::new("s3").unwrap());
    let options = ClientOptions { timeout: Duration::from_secs(5), retry: 0, token };
    let mut client = Client::connect_with(&fake.addr, options).unwrap();
    assert!(matches!(client.get("a"), Err(ClientError::Lost(..))));
    assert!(matches!(client.get("a"), Err(ClientError::Refused(..))));
    assert_eq!(client.get("a").unwrap(), Some(Value::from(3)));
}

#[test]
fn connecting_is_tried_until_the_server_is_there() {
    // A port that is free now, and below those that are given out on request: it is still free later.
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let free = (first..32_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], free.unwrap()));
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        let (mut stream, _) = TcpListener::bind(addr).unwrap().accept().unwrap();
        request(&stream).unwrap();
        stream.write_all(b"{\"value\":7}\n").unwrap();
    });
    let output = run(&mut st(&["client", "-a", &addr.to_string(), "-T20", "-r", "100", "count"]), b"");
    assert_eq!(told(output), (0, "7\n".into(), String::new()));
    late.join().unwrap();
    // All tries together take no longer than the timeout.
    let began = Instant::now();
    let output = run(&mut st(&["client", "-a", "127.0.0.1:1", "-T0.3", "-r", "1000", "count"]), b"");
    assert_eq!(output.status.code(), Some(3));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn each_address_of_localhost_is_tried() {
    // Some machines have no IPv6: there is nothing to show there.
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let port = listener.local_addr().unwrap().port();
    let fake = Fake::on(listener, |mut stream, _| {
        request(&stream)?;
        stream.write_all(b"{\"value\":7}\n")
    });
    let output = run(&mut st(&["client", "-a", &format!("localhost:{port}"), "count"]), b"");
    assert_eq!(told(output), (0, "7\n".into(), String::new()));
    assert_eq!(fake.client(&["count"], "").0, 0);
}

#[test]
fn a_watch_connects_again_and_says_so() {
    let fake = Fake::start(|mut stream, nth| {
        assert_eq!(request(&stream)?, r#"{"request":"WATCH","key":"a"}"#);
        let state = format!("{{\"request\":\"UPDATE\",\"key\":\"a\",\"value\":{nth}}}\n");
        stream.write_all(state.as_bytes())?;
        stream.write_all(b"{\"request\":\"READY\"}\n")?;
        match nth {
            1 => Ok(()),
            _ => stream.write_all(b"{\"request\":\"DELETE\",\"key\":\"a\",\"value\":2}\n"),
        }
    });
    let (exit, out, err) = fake.client(&["watch", "-c3", "a"], "");
    assert_eq!((exit, &*out), (0, "UPDATE\ta\t1\nUPDATE\ta\t2\nDELETE\ta\t2\n"), "{err}");
    assert!(
        err.lines().count() == 1 && err.contains("connecting again") && err.contains(&fake.addr),
        "{err}"
    );
    let (exit, out, err) = fake.client(&["-q", "watch", "-c4", "a"], "");
    assert_eq!((exit, out.lines().count(), &*err), (0, 4, ""));
}

#[test]
fn a_watch_without_retry_or_before_it_is_ready_ends_with_the_connection() {
    let fake = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"{\"request\":\"READY\"}\n")
    });
    fake.expect(&["-r0", "watch", "a"], 4, "the watch was lost: the server closed the connection\n");
    let fake = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"{\"request\":\"UPDATE\",\"key\":\"a\",\"value\":1}\n")
    });
    let (exit, out, err) = fake.client(&["watch", "a"], "");
    assert_eq!((exit, &*out, fake.connections()), (4, "UPDATE\ta\t1\n", 1), "{err}");
    // When the server is gone for good, the exit code says that it cannot be reached.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let once = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        request(&stream).unwrap();
        stream.write_all(b"{\"request\":\"READY\"}\n").unwrap();
    });
    let (exit, _, err) = told(run(&mut st(&["client", "-a", &addr, "watch", "a"]), b""));
    assert_eq!((exit, err.lines().count()), (3, 2), "{err}");
    once.join().unwrap();
}

#[test]
fn waiting_for_a_key_ends_when_it_appears_or_the_time_is_over() {
    let fake = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"{\"key\":\"a\",\"found\":false,\"value\":null}\n")?;
        request(&stream)?;
        stream.write_all(b"{\"request\":\"READY\"}\n")?;
        thread::sleep(Duration::from_millis(50));
        stream.write_all(b"{\"request\":\"DELETE\",\"key\":\"a\",\"value\":0}\n")?;
        stream.write_all(b"{\"request\":\"UPDATE\",\"key\":\"a\",\"value\":\"there\"}\n")
    });
    assert_eq!(fake.client(&["get", "-w20", "a"], ""), (0, "there\n".into(), String::new()));
    // Changes that are not the one waited for do not stretch the time.
    let restless = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"{\"key\":\"a\",\"found\":false,\"value\":null}\n")?;
        request(&stream)?;
        stream.write_all(b"{\"request\":\"READY\"}\n")?;
        loop {
            stream.write_all(b"{\"request\":\"DELETE\",\"key\":\"a\",\"value\":0}\n")?;
            thread::sleep(Duration::from_millis(20));
        }
    });
    let began = Instant::now();
    restless.expect(&["get", "-w0.3", "a"], 1, "no key \"a\"");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(restless.client(&["get", "-w0.1", "a", "d"], "").1, "d\n");
}

#[test]
fn a_load_or_batch_that_loses_its_server_says_how_far_it_came() {
    let fake = Fake::start(|mut stream, _| {
        for _ in 0..2 {
            request(&stream)?;
            stream.write_all(b"{\"key\":\"a\",\"value\":1}\n")?;
        }
        stream.shutdown(Shutdown::Write)?;
        drain(&stream)
    });
    let lines = "{\"key\":\"a\",\"value\":1}\n".repeat(2);
    assert_eq!(fake.client(&["load"], &lines).0, 0);
    let (exit, _, err) = fake.client(&["load"], &lines.repeat(2));
    assert!(exit == 4 && err.starts_with("st: 2 keys loaded, then: line 3, key \"a\": "), "{exit} {err}");
    let requests = "{\"request\":\"GET\",\"key\":\"a\"}".repeat(3);
    let (exit, out, err) = fake.client(&["batch"], &requests);
    assert_eq!((exit, out.lines().count(), err.lines().count()), (4, 2, 1), "{err}");
    assert!(err.starts_with("st: line 1: "), "{err}");
}

#[test]
fn each_reply_to_a_batch_or_a_load_has_the_timeout_for_itself() {
    let fake = Fake::start(|mut stream, _| {
        for _ in 0..18 {
            request(&stream)?;
            thread::sleep(Duration::from_millis(100));
            stream.write_all(b"{\"key\":\"a\",\"value\":1}\n")?;
        }
        Ok(())
    });
    let (exit, out, err) =
        fake.client(&["-T1.5", "batch"], &"{\"request\":\"GET\",\"key\":\"a\"}".repeat(18));
    assert_eq!((exit, out.lines().count(), &*err), (0, 18, ""));
    let (exit, _, err) = fake.client(&["-T1.5", "load"], &"{\"key\":\"a\",\"value\":1}\n".repeat(18));
    assert_eq!((exit, &*err), (0, ""));
}

#[test]
fn a_session_a_batch_and_a_load_connect_again_after_their_server_has_closed() {
    for (words, line, reply) in [
        (&[][..], "count\n", "7\n"),
        (&["batch"], "{\"request\":\"COUNT\"}\n", "{\"key\":\"a\",\"value\":7}\n"),
        (&["load"], "{\"key\":\"a\",\"value\":1}\n", ""),
    ] {
        connects_again(words, line, reply);
    }
}

/// The server closes after each reply, and only then the next line comes.
fn connects_again(words: &[&str], line: &str, reply: &str) {
    let closed = Arc::new(AtomicUsize::new(0));
    let closing = closed.clone();
    let fake = Fake::start(move |mut stream, _| {
        request(&stream)?;
        stream.write_all(b"{\"key\":\"a\",\"value\":7}\n")?;
        stream.shutdown(Shutdown::Both)?;
        closing.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let mut command = st(&["client", "-a", &fake.addr]);
    command.args(words).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for nth in 1..=3 {
        to.write_all(line.as_bytes()).unwrap();
        if !reply.is_empty() {
            let mut told = String::new();
            from.read_line(&mut told).unwrap();
            assert_eq!(told, reply);
        }
        while closed.load(Ordering::SeqCst) < nth {
            thread::sleep(Duration::from_millis(1));
        }
    }
    drop(to);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(fake.connections(), 3);
}

#[test]
fn the_library_tells_these_apart_too() {
    use socket_tables::client::{Client, ClientError, ClientOptions, Event};
    use socket_tables::json::Value;
    use socket_tables::protocol::{Address, Scope};
    let options = ClientOptions { timeout: Duration::from_millis(200), retry: 0, token: None };
    let silent = Fake::start(|stream, _| drain(&stream));
    let mut client = Client::connect_with(&silent.addr, options.clone()).unwrap();
    assert!(matches!(client.get("a"), Err(ClientError::Timeout(_))));
    let error = Client::connect_with("127.0.0.1:1", options).unwrap_err();
    assert!(matches!(error, ClientError::Connect(..)) && error.to_string().contains("127.0.0.1:1"));
    let refusing =
        Fake::saying("{\"error\":{\"code\":\"action_failed\",\"message\":\"division by zero\"}}\n");
    let error = Client::connect(&refusing.addr).unwrap().call("DIVIDE", Value::from("1/0")).unwrap_err();
    assert_eq!(error.refusal().unwrap().message, "division by zero");
    // After a failure the next request connects anew, and a late reply is nobody's.
    let flaky = Fake::start(|mut stream, nth| {
        request(&stream)?;
        if nth > 1 {
            stream.write_all(b"{\"key\":\"a\",\"value\":true}\n")?;
        }
        Ok(())
    });
    let mut client = Client::connect(&flaky.addr).unwrap();
    assert!(matches!(client.get("a"), Err(ClientError::Lost(..))));
    assert_eq!(client.get("a").unwrap(), Some(Value::from(true)));
    let watched = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(b"{\"request\":\"UPDATE\",\"key\":\"a\",\"value\":1}\n{\"request\":\"READY\"}\n")
    });
    // This server has one client at a time, so the watch's connection must be the only one.
    let client = Client::new(Address::parse(&watched.addr).unwrap(), ClientOptions::default());
    let mut watch = client.watch(Scope::Prefix("".into())).unwrap();
    let update = Event::Update("a".into(), Value::from(1));
    assert_eq!(watch.next().unwrap().unwrap(), update);
    assert_eq!(watch.next().unwrap().unwrap(), Event::Ready);
    assert!(matches!(watch.next(), Some(Err(ClientError::WatchLost(..)))));
    assert!(watch.next().is_none());
}
