//! Clients that write, one that reads, and what they have been told.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use crate::disk::Random;
use crate::process::{PATIENCE, ms};
use crate::recorded::Operation;

/// Clients that write, and what each of them does.
pub const CLIENTS: usize = 4;
pub const CHANGES: u64 = 200;
/// Keys of each client.
const KEYS: u64 = 5;

/// A key, and the value that it gets; none where it is deleted.
pub type Change = (String, Option<String>);

/// What a client does. Each of its values begins with the number of the change, and few are large.
pub fn changes(client: u64) -> Vec<Change> {
    let mut random = Random(client);
    let change = |number| {
        let length = match random.below(8) {
            0 => 20_000 + random.below(40_000),
            1..4 => 1_000 + random.below(4_000),
            _ => random.below(200),
        };
        let text: String = (0..length).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
        let key = format!("c{client}/{}", random.below(KEYS));
        (key, (random.below(5) > 0).then(|| format!("\"{number} {text}\"")))
    };
    (1..=CHANGES).map(change).collect()
}

fn connect(address: SocketAddr, role: &str) -> (TcpStream, impl FnMut() + use<>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let mut reply = move || {
        let mut line = String::new();
        replies.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "{line:.200}");
    };
    writeln!(stream, r#"{{"request":"ECHO","data":"{role}"}}"#).unwrap();
    reply();
    (stream, reply)
}

/// Sends some changes at a time, the large ones alone, and waits for their replies.
pub fn write(address: SocketAddr, client: usize, changes: &[Change]) {
    let (mut stream, mut reply) = connect(address, &format!("writer {client}"));
    let mut left = changes;
    let mut random = Random(client as u64);
    while !left.is_empty() {
        let (mut sent, mut count) = (String::new(), 0);
        let most = 1 + random.below(6) as usize;
        while count < most.min(left.len()) && sent.len() < 10_000 {
            let (key, value) = &left[count];
            sent += &match value {
                Some(value) => format!(r#"{{"request":"UPDATE","key":"{key}","value":{value}}}"#),
                None => format!(r#"{{"request":"DELETE","key":"{key}"}}"#),
            };
            count += 1;
        }
        stream.write_all(sent.as_bytes()).unwrap();
        (0..count).for_each(|_| reply());
        left = &left[count..];
    }
}

/// Reads what the others write.
pub fn read(address: SocketAddr, is_over: &AtomicBool) {
    let (mut stream, mut reply) = connect(address, "reader");
    let mut random = Random(1);
    while !is_over.load(SeqCst) {
        let (client, key) = (random.below(CLIENTS as u64), random.below(KEYS));
        write!(stream, r#"{{"request":"GET","key":"c{client}/{key}"}}"#).unwrap();
        reply();
        thread::sleep(ms(3));
    }
}

/// What clients have been told: how many changes of each, and how many of these before the last sync began.
#[derive(Default)]
pub struct Told {
    pub all: [usize; CLIENTS],
    pub replies: [usize; CLIENTS],
    pub synced: [usize; CLIENTS],
    syncing: [usize; CLIENTS],
    sockets: HashMap<i64, (Option<Role>, Vec<u8>)>,
}

/// Who sits at the other end of a socket.
#[derive(Clone, Copy)]
enum Role {
    Writer(usize),
    Reader,
}

impl Told {
    pub fn apply(&mut self, operation: &Operation, is_journals: bool) {
        match operation {
            Operation::SyncBegins { .. } if is_journals => self.syncing = self.all,
            Operation::SyncEnds { .. } if is_journals => self.synced = self.syncing,
            Operation::Close { file } => drop(self.sockets.remove(file)),
            Operation::Sent { socket, bytes } => {
                let (mut role, mut unread) = self.sockets.remove(socket).unwrap_or_default();
                unread.extend_from_slice(bytes);
                while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = unread.drain(..=end).collect();
                    role = Some(self.hear(role, &String::from_utf8(line).unwrap()));
                }
                self.sockets.insert(*socket, (role, unread));
            }
            _ => {}
        }
    }

    /// Takes down what a line tells, and to whom.
    fn hear(&mut self, role: Option<Role>, line: &str) -> Role {
        assert!(!line.contains("\"error\":"), "{line:.200}");
        match role {
            None if line.contains("reader") => Role::Reader,
            None => Role::Writer(line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()),
            Some(Role::Writer(client)) => {
                self.replies[client] += 1;
                self.all[client] = self.all[client].max(self.replies[client]);
                Role::Writer(client)
            }
            Some(Role::Reader) => {
                // Whoever has read a value has been told that it is there, whoever else was not.
                if let Some((client, number)) = line.strip_prefix("{\"key\":\"c").and_then(seen) {
                    self.all[client] = self.all[client].max(number);
                }
                Role::Reader
            }
        }
    }
}

/// Of `3/2","value":"17 …`, the client and the number of its change.
fn seen(line: &str) -> Option<(usize, usize)> {
    let (client, rest) = line.split_once('/')?;
    let (_, value) = rest.split_once("\"value\":\"")?;
    Some((client.parse().ok()?, value.split(' ').next()?.parse().ok()?))
}
