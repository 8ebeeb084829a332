//! What a program leaves behind, under a server that adopts it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{Process, by_shell, eventually, server};
use crate::programs::{Dir, alive, have_setsid};

const CALL: &str = r#"{"request":"IT"}"#;

/// A server with these flags whose action `IT` is this script.
fn with_script(dir: &Dir, flags: &[&str], script: &str) -> Process {
    let action = format!("IT={}", dir.script_file(script).display());
    Process::start(&[flags, &["--action", &action]].concat())
}

fn exists(pid: &str) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The children of a process's main thread, dead or alive.
fn children(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap()
}

/// Lines of shell: wait for a file in `$dir`.
fn wait_for(name: &str) -> String {
    format!("while [ ! -s $dir/{name} ]; do sleep 0.01; done")
}

/// A script that leaves a daemon, which tells its pid and stays until there is a file `go`.
fn start_daemon() -> String {
    let daemon = "echo $$ >$0/pid; while [ ! -e $0/go ]; do sleep 0.01; done";
    let detached = "</dev/null >/dev/null 2>&1";
    format!("setsid env -i PATH=$PATH sh -c '{daemon}' $dir {detached} & {}", wait_for("pid"))
}

#[test]
fn what_left_the_group_dies_with_its_program() {
    if !have_setsid() {
        return;
    }
    let tell = "echo $$ >$0/pid; exec sleep 1000 </dev/null >/dev/null 2>&1";
    let done = format!("{}; echo done", wait_for("pid"));
    for (name, script, reply) in [
        ("the program is over time", format!("timeout 900 sh -c '{tell}' $dir"), "ran longer than 1s"),
        ("the program has ended", format!("timeout 900 sh -c '{tell}' $dir & {done}"), "done"),
        ("in a session of its own", format!("setsid sh -c '{tell}' $dir & {done}"), "done"),
        ("the third in a row", format!("setsid timeout 900 setsid sh -c '{tell}' $dir & {done}"), "done"),
        ("an orphan already", format!("(setsid sh -c '{tell}' $dir &) & {done}"), "done"),
        ("ignores signals", format!("setsid sh -c 'trap \"\" TERM HUP; {tell}' $dir & {done}"), "done"),
    ] {
        for mode in ["pool", "iterative"] {
            let dir = Dir::new();
            let seconds = if reply == "done" { "20" } else { "1" };
            let server = with_script(&dir, &["--mode", mode, "--action-timeout", seconds], &script);
            let told = server.ask(CALL);
            let pid = dir.pid();
            assert!(told.contains(reply) && !exists(&pid), "{name}, {mode}: {told}");
        }
    }
}

/// A daemon that wipes its environment, as a good one does, is out of reach; its end must not leave a zombie.
#[test]
fn a_daemon_lives_on_and_leaves_no_zombie() {
    if !have_setsid() {
        return;
    }
    let dir = Dir::new();
    let server = with_script(&dir, &[], &start_daemon());
    assert_eq!(server.ask(CALL), "{\"value\":\"\"}\n");
    let pid = dir.pid();
    assert!(alive(&pid));
    fs::write(dir.path("go"), "").unwrap();
    eventually("the daemon is reaped", || !exists(&pid));
}

/// Whoever reaps must not take the status of a program that is waited for.
#[test]
fn no_program_loses_its_status_to_the_reaper() {
    let script = "(env -i sh -c : &) >/dev/null; exit 3";
    for mode in ["pool", "iterative"] {
        let dir = Dir::new();
        let server = with_script(&dir, &["--mode", mode], script);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let replies = server.ask(CALL.repeat(25));
                    assert_eq!(replies.matches("IT failed (exit status: 3)").count(), 25, "{replies}");
                });
            }
        });
        let children =
            || fs::read_to_string(server.proc(&format!("task/{}/children", server.pid()))).unwrap();
        eventually("all orphans are reaped", || children().trim().is_empty());
    }
}

/// As process 1 of a container has, and a server that a shell turned into.
#[test]
fn inherited_children_are_reaped() {
    let dir = Dir::new();
    let at = dir.path("").display().to_string();
    let child = format!("while [ ! -e {at}/go ]; do sleep 0.01; done");
    let _server = Process::spawn(by_shell(&format!("({child}) & echo $! >{at}/pid; exec"), ""));
    let pid = dir.pid();
    assert!(alive(&pid));
    fs::write(dir.path("go"), "").unwrap();
    eventually("the child is reaped", || !exists(&pid));
}

/// A program is to run in the root, and starting it there from elsewhere would copy the server's page tables.
#[test]
fn the_server_works_in_the_root_once_it_has_read_its_files() {
    let dir = Dir::new();
    let token = crate::process::Temporary::private(b"a-token-of-some-length");
    symlink(&token.0, dir.path("token")).unwrap();
    let mut command = server(&["--token-file", "token"]);
    command.current_dir(dir.path(""));
    let server = Process::spawn(command);
    assert_eq!(fs::read_link(server.proc("cwd")).unwrap(), Path::new("/"));
}

/// Process 1 for real, where the machine lets its users make one.
#[test]
fn as_process_1_it_reaps_what_it_inherits() {
    let unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut probe = Command::new(unshare[0]);
    probe.args(&unshare[1..]).arg("true").stdin(Stdio::null()).stderr(Stdio::null());
    if !have_setsid() || !probe.status().is_ok_and(|status| status.success()) {
        return;
    }
    let dir = Dir::new();
    let script = dir.script_file(&start_daemon());
    let server =
        by_shell(&format!("exec {}", unshare.join(" ")), &format!("--action IT={}", script.display()));
    let server = Process::spawn(server);
    let process_1 = children(server.pid());
    assert_eq!(server.ask(CALL), "{\"value\":\"\"}\n");
    assert_ne!(children(process_1.trim().parse().unwrap()), "");
    fs::write(dir.path("go"), "").unwrap();
    eventually("the orphan is reaped", || children(process_1.trim().parse().unwrap()).is_empty());
}
