//! Crashes (`make crash`): the real binary is killed at each system call of its journal, from the first on
//! until a run ends whole; and the same with each of these calls failing. Afterwards the journal must load,
//! hold all that was acknowledged, and nothing that was never sent. It needs strace, and says so where there is
//! none.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code)]

#[path = "it/process.rs"]
mod process;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use process::{PATIENCE, Process, exchange, server};
use socket_tables::json::JsonText;
use socket_tables::store::{Store, SyncPolicy};

/// What a journal asks of the system.
const CALLS: &str =
    "openat,pwrite64,fdatasync,fsync,ftruncate,rename,unlink,flock,lseek,fchmod,copy_file_range,sendfile";
/// Of these, what writes it.
const WRITES: &str = "pwrite64,fdatasync";
/// Who writes the journal of a server that has started: the policy, the thread, and which of its calls are the
/// journal's. Where the policy promises less than a sync, the event loop, which is the first thread, writes by itself.
/// It opens and closes other files, too.
const WRITERS: [(&str, &str, &str); 4] = [
    ("always", "journal", CALLS),
    ("everysec", "journal", CALLS),
    ("everysec", "st", WRITES),
    ("no", "st", WRITES),
];
const CLIENTS: usize = 4;
/// What each client sends: more than what is reserved has place for.
const CHANGES: u64 = 12;
/// Where the next change begins a compaction.
const LONG_BYTES: u64 = 16 << 20;

#[test]
fn crashes() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("strace is missing: nothing was tried");
        return;
    }
    // An emulator of Linux may not know of orphans, nor of names for threads.
    assert!(has_started("prctl", "error=EINVAL", &[]), "a server needs no more of a system than it must");
    let folder = std::env::temp_dir().join(format!("st-crash-{}", std::process::id()));
    for (name, prepare) in SCENARIOS {
        let prepared = folder.join("prepared");
        fs::create_dir_all(&prepared).unwrap();
        let expected = prepare(&prepared.join("j"));
        let kills = starts(&folder, "signal=KILL", &expected, u64::MAX);
        starts(&folder, "error=EIO", &expected, kills);
        println!(
            "start, {name}: killed at each of {kills} calls, and EIO from each: none lost, none refused"
        );
        for writer in WRITERS {
            let kills = servings(&folder, "signal=KILL", writer, u64::MAX);
            let (errors, full) = (
                servings(&folder, "error=EIO", writer, kills),
                servings(&folder, "error=ENOSPC", writer, kills),
            );
            let (policy, thread, _) = writer;
            println!(
                "serving, {name}, {policy}: killed at each of {kills} calls of the thread {thread}, EIO from {errors}, \
                 ENOSPC from {full}"
            );
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}

/// How a journal may be found: what is done to it, and the table that it holds then.
type Prepare = fn(&Path) -> String;
const SCENARIOS: [(&str, Prepare); 4] =
    [("none yet", |_| table(&[])), ("whole", three), ("torn", torn), ("long", long)];

fn table(keys: &[&str]) -> String {
    let entries: Vec<_> = keys.iter().map(|key| format!("{{\"key\":\"{key}\",\"value\":1}}")).collect();
    format!("[{}]\n", entries.join(","))
}

fn three(path: &Path) -> String {
    let (store, _) = Store::open(None, path, SyncPolicy::Always, |_| {}).unwrap();
    for key in ["a", "b", "c"] {
        store.update(key, &JsonText::parse("1").unwrap(), None, None).unwrap();
        store.journal().unwrap().close();
        store.commit().unwrap();
    }
    table(&["a", "b", "c"])
}

fn torn(path: &Path) -> String {
    three(path);
    let bytes = fs::read(path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    fs::write(path, &bytes[..end - 5]).unwrap();
    fs::write(path.with_file_name("j.tmp"), "half a draft").unwrap();
    table(&["a", "b"])
}

fn long(path: &Path) -> String {
    three(path);
    let (store, _) = Store::open(None, path, SyncPolicy::No, |_| {}).unwrap();
    let value = JsonText::parse(&format!("\"{}\"", "v".repeat(500_000))).unwrap().into_owned();
    while fs::metadata(path).unwrap().len() < LONG_BYTES - 600_000 {
        store.update("large", &value, None, None).unwrap();
        store.journal().unwrap().close();
        store.commit().unwrap();
    }
    store.delete("large", None).unwrap();
    store.journal().unwrap().close();
    store.commit().unwrap();
    table(&["a", "b", "c"])
}

/// A fresh copy of what was prepared.
fn copy(folder: &Path) -> PathBuf {
    let copied = folder.join("run");
    let _ = fs::remove_dir_all(&copied);
    fs::create_dir(&copied).unwrap();
    for entry in fs::read_dir(folder.join("prepared")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copied.join(entry.file_name())).unwrap();
    }
    copied.join("j")
}

/// Starts a server again and again, each time with this fault at a later call, until one has started; or `max` times.
fn starts(folder: &Path, fault: &str, expected: &str, max: u64) -> u64 {
    let mut whole = 0;
    for n in 1..=max {
        let journal = copy(folder);
        let fault = format!("{fault}:when={n}");
        let has_started = has_started(CALLS, &fault, &["--journal", journal.to_str().unwrap()]);
        let process = Process::start(&["--journal", journal.to_str().unwrap()]);
        assert_eq!(process.ask(r#"{"request":"GETALL"}"#), expected, "{fault} at call {n} of a start");
        // Where strace comes too late once, the next run tells.
        whole = if has_started { whole + 1 } else { 0 };
        if whole == 3 && max == u64::MAX {
            return n - 3;
        }
    }
    max
}

/// Whether a server starts where these calls have this fault. It is ended then.
fn has_started(calls: &str, fault: &str, flags: &[&str]) -> bool {
    let mut command = Command::new("strace");
    // By -D the server is the child, and strace its grandchild.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:{fault}"), env!("CARGO_BIN_EXE_st"), "server", "-q"]);
    let mut child =
        command.args(flags).arg("0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    if !address.is_empty() {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    !address.is_empty()
}

/// The same for a server that has started, and clients that write. Counts the runs in which the server ended.
fn servings(folder: &Path, fault: &str, writer: (&str, &str, &str), max: u64) -> u64 {
    let (policy, thread, calls) = writer;
    let (mut ended, mut whole) = (0, 0);
    for n in 1..=max {
        let journal = copy(folder);
        let flags = ["-q", "--journal", journal.to_str().unwrap(), "--sync", policy];
        let (mut child, address) = start(&flags);
        let mut strace = attach(&child, thread, calls, &format!("{fault}:when={n}"));
        let told: Vec<u64> = thread::scope(|scope| {
            let clients = (0..CLIENTS).map(|client| scope.spawn(move || write(address, client)));
            let clients: Vec<_> = clients.collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let is_whole = told.iter().all(|told| *told == CHANGES);
        if is_whole {
            child.kill().unwrap();
        }
        let code = child.wait().unwrap().code();
        strace.wait().unwrap();
        ended += u64::from(!is_whole);
        if fault.starts_with("error") && !is_whole {
            assert_eq!(code, Some(6), "{fault} at call {n} of {thread}, {policy}");
        }
        let process = Process::start(&flags[1..]);
        let mut stream = process.connect();
        for (client, told) in told.iter().enumerate() {
            let reply = exchange(&mut stream, format!(r#"{{"request":"GET","key":"k{client}"}}"#));
            let is = |n: u64| reply.starts_with(&format!("{{\"key\":\"k{client}\",\"value\":\"{n} "));
            let may_be = is(*told) || is(told + 1) || *told == 0 && reply.contains("false");
            assert!(may_be, "{fault} at call {n}, {policy}: {told} was acknowledged: {:.100}", reply);
        }
        whole = if is_whole { whole + 1 } else { 0 };
        if whole == 3 && max == u64::MAX {
            return n - 3;
        }
    }
    ended
}

fn start(flags: &[&str]) -> (Child, SocketAddr) {
    let mut child = server(flags).stdout(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    (child, address.trim_end().parse().unwrap())
}

/// Has strace look at the thread of this name, and no other: it counts the calls of each thread by itself.
fn attach(child: &Child, name: &str, calls: &str, fault: &str) -> Child {
    let tasks = PathBuf::from(format!("/proc/{}/task", child.id()));
    // Threads that have no name are called as the first one is.
    let first = tasks.join(child.id().to_string());
    let is = |task: &PathBuf| {
        let comm = fs::read_to_string(task.join("comm")).unwrap_or_default();
        comm.trim_end() == name && (name != "st" || *task == first)
    };
    let thread = || fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().path()).find(is);
    let found = std::iter::repeat_with(thread).find_map(|found| found).unwrap();
    let id = found.file_name().unwrap().to_str().unwrap().to_owned();
    let mut command = Command::new("strace");
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{fault}"));
    command.args(["-qq", "-o", "/dev/null", "-p", &id, "-e", &trace, "-e", &inject]);
    let strace = command.stderr(Stdio::null()).spawn().unwrap();
    process::eventually("strace is there", || {
        !fs::read_to_string(found.join("status")).unwrap().contains("TracerPid:\t0\n")
    });
    strace
}

/// Writes 1, 2, 3 and so on to a key of its own, each with much behind it. Tells the last that was acknowledged.
fn write(address: SocketAddr, client: usize) -> u64 {
    let Ok(mut stream) = TcpStream::connect(address) else { return 0 };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut told = 0;
    while told < CHANGES {
        let value = format!("\"{} {}\"", told + 1, "v".repeat(30_000));
        let sent = format!(r#"{{"request":"UPDATE","key":"k{client}","value":{value}}}"#);
        if stream.write_all(sent.as_bytes()).is_err() {
            break;
        }
        let reply = line(&mut stream);
        match reply.ends_with('\n') {
            true if reply.contains("\"full\"") => {}
            true => told += 1,
            false => break,
        }
    }
    told
}

fn line(stream: &mut impl Read) -> String {
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line);
    line
}
