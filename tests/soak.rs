//! The soak (`make soak`): ten thousand connections, then a quarter of a minute of every fault at once, while
//! clients that behave check every reply; all in each mode that serves clients side by side. It prints figures, and fails
//! on a wrong reply, a leak or growth.
//! Too long and too large for `cargo test`, which leaves it out.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code)]

#[path = "it/faults.rs"]
mod faults;
#[path = "it/modes.rs"]
mod modes;
#[path = "it/process.rs"]
mod process;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use socket_tables::server::Mode;

use faults::{connections, garbage, p99, reset};
use modes::SEVERAL;
use process::{COUNT, COUNTED, PATIENCE, Process, eventually, exchange, ms, rest};

const CONNECTIONS: u64 = 10_000;
const FAULTS_TIME: Duration = Duration::from_secs(15);
/// What may be resident at the end of the faults and was not at their start: the allocator's own.
const GROWTH_BYTES_MAX: u64 = 8 << 20;
const MIB: f64 = (1 << 20) as f64;

#[test]
fn soak() {
    for mode in SEVERAL.iter().copied() {
        println!("{mode} mode");
        idle_connections(mode);
        bursts(mode);
        slowloris(mode);
        slow_readers(mode);
        mixed_faults(mode);
    }
}

/// A server with 10,000 places.
fn roomy(mode: Mode) -> Process {
    Process::in_mode(mode, &["-q", "--threads", "10000", "--connections", "10000"])
}

fn idle_connections(mode: Mode) {
    // The kibibyte has to hold for an idle connection; in pool mode a thread's stack comes with it.
    let bytes_max = if mode == Mode::POOL { 16 << 10 } else { 1 << 10 };
    let wanted = connections(CONNECTIONS);
    if wanted < CONNECTIONS {
        println!("ulimit -n allows {wanted} connections, not {CONNECTIONS}");
    }
    let server = roomy(mode);
    let before = server.memory("VmRSS");
    let since = Instant::now();
    let clients: Vec<TcpStream> = (0..wanted)
        .map(|_| {
            let mut stream = server.connect();
            assert_eq!(exchange(&mut stream, COUNT), COUNTED);
            stream
        })
        .collect();
    let took = since.elapsed();
    let each = (server.memory("VmRSS") - before) / wanted;
    let ticks = server.ticks();
    thread::sleep(Duration::from_secs(2));
    let ticks = server.ticks() - ticks;
    println!("{wanted} connections, one after another, served one request each: {:.1} s", took.as_secs_f64());
    println!("  idle: {each} bytes resident each, {} threads, {ticks} ticks in 2 s", server.threads());
    assert!(each <= bytes_max && ticks <= 4);
    drop(clients);
    eventually("workers retire", || server.threads() < 10 && server.descriptors() < 20);
    println!(
        "  gone: {:.1} MiB resident, from {:.1}",
        server.memory("VmRSS") as f64 / MIB,
        before as f64 / MIB
    );
}

/// Ten times all connect at once, and each is answered. The queue of the kernel is what most easily fails here: a client that it
/// has no room for asks again after one second, then after three.
fn bursts(mode: Mode) {
    let server = roomy(mode);
    // A thread for each takes longer to start.
    let clients = connections(if mode == Mode::POOL { 2_000 } else { CONNECTIONS });
    let took: Vec<Duration> = (0..10)
        .map(|_| {
            let since = Instant::now();
            let mut streams: Vec<TcpStream> = (0..clients)
                .map(|_| {
                    let mut stream = server.connect();
                    stream.write_all(COUNT.as_bytes()).unwrap();
                    stream
                })
                .collect();
            for stream in &mut streams {
                let mut reply = [0; COUNTED.len()];
                stream.read_exact(&mut reply).unwrap();
                assert_eq!(reply, *COUNTED.as_bytes());
            }
            let took = since.elapsed();
            drop(streams);
            eventually("they are gone", || server.told(&["connections"]) == 1);
            took
        })
        .collect();
    println!("{clients} connections at once, served one request each, ten times: {took:?}");
    assert_eq!(server.told(&["refused"]), 0);
    assert!(took.iter().all(|took| *took < Duration::from_secs(3)), "some had to ask again");
}

fn slowloris(mode: Mode) {
    let server = Process::in_mode(mode, &["-q", "--connections", "512"]);
    let time = Duration::from_secs(5);
    let before = p99(&server, time);
    eventually("the place is free", || server.told(&["connections"]) == 1);
    let slow: Vec<TcpStream> = (0..511).map(|_| server.connect()).collect();
    let since = Instant::now();
    for mut stream in &slow {
        stream.write_all(b"{").unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    let (during, gone) = thread::scope(|scope| {
        let drip = scope.spawn(|| {
            // One after another, so that each says a byte in about a second.
            for (n, mut stream) in slow.iter().enumerate().cycle() {
                let _ = stream.write_all(b"\"");
                thread::sleep(ms(2));
                if n % 32 == 0 && slow.iter().all(|stream| stream.peek(&mut [0]).is_ok()) {
                    break;
                }
            }
            since.elapsed()
        });
        (p99(&server, time), drip.join().unwrap())
    });
    println!(
        "slowloris, 511 of 512 places held at a byte a second: p99 {before:?} before, {during:?} during"
    );
    println!("  the slow ones are gone after {gone:?} (deadline 10 s)");
    assert!(during <= 2 * before || during < ms(1), "the others feel it");
    assert!(gone >= ms(9_900) && gone <= ms(11_000), "{gone:?}");
}

fn slow_readers(mode: Mode) {
    let server = Process::in_mode(mode, &["-q"]);
    let value = "v".repeat(1_000);
    for hundred in 0..1_000 {
        let updates = (0..100).map(|n| {
            format!("{{\"request\":\"UPDATE\",\"key\":\"k{:05}\",\"value\":\"{value}\"}}", hundred * 100 + n)
        });
        let _ = server.ask(updates.collect::<String>());
    }
    let table = server.told(&["memory_bytes"]) as f64 / MIB;
    let before = server.memory("VmRSS");
    let mut readers: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    for stream in &mut readers {
        stream.write_all(br#"{"request":"GETALL"}"#).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    }
    thread::sleep(ms(500));
    let peak = (server.memory("VmHWM") - before) as f64 / MIB;
    println!("50 slow readers of a table of {table:.0} MiB: {peak:.1} MiB more at peak");
    assert!(peak < 8.0);
}

fn mixed_faults(mode: Mode) {
    let server = Process::in_mode(mode, &["-q", "--deadline", "2", "--idle", "5"]);
    // Once it has served somebody, all that is to run runs.
    assert_eq!(server.ask(COUNT), COUNTED);
    let usual = (server.threads(), server.descriptors());
    // What comes first makes the allocator and the table as large as they will be.
    let (asked, made) = faulty(&server, Duration::from_secs(5), 0);
    settle(&server, usual);
    let start = server.memory("VmRSS");
    let (checked, faults) = faulty(&server, FAULTS_TIME, 1);
    settle(&server, usual);
    let (end, now) = (server.memory("VmRSS"), (server.threads(), server.descriptors()));
    println!("mixed faults: {} requests served and checked, {} faults made", asked + checked, made + faults);
    println!("  resident {:.1} MiB at the start, {:.1} MiB at the end", start as f64 / MIB, end as f64 / MIB);
    println!("  threads {} and {}, descriptors {} and {}", usual.0, now.0, usual.1, now.1);
    let (info, told) = (server.info(), ["accepted", "timed_out", "errors"]);
    told.iter().for_each(|name| println!("  {name}: {}", info.get(name).unwrap()));
    assert!(end <= start + GROWTH_BYTES_MAX, "it grew");
    assert_eq!(server.told(&["errors", "unknown"]), 0);
}

/// Waits until all connections are closed and the workers have retired.
fn settle(server: &Process, usual: (u64, u64)) {
    eventually("nothing leaks", || server.threads() <= usual.0 && server.descriptors() <= usual.1);
}

/// Runs clients that behave beside all that do not: how many requests were checked, and faults made.
fn faulty(server: &Process, time: Duration, round: u64) -> (u64, u64) {
    let (stop, checked, made) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let giant = format!("{{\"request\":\"UPDATE\",\"key\":\"giant\",\"value\":\"{}\"}}", "x".repeat(2 << 20));
    let faults: [&(dyn Fn(u64) + Sync); 7] = [
        &|_| reset(server),
        &|n| {
            let mut stream = server.connect();
            let _ = stream.write_all(&garbage(n + round * 1_000_000));
            let _ = stream.shutdown(Shutdown::Write);
            let _ = rest(&mut stream);
        },
        // Told that it is too much, whole or cut off.
        &|n| {
            let mut stream = server.connect();
            let _ = stream.write_all(&giant.as_bytes()[..giant.len() / (1 + n as usize % 2)]);
            if n.is_multiple_of(3) {
                assert!(rest(&mut stream).contains("too_large"));
            }
        },
        // Many at once who take nothing, until they are given up.
        &|_| {
            let readers: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
            for mut stream in &readers {
                let _ = stream.set_write_timeout(Some(ms(300)));
                let _ = stream.write_all(&br#"{"request":"GETALL"}"#.repeat(2_000));
            }
            thread::sleep(ms(700));
        },
        // Many at once who begin and never end, a byte now and then.
        &|_| {
            let mut slow: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
            for byte in br#"{"request":"#.iter().chain([b' '; 12].iter()) {
                slow.iter_mut().for_each(|stream| drop(stream.write_all(&[*byte])));
                thread::sleep(ms(100));
            }
        },
        &|_| {
            let mut stream = server.connect();
            let _ = stream
                .write_all(b"POST / HTTP/1.1\r\n\r\n{\"request\":\"UPDATE\",\"key\":\"w0\",\"value\":0}");
            assert_eq!(rest(&mut stream), "");
        },
        // Gone at once, or within a request.
        &|n| drop(server.connect().write_all(&COUNT.as_bytes()[..n as usize % COUNT.len()])),
    ];
    thread::scope(|scope| {
        let (stop, checked, made) = (&stop, &checked, &made);
        for fault in faults {
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Relaxed) {
                        return;
                    }
                    fault(n);
                    made.fetch_add(1, Relaxed);
                    // So that those who behave get to do anything at all on few processors.
                    thread::sleep(ms(2));
                }
            });
        }
        for client in 0..4 {
            scope.spawn(move || {
                let mut random = 0x9e37_79b9 + client + round * 10;
                while !stop.load(Relaxed) {
                    checked.fetch_add(behave(server, client, &mut random), Relaxed);
                }
            });
        }
        thread::sleep(time);
        stop.store(true, Relaxed);
    });
    (checked.into_inner(), made.into_inner())
}

/// One connection that does what it should, in slices, with keys of its own; every reply is compared with
/// what a map says it must be. Returns how many.
fn behave(server: &Process, client: u64, random: &mut u64) -> u64 {
    let mut next = |below: u64| {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random % below
    };
    let mut stream = server.connect();
    let mut model: HashMap<String, String> = HashMap::new();
    let mut replies = 0;
    for _ in 0..50 {
        let (mut sent, mut expected) = (String::new(), String::new());
        for _ in 0..=next(30) {
            let key = format!("w{client}-{}", next(50));
            match next(3) {
                0 => {
                    let value = format!("\"{}\"", "v".repeat(next(2_000) as usize));
                    sent += &format!("{{\"request\":\"UPDATE\",\"key\":\"{key}\",\"value\":{value}}}");
                    expected += &format!("{{\"key\":\"{key}\",\"value\":{value}}}\n");
                    model.insert(key, value);
                }
                1 => {
                    sent += &format!("{{ \"request\": \"DELETE\", \"key\": \"{key}\" }}\n");
                    expected += &entry(&key, model.remove(&key).as_ref());
                }
                _ => {
                    sent += &format!("{{\"request\":\"GET\",\"key\":\"{key}\"}}");
                    expected += &entry(&key, model.get(&key));
                }
            }
            replies += 1;
        }
        let slice = 1 + next(5_000) as usize;
        for piece in sent.as_bytes().chunks(slice) {
            stream.write_all(piece).unwrap();
        }
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).unwrap();
        assert!(
            got == expected.as_bytes(),
            "wrong:\n{}\nexpected:\n{expected}",
            String::from_utf8_lossy(&got)
        );
    }
    // The next one begins with nothing, as its model does.
    for key in model.keys() {
        stream.write_all(format!("{{\"request\":\"DELETE\",\"key\":\"{key}\"}}").as_bytes()).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let since = Instant::now();
    assert_eq!(rest(&mut stream).lines().count(), model.len());
    assert!(since.elapsed() < PATIENCE);
    replies + model.len() as u64
}

fn entry(key: &str, value: Option<&String>) -> String {
    match value {
        Some(value) => format!("{{\"key\":\"{key}\",\"value\":{value}}}\n"),
        None => format!("{{\"key\":\"{key}\",\"found\":false,\"value\":null}}\n"),
    }
}
