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
fn a_stream_of_values_comes_out_a_line_each() {
    for (input, compact, pretty) in [
        ("{\"a\": 1}\n{\"a\": 2}\n", "{\"a\":1}\n{\"a\":2}\n", "{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n"),
        ("[1][ ]{}\"a\"\"b\"1\"c\"true[null]", "[1]\n[]\n{}\n\"a\"\n\"b\"\n1\n\"c\"\ntrue\n[null]\n", ""),
        ("1 -2\r\n\t3.5e1 null true", "1\n-2\n3.5e1\nnull\ntrue\n", "1\n-2\n3.5e1\nnull\ntrue\n"),
        ("  7  ", "7\n", "7\n"),
    ] {
        assert_eq!(json(&["-c"], input.as_bytes()), (compact.into(), String::new(), Some(0)), "{input}");
        if !pretty.is_empty() {
            assert_eq!(json(&[], input.as_bytes()), (pretty.into(), String::new(), Some(0)), "{input}");
        }
        assert_eq!(json(&["--check"], input.as_bytes()), (String::new(), String::new(), Some(0)), "{input}");
    }
}

#[test]
fn an_error_in_a_stream_is_placed_in_the_whole_input() {
    for (input, place) in [
        ("", "byte 0 (line 1, column 1): expected a value, found the end"),
        (" \n", "byte 2 (line 2, column 1): expected a value, found the end"),
        ("[1]\n{\"a\":1}\n  [1,x]\n", "byte 17 (line 3, column 6): expected a value, found 'x'"),
        ("[1]\n{\"a\":1", "byte 10 (line 2, column 7): expected ',' or '}', found the end"),
        ("[1]]", "byte 3 (line 1, column 4): expected a value, found ']'"),
        ("{} ,{}", "byte 3 (line 1, column 4): expected a value, found ','"),
        ("{}\0", "byte 2 (line 1, column 3): "),
        // Without white space nobody can say where the one ends and the other begins.
        (
            "01",
            "byte 1 (line 1, column 2): expected white space between values, found '1': a number takes no leading",
        ),
        ("1 1-2", "byte 3 (line 1, column 4): expected white space between values, found '-'"),
        ("true\nnullnull", "byte 9 (line 2, column 5): expected white space between values, found 'n'"),
        ("12abc", "byte 2 (line 1, column 3): expected white space between values, found 'a'"),
    ] {
        for args in [&[][..], &["-c"], &["--check"]] {
            let (out, err, code) = json(args, input.as_bytes());
            assert_eq!((&*out, code), ("", Some(1)), "{input:?} {args:?}");
            assert!(err.contains(place) && err.lines().count() == 1, "{input:?}: {err}");
        }
    }
    let (_, err, code) = json(&[], b"[1]\n[\xff]");
    assert!(code == Some(1) && err.contains("byte 5 (line 2, column 2): expected UTF-8"), "{err}");
}

/// Larger than what is judged first, and cut there within a name, a character, a word, a number and between lines.
#[test]
fn a_long_stream_is_the_same_in_and_out() {
    let line = "{\"key\":\"é\",\"value\":[true,-1.5e10]}\n";
    for shift in (0..line.len()).step_by(5) {
        let text = format!("\"{}\"\n{}", "x".repeat(shift), line.repeat((1 << 20) / line.len() + 2));
        assert!(json(&["-c"], text.as_bytes()) == (text, String::new(), Some(0)), "{shift}");
    }
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

/// RFC 6901, section 5, and what is no pointer.
#[test]
fn a_pointer_leads_to_a_part_or_nowhere() {
    let document = r#"{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8,
        "deep": [{"x": [1.50, {"y": "two\nlines"}]}], "twice": 1, "twice": {"z": null}, "\u0061": "escaped"}"#;
    let compact = json(&["-c"], document.as_bytes()).0;
    for (pointer, part) in [
        ("", compact.trim_end()),
        ("/foo", r#"["bar","baz"]"#),
        ("/foo/0", "bar"),
        ("/foo/1", "baz"),
        ("/", "0"),
        ("/a~1b", "1"),
        ("/c%d", "2"),
        ("/e^f", "3"),
        ("/g|h", "4"),
        ("/i\\j", "5"),
        ("/k\"l", "6"),
        ("/ ", "7"),
        ("/m~0n", "8"),
        ("/deep/0/x/0", "1.50"),
        ("/deep/0/x/1/y", "two\nlines"),
        ("/twice/z", "null"),
        ("/a", "escaped"),
    ] {
        assert_eq!(
            json(&["-c", "--at", pointer], document.as_bytes()),
            (format!("{part}\n"), String::new(), Some(0)),
            "{pointer}"
        );
        assert_eq!(
            json(&["--check", "--at", pointer], document.as_bytes()),
            (String::new(), String::new(), Some(0))
        );
    }
    assert_eq!(json(&["-j", "--at=/deep/0/x/1/y"], document.as_bytes()).0, "\"two\\nlines\"\n");
    assert_eq!(
        json(&["--at", "/deep/0/x"], document.as_bytes()).0,
        "[\n  1.50,\n  {\n    \"y\": \"two\\nlines\"\n  }\n]\n"
    );
    for nowhere in [
        "/foo/2",
        "/foo/-",
        "/foo/01",
        "/foo/+1",
        "/foo/-1",
        "/foo/0x",
        "/foo/",
        "/fo",
        "/m~01n",
        "/foo/0/x",
        "/twice/y",
        "/deep/99999999999999999999",
    ] {
        for args in [&["--at", nowhere][..], &["--check", "--at", nowhere]] {
            let (out, err, code) = json(args, document.as_bytes());
            assert_eq!(
                (&*out, &*err, code),
                ("", "st: stdin: nothing there in the value on line 1\n", Some(1)),
                "{nowhere}"
            );
        }
    }
    for wrong in ["foo", "/a~", "/~2", "/a~b", "~0", " /a"] {
        let (_, err, code) = json(&["--at", wrong], b"{}");
        assert_eq!(code, Some(2), "{wrong}");
        assert!(err.starts_with("st: --at wants a JSON Pointer, as /a/0"), "{err}");
    }
    assert_eq!(json(&["-j"], b"{}").2, Some(2));
}

#[test]
fn each_value_of_a_stream_must_have_the_part() {
    assert_eq!(json(&["--at", "/a"], b"{\"a\":1}\n{\"a\":\"x\"}[]").0, "");
    let (out, err, code) = json(&["--at", "/a"], b"{\"a\":1}\n\n {\"a\":\"x\"}\n {\"b\":1}");
    assert_eq!((&*out, &*err, code), ("", "st: stdin: nothing there in the value on line 4\n", Some(1)));
    assert_eq!(json(&["--at", "/a"], b"{\"a\":1}\n{\"a\":\"x\"}"), ("1\nx\n".into(), String::new(), Some(0)));
    // What is not JSON is that first of all, wherever the part is.
    assert!(json(&["--at", "/a"], b"{\"a\":1,}").1.contains("column 8"));
    let large = format!("{{\"a\":[{}0]}}", "\"some text\",".repeat(100_000));
    assert_eq!(json(&["-c", "--at", "/a"], large.as_bytes()).0.len() + 6, large.len() + 1);
}
