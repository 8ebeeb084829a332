//! The commands that wait: what they wait for comes about, or comes and goes, or comes with a server that was restarted.

use std::process::Child;
use std::thread;

use crate::fake::told;
use crate::journal::Folder;
use crate::process::{Process, eventually, ms};
use crate::support::{Server, client, own_address, run, st, start};

fn watchers(addr: &str) -> String {
    let info = client(addr, &["info"]).1;
    let info = socket_tables::json::Value::parse(&info).unwrap();
    info.get("watchers").unwrap().to_string()
}

/// Runs a command, does something when it waits, and gives how it ended.
fn meanwhile(addr: &str, words: &[&str], then: &[&[&str]]) -> (i32, String, String) {
    let waiting = start(addr, words);
    eventually("it waits", || watchers(addr) == "1");
    for words in then {
        let (exit, _, err) = client(addr, words);
        assert_eq!(exit, 0, "{words:?}: {err}");
    }
    told(waiting.wait_with_output().unwrap())
}

#[test]
fn each_ends_when_what_it_waits_for_has_come_about() {
    let server = Server::start(&[]);
    for (words, then, out) in [
        (&["get", "-w60", "a"][..], &[&["set", "a", "1"][..]][..], "1\n"),
        // It may be gone again before anybody could ask.
        (
            &["get", "-w60", "--until", "x", "a"],
            &[&["set", "a", "y"], &["set", "a", "x"], &["set", "a", "z"], &["del", "a"]],
            "x\n",
        ),
        (
            &["get", "-w60", "--not", "old", "a"],
            &[&["set", "a", "old"], &["del", "a"], &["set", "a", "new"]],
            "new\n",
        ),
        (
            &["-j", "get", "-w60", "--until", "{\"b\":1.0}", "a"],
            &[&["-j", "set", "a", "{ \"b\": 1 }"]],
            "{\"b\":1}\n",
        ),
        (&["get", "-w60", "--until", "7", "n"], &[&["incr", "n", "6"], &["incr", "n"], &["del", "n"]], "7\n"),
        (&["take", "-w60", "queue"], &[&["set", "queue", "job"]], "job\n"),
        (
            &["take", "-w60", "--prefix", "q/"],
            &[&["set", "other", "job"], &["set", "q/1", "job"], &["del", "other"]],
            "job\n",
        ),
        (
            &["count", "-w60", "--until", "2", "w/"],
            &[&["set", "w/1", ""], &["set", "w/1", ""], &["set", "w/2", ""]],
            "2\n",
        ),
        (
            &["count", "-w60", "--until", "0", "w/"],
            &[&["set", "w/1", "again"], &["del", "w/1"], &["del", "w/2"]],
            "0\n",
        ),
    ] {
        assert_eq!(meanwhile(&server.addr, words, then), (0, out.into(), String::new()), "{words:?}");
        let left = client(&server.addr, &["keys"]).1;
        assert!(
            left.is_empty() || left.contains("w/") || client(&server.addr, &["del", "a"]).0 == 0,
            "{left}"
        );
    }
    client(&server.addr, &["set", "held", "by another"]);
    let added = meanwhile(
        &server.addr,
        &["add", "-w60", "--ttl", "60", "held", "mine"],
        &[&["set", "held", "still"], &["del", "held"]],
    );
    assert_eq!(added, (0, String::new(), String::new()));
    assert_eq!(client(&server.addr, &["get", "held"]).1, "mine\n");
    assert!(
        client(&server.addr, &["ttl", "held"]).1.starts_with("59.")
            || client(&server.addr, &["ttl", "held"]).1 == "60\n"
    );
}

#[test]
fn the_end_of_a_lease_is_waited_for_as_any_deletion() {
    let server = Server::start(&[]);
    client(&server.addr, &["set", "--ttl", "0.7", "held", "x"]);
    assert_eq!(client(&server.addr, &["add", "-w20", "held", "mine"]).0, 0);
    client(&server.addr, &["set", "--ttl", "0.7", "held", "x"]);
    assert_eq!(client(&server.addr, &["count", "-w20", "--until", "0"]), (0, "0\n".into(), String::new()));
}

#[test]
fn of_many_that_wait_for_one_key_each_gets_it_in_turn() {
    let server = Server::start(&[]);
    thread::scope(|scope| {
        for n in 0..12 {
            let addr = &server.addr;
            scope.spawn(move || {
                assert_eq!(client(addr, &["add", "-w60", "turn", &n.to_string()]).0, 0);
                // Nobody else has got it since.
                assert_eq!(client(addr, &["delete", "--if", &n.to_string(), "turn"]).0, 0);
                assert_eq!(client(addr, &["increment", "turns"]).0, 0);
            });
        }
    });
    assert_eq!(client(&server.addr, &["get", "turns"]).1, "12\n");
}

#[test]
fn those_that_wait_for_jobs_get_one_each() {
    let server = Server::start(&[]);
    let takers: Vec<Child> =
        (0..6).map(|_| start(&server.addr, &["take", "-w60", "--prefix", "q/"])).collect();
    eventually("they wait", || watchers(&server.addr) == "6");
    for n in 0..6 {
        client(&server.addr, &["set", &format!("q/{n}"), &n.to_string()]);
    }
    let mut taken: Vec<String> =
        takers.into_iter().map(|taker| told(taker.wait_with_output().unwrap()).1).collect();
    taken.sort();
    assert_eq!(taken, ["0\n", "1\n", "2\n", "3\n", "4\n", "5\n"]);
}

#[test]
fn a_restart_of_the_server_ends_no_wait() {
    let folder = Folder::new();
    let serve = |address: &str| Process::with_journal_at(&folder.word("j"), "always", address);
    let mut server = serve(&own_address());
    let addr = server.addr.to_string();
    client(&addr, &["set", "held", "x"]);
    client(&addr, &["set", "--ttl", "4", "leased", "x"]);
    let waiting: Vec<Child> = [
        &["get", "-w60", "--until", "yes", "answer"][..],
        &["add", "-w60", "held", "mine"],
        &["take", "-w60", "--prefix", "q/"],
        &["count", "-w60", "--until", "3", "w/"],
        &["hold", "-w60", "leased", "--", "echo", "in"],
    ]
    .iter()
    .map(|words| start(&addr, words))
    .collect();
    eventually("they wait", || watchers(&addr) == "5");
    for _ in 0..2 {
        server.signal("KILL");
        server.ended();
        drop(server);
        // Long enough for tries that fail.
        thread::sleep(ms(300));
        server = serve(&addr);
        eventually("they wait again", || watchers(&addr) == "5");
    }
    for words in [
        &["set", "answer", "yes"][..],
        &["del", "held"],
        &["set", "q/1", "job"],
        &["set", "w/1", ""],
        &["set", "w/2", ""],
        &["set", "w/3", ""],
    ] {
        assert_eq!(client(&addr, words).0, 0);
    }
    let ended: Vec<_> = waiting.into_iter().map(|child| told(child.wait_with_output().unwrap())).collect();
    for ((exit, out, err), expected) in ended.iter().zip(["yes\n", "", "job\n", "3\n", "in\n"]) {
        assert_eq!((*exit, &**out), (0, expected), "{err}");
    }
}

/// A lease is in the journal with the time at which it ends, and that goes on while no server runs.
#[test]
fn leases_are_what_they_were_after_a_restart() {
    let folder = Folder::new();
    let flags = ["--journal", &folder.word("j")];
    let server = Process::start(&flags);
    let addr = server.addr.to_string();
    for words in [
        &["set", "--ttl", "0.4", "short", "1"][..],
        &["set", "--ttl", "100", "long", "2"],
        &["set", "--ttl", "100", "made-permanent", "3"],
        &["set", "made-permanent", "3"],
        &["incr", "--ttl", "100", "n"],
        &["incr", "n"],
    ] {
        assert_eq!(client(&addr, words).0, 0);
    }
    drop(server);
    thread::sleep(ms(450));
    let server = Process::start(&flags);
    let addr = server.addr.to_string();
    eventually("what is over is gone", || client(&addr, &["exists", "short"]).0 == 1);
    for key in ["long", "n"] {
        let left: f64 = client(&addr, &["ttl", key]).1.trim_end().parse().unwrap();
        assert!((60.0..99.6).contains(&left), "{key}: {left}");
    }
    assert_eq!(client(&addr, &["ttl", "made-permanent"]).1, "null\n");
    drop(server);
    // Its end was recorded: nothing has to be looked at for it again.
    let text = std::fs::read_to_string(folder.path("j")).unwrap();
    assert!(text.contains("\"delete\":\"short\"") && text.contains("\"set\":\"long\",\"until\":"), "{text}");
}

#[test]
fn a_dump_carries_what_is_left_of_a_lease() {
    let (server, other) = (Server::start(&[]), Server::start(&[]));
    client(&server.addr, &["set", "--ttl", "90", "lease", "x"]);
    client(&server.addr, &["set", "for-ever", "x"]);
    let dump = client(&server.addr, &["dump"]).1;
    assert!(
        dump.contains("\"ttl\":") && dump.lines().filter(|line| line.contains("ttl")).count() == 1,
        "{dump}"
    );
    assert_eq!(
        run(st(&["client", "-a", &other.addr, "load"]).args([""; 0]), dump.as_bytes()).status.code(),
        Some(0)
    );
    let left: f64 = client(&other.addr, &["ttl", "lease"]).1.trim_end().parse().unwrap();
    assert!((60.0..=90.0).contains(&left), "{left}");
    assert_eq!(client(&other.addr, &["ttl", "for-ever"]).1, "null\n");
}
