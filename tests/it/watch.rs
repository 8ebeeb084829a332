//! WATCH and `on_change`: the present state, then every change in order, none missed and none twice.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket_tables::json::{JsonText, Value};
use socket_tables::protocol::Scope;
use socket_tables::server::{Mode, Options, Server};
use socket_tables::session::{Next, Session};
use socket_tables::store::{ChangeKind, Store};

use crate::modes::{ALL, SEVERAL, in_modes, with_places};
use crate::server::{Running, eventually, in_mode, read_once, start};
use crate::session::{core, feed};

/// A client that watches, and reads a line at a time.
struct Watcher(BufReader<TcpStream>);

impl Watcher {
    fn new(server: &Running, request: &str) -> Watcher {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        Watcher(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }
}

const READY: &str = "{\"request\":\"READY\"}\n";

#[test]
fn the_state_comes_first_then_ready_then_changes_of_this_scope_alone() {
    in_modes(SEVERAL, |mode| {
        let server = in_mode(mode);
        server.ask(r#"{"request":"UPDATE","key":"b","value":1}{"request":"UPDATE","key":"a/2","value":[2]}{"request":"UPDATE","key":"a/1","value":"x"}"#);
        let mut prefix = Watcher::new(&server, r#"{"request":"WATCH","prefix":"a/"}"#);
        let mut key = Watcher::new(&server, r#"{"request":"WATCH","key":"b"}"#);
        let mut missing = Watcher::new(&server, "watch c\n");
        assert_eq!(prefix.line(), "{\"request\":\"UPDATE\",\"key\":\"a/1\",\"value\":\"x\"}\n");
        assert_eq!(prefix.line(), "{\"request\":\"UPDATE\",\"key\":\"a/2\",\"value\":[2]}\n");
        assert_eq!(prefix.line(), READY);
        assert_eq!(key.line(), "{\"request\":\"UPDATE\",\"key\":\"b\",\"value\":1}\n");
        assert_eq!(key.line(), READY);
        assert_eq!(missing.line(), format!("MSG {READY}"));
        server.ask(
        r#"{"request":"DELETE","key":"b"}{"request":"DELETE","key":"b"}{"request":"INCREMENT","key":"a/3"}
           {"request":"UPDATE","key":"a/1","value":0,"if":{"absent":true}}{"request":"UPDATE","key":"c","value":" é "}
           {"request":"UPDATE","key":"b","value":null}"#,
    );
        assert_eq!(key.line(), "{\"request\":\"DELETE\",\"key\":\"b\",\"value\":1}\n");
        assert_eq!(key.line(), "{\"request\":\"UPDATE\",\"key\":\"b\",\"value\":null}\n");
        assert_eq!(prefix.line(), "{\"request\":\"UPDATE\",\"key\":\"a/3\",\"value\":1}\n");
        assert_eq!(missing.line(), "MSG {\"request\":\"UPDATE\",\"key\":\"c\",\"value\":\" é \"}\n");
        // A watcher may say CLOSE, and nothing else.
        prefix.0.get_mut().write_all(br#"{"request":"COUNT"}{"request":"CLOSE"}"#).unwrap();
        assert!(prefix.line().contains("this connection watches"));
        assert_eq!(prefix.line(), "{\"value\":\"CLOSE CONFIRM\"}\n");
        assert_eq!(prefix.line(), "");
    });
}

#[test]
fn one_that_has_shut_its_writing_side_is_told_the_state_and_closed() {
    in_modes(SEVERAL, |mode| {
        let server = in_mode(mode);
        server.ask(r#"{"request":"UPDATE","key":"a","value":1}"#);
        let told = format!("{{\"request\":\"UPDATE\",\"key\":\"a\",\"value\":1}}\n{READY}");
        assert_eq!(server.ask(r#"{"request":"WATCH","prefix":""}"#), told);
    });
}

#[test]
fn watching_is_refused_where_all_others_would_wait() {
    for mode in [Mode::Once, Mode::Iterative] {
        let reply = in_mode(mode).ask(r#"{"request":"WATCH","prefix":""}"#);
        assert!(reply.contains("\"denied\"") && reply.contains("pool mode"), "{mode}: {reply}");
    }
}

#[test]
fn a_watch_needs_one_scope() {
    let core = core();
    for (request, said) in [
        (r#"{"request":"WATCH"}"#, "needs the member"),
        (r#"{"request":"WATCH","key":"a","prefix":"b"}"#, "not both"),
        (r#"{"request":"WATCH","prefix":5}"#, "must be a string"),
    ] {
        let reply = feed(&mut Session::new(&core), [request.as_bytes()]);
        assert!(reply.contains("bad_request") && reply.contains(said), "{reply}");
    }
}

#[test]
fn a_change_while_the_state_is_being_told_is_told_once_and_in_order() {
    let core = core();
    for n in 0..3_000 {
        core.store.update(&format!("{n:04}"), &JsonText::from(Value::from(0)), None, None).unwrap();
    }
    let mut session = Session::new(&core);
    let request = br#"{"request":"WATCH","prefix":""}"#;
    assert_eq!(session.advance(), Next::Read);
    session.received(request);
    let mut told = String::new();
    let mut take = |session: &mut Session<'_>| {
        let next = session.advance();
        if next == Next::Write {
            told.push_str(std::str::from_utf8(session.output()).unwrap());
            session.sent();
        }
        next
    };
    assert_eq!(take(&mut session), Next::Write);
    // The first piece is out: this key was told, this one was not, and these are new or go.
    let one = JsonText::from(Value::from(1));
    for key in ["0000", "2999", "0000a", "2999a"] {
        core.store.update(key, &one, None, None).unwrap();
    }
    core.store.delete("0001", None).unwrap();
    core.store.delete("2998", None).unwrap();
    while take(&mut session) == Next::Write {}
    let update =
        |key: &str, value: u8| format!("{{\"request\":\"UPDATE\",\"key\":\"{key}\",\"value\":{value}}}\n");
    let mut expected: String = (0..2_998).map(|n| update(&format!("{n:04}"), 0)).collect();
    expected += &(update("2999", 1) + &update("2999a", 1) + READY + &update("0000", 1) + &update("0000a", 1));
    expected += "{\"request\":\"DELETE\",\"key\":\"0001\",\"value\":0}\n";
    assert_eq!(told, expected);
}

#[test]
fn one_too_slow_is_given_up_on_and_writers_do_not_wait() {
    let store = Store::new(None);
    let slow = store.watch(Scope::Prefix("".into()), false);
    let value = JsonText::from(Value::from(0));
    let burst = |n| (0..n).for_each(|_| store.update("k", &value, None, None).unwrap());
    // A burst alone is no reason, and neither is a long wait for few.
    burst(1_024);
    thread::sleep(Duration::from_millis(1_100));
    burst(1);
    assert!(slow.take().is_ok());
    burst(1);
    thread::sleep(Duration::from_millis(1_100));
    assert!(slow.take().is_ok());
    // Now more than 1,024 have waited for more than a second.
    burst(5);
    thread::sleep(Duration::from_millis(1_100));
    burst(1);
    assert_eq!(slow.take().unwrap_err(), socket_tables::store::WatchEnd::TooSlow);
    // One that is larger than all that may wait is no fault of the watcher's.
    let quick = store.watch(Scope::Key("k".into()), false);
    let huge = JsonText::string(&"x".repeat(20 << 20));
    for value in [&huge, &value] {
        store.update("k", value, None, None).unwrap();
    }
    assert_eq!(quick.take().unwrap().unwrap().change.text, huge);
    assert_eq!(quick.take().unwrap().unwrap().change.text, value);
    // But few large ones may not hold all memory.
    let large = store.watch(Scope::Key("k".into()), false);
    let value = JsonText::string(&"x".repeat(1 << 20));
    for _ in 0..17 {
        store.update("k", &value, None, None).unwrap();
    }
    assert_eq!(large.take().unwrap_err(), socket_tables::store::WatchEnd::TooSlow);
}

#[test]
fn all_watchers_together_hold_no_more_than_their_budget() {
    let store = Store::new(None);
    let keys = ["a", "b", "c", "d", "e", "f"];
    let watches = keys.map(|key| store.watch(Scope::Key(key.into()), false));
    // Seven more of the first: what waits for many is held once.
    let more: Vec<_> = (0..7).map(|_| store.watch(Scope::Key("a".into()), false)).collect();
    let value = JsonText::string(&"x".repeat(1 << 20));
    for round in 1..=15 {
        for key in keys {
            store.update(key, &value, None, None).unwrap();
        }
        assert!(store.watchers().1 <= 64 << 20, "{round}: {}", store.watchers().1);
        assert!(round > 10 || store.watchers().1 > (round * 6) << 20, "{round}: {}", store.watchers().1);
    }
    let told = watches.iter().map(|watch| std::iter::from_fn(|| watch.take().ok().flatten()).count());
    let told: Vec<usize> = told.collect();
    assert!(told.contains(&0) && told.contains(&15), "some are given up on, the others go on: {told:?}");
    more.iter().for_each(|watch| while let Ok(Some(_)) = watch.take() {});
    assert_eq!(store.watchers(), (13, 0));
    store.update("a", &value, None, None).unwrap();
    drop((watches, more));
    assert_eq!(store.watchers(), (0, 0), "what waits for the last goes with it");
}

#[test]
fn a_watcher_that_is_gone_frees_its_worker() {
    in_modes(SEVERAL, |mode| {
        let server = start(Options { mode: with_places(mode, 2), ..Options::default() });
        let mut first = Watcher::new(&server, r#"{"request":"WATCH","prefix":""}"#);
        assert_eq!(first.line(), READY);
        drop(first);
        eventually(|| server.ask(r#"{"request":"INFO"}"#).contains("\"connections\":1,"));
    });
}

#[test]
fn eight_writers_and_eight_watchers_see_a_hundred_thousand_changes_without_a_gap() {
    in_modes(SEVERAL, |mode| {
        const WRITERS: usize = 8;
        const CHANGES: usize = 12_500;
        /// Fewer than close a watcher, however late the machine lets it run.
        const AHEAD_MAX: usize = 1_000;
        let server = in_mode(mode);
        let (asked, told): (AtomicUsize, [AtomicUsize; 8]) = Default::default();
        let watch = |mut watcher: Watcher, told: &AtomicUsize| {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            while seen.len() < WRITERS || seen.values().any(|last| *last < CHANGES) {
                let line = watcher.line();
                let change = Value::parse(&line).unwrap();
                let key = change.get("key").and_then(Value::as_str).unwrap_or_else(|| panic!("{line}"));
                let value: usize = change.get("value").unwrap().to_string().parse().unwrap();
                let last = seen.entry(key.to_owned()).or_default();
                assert_eq!(value, *last + 1, "{key}");
                *last = value;
                told.fetch_add(1, Ordering::SeqCst);
            }
        };
        // Writers may be ahead of the slowest watcher, but not by so much that it would be given up on.
        let may_ask = |n: usize| {
            let upto = asked.fetch_add(n, Ordering::SeqCst) + n;
            let slowest = || told.iter().map(|told| told.load(Ordering::SeqCst)).min().unwrap();
            eventually(|| slowest() + AHEAD_MAX >= upto);
        };
        thread::scope(|scope| {
            for told in &told {
                let mut watcher = Watcher::new(&server, r#"{"request":"WATCH","prefix":"w"}"#);
                assert_eq!(watcher.line(), READY);
                let watch = &watch;
                scope.spawn(move || watch(watcher, told));
            }
            for writer in 0..WRITERS {
                let (mut stream, may_ask) = (server.connect(), &may_ask);
                scope.spawn(move || {
                    // Pipelined by 50: faster than any watcher could be woken for each.
                    let request = format!("{{\"request\":\"INCREMENT\",\"key\":\"w{writer}\"}}\n").repeat(50);
                    for _ in 0..CHANGES / 50 {
                        may_ask(50);
                        stream.write_all(request.as_bytes()).unwrap();
                        let mut lines = 0;
                        while lines < 50 {
                            let mut bytes = [0; 4096];
                            let n = read_once(&stream, &mut bytes);
                            lines += bytes[..n].iter().filter(|byte| **byte == b'\n').count();
                        }
                    }
                    stream.shutdown(Shutdown::Write).unwrap();
                });
            }
        });
    });
}

#[test]
fn callbacks_are_told_of_their_key_or_prefix_in_every_mode() {
    for mode in ALL.iter().copied() {
        let (told, changes) = mpsc::channel();
        let (told_too, changes_too) = mpsc::channel();
        let server = Server::bind("127.0.0.1:0")
            .unwrap()
            .mode(mode)
            .on_change("door", |_| panic!("a callback that panics disturbs nobody"))
            .on_change("door", move |change| told.send(change.clone()).unwrap())
            .on_change(Scope::Prefix("d".into()), move |change| told_too.send(change.key.clone()).unwrap());
        let running = Running::run(server);
        running.ask(r#"{"request":"UPDATE","key":"door","value":"open"}"#);
        if mode != Mode::Once {
            running.ask(r#"{"request":"UPDATE","key":"dog","value":1}{"request":"DELETE","key":"door"}{"request":"UPDATE","key":"cat","value":1}"#);
        }
        drop(running);
        let seen: Vec<(ChangeKind, String)> = changes.iter().map(|c| (c.event, c.text.to_string())).collect();
        let all = [(ChangeKind::Update, "\"open\"".to_owned()), (ChangeKind::Delete, "\"open\"".to_owned())];
        let keys: Vec<String> = changes_too.iter().collect();
        if mode == Mode::Once {
            assert_eq!((seen.as_slice(), keys.len()), (&all[..1], 1), "{mode}");
        } else {
            assert_eq!(
                (seen.as_slice(), keys),
                (&all[..], vec!["door".into(), "dog".into(), "door".into()]),
                "{mode}"
            );
        }
    }
}

#[test]
fn shutdown_does_not_wait_for_watchers() {
    in_modes(SEVERAL, |mode| {
        let server = in_mode(mode);
        let mut watcher = Watcher::new(&server, r#"{"request":"WATCH","prefix":""}"#);
        assert_eq!(watcher.line(), READY);
        let since = Instant::now();
        drop(server);
        assert!(since.elapsed() < Duration::from_secs(5));
        assert_eq!(watcher.line(), "");
    });
}
