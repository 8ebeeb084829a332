//! No client waits for another: what one sends, takes or leaves undone stops nobody else, at any number of them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket_tables::json::Value;
use socket_tables::server::{Mode, Server};

use crate::faults::{Attackers, connections, reset};
use crate::isocket::gate;
use crate::modes::{SEVERAL, in_modes, with_places};
use crate::process::{COUNT, COUNTED, PATIENCE, Process, Temporary, eventually, exchange, ms, rest};
use crate::server::Running;
use crate::support::own_address;

const GET: &str = r#"{"request":"GET","key":"k"}"#;
const UPDATE: &str = r#"{"request":"UPDATE","key":"k","value":"v"}"#;
const UPDATED: &str = "{\"key\":\"k\",\"value\":\"v\"}\n";

/// What GETs wait, of a client that sends one after another while these go on, each in a thread with a connection of its
/// own until the connection ends: the waits in their order.
fn waits(server: &Process, others: &[&(dyn Fn(TcpStream) + Sync)]) -> Vec<Duration> {
    assert_eq!(server.ask(UPDATE), UPDATED);
    thread::scope(|scope| {
        let mut attackers = Attackers(Vec::new());
        for other in others {
            let stream = server.connect();
            attackers.0.push(stream.try_clone().unwrap());
            scope.spawn(move || other(stream));
        }
        // Until all are at it.
        thread::sleep(ms(300));
        let mut stream = server.connect();
        let mut waits: Vec<Duration> = (0..300)
            .map(|_| {
                let since = Instant::now();
                assert_eq!(exchange(&mut stream, GET), UPDATED);
                since.elapsed()
            })
            .collect();
        waits.sort_unstable();
        waits
    })
}

/// Sends this again and again, and reads and forgets what is answered.
fn ask_without_end(mut stream: TcpStream, sent: &[u8]) {
    let mut replies = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || while replies.read(&mut [0; 65_536]).is_ok_and(|n| n > 0) {});
        while stream.write_all(sent).is_ok() {}
        let _ = stream.shutdown(Shutdown::Both);
    });
}

#[test]
fn whatever_others_do_a_get_is_answered_soon() {
    let server = Process::in_mode(Mode::EVENT, &[]);
    let value = "v".repeat(1_000);
    for hundred in 0..200 {
        let updates = (0..100).map(|n| {
            format!("{{\"request\":\"UPDATE\",\"key\":\"t{hundred:03}{n:02}\",\"value\":\"{value}\"}}")
        });
        server.ask(updates.collect::<String>());
    }
    let megabyte =
        format!("{{\"request\":\"UPDATE\",\"key\":\"u\",\"value\":\"{}\"}}", "u".repeat(1_000_000));
    let pipelined = GET.repeat(2_000);
    let framed = format!("{:<64}GETALL", 6).repeat(100);
    let waits = waits(
        &server,
        &[
            &|stream| ask_without_end(stream, br#"{"request":"GETALL"}"#),
            &|stream| ask_without_end(stream, megabyte.as_bytes()),
            &|stream| ask_without_end(stream, pipelined.as_bytes()),
            // Each puts together a megabyte, and is then told that it is too long for a frame.
            &|stream| ask_without_end(stream, framed.as_bytes()),
            &|mut stream| {
                while stream.write_all(b" ").is_ok() {
                    thread::sleep(ms(1));
                }
            },
        ],
    );
    // In release and alone the worst is some 5 ms. Where a listing was sent whole, or a batch answered whole, before
    // others had their turn, half of them waited for longer than this.
    assert!(waits[150] < ms(50) && waits[299] < ms(1000), "half {:?}, worst {:?}", waits[150], waits[299]);
}

#[test]
fn an_action_or_a_program_that_sleeps_stops_nobody_else() {
    let (wait, is_asked, open) = gate();
    let server = Server::bind(own_address()).unwrap().action_by("WAIT", wait).unwrap();
    let server = Running::run(server);
    // More than one connection, and more than one request of each.
    let mut sleepers: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut sleepers {
        stream.write_all(b"COUNT\nWAIT\nCOUNT\nWAIT\n").unwrap();
    }
    sleepers.iter().for_each(|_| is_asked.recv_timeout(PATIENCE).unwrap());
    let mut others: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    // What came before the call is answered, too, while it goes on.
    sleepers.iter_mut().for_each(|stream| assert_eq!(exchange(stream, ""), "MSG 0\n"));
    others.iter_mut().for_each(|stream| assert_eq!(exchange(stream, "COUNT\n"), "MSG 0\n"));
    (0..40).for_each(|_| open.send(()).unwrap());
    for stream in &mut sleepers {
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(stream), "MSG true\nMSG 0\nMSG true\n");
    }
    drop(server);

    let file = Temporary::private(b"t");
    let server = Process::in_mode(Mode::EVENT, &["--token-file", file.as_str(), "--allow-exec"]);
    let mut sleeper = server.connect();
    sleeper
        .write_all(b"{\"request\":\"AUTH\",\"token\":\"t\"}{\"request\":\"EXEC\",\"data\":[\"sleep\",\"3\"]}")
        .unwrap();
    let mut other = server.connect();
    assert_eq!(exchange(&mut other, "AUTH t\n"), "MSG ok\n");
    assert_eq!(exchange(&mut sleeper, ""), "{\"value\":\"ok\"}\n");
    assert_eq!(exchange(&mut other, "COUNT\n"), "MSG 0\n");
    sleeper.set_nonblocking(true).unwrap();
    assert!(sleeper.peek(&mut [0]).is_err(), "the program has not ended before the others were answered");
}

#[test]
fn a_thousand_sleeping_calls_start_512_workers_and_all_are_answered() {
    let (wait, _is_asked, open) = gate();
    let server = Server::bind(own_address()).unwrap().action_by("WAIT", wait).unwrap();
    let server = Running::run(server);
    let mut sleepers: Vec<TcpStream> = (0..1_000).map(|_| server.connect()).collect();
    for stream in &mut sleepers {
        stream.write_all(b"WAIT\n").unwrap();
    }
    let workers = || {
        let info = Value::parse(&server.ask(r#"{"request":"INFO"}"#)).unwrap();
        info.get("value").and_then(|told| told.get("workers")).unwrap().to_string().parse::<u64>().unwrap()
    };
    eventually("as many workers as there may be", || workers() >= 512);
    for _ in 0..10 {
        (0..100).for_each(|_| open.send(()).unwrap());
        assert!(workers() <= 512);
    }
    sleepers.iter_mut().for_each(|stream| assert_eq!(exchange(stream, ""), "MSG true\n"));
}

#[test]
fn a_burst_of_connects_is_answered_and_then_costs_a_kibibyte_each() {
    let wanted = connections(5_000);
    let server = Process::in_mode(Mode::EVENT, &["-q"]);
    assert_eq!(server.ask(COUNT), COUNTED);
    // What was needed for a reply of some size is not kept.
    let large = format!("ECHO {}\n", "x".repeat(3_000));
    let (before, threads) = (server.memory("VmRSS"), server.threads());
    let mut clients: Vec<TcpStream> = (0..wanted)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(large.as_bytes()).unwrap();
            stream
        })
        .collect();
    for stream in &mut clients {
        stream.read_exact(&mut vec![0; large.len() - 1]).unwrap();
    }
    assert_eq!((server.told(&["refused"]), server.told(&["connections"])), (0, wanted + 1));
    let each = (server.memory("VmRSS") - before) / wanted;
    assert!(each <= 1024, "{each} bytes each");
    eventually("nothing wakes it while nothing happens", || {
        let sleeps = server.sleeps();
        thread::sleep(ms(500));
        server.sleeps() == sleeps
    });
    assert_eq!(server.threads(), threads, "no thread for anybody");
    drop(clients);
    eventually("all are gone", || server.told(&["connections"]) == 1);
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(mode, &["-q"]);
        let come_and_go = |rounds: usize| {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for n in 0..rounds / 4 {
                            match n % 4 {
                                0 => reset(&server),
                                1 => assert_eq!(server.ask(COUNT), COUNTED),
                                2 => drop(server.connect()),
                                _ => {
                                    let mut stream = server.connect();
                                    stream.write_all(b"COUNT\nCLOSE\n").unwrap();
                                    assert_eq!(rest(&mut stream), "MSG 0\nCLOSE CONFIRM\n");
                                }
                            }
                        }
                    });
                }
            });
            eventually("all are gone", || server.told(&["connections"]) == 1);
        };
        // The first make the allocator as large as it will be.
        come_and_go(4_000);
        let (before, descriptors) = (server.memory("VmRSS"), server.descriptors());
        come_and_go(20_000);
        let (after, now) = (server.memory("VmRSS"), server.descriptors());
        // Each worker's allocations have a place of their own, which they fill one after another.
        let growth_max = if mode == Mode::EVENT { 256 << 10 } else { 1 << 20 };
        assert!(after <= before + growth_max, "{} KiB more", (after - before) >> 10);
        assert!(now <= descriptors + 1, "{descriptors} and now {now}");
    });
}

/// A worker that is free must be known to be before its last connection has gone, or the next one waits for its second.
#[test]
fn one_place_is_handed_over_at_once() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(with_places(mode, 1), &["-q"]);
        let mut held = server.connect();
        assert_eq!(exchange(&mut held, COUNT), COUNTED);
        let slow = (0..200).filter(|_| {
            let mut next = server.connect();
            next.write_all(COUNT.as_bytes()).unwrap();
            let since = Instant::now();
            drop(std::mem::replace(&mut held, next));
            assert_eq!(exchange(&mut held, ""), COUNTED);
            since.elapsed() > ms(900)
        });
        // On a machine that is busy with something else one may be late.
        let slow = slow.count();
        assert!(slow <= 1, "{slow} of 200 waited for a second");
    });
}

/// What a watcher says is answered more slowly than it can come, since it is told changes as well.
#[test]
fn a_watcher_that_talks_without_end_has_no_more_held_for_it() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(mode, &["-q"]);
        let mut stream = server.connect();
        stream.write_all(b"WATCH w\n").unwrap();
        let before = server.memory("VmRSS");
        let mut replies = stream.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || while replies.read(&mut [0; 65_536]).is_ok_and(|n| n > 0) {});
            let since = Instant::now();
            let talk = "A\n".repeat(8 << 10);
            while since.elapsed() < ms(1500) && stream.write_all(talk.as_bytes()).is_ok() {}
            let after = server.memory("VmRSS");
            let _ = stream.shutdown(Shutdown::Both);
            assert!(after < before + (4 << 20), "{} KiB more", (after - before) >> 10);
        });
    });
}
