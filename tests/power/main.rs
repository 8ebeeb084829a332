//! Power failures (`make crash`): the real binary serves clients while strace writes down what it asks of the system.
//! From that a disk is made, whose power is played to fail at any moment, and of the states that this may leave some
//! thousands are drawn. In each the journal must load, hold all that clients had been told by then, as far as the
//! policy promises, and nothing that was never sent. It needs strace, and says so where there is none.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code)]

mod clients;
mod disk;
#[path = "../it/process.rs"]
mod process;
mod recorded;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use clients::{CHANGES, CLIENTS, Change, Told, changes, read, write};
use disk::{Disk, Left, Random};
use process::Temporary;
use recorded::Operation;
use socket_tables::json::JsonText;
use socket_tables::store::{Store, SyncPolicy};

/// The journal's name in its folder, and that of its draft.
pub const JOURNAL: &str = "j";
const DRAFT: &str = "j.tmp";
/// How many states are drawn of what may be left at one moment.
const STATES: u64 = 4;
/// Where the next change begins a compaction.
const LONG_BYTES: u64 = 16 << 20;

type Map = BTreeMap<String, String>;

/// How a journal is found, and how it is used.
struct Scenario {
    name: &'static str,
    policy: &'static str,
    /// Makes the journal, and tells what it holds.
    prepare: fn(&Path) -> Map,
    /// Of the moments without a draft, one in so many is looked at: a long journal takes long to load.
    every: u64,
}

#[rustfmt::skip]
const SCENARIOS: [Scenario; 5] = [
    Scenario { name: "none yet", policy: "always", prepare: |_| Map::new(), every: 1 },
    Scenario { name: "none yet", policy: "everysec", prepare: |_| Map::new(), every: 2 },
    Scenario { name: "torn", policy: "always", prepare: torn, every: 4 },
    Scenario { name: "compacted", policy: "always", prepare: long, every: 16 },
    Scenario { name: "compacted", policy: "everysec", prepare: long, every: 16 },
];

#[test]
fn power_failures() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("strace is missing: nothing was tried");
        return;
    }
    let judged: u64 = thread::scope(|scope| {
        let all = SCENARIOS.each_ref().map(|scenario| scope.spawn(|| scenario.play()));
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    println!(
        "{judged} states of a disk after a power failure: none lost what it had to hold, none was refused"
    );
}

impl Scenario {
    /// Records a run and judges what power failures may leave of it. Tells how many states were judged.
    fn play(&self) -> u64 {
        let folder = Folder::new(&std::env::temp_dir());
        let (run, log) = (folder.0.join("run"), folder.0.join("log"));
        fs::create_dir(&run).unwrap();
        let initial = (self.prepare)(&run.join(JOURNAL));
        let found = files(&run);
        let clients: Vec<Vec<Change>> = (0..CLIENTS as u64).map(changes).collect();
        self.record(&run, &log, &clients);
        let operations = recorded::operations(&fs::read_to_string(&log).unwrap(), &run);
        let is_renamed = operations.iter().any(|operation| matches!(operation, Operation::Rename { .. }));
        assert_eq!(is_renamed, self.name != "torn", "a journal was begun or compacted");
        let judge = Judge { initial, clients, folder: Folder::in_memory() };
        let (points, states) = self.judge(&judge, Disk::new(found), &operations);
        println!(
            "{}, {}: {} operations; {states} states at {points} moments",
            self.name,
            self.policy,
            operations.len()
        );
        states
    }

    /// Runs the server beneath strace, and clients that write and read.
    fn record(&self, run: &Path, log: &Path, clients: &[Vec<Change>]) {
        let mut command = Command::new("strace");
        // Nothing of a string may be left out.
        command.args(["-f", "-qq", "-xx", "-s", "100000000", "-e", "signal=none", "-o"]).arg(log);
        command.args([
            "-e",
            &format!("trace={}", recorded::CALLS),
            "sh",
            "-c",
            "echo $$; exec \"$@\" 2>/dev/null",
            "sh",
        ]);
        command.args([env!("CARGO_BIN_EXE_st"), "server", "-q", "--sync", self.policy, "--journal"]);
        command.arg(run.join(JOURNAL)).arg("0").env_remove("ST_TOKEN");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let pid = lines.next().unwrap();
        let address: SocketAddr = lines.next().unwrap().parse().unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| read(address, &is_over));
            let writers = clients.iter().enumerate();
            let writers: Vec<_> =
                writers.map(|(n, all)| scope.spawn(move || write(address, n, all))).collect();
            let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            is_over.store(true, SeqCst);
            ended.into_iter().for_each(|ended| ended.unwrap());
        });
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        assert!(child.wait().unwrap().success());
    }

    /// Plays the operations, and has the power fail between any two of them. Tells at how many places that was, and
    /// how many states were judged.
    fn judge(&self, judge: &Judge, mut disk: Disk, operations: &[Operation]) -> (u64, u64) {
        let (mut random, mut told) = (Random(7), Told::default());
        let (mut points, mut states) = (0, 0);
        for (at, operation) in operations.iter().enumerate() {
            let is_journals = match operation {
                Operation::SyncBegins { file } | Operation::SyncEnds { file } => disk.is(*file, JOURNAL),
                _ => false,
            };
            disk.apply(operation);
            told.apply(operation, is_journals);
            let promised = if self.policy == "always" { &told.all } else { &told.synced };
            let draws = match (disk.is_safe(), operation) {
                (_, Operation::Close { .. } | Operation::OpenFolder { .. }) => 0,
                _ if !disk.has(DRAFT) && !disk.may_lose(JOURNAL) && random.below(self.every) > 0 => 0,
                (true, _) => 1,
                (false, _) => STATES,
            };
            points += draws.min(1);
            states += draws;
            for _ in 0..draws {
                let judged = judge.judge(&disk.left(&mut random), promised);
                let place =
                    format!("{}, {}, after operation {at}, {}", self.name, self.policy, operation.name());
                judged.unwrap_or_else(|fault| panic!("{place}: {fault}"));
            }
        }
        assert_eq!(told.replies, [CHANGES as usize; CLIENTS], "all replies were seen");
        assert!(told.synced.iter().all(|synced| *synced > 0), "nothing was promised: {:?}", told.synced);
        (points, states)
    }
}

/// A folder of our own, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path) -> Folder {
        let folder = parent.join(Temporary::new().0.file_name().unwrap());
        fs::create_dir(&folder).unwrap();
        Folder(fs::canonicalize(folder).unwrap())
    }

    /// One in memory, where the system has a place for that: thousands of journals are going to be written there.
    fn in_memory() -> Folder {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Folder::new(memory) } else { Folder::new(&std::env::temp_dir()) }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What there was, and what was sent.
struct Judge {
    initial: Map,
    clients: Vec<Vec<Change>>,
    folder: Folder,
}

impl Judge {
    /// Loads the journal from these files. It must hold so many changes of each client, or more.
    fn judge(&self, left: &Left, promised: &[usize; CLIENTS]) -> Result<(), String> {
        let _ = fs::remove_dir_all(&self.folder.0);
        fs::create_dir(&self.folder.0).unwrap();
        for (name, content) in left {
            fs::write(self.folder.0.join(name), content).unwrap();
        }
        let opened = Store::open(None, &self.folder.0.join(JOURNAL), SyncPolicy::Always, |_| {});
        let (store, _) = opened.map_err(|error| error.to_string())?;
        let mut table = Map::new();
        store.list("", None, |key, entry| table.insert(key.to_owned(), entry.value.to_owned()).is_none());
        for (client, (changes, promised)) in self.clients.iter().zip(promised).enumerate() {
            let prefix = format!("c{client}/");
            let own: Map;
            (own, table) = table.into_iter().partition(|(key, _)| key.starts_with(&prefix));
            let fault = || {
                let told = own.iter().map(|(key, value)| format!("{key}: {value:.8}"));
                format!("client {client} was told of {promised} changes; {:?}", told.collect::<Vec<_>>())
            };
            is_prefix(changes, *promised, &own).then_some(()).ok_or_else(fault)?;
        }
        if table == self.initial { Ok(()) } else { Err("what had been there is not".into()) }
    }
}

/// Whether a table is what the first so many of these changes make of it, or some more of them.
fn is_prefix(changes: &[Change], least: usize, table: &Map) -> bool {
    let mut expected = BTreeMap::new();
    let is = |expected: &BTreeMap<&String, &String>| {
        table.iter().eq(expected.iter().map(|(key, value)| (*key, *value)))
    };
    let mut found = least == 0 && table.is_empty();
    for (done, (key, value)) in (1..).zip(changes) {
        match value {
            Some(value) => drop(expected.insert(key, value)),
            None => drop(expected.remove(key)),
        }
        found |= done >= least && is(&expected);
    }
    found
}

fn files(folder: &Path) -> Left {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Makes changes that are one batch of the journal.
fn commit(store: &Store, changes: &[Change]) {
    for (key, value) in changes {
        match value {
            Some(value) => store.update(key, &JsonText::parse(value).unwrap(), None, None).unwrap(),
            None => drop(store.delete(key, None).unwrap()),
        }
    }
    // Closed before it begins, the committer writes all by one batch and returns.
    store.journal().unwrap().close();
    store.commit().unwrap();
}

/// So many keys that no client writes to.
fn some(keys: usize, bytes: usize) -> Vec<Change> {
    (0..keys).map(|n| (format!("initial {n}"), Some(format!("\"{}\"", "v".repeat(bytes))))).collect()
}

fn table(changes: Vec<Change>) -> Map {
    changes.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// A journal whose last batch lacks its beginning, and a compaction that did not come to its end.
fn torn(path: &Path) -> Map {
    let (store, _) = Store::open(None, path, SyncPolicy::Always, |_| {}).unwrap();
    let initial = some(20, 1000);
    commit(&store, &initial);
    let end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let lost = end(&fs::read(path).unwrap());
    commit(&store, &[("lost".into(), Some("1".into())), ("also".into(), Some(format!("\"{:9000}\"", "")))]);
    let mut bytes = fs::read(path).unwrap();
    assert!(end(&bytes) > lost + 9000);
    bytes[lost..lost + 9].fill(0);
    fs::write(path, bytes).unwrap();
    fs::write(path.with_file_name(DRAFT), "half a draft").unwrap();
    table(initial)
}

/// A journal that will soon be compacted, in several pieces.
fn long(path: &Path) -> Map {
    let (store, _) = Store::open(None, path, SyncPolicy::No, |_| {}).unwrap();
    let initial = some(60, 20_000);
    commit(&store, &initial);
    let large = [("large".into(), Some(format!("\"{}\"", "v".repeat(500_000))))];
    while fs::metadata(path).unwrap().len() < LONG_BYTES - 600_000 {
        commit(&store, &large);
    }
    commit(&store, &[("large".into(), None)]);
    table(initial)
}
