//! A run of a server as strace has written it down: what it asked of the system for files of one folder, and what it
//! sent to clients, in order.
//!
//! A call has two moments, its beginning and its end, and strace stops the thread at both. What a call may have done
//! is there from its beginning, and what it promises from its end. So a write, a rename or a reply counts from when it
//! began, and a sync makes durable at its end what had been written when it began.

use std::collections::HashMap;
use std::path::Path;

/// What has to be looked at. The last ones must not be used for the journal, for nothing here understands them.
pub const CALLS: &str = "openat,close,pwrite64,fdatasync,fsync,ftruncate,rename,unlink,sendto,\
                         write,writev,pwritev,pwritev2,copy_file_range,sendfile";

/// What was asked for. A number is a descriptor's, until that is closed.
pub enum Operation {
    /// A file of the folder was opened; it is created where there is none, and emptied where that is asked for.
    Open {
        file: i64,
        name: String,
        creates: bool,
        empties: bool,
    },
    /// The folder itself was opened.
    OpenFolder {
        file: i64,
    },
    Close {
        file: i64,
    },
    Write {
        file: i64,
        at: u64,
        bytes: Vec<u8>,
    },
    /// Bytes were written, and nobody knows which, or where.
    Untold {
        file: i64,
    },
    Truncate {
        file: i64,
        length: u64,
    },
    SyncBegins {
        file: i64,
    },
    SyncEnds {
        file: i64,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        name: String,
    },
    /// Bytes left for a client.
    Sent {
        socket: i64,
        bytes: Vec<u8>,
    },
}

impl Operation {
    /// What it is, in a few words.
    pub fn name(&self) -> String {
        match self {
            Operation::Open { name, .. } => format!("open {name}"),
            Operation::OpenFolder { .. } => "open the folder".into(),
            Operation::Close { .. } => "close".into(),
            Operation::Write { at, bytes, .. } => format!("write of {} bytes at {at}", bytes.len()),
            Operation::Untold { .. } => "write".into(),
            Operation::Truncate { length, .. } => format!("truncate to {length}"),
            Operation::SyncBegins { .. } => "a sync begins".into(),
            Operation::SyncEnds { .. } => "a sync ends".into(),
            Operation::Rename { from, to } => format!("rename {from} to {to}"),
            Operation::Unlink { name } => format!("unlink {name}"),
            Operation::Sent { bytes, .. } => format!("reply of {} bytes", bytes.len()),
        }
    }
}

/// A call, and in which lines it began and ended.
struct Call<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
    begins: usize,
    ends: usize,
    result: i64,
}

/// What was asked for, in the order of effects.
pub fn operations(log: &str, folder: &Path) -> Vec<Operation> {
    let mut found = Vec::new();
    for call in calls(log) {
        let (at, ended) = (call.begins, call.ends);
        match call.name {
            "fsync" | "fdatasync" => {
                assert_eq!(call.result, 0, "a sync failed");
                found.push((at, Operation::SyncBegins { file: call.number(0) }));
                found.push((ended, Operation::SyncEnds { file: call.number(0) }));
            }
            // Its number is known at its end. Another thread may have that of a file as soon as its close begins.
            "openat" => found.extend(opened(&call, folder).map(|operation| (ended, operation))),
            _ => found.extend(effect(&call, folder).map(|operation| (at, operation))),
        }
    }
    // Of one line's, the order stays: a call that was not interrupted begins and ends in the same.
    found.sort_by_key(|(line, _)| *line);
    found.into_iter().map(|(_, operation)| operation).collect()
}

/// Puts together what strace has on two lines where another thread came between.
fn calls(log: &str) -> Vec<Call<'_>> {
    let (mut calls, mut begun) = (Vec::new(), HashMap::new());
    for (line, text) in log.lines().enumerate() {
        let (thread, text) = text.split_once(' ').unwrap();
        let text = text.trim_start();
        if let Some(call) = text.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, (line, call));
        } else if let Some((call, result)) = text.rsplit_once(" = ") {
            let (begins, call) = match call.starts_with("<... ") {
                true => begun.remove(thread).unwrap(),
                false => (line, call.trim_end().strip_suffix(')').unwrap()),
            };
            let (name, arguments) = call.split_once('(').unwrap();
            let result = result.split(' ').next().unwrap().parse();
            // Where a process ends within a call, no result is told.
            if let Ok(result) = result {
                let arguments = arguments.split(", ").collect();
                calls.push(Call { name, arguments, begins, ends: line, result });
            }
        }
    }
    calls
}

impl Call<'_> {
    fn number(&self, at: usize) -> i64 {
        self.arguments[at].parse().unwrap()
    }

    /// The bytes of a string, of which each is written as `\x6a`.
    fn bytes(&self, at: usize) -> Vec<u8> {
        let digits = self.arguments[at].strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let digits = digits.expect("strace was told to leave nothing out").as_bytes();
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
        digits.chunks(4).map(|byte| digit(byte[2]) << 4 | digit(byte[3])).collect()
    }

    /// The name of a file that is in the folder; the folder's own is empty.
    fn name_in(&self, folder: &Path, at: usize) -> Option<String> {
        let path = String::from_utf8(self.bytes(at)).unwrap();
        let name = Path::new(&path).strip_prefix(folder).ok()?;
        Some(name.to_str().unwrap().to_owned())
    }
}

fn opened(call: &Call<'_>, folder: &Path) -> Option<Operation> {
    let (name, flags, file) = (call.name_in(folder, 1)?, call.arguments[2], call.result);
    if file < 0 {
        return None;
    }
    Some(match name.is_empty() {
        true => Operation::OpenFolder { file },
        false => Operation::Open {
            file,
            name,
            creates: flags.contains("O_CREAT"),
            empties: flags.contains("O_TRUNC"),
        },
    })
}

fn effect(call: &Call<'_>, folder: &Path) -> Option<Operation> {
    // A close frees the number even where it fails.
    if call.result < 0 && call.name != "close" {
        // A name that is not there, a client who does not read, a way of copying that the system has not.
        let is_expected = ["unlink", "sendto", "copy_file_range", "sendfile"].contains(&call.name);
        assert!(is_expected, "{} failed by itself", call.name);
        return None;
    }
    let taken = || {
        let mut bytes = call.bytes(1);
        bytes.truncate(call.result as usize);
        bytes
    };
    Some(match call.name {
        "close" => Operation::Close { file: call.number(0) },
        "pwrite64" => Operation::Write { file: call.number(0), at: call.number(3) as u64, bytes: taken() },
        "ftruncate" => Operation::Truncate { file: call.number(0), length: call.number(1) as u64 },
        "rename" => Operation::Rename { from: call.name_in(folder, 0)?, to: call.name_in(folder, 1)? },
        "unlink" => Operation::Unlink { name: call.name_in(folder, 0)? },
        "sendto" => Operation::Sent { socket: call.number(0), bytes: taken() },
        "copy_file_range" => Operation::Untold { file: call.number(2) },
        _ => Operation::Untold { file: call.number(0) },
    })
}
