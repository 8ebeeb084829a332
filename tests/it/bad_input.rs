//! What a framed message, a line or an `--action` can have wrong: each gets its own clear error from the real
//! binary, and whoever else is connected notices nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::process::{COUNT, COUNTED, Process, exchange};
use crate::support::{self, run, st};

const MAX: usize = 1024;

fn header(text: &str) -> String {
    format!("{text:<64}")
}

#[test]
fn a_framed_message() {
    let no_header = "a frame's header must be its length in decimal digits, padded with spaces to 64 bytes";
    let too_large = "a request may have 1024 bytes here: the server's --max-request";
    let cut = "the input ends within a request";
    let echo = |bytes: usize| format!("{}ECHO {}", header(&bytes.to_string()), "x".repeat(bytes - 5));
    let answer = |bytes: usize| format!("{}{}", header(&(bytes - 5).to_string()), "x".repeat(bytes - 5));
    let server = Process::start(&["--max-request", "1K"]);
    let mut other = server.connect();
    for (name, sent, said) in [
        ("a length that is no number", header("5x"), no_header),
        ("two numbers", header("5 5"), no_header),
        ("a fraction", header("5.0"), no_header),
        ("an exponent", header("1e2"), no_header),
        ("tabs", header("5\t"), no_header),
        ("known to be none before it is whole", "5x".into(), no_header),
        ("one byte over", echo(MAX + 1), too_large),
        ("more than a word holds", header("18446744073709551617"), too_large),
        ("64 nines", "9".repeat(64), too_large),
        ("a header that is cut", header("5")[..63].into(), cut),
        ("a payload that is cut", header("5") + "COUN", cut),
        ("no payload", header("1"), cut),
    ] {
        let reply = server.ask(&sent);
        let (length, payload) = reply.split_at_checked(64).unwrap_or_else(|| panic!("{name}: {reply}"));
        assert_eq!(length.trim_end().parse(), Ok(payload.len()), "{name}: one reply, a frame, then the end");
        assert!(payload.contains(&format!("\"message\":\"{said}\"")), "{name}: {payload}");
        assert_eq!(exchange(&mut other, COUNT), COUNTED, "{name}");
    }
    for (name, sent, reply) in [
        ("one byte under", echo(MAX - 1), answer(MAX - 1)),
        ("at the limit", echo(MAX), answer(MAX)),
        ("zeros in front", format!("{:064}ECHO x", 6), header("1") + "x"),
    ] {
        assert_eq!(server.ask(sent), reply, "{name}");
    }
    let mut sent = header("6").into_bytes();
    sent.extend_from_slice(b"ECHO \xff");
    let error = "error: the bytes are not UTF-8 from byte 5 of the request on";
    assert_eq!(server.ask(sent), header(&error.len().to_string()) + error);
    // A minus sign begins no dialect.
    assert!(server.ask(header("-5")).contains("no request begins with the byte"));
}

#[test]
fn a_text_line() {
    let too_large = "MSG error: a request may have 1024 bytes here: the server's --max-request\n".to_owned();
    let line = |bytes: usize, end: &str| format!("ECHO {}{end}", "x".repeat(bytes - 5)).into_bytes();
    let answer = |bytes: usize| format!("MSG {}\n", "x".repeat(bytes - 5));
    let not_utf8 = |at: u8| format!("MSG error: the bytes are not UTF-8 from byte {at} of the request on\n");
    let server = Process::start(&["--max-request", "1K"]);
    let mut other = server.connect();
    for (name, sent, reply) in [
        ("one byte under", line(MAX - 1, "\n"), answer(MAX - 1)),
        ("at the limit", line(MAX, "\n"), answer(MAX)),
        ("at the limit, without a newline", line(MAX, ""), answer(MAX)),
        ("one byte over", line(MAX + 1, "\n"), too_large.clone()),
        ("one byte over, without a newline", line(MAX + 1, ""), too_large.clone()),
        ("no newline at all", line(MAX * 100, ""), too_large),
        ("not UTF-8", b"ECHO a\xffb\nCOUNT\n".to_vec(), not_utf8(6)),
        ("not UTF-8 in the second line", b"COUNT\nGET \xc3\n".to_vec(), "MSG 0\n".to_owned() + &not_utf8(4)),
        ("a character that is cut", b"ECHO \xe2\x82".to_vec(), not_utf8(5)),
    ] {
        assert_eq!(server.ask(sent), reply, "{name}");
        assert_eq!(exchange(&mut other, COUNT), COUNTED, "{name}");
    }
}

/// A directory with files that are no programs, and some that are; removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str, files: &[(&str, u32, &str)]) -> Dir {
        let dir = std::env::temp_dir().join(format!("st-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for (name, mode, text) in files {
            let (copy, path) = (dir.join(format!("{name}.txt")), dir.join(name));
            fs::write(&copy, text).unwrap();
            // Copied by another process: a file that a fork of ours still has open cannot be run.
            assert!(run(std::process::Command::new("cp").args([&copy, &path]), b"").status.success());
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        Dir(dir)
    }

    fn action(&self, name: &str, file: &str) -> String {
        format!("{name}={}", self.0.join(file).display())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_action_on_the_command_line() {
    let dir = Dir::new("bad-action", &[("plain", 0o644, "#!/bin/sh\n")]);
    let here = dir.0.display();
    let name = |name: &str| format!("{name:?} is no name for an action: a capital letter, then capitals");
    let long = "N".repeat(65);
    let form = "--action wants NAME=/PATH/TO/PROGRAM, not ";
    for (action, said) in [
        ("MY OWN=/bin/cat".into(), name("MY OWN")),
        (" MINE=/bin/cat".into(), name(" MINE")),
        ("mine=/bin/cat".into(), name("mine")),
        ("MINe=/bin/cat".into(), name("MINe")),
        ("7UP=/bin/cat".into(), name("7UP")),
        ("MÍNE=/bin/cat".into(), name("MÍNE")),
        (format!("{long}=/bin/cat"), name(&long)),
        ("=/bin/cat".into(), format!("{form}\"=/bin/cat\"")),
        ("MINE".into(), format!("{form}\"MINE\"")),
        ("MINE=".into(), format!("{form}\"MINE=\"")),
        ("MINE=bin/cat".into(), format!("{form}\"MINE=bin/cat\"")),
        (dir.action("MINE", "none"), format!("no program at \"{here}/none\": No such file")),
        (dir.action("MINE", "."), format!("no program at \"{here}/.\": it is not a file")),
        (
            dir.action("MINE", "plain"),
            format!("no program at \"{here}/plain\": it is not executable: try chmod +x"),
        ),
        ("**=/bin/cat".into(), name("**")),
        ("EXEC=/bin/cat".into(), "the name EXEC is taken".into()),
        ("GET=/bin/cat".into(), "the name GET is taken".into()),
        ("INFO=/bin/cat".into(), "the name INFO is taken".into()),
    ] {
        let output = run(&mut st(&["server", "--action", &action, "0"]), b"");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{action}: {error}");
        assert!(output.stdout.is_empty() && error.starts_with(&format!("st: {said}")), "{action}: {error}");
        assert!(error.ends_with("(see 'st server --help')\n"), "{action}: {error}");
    }
    let twice = ["server", "--action", "A=/bin/cat", "--action", "A=/bin/true", "0"];
    let output = run(&mut st(&twice), b"");
    let told = "st: the name A is taken already (see 'st server --help')\n";
    assert_eq!((output.status.code(), &*output.stderr), (Some(2), told.as_bytes()));
}

#[test]
fn a_program_that_fails_when_it_is_called() {
    let programs = [
        ("dies", 0o755, "#!/bin/sh\nkill -9 $$\n"),
        ("fails", 0o755, "#!/bin/sh\necho 'no such\nrecord' >&2\nexit 3\n"),
        ("nobodys", 0o755, "#!/no/such/shell\n"),
        ("sleeps", 0o755, "#!/bin/sh\nsleep 1000\n"),
        ("upper", 0o755, "#!/bin/sh\ntr a-z A-Z\n"),
    ];
    let dir = Dir::new("failing-action", &programs);
    let actions: Vec<String> =
        programs.iter().map(|(name, ..)| dir.action(&name.to_uppercase(), name)).collect();
    let mut flags: Vec<&str> = actions.iter().flat_map(|action| ["--action", action]).collect();
    flags.extend(["--action-timeout", "0.5"]);
    let server = support::Server::start(&flags);
    let call = |name: &str| {
        let output = run(&mut st(&["client", "-a", &server.addr, "call", name, "hi"]), b"");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    for (name, said) in [
        ("DIES", "DIES failed (signal: 9 (SIGKILL))"),
        ("FAILS", "FAILS failed (exit status: 3): no such\\nrecord"),
        ("NOBODYS", "cannot run "),
        ("SLEEPS", "SLEEPS ran longer than 500ms and was killed"),
    ] {
        let (exit, out, error) = call(name);
        assert_eq!((exit, &*out, error.lines().count()), (5, "", 1), "{name}: {error}");
        let begin = format!("st: {}: action_failed: {said}", server.addr);
        assert!(error.starts_with(&begin), "{name}: {error}");
        assert_eq!(call("UPPER"), (0, "HI\n".into(), String::new()), "after {name}");
    }
}
