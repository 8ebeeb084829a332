//! `st bench`, by runs that are short: what it counts is what the server has counted, and it says what went wrong.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use socket_tables::cli::{self, Topic, parse};
use socket_tables::json::Value;

use crate::process::{Process, Temporary, eventually};
use crate::support::{run, st};

fn bench(words: &[&str]) -> Output {
    run(&mut st(&[&["bench"], words].concat()), b"")
}

/// The one object that `--json` gives, after a run in which nothing went wrong.
fn measured(words: &[&str]) -> Value {
    let output = bench(&[words, &["--json"]].concat());
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && err.is_empty(), "{words:?}: {out} {err}");
    assert_eq!(out.lines().count(), 1, "{out}");
    Value::parse(&out).unwrap()
}

fn number(told: &Value, path: &[&str]) -> f64 {
    let found = path.iter().try_fold(told, |object, name| object.get(name));
    found.unwrap_or_else(|| panic!("{path:?} in {told}")).to_string().parse().unwrap()
}

/// Exit code and stderr.
fn failed(words: &[&str]) -> (i32, String) {
    let output = bench(words);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn it_counts_what_the_server_counts() {
    for mode in ["event", "pool"] {
        let server = Process::start(&["-m", mode]);
        let address = server.addr.to_string();
        let words = ["-c", "7", "-P", "4", "-n", "1001", "-r", "30", "-d", "100", "-w", "50", &address];
        let told = measured(&words);
        // Whole batches: 251 of them. Before them, uncounted, one on each connection, and a tenth.
        assert_eq!(number(&told, &["requests"]), 1004.0);
        let asked = ["GET", "UPDATE"].map(|name| server.told(&["requests", name]));
        assert_eq!(asked.iter().sum::<u64>(), 30 + 7 * 4 + 100 + 1004, "{asked:?}");
        let writes = (asked[1] - 30) as f64 / (7 * 4 + 100 + 1004) as f64;
        assert!((0.4..0.6).contains(&writes), "{writes}");
        // It leaves as it found it.
        assert_eq!((server.told(&["requests", "DELETE"]), server.told(&["keys"])), (30, 0));
        assert_eq!(server.told(&["accepted"]), 1 + 7 + 5, "its question, its load, and those of this test");
        let times = ["p50", "p99", "p99.9", "max"].map(|name| number(&told, &["latency_us", name]));
        assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
        let rate = number(&told, &["requests"]) / number(&told, &["seconds"]);
        assert!((rate / number(&told, &["requests_per_second"]) - 1.0).abs() < 1e-6, "{told}");
        assert_eq!(told.get("mode").and_then(Value::as_str), Some(mode));
        assert_eq!(told.get("address").and_then(Value::as_str), Some(&*address));
        assert_eq!(number(&told, &["wrong"]), 0.0);
    }
}

#[test]
fn without_an_address_it_serves_itself() {
    for words in [
        &["-n", "200"][..],
        &["-m", "pool", "-n", "200", "-P", "3"],
        &["-m", "iterative", "-c", "1", "-n", "50"],
        &["--seconds", "0.05", "-c", "2"],
        // A batch that fits into no buffer, in either direction.
        &["-n", "300", "-c", "2", "-P", "100", "-d", "40000", "-w", "50", "-r", "10"],
        &["-n", "10", "-d", "1", "-w", "100", "-r", "1"],
        &["-n", "10", "-w", "0"],
    ] {
        let told = measured(words);
        assert!(number(&told, &["requests"]) > 0.0, "{told}");
    }
}

#[test]
fn people_get_a_table() {
    let output = bench(&["-n", "100", "-c", "3"]);
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    let first: Vec<&str> = out.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(first[0].starts_with("127.0.0.1:"), "{out}");
    assert_eq!(first[1..], ["", "requests", "requests/s", "p50", "p99", "p99.9", "max", "wrong"], "{out}");
}

#[test]
fn a_server_with_a_token_wants_it() {
    let token = Temporary::private(b"s3cret\n");
    let server = Process::start(&["--token-file", token.as_str()]);
    let address = server.addr.to_string();
    let words = ["-n", "50", "-c", "3", &address];
    assert_eq!(number(&measured(&[&words[..], &["--token-file", token.as_str()]].concat()), &["wrong"]), 0.0);
    let (exit, err) = failed(&words);
    assert!(exit == 5 && err.contains("denied"), "{exit} {err}");
    let mut wrong = st(&["bench", "-n", "50", &address]);
    assert_eq!(run(wrong.env("ST_TOKEN", "another"), b"").status.code(), Some(5));
}

#[test]
fn what_goes_wrong_is_told() {
    // Nobody is there; others are.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(failed(&[&nobody]).0, 3);
    assert_eq!(failed(&["--against", "redis", &nobody]).0, 3);
    // More clients than it has room for.
    let server = Process::start(&["-m", "pool", "-t", "3"]);
    let (exit, err) = failed(&["-c", "4", "-n", "50", &server.addr.to_string()]);
    assert!(exit == 5 && err.contains("busy"), "{exit} {err}");
    // No room for the values of its keys.
    let server = Process::start(&["--max-memory", "10000"]);
    let (exit, err) = failed(&["-r", "1000", "-n", "50", &server.addr.to_string()]);
    assert!(exit == 5 && err.contains("full"), "{exit} {err}");
    // One client after another.
    let server = Process::start(&["-m", "iterative"]);
    let (exit, err) = failed(&["-n", "50", &server.addr.to_string()]);
    assert!(exit == 2 && err.contains("-c 1"), "{exit} {err}");
    // What answers is not what it is said to be.
    let (exit, err) = failed(&["--against", "redis", "-c", "1", &server.addr.to_string()]);
    assert!(exit == 4 || exit == 5, "{exit} {err}");
}

#[test]
fn what_cannot_be_asked_for_is_refused_before_anything_is_sent() {
    let read = |line: &str| parse("st", line.split(' ').map(OsString::from), &|_| None);
    for (line, expected) in [
        ("bench -c 0", "-c wants a whole number from 1 to 20000, not \"0\""),
        ("bench -c 20001", "-c wants a whole number from 1 to 20000, not \"20001\""),
        ("bench -P 10001", "-P wants a whole number from 1 to 10000, not \"10001\""),
        ("bench -n 0", "-n wants a whole number from 1 to 1000000000000, not \"0\""),
        ("bench --seconds 0", "--seconds wants seconds from 0.001 to 31536000, as 5 or 0.25, not \"0\""),
        ("bench -n 5 --seconds 1", "--requests and --seconds exclude each other"),
        ("bench -d 1M", "-d wants a size from 1 to 1000000 bytes, as 1000, 64K, 1M or 2G, not \"1M\""),
        (
            "bench -P 5 -d 1000000",
            "--depth wants a depth that times --bytes makes 4194304 at most, not \"5\"",
        ),
        ("bench -r 1000000001", "-r wants a whole number from 1 to 1000000000, not \"1000000001\""),
        ("bench -w 101", "-w wants a whole number from 0 to 100, not \"101\""),
        ("bench -m once", "--mode wants event, pool or iterative, not \"once\""),
        ("bench -m iterative", "--connections wants 1 in mode iterative, not \"50\""),
        ("bench -m pool 7777", "--mode and ADDR exclude each other"),
        ("bench --against redis", "--against needs ADDR"),
        ("bench --against nginx 1", "--against wants redis or memcached, not \"nginx\""),
        ("bench 7777 7778", "a word too many: \"7778\""),
        ("bench --reqests 5", "no option \"--reqests\"; did you mean '--requests'?"),
        ("bnech", "no command \"bnech\"; did you mean 'bench'?"),
    ] {
        let error = read(line).expect_err(line);
        assert_eq!(error.problem.to_string(), expected, "{line}");
        assert_eq!(error.topic, if line == "bnech" { Topic::Program } else { Topic::Bench });
    }
    for line in
        ["bench -c 20000 -P 4 -d 1000000 -w 0", "bench -m iterative -c 1", "bench --seconds 0.001 7777"]
    {
        assert!(matches!(read(line), Ok(cli::Command::Bench(_))), "{line}");
    }
    assert!(matches!(read("help bench"), Ok(cli::Command::Help(Topic::Bench))));
}

/// A server of Redis' protocol that knows one answer: that of a key set. Deleting gets it too.
fn stubborn(answers: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            for _ in 0..answers {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"+OK\r\n");
            }
        }
    });
    address
}

#[test]
fn a_reply_that_is_not_the_right_one_is_found_out() {
    // The value of a key set is not what a GET is answered by.
    let words = ["--against", "redis", "-c", "1", "-r", "1", "-n", "50"];
    let (exit, err) = failed(&[&words[..], &["-w", "0", &stubborn(1000)]].concat());
    assert!(exit == 5 && err.contains("+OK"), "{exit} {err}");
    // It ends in the midst of it: by a close or by a reset, as it has read what was sent or not.
    let (exit, err) = failed(&[&words[..], &["-w", "100", &stubborn(30)]].concat());
    assert!(exit == 4 && (err.contains("closed") || err.contains("reset")), "{exit} {err}");
}

/// A run against this server that can be interfered with, once it asks.
fn running(server: &Process, seconds: &str) -> Child {
    let mut command = st(&["bench", "--seconds", seconds, "-c", "3", "-r", "1", "-w", "0", "--json"]);
    command.arg(server.addr.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    eventually("it runs", || server.told(&["requests", "GET"]) > 0);
    child
}

#[test]
fn a_key_that_another_deletes_makes_wrong_replies() {
    let server = Process::start(&[]);
    let child = running(&server, "1");
    server.ask(r#"{"request":"DELETE","key":"bench:0000000000"}"#);
    let output = child.wait_with_output().unwrap();
    let told = Value::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        number(&told, &["wrong"]) > 0.0 && number(&told, &["wrong"]) <= number(&told, &["requests"]),
        "{told}"
    );
    assert!(output.status.code() == Some(5) && err.contains(r#""found":false"#), "{err}");
}

#[test]
fn an_interrupted_run_leaves_no_keys_behind() {
    let server = Process::start(&[]);
    let child = running(&server, "1000");
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && err.contains("interrupted"), "{err}");
    assert_eq!(server.told(&["keys"]), 0);
}
