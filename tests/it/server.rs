//! The server over real sockets, in every mode.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket_tables::actions::Call;
use socket_tables::client::Client;
use socket_tables::json::Value;
use socket_tables::protocol::Failure;
use socket_tables::server::{Mode, Options, Server, ShutdownHandle};

use crate::dialects::KEPT;
use crate::modes::{ALL, LASTING, SEVERAL, in_modes, with_places};
use crate::session::rows;
use crate::support::own_address;

/// A server in this process, shut down and joined when it is dropped.
pub struct Running {
    pub address: SocketAddr,
    pub stop: ShutdownHandle,
    thread: Option<thread::JoinHandle<std::io::Result<()>>>,
}

pub fn start(options: Options) -> Running {
    Running::run(Server::bind(own_address()).unwrap().options(options))
}

pub fn in_mode(mode: Mode) -> Running {
    start(Options { mode, ..Options::default() })
}

impl Running {
    pub fn run(server: Server) -> Running {
        let (address, stop) = (server.address(), server.shutdown_handle());
        Running { address, stop, thread: Some(thread::spawn(move || server.run())) }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address).unwrap()
    }

    /// Waits until it has ended by itself.
    pub fn ended(mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Tells it to end, and waits until it has.
    pub fn shutdown(self) {
        self.stop.shutdown();
        self.ended();
    }

    /// All that is answered to these bytes, once no more will come.
    pub fn ask(&self, sent: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(sent.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.shutdown();
        // Where a test has failed, an action may be under way that waits for the test.
        if let Some(thread) = self.thread.take().filter(|_| !thread::panicking()) {
            thread.join().unwrap().unwrap();
        }
    }
}

/// One read, begun again where a signal came between.
pub fn read_once(mut stream: impl Read, bytes: &mut [u8]) -> usize {
    loop {
        match stream.read(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => return read.unwrap(),
        }
    }
}

/// Waits until this holds; fails when it does not within ten seconds.
pub fn eventually(mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(10), "it did not come about");
        thread::sleep(Duration::from_millis(2));
    }
}

const ROWS: &[(&str, &str)] = &[
    (r#"{"request":"GET","key":"k"}"#, "{\"key\":\"k\",\"found\":false,\"value\":null}\n"),
    (r#"{"request":"UPDATE","key":"k","value":[1, 2]}"#, "{\"key\":\"k\",\"value\":[1,2]}\n"),
    (
        r#"{"request":"UPDATE","key":"k","value":3,"if":{"equals":[1]}}"#,
        "{\"key\":\"k\",\"error\":{\"code\":\"conflict\",\"message\":\"the condition \\\"if\\\" does not hold; nothing was changed\"},\"value\":[1,2]}\n",
    ),
    (r#"{"request":"INCREMENT","key":"n","by":41}"#, "{\"key\":\"n\",\"value\":41}\n"),
    (r#"{"request":"INCREMENT","key":"n"}"#, "{\"key\":\"n\",\"value\":42}\n"),
    (r#"{"request":"GETALL"}"#, "[{\"key\":\"k\",\"value\":[1,2]},{\"key\":\"n\",\"value\":42}]\n"),
    (r#"{"request":"KEYS"}"#, "{\"value\":[\"k\",\"n\"]}\n"),
    (r#"{"request":"COUNT","prefix":"n"}"#, "{\"value\":1}\n"),
    (r#"{"request":"DELETE","key":"k"}"#, "{\"key\":\"k\",\"value\":[1,2]}\n"),
    (r#"{"request":"ECHO","data":{"b":1.50}}"#, "{\"value\":{\"b\":1.50}}\n"),
    (r#"{"request":"CLOSE"}"#, "{\"value\":\"CLOSE CONFIRM\"}\n"),
];

#[test]
fn every_request_on_one_connection() {
    for mode in LASTING {
        let server = in_mode(*mode);
        let (sent, replies): (Vec<&str>, Vec<&str>) = ROWS.iter().copied().unzip();
        assert_eq!(server.ask(&sent.concat()), replies.concat(), "{mode}, pipelined");
        let server = in_mode(*mode);
        let mut stream = server.connect();
        for (sent, reply) in ROWS {
            stream.write_all(sent.as_bytes()).unwrap();
            // As SocketTables' own client does it: one read of 1,024 bytes a reply.
            let mut bytes = [0; 1024];
            let n = read_once(&stream, &mut bytes);
            assert_eq!(std::str::from_utf8(&bytes[..n]), Ok(*reply), "{mode}, one by one");
        }
        assert_eq!(read_once(&stream, &mut [0]), 0, "closed after CLOSE");
    }
}

#[test]
fn every_request_in_once_mode_is_the_only_one() {
    let mut taken = 0;
    for (sent, reply) in ROWS {
        let mut server = in_mode(Mode::Once);
        // Connections without a request do not count.
        drop(server.connect());
        let mut stream = server.connect();
        stream.write_all(format!("{sent}{sent}").as_bytes()).unwrap();
        let mut answered = String::new();
        stream.read_to_string(&mut answered).unwrap();
        let name = sent.split('"').nth(3).unwrap();
        match name {
            // An empty table answers these otherwise.
            "GETALL" => assert_eq!(answered, "[]\n"),
            "KEYS" => assert_eq!(answered, "{\"value\":[]}\n"),
            "COUNT" => assert_eq!(answered, "{\"value\":0}\n"),
            "DELETE" => assert_eq!(answered, "{\"key\":\"k\",\"found\":false,\"value\":null}\n"),
            "INCREMENT" | "UPDATE" if *answered != **reply => {
                assert_eq!(answered.lines().count(), 1, "{sent}")
            }
            _ => assert_eq!(answered, *reply),
        }
        drop(stream);
        server.thread.take().unwrap().join().unwrap().unwrap();
        taken += usize::from(TcpStream::connect(server.address).is_ok());
        server.thread = Some(thread::spawn(|| Ok(())));
    }
    // The ports are free again. One may be another test's by now.
    assert!(taken <= 1, "{taken}");
}

/// The session's own rows, by each way of moving bytes: modes differ in nothing that a client is told.
#[test]
fn what_a_session_answers_is_answered_over_sockets_in_every_mode() {
    in_modes(ALL, |mode| {
        let kept =
            KEPT.iter().map(|(began, then, answer)| ("kept", format!("{began}{then}"), (*answer).to_owned()));
        for (name, sent, answered) in rows().into_iter().chain(kept) {
            // Where others would wait a watch is refused, which has a test of its own.
            if sent.contains("WATCH") && !SEVERAL.contains(&mode) {
                continue;
            }
            for slice in [1, 7, usize::MAX] {
                let server = start(Options { mode, request_bytes_max: 4096, ..Options::default() });
                let mut stream = server.connect();
                // It may be refused, and closed, before it has sent all.
                let all_sent = sent
                    .as_bytes()
                    .chunks(slice.max(sent.len() / 100))
                    .all(|piece| stream.write_all(piece).is_ok());
                let _ = stream.shutdown(Shutdown::Write);
                let mut reply = String::new();
                stream.read_to_string(&mut reply).unwrap();
                // In `once` the first is answered, and no more.
                let is_right = match mode {
                    Mode::Once => answered.starts_with(&reply) && reply.is_empty() == answered.is_empty(),
                    _ => reply == answered,
                };
                assert!(is_right, "{name} by {slice}, all sent: {all_sent}: {reply}");
            }
        }
    });
}

#[test]
fn the_requests_whose_replies_differ_each_time() {
    for mode in ALL.iter().copied() {
        let first_line = |sent: &str| {
            let server = in_mode(mode);
            let reply = server.ask(sent);
            Value::parse(reply.lines().next().unwrap()).unwrap()
        };
        let hello = first_line(r#"{"request":"HELLO"}"#);
        assert!(hello.get("value").and_then(Value::as_str).unwrap().starts_with("Hello from "));
        assert_eq!(hello.get("version").and_then(Value::as_str), Some(env!("CARGO_PKG_VERSION")));
        let time = first_line(r#"{"request":"TIME"}"#);
        let time = time.get("value").and_then(Value::as_str).unwrap().to_owned();
        assert_eq!((time.len(), &time[10..11], &time[19..]), (20, "T", "Z"), "{time}");
        let info = first_line(r#"{"request":"INFO"}"#);
        let info = info.get("value").unwrap();
        assert_eq!(info.get("mode").and_then(Value::as_str), Some(&*mode.to_string()));
        assert_eq!(info.get("connections").unwrap().to_string(), "1");
        assert_eq!(info.get("requests").unwrap().to_string(), "{\"INFO\":1}");
        assert!(info.get("uptime_s").is_some() && info.get("bytes_in").is_some());
    }
}

#[test]
fn eight_threads_incrementing_one_key_lose_nothing() {
    in_modes(SEVERAL, |mode| {
        let server = in_mode(with_places(mode, 8));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| server.ask(&r#"{"request":"INCREMENT","key":"n"}"#.repeat(5_000)));
            }
        });
        assert_eq!(server.ask(r#"{"request":"GET","key":"n"}"#), "{\"key\":\"n\",\"value\":40000}\n");
    });
}

#[test]
fn compare_and_set_from_eight_threads_yields_each_value_once() {
    in_modes(SEVERAL, |mode| {
        let server = in_mode(with_places(mode, 8));
        server.ask(r#"{"request":"UPDATE","key":"n","value":0}"#);
        let taken: Vec<AtomicU64> = (0..400).map(|_| AtomicU64::new(0)).collect();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for (from, count) in taken.iter().enumerate() {
                        let to = from + 1;
                        let reply = server.ask(&format!(
                            r#"{{"request":"UPDATE","key":"n","value":{to},"if":{{"equals":{from}}}}}"#
                        ));
                        if !reply.contains("error") {
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(taken.iter().all(|count| count.load(Ordering::SeqCst) == 1));
    });
}

#[test]
fn a_panicking_action_is_told_and_never_shrinks_the_pool() {
    in_modes(SEVERAL, |mode| {
        let server = Server::bind(own_address()).unwrap().mode(with_places(mode, 2));
        let server =
            server.action("BOOM", |_: &Call<'_>| -> Result<Value, Failure> { panic!("boom") }).unwrap();
        let server = Running::run(server);
        let reply = server.ask(&r#"{"request":"BOOM"}"#.repeat(1_000));
        assert_eq!(reply.lines().count(), 1_000);
        assert!(reply.lines().all(|line| line.contains("action_failed") && line.contains("boom")));
        assert_eq!(server.ask(r#"{"request":"COUNT"}"#), "{\"value\":0}\n");
    });
}

#[test]
fn one_connection_over_the_limit_waits_then_is_told_busy() {
    in_modes(SEVERAL, |mode| {
        let server = in_mode(with_places(mode, 2));
        let mut held: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
        for stream in &mut held {
            stream.write_all(br#"{"request":"COUNT"}"#).unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
        }
        let since = Instant::now();
        // It has sent more than anybody reads, and gets its reply all the same.
        let reply = server.ask(&r#"{"request":"COUNT"}"#.repeat(1_000));
        assert_eq!(
            reply,
            "{\"error\":{\"code\":\"busy\",\"message\":\"this server has as many connections as it takes; try again\"}}\n"
        );
        assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
        // One that waits gets the first worker that is free.
        let mut waiting = server.connect();
        waiting.write_all(br#"{"request":"COUNT"}"#).unwrap();
        held.pop();
        let mut reply = [0; 12];
        waiting.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"{\"value\":0}\n");
    });
}

#[test]
fn lost_framing_closes_that_connection_and_no_other() {
    in_modes(SEVERAL, |mode| {
        let server = in_mode(with_places(mode, 4));
        let mut other = server.connect();
        for bad in ["\u{1}", "[1]", "{]", "{\"request\":\"COUNT\"}}", &"1".repeat(64), "{\"a\":\""] {
            let reply = server.ask(bad);
            assert_eq!(reply.matches("\"error\"").count(), 1, "{bad}: {reply}");
            other.write_all(br#"{"request":"COUNT"}"#).unwrap();
            other.read_exact(&mut [0; 12]).unwrap();
        }
        let mut stream = server.connect();
        stream.write_all(b"{\"request\":\"ECHO\",\"data\":\"\xc3\x28\"}").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.contains("UTF-8"), "{reply}");
    });
}

#[test]
fn shutdown_answers_what_has_arrived_and_wakes_whoever_waits() {
    for mode in ALL.iter().copied() {
        let mut server = in_mode(mode);
        let mut silent = server.connect();
        if mode != Mode::Once {
            silent.write_all(br#"{"request":"COUNT"}"#).unwrap();
            silent.read_exact(&mut [0; 12]).unwrap();
        }
        server.stop.shutdown();
        let since = Instant::now();
        server.thread.take().unwrap().join().unwrap().unwrap();
        assert!(since.elapsed() < Duration::from_secs(5), "{mode}: {:?}", since.elapsed());
        server.thread = Some(thread::spawn(|| Ok(())));
    }
}

#[test]
fn idle_connections_and_slow_requests_are_ended_at_their_deadlines() {
    let second = Duration::from_secs(1);
    let server = start(Options { idle: Some(second), deadline: second, ..Options::default() });
    // The server's clock may begin before `connect` returns here.
    let since = Instant::now();
    let idle = server.connect();
    assert_eq!(read_once(&idle, &mut [0]), 0);
    let took = since.elapsed();
    assert!(took >= second && took < 2 * second, "{took:?}");
    // A byte now and then does not stretch the deadline.
    let since = Instant::now();
    let mut slow = server.connect();
    slow.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut reply = Vec::new();
    let mut sent = b"{\"request\":\"ECHO\",\"data\":\"".iter().chain([b'x'].iter().cycle());
    loop {
        let _ = slow.write_all(&[*sent.next().unwrap()]);
        let mut bytes = [0; 256];
        match slow.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => reply.extend_from_slice(&bytes[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        assert!(since.elapsed() < 5 * second);
    }
    let took = since.elapsed();
    assert!(took >= second && took < 3 * second, "{took:?}");
    assert!(String::from_utf8(reply).unwrap().contains("\"timeout\""));
    eventually(|| server.ask(r#"{"request":"INFO"}"#).contains("\"timed_out\":1"));
}

/// One read of a pipelining client must bring all replies: they left in one write.
#[test]
fn the_replies_of_a_batch_leave_in_one_write() {
    in_modes(SEVERAL, |mode| {
        let server = in_mode(with_places(mode, 2));
        for requests in [1, 10, 200, 600] {
            let mut stream = server.connect();
            stream.write_all(r#"{"request":"COUNT"}"#.repeat(requests).as_bytes()).unwrap();
            let mut bytes = vec![0; 1 << 16];
            let n = stream.read(&mut bytes).unwrap();
            assert_eq!(std::str::from_utf8(&bytes[..n]), Ok("{\"value\":0}\n".repeat(requests).as_str()));
        }
    });
}

/// A client that never pauses must not keep the server from ending.
#[test]
fn shutdown_ends_a_server_whose_client_never_stops_asking() {
    in_modes(LASTING, |mode| {
        let mut server = in_mode(with_places(mode, 4));
        let mut writing = server.connect();
        let mut replies = writing.try_clone().unwrap();
        let writer = thread::spawn(move || {
            while writing.write_all(&r#"{"request":"COUNT"}"#.repeat(500).into_bytes()).is_ok() {}
        });
        let reader = thread::spawn(move || while replies.read(&mut [0; 65_536]).is_ok_and(|n| n > 0) {});
        thread::sleep(Duration::from_millis(200));
        let since = Instant::now();
        server.stop.shutdown();
        server.thread.take().unwrap().join().unwrap().unwrap();
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        server.thread = Some(thread::spawn(|| Ok(())));
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn white_space_neither_begins_a_request_nor_ends_the_silence() {
    for mode in LASTING {
        let idle = Some(Duration::from_secs(1));
        let server = start(Options { mode: *mode, idle, ..Options::default() });
        let since = Instant::now();
        let mut stream = server.connect();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        loop {
            let _ = stream.write_all(b" ");
            match stream.read(&mut [0]) {
                Ok(0) => break,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                other => panic!("{other:?}"),
            }
            assert!(since.elapsed() < Duration::from_secs(8), "{mode}");
        }
        assert!(since.elapsed() >= Duration::from_secs(1), "{mode}: {:?}", since.elapsed());
    }
}

#[test]
fn showing_the_token_is_not_the_one_request_of_once_mode() {
    let token = socket_tables::protocol::Token::new("secret").ok();
    let server = start(Options { mode: Mode::Once, token, ..Options::default() });
    // One that shows the token and asks nothing does not count, either.
    assert_eq!(server.ask("AUTH secret\n"), "MSG ok\n");
    assert_eq!(server.ask("AUTH secret\nCOUNT\nCOUNT\n"), "MSG ok\nMSG 0\n");
}

#[test]
fn an_action_may_use_half_a_megabyte_of_stack() {
    let large = |_: &Call<'_>| Ok(Value::from(std::hint::black_box([1_u8; 500_000]).len() as u64));
    let server = Server::bind(own_address()).unwrap().action("LARGE", large).unwrap();
    let server = Running::run(server);
    assert_eq!(server.ask(r#"{"request":"LARGE"}"#), "{\"value\":500000}\n");
}
