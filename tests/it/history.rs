//! A history of what clients asked and were told, while the server is killed again and again: there must be one
//! order of all requests, each between its beginning and its end, that explains every reply. (Wing and Gong's
//! search: one key at a time, since what is so for each key is so for all.)

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use socket_tables::json::Value;

use crate::journal::Folder;
use crate::process::{PATIENCE, Process, ms};

const KEYS: u64 = 3;
const CLIENTS: u64 = 8;

#[derive(Clone, Copy, Debug)]
enum Asked {
    Get,
    Set(i64),
    /// This value, where it is that one.
    Swap(i64, i64),
    Add(i64),
    Delete,
}

/// What a reply told: whether it was done, and the value that it told of.
type Told = (bool, Option<i64>);

#[derive(Clone, Copy, Debug)]
struct Event {
    asked: Asked,
    begun: u64,
    /// Nobody knows of one without a reply whether it was carried out, or when.
    told: Option<(Told, u64)>,
}

impl Asked {
    fn request(self, key: u64) -> String {
        let member = match self {
            Asked::Get => r#""GET""#.to_owned(),
            Asked::Set(value) => format!(r#""UPDATE","value":{value}"#),
            Asked::Swap(old, new) => format!(r#""UPDATE","value":{new},"if":{{"equals":{old}}}"#),
            Asked::Add(by) => format!(r#""INCREMENT","by":{by}"#),
            Asked::Delete => r#""DELETE""#.to_owned(),
        };
        format!(r#"{{"request":{member},"key":"k{key}"}}"#)
    }

    /// What is told, and what is there then, by what was there before.
    fn carry_out(self, before: Option<i64>) -> (Told, Option<i64>) {
        match self {
            Asked::Get => ((true, before), before),
            Asked::Set(value) => ((true, Some(value)), Some(value)),
            Asked::Swap(old, new) if before == Some(old) => ((true, Some(new)), Some(new)),
            Asked::Swap(..) => ((false, before), before),
            Asked::Add(by) => {
                let sum = Some(before.unwrap_or(0) + by);
                ((true, sum), sum)
            }
            Asked::Delete => ((true, before), None),
        }
    }
}

/// Whether some order explains the history of one key.
fn is_linearizable(events: &[Event]) -> bool {
    let all_told = |done: &[bool]| events.iter().zip(done).all(|(event, done)| *done || event.told.is_none());
    let mut seen = HashSet::new();
    let mut left = vec![(vec![false; events.len()], None)];
    while let Some((done, value)) = left.pop() {
        if all_told(&done) {
            return true;
        }
        // Whatever comes next has begun before any of the others has ended.
        let waiting = || events.iter().enumerate().filter(|(at, _)| !done[*at]);
        let first_end = waiting().filter_map(|(_, event)| event.told).map(|(_, end)| end).min().unwrap();
        for (at, event) in waiting().filter(|(_, event)| event.begun <= first_end) {
            let (told, after) = event.asked.carry_out(value);
            if event.told.is_none_or(|(reply, _)| reply == told) {
                let mut done = done.clone();
                done[at] = true;
                if seen.insert((done.clone(), after)) {
                    left.push((done, after));
                }
            }
        }
    }
    false
}

fn read_reply(line: &str) -> Option<Told> {
    let reply = Value::parse(line).ok()?;
    let value = reply.get("value").and_then(Value::as_number).and_then(|number| number.as_i64());
    match reply.get("error").map(|error| error.get("code").and_then(Value::as_str).map(str::to_owned)) {
        None => Some((true, value)),
        Some(code) if code.as_deref() == Some("conflict") => Some((false, value)),
        Some(_) => panic!("{line}"),
    }
}

/// Asks until it is over, wherever the server is then.
fn ask(
    client: u64,
    server: &Mutex<SocketAddr>,
    clock: &AtomicU64,
    is_over: &AtomicBool,
) -> Vec<(u64, Event)> {
    let mut random = client * 7919 + 1;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut events = Vec::new();
    while !is_over.load(SeqCst) {
        let address = *server.lock().unwrap();
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut replies = BufReader::new(stream.try_clone().unwrap());
        while !is_over.load(SeqCst) {
            let (key, value) = (draw(KEYS), draw(5) as i64);
            let asked = match draw(6) {
                0 => Asked::Set(value),
                1 => Asked::Swap(value, draw(5) as i64),
                2 => Asked::Add(1),
                3 => Asked::Delete,
                _ => Asked::Get,
            };
            let begun = clock.fetch_add(1, SeqCst);
            let mut line = String::new();
            let sent =
                stream.write_all(asked.request(key).as_bytes()).and_then(|()| replies.read_line(&mut line));
            let told = sent.ok().filter(|_| line.ends_with('\n')).and_then(|_| read_reply(&line));
            events.push((
                key,
                Event { asked, begun, told: told.map(|told| (told, clock.fetch_add(1, SeqCst))) },
            ));
            if told.is_none() {
                break;
            }
            // Histories that are not too long to be searched.
            thread::sleep(ms(3));
        }
    }
    events
}

#[test]
fn what_clients_are_told_has_one_order_whenever_the_server_is_killed() {
    for (mode, policy) in [("event", "always"), ("pool", "always"), ("event", "everysec"), ("pool", "no")] {
        let folder = Folder::new();
        let flags = ["--journal", &folder.word("j"), "-m", mode, "--sync", policy];
        let mut process = Process::start(&flags);
        let (server, clock, is_over) = (Mutex::new(process.addr), AtomicU64::new(0), AtomicBool::new(false));
        let events: Vec<(u64, Event)> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    scope.spawn({
                        let (server, clock, is_over) = (&server, &clock, &is_over);
                        move || ask(client, server, clock, is_over)
                    })
                })
                .collect();
            for _ in 0..3 {
                thread::sleep(ms(250));
                drop(process);
                process = Process::start(&flags);
                *server.lock().unwrap() = process.addr;
            }
            thread::sleep(ms(100));
            is_over.store(true, SeqCst);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        });
        for key in 0..KEYS {
            let of_key = events.iter().filter(|(other, _)| *other == key).map(|(_, event)| *event);
            // Whoever asked for a value and got no reply has changed nothing.
            let of_key: Vec<Event> =
                of_key.filter(|event| event.told.is_some() || !matches!(event.asked, Asked::Get)).collect();
            assert!(
                of_key.len() > 100 && is_linearizable(&of_key),
                "{mode}, {policy}, key {key}: {of_key:?}"
            );
        }
    }
}

#[test]
fn a_stale_read_is_found() {
    let event = |asked, begun, told, ended| Event { asked, begun, told: Some((told, ended)) };
    let set = event(Asked::Set(1), 0, (true, Some(1)), 1);
    let read = |value, begun| event(Asked::Get, begun, (true, value), begun + 1);
    assert!(is_linearizable(&[set, read(Some(1), 2)]));
    assert!(!is_linearizable(&[set, read(None, 2)]), "it had ended");
    assert!(is_linearizable(&[Event { told: None, ..set }, read(None, 2), read(Some(1), 4)]), "it came late");
    assert!(
        !is_linearizable(&[Event { told: None, ..set }, read(Some(1), 2), read(None, 4)]),
        "it was taken back"
    );
    assert!(is_linearizable(&[event(Asked::Set(1), 0, (true, Some(1)), 3), read(None, 1)]), "beside it");
}
