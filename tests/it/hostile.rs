//! Clients that are slow, broken, malicious or many: the server stays up, stays small, answers the others.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::faults::{Attackers, garbage, p99, reset};
use crate::modes::{LASTING, SEVERAL, in_modes};
use crate::process::{
    COUNT, COUNTED, PATIENCE, Process, Temporary, by_shell, eventually, exchange, keepalive_armed, ms, rest,
    side_by_side,
};
use crate::support::st;

const UPDATE: &str = r#"{"request":"UPDATE","key":"k","value":"v"}"#;
const UPDATED: &str = "{\"key\":\"k\",\"value\":\"v\"}\n";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

#[test]
fn slow_clients_on_all_workers_but_one_slow_nobody_and_are_gone_at_the_deadline() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(mode, &["--threads", "128", "--connections", "128", "--deadline", "3"]);
        let before = p99(&server, ms(1000));
        eventually("the worker is free", || server.told(&["connections"]) == 1);
        let since = Instant::now();
        let mut slow: Vec<TcpStream> = (0..127).map(|_| server.connect()).collect();
        let (during, gone) = thread::scope(|scope| {
            let drip = scope.spawn(|| {
                let mut begun = r#"{"request":"ECHO","data":""#.bytes();
                loop {
                    let byte = [begun.next().unwrap_or(b'x')];
                    // The first that has been told and closed ends it; the others are as old.
                    for stream in &mut slow {
                        stream.set_nonblocking(true).unwrap();
                        let _ = stream.write_all(&byte);
                        if stream.peek(&mut [0]).is_ok() {
                            return since.elapsed();
                        }
                        stream.set_nonblocking(false).unwrap();
                    }
                    thread::sleep(ms(100));
                }
            });
            (p99(&server, ms(1000)), drip.join().unwrap())
        });
        // Whoever waited for a slow one would wait for seconds. The soak compares more closely: a machine
        // that runs other tests has its own reasons for a slow hundredth.
        assert!(during < before + ms(1000), "p99 was {before:?}, is {during:?}");
        assert!(gone >= ms(2980) && gone < ms(6000), "{gone:?}");
        for stream in &mut slow {
            stream.set_nonblocking(false).unwrap();
            assert!(rest(stream).contains("\"timeout\""));
        }
        eventually("all are told", || server.told(&["timed_out"]) == 127);
        eventually("no worker is held", || server.told(&["connections"]) == 1);
    });
}

#[test]
fn pipelining_before_reading_loses_nothing_and_a_client_that_never_reads_costs_little() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(mode, &["--deadline", "2"]);
        // Replies of some size fill the kernel's buffers by fewer requests.
        assert!(server.ask(format!("UPDATE k {}\n", "v".repeat(500))).starts_with("MSG vvv"));
        let mut stream = server.connect();
        let sent: String = (0..100_000).map(|n| format!("ECHO {n}\n")).collect();
        stream.write_all(sent.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let expected: String = (0..100_000).map(|n| format!("MSG {n}\n")).collect();
        let replies = rest(&mut stream);
        assert!(replies == expected, "{} of {} bytes", replies.len(), expected.len());
        let before = server.memory("VmRSS");
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let mut stream = server.connect();
                thread::spawn(move || {
                    // Far more replies than the kernel holds for it.
                    let requests = r#"{"request":"GET","key":"k"}"#.repeat(10_000);
                    stream.set_write_timeout(Some(PATIENCE)).unwrap();
                    for _ in 0..1_000 {
                        if stream.write_all(requests.as_bytes()).is_err() {
                            return;
                        }
                    }
                    panic!("a server that takes everything keeps it somewhere");
                })
            })
            .collect();
        // Each costs its stack, and two buffers.
        while !clients.iter().all(|client| client.is_finished()) {
            let grown = server.memory("VmRSS").saturating_sub(before);
            assert!(grown < 20 * 150 * KIB, "{} KiB for 20 clients", grown / KIB);
            thread::sleep(ms(20));
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
        eventually("they are told", || server.told(&["timed_out"]) == 20);
    });
}

#[test]
fn slow_readers_of_a_large_table_do_not_each_cost_a_copy() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(mode, &[]);
        let value = "v".repeat(1_000);
        let item = format!("{{\"key\":\"k00000\",\"value\":\"{value}\"}}").len();
        for hundred in 0..300 {
            // A hundred at a time, since nobody reads the replies meanwhile.
            let updates = (0..100).map(|n| {
                format!(
                    "{{\"request\":\"UPDATE\",\"key\":\"k{:05}\",\"value\":\"{value}\"}}",
                    hundred * 100 + n
                )
            });
            assert_eq!(server.ask(updates.collect::<String>()).len(), 100 * (item + 1));
        }
        let table = 30_000 * (item as u64 + 1) + 2;
        let before = server.memory("VmRSS");
        let mut readers: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
        for stream in &mut readers {
            stream.write_all(br#"{"request":"GETALL"}"#).unwrap();
            stream.read_exact(&mut [0; 1000]).unwrap();
        }
        let during = server.memory("VmHWM").saturating_sub(before);
        assert!(during < table / 8, "{} KiB more, of a table of {} KiB", during / KIB, table / KIB);
        // Writes go on meanwhile, and a reader that wakes up gets the rest, whole.
        let last = UPDATE.replace("\"k\"", "\"z\"");
        assert_eq!(server.ask(last).len(), UPDATED.len());
        assert_eq!(rest_length(&mut readers[0]), table + UPDATED.len() as u64 - 1000);
        let peak = server.memory("VmHWM").saturating_sub(before);
        assert!(peak < table / 8, "{} KiB at peak", peak / KIB);
    });
}

/// How many bytes come until the line ends.
fn rest_length(stream: &mut TcpStream) -> u64 {
    let (mut length, mut bytes) = (0, vec![0; 1 << 16]);
    loop {
        let n = stream.read(&mut bytes).unwrap();
        length += n as u64;
        if n == 0 || bytes[..n].ends_with(b"\n") {
            return length;
        }
    }
}

#[test]
fn resets_half_closes_garbage_and_vanished_peers_leak_nothing() {
    in_modes(SEVERAL, |mode| {
        let server = Process::in_mode(
            mode,
            &["--threads", "64", "--connections", "64", "--deadline", "1", "--idle", "1"],
        );
        assert_eq!(server.ask(UPDATE), UPDATED);
        let usual = (server.threads(), server.descriptors());
        // They vanish without a word: nobody tells the server, and only the time that passes does.
        let vanished: Vec<TcpStream> = (0..10)
            .map(|n| {
                let mut stream = server.connect();
                stream.write_all(&COUNT.as_bytes()[..n]).unwrap();
                stream
            })
            .collect();
        side_by_side(&[
            &|| (0..300).for_each(|_| reset(&server)),
            &|| {
                for n in 0..100 {
                    // Half-closed: all that was asked is answered, also where the last line has no end.
                    let replies = server.ask(UPDATE.repeat(n));
                    assert_eq!(replies, UPDATED.repeat(n));
                    assert_eq!(server.ask("ECHO a\nECHO b"), "MSG a\nMSG b\n");
                }
            },
            &|| {
                for seed in 0..300 {
                    let mut stream = server.connect();
                    // It may be told off and closed before it has sent all.
                    let _ = stream.write_all(&garbage(seed));
                    let _ = stream.shutdown(Shutdown::Write);
                    let _ = rest(&mut stream);
                }
            },
            &|| (0..300).for_each(|_| drop(server.connect())),
            &|| {
                for n in 0..300 {
                    // Gone within a request.
                    let _ = server.connect().write_all(&UPDATE.as_bytes()[..n % UPDATE.len()]);
                }
            },
            &|| {
                // A slice at a time, and right all the same.
                let mut stream = server.connect();
                stream.set_nodelay(true).unwrap();
                for piece in UPDATE.repeat(20).as_bytes().chunks(7) {
                    stream.write_all(piece).unwrap();
                }
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(rest(&mut stream), UPDATED.repeat(20));
            },
        ]);
        assert_eq!(server.ask(r#"{"request":"GET","key":"k"}"#), UPDATED, "and it still answers");
        eventually("descriptors come back", || server.descriptors() <= usual.1);
        drop(vanished);
        // Workers stay for some seconds, for the next burst.
        eventually("threads retire", || server.threads() <= usual.0);
        assert_eq!(server.told(&["connections"]), 1);
        assert_eq!(server.told(&["errors", "unknown"]), 0);
    });
}

#[test]
fn both_sides_of_a_watch_probe_a_peer_that_is_silent() {
    in_modes(SEVERAL, |mode| {
        // That a peer without an answer is given up on takes a minute, and is the kernel's work; ours is to ask for it.
        let server = Process::in_mode(mode, &[]);
        let mut stream = server.connect();
        assert_eq!(exchange(&mut stream, r#"{"request":"WATCH","key":"k"}"#), "{\"request\":\"READY\"}\n");
        let (serving, port) = (server.addr.port(), stream.local_addr().unwrap().port());
        eventually("the server probes", || keepalive_armed(serving, port));
        assert!(!keepalive_armed(port, serving), "this end has not asked for it");
        let mut command = st(&["client", "-a", &server.addr.to_string(), "watch", "k"]);
        let mut client = command.stdout(Stdio::piped()).spawn().unwrap();
        eventually("the client probes", || keepalive_armed(0, serving));
        client.kill().unwrap();
        client.wait().unwrap();
    });
}

/// What browsers send for a page, in every way a page can ask for, with a body that would be a request.
fn web_page_attacks() -> Vec<String> {
    let request = r#"{"request":"UPDATE","key":"stolen","value":1}"#;
    let head = "Host: 127.0.0.1:7777\r\nOrigin: https://evil.example\r\nUser-Agent: Mozilla/5.0";
    let with_body = |first: &str, kind: &str, body: &str| {
        format!("{first}\r\n{head}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let mut attacks = Vec::new();
    for method in
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "UPDATE", "GETALL", "CLOSE", "k"]
    {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let lines = format!("\n{request}\nUPDATE stolen 1\n");
            attacks.push(with_body(&format!("{method} / {version}"), "application/json", request));
            attacks.push(with_body(&format!("{method} /stolen%201 {version}"), "text/plain", &lines));
        }
    }
    // Forms: as text, as `name=value`, in parts.
    attacks.push(with_body("POST / HTTP/1.1", "text/plain", &format!("{request}=\r\n")));
    attacks.push(with_body("POST / HTTP/1.1", "application/x-www-form-urlencoded", "UPDATE+stolen+1=1"));
    let parts = format!("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{request}\r\n--x--\r\n");
    attacks.push(with_body("POST / HTTP/1.1", "multipart/form-data; boundary=x", &parts));
    // A WebSocket, whose frames would follow, and a proxy's tunnel.
    attacks.push(format!(
        "GET /chat HTTP/1.1\r\n{head}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n{request}"
    ));
    attacks.push(format!("CONNECT 127.0.0.1:7777 HTTP/1.1\r\n{head}\r\n\r\n{request}"));
    attacks.push(format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{request}"));
    // Header lines that would be requests, were they read.
    attacks.push(format!("GET / HTTP/1.1\r\nUPDATE stolen 1\r\n{request}\r\n\r\n"));
    // However it is written, and whatever a proxy makes of the first line.
    attacks.push(format!("POST / HTTP/1.1 \r\n\r\n{request}"));
    attacks.push("put /x http/1.1\r\n\r\nUPDATE stolen 1\n".to_owned());
    // Spaces and other text in the path do not hide it, nor does an address of any length.
    attacks.push(format!("UPDATE stolen 1 HTTP/1.1\r\n{head}\r\n\r\n{request}"));
    attacks.push(format!("POST /{} HTTP/1.1\r\n{head}\r\n\r\n{request}", "x".repeat(500_000)));
    attacks
}

#[test]
fn a_web_page_changes_nothing_however_it_asks() {
    in_modes(LASTING, |mode| {
        let server = Process::logging_in(mode, &[]);
        let attacks = web_page_attacks();
        for attack in &attacks {
            assert_eq!(server.ask(attack), "", "{attack}");
            // The first line in two pieces, as the network may cut it.
            let mut stream = server.connect();
            let cut = attack.to_ascii_uppercase().find("HTTP/").unwrap() + 3;
            stream.write_all(&attack.as_bytes()[..cut]).unwrap();
            thread::sleep(ms(2));
            let _ = stream.write_all(&attack.as_bytes()[cut..]);
            assert_eq!(rest(&mut stream), "", "{attack}");
        }
        // TLS and the like are no dialect at all.
        for sent in
            [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\x00\x01\x00\x08\x21\x12\xa4\x42", b"-"]
        {
            assert!(server.ask(sent).contains("bad_json"), "{sent:?}");
        }
        assert_eq!(server.ask(COUNT), COUNTED, "nothing was changed");
        let requests = server.info().get("requests").unwrap().to_string();
        assert!(requests.starts_with("{\"COUNT\":1,"), "none was even understood: {requests}");
        eventually("each is told, or counted", || {
            let log = server.log();
            let told = log
                .lines()
                .filter(|line| line.contains("event=http_refused"))
                .map(|line| line.split_once("suppressed=").map_or(1, |(_, n)| n.parse::<usize>().unwrap()));
            told.sum::<usize>() == 2 * attacks.len()
        });
        // What only looks like it: further lines, and other dialects, may say what they like.
        let said = server.ask("ECHO one\nECHO GET / HTTP/1.1\n");
        assert_eq!(said, "MSG one\nMSG GET / HTTP/1.1\n");
    });
}

#[test]
fn a_server_without_descriptors_rests_and_serves_again_once_there_are_some() {
    in_modes(SEVERAL, |mode| {
        let server = Process::spawn(by_shell("ulimit -n 64; exec", &format!("-q -m {mode}")));
        // Each asks, and those that are answered hold on.
        let addr = server.addr;
        let clients: Vec<_> = (0..200)
            .map(|_| {
                thread::spawn(move || {
                    // The kernel takes some that nobody has accepted yet, and leaves the others asking.
                    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(4)).ok()?;
                    stream.write_all(COUNT.as_bytes()).ok()?;
                    Some(stream)
                })
            })
            .collect();
        let clients: Vec<TcpStream> =
            clients.into_iter().filter_map(|client| client.join().unwrap()).collect();
        assert!(clients.len() > 100, "{}", clients.len());
        let answered = |stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            stream.peek(&mut [0]).is_ok_and(|n| n > 0)
        };
        let (served, waiting): (Vec<_>, Vec<_>) = clients.into_iter().partition(&answered);
        assert!((20..64).contains(&served.len()) && waiting.len() > 40, "{} {}", served.len(), waiting.len());
        assert!(server.descriptors() >= 64 - 2, "it has no more: {}", server.descriptors());
        let (ticks, since) = (server.ticks(), Instant::now());
        thread::sleep(ms(2000));
        let (ticks, hundredths) = (server.ticks() - ticks, since.elapsed().as_millis() as u64 / 10);
        assert!(ticks * 100 <= hundredths * 5, "{ticks} ticks in {hundredths}");
        drop(served);
        let since = Instant::now();
        // Not each of them: some only think that they are connected, for the kernel had no room to take them.
        eventually("who waited is served", || waiting.iter().filter(|stream| answered(stream)).count() >= 40);
        assert!(since.elapsed() < ms(1500), "{:?}", since.elapsed());
        drop(waiting);
        eventually("descriptors come back", || server.descriptors() < 16);
        assert_eq!(server.ask(COUNT), COUNTED);
    });
}

#[test]
fn a_server_without_threads_makes_do_with_those_it_has() {
    // No limit on threads holds for root, so there the server is run as somebody else, from where that one
    // may read; other users' limits count what they run already.
    let own = Temporary::new();
    let binary = own.as_str();
    let limited = format!(
        "if [ $(id -u) = 0 ]; then install -m 755 $0 {binary}
            exec prlimit --nproc=30 setpriv --reuid 54321 --clear-groups {binary} server -q -m pool 0; fi
         exec prlimit --nproc=$(($(ps -L -u $(id -u) | wc -l) + 30)) $0 server -q -m pool 0"
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_st")]).stderr(std::process::Stdio::null());
    let server = Process::spawn(command);
    let mut clients: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|stream| stream.write_all(COUNT.as_bytes()).unwrap());
    let replies: Vec<String> = clients.iter_mut().map(|stream| exchange(stream, "")).collect();
    let served = replies.iter().filter(|reply| *reply == COUNTED).count();
    let busy = replies.iter().filter(|reply| reply.starts_with("{\"error\":{\"code\":\"busy\"")).count();
    assert!(served >= 10 && busy >= 10 && served + busy == 100, "{served} served, {busy} told busy");
    drop(clients);
    eventually("it goes on", || server.ask(COUNT) == COUNTED);
}

#[test]
fn a_burst_of_connects_is_served_by_as_many_workers_as_it_needs() {
    let server = Process::start(&["-m", "pool"]);
    let since = Instant::now();
    let mut clients: Vec<TcpStream> = (0..400).map(|_| server.connect()).collect();
    for stream in &mut clients {
        stream.write_all(COUNT.as_bytes()).unwrap();
    }
    for stream in &mut clients {
        assert_eq!(exchange(stream, ""), COUNTED);
    }
    // The system accepts 128 ahead of the server; where that was too few, a client asked again a second later.
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(server.told(&["refused"]), 0);
    assert!(server.threads() > 400);
    // Idle, they cost little and use no processor at all.
    let per_connection = server.memory("VmRSS") / 400;
    assert!(per_connection < 48 * KIB, "{per_connection} bytes, with a debug build's own share in it");
    let ticks = server.ticks();
    thread::sleep(ms(1000));
    assert!(server.ticks() - ticks <= 2, "{} ticks", server.ticks() - ticks);
    drop(clients);
    eventually("the workers retire", || server.threads() < 20);
    assert!(server.memory("VmRSS") < 40 * MIB);
}

#[test]
fn conditions_on_large_values_stop_no_reader() {
    for mode in SEVERAL.iter().copied() {
        let server = Process::in_mode(mode, &[]);
        let large = format!("[{}1]", "1,".repeat(500_000));
        let stored = server.ask(format!(r#"{{"request":"UPDATE","key":"large","value":{large}}}"#));
        assert!(stored.ends_with("]}\n"));
        assert_eq!(server.ask(UPDATE), UPDATED);
        // An empty array is of the same kind, so each condition costs the parsing of a megabyte.
        let attack = r#"{"request":"DELETE","key":"large","if":{"equals":[]}}"#.repeat(100);
        let attack = attack.as_bytes();
        let mut waits = thread::scope(|scope| {
            let mut attackers = Attackers(Vec::new());
            for _ in 0..8 {
                let stream = server.connect();
                let (mut reader, mut writer) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
                scope.spawn(move || while reader.read(&mut [0; 65_536]).is_ok_and(|n| n > 0) {});
                scope.spawn(move || while writer.write_all(attack).is_ok() {});
                attackers.0.push(stream);
            }
            let attacked = || server.told(&["errors", "conflict"]) > 8;
            eventually("the attack is under way", attacked);
            let mut stream = server.connect();
            let waits = (0..100).map(|_| {
                let since = Instant::now();
                assert!(exchange(&mut stream, r#"{"request":"GET","key":"k"}"#).contains("\"v\""));
                since.elapsed()
            });
            waits.collect::<Vec<Duration>>()
        });
        waits.sort_unstable();
        // When conditions were judged under the lock for writing, the median was longer than a second.
        assert!(waits[50] < ms(100), "half of the readers waited longer than {:?}", waits[50]);
        assert_eq!(server.told(&["keys"]), 2);
    }
}
