//! `st json` as a person runs it: what goes in, what comes out, the exit code.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::{run, st};

/// stdout, stderr and exit code of `st json ARGS` with this stdin.
fn json(args: &[&str], stdin: &[u8]) -> (String, String, Option<i32>) {
    let output = run(st(&["json"]).args(args), stdin);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn layouts_and_exit_codes() {
    let input = b" {\"a\" : [1.0, \"\\u00e9\"], \"a\":{}} \n";
    let pretty = "{\n  \"a\": [\n    1.0,\n    \"\\u00e9\"\n  ],\n  \"a\": {}\n}\n";
    for (args, output) in [
        (&[][..], pretty),
        (&["-p"], pretty),
        (&["--pretty", "-"], pretty),
        (&["-c"], "{\"a\":[1.0,\"\\u00e9\"],\"a\":{}}\n"),
        (&["--compact"], "{\"a\":[1.0,\"\\u00e9\"],\"a\":{}}\n"),
        (&["--check"], ""),
    ] {
        assert_eq!(json(args, input), (output.into(), String::new(), Some(0)), "{args:?}");
    }
    for args in [&[][..], &["-c"], &["--check"]] {
        let (out, err, code) = json(args, b"{\"a\":\n 'b'}");
        assert_eq!((out.as_str(), code), ("", Some(1)), "{args:?}");
        assert!(err.contains("line 2, column 2") && err.lines().count() == 1, "{err}");
    }
    let (_, err, code) = json(&["/none/such"], b"");
    assert_eq!(code, Some(6));
    assert!(err.contains("/none/such"), "{err}");
    assert_eq!(json(&["--frob"], b"").2, Some(2));
}

#[test]
fn a_file_is_read_like_stdin() {
    let file = std::env::temp_dir().join(format!("st-json-{}", std::process::id()));
    std::fs::write(&file, "[1, 2]").unwrap();
    let read = json(&["-c", &file.to_string_lossy()], b"");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(read, ("[1,2]\n".into(), String::new(), Some(0)));
}

/// Larger than what is judged first, and cut there within a string, a character, an escape and a word.
#[test]
fn a_large_input_is_the_same_in_and_out() {
    for shift in 0..20 {
        let item = "\"é\\ud83d\\ude00\",true,-1.5e10,";
        let text = format!("[\"{}\",{}null]\n", "x".repeat(shift), item.repeat(60_000));
        assert!(json(&["-c"], text.as_bytes()) == (text, String::new(), Some(0)), "{shift}");
    }
}

#[test]
fn input_without_an_end_that_is_not_json_is_refused_at_once() {
    let mut child = st(&["json"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The pipe stays open: who waits for its end waits for ever.
    std::thread::spawn(move || while std::io::Write::write_all(&mut stdin, &[b'y'; 65_536]).is_ok() {});
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said.contains("byte 0"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_exit_6_and_a_closed_pipe_a_quiet_end() {
    let shell = |script: &str| {
        let script = format!("exec 2>&1; {script}");
        let mut shell = Command::new("sh");
        let output = run(shell.args(["-c", &script, env!("CARGO_BIN_EXE_st")]), b"");
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    for command in ["echo '[1]' | \"$0\" json", "\"$0\" --help", "\"$0\" --version", "\"$0\" server -q 0"] {
        let (said, code) = shell(&format!("{command} >/dev/full"));
        assert_eq!(code, Some(6), "{command}: {said}");
    }
    assert_eq!(
        shell("{ yes 1, | head -100000; echo 1; } | sed '1s/^/[/; $s/$/]/' | \"$0\" json | head -1"),
        ("[\n".into(), Some(0))
    );
}
