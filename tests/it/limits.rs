//! Each limit at one below, at, and one above itself, set by its flag, on the real binary.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket_tables::server::Mode;

use crate::modes::{ALL, LASTING, SEVERAL, in_modes};
use crate::process::{
    COUNT, COUNTED, PATIENCE, Process, Temporary, eventually, exchange, ms, rest, side_by_side,
};

/// A request of this many bytes: COUNT with an unknown member.
fn padded(bytes: usize) -> String {
    let (head, tail) = (r#"{"request":"COUNT","pad":""#, r#""}"#);
    format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
}

/// What took this long was limited to `limit`: not ended before, and not much later. Much is a lot
/// here, since the machine may be doing other things.
fn assert_ended_at(limit: Duration, since: Instant, what: &str) {
    let took = since.elapsed();
    assert!(took + ms(20) >= limit && took < limit + Duration::from_secs(3), "{what}: {took:?} of {limit:?}");
}

#[test]
fn requests_hold_to_their_size() {
    in_modes(LASTING, |mode| {
        for (flags, max) in
            [(&["--max-request", "64K"][..], 64 << 10), (&["--max-request", "1000"], 1000), (&[], 1 << 20)]
        {
            let server = Process::in_mode(mode, flags);
            let limit = format!("a request may have {max} bytes here: the server's --max-request");
            for bytes in [max - 1, max, max + 1] {
                let (json, line, frame) = match bytes > max {
                    false => (
                        COUNTED.to_owned(),
                        format!("MSG {}\n", "x".repeat(bytes - 5)),
                        format!("{:<64}0", 1),
                    ),
                    true => {
                        let json =
                            format!("{{\"error\":{{\"code\":\"too_large\",\"message\":\"{limit}\"}}}}");
                        let frame = format!("{:<64}{json}", json.len());
                        (format!("{json}\n"), format!("MSG error: {limit}\n"), frame)
                    }
                };
                // What comes after one that is too large is not answered.
                let again = if bytes > max { "" } else { COUNTED };
                assert_eq!(server.ask(padded(bytes) + COUNT), format!("{json}{again}"), "JSON of {bytes}");
                assert_eq!(
                    server.ask(format!("ECHO {}\n", "x".repeat(bytes - 5))),
                    line,
                    "a line of {bytes}"
                );
                let payload = format!("COUNT{}", " ".repeat(bytes - 5));
                assert_eq!(server.ask(format!("{bytes:<64}{payload}")), frame, "a frame of {bytes}");
            }
            assert_eq!(server.told(&["errors", "too_large"]), 3);
        }
    });
}

#[test]
fn nesting_and_keys_hold_to_their_limits() {
    in_modes(LASTING, |mode| {
        let server = Process::in_mode(mode, &[]);
        for (depth, fits) in [(127, true), (128, true), (129, false)] {
            // The request's own braces are the first level.
            let data = format!("{}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
            let reply = server.ask(format!("{{\"request\":\"ECHO\",\"data\":{data}}}{COUNT}"));
            assert_eq!(reply.contains("\"bad_json\""), !fits, "{depth}");
            assert!(reply.ends_with(COUNTED), "the connection goes on after {depth}: {reply}");
        }
        for (bytes, fits) in [(1023, true), (1024, true), (1025, false)] {
            let key = "k".repeat(bytes);
            let reply = server.ask(format!("{{\"request\":\"UPDATE\",\"key\":\"{key}\",\"value\":1}}"));
            assert_eq!(reply.contains("\"bad_request\""), !fits, "{bytes}: {reply}");
        }
    });
}

#[test]
fn live_connections_hold_to_their_number_and_one_more_is_told_busy_after_a_second() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(mode, &["--threads", "3", "--connections", "3"]);
        let mut held: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
        held.iter_mut().for_each(|stream| assert_eq!(exchange(stream, COUNT), COUNTED));
        // The third is served at once, however long the others stay.
        held.push(server.connect());
        assert_eq!(exchange(&mut held[2], COUNT), COUNTED);
        // The fourth waits; each dialect is told in its own words, and the reply is never lost, though
        // more was sent than anybody reads.
        let message = "this server has as many connections as it takes; try again";
        let json = format!("{{\"error\":{{\"code\":\"busy\",\"message\":\"{message}\"}}}}");
        let told = |sent: String, told: String| {
            let since = Instant::now();
            assert_eq!(server.ask(sent), told);
            assert_ended_at(Duration::from_secs(1), since, "busy");
        };
        side_by_side(&[
            &|| told(COUNT.repeat(5_000), format!("{json}\n")),
            &|| told(String::new(), format!("{json}\n")),
            &|| told("COUNT\n".repeat(5_000), format!("MSG error: {message}\n")),
            &|| told(format!("{:<64}{COUNT}", COUNT.len()), format!("{:<64}{json}", json.len())),
        ]);
        // One that leaves makes room for one that waits.
        let mut waiting = server.connect();
        drop(held.pop());
        assert_eq!(exchange(&mut waiting, COUNT), COUNTED);
        drop(waiting);
        eventually("refusals are told", || server.told(&["refused"]) == 4);
        eventually("connections are told", || server.told(&["connections"]) == 3);
        assert_eq!(server.told(&["workers"]), if mode == Mode::POOL { 3 } else { 0 });
    });
}

#[test]
fn silence_ends_at_idle_and_not_before() {
    side_by_side(&[
        &|| {
            in_modes(LASTING, |mode| {
                let server = Process::in_mode(mode, &["--idle", "1.2"]);
                let idle = ms(1200);
                let mut stream = server.connect();
                for _ in 0..3 {
                    // Each request begins the silence anew, and white space is silence.
                    std::thread::sleep(idle / 2);
                    assert_eq!(exchange(&mut stream, COUNT), COUNTED);
                    stream.write_all(b"\n").unwrap();
                }
                let since = Instant::now();
                assert_eq!(rest(&mut stream), "");
                assert_ended_at(idle, since, "idle");
            });
        },
        &|| {
            // By default an iterative server, where all others wait, gives ten seconds.
            let server = Process::in_mode(Mode::Iterative, &[]);
            let since = Instant::now();
            assert_eq!(rest(&mut server.connect()), "");
            assert_ended_at(Duration::from_secs(10), since, "iterative");
        },
        &|| {
            // One client alone finds the same deadlines in all modes. None of these asks anything, so `once` goes on.
            in_modes(ALL, |mode| {
                let server = Process::in_mode(mode, &["--idle", "1.2", "--deadline", "0.8"]);
                let since = Instant::now();
                assert_eq!(rest(&mut server.connect()), "");
                assert_ended_at(ms(1200), since, "a connection that never says anything");
                let since = Instant::now();
                assert!(drip(&mut server.connect()).contains("\"timeout\""));
                assert_ended_at(ms(800), since, "a byte now and then");
                assert_eq!(server.ask(COUNT), COUNTED);
            });
        },
    ]);
}

/// Sends a byte now and then, of a request without end, until the connection is closed.
fn drip(stream: &mut TcpStream) -> String {
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || rest(&mut reader));
    let mut bytes = br#"{"request":"ECHO","data":""#.iter().chain([b'x'].iter().cycle());
    while !reading.is_finished() && stream.write_all(&[*bytes.next().unwrap()]).is_ok() {
        std::thread::sleep(ms(25));
    }
    reading.join().unwrap()
}

#[test]
fn requests_once_begun_end_at_the_deadline_however_slowly_they_come() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(mode, &["--deadline", "1"]);
        let deadline = Duration::from_secs(1);
        let timeout = "\"code\":\"timeout\"";
        side_by_side(&[
            &|| {
                // Three that take more than the deadline in all, and less each; and one byte of the next
                // comes with the end of the one before.
                let mut stream = server.connect();
                stream.write_all(&COUNT.as_bytes()[..1]).unwrap();
                for _ in 0..3 {
                    std::thread::sleep(deadline / 2);
                    assert_eq!(exchange(&mut stream, [&COUNT[1..], &COUNT[..1]].concat()), COUNTED);
                }
                let since = Instant::now();
                assert!(rest(&mut stream).contains(timeout));
                assert_ended_at(deadline, since, "begun with the one before");
            },
            &|| {
                let since = Instant::now();
                assert!(drip(&mut server.connect()).contains(timeout));
                assert_ended_at(deadline, since, "a byte now and then");
            },
            &|| {
                // In the dialect that it was begun in.
                let mut stream = server.connect();
                stream.write_all(b"COUN").unwrap();
                let reply = rest(&mut stream);
                assert!(reply.starts_with("MSG error: ") && reply.contains("in time"), "{reply}");
            },
            &|| {
                // The idle time does not end it, nor stretch it.
                let server = Process::in_mode(mode, &["--deadline", "1", "--idle", "0.2"]);
                let since = Instant::now();
                assert!(drip(&mut server.connect()).contains(timeout));
                assert_ended_at(deadline, since, "longer than idle");
            },
        ]);
        eventually("timeouts are told", || server.told(&["timed_out"]) == 3);
        assert_eq!(server.told(&["errors", "timeout"]), 3);
    });
}

#[test]
fn a_watcher_may_be_silent_for_ever_and_yet_must_end_what_it_begins() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(mode, &["--deadline", "1", "--idle", "0.5"]);
        const WATCH: &str = r#"{"request":"WATCH","key":"k"}"#;
        let watching = || {
            let mut stream = server.connect();
            assert_eq!(exchange(&mut stream, WATCH), "{\"request\":\"READY\"}\n");
            stream
        };
        let half = format!("{{\"request\":\"ECHO\",\"data\":\"{}", "x".repeat(900_000));
        let mut silent = watching();
        let since = Instant::now();
        let mut begun: Vec<TcpStream> = (0..30)
            .map(|_| {
                let mut stream = watching();
                stream.write_all(half.as_bytes()).unwrap();
                stream
            })
            .collect();
        // A byte now and then does not stretch the time.
        assert!(drip(&mut watching()).contains("\"timeout\""));
        for stream in &mut begun {
            assert!(rest(stream).contains("\"timeout\""));
        }
        let took = since.elapsed();
        assert!(took >= ms(980) && took < PATIENCE, "{took:?}");
        eventually("all are told", || server.told(&["timed_out"]) == 31);
        eventually("no worker is held", || server.told(&["connections"]) == 2);
        // Whoever has begun nothing is still told of changes.
        server.ask(r#"{"request":"UPDATE","key":"k","value":1}"#);
        assert_eq!(exchange(&mut silent, ""), "{\"request\":\"UPDATE\",\"key\":\"k\",\"value\":1}\n");
        assert!(exchange(&mut silent, COUNT).contains("this connection watches"));
    });
}

#[test]
fn a_watcher_is_heard_though_changes_never_pause() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(mode, &["--deadline", "1"]);
        let (since, done) = (Instant::now(), AtomicBool::new(false));
        let write = || {
            let (mut stream, mut replies) = (server.connect(), vec![0; 1 << 20]);
            let updates = r#"{"request":"INCREMENT","key":"k"}"#.repeat(500);
            while !done.load(Ordering::SeqCst) && since.elapsed() < PATIENCE {
                stream.write_all(updates.as_bytes()).unwrap();
                assert!(stream.read(&mut replies).unwrap() > 0);
            }
        };
        let watch = |sent: &str, end: &str| {
            let mut stream = server.connect();
            assert!(exchange(&mut stream, r#"{"request":"WATCH","key":"k"}"#).starts_with("{\"request\":"));
            stream.write_all(sent.as_bytes()).unwrap();
            let told = rest(&mut stream);
            assert_eq!(told.lines().filter(|line| line.contains(end)).count(), 1, "{sent}");
            assert!(since.elapsed() < PATIENCE, "only when the changes had paused");
        };
        std::thread::scope(|scope| {
            let writers = [scope.spawn(write), scope.spawn(write)];
            let watchers = [
                scope.spawn(|| watch("{", "not finished in time")),
                scope.spawn(|| watch(r#"{"request":"CLOSE"}"#, "CLOSE CONFIRM")),
            ];
            let watched = watchers.map(|watcher| watcher.join());
            done.store(true, Ordering::SeqCst);
            assert!(watched.iter().all(|watched| watched.is_ok()));
            assert!(writers.into_iter().all(|writer| writer.join().is_ok()));
        });
    });
}

#[test]
fn replies_that_are_not_taken_end_at_the_deadline() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(mode, &["--deadline", "1", "--max-request", "16M"]);
        let value = "v".repeat(15 << 20);
        let reply = server.ask(format!("{{\"request\":\"UPDATE\",\"key\":\"k\",\"value\":\"{value}\"}}"));
        assert!(reply.starts_with("{\"key\":\"k\","), "{}", &reply[..200.min(reply.len())]);
        let mut slow = server.connect();
        let since = Instant::now();
        slow.write_all(&br#"{"request":"GET","key":"k"}"#.repeat(4)).unwrap();
        // The kernel's buffers hold some of it, and a client that reads on, but slowly, makes room for more:
        // neither stretches the time.
        let mut bytes = vec![0; 32 << 10];
        while server.told(&["timed_out"]) == 0 {
            slow.read_exact(&mut bytes).unwrap();
            std::thread::sleep(ms(50));
            assert!(since.elapsed() < PATIENCE);
        }
        assert_ended_at(Duration::from_secs(1), since, "a reply that is not taken");
        eventually("it is gone", || server.told(&["connections"]) == 1);
        // One that takes it steadily gets all of it.
        let all = server.ask(br#"{"request":"GET","key":"k"}"#.repeat(4));
        assert_eq!(all.len(), 4 * ("{\"key\":\"k\",\"value\":\"\"}\n".len() + (15 << 20)));
    });
}

#[test]
fn memory_of_keys_and_values_holds_to_its_limit() {
    in_modes(LASTING, |mode| {
        let update = |key: &str, value: &str| {
            format!("{{\"request\":\"UPDATE\",\"key\":\"{key}\",\"value\":\"{value}\"}}")
        };
        let unlimited = Process::in_mode(mode, &[]);
        unlimited.ask(update("a", &"x".repeat(400)) + &update("b", &"x".repeat(400)));
        let both = unlimited.told(&["memory_bytes"]);
        assert!(both > 800, "{both}");
        for (max, fits) in [(both - 1, false), (both, true), (both + 1, true)] {
            let server = Process::in_mode(mode, &["--max-memory", &max.to_string()]);
            let sent = update("a", &"x".repeat(400)) + &update("b", &"x".repeat(400));
            let replies = server.ask(&sent);
            assert_eq!(replies.contains("\"code\":\"full\""), !fits, "{max}: {replies}");
            assert_eq!(server.ask(COUNT), format!("{{\"value\":{}}}\n", 1 + u64::from(fits)));
            assert_eq!(server.told(&["errors", "full"]), u64::from(!fits));
            // Full or not: reads go on, what makes the table no larger is taken, and DELETE makes room.
            let full = server.ask(update("c", &"x".repeat(400)));
            assert!(full.contains("\"key\":\"c\",\"error\":{\"code\":\"full\""), "{full}");
            let longer = server.ask(update("a", &"x".repeat(401)) + &update("a", &"x".repeat(402)));
            assert_eq!(longer.matches("full").count() as u64, if fits { 1 + both + 1 - max } else { 0 });
            let shorter = server.ask(update("a", "y") + r#"{"request":"GET","key":"a"}"#);
            assert_eq!(shorter, "{\"key\":\"a\",\"value\":\"y\"}\n".repeat(2));
            let deleted =
                server.ask(r#"{"request":"DELETE","key":"a"}"#.to_owned() + &update("c", &"x".repeat(400)));
            assert!(deleted.lines().count() == 2 && !deleted.contains("full"), "{deleted}");
        }
    });
}

#[test]
fn programs_hold_to_their_time_and_number() {
    in_modes(SEVERAL, |mode| {
        let script = Temporary::new();
        // Written by another process: a program that is open for writing anywhere cannot be run.
        let made = std::process::Command::new("sh")
            .args(["-c", r#"printf '#!/bin/sh\nsleep "$(cat)"\necho slept\n' >"$1" && chmod 700 "$1""#, "sh"])
            .arg(&script.0)
            .status();
        assert!(made.unwrap().success());
        let action = format!("NAP={}", script.as_str());
        let server =
            Process::in_mode(mode, &["--action", &action, "--action-timeout", "3", "--action-jobs", "2"]);
        let nap = |seconds: &str| server.ask(format!("{{\"request\":\"NAP\",\"data\":{seconds}}}"));
        assert_eq!(nap("0.1"), "{\"value\":\"slept\"}\n");
        let since = Instant::now();
        let killed = nap("1000");
        assert!(killed.contains("\"action_failed\""), "{killed}");
        assert_ended_at(Duration::from_secs(3), since, "a program");
        // Two at once are well; a third, while both run, is not.
        let replies: Vec<String> = std::thread::scope(|scope| {
            let naps: Vec<_> = (0..3).map(|_| scope.spawn(|| nap("2"))).collect();
            naps.into_iter().map(|nap| nap.join().unwrap()).collect()
        });
        let slept = replies.iter().filter(|reply| reply.contains("slept")).count();
        assert!(slept == 2, "{replies:?}");
    });
}
