//! `watch` and `get --wait`: across lost connections, with readers that go, programs that fail, and servers
//! that tell of what nobody asked for.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::fake::{Fake, drain, request, told};
use crate::server::eventually;
use crate::support::{Server, run, st};

const READY: &str = "{\"request\":\"READY\"}\n";

fn update(key: &str, value: &str) -> String {
    format!("{{\"request\":\"UPDATE\",\"key\":\"{key}\",\"value\":{value}}}\n")
}

fn delete(key: &str, value: &str) -> String {
    format!("{{\"request\":\"DELETE\",\"key\":\"{key}\",\"value\":{value}}}\n")
}

/// A server that tells each of its connections one of these, and then closes.
fn telling(all: Vec<String>) -> Fake {
    Fake::start(move |mut stream, nth| {
        request(&stream)?;
        stream.write_all(all[(nth - 1) % all.len()].as_bytes())
    })
}

fn client(server: &Server, words: &[&str]) -> (i32, String, String) {
    told(run(st(&["client", "-a", &server.addr]).args(words), b""))
}

#[test]
fn what_vanished_while_the_connection_was_lost_is_told_with_its_last_value() {
    let first = update("a", "1") + &update("b", "[2]") + READY + &update("c", "3") + &update("b", "{}");
    // This one is cut before it is ready, so nothing follows from what it has not told.
    let cut = update("a", "1");
    let last = update("c", "4") + READY + &delete("c", "4") + &update("a", "null");
    let (again, vanished) =
        ([update("a", "1"), update("c", "4")].concat(), delete("a", "1") + &delete("b", "{}"));
    let expected = first.clone() + &again + &vanished + READY + &delete("c", "4") + &update("a", "null");
    let fake = telling(vec![first, cut, last]);
    let (exit, out, err) = fake.client(&["-j", "watch", "-c10", "--prefix", ""], "");
    assert_eq!((exit, &*out), (0, &*expected), "{err}");
    let lost = "the watch was lost: the server closed the connection; connecting again\n";
    assert!(err.lines().count() == 1 && err.ends_with(lost), "{err}");
    // The same in lines. READY is for JSON alone.
    let (exit, out, _) = fake.client(&["watch", "-c8", "--prefix", ""], "");
    assert_eq!((exit, out.lines().last(), out.contains("READY")), (0, Some("DELETE\tb\t{}"), false));
    // And for a program.
    let words = ["watch", "-c8", "--prefix", "", "sh", "-c", "echo $ST_EVENT $ST_KEY $ST_VALUE"];
    let (exit, out, _) = fake.client(&words, "");
    assert_eq!((exit, out.lines().last()), (0, Some("DELETE b {}")));
}

#[test]
fn ready_is_printed_as_on_the_wire_and_not_counted() {
    let fake = telling(vec![READY.to_owned() + &update("a", "1") + &update("a", "2")]);
    let expected = READY.to_owned() + &update("a", "1");
    assert_eq!(fake.client(&["-j", "watch", "-c1", "a"], ""), (0, expected, String::new()));
    assert_eq!(fake.client(&["-j", "watch", "-c1", "a", "cat"], ""), (0, "1\n".into(), String::new()));
}

#[test]
fn a_watch_ends_when_its_reader_is_gone_and_nothing_changes() {
    let server = Server::start(&[]);
    assert_eq!(client(&server, &["set", "a", "1"]).0, 0);
    let mut watch = st(&["client", "-a", &server.addr, "watch", "a"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(watch.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    assert!(watch.try_wait().unwrap().is_none(), "a reader is there");
    drop(reader);
    assert_eq!(ends(&mut watch), Some(0));
    assert_eq!(watch.wait_with_output().unwrap().stderr, b"");
    // So does one that can't reach its server.
    let fake = telling(vec![READY.into()]);
    let mut watch = st(&["client", "-a", &fake.addr, "-qr1000", "watch", "a"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    drop(watch.stdout.take());
    assert_eq!(ends(&mut watch), Some(0));
}

fn ends(child: &mut Child) -> Option<i32> {
    let mut status = None;
    eventually(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

#[test]
fn waiting_for_a_key_survives_lost_connections() {
    const MISSING: &[u8] = b"{\"key\":\"a\",\"found\":false,\"value\":null}\n";
    let fake = Fake::start(|mut stream, nth| match nth {
        1 => {
            request(&stream)?;
            stream.write_all(MISSING)?;
            request(&stream)?;
            stream.write_all(READY.as_bytes())
        }
        2 => request(&stream).map(drop),
        _ => {
            assert_eq!(request(&stream)?, r#"{"request":"WATCH","key":"a"}"#);
            stream.write_all(update("a", "\"there\"").as_bytes())
        }
    });
    let (exit, out, err) = fake.client(&["get", "-w60", "a"], "");
    assert_eq!((exit, &*out, err.lines().count()), (0, "there\n", 1), "{err}");
    assert!(err.contains("the watch was lost") && fake.connections() == 3, "{err}");
}

#[test]
fn waiting_for_a_key_outlasts_a_server_that_is_down_for_longer_than_the_retries() {
    // A port below those that are given out on request: it is still free when the server comes back.
    let first = 16_000 + (std::process::id() % 4_000) as u16;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (first..24_000).find(free).unwrap().to_string();
    let start = || Server::spawn(st(&["server", &port]));
    let wait = |words: &[&str]| {
        let mut wait = st(&["client", "-a", &port]);
        wait.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let watched = |server: &Server| {
        let watches = || client(server, &["info"]).1.contains("\"WATCH\":1");
        eventually(watches);
    };
    let server = start();
    let mut waiting = wait(&["get", "-w60", "a"]);
    watched(&server);
    drop(server);
    let mut lost = String::new();
    BufReader::new(waiting.stderr.take().unwrap()).read_line(&mut lost).unwrap();
    assert!(lost.ends_with("connecting again\n"), "{lost}");
    // Three retries are over after 350 ms.
    thread::sleep(Duration::from_millis(800));
    let server = start();
    assert_eq!(client(&server, &["set", "a", "back"]).0, 0);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"back\n"[..]));
    // Where it stays down the time is what ends it, and nobody can say that the key is missing.
    let waiting = wait(&["get", "-w0.5", "b", "default"]);
    drop(server);
    let (exit, out, err) = told(waiting.wait_with_output().unwrap());
    assert!((exit == 3 || exit == 4) && out.is_empty(), "{exit} {out} {err}");
}

#[test]
fn an_event_that_begins_and_does_not_end_is_a_lost_watch() {
    let fake = Fake::start(|mut stream, _| {
        request(&stream)?;
        stream.write_all(format!("{READY}{{\"request\":").as_bytes())?;
        drain(&stream)
    });
    fake.expect(&["-r0", "-T0.2", "watch", "a"], 4, "the watch was lost: timed out\n");
}

#[test]
fn keys_that_cannot_be_or_were_not_asked_for_are_not_printed() {
    let long = "k".repeat(1_025);
    for key in ["p\\u001b[31m", "p\\nq", "p\u{9b}31m", "", "other", &format!("p{long}")] {
        for (words, reply) in [
            (&["watch", "--prefix", "p"][..], update(key, "1")),
            (&["watch", "--prefix", "p"], delete(key, "1")),
            (&["watch", "--prefix", "p"], READY.to_owned() + &update(key, "1")),
            (&["watch", "p"], READY.to_owned() + &update(key, "1")),
            (&["getall", "p"], format!("[{{\"key\":\"{key}\",\"value\":1}}]\n")),
            (&["dump", "p"], format!("[{{\"key\":\"{key}\",\"value\":1}}]\n")),
            (&["-j", "getall", "p"], format!("[{{\"key\":\"{key}\",\"value\":1}}]\n")),
            (&["keys", "p"], format!("{{\"value\":[\"{key}\"]}}\n")),
        ] {
            telling(vec![reply]).expect(words, 4, "not the reply of an st server: ");
        }
    }
    let fake = telling(vec![update("pq", "1")]);
    fake.expect(&["watch", "p"], 4, "it answers something else");
}

#[test]
fn a_program_s_stderr_is_passed_on_and_its_last_line_quoted() {
    let server = Server::start(&[]);
    assert_eq!(client(&server, &["set", "a", "x"]).0, 0);
    for (quiet, script, said) in [
        (
            "-n",
            "echo one >&2; printf 'two\\tx\\n\\n' >&2; exit 3",
            "one\ntwo\tx\n\nst: sh: exit status: 3: two\\tx\n",
        ),
        ("-n", "echo warned >&2", "warned\n"),
        ("-q", "echo warned >&2; exit 3", "warned\n"),
        ("-n", "kill -9 $$", "st: sh: signal: 9 (SIGKILL)\n"),
    ] {
        let told = client(&server, &[quiet, "watch", "-c1", "a", "sh", "-c", script]);
        assert_eq!(told, (0, String::new(), said.into()), "{script}");
    }
}

#[test]
fn what_a_program_leaves_behind_does_not_hold_a_watch_up() {
    let server = Server::start(&["--max-request", "16M"]);
    let large = "x".repeat(1 << 20);
    let stored = run(st(&["client", "-a", &server.addr]).args(["set", "a", "-"]), large.as_bytes());
    assert!(stored.status.success());
    // It holds stdin, which it does not read, and stderr. Our own end of stderr is a pipe it does not hold.
    let script = "exec 3<&0; sleep 30 0<&3 >/dev/null & echo left $! >&2; exit 1";
    let mut watch = st(&["client", "-a", &server.addr, "watch", "-c2", "a", "sh", "-c", script]);
    let mut watch = watch.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(watch.stderr.take().unwrap()).lines();
    let left = err.find(|line| line.as_ref().unwrap().starts_with("left ")).unwrap().unwrap();
    assert_eq!(
        err.find(|line| line.as_ref().unwrap().starts_with("st: sh")).unwrap().unwrap(),
        format!("st: sh: exit status: 1: {left}")
    );
    assert_eq!(client(&server, &["set", "a", "y"]).0, 0);
    assert_eq!(ends(&mut watch), Some(0));
}

#[test]
fn a_program_s_last_line_is_quoted_however_much_it_or_what_it_leaves_behind_says() {
    let server = Server::start(&[]);
    assert_eq!(client(&server, &["set", "a", "x"]).0, 0);
    for (script, quoted) in [
        ("yes | head -c 300000 >&2; echo last >&2; exit 3", ": last\n"),
        ("exec 2>&-; sleep 0.1; exit 3", "\n"),
        ("yes >&2 & sleep 0.1; exit 3", ": y\n"),
    ] {
        let (exit, _, said) = client(&server, &["watch", "-c1", "a", "sh", "-c", script]);
        assert!(exit == 0 && said.ends_with(&format!("st: sh: exit status: 3{quoted}")), "{script}");
    }
}

#[test]
fn help_says_what_a_watch_ends_with() {
    let (exit, out, _) = told(run(&mut st(&["client", "help", "watch"]), b""));
    assert!(exit == 0 && out.contains("  0  --count changes were told"), "{out}");
    assert!(out.contains("  6  PROGRAM cannot be run") && out.contains("stdin too"), "{out}");
}
