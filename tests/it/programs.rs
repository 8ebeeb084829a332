//! Programs as actions, well-behaved and hostile.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use socket_tables::actions::{Actions, Limits, Program};
use socket_tables::json::{JsonText, Value};
use socket_tables::protocol::{Code, Failure};

use crate::actions::{call, expect_failure};

/// Far more than anything here takes on a busy machine, far less than the 1,000 s that hostile programs sleep.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own for each test, gone at the end.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("st-actions-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Dir(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// An executable shell script that finds this directory in `$dir`. Another process writes it: were it ever
    /// open for writing in this one, a child just forked by another test could hold it so, and it could not run.
    fn script(&self, body: &str) -> Program {
        Program::new(self.script_file(body)).unwrap()
    }

    pub fn script_file(&self, body: &str) -> PathBuf {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let path = self.path(&format!("script-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let body = format!("#!/bin/sh\ndir='{}'\n{body}\n", self.0.display());
        let writer = ["-c", r#"printf %s "$1" >"$2" && chmod 755 "$2""#, "sh"];
        let written = Command::new("/bin/sh").args(writer).arg(body).arg(&path).status().unwrap();
        assert!(written.success());
        path
    }

    /// The pid that a script wrote to `$dir/pid`.
    pub fn pid(&self) -> String {
        fs::read_to_string(self.path("pid")).unwrap().trim().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn shell(line: &str) -> process::Output {
    Command::new("/bin/sh").args(["-c", line]).output().unwrap()
}

/// Whether a process lives; one that is dead but not yet reaped by its parent does not.
pub fn alive(pid: &str) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit(')').next().unwrap().starts_with(" Z"),
        Err(_) => !Path::new("/proc/self").exists() && shell(&format!("kill -0 {pid}")).status.success(),
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "still not: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn with_limits(timeout: Duration, output_bytes_max: usize, jobs_max: usize) -> Actions {
    let mut actions = Actions::default();
    actions.limits = Limits { timeout, output_bytes_max, jobs_max };
    actions
}

/// Runs a script once as the action `IT`.
fn run_in(dir: &Dir, mut actions: Actions, script: &str, data: &str) -> Result<String, Failure> {
    actions.register("IT", "", "", dir.script(script)).unwrap();
    call(&actions, "IT", data)
}

fn run(script: &str, data: &str) -> Result<String, Failure> {
    run_in(&Dir::new(), with_limits(PATIENCE, 1 << 20, 16), script, data)
}

/// What a program answers can be stored and listed, which puts two levels around it.
#[test]
fn a_value_too_deep_to_be_stored_is_text() {
    for (depth, is_json) in [(126, true), (127, false), (128, false)] {
        let nested = "[".repeat(depth) + &"]".repeat(depth);
        let value = if is_json { nested.clone() } else { format!("\"{nested}\"") };
        assert_eq!(run(&format!("echo '{nested}'"), "null").as_deref(), Ok(value.as_str()), "{depth}");
    }
}

#[test]
fn what_a_program_prints_is_the_value() {
    for (name, script, data, value) in [
        ("an object", r#"echo '{"a": [1, 2]}'"#, "null", r#"{"a":[1,2]}"#),
        ("a number keeps its digits", "echo 1.50e400", "null", "1.50e400"),
        ("json over lines", r#"printf '[\n1\n]\n'"#, "null", "[1]"),
        ("text", "echo hello there", "null", r#""hello there""#),
        ("text without newline", "printf hello", "null", r#""hello""#),
        ("one newline is taken", r#"printf 'a\n\n'"#, "null", r#""a\n""#),
        ("two values are text", "echo 1 2", "null", r#""1 2""#),
        ("nothing", ":", "null", r#""""#),
        ("a newline alone", "echo", "null", r#""""#),
        ("nul", r#"printf 'a\0b'"#, "null", r#""a\u0000b""#),
        ("stderr of a success is dropped", "echo fine; echo oops >&2", "null", r#""fine""#),
        ("data comes on stdin", "cat", r#"{"k": "a\nb"}"#, r#"{"k":"a\nb"}"#),
        ("data is one line", "read -r line && echo \"$line\"", r#"["x"]"#, r#"["x"]"#),
        ("stdin by name", "cat /dev/stdin", "7", "7"),
        ("no arguments", "echo $#", r#"["-rf"]"#, "0"),
        ("works in the root", "pwd", "null", r#""/""#),
    ] {
        assert_eq!(run(script, data), Ok(value.to_owned()), "{name}");
    }
    let mut actions = Actions::default();
    actions.register("CAT", "", "", Program::new("/bin/cat").unwrap()).unwrap();
    assert_eq!(actions.call("CAT", None).map(|text| text.as_str().to_owned()), Ok("null".to_owned()));
}

#[test]
fn a_program_sees_nothing_of_the_client_but_stdin() {
    let mut actions = Actions::default();
    let env_program = ["/usr/bin/env", "/bin/env"].iter().find_map(|path| Program::new(path).ok()).unwrap();
    actions.register("ENV", "", "", env_program).unwrap();
    let Value::String(text) = actions.call("ENV", Some(JsonText::string("PATH=evil"))).unwrap().to_value()
    else {
        panic!("env prints text");
    };
    let mut lines: Vec<&str> = text.as_str().lines().collect();
    lines.sort_unstable();
    let path = format!("PATH={}", env::var("PATH").unwrap());
    assert_eq!(lines, ["LANG=C.UTF-8", &path, "ST_ACTION=ENV"]);
}

#[test]
fn a_program_that_fails_is_action_failed_with_its_words() {
    for (script, words) in [
        ("exit 3", "IT failed (exit status: 3)"),
        ("echo oh no >&2; exit 3", "IT failed (exit status: 3): oh no"),
        ("echo oh no >/dev/stderr; exit 3", "exit status: 3): oh no"),
        (r#"printf 'a\033[1m\nb' >&2; exit 1"#, r"status: 1): a\u{1b}[1m\nb"),
        (r#"printf 'a\377b' >&2; exit 1"#, "a\u{fffd}b"),
        ("kill -9 $$", "IT failed (signal: 9"),
        (r#"printf 'ab\377'"#, "IT wrote bytes that are not UTF-8, at 2"),
    ] {
        expect_failure(run(script, "null"), Code::ActionFailed, words);
    }
    for (bytes, cut) in [(255, false), (256, false), (257, true), (100_000, true)] {
        let failure = run(&format!("printf %{bytes}d 1 | tr ' ' x >&2; exit 1"), "null").unwrap_err();
        let said = failure.message.rsplit(' ').next().unwrap();
        assert_eq!((said.trim_end_matches('…').len(), said.ends_with('…')), (bytes.min(256), cut), "{bytes}");
    }
}

#[test]
fn the_output_limit_is_exact() {
    const MAX: usize = 40_000;
    let print = |bytes: usize| format!("head -c {bytes} /dev/zero | tr '\\0' a");
    let limited = |script: &str| run_in(&Dir::new(), with_limits(PATIENCE, MAX, 1), script, "null");
    for bytes in [MAX - 1, MAX] {
        assert_eq!(limited(&print(bytes)).map(|text| text.len()), Ok(bytes + 2));
    }
    expect_failure(limited(&print(MAX + 1)), Code::ActionFailed, "more than 40000 bytes");
    assert!(limited(&format!("{}; printf b >&2", print(MAX - 1))).is_ok());
    expect_failure(
        limited(&format!("{}; printf b >&2", print(MAX))),
        Code::ActionFailed,
        "more than 40000 bytes",
    );
    // Without end: stopped by the limit long before the timeout, and never held in memory.
    let started = Instant::now();
    expect_failure(limited("exec cat /dev/zero"), Code::ActionFailed, "more than");
    expect_failure(limited("cat /dev/zero >&2; sleep 1000"), Code::ActionFailed, "more than");
    expect_failure(
        limited("trap '' PIPE; while :; do echo aaaaaaaaaaaaaaa; done"),
        Code::ActionFailed,
        "more than",
    );
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn a_program_that_sleeps_is_killed_with_its_whole_group() {
    let scripts = [
        ("sleeps", "echo $$ >$dir/pid; exec sleep 1000"),
        ("ignores SIGTERM", "trap '' TERM INT HUP; echo $$ >$dir/pid; while :; do sleep 1; done"),
        ("its child sleeps", "sleep 1000 & echo $! >$dir/pid; wait"),
        ("stopped", "echo $$ >$dir/pid; kill -STOP $$"),
        ("closed all and sleeps", "exec <&- >&- 2>&-; echo $$ >$dir/pid; exec sleep 1000"),
        ("its child is silent", "sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >$dir/pid; sleep 1000"),
    ];
    let check = |name: &str, script: &str| {
        let dir = Dir::new();
        let started = Instant::now();
        let result = run_in(&dir, with_limits(Duration::from_secs(2), 1 << 20, 1), script, "null");
        expect_failure(result, Code::ActionFailed, "IT ran longer than 2s and was killed");
        assert!(started.elapsed() >= Duration::from_secs(2) && started.elapsed() < PATIENCE, "{name}");
        let pid = dir.pid();
        wait_until(name, || !alive(&pid));
    };
    thread::scope(|scope| {
        for (name, script) in scripts {
            scope.spawn(move || check(name, script));
        }
    });
}

#[test]
fn children_left_in_the_group_end_with_the_program() {
    for (name, script) in [
        ("holds stdout", "sleep 1000 & echo $! >$dir/pid; echo done"),
        ("holds nothing", "sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >$dir/pid; echo done"),
        (
            "holds stderr and ignores SIGTERM",
            "(trap '' TERM; sleep 1000) >/dev/null & echo $! >$dir/pid; echo done",
        ),
    ] {
        let dir = Dir::new();
        let started = Instant::now();
        let result = run_in(&dir, with_limits(Duration::from_secs(900), 1 << 20, 1), script, "null");
        assert_eq!(result.as_deref(), Ok(r#""done""#), "{name}");
        assert!(started.elapsed() < PATIENCE, "{name}");
        let pid = dir.pid();
        wait_until(name, || !alive(&pid));
    }
}

/// Where util-linux lacks, a script has no way out of its group.
pub fn have_setsid() -> bool {
    shell("command -v setsid").status.success()
}

#[test]
fn a_child_that_left_the_group_hangs_nothing() {
    if !have_setsid() {
        return;
    }
    let long = format!("\"{}\"", "x".repeat(10 << 20));
    // By way of 3, since a shell gives what it starts in the background /dev/null as stdin.
    let escape = "exec 3<&0; setsid sh -c 'echo $$ >$0/pid; exec sleep 1000' $dir";
    let wait = "while [ ! -s $dir/pid ]; do sleep 0.01; done; echo done";
    for (name, script, data) in [
        ("holds stdout and stderr", format!("{escape} & {wait}"), "null"),
        ("holds stdin, full", format!("{escape} <&3 & {wait}"), long.as_str()),
        ("holds stdin, empty", format!("{escape} <&3 & {wait}"), "null"),
    ] {
        let dir = Dir::new();
        let started = Instant::now();
        let result = run_in(&dir, with_limits(Duration::from_secs(900), 1 << 20, 1), &script, data);
        shell(&format!("kill -KILL {}", dir.pid()));
        assert_eq!(result.as_deref(), Ok(r#""done""#), "{name}");
        assert!(started.elapsed() < PATIENCE, "{name}");
    }
    // One that prints without end, from outside the group, is over the limit or gets SIGPIPE: it ends either way.
    let dir = Dir::new();
    let script = format!("setsid sh -c 'echo $$ >$0/pid; exec yes' $dir & {wait}");
    let _ = run_in(&dir, with_limits(Duration::from_secs(900), 1 << 20, 1), &script, "null");
    let pid = dir.pid();
    wait_until("yes has ended", || !alive(&pid));
}

#[test]
fn input_that_is_not_read_hangs_nothing() {
    let long = format!("\"{}\"", "x".repeat(10 << 20));
    for (name, script) in [
        ("never read", "echo done"),
        ("closed early", "exec <&-; echo done"),
        ("read in part", "head -c 100000 >/dev/null; echo done"),
        ("read late", "sleep 0.1; cat >/dev/null; echo done"),
    ] {
        let started = Instant::now();
        assert_eq!(run(script, &long).as_deref(), Ok(r#""done""#), "{name}");
        assert!(started.elapsed() < PATIENCE, "{name}");
    }
    assert_eq!(run("wc -c | tr -d ' '", &long), Ok((long.len() + 1).to_string()));
}

#[test]
fn a_file_that_cannot_be_an_action_is_told_at_once() {
    let dir = Dir::new();
    fs::write(dir.path("plain"), "").unwrap();
    for (path, kind, said) in [
        ("bin/cat".into(), io::ErrorKind::InvalidInput, "\"bin/cat\": its path must begin with '/'"),
        ("".into(), io::ErrorKind::InvalidInput, "\"\": its path must begin with '/'"),
        (dir.path("none"), io::ErrorKind::NotFound, "none\": No such file"),
        (dir.0.clone(), io::ErrorKind::PermissionDenied, "\": it is not a file"),
        (dir.path("plain"), io::ErrorKind::PermissionDenied, "plain\": it is not executable"),
    ] {
        let error = Program::new(&path).expect_err("no program");
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(said), "{error}");
    }

    let mut actions = Actions::default();
    actions.register("IT", "", "", dir.script("echo")).unwrap();
    assert!(call(&actions, "IT", "1").is_ok());
    for entry in fs::read_dir(&dir.0).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    expect_failure(call(&actions, "IT", "1"), Code::ActionFailed, "cannot run");
}

#[test]
fn only_so_many_programs_run_at_once() {
    let dir = Dir::new();
    let mut actions = with_limits(PATIENCE, 1 << 20, 2);
    let script = "echo >$dir/started-$$; while [ ! -e $dir/go ]; do sleep 0.01; done; echo done";
    actions.register("WAIT", "", "", dir.script(script)).unwrap();
    actions.register("QUICK", "", "", dir.script("echo quick")).unwrap();
    let started =
        || fs::read_dir(&dir.0).unwrap().flatten().filter(|entry| name_of(entry, "started")).count();
    thread::scope(|scope| {
        let first = scope.spawn(|| call(&actions, "WAIT", "1"));
        let second = scope.spawn(|| call(&actions, "WAIT", "1"));
        wait_until("both run", || started() == 2);
        expect_failure(call(&actions, "QUICK", "1"), Code::Busy, "2 programs");
        // A third that comes just before the others are done gets its turn.
        let third = scope.spawn(|| call(&actions, "QUICK", "1"));
        fs::write(dir.path("go"), "").unwrap();
        for waiting in [first, second] {
            assert_eq!(waiting.join().unwrap().as_deref(), Ok(r#""done""#));
        }
        let _ = third.join().unwrap();
    });
    assert_eq!(call(&actions, "QUICK", "1").as_deref(), Ok(r#""quick""#));
}

fn name_of(entry: &fs::DirEntry, start: &str) -> bool {
    entry.file_name().to_string_lossy().starts_with(start)
}

/// Counts what a process holds, which other tests would disturb: so it runs itself again, alone in a
/// process of its own, and there does its work.
#[cfg(target_os = "linux")]
#[test]
fn two_hundred_runs_leak_nothing() {
    if env::var_os("ST_TEST_ALONE").is_some() {
        return run_two_hundred();
    }
    let alone = ["--exact", "programs::two_hundred_runs_leak_nothing", "--test-threads=1", "--nocapture"];
    let mut alone_process = Command::new(env::current_exe().unwrap());
    let output = alone_process.args(alone).env("ST_TEST_ALONE", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[cfg(target_os = "linux")]
fn run_two_hundred() {
    let dir = Dir::new();
    let mut actions = with_limits(Duration::from_millis(150), 10_000, 4);
    for (name, script) in [
        ("FINE", "cat"),
        ("FAILS", "exit 3"),
        ("DIES", "kill -9 $$"),
        ("FLOODS", "cat /dev/zero"),
        ("SLEEPS", "sleep 1000 & sleep 1000"),
        ("LEAVES-ONE", "sleep 1000 & echo done"),
    ] {
        actions.register(name, "", "", dir.script(script)).unwrap();
    }
    if have_setsid() {
        let script = "exec 3<&0; setsid sh -c 'echo $$ >>$0/pids; exec sleep 30' $dir <&3 & sleep 0.05";
        actions.register("ESCAPES", "", "", dir.script(script)).unwrap();
    }
    actions.exec_allowed = true;
    let long = format!("\"{}\"", "x".repeat(300_000));
    let round = || {
        thread::scope(|scope| {
            for name in ["FINE", "FAILS", "DIES", "FLOODS", "SLEEPS", "LEAVES-ONE", "ESCAPES"] {
                let (actions, long) = (&actions, &long);
                scope.spawn(move || call(actions, name, long));
            }
            let _ = call(&actions, "EXEC", r#"["/none"]"#);
        });
    };
    let count = |of: &str| fs::read_dir(format!("/proc/self/{of}")).unwrap().count();
    round();
    wait_until("the first round is over", || count("task") == 2);
    let before = (count("task"), count("fd"));
    for _ in 0..24 {
        round();
    }
    // A thread that has been joined is on its way out, but the kernel may list it a moment longer.
    wait_until("as many threads and descriptors as before", || (count("task"), count("fd")) == before);
    let me = process::id().to_string();
    let children = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().unwrap().split(' ').nth(2) == Some(&me)
    });
    assert_eq!(children.count(), 0, "children left, dead or alive");
    shell(&format!("kill -KILL $(cat {}/pids)", dir.0.display()));
}
