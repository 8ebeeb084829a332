//! `hold` and the commands that wait: holders that crash, servers that go, signals, and many who want the same.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use crate::fake::told;
use crate::journal::Folder;
use crate::process::{Process, eventually, ms};
use crate::support::{Server, client, own_address, run, start};

fn end(child: Child) -> (i32, String, String) {
    told(child.wait_with_output().unwrap())
}

/// Its first line, which the program prints when it is inside.
fn line(child: &mut Child) -> String {
    let mut line = String::new();
    // A byte at a time, so that nothing else is taken.
    BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

fn is_alive(pid: &str) -> bool {
    // A zombie has no command line any more.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn the_key_is_there_while_the_program_runs_and_the_exit_code_is_its_own() {
    let server = Server::start(&[]);
    let st = env!("CARGO_BIN_EXE_st");
    let look = format!("{st} client -a {} get lock; {st} client -a {} ttl lock", server.addr, server.addr);
    let (exit, out, err) =
        client(&server.addr, &["hold", "lock", "--", "sh", "-c", &(look.clone() + "; exit 37")]);
    let (value, ttl) = out.split_once('\n').unwrap();
    let (host, pid) = value.rsplit_once(':').unwrap();
    assert!(!host.is_empty() && pid.parse::<u32>().is_ok(), "{value}");
    assert!((9.0..=10.0).contains(&ttl.trim_end().parse::<f64>().unwrap()), "{ttl}");
    assert_eq!((exit, &*err), (37, ""));
    assert_eq!(client(&server.addr, &["exists", "lock"]).0, 1);
    let words = ["-j", "hold", "--ttl", "60", "lock", "{\"by\":7}", "--", "sh", "-c", &look];
    let (exit, out, err) = client(&server.addr, &words);
    assert_eq!((exit, &*err, out.lines().next()), (0, "", Some("{\"by\":7}")));
    assert!(out.lines().nth(1).unwrap().starts_with("59.") || out.ends_with("\n60\n"), "{out}");
    // A signal is told as shells tell it, and stdin is the program's.
    assert_eq!(client(&server.addr, &["hold", "lock", "--", "sh", "-c", "kill -9 $$"]).0, 137);
    let mut cat = crate::support::st(&["client", "-a", &server.addr, "hold", "lock", "--", "cat"]);
    assert_eq!(told(run(&mut cat, b"to the program")), (0, "to the program".into(), String::new()));
    assert_eq!(client(&server.addr, &["count"]).1, "0\n");
}

#[test]
fn where_another_has_the_key_the_program_does_not_run() {
    let server = Server::start(&[]);
    let mut holder =
        start(&server.addr, &["hold", "lock", "mine", "--", "sh", "-c", "echo in; read x; sleep 60"]);
    let mut waiting =
        start(&server.addr, &["hold", "lock", "first", "--", "sh", "-c", "echo in; exec sleep 60"]);
    // One of the two has it.
    let (mut first, other) = match (line(&mut holder).as_str(), waiting.try_wait()) {
        ("in", _) => (holder, waiting),
        _ => (waiting, holder),
    };
    assert_eq!(end(other).0, 1);
    let conflict = format!("st: {}: conflict: \"lock\" is the string ", server.addr);
    for (words, exit) in [
        (&["hold", "lock", "--"][..], 1),
        (&["hold", "-E", "75", "lock", "--"], 75),
        (&["hold", "-E0", "lock", "--"], 0),
        (&["hold", "--conflict-exit-code=255", "-w", "0.1", "lock", "--"], 255),
    ] {
        let (code, out, err) = client(&server.addr, &[words, &["echo", "ran"]].concat());
        assert_eq!((code, &*out), (exit, ""), "{words:?}");
        assert!(err.starts_with(&conflict) && err.lines().count() == 1, "{err}");
    }
    // Whoever waits is in as soon as it is free.
    let waiting = start(&server.addr, &["hold", "-w", "60", "lock", "--", "echo", "ran"]);
    signal(first.id(), "TERM");
    assert_eq!(first.wait().unwrap().code(), Some(128 + 15));
    assert_eq!(end(waiting), (0, "ran\n".into(), String::new()));
}

#[test]
fn a_holder_that_is_killed_frees_its_key_within_the_lease_and_leaves_no_program() {
    let server = Server::start(&[]);
    let mut holder =
        start(&server.addr, &["hold", "--ttl", "1", "lock", "--", "sh", "-c", "sleep 60 & echo $$ $!; wait"]);
    let pids = line(&mut holder);
    // It has been renewed meanwhile.
    thread::sleep(ms(1_500));
    let began = Instant::now();
    holder.kill().unwrap();
    holder.wait().unwrap();
    // And what that has started.
    eventually("its program is gone", || !pids.split(' ').any(is_alive));
    assert_eq!(client(&server.addr, &["hold", "-w", "20", "lock", "--", "echo", "in"]).1, "in\n");
    assert!(began.elapsed() < ms(5_000), "{:?}", began.elapsed());
}

#[test]
fn signals_go_to_the_program_and_the_key_is_given_back() {
    let server = Server::start(&[]);
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let mut holder = start(&server.addr, &["hold", "lock", "--", "sh", "-c", "echo in; exec sleep 60"]);
        assert_eq!(line(&mut holder), "in");
        signal(holder.id(), name);
        assert_eq!(end(holder), (128 + number, String::new(), String::new()), "{name}");
        // A program that does something else about it is waited for.
        let script = format!("trap 'echo heard; exit 5' {name}; echo in; while :; do sleep 0.05; done");
        let mut holder = start(&server.addr, &["hold", "lock", "--", "sh", "-c", &script]);
        assert_eq!(line(&mut holder), "in");
        signal(holder.id(), name);
        // What else is on stderr is the shell's.
        let (exit, out, _) = end(holder);
        assert_eq!((exit, &*out), (5, "heard\n"), "{name}");
        assert_eq!(client(&server.addr, &["exists", "lock"]).0, 1, "{name}");
    }
}

/// A deaf program hears no SIGTERM. What it wrote before it was killed says how long it was left.
const DEAF: &str = "trap '' TERM; echo $$; while :; do sleep 0.02; done";

#[test]
fn who_cannot_renew_ends_its_program_before_the_lease_is_over() {
    let lose = |script: &str| {
        let server = Process::start(&[]);
        let addr = server.addr.to_string();
        let words = ["-T", "0.5", "hold", "--ttl", "6", "lock", "--", "sh", "-c", script];
        let mut holder = start(&addr, &words);
        let pid = line(&mut holder);
        // The server takes no request any more, and its sockets stay open.
        server.signal("STOP");
        let stopped = Instant::now();
        eventually("the program is gone", || !is_alive(&pid));
        // It is asked to end after four seconds, and made to after five and a half; both count from the adding.
        let took = stopped.elapsed();
        assert!(took < ms(6_000), "{took:?}");
        server.signal("CONT");
        let (exit, _, err) = end(holder);
        assert_eq!(exit, 4, "{err}");
        assert!(err.contains("the lease of \"lock\" was lost: no renewal has succeeded for 4.0s"), "{err}");
        assert!(!err.contains("outcome unknown"), "{err}");
        took
    };
    let (mut deaf, mut obeying) = (ms(0), ms(0));
    thread::scope(|scope| {
        scope.spawn(|| deaf = lose(DEAF));
        scope.spawn(|| obeying = lose("echo $$; while :; do sleep 0.02; done"));
    });
    assert!(deaf > obeying + ms(500), "{deaf:?} and {obeying:?}");
}

#[test]
fn a_key_that_is_deleted_or_another_s_ends_the_program_at_once() {
    let server = Server::start(&[]);
    for (words, why) in [
        (&["delete", "lock"][..], "it is missing"),
        (&["update", "lock", "theirs"], "it is the string \"theirs\""),
    ] {
        let began = Instant::now();
        let mut holder = start(
            &server.addr,
            &["hold", "--ttl", "90", "lock", "mine", "--", "sh", "-c", "echo in; exec sleep 80"],
        );
        assert_eq!(line(&mut holder), "in");
        assert_eq!(client(&server.addr, words).0, 0);
        let (exit, out, err) = end(holder);
        let expected = format!(
            "st: {}: the lease of \"lock\" was lost: {why}; another may have had it meanwhile\n",
            server.addr
        );
        assert_eq!((exit, &*out, &*err), (4, "", &*expected));
        assert!(began.elapsed() < ms(20_000), "no renewal found that out");
        // What is another's is left to it.
        assert_eq!(client(&server.addr, &["get", "lock", "none"]).1 == "theirs\n", why.contains("theirs"));
    }
}

#[test]
fn a_key_that_is_deleted_is_noticed_at_once_after_a_restart_of_the_server() {
    let folder = Folder::new();
    let serve = |address: &str| Process::with_journal_at(&folder.word("j"), "always", address);
    let mut server = serve(&own_address());
    let addr = server.addr.to_string();
    let began = Instant::now();
    let mut holder =
        start(&addr, &["hold", "--ttl", "90", "lock", "--", "sh", "-c", "echo in; exec sleep 80"]);
    assert_eq!(line(&mut holder), "in");
    server.signal("KILL");
    server.ended();
    drop(server);
    thread::sleep(ms(300));
    let server = serve(&addr);
    eventually("it watches again", || server.told(&["watchers"]) == 1);
    assert_eq!(client(&addr, &["delete", "lock"]).0, 0);
    assert_eq!(end(holder).0, 4);
    assert!(began.elapsed() < ms(25_000), "no renewal found that out");
}

#[test]
fn a_server_that_says_nothing_does_not_keep_the_end_waiting() {
    let server = Process::start(&[]);
    let words = ["hold", "--ttl", "2", "lock", "--", "sh", "-c", "echo in; sleep 0.3; exit 6"];
    let mut holder = start(&server.addr.to_string(), &words);
    assert_eq!(line(&mut holder), "in");
    server.signal("STOP");
    let began = Instant::now();
    let (exit, _, err) = end(holder);
    assert_eq!(exit, 6, "{err}");
    assert!(began.elapsed() < ms(2_000), "{:?}", began.elapsed());
    server.signal("CONT");
}

#[test]
fn a_lease_that_is_another_s_at_the_end_is_told_too() {
    let server = Server::start(&[]);
    let st = env!("CARGO_BIN_EXE_st");
    let script = format!("trap '' TERM; {st} client -a {} update lock theirs", server.addr);
    let (exit, _, err) = client(&server.addr, &["hold", "lock", "--", "sh", "-c", &script]);
    assert_eq!(exit, 4, "{err}");
    assert!(err.contains("was lost: it is the string \"theirs\""), "{err}");
}

#[test]
fn a_server_that_is_gone_at_the_end_costs_a_message_and_no_exit_code() {
    let mut server = Process::start(&[]);
    let mut holder = start(
        &server.addr.to_string(),
        &["hold", "lock", "--", "sh", "-c", "echo in; read x; sleep 0.5; exit 3"],
    );
    assert_eq!(line(&mut holder), "in");
    server.signal("KILL");
    server.ended();
    let (exit, _, err) = end(holder);
    assert_eq!(exit, 3, "{err}");
    assert!(
        err.contains("cannot connect") && err.contains("\"lock\" is free when its 10s are over"),
        "{err}"
    );
}

#[test]
fn what_cannot_be_run_is_told_before_the_key_is_asked_for() {
    let (exit, _, err) = client("127.0.0.1:1", &["hold", "lock", "--", "no-such-program"]);
    assert_eq!((exit, &*err), (6, "st: cannot run no-such-program: there is no such program in PATH\n"));
    let server = Server::start(&[]);
    let folder = Folder::new();
    fs::write(folder.path("script"), "#!/no/such/shell\n").unwrap();
    Command::new("chmod").args(["+x", &folder.word("script")]).status().unwrap();
    let (exit, _, err) = client(&server.addr, &["hold", "lock", "--", &folder.word("script")]);
    assert_eq!(exit, 6, "{err}");
    assert_eq!(client(&server.addr, &["exists", "lock"]).0, 1, "the key was given back");
}

/// In a terminal a program reads what is typed, is ended by Ctrl-C, and cannot be suspended. `script` has a terminal.
#[test]
fn a_program_has_the_terminal() {
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let server = Server::start(&[]);
    let st = env!("CARGO_BIN_EXE_st");
    let ask = |program: &str, typed: &[&str]| {
        // Ctrl-C goes to the shell, too, and one without a trap may end of it before it tells what `st` said.
        let line =
            format!("trap : INT; {st} client -a {} hold lock -- {program}; echo \"[$?]\"", server.addr);
        let mut script = Command::new("script");
        script.env("SHELL", "/bin/sh").args(["-qefc", &line, "/dev/null"]);
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for typed in typed {
            eventually("it is held", || client(&server.addr, &["exists", "lock"]).0 == 0);
            thread::sleep(ms(300));
            std::io::Write::write_all(&mut stdin, typed.as_bytes()).unwrap();
        }
        let out = child.wait_with_output().unwrap();
        drop(stdin);
        String::from_utf8_lossy(&out.stdout).replace('\r', "")
    };
    let read = "sh -c 'read word; echo got $word'";
    let out = ask(read, &["hello\n"]);
    assert!(out.contains("got hello\n[0]"), "{out:?}");
    let out = ask(read, &["\x1a", "again\n"]);
    assert!(out.contains("got") && out.contains("again\n[0]"), "{out:?}");
    let out = ask("sleep 60", &["\x03"]);
    assert!(out.contains("[130]"), "{out:?}");
    let out = ask("sleep 1", &["\x1a"]);
    assert!(out.contains("[0]"), "{out:?}");
    eventually("it is given back", || client(&server.addr, &["exists", "lock"]).0 == 1);
}

fn number(random: &mut u64, below: u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*random >> 33) % below
}

/// Fifty want the same key, again and again until they have had it; holders are killed, and so is the server.
#[test]
fn never_are_two_inside_at_once_and_each_gets_its_turn() {
    let folder = Folder::new();
    let serve = |address: &str| Process::with_journal_at(&folder.word("j"), "no", address);
    let server = Mutex::new(serve(&own_address()));
    let address = server.lock().unwrap().addr.to_string();
    // Each looks whether the one that was inside before it still lives, which a zombie does not.
    let (log, inside) = (folder.word("log"), folder.word("inside"));
    let script = format!(
        "read old < {inside}; [ -n \"$old\" ] && grep -q . /proc/$old/cmdline && echo both $old $$ >> {log}
         echo $$ > {inside}; echo in $$ >> {log}; sleep 0.03; echo out $$ >> {log}; echo > {inside}"
    );
    fs::write(&inside, "\n").unwrap();
    let done = AtomicBool::new(false);
    let (killed, restarts) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let holders: Vec<_> = (0..50_u64)
            .map(|n| {
                let (address, script, killed) = (&address, &script, &killed);
                scope.spawn(move || {
                    let mut random = n;
                    for _ in 0..200 {
                        let words =
                            ["-T", "1", "hold", "--ttl", "1", "-w", "60", "lock", "--", "sh", "-c", script];
                        let mut holder = start(address, &words);
                        // Some are killed while they wait or hold.
                        if number(&mut random, 4) == 0 {
                            thread::sleep(ms(number(&mut random, 400)));
                            let _ = holder.kill();
                        }
                        let output = holder.wait_with_output().unwrap();
                        if output.status.signal().is_some() {
                            killed.fetch_add(1, SeqCst);
                            continue;
                        }
                        match output.status.code() {
                            Some(0) => return,
                            // The server was down at first, or the lease was lost with it.
                            Some(1 | 3 | 4) => {}
                            code => panic!("{code:?}: {}", String::from_utf8_lossy(&output.stderr)),
                        }
                    }
                    panic!("holder {n} never had its turn");
                })
            })
            .collect();
        let (done, server, restarts) = (&done, &server, &restarts);
        let killer = scope.spawn(move || {
            while !done.load(SeqCst) {
                thread::sleep(ms(700));
                let mut server = server.lock().unwrap();
                server.signal("KILL");
                server.ended();
                let address = server.addr.to_string();
                *server = serve(&address);
                restarts.fetch_add(1, SeqCst);
            }
        });
        let ended: Vec<_> = holders.into_iter().map(|holder| holder.join()).collect();
        done.store(true, SeqCst);
        killer.join().unwrap();
        assert!(ended.iter().all(Result::is_ok));
    });
    let (killed, restarts) = (killed.into_inner(), restarts.into_inner());
    assert!(killed >= 5 && restarts >= 2, "{killed} killed, {restarts} restarts");
    check(Path::new(&log), killed);
}

/// Nobody found another inside, and who did not come out again was killed.
fn check(log: &Path, killed: usize) {
    let text = fs::read_to_string(log).unwrap();
    let (mut inside, mut left, mut turns) = (None, 0, 0);
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("in", pid)) => {
                turns += 1;
                left += usize::from(inside.replace(pid).is_some());
            }
            Some(("out", pid)) => assert_eq!(inside.take(), Some(pid), "{text}"),
            _ => panic!("{line}: {text}"),
        }
    }
    assert!(turns >= 50 && left <= killed, "{turns} turns, {left} left without a word, {killed} killed");
}
