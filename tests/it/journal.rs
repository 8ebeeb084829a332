//! The journal, through the binary and through sessions: what is acknowledged stays, and nothing is shown before.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use socket_tables::json::JsonText;
use socket_tables::server::{Options, Server};
use socket_tables::session::{Core, Next, Session};
use socket_tables::store::{Durability, Store, SyncPolicy, check_journal};

use crate::process::{Process, by_shell, eventually, exchange, ms, server};
use crate::support::{run, st};

/// A folder of our own, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("st-journal-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Folder(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A path as words of a command line have it.
    pub fn word(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A start that is expected to fail.
fn refused(journal: &str) -> String {
    let output = run(&mut server(&["--journal", journal]), b"");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{text}");
    assert!(output.stdout.is_empty() && text.lines().count() == 1, "{text}");
    text
}

fn journal_command(words: &[&str]) -> Output {
    run(st(&["journal"]).args(words), b"")
}

fn update(key: &str, value: &str) -> String {
    format!(r#"{{"request":"UPDATE","key":"{key}","value":{value}}}"#)
}

/// Sets a key to a value that is too long to be read a byte at a time.
fn set_large(stream: &mut (impl Read + Write), value: &str) {
    stream.write_all(update("large", value).as_bytes()).unwrap();
    let mut reply = vec![0; "{\"key\":\"large\",\"value\":}\n".len() + value.len()];
    stream.read_exact(&mut reply).unwrap();
    assert!(reply.ends_with(b"v\"}\n"));
}

fn get(process: &Process, key: &str) -> String {
    exchange(&mut process.connect(), format!(r#"{{"request":"GET","key":"{key}"}}"#))
}

#[test]
fn what_was_acknowledged_survives_a_kill_in_every_mode_and_under_every_policy() {
    let rows = [
        ("event", "always"),
        ("event", "everysec"),
        ("event", "no"),
        ("pool", "always"),
        ("iterative", "always"),
    ];
    for (mode, policy) in rows {
        let folder = Folder::new();
        let flags = ["--journal", &folder.word("j"), "--sync", policy, "-m", mode];
        let process = Process::start(&flags);
        let clients = if mode == "iterative" { 1 } else { 8 };
        let acknowledged: Vec<u64> = thread::scope(|scope| {
            let ask = |client: u64| {
                let mut stream = process.connect();
                let mut told = 0;
                loop {
                    let sent = update(&format!("k{client}"), &(told + 1).to_string());
                    // The connection breaks when the server is killed.
                    if stream.write_all(sent.as_bytes()).is_err() || !read_line(&mut stream).ends_with("}\n")
                    {
                        return told;
                    }
                    told += 1;
                }
            };
            let clients: Vec<_> = (0..clients).map(|client| scope.spawn(move || ask(client))).collect();
            thread::sleep(ms(300));
            // SAFETY of the test: the pid is that of a child which has not been waited for.
            assert!(
                Command::new("kill").args(["-9", &process.pid().to_string()]).status().unwrap().success()
            );
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        drop(process);
        let again = Process::start(&flags);
        let mut stream = again.connect();
        for (client, told) in acknowledged.iter().enumerate() {
            let reply = exchange(&mut stream, format!(r#"{{"request":"GET","key":"k{client}"}}"#));
            let is = |n: u64| reply == format!("{{\"key\":\"k{client}\",\"value\":{n}}}\n");
            // One more may have been written, and its reply lost.
            assert!(*told > 0 && (is(*told) || is(told + 1)), "{mode} {policy} {told}: {reply}");
        }
    }
}

fn read_line(stream: &mut impl Read) -> String {
    let mut line = String::new();
    let _ = BufReader::with_capacity(1, stream).read_line(&mut line);
    line
}

/// A core whose journal is written when the test says so.
fn core(folder: &Folder, policy: SyncPolicy) -> Core {
    let (store, _) = Store::open(None, &folder.path("j"), policy, |_| {}).unwrap();
    Core { store: Arc::new(store), may_watch: true, request_bytes_max: 4096, ..Core::default() }
}

fn commit(core: &Core) {
    core.store.journal().unwrap().close();
    core.store.commit().unwrap();
}

fn sent(session: &mut Session<'_>) -> String {
    assert_eq!(session.advance(), Next::Write);
    let output = String::from_utf8(session.output().to_vec()).unwrap();
    session.sent();
    output
}

#[test]
fn no_output_leaves_a_session_before_what_it_could_have_seen_is_durable() {
    let folder = Folder::new();
    let core = core(&folder, SyncPolicy::Always);
    let (mut writer, mut watcher) = (Session::new(&core), Session::new(&core));
    watcher.received(br#"{"request":"WATCH","prefix":""}"#);
    assert!(sent(&mut watcher).contains("READY"), "nothing has changed yet");
    assert_eq!(watcher.advance(), Next::Wait);

    writer.received(update("door", "1").as_bytes());
    let asked = [
        r#"{"request":"GET","key":"other"}"#,
        r#"{"request":"GETALL"}"#,
        r#"{"request":"COUNT"}"#,
        "nonsense\n",
    ];
    let mut readers: Vec<_> = asked.iter().map(|_| Session::new(&core)).collect();
    assert_eq!(writer.advance(), Next::Sync(1));
    assert_eq!(watcher.advance(), Next::Sync(1), "a change is told no sooner");
    for (reader, asked) in readers.iter_mut().zip(asked) {
        reader.received(asked.as_bytes());
        assert_eq!(reader.advance(), Next::Sync(1), "{asked}");
        assert_eq!(reader.advance(), Next::Sync(1), "it stays so");
    }
    // A later change does not make the replies before it wait longer.
    core.store
        .update("door", &JsonText::parse("2").unwrap(), None, None)
        .unwrap_or_else(|error| panic!("{error}"));
    commit(&core);
    assert_eq!(core.store.journal().unwrap().durability(2), Durability::Reached);
    core.store
        .update("door", &JsonText::parse("3").unwrap(), None, None)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(sent(&mut writer), "{\"key\":\"door\",\"value\":1}\n");
    assert_eq!(sent(&mut readers[1]), "[]\n".replace("[]", "[{\"key\":\"door\",\"value\":1}]"));
    assert!(sent(&mut watcher).contains("\"value\":1"));
    // What comes after it has seen more.
    assert_ne!(watcher.advance(), Next::Write);
}

#[test]
fn without_a_sync_to_wait_for_whoever_waits_writes() {
    for policy in [SyncPolicy::EverySecond, SyncPolicy::No] {
        let folder = Folder::new();
        let core = core(&folder, policy);
        let mut session = Session::new(&core);
        session.received(update("door", "1").as_bytes());
        assert_eq!(session.advance(), Next::Sync(1), "it has not been written");
        core.store.journal().unwrap().flush();
        assert_eq!(sent(&mut session), "{\"key\":\"door\",\"value\":1}\n");
        session.received(update("door", "2").as_bytes());
        assert_eq!(session.advance(), Next::Sync(2));
        assert_eq!(core.store.journal().unwrap().wait(2), Durability::Reached);
        assert_eq!(check_journal(&folder.path("j")).unwrap().0.records, 2);
        // Under `always` neither a flush nor anything else does without the committer.
        let (other, _) = Store::open(None, &folder.path("other"), SyncPolicy::Always, |_| {}).unwrap();
        other
            .update("k", &JsonText::parse("1").unwrap(), None, None)
            .unwrap_or_else(|error| panic!("{error}"));
        other.journal().unwrap().flush();
        assert_eq!(other.journal().unwrap().durability(1), Durability::Awaited);
    }
}

#[test]
fn a_value_may_be_longer_than_what_is_reserved() {
    for mode in ["event", "pool"] {
        let folder = Folder::new();
        let flags = ["--journal", &folder.word("j"), "--max-request", "16M", "-m", mode];
        let process = Process::start(&flags);
        let value = format!("\"{}\"", "v".repeat(5 << 20));
        let stored = exchange(&mut process.connect(), update("large", &value));
        assert_eq!(stored.len(), value.len() + "{\"key\":\"large\",\"value\":}\n".len());
        drop(process);
        assert_eq!(get(&Process::start(&flags), "large"), stored);
    }
}

#[test]
fn where_the_journal_has_ended_no_output_leaves_any_more() {
    let folder = Folder::new();
    let core = core(&folder, SyncPolicy::Always);
    commit(&core);
    let mut session = Session::new(&core);
    session.received(update("door", "1").as_bytes());
    assert_eq!(session.advance(), Next::Close);
    assert!(session.output().is_empty());
}

#[test]
fn one_journal_is_for_one_server() {
    let folder = Folder::new();
    let path = folder.word("j");
    let first = Process::start(&["--journal", &path]);
    symlink("j", folder.path("link")).unwrap();
    symlink("nowhere", folder.path("dangling")).unwrap();
    assert!(refused(&path).contains("in use"));
    assert!(refused(&folder.word("link")).contains("in use"));
    assert!(refused(&folder.word("dangling")).contains("cannot reach"));
    fs::hard_link(folder.path("j"), folder.path("hard")).unwrap();
    assert!(refused(&folder.word("hard")).contains("in use"));
    let repair = journal_command(&["repair", &folder.word("link")]);
    assert_eq!(repair.status.code(), Some(6));
    drop(first);
    Process::start(&["--journal", &folder.word("link")]);
}

#[test]
fn what_is_no_journal_is_left_as_it_is() {
    let folder = Folder::new();
    let newer = "497486c7 {\"st\":\"journal\",\"version\":2,\"id\":\"0\"}\n";
    let rows: [(&str, &[u8]); 4] =
        [("empty", b""), ("text", b"some notes\n"), ("zeros", &[0; 5000]), ("newer", newer.as_bytes())];
    for (name, content) in rows {
        fs::write(folder.path(name), content).unwrap();
        fs::write(folder.path(&format!("{name}.tmp")), "somebody's").unwrap();
        let text = refused(&folder.word(name));
        assert!(text.contains(if name == "newer" { "version 2" } else { "not a journal" }), "{text}");
        assert_eq!(fs::read(folder.path(name)).unwrap(), content);
        assert_eq!(fs::read(folder.path(&format!("{name}.tmp"))).unwrap(), b"somebody's");
        assert_eq!(journal_command(&["check", &folder.word(name)]).status.code(), Some(6));
        assert_eq!(journal_command(&["repair", &folder.word(name)]).status.code(), Some(6));
        assert_eq!(fs::read(folder.path(name)).unwrap(), content);
    }
    assert!(refused(&folder.word("no/folder")).contains("cannot reach"));
    assert!(refused(folder.0.to_str().unwrap()).contains("is not a journal"));
    // To open a pipe would take until somebody writes to it.
    if Command::new("mkfifo").arg(folder.path("pipe")).status().is_ok_and(|made| made.success()) {
        assert!(refused(&folder.word("pipe")).contains("is not a journal"));
        assert_eq!(journal_command(&["check", &folder.word("pipe")]).status.code(), Some(6));
    }
}

/// A journal of some records, none of which was in one batch with another.
fn written(path: &str, records: u64) {
    let process = Process::start(&["--journal", path]);
    let mut stream = process.connect();
    for n in 1..=records {
        exchange(&mut stream, update(&format!("k{n}"), &n.to_string()));
    }
}

fn end(path: &Path) -> u64 {
    check_journal(path).unwrap().0.end
}

#[test]
fn a_torn_tail_is_moved_away_and_told() {
    let folder = Folder::new();
    let (path, word) = (folder.path("j"), folder.word("j"));
    written(&word, 3);
    let whole = fs::read(&path).unwrap();
    let end = end(&path) as usize;
    fs::write(&path, &whole[..end - 5]).unwrap();
    let check = journal_command(&["check", &word]);
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8(check.stdout).unwrap().starts_with("records\t2\nkeys\t2\n"));
    let process = Process::logging(&["--journal", &word]);
    assert_eq!(get(&process, "k2"), "{\"key\":\"k2\",\"value\":2}\n");
    assert!(get(&process, "k3").contains("\"found\":false"));
    eventually("it is told", || process.log().contains("event=journal_torn"));
    let broken = fs::read(folder.path("j.broken")).unwrap();
    assert!(whole[..end - 5].ends_with(&broken) && broken.len() > 20);
    exchange(&mut process.connect(), update("k4", "4"));
    drop(process);
    let again = Process::logging(&["--journal", &word]);
    assert_eq!(get(&again, "k4"), "{\"key\":\"k4\",\"value\":4}\n");
    assert!(!again.log().contains("journal_torn"));
}

#[test]
fn damage_is_refused_and_can_be_repaired_by_whoever_wants_to() {
    let folder = Folder::new();
    let (path, word) = (folder.path("j"), folder.word("j"));
    written(&word, 5);
    let mut bytes = fs::read(&path).unwrap();
    let third = bytes.windows(4).position(|four| four == b"\"k3\"").unwrap();
    bytes[third + 1] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let text = refused(&word);
    assert!(text.contains("record 3") && text.contains("repair"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(journal_command(&["check", &word]).status.code(), Some(1));
    let repaired = journal_command(&["repair", &word]);
    assert_eq!(repaired.status.code(), Some(0));
    assert!(String::from_utf8(repaired.stdout).unwrap().starts_with("records\t2\n"));
    assert_eq!(journal_command(&["check", &word]).status.code(), Some(0));
    assert!(fs::read_to_string(folder.path("j.broken")).unwrap().contains("\"k4\""));
    let process = Process::start(&["--journal", &word]);
    assert_eq!(process.ask(r#"{"request":"KEYS"}"#), "{\"value\":[\"k1\",\"k2\"]}\n");
}

#[test]
fn a_full_disk_refuses_writes_and_no_reads_until_there_is_room() {
    for mode in ["event", "pool"] {
        let folder = Folder::new();
        let flags = format!("--journal {} -m {mode}", folder.word("j"));
        // Four mebibytes or eight: its unit is 512 bytes or 1,024.
        let process = Process::spawn(by_shell("ulimit -S -f 8192; exec", &flags));
        let mut stream = process.connect();
        let value = format!("\"{}\"", "v".repeat(100_000));
        let mut accepted = 0;
        let full = loop {
            let reply = exchange(&mut stream, update(&format!("k{accepted}"), &value));
            if reply.contains("error") {
                break reply;
            }
            accepted += 1;
            assert!(accepted < 100, "it must end");
        };
        assert!(full.contains("\"full\"") && full.contains("cannot grow"), "{full}");
        assert_eq!(get(&process, "k0").len(), value.len() + "{\"key\":\"k0\",\"value\":}\n".len());
        assert_eq!(get(&process, &format!("k{accepted}")).matches("null").count(), 1, "nothing has changed");
        assert!(!exchange(&mut stream, r#"{"request":"DELETE","key":"k0"}"#).contains("error"));
        let raised =
            Command::new("prlimit").args(["--pid", &process.pid().to_string(), "--fsize=unlimited"]).status();
        if raised.is_ok_and(|raised| raised.success()) {
            assert!(!exchange(&mut stream, update("more", &value)).contains("error"), "there is room again");
            accepted += 1;
        }
        drop(process);
        assert_eq!(check_journal(&folder.path("j")).unwrap().1, accepted - 1);
    }
}

#[test]
fn a_long_journal_is_compacted_while_clients_are_served() {
    let folder = Folder::new();
    let flags = ["--journal", &folder.word("j"), "--sync", "no"];
    let process = Process::start(&flags);
    let mut stream = process.connect();
    for n in 0..2000 {
        exchange(&mut stream, update(&format!("kept{n}"), &n.to_string()));
    }
    let value = format!("\"{}\"", "v".repeat(500_000));
    let mut written = 0;
    eventually("it is compacted", || {
        set_large(&mut stream, &value);
        exchange(&mut stream, update("count", &written.to_string()));
        exchange(&mut stream, format!(r#"{{"request":"DELETE","key":"kept{written}"}}"#));
        written += 1;
        process.told(&["journal", "compactions"]) > 0
    });
    assert!(fs::metadata(folder.path("j")).unwrap().len() < 16 << 20);
    assert!(!folder.path("j.tmp").exists());
    assert!(refused(&folder.word("j")).contains("in use"), "the lock is not on the file that was replaced");
    let state = process.ask(r#"{"request":"GETALL"}"#);
    drop(process);
    assert_eq!(Process::start(&flags).ask(r#"{"request":"GETALL"}"#), state);
}

#[test]
fn a_journal_that_is_written_is_no_damaged_one() {
    let folder = Folder::new();
    let word = folder.word("j");
    let process = Process::start(&["--journal", &word]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..8 {
            let (mut stream, is_over) = (process.connect(), &is_over);
            scope.spawn(move || {
                while !is_over.load(Relaxed) {
                    exchange(&mut stream, update(&format!("k{client}"), "1"));
                }
            });
        }
        for _ in 0..40 {
            let checked = journal_command(&["check", &word]);
            let text = String::from_utf8(checked.stdout).unwrap();
            is_over.fetch_or(checked.status.code() != Some(0), Relaxed);
            assert!(checked.status.success() && text.contains("in use\tyes"), "{text}");
        }
        is_over.store(true, Relaxed);
    });
    drop(process);
    assert!(!String::from_utf8(journal_command(&["check", &word]).stdout).unwrap().contains("in use"));
}

#[test]
fn a_copy_or_a_link_outlives_a_compaction_whole() {
    let folder = Folder::new();
    let process = Process::start(&["--journal", &folder.word("j")]);
    let mut stream = process.connect();
    exchange(&mut stream, update("k", "1"));
    let mut copied = fs::File::open(folder.path("j")).unwrap();
    let mut compact = || {
        let before = process.told(&["journal", "compactions"]);
        let value = format!("\"{}\"", "v".repeat(900_000));
        eventually("it is compacted", || {
            set_large(&mut stream, &value);
            process.told(&["journal", "compactions"]) > before
        });
    };
    compact();
    fs::hard_link(folder.path("j"), folder.path("backup")).unwrap();
    compact();
    // Longer than it takes to give a file's room back.
    thread::sleep(ms(200));
    let mut bytes = Vec::new();
    copied.read_to_end(&mut bytes).unwrap();
    fs::write(folder.path("copy"), bytes).unwrap();
    for name in ["copy", "backup"] {
        let (found, keys, _) = check_journal(&folder.path(name)).unwrap();
        assert!(keys == 2 && found.torn == 0 && found.end > 16 << 20, "{name}: {found:?}");
    }
}

#[test]
fn two_servers_cannot_write_one_store() {
    let folder = Folder::new();
    let (store, _) = Store::open(None, &folder.path("j"), SyncPolicy::EverySecond, |_| {}).unwrap();
    let store = Arc::new(store);
    let server = || {
        let options = Options { store: store.clone(), ..Options::default() };
        Server::bind("127.0.0.1:0").unwrap().options(options)
    };
    let (first, second) = (server(), server());
    let (address, stop) = (first.address(), first.shutdown_handle());
    thread::scope(|scope| {
        let running = scope.spawn(|| first.run());
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        assert!(exchange(&mut stream, update("k", "1")).contains("\"value\":1"));
        assert!(second.run().unwrap_err().to_string().contains("in use"));
        assert!(exchange(&mut stream, update("k", "2")).contains("\"value\":2"), "the first goes on");
        stop.shutdown();
        running.join().unwrap().unwrap();
    });
    // One after the other they can.
    let third = server();
    let (address, stop) = (third.address(), third.shutdown_handle());
    thread::scope(|scope| {
        let running = scope.spawn(|| third.run());
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        assert!(exchange(&mut stream, update("k", "3")).contains("\"value\":3"));
        stop.shutdown();
        running.join().unwrap().unwrap();
    });
}

#[test]
fn a_server_that_ends_in_order_has_written_all() {
    let folder = Folder::new();
    let mut command = server(&["--journal", &folder.word("j"), "--sync", "everysec"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let mut stream = std::net::TcpStream::connect(address.trim_end()).unwrap();
    exchange(&mut stream, update("k", "1"));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(check_journal(&folder.path("j")).unwrap().1, 1);
}

#[test]
#[allow(clippy::print_stdout)]
fn systemd_takes_the_unit_in_readme() {
    let readme = include_str!("../../README.md");
    let unit = readme.split_once("```ini\n").unwrap().1.split_once("```").unwrap().0;
    let folder = Folder::new();
    assert!(unit.contains("ExecStart=/usr/local/bin/st server --journal /var/lib/st/"));
    fs::write(folder.path("st.service"), unit.replace("/usr/local/bin/st", env!("CARGO_BIN_EXE_st")))
        .unwrap();
    for words in [&["verify"][..], &["security", "--offline=true", "--threshold=40"]] {
        match Command::new("systemd-analyze").args(words).arg(folder.path("st.service")).output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(_) => println!("there is no systemd-analyze here: {words:?} was not tried"),
        }
    }
}
