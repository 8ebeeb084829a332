//! Clients that misbehave, and one that measures how others fare meanwhile; for the tests and the soak.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::process::{COUNT, COUNTED, Process};

/// What 99 of 100 requests stay below, of a client that sends one after another for so long.
pub fn p99(server: &Process, time: Duration) -> Duration {
    let mut stream = server.connect();
    let begun = Instant::now();
    let mut took = Vec::new();
    while begun.elapsed() < time {
        let since = Instant::now();
        stream.write_all(COUNT.as_bytes()).unwrap();
        assert_eq!(stream.read(&mut [0; 64]).unwrap(), COUNTED.len());
        took.push(since.elapsed());
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// Closed with a reply unread, which makes the kernel send a reset.
pub fn reset(server: &Process) {
    let mut stream = server.connect();
    stream.write_all([COUNT, COUNT, "{\"request\":\"GE"].concat().as_bytes()).unwrap();
    stream.peek(&mut [0]).unwrap();
}

/// Bytes that look like anything, the same for the same seed.
pub fn garbage(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Some begin as one of the dialects do, and most are made of bytes that mean something.
    let alphabet = b"{}[]\",:\\ \n\r01234567890eE+-.tfnGETUPDATErequestkey\x00\x1b\x7f\x80\xff\xc3\xa9";
    let length = 1 + next() as usize % 2_000;
    let begun: &[u8] = [
        &b""[..],
        b"{\"request\":",
        b"GET ",
        b"12 ",
        b"&",
        b"{\"request\":\"UPDATE\",\"key\":\"g\",\"value\":",
    ][next() as usize % 6];
    let rest = (0..length).map(|_| match seed % 3 {
        0 => next() as u8,
        _ => alphabet[next() as usize % alphabet.len()],
    });
    begun.iter().copied().chain(rest).collect()
}

/// They end with the test, also where it fails: the scope would wait for their threads for ever.
pub struct Attackers(pub Vec<TcpStream>);

impl Drop for Attackers {
    fn drop(&mut self) {
        self.0.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

/// Descriptors that this process and a server need for all else.
const RESERVED: u64 = 300;

/// So many connections, or as many as the limit on descriptors allows.
pub fn connections(wanted: u64) -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(u64::MAX);
    wanted.min(soft.saturating_sub(RESERVED))
}
