//! The log: whatever becomes of stderr the server goes on, and whatever clients send stays in its field.

use std::fs::File;
use std::io::pipe;
use std::process::Stdio;
use std::time::Instant;

use crate::process::{COUNT, COUNTED, PATIENCE, Process, Temporary, by_shell, eventually, ms, server};

/// Far more lines than a pipe, and the log's own queue, can hold.
const MANY: usize = 20_000;

#[test]
fn a_closed_full_or_blocked_stderr_stops_nothing() {
    let serves = |what: &str, server: &Process| {
        let since = Instant::now();
        for _ in 0..3 {
            let replies = server.ask(COUNT.repeat(MANY));
            assert_eq!(replies.len(), MANY * COUNTED.len(), "{what}");
        }
        assert!(since.elapsed() < PATIENCE, "{what}: {:?}", since.elapsed());
        assert_eq!(server.ask("GET / HTTP/1.1\r\n\r\n"), "", "{what}");
        assert_eq!(server.ask(COUNT), COUNTED, "{what}");
    };
    let on_stderr = |stderr: Stdio| {
        let mut command = server(&["-v"]);
        command.stderr(stderr);
        Process::spawn(command)
    };
    serves("closed", &Process::spawn(by_shell("exec 2>&-; exec", "-v")));
    serves("a full disk", &on_stderr(File::create("/dev/full").unwrap().into()));
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    serves("a pipe that was closed", &on_stderr(writer.into()));
    // With a second of rest: every event may be told again, and blocks.
    let (_reader, writer) = pipe().unwrap();
    let blocked = on_stderr(writer.into());
    serves("never read", &blocked);
    std::thread::sleep(ms(1100));
    serves("never read", &blocked);
}

/// One line's fields. Fails where the line is not `key=value` pairs, plain or quoted.
fn fields(line: &str) -> Vec<(&str, String)> {
    let mut rest = line;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').unwrap_or_else(|| panic!("no field: {rest} in {line}"));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name:?} in {line}");
        let length = match after.starts_with('"') {
            true => {
                let mut escaped = true;
                let end = after.bytes().position(|byte| {
                    let end = byte == b'"' && !escaped;
                    escaped = !escaped && byte == b'\\';
                    end
                });
                end.unwrap_or_else(|| panic!("no end: {line}")) + 1
            }
            false => after.find(' ').unwrap_or(after.len()),
        };
        let (value, left) = after.split_at(length);
        assert!(value.len() <= 256, "{} bytes in {line}", value.len());
        assert!(left.is_empty() || left.starts_with(' '), "{left:?} in {line}");
        fields.push((name, value.to_owned()));
        rest = left.trim_start_matches(' ');
    }
    fields
}

fn field<'l>(fields: &'l [(&str, String)], name: &str) -> Option<&'l str> {
    fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

/// Whether the line is of this event; its other fields are checked on the way.
fn is(line: &str, event: &str) -> bool {
    field(&fields(line), "event") == Some(event)
}

#[test]
fn what_clients_send_cannot_leave_its_field() {
    let server = Process::logging(&["-v"]);
    let keys = [
        "plain".to_owned(),
        "a b=c".to_owned(),
        "quote\\\"backslash\\\\".to_owned(),
        "é 日本 \u{202e}\u{2028}\u{feff}".to_owned(),
        "\\u202e\\u009b31m\\u0085".to_owned(),
        "k".repeat(240),
        "k".repeat(1_024),
        "é".repeat(512),
        "\\\"".repeat(1_024),
    ];
    for key in &keys {
        let reply = server.ask(format!("{{\"request\":\"GET\",\"key\":\"{key}\"}}"));
        assert_eq!(reply.lines().count(), 1);
    }
    // Names may hold anything at all, and so may what is no request.
    let _ = server.ask(r#"{"request":"\u001b[31mRED\nlevel=error event=forged"}"#);
    let _ = server.ask("\u{1b}]0;title\u{7}\r\nlevel=error event=forged\n");
    let _ = server.ask("EVIL\u{1b}[2J\rGET k\n");
    let _ = server.ask("GET /\u{1b}[31m HTTP/1.1\r\nevent=forged\r\n\r\n");
    eventually("all is told", || server.log().lines().filter(|line| is(line, "http_refused")).count() == 1);
    let log = server.log();
    assert!(log.ends_with('\n') && !log.contains("event=forged"), "{log}");
    for char in log.chars() {
        let plain = char == '\n' || !char.is_control() && !"\u{202e}\u{2028}\u{feff}".contains(char);
        assert!(plain, "{char:?} in {log}");
    }
    for line in log.lines() {
        let fields = fields(line);
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).take(3).collect();
        assert_eq!(names, ["time", "level", "event"], "{line}");
    }
    let requests = log.lines().filter(|line| is(line, "request"));
    let told: Vec<_> = requests.filter_map(|line| field(&fields(line), "key").map(str::to_owned)).collect();
    assert_eq!(told[0], "plain");
    assert_eq!(told[1], "\"a b=c\"");
    assert_eq!(told[5], keys[5], "what fits is whole");
    assert!(told[6].starts_with("\"kkk") && told[6].ends_with("…\""), "what does not is cut, and says so");
    assert!(told[7].starts_with("\"éé") && told[7].ends_with("é…\""), "between characters");
    assert!(told[7].len() > 250 && told[8].len() > 250, "at its limit");
}

#[test]
fn what_repeats_is_told_a_few_times_a_second_and_counted() {
    let server = Process::logging(&["-v"]);
    let sent = 3_000;
    assert_eq!(server.ask(COUNT.repeat(sent)).lines().count(), sent);
    let sum = |log: &str| {
        let count = |line: &str| {
            let fields = fields(line);
            let event = field(&fields, "event");
            let number = |name| field(&fields, name).map(|n| n.parse::<usize>().unwrap());
            match (event, number("suppressed"), number("dropped")) {
                (Some("request"), Some(n), _) | (Some("log"), _, Some(n)) => n,
                (Some("request"), None, _) => 1,
                _ => 0,
            }
        };
        log.lines().map(count).sum::<usize>()
    };
    eventually("every request is told or counted", || sum(&server.log()) == sent);
    let lines = server.log().lines().filter(|line| is(line, "request")).count();
    // Twenty a second and the sums, of as many seconds as this machine needed; one, most often.
    assert!((20..sent / 2).contains(&lines), "{lines} lines");
    // A quiet second later it is told again.
    assert_eq!(server.ask(r#"{"request":"GET","key":"later"}"#).lines().count(), 1);
    eventually("what comes later is told", || server.log().contains("key=later"));
}

#[test]
fn no_value_and_no_token_is_ever_told() {
    let file = Temporary::private(b"hush-token\n");
    let auth = r#"{"request":"AUTH","token":"hush-token"}"#;
    // A server for each, so that no line is among those only counted.
    let logged = |sent: &str| {
        let server = Process::logging(&["-v", "--token-file", file.as_str()]);
        let _ = server.ask([auth, sent].concat());
        let _ = server.ask(sent);
        assert_eq!(server.ask([auth, r#"{"request":"GET","key":"last"}"#].concat()).lines().count(), 2);
        eventually("the last is told", || server.log().contains("key=last"));
        server.log()
    };
    // The marker stands in each place that a value or a token can have, right or wrong.
    let logs = [
        r#"{"request":"UPDATE","key":"k","value":"hush"}"#,
        r#"{"request":"UPDATE","key":"k","value":"x","if":{"equals":"hush"}}"#,
        r#"{"request":"UPDATE","key":"k","value":"hush","value":2}"#,
        r#"{"request":"INCREMENT","key":"k","by":"hush"}"#,
        r#"{"request":"ECHO","data":"hush"}"#,
        r#"{"request":"UPDATE","key":"k","value":"hush"}{"request":"GETALL"}"#,
        r#"{"request":"UPDATE","key":"k","value":"hush"#,
        r#"{"request":"AUTH","token":"hush"}"#,
        r#"{"request":"hush"}"#,
        "{]hush",
        "\u{1}hush",
        "hush-token\n",
        "AUTH hush\n",
        // A value of two lines makes a request of its second.
        "AUTH hush-token\nUPDATE k line\nhush second line\n",
    ]
    .map(logged)
    .concat();
    assert!(!logs.contains("hush"), "{logs}");
    assert!(
        logs.contains("name=UPDATE") && logs.contains("failed=denied") && logs.contains("name=? "),
        "{logs}"
    );
}

#[test]
fn quiet_tells_errors_alone_and_nothing_goes_to_stdout() {
    let server = Process::logging(&["-q"]);
    let _ = server.ask("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(server.ask(COUNT), COUNTED);
    assert_eq!(server.log(), "");
    let server = Process::logging(&[]);
    assert_eq!(server.ask(COUNT), COUNTED);
    let _ = server.ask("GET / HTTP/1.1\r\n\r\n");
    eventually("it is told", || server.log().contains("event=http_refused"));
    let log = server.log();
    let events: Vec<_> = log.lines().map(|line| field(&fields(line), "event").map(str::to_owned)).collect();
    assert_eq!(events, [Some("listening".to_owned()), Some("http_refused".to_owned())], "{log}");
    assert!(log.contains(&format!("address={}", server.addr)) && log.contains("peer=127.0.0.1:"), "{log}");
}
