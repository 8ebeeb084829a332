//! README's table of rates (`make bench`): st in its modes, and beside it Redis and memcached where they are installed,
//! loaded by `st bench` with the same keys, values and writes.
//!
//! A machine's speed changes from one second to the next, so all servers run at once and are loaded in turn, again and
//! again; told is the median of the rounds. Too long for `cargo test`, which leaves it out.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use socket_tables::json::Value;

const ST: &str = env!("CARGO_BIN_EXE_st");
const ROUNDS: usize = 5;
const SECONDS: &str = "1";
/// Connections, and requests that each sends before it waits.
const SHAPES: &[(&str, &str)] = &[("1", "1"), ("50", "1"), ("1000", "1"), ("50", "16"), ("50", "64")];

/// A server under load, killed when dropped.
struct Server {
    name: &'static str,
    /// The words of `st bench` that say whom to load.
    target: Vec<String>,
    /// It serves one client after another.
    is_iterative: bool,
    child: Child,
}

impl Server {
    fn st(mode: &'static str) -> Server {
        let mut command = Command::new(ST);
        command.args(["server", "-q", "-m", mode, "--threads", "2000", "0"]).env_remove("ST_TOKEN");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let target = vec![address.trim_end().to_owned()];
        Server { name: mode, target, is_iterative: mode == "iterative", child }
    }

    /// Another's, on a port that is free, if it is installed. `words` come before the port.
    fn other(name: &'static str, program: &str, words: &[&str]) -> Option<Server> {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command.args(words).arg(address.port().to_string()).stdin(Stdio::null());
        let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            println!("{program} is not installed here, and has no column.");
            return None;
        };
        let since = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(since.elapsed() < Duration::from_secs(10), "{program} does not listen");
            sleep(Duration::from_millis(10));
        }
        let target = vec!["--against".to_owned(), name.to_owned(), address.to_string()];
        Some(Server { name, target, is_iterative: false, child })
    }

    /// Requests a second, and the time in milliseconds that 99% of them take at most.
    fn load(&self, connections: &str, depth: &str) -> (f64, f64) {
        let words = ["bench", "--json", "--seconds", SECONDS, "-c", connections, "-P", depth];
        let output = Command::new(ST).args(words).args(&self.target).env_remove("ST_TOKEN").output().unwrap();
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        let told = Value::parse(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
        let number = |value: Option<&Value>| value.unwrap().to_string().parse::<f64>().unwrap();
        let p99 = told.get("latency_us").and_then(|times| times.get("p99"));
        (number(told.get("requests_per_second")), number(p99) / 1e3)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[test]
fn bench() {
    let mut servers: Vec<Server> = ["event", "pool", "iterative"].map(Server::st).into();
    let redis = Server::other("redis", "redis-server", &["--save", "", "--maxclients", "4000", "--port"]);
    // It wants to be told whom to become where root starts it.
    let memcached = Server::other("memcached", "memcached", &["-u", "nobody", "-U", "0", "-c", "4000", "-p"]);
    // What the others are compared with.
    let base = if redis.is_some() { "redis" } else { "event" };
    servers.extend(redis.into_iter().chain(memcached));
    println!(
        "Requests a second (as a ratio to {base}), p99 in ms; 10% writes of 32 bytes, medians of {ROUNDS} rounds\n"
    );
    let columns: Vec<&str> = servers.iter().map(|server| server.name).collect();
    println!("| connections x depth | {} |\n|---|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for (connections, depth) in SHAPES {
        let mut measured = vec![Vec::new(); servers.len()];
        for _ in 0..ROUNDS {
            for (server, measured) in servers.iter().zip(&mut measured) {
                if !server.is_iterative || *connections == "1" {
                    measured.push(server.load(connections, depth));
                }
            }
        }
        let medians: Vec<Option<(f64, f64)>> = measured
            .into_iter()
            .map(|rounds| (!rounds.is_empty()).then(|| rounds.into_iter().unzip()))
            .map(|rounds| rounds.map(|(rates, times)| (median(rates), median(times))))
            .collect();
        let of_base = servers.iter().zip(&medians).find(|(server, _)| server.name == base);
        let of_base = of_base.and_then(|(_, median)| *median).unwrap().0;
        let cells = medians.iter().map(|median| {
            median.map_or("".into(), |(rate, p99)| format!("{rate:.0} ({:.2}), {p99:.2}", rate / of_base))
        });
        println!("| {connections} x {depth} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
