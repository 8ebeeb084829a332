//! The client as a script sees it: the real binary, a real server, and for each row the words, stdin and
//! the table's state before; stdout, stderr, the exit code and the table's state after.

use std::path::PathBuf;
use std::process::Stdio;

use crate::support::{Server, run, st};

/// One call. `A` in the expected stderr stands for the server's address.
struct Row {
    words: &'static str,
    state: &'static str,
    stdin: &'static [u8],
    out: &'static str,
    err: &'static str,
    exit: i32,
    after: Option<&'static str>,
}

/// `words` are separated by `|`. By default the table is empty before and nobody looks at it afterwards.
const fn row(words: &'static str, out: &'static str) -> Row {
    Row { words, state: "{}", stdin: b"", out, err: "", exit: 0, after: None }
}

impl Row {
    const fn state(self, state: &'static str) -> Row {
        Row { state, ..self }
    }

    const fn stdin(self, stdin: &'static [u8]) -> Row {
        Row { stdin, ..self }
    }

    const fn fails(self, exit: i32, err: &'static str) -> Row {
        Row { exit, err, ..self }
    }

    const fn after(self, after: &'static str) -> Row {
        Row { after: Some(after), ..self }
    }
}

const AB: &str = r#"{"a":"x","b":2}"#;
const NO_A: &str = "st: A: no key \"a\"\n";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // get
    row("get|a", "x\n").state(AB),
    row("get|b", "2\n").state(AB),
    row("get|a", "").fails(1, NO_A),
    row("get|a|fallback", "fallback\n"),
    row("get|a|fallback", "x\n").state(AB),
    row("get|a|", "\n"),
    row("get|a|-5", "-5\n"),
    row("get|a|-", "-\n"),
    row("get|a|-j", "").fails(2, "st: \"-j\" is an option: put options before KEY, or '--' before data (see 'st client get --help')\n"),
    row("get|a|--|-j", "-j\n"),
    row("get|--|a|-j", "-j\n"),
    row("-q|get", "").fails(2, ""),
    row("get|-q|a|b|c", "").fails(2, ""),
    row("-q|gett|a", "").fails(2, ""),
    row("-j|get|a", "\"x\"\n").state(AB),
    row("get|-j|a", "\"x\"\n").state(AB),
    row("-j|get|a|[1, 2]", "[1,2]\n"),
    row("-j|get|a|nonsense", "").fails(2, "st: DEFAULT is not JSON: byte 0"),
    row("-n|get|a", "x").state(AB),
    row("-jn|get|a", "\"x\"").state(AB),
    row("-q|get|a", "").fails(1, ""),
    row("get|--|-k", "v\n").state(r#"{"-k":"v"}"#),
    row("get|é ☃", "v\n").state(r#"{"é ☃":"v"}"#),
    row("get|a", "null\n").state(r#"{"a":null}"#),
    row("get|a|d", "null\n").state(r#"{"a":null}"#),
    row("get|a", "\n").state(r#"{"a":""}"#),
    row("get|a", "x\ny\n\n").state(r#"{"a":"x\ny\n"}"#),
    row("get|a", "007\n").state(r#"{"a":"007"}"#),
    row("get|a", "1.50e400\n").state(r#"{"a":1.50e400}"#),
    row("get|a", "123456789012345678901234567890\n").state(r#"{"a":123456789012345678901234567890}"#),
    row("get|a", "{\"x\":[1,{}],\"x\":2}\n").state(r#"{"a":{"x":[1,{}],"x":2}}"#),
    row("get|a", "\u{1f600}é\u{0}\n").state(r#"{"a":"\ud83d\ude00\u00e9\u0000"}"#),
    row("get", "").fails(2, "st: KEY is missing (see 'st client get --help')\n"),
    row("get|", "").fails(2, "st: a key may not be empty (see 'st client get --help')\n"),
    row("get|a|b|c", "").fails(2, "st: a word too many: \"c\" (see 'st client get --help')\n"),
    row("get|-x", "").fails(2, "st: no option \"-x\""),
    row("get|-5", "").fails(2, "before data that begins with a dash put '--' (see 'st client get --help')\n"),
    row("gett|a", "").fails(2, "st: no command \"gett\"; did you mean 'get'? (see 'st client --help')\n"),
    row("get|--cout|a", "").fails(2, "did you mean '--count'? (see 'st client get --help')\n"),
    row("-c|3|get|a", "").fails(2, "st: --count goes with watch only (see 'st client get --help')\n"),
    row("--if|x|get|a", "").fails(2, "st: --if goes with update and delete only (see 'st client get --help')\n"),
    // get --wait
    row("get|-w|5|a", "x\n").state(AB),
    row("get|-w0|a", "").fails(1, NO_A),
    row("get|-w|0.05|a", "").fails(1, NO_A),
    row("get|-w|0.05|a|late", "late\n"),
    row("-j|get|-w|0.05|a|late", "").fails(2, "DEFAULT is not JSON"),
    row("get|-w|-1|a", "").fails(2, "st: -w wants seconds from 0 to 31536000, as 5 or 0.25, not \"-1\""),
    // update, set
    row("update|a|x", "").after(r#"{"a":"x"}"#),
    row("set|a|x", "").after(r#"{"a":"x"}"#),
    row("set|a|y", "").state(AB).after(r#"{"a":"y","b":2}"#),
    row("set|a|-5", "").after(r#"{"a":"-5"}"#),
    row("set|a|--help", "").fails(2, "st: \"--help\" is an option: put options before KEY").after("{}"),
    row("set|a|--if=x", "").fails(2, "st: \"--if=x\" is an option").after("{}"),
    row("set|a|--|--help", "").after(r#"{"a":"--help"}"#),
    row("set|a|--frob", "").after(r#"{"a":"--frob"}"#),
    row("set|a|007", "").after(r#"{"a":"007"}"#),
    row("set|a|true", "").after(r#"{"a":"true"}"#),
    row("set|a|", "").after(r#"{"a":""}"#),
    row("set|a|{\"x\":1}", "").after(r#"{"a":"{\"x\":1}"}"#),
    row("-j|set|a|{\"x\": 1}", "").after(r#"{"a":{"x":1}}"#),
    row("-j|set|a|-5", "").after(r#"{"a":-5}"#),
    row("-j|set|a|1e400", "").after(r#"{"a":1e400}"#),
    row("-j|set|a|hello", "").fails(2, "st: the value is not JSON: byte 0").after("{}"),
    row("-j|set|a|{'x':1}", "").fails(2, "JSON strings take double quotes").after("{}"),
    row("-j|set|a|", "").fails(2, "found the end").after("{}"),
    row("set|a|-", "").stdin(b"v\n").after(r#"{"a":"v"}"#),
    row("set|a|-", "").stdin(b"v\n\n").after(r#"{"a":"v\n"}"#),
    row("set|a|-", "").stdin(b"v").after(r#"{"a":"v"}"#),
    row("set|a|-", "").stdin(b"").after(r#"{"a":""}"#),
    row("set|a|-", "").stdin(b"a\r\n").after(r#"{"a":"a\r"}"#),
    row("set|a|-", "").stdin(b"a\0b").after(r#"{"a":"a\u0000b"}"#),
    row("set|-n|a|-", "").stdin(b"v\n").after(r#"{"a":"v\n"}"#),
    row("-j|set|a|-", "").stdin(b" [1,\n2]\n").after(r#"{"a":[1,2]}"#),
    row("-j|set|a|-", "").stdin(b"[1,]").fails(2, "st: stdin is not JSON: byte 3"),
    row("set|a|-", "").stdin(b"ok\xff").fails(2, "st: stdin is not UTF-8 text at byte 2; other bytes can be stored as base64\n").after("{}"),
    row("set|a", "").fails(2, "st: VALUE is missing (see 'st client update --help')\n"),
    row("set|a|b|c", "").fails(2, "a word too many: \"c\""),
    row("set|a|b|-n", "").fails(2, "a word too many: \"-n\"; options come before data (see 'st client update --help')\n"),
    row("del|a|--if|x", "").fails(2, "st: \"--if\" is an option: put options before KEY").after("{}"),
    row("--foo", "").fails(2, "st: no option \"--foo\" (see 'st client --help')\n"),
    row("--if|x|set|a|y", "").state(AB).after(r#"{"a":"y","b":2}"#),
    row("set|--if=x|a|y", "").state(AB).after(r#"{"a":"y","b":2}"#),
    row("--if|z|set|a|y", "").state(AB).fails(1, "st: A: conflict: \"a\" is the string \"x\", not the string \"z\"\n").after(AB),
    row("--if|x|set|a|y", "").fails(1, "st: A: conflict: \"a\" is missing\n").after("{}"),
    row("--if|2|set|b|y", "").state(AB).fails(1, "st: A: conflict: \"b\" is the number 2, not the string \"2\": use -j\n").after(AB),
    row("--if|2.0|del|b", "").state(AB).fails(1, "\"b\" is the number 2, not the string \"2.0\": use -j\n").after(AB),
    row("--if|3|set|b|y", "").state(AB).fails(1, "\"b\" is the number 2, not the string \"3\"\n").after(AB),
    row("-j|--if|\"x\"|set|b|1", "").state(AB).fails(1, "\"b\" is the number 2, not the string \"x\"\n").after(AB),
    row("-j|--if|[1]|set|a|1", "").state(AB).fails(1, "\"a\" is the string \"x\", not the array [1]\n").after(AB),
    row("--if|null|del|a", "").state(r#"{"a":null}"#).fails(1, "\"a\" is null, not the string \"null\": use -j\n"),
    row("--if|true|del|a", "").state(r#"{"a":{}}"#).fails(1, "\"a\" is the object {}, not the string \"true\"\n"),
    row("", "").state(AB).stdin(b"--if 2 del b\n").fails(1, "is the number 2, not the string \"2\": use -j\n").after(AB),
    row("-j|--if|2.0|set|b|3", "").state(AB).after(r#"{"a":"x","b":3}"#),
    row("-j|--if|x|set|b|3", "").state(AB).fails(2, "st: the value of --if is not JSON").after(AB),
    row("-q|--if|z|set|a|y", "").state(AB).fails(1, ""),
    // add
    row("add|a|x", "").after(r#"{"a":"x"}"#),
    row("add|a|-5", "").after(r#"{"a":"-5"}"#),
    row("add|a|y", "").state(AB).fails(1, "st: A: conflict: \"a\" is the string \"x\"\n").after(AB),
    row("add|a|-", "").stdin(b"v\n").after(r#"{"a":"v"}"#),
    row("-j|add|a|null", "").after(r#"{"a":null}"#),
    row("-j|add|a|1", "").state(r#"{"a":null}"#).fails(1, "st: A: conflict: \"a\" is null\n"),
    row("add|--if|x|a|y", "").fails(2, "--if goes with update and delete only"),
    row("add|a", "").fails(2, "VALUE is missing"),
    // delete
    row("delete|a", "").state(AB).after(r#"{"b":2}"#),
    row("del|a", "").state(AB).after(r#"{"b":2}"#),
    row("delete|a", "").fails(1, NO_A),
    row("delete|--if|x|a", "").state(AB).after(r#"{"b":2}"#),
    row("delete|--if|y|a", "").state(AB).fails(1, "st: A: conflict: \"a\" is the string \"x\", not the string \"y\"\n").after(AB),
    row("-j|delete|--if|2|b", "").state(AB).after(r#"{"a":"x"}"#),
    row("delete|a|b", "").state(AB).after("{}"),
    row("delete|x|a|y|b", "").state(AB).fails(1, "st: A: no key \"x\"\nst: A: no key \"y\"\n").after("{}"),
    row("delete|a|", "").state(AB).fails(2, "a key may not be empty").after(AB),
    row("delete|--if|x|a|b", "").state(AB).fails(2, "st: --if needs one KEY (see 'st client delete --help')\n").after(AB),
    row("delete|--|-j|--if", "").state(r#"{"-j":1,"--if":2,"a":3}"#).after(r#"{"a":3}"#),
    row("delete|--prefix|a", "2\n").state(r#"{"a":1,"ab":2,"b":3}"#).after(r#"{"b":3}"#),
    row("delete|--prefix|", "2\n").state(AB).after("{}"),
    row("delete|--prefix|x", "0\n").state(AB).after(AB),
    row("delete|--prefix|a|b", "").state(AB).fails(2, "a word too many: \"b\"").after(AB),
    row("delete|--prefix|a|--if|1", "").state(AB).fails(2, "--if needs one KEY").after(AB),
    // take
    row("take|a", "x\n").state(AB).after(r#"{"b":2}"#),
    row("-n|take|b", "2").state(AB).after(r#"{"a":"x"}"#),
    row("take|x", "").state(AB).fails(1, "st: A: no key \"x\"\n").after(AB),
    row("take|--prefix|", "x\n").state(AB).after(r#"{"b":2}"#),
    row("-j|take|--prefix|b", "{\"key\":\"b\",\"value\":2}\n").state(AB).after(r#"{"a":"x"}"#),
    row("-j|take|a", "{\"key\":\"a\",\"value\":\"x\"}\n").state(AB).after(r#"{"b":2}"#),
    row("take|--prefix|x", "").state(AB).fails(1, "st: A: no key begins with \"x\"\n").after(AB),
    row("take|-w0.05|--prefix|x", "").state(AB).fails(1, "st: A: no key begins with \"x\"\n").after(AB),
    row("take|-w60|--prefix|a", "x\n").state(AB).after(r#"{"b":2}"#),
    row("take", "").fails(2, "KEY is missing"),
    row("take|a|b", "").state(AB).fails(2, "a word too many: \"b\"").after(AB),
    // ttl
    row("ttl|a", "null\n").state(AB),
    row("ttl|x", "").fails(1, "st: A: no key \"x\"\n"),
    row("ttl", "").fails(2, "KEY is missing"),
    row("set|--ttl|0.0009|a|1", "").fails(2, "st: --ttl wants seconds from 0.001 to 31536000, as 5 or 0.25, not \"0.0009\""),
    row("set|--ttl|31536000.1|a|1", "").fails(2, "--ttl wants seconds from 0.001 to 31536000"),
    row("get|--ttl|1|a", "").fails(2, "st: --ttl goes with update, add, increment and hold only"),
    // what is waited for
    row("get|-w60|--until|x|a", "x\n").state(AB),
    row("get|-w60|--until|2|b", "2\n").state(AB),
    row("-j|get|-w60|--until|2.0|b", "2\n").state(AB),
    row("-j|get|-w0.05|--until|\"2\"|b", "").state(AB).fails(1, "st: A: \"b\" is still the number 2\n"),
    row("get|-w0.05|--until|y|a", "").state(AB).fails(1, "st: A: \"a\" is still the string \"x\"\n"),
    row("get|-w0.05|--until|y|a|fallback", "").state(AB).fails(1, "is still the string"),
    row("get|-w0.05|--until|y|c|fallback", "fallback\n").state(AB),
    row("get|-w0.05|--not|x|a", "").state(AB).fails(1, "st: A: \"a\" is still the string \"x\"\n"),
    row("get|-w60|--not|y|a", "x\n").state(AB),
    row("get|-w0.05|--not|y|c", "").state(AB).fails(1, "st: A: no key \"c\"\n"),
    row("-j|get|-w1|--until|x|a", "").fails(2, "st: the value of --until is not JSON"),
    row("-j|get|-w1|--not|x|a", "").fails(2, "st: the value of --not is not JSON"),
    row("get|--until|x|a", "").fails(2, "st: --until needs --wait (see 'st client get --help')\n"),
    row("get|--not|x|a", "").fails(2, "st: --not needs --wait"),
    row("set|--until|x|a|1", "").fails(2, "st: --until goes with get and count only"),
    row("add|-w0.05|a|y", "").state(AB).fails(1, "st: A: conflict: \"a\" is the string \"x\"\n").after(AB),
    row("add|-w60|c|y", "").state(AB).after(r#"{"a":"x","b":2,"c":"y"}"#),
    row("count|-w60|--until|2", "2\n").state(AB),
    row("count|-w60|--until|1|a", "1\n").state(AB),
    row("count|-w0.05|--until|1", "").state(AB).fails(1, "st: A: 2 keys begin with \"\", not 1\n"),
    row("count|-w0.05|--until|3|a", "").state(AB).fails(1, "st: A: 1 keys begin with \"a\", not 3\n"),
    row("count|--until|3", "").fails(2, "st: --until needs --wait"),
    row("count|-w1", "").fails(2, "st: --wait needs --until, a number of keys"),
    row("count|-w1|--until|x", "").fails(2, "st: --until wants a whole number of 128 bits, not \"x\""),
    // hold
    row("hold|a|--|echo|in", "").state(AB).fails(1, "st: A: conflict: \"a\" is the string \"x\"\n").after(AB),
    row("hold|c|--|echo|in", "in\n").state(AB).after(AB),
    row("hold|c", "").fails(2, "st: PROGRAM is missing (see 'st client hold --help')\n"),
    row("hold|c|--", "").fails(2, "st: PROGRAM is missing"),
    row("hold|c|echo|in", "").fails(2, "st: '--' before PROGRAM is missing"),
    row("hold|--ttl|0.099|c|--|echo", "").fails(2, "st: --ttl wants 0.1 seconds or more, to be renewed in time, not \"0.099\""),
    row("hold|--ttl|0.1|c|--|echo|in", "in\n"),
    row("hold|-E256|c|--|echo", "").fails(2, "st: -E wants a whole number from 0 to 255"),
    row("-j|hold|c|x|--|echo", "").fails(2, "st: VALUE is not JSON"),
    row("", "in\nx\n").state(AB).stdin(b"hold c -- sh -c 'cat; echo in'\nget a\n").after(AB),
    row("", "").state(AB).stdin(b"hold c -- sh -c 'exit 9'\nget a\n").fails(9, ""),
    row("delete", "").fails(2, "KEY is missing (see 'st client delete --help')"),
    // increment
    row("increment|n", "1\n").after(r#"{"n":1}"#),
    row("incr|n", "6\n").state(r#"{"n":5}"#),
    row("incr|n|-5", "0\n").state(r#"{"n":5}"#),
    row("incr|n|10", "10\n").after(r#"{"n":10}"#),
    row("incr|n|0", "5\n").state(r#"{"n":5}"#),
    row("-j|incr|n", "6\n").state(r#"{"n":5}"#),
    row("-n|incr|n", "6").state(r#"{"n":5}"#),
    row("incr|n", "18446744073709551616\n").state(r#"{"n":18446744073709551615}"#),
    row("incr|n", "1\n").state(r#"{"n":"0"}"#).after(r#"{"n":1}"#),
    row("incr|n|-5", "-10\n").state(r#"{"n":"-5"}"#).after(r#"{"n":-10}"#),
    row("incr|n", "6\n").state(r#"{"n":"\u0035"}"#).after(r#"{"n":6}"#),
    row("", "1\n").stdin(b"update n 0\nincrement n\n").after(r#"{"n":1}"#),
    row("incr|a", "").state(AB).fails(5, "st: A: not_a_number: the value \"x\", or the sum, is not an integer of 128 bits\n").after(AB),
    row("incr|a", "").state(r#"{"a":null}"#).fails(5, "not_a_number: the value null, or "),
    row("incr|n", "").state(r#"{"n":1.5}"#).fails(5, "not_a_number: the value 1.5, or ").after(r#"{"n":1.5}"#),
    row("incr|n", "").state(r#"{"n":170141183460469231731687303715884105727}"#).fails(5, "not_a_number: the value 170141183460469231731687303715884105727, or "),
    row("incr|n|1.5", "").fails(2, "st: N wants a whole number of 128 bits, not \"1.5\" (see 'st client increment --help')\n"),
    row("incr|n|x", "").fails(2, "N wants a whole number"),
    row("incr|n|170141183460469231731687303715884105728", "").fails(2, "N wants a whole number"),
    // exists
    row("exists|a", "").state(AB),
    row("exists|a", "").fails(1, ""),
    row("exists|a", "").state(r#"{"a":null}"#),
    row("exists", "").fails(2, "KEY is missing"),
    // getall, list
    row("getall", "a\t\"x\"\nb\t2\n").state(AB),
    row("list", "a\t\"x\"\nb\t2\n").state(AB),
    row("getall", ""),
    row("getall|b", "b\t2\n").state(AB),
    row("getall|zz", "").state(AB),
    row("-j|getall", "{\"a\":\"x\",\"b\":2}\n").state(AB),
    row("-j|getall", "{}\n"),
    row("-j|getall|a", "{\"a\":\"x\"}\n").state(AB),
    row("getall", "q\"\\\t\"line\\n\"\n").state(r#"{"q\"\\":"line\n"}"#),
    row("-j|getall", "{\"q\\\"\\\\\":\"line\\n\"}\n").state(r#"{"q\"\\":"line\n"}"#),
    row("getall|a|b", "").fails(2, "a word too many"),
    // keys
    row("keys", "a\nb\n").state(AB),
    row("keys", ""),
    row("keys|b", "b\n").state(AB),
    row("keys|-n", "a\nb\n").state(AB),
    row("-j|keys", "[\"a\",\"b\"]\n").state(AB),
    row("-j|keys", "[]\n"),
    row("keys", "q\"\\,]\n").state(r#"{"q\"\\,]":1}"#),
    row("-j|keys", "[\"q\\\"\\\\,]\"]\n").state(r#"{"q\"\\,]":1}"#),
    // count
    row("count", "2\n").state(AB),
    row("count", "0\n"),
    row("count|a", "1\n").state(AB),
    row("-n|count", "2").state(AB),
    row("count|a|b", "").fails(2, "a word too many"),
    // call and the built-in actions
    row("echo|hi there", "hi there\n"),
    row("echo|--|-5", "-5\n"),
    row("echo|-", "x\n").stdin(b"x\n"),
    row("-j|echo|[1, \"x\"]", "[1,\"x\"]\n"),
    row("-j|echo|\"x\"", "\"x\"\n"),
    row("-n|echo|x", "x"),
    row("echo", "").fails(2, "DATA is missing"),
    row("call|ECHO|-5", "-5\n"),
    row("call|ECHO|-", "x\n").stdin(b"x\n"),
    row("-j|call|ECHO|{\"a\":1}", "{\"a\":1}\n"),
    row("call|NOPE", "").fails(5, "st: A: unknown_request: "),
    row("call", "").fails(2, "NAME is missing"),
    row("hello|x", "").fails(2, "a word too many"),
    row("exec|true", "").fails(5, "st: A: denied: "),
    row("exec", "").fails(2, "PROGRAM is missing"),
    // dump and load
    row("dump", "{\"key\":\"a\",\"value\":\"x\"}\n{\"key\":\"b\",\"value\":2}\n").state(AB),
    row("dump", ""),
    row("dump|b", "{\"key\":\"b\",\"value\":2}\n").state(AB),
    row("dump|b|c", "").fails(2, "a word too many"),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":\"x\"}\n{\"key\":\"b\",\"value\":2}\n").after(AB),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":\"x\"}{ \"value\" : 2,\n\"key\":\"b\"}").after(AB),
    row("load", "").stdin(br#"{"a":"x","b": 2}"#).after(AB),
    row("load", "").stdin(b"").state(AB).after(AB),
    row("load", "").stdin(b"\n \n{}\n").after("{}"),
    row("load", "").stdin(br#"{"key":"k"}"#).after(r#"{"key":"k"}"#),
    row("load", "").stdin(br#"{"b":{"key":1}}"#).state(AB).after(r#"{"a":"x","b":{"key":1}}"#),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":1}\n\n{\"key\":\"b\"}\n").fails(2, "st: 1 keys loaded, then: line 3: expected {\"key\":KEY,\"value\":VALUE}\n").after(r#"{"a":1}"#),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\",\"value\":x}\n").fails(2, "line 2: column 20: expected a value").after(r#"{"a":1}"#),
    row("load", "").stdin(b"{\"a\":1,\n \"b\":x}").fails(2, "st: 0 keys loaded, then: line 2: column 6: expected a value"),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":1}\n{\"key\":\"\",\"value\":1}\n").fails(2, "line 2: a key may not be empty"),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":1}\nkey,value\n").fails(2, "line 2: expected a JSON object").after(r#"{"a":1}"#),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":1}\n{\"key\":").fails(2, "line 2: the input ends inside an object").after(r#"{"a":1}"#),
    row("load", "").stdin(b"{\"key\":\"\xff\",\"value\":1}").fails(2, "line 1: not UTF-8 text"),
    row("load", "").stdin(b"{]").fails(2, "line 1: a bracket closes what was not opened"),
    row("load|x", "").fails(2, "a word too many"),
    row("load|--absent", "").state(r#"{"a":1}"#).stdin(AB.as_bytes()).after(r#"{"a":1,"b":2}"#),
    row("load|--replace", "").state(r#"{"a":1,"c":{},"d":[]}"#).stdin(AB.as_bytes()).after(AB),
    row("load|--replace", "").state(AB).stdin(b"").after("{}"),
    row("load|--replace|--prefix|c", "").state(r#"{"a":1,"c":{},"cd":2,"d":[]}"#).stdin(br#"{"cd":3}"#).after(r#"{"a":1,"cd":3,"d":[]}"#),
    row("load|--replace", "").state(AB).stdin(b"{\"key\":\"c\",\"value\":1,\"ttl\":0}").fails(5, "st: 0 keys loaded, 1 refused; nothing was deleted\n").after(AB),
    row("load|--replace", "").state(AB).stdin(b"{\"key\":\"a\",\"value\":1}x").fails(2, "st: 1 keys loaded, then: line 1: expected a JSON object").after(r#"{"a":1,"b":2}"#),
    row("load|--replace|--absent", "").fails(2, "st: --absent needs to stand without --replace"),
    row("load|--prefix|c", "").fails(2, "st: --prefix needs --replace"),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":1,\"ttl\":\"5\"}").fails(2, "st: 0 keys loaded, then: line 1: \"ttl\" must be a number of seconds\n").after("{}"),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":1,\"ttl\":31536001}").fails(5, "st: line 1, key \"a\": A: bad_request: the member \"ttl\"").after("{}"),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":1,\"ttl\":60}").after(r#"{"a":1}"#),
    row("load", "").stdin(b"{\"key\":\"a\",\"value\":1,\"more\":60}").after(r#"{"key":"a","more":60,"value":1}"#),
    // batch
    row("batch", "{\"key\":\"a\",\"value\":\"x\"}\n{\"value\":2}\n").state(AB).stdin(br#"{"request":"GET","key":"a"} {"request":"COUNT"}"#),
    row("batch", "").stdin(b""),
    row("batch", "{\"key\":\"a\",\"found\":false,\"value\":null}\n").stdin(b"{\"request\":\"GET\",\n\"key\":\"a\"}").fails(1, ""),
    row("batch", "{\"key\":\"a\",\"error\":{\"code\":\"not_a_number\",\"message\":\"the value \\\"x\\\", or the sum, is not an integer of 128 bits\"}}\n{\"key\":\"c\",\"found\":false,\"value\":null}\n").state(AB).stdin(b"{\"request\":\"INCREMENT\",\"key\":\"a\"}{\"request\":\"GET\",\"key\":\"c\"}").fails(5, ""),
    row("batch", "{\"value\":\"CLOSE CONFIRM\"}\n").stdin(b"{\"request\":\"CLOSE\"}\n \n"),
    row("batch", "{\"value\":\"CLOSE CONFIRM\"}\n").stdin(b"{\"request\":\"CLOSE\"}\n{\"request\":\"COUNT\"}").fails(2, "st: line 2: after CLOSE nothing is answered: this and what follows was not sent\n"),
    row("batch", "{\"value\":0}\n{\"value\":\"CLOSE CONFIRM\"}\n").stdin(b"{\"request\":\"COUNT\"}{\"request\":\"CLOSE\"}{\"request\":\"UPDATE\",\"key\":\"a\",\"value\":1}\n\n{\"x\":1}").fails(2, "st: line 1: after CLOSE ").after("{}"),
    row("batch", "{\"value\":\"CLOSE CONFIRM\"}\n").stdin(b"{\"request\":\"CLOSE\"}\nx").fails(2, "line 2: expected a JSON object"),
    row("batch", "[{\"key\":\"a\",\"value\":\"x\"},{\"key\":\"b\",\"value\":2}]\n{\"value\":2}\n").state(AB).stdin(br#"{"request":"GETALL"}{"request":"COUNT"}"#),
    row("batch", "{\"value\":0}\n").stdin(b"{\"request\":\"COUNT\"}\n{\"request\":\"WATCH\"}").fails(2, "st: line 2: a batch cannot WATCH; 'watch' can\n"),
    row("batch", "{\"value\":0}\n").stdin(b"{\"request\":\"COUNT\"}\n{'request'}").fails(2, "st: line 2: column 2: expected a name in double quotes"),
    row("batch", "{\"value\":0}\n").stdin(b"{\"request\":\"COUNT\"}\nGET a").fails(2, "line 2: expected a JSON object"),
    row("batch", "{\"value\":0}\n").stdin(b"{\"request\":\"COUNT\"}\n{\"a\":[1}").fails(2, "line 2: a bracket closes"),
    // watch
    row("watch|-c1|a", "UPDATE\ta\t\"x\"\n").state(AB),
    row("-j|watch|-c1|a", "{\"request\":\"UPDATE\",\"key\":\"a\",\"value\":\"x\"}\n").state(AB),
    row("watch|-c|2|--prefix|", "UPDATE\ta\t\"x\"\nUPDATE\tb\t2\n").state(AB),
    row("watch|-c2|--prefix=|sh|-c|echo $ST_EVENT $ST_KEY=$ST_VALUE", "UPDATE a=x\nUPDATE b=2\n").state(AB),
    row("-j|watch|-c1|a|sh|-c|echo $ST_VALUE", "\"x\"\n").state(AB),
    row("watch|-c1|a|cat", "x\n").state(AB).stdin(b"stdin is not the program's"),
    row("-n|watch|-c2|--prefix=|cat", "x2").state(AB),
    row("-j|watch|-c1|a|cat", "\"x\"\n").state(AB),
    row("watch|-c2|--prefix=|true", "").state(AB),
    row("watch|-c2|--prefix=|sh|-c|exit 3", "").state(AB).fails(0, "st: sh: exit status: 3\nst: sh: exit status: 3\n"),
    row("watch|-c2|--prefix=|sh|-c|echo $ST_KEY=${ST_VALUE-none}", "a=none\nb=2\n").state(r#"{"a":"x\u0000y","b":2}"#).fails(0, "st: \"a\": the value does not fit into ST_VALUE; it is on stdin alone\n"),
    // No key `missing` would ever come: the program is looked for at once.
    row("watch|missing|/nonexistent/program", "").fails(6, "st: cannot run /nonexistent/program: "),
    row("watch|missing|no-such-program", "").fails(6, "st: cannot run no-such-program: there is no such program in PATH\n"),
    row("watch|missing|/dev/null", "").fails(6, "st: cannot run /dev/null: it is not a file\n"),
    row("watch|missing|/etc/passwd", "").fails(6, "st: cannot run /etc/passwd: it is not executable: try chmod +x\n"),
    row("-a|127.0.0.1:1|watch|a|no-such-program", "").fails(6, "st: cannot run no-such-program: "),
    row("watch", "").fails(2, "KEY is missing"),
    row("watch|-c0|a", "").fails(2, "-c wants a whole number from 1"),
    // sessions
    row("", "x\n2\n").state(AB).stdin(b"get a\nget b\n"),
    row("", "").stdin(b""),
    row("", "a b\n").stdin(b"set k 'a b'\n\n# a comment\n  get \"k\"  \nquit\nget nothing\n"),
    row("", "-5\n{\"x\":1}\n").stdin(b"set t -5\nget t\n-j set j '{\"x\": 1}'\n-j get j"),
    row("-j", "\"x\"\n").state(AB).stdin(b"get a\n"),
    row("", "x\n").state(AB).stdin(b"get a\nget missing\nget a\n").fails(1, "st: line 2: A: no key \"missing\"\n"),
    row("", "").stdin(b"\ngte a\n").fails(2, "st: line 2: no command \"gte\"; did you mean 'get'? (see 'help')\n"),
    row("", "").stdin(b"quitt\n").fails(2, "st: line 1: no command \"quitt\"; did you mean 'quit'? (see 'help')\n"),
    row("", "").stdin(b"WORDS x\n").fails(2, "st: line 1: no command \"WORDS\" (see 'help')\n"),
    // The wire's own words.
    row("", "x\n3\n{\"a\":3}\n").state(r#"{"a":"x"}"#).stdin(b"GET a\nSet a 2\nINCREMENT a\n-j GetAll\nCLOSE\nget a\n").after(r#"{"a":3}"#),
    row("", "hi there\n").stdin(b"ECHO 'hi there'\nclose\nnonsense\n"),
    row("", "").stdin(b"exit\nnonsense\n"),
    row("", "").stdin(b"&END\nnonsense\n"),
    row("", "ok\n").stdin(b"AUTH any\n"),
    row("", "").stdin(b"auth\n").fails(2, "st: line 1: AUTH needs one word, the token\n"),
    row("", "").stdin(b"close it\nget it\n"),
    row("", "").stdin(b"get a -j\n").fails(2, "st: line 1: \"-j\" is an option: put options before KEY, or '--' before data (see 'help get')\n"),
    row("", "").stdin(b"frobnicate\n").fails(2, "st: line 1: no command \"frobnicate\" (see 'help')\n"),
    row("", "").stdin(b"get\n").fails(2, "st: line 1: KEY is missing (see 'help get')\n"),
    // Options hold for their line alone.
    row("", "\"x\"\n").state(AB).stdin(b"-jq get a\nfrobnicate\n").fails(2, "st: line 2: no command \"frobnicate\" (see 'help')\n"),
    row("", "").stdin(b"get 'a\n").fails(2, "st: line 1: the quote ' is not closed\n"),
    row("", "").stdin(b"set a b\\\n").fails(2, "st: line 1: the line ends after a backslash\n").after("{}"),
    row("", "").stdin(b"set a -\nvalue\n").fails(2, "st: line 1: in a session stdin holds the commands"),
    row("", "").stdin(b"load\n").fails(2, "in a session stdin holds the commands"),
    row("", "").stdin(b"-a 1 get a\n").fails(2, "a session keeps to its server"),
    row("", "").stdin(b"-j\n").fails(2, "a command is needed"),
    row("", "").stdin(b"exists nothing\n").fails(1, "st: line 1: A: no key \"nothing\"\n"),
    row("", "").stdin(b"get \xff\n").fails(2, "the line is not UTF-8"),
    row("-w1", "").fails(2, "st: --wait goes with get, add, hold, take and count only (see 'st client --help')\n"),
    // the address
    row("-a|:77|get|a", "").fails(2, "or a service's name (see 'st client --help')\n"),
    // options
    row("-T|0|count", "").fails(2, "st: -T wants seconds from 0.001 to 31536000"),
    row("-T|abc|count", "").fails(2, "not \"abc\""),
    row("-T", "").fails(2, "st: -T needs a value, SECS (see 'st client --help')\n"),
    row("-r|-1|count", "").fails(2, "st: -r wants a whole number from 0 to 1000000, not \"-1\""),
    row("--json=yes|count", "").fails(2, "st: --json takes no value"),
    row("--timeout=60|--retry|0|count", "0\n"),
    row("-qjn|count", "0"),
    row("--token-file|/nonexistent/token|count", "").fails(6, "st: cannot read the token from /nonexistent/token: "),
    row("--token-file|/dev/null|count", "").fails(2, "st: "),
];

fn client(server: &Server, words: &[&str], stdin: &[u8]) -> (i32, String, String) {
    let output = run(st(&["client"]).args(words).env("ST_ADDR", &server.addr), stdin);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn clear(server: &Server) {
    let keys = client(server, &["-j", "keys"], b"").1;
    let keys = socket_tables::json::Value::parse(&keys).unwrap();
    let delete = |key: &socket_tables::json::Value| format!("{{\"request\":\"DELETE\",\"key\":{key}}}\n");
    let requests: String = keys.as_array().unwrap().iter().map(delete).collect();
    assert_eq!(client(server, &["batch"], requests.as_bytes()).0, 0);
}

#[test]
fn every_command_does_what_its_row_says() {
    const { assert!(ROWS.len() >= 150) };
    let server = Server::start(&[]);
    let wrong: Vec<String> = ROWS.iter().filter_map(|row| judge(&server, row).err()).collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), ROWS.len(), wrong.join("\n"));
}

fn judge(server: &Server, row: &Row) -> Result<(), String> {
    clear(server);
    let loaded = client(server, &["load"], row.state.as_bytes());
    let words: Vec<&str> = if row.words.is_empty() { vec![] } else { row.words.split('|').collect() };
    let (exit, out, err) = client(server, &words, row.stdin);
    let expected = row.err.replace("A:", &format!("{}:", server.addr));
    let told = match row.err.is_empty() {
        true => err.is_empty(),
        false => {
            err.contains(&expected) && err.ends_with('\n') && err.lines().all(|line| line.starts_with("st: "))
        }
    };
    let after = client(server, &["-j", "getall"], b"").1;
    let stands = row.after.is_none_or(|expected| expected == after.trim_end());
    match loaded.0 == 0 && told && stands && (exit, &*out) == (row.exit, row.out) {
        true => Ok(()),
        false => Err(format!(
            "st client {}: exit {exit}, stdout {out:?}, stderr {err:?}, after {after}",
            row.words
        )),
    }
}

#[test]
fn a_session_cuts_words_as_a_shell_does() {
    let server = Server::start(&[]);
    for (words, printed) in [
        ("get  a\tb\n", Some("b")),
        ("\n  \n", Some("")),
        ("get a ''", Some("")),
        ("echo a''b", Some("ab")),
        ("echo 'a b'", Some("a b")),
        (r#"get 'a b' "c d""#, Some("c d")),
        (r#"echo '{"a":"\n"}'"#, Some(r#"{"a":"\n"}"#)),
        (r#"echo "{\"a\":\"\\n\"}""#, Some(r#"{"a":"\n"}"#)),
        (r#"echo "a\nb""#, Some(r"a\nb")),
        (r"get a\ b \'", Some("'")),
        (r"echo a\ b", Some("a b")),
        (r"echo a\", None),
        ("echo a\\\n", None),
        ("echo a\\\r\n", None),
        ("echo \"a\\\n", None),
        ("echo a\\\\\r\n", Some("a\\")),
        ("echo 'a", None),
        ("echo \"a", None),
        ("get $HOME *", Some("*")),
    ] {
        let (exit, out, _) = client(&server, &[], words.as_bytes());
        assert_eq!((exit == 0).then_some(out.trim_end_matches('\n')), printed, "{words}");
    }
}

#[test]
fn a_line_too_long_for_a_session_is_refused_and_not_cut_in_two() {
    let server = Server::start(&[]);
    let comment = format!("#{}count\n", "x".repeat((64 << 20) - 1));
    let (exit, out, err) = client(&server, &[], comment.as_bytes());
    assert_eq!((exit, &*out, &*err), (2, "", "st: line 1: longer than 67108864 bytes\n"));
}

#[test]
fn what_varies_is_there() {
    let server = Server::start(&[]);
    let said = |words: &[&str]| {
        let (exit, out, err) = client(&server, words, b"");
        assert_eq!((exit, &*err), (0, ""), "{words:?}");
        out
    };
    assert!(said(&["hello"]).starts_with("Hello from "));
    assert!(said(&["time"]).trim_end().ends_with('Z'));
    assert!(said(&["-j", "time"]).starts_with("\"20"));
    assert!(said(&["info"]).starts_with("{\"version\":"));
    let output = run(&mut st(&["--version"]), b"");
    assert_eq!(output.stdout, format!("st {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

#[test]
fn a_server_that_is_not_there_is_exit_3_and_named() {
    for words in
        [&["get", "a", "default"][..], &["set", "a", "b"], &["keys"], &["watch", "a"], &["get", "-w5", "a"]]
    {
        let output = run(st(&["client", "-a", "127.0.0.1:1", "-r1"]).args(words), b"");
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(3), &b""[..]), "{words:?}: {err}");
        assert!(err.starts_with("st: 127.0.0.1:1: cannot connect: "), "{err}");
    }
    // Both of a name's addresses are tried, and a name that leads nowhere is no usage error.
    let output = run(&mut st(&["client", "-a", "localhost:1", "-r0", "count"]), b"");
    assert_eq!(output.status.code(), Some(3));
    let output = run(&mut st(&["client", "-a", "no.such.host.invalid:1", "-r0", "count"]), b"");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no.such.host.invalid"));
}

#[test]
fn the_environment_and_service_names_lead_to_a_server() {
    let server = Server::start(&[]);
    let port = server.addr.rsplit_once(':').unwrap().1;
    let services = scratch("services");
    std::fs::write(&services, format!("# local\nLIFE_GEN {port}/tcp life # a game\n")).unwrap();
    let exit = |command: &mut std::process::Command| {
        let output = run(command.env("ST_SERVICES", &services), b"");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(exit(st(&["client", "count"]).env("ST_ADDR", port)).0, 0);
    assert_eq!(exit(&mut st(&["client", "-a", "LIFE_GEN", "hello"])).0, 0);
    assert_eq!(exit(&mut st(&["client", "-a", "localhost:life", "hello"])).0, 0);
    let (code, err) = exit(&mut st(&["client", "-a", "LIFE", "hello"]));
    assert_eq!(code, 2);
    assert!(err.contains("\"LIFE\"") && err.contains(services.to_str().unwrap()), "{err}");
    let wrong = exit(st(&["client", "count"]).env("ST_ADDR", port).env("ST_RETRY", "many"));
    assert!(wrong.0 == 2 && wrong.1.contains("ST_RETRY wants a whole number"), "{wrong:?}");
    assert_eq!(exit(st(&["client", "-a1", "-r0", "count"]).env("ST_ADDR", port)).0, 3, "a flag wins");
    std::fs::remove_file(services).unwrap();
}

#[test]
fn exact_data_passes_through_a_pipe_unchanged() {
    let server = Server::start(&["--max-request", "16M"]);
    let all: String = (0..=0x2fff).filter_map(char::from_u32).collect();
    let values = ["", "x", "\n", "a\n", "a\n\n", "\r\n", "\0", " \t ", "-", "--", "007", "{\"a\":1}", &all];
    let large = "é\"\\\n".repeat(1 << 20);
    for value in values.into_iter().chain([&*large]) {
        assert_eq!(client(&server, &["-n", "set", "a", "-"], value.as_bytes()).0, 0);
        let (exit, plain, _) = client(&server, &["get", "a"], b"");
        assert!(exit == 0 && plain.strip_suffix('\n') == Some(value), "{:?}", &value[..value.len().min(20)]);
        assert_eq!(client(&server, &["set", "b", "-"], plain.as_bytes()).0, 0);
        assert!(client(&server, &["-n", "get", "b"], b"").1 == value);
    }
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let server = Server::start(&[]);
    let lines: String = (0..20_000).map(|n| format!("{{\"key\":\"key{n:08}\",\"value\":{n}}}\n")).collect();
    assert_eq!(client(&server, &["load"], lines.as_bytes()), (0, String::new(), String::new()));
    for words in [&["keys"][..], &["getall"], &["dump"], &["-j", "getall"], &["watch", "--prefix", ""]] {
        let mut command = st(&["client", "-a", &server.addr]);
        let mut child = command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{words:?}");
    }
    // And through the whole list nothing is lost.
    let (_, dumped, _) = client(&server, &["dump"], b"");
    assert!(dumped == lines);
    assert_eq!(client(&server, &["keys"], b"").1.lines().count(), 20_000);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_exit_6() {
    let server = Server::start(&[]);
    assert_eq!(client(&server, &["set", "a", "b"], b"").0, 0);
    for words in
        [&["get", "a"][..], &["-n", "get", "a"], &["getall"], &["dump"], &["keys"], &["watch", "-c1", "a"]]
    {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = st(&["client", "-a", &server.addr]);
        let output =
            command.args(words).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output();
        let output = output.unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(6), "{words:?}: {err}");
        assert!(err.starts_with("st: cannot write to stdout: ") && err.lines().count() == 1, "{err}");
    }
}

#[test]
fn stdin_is_left_to_whoever_it_belongs_to() {
    let server = Server::start(&[]);
    let script =
        r#"while read -r key; do "$ST" client set "$key" seen; "$ST" client get "$key" >/dev/null; done"#;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]).env("ST", env!("CARGO_BIN_EXE_st")).env("ST_ADDR", &server.addr);
    let output = run(&mut command, b"one\ntwo\nthree\n");
    assert!(output.status.success() && output.stderr.is_empty());
    assert_eq!(client(&server, &["count"], b"").1, "3\n");
}

#[test]
fn refusals_in_a_load_are_told_by_line_and_the_rest_is_loaded() {
    let server = Server::start(&["--max-memory", "20K"]);
    let value = "v".repeat(1_000);
    let lines: String = (1..=40).map(|n| format!("{{\"key\":\"k{n}\",\"value\":\"{value}\"}}\n")).collect();
    let (exit, _, err) = client(&server, &["load"], lines.as_bytes());
    let loaded: usize = client(&server, &["count"], b"").1.trim_end().parse().unwrap();
    assert!(exit == 5 && (5..40).contains(&loaded), "{exit} {loaded} {err}");
    let lines: Vec<&str> = err.lines().collect();
    assert!(lines[0].starts_with(&format!("st: line {}, key \"k{}\": ", loaded + 1, loaded + 1)), "{err}");
    assert_eq!(lines[lines.len() - 1], format!("st: {loaded} keys loaded, {} refused", 40 - loaded));
    assert!(lines.len() <= 11, "{err}");
}

#[test]
fn a_batch_answers_each_request_as_it_comes_and_ends_with_the_worst_code() {
    use std::io::{BufRead, BufReader, Write};
    let server = Server::start(&[]);
    let mut command = st(&["client", "-a", &server.addr, "batch"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for (request, code) in [
        (r#"{"request":"UPDATE","key":"a","value":1}"#, "\"value\":1"),
        (r#"{"request":"UPDATE","key":"a","value":2,"if":{"absent":true}}"#, "\"code\":\"conflict\""),
        (r#"{"request":"NOPE"}"#, "\"code\":\"unknown_request\""),
        (r#"{"request":"GET","key":"none"}"#, "\"found\":false"),
    ] {
        to.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        from.read_line(&mut reply).unwrap();
        assert!(reply.contains(code), "{request}: {reply}");
    }
    drop(to);
    assert_eq!(child.wait().unwrap().code(), Some(5));
    // A thousand in one go, and large ones, come back in order.
    let requests: String = (0..5_000).map(|n| format!("{{\"request\":\"ECHO\",\"data\":{n}}}\n")).collect();
    let replies: String = (0..5_000).map(|n| format!("{{\"value\":{n}}}\n")).collect();
    assert!(client(&server, &["batch"], requests.as_bytes()) == (0, replies, String::new()));
    let large = "x".repeat(200_000);
    let requests: String =
        (0..50).map(|_| format!("{{\"request\":\"ECHO\",\"data\":\"{large}\"}}")).collect();
    assert_eq!(client(&server, &["batch"], requests.as_bytes()).1.len(), 50 * (large.len() + 13));
}

#[test]
fn a_watch_survives_a_restart_that_takes_longer_than_the_timeout() {
    use std::io::{BufRead, BufReader};
    // A port below those that are given out on request: it is still free for the second server.
    let first = 12_000 + (std::process::id() % 4_000) as u16;
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (first..20_000).find(free).unwrap().to_string();
    let start = || Server::spawn(st(&["server", &port]));
    let server = start();
    let mut watch = st(&["client", "-a", &port, "-T1", "-r100", "watch", "-c2", "a"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) =
        (BufReader::new(watch.stdout.take().unwrap()), BufReader::new(watch.stderr.take().unwrap()));
    let mut told = String::new();
    assert_eq!(client(&server, &["set", "a", "1"], b"").0, 0);
    out.read_line(&mut told).unwrap();
    drop(server);
    err.read_line(&mut told).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_400));
    let server = start();
    assert_eq!(client(&server, &["set", "a", "2"], b"").0, 0);
    out.read_line(&mut told).unwrap();
    let lost = format!(
        "st: 127.0.0.1:{port}: the watch was lost: the server closed the connection; connecting again\n"
    );
    assert_eq!(told, format!("UPDATE\ta\t\"1\"\n{lost}UPDATE\ta\t\"2\"\n"));
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

/// That there are none in pipes, every other test of this file says.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_has_a_prompt_and_sees_how_far_a_load_came() {
    let server = Server::start(&[]);
    let on_a_terminal = |words: &str, stdin: &[u8]| {
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &format!("\"$ST\" client {words}"), "/dev/null"]).env("ST_ADDR", &server.addr);
        let output = run(command.env("ST", env!("CARGO_BIN_EXE_st")), stdin);
        String::from_utf8(output.stdout).unwrap()
    };
    // It is util-linux's, which most machines have.
    if std::process::Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let session = on_a_terminal("", b"count\nnonsense\ncount\nquit\n");
    assert_eq!(session.matches("st> ").count(), 4, "{session:?}");
    assert!(session.contains("st: no command \"nonsense\""), "a person goes on after an error: {session:?}");
    assert_eq!(on_a_terminal("-q load < /dev/null", b""), "");
    let file = scratch("progress");
    std::fs::write(&file, "{\"key\":\"a\",\"value\":1}\n").unwrap();
    assert_eq!(on_a_terminal(&format!("-q load < {}", file.display()), b""), "");
    let load = on_a_terminal(&format!("load < {}", file.display()), b"");
    assert_eq!(load, "\r1 keys loaded\x1b[K\r\x1b[K");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_conflict_shows_the_beginning_of_what_is_there_escaped() {
    let server = Server::start(&[]);
    let (exact, longer) = ("é".repeat(254), format!("\u{9b}é{}", "x".repeat(2_000)));
    for (value, shown) in
        [(&exact, format!("{exact}\"")), (&longer, format!("\\u{{9b}}é{}", "x".repeat(253)))]
    {
        assert_eq!(client(&server, &["set", "a", value], b"").0, 0);
        let told = format!("st: {}: conflict: \"a\" is the string \"{shown}\n", server.addr);
        assert_eq!(client(&server, &["add", "a", "y"], b""), (1, String::new(), told));
    }
}

#[test]
fn what_is_no_number_is_shown_cut_and_printable() {
    let server = Server::start(&[]);
    for (value, shown) in [
        ("x".repeat(2_000), format!("\"{}…", "x".repeat(255))),
        ("é\u{9b}\u{7f}\t".into(), r#""é\u{9b}\u{7f}\t""#.into()),
        ("007".into(), "\"007\"".into()),
        ("+5".into(), "\"+5\"".into()),
        ("-0".into(), "\"-0\"".into()),
        ("5.0".into(), "\"5.0\"".into()),
        (" 5".into(), "\" 5\"".into()),
        ("".into(), "\"\"".into()),
    ] {
        assert_eq!(client(&server, &["set", "--", "a", &value], b"").0, 0);
        let (exit, out, err) = client(&server, &["incr", "a"], b"");
        assert_eq!((exit, &*out), (5, ""), "{value}");
        assert!(err.contains(&format!("not_a_number: the value {shown}, or the sum, is")), "{err}");
        let raw = client(&server, &["batch"], br#"{"request":"INCREMENT","key":"a"}"#).1;
        assert!(raw.trim_end().chars().all(|c| !c.is_control()) && raw.len() < 450, "{raw}");
    }
}

#[test]
fn a_batch_answers_close_before_it_reads_on() {
    use std::io::{BufRead, BufReader, Write};
    let server = Server::start(&[]);
    let mut command = st(&["client", "-a", &server.addr, "batch"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    to.write_all(br#"{"request":"CLOSE"}"#).unwrap();
    let mut reply = String::new();
    from.read_line(&mut reply).unwrap();
    assert_eq!(reply, "{\"value\":\"CLOSE CONFIRM\"}\n");
    // In a piece of its own, it is not lost either.
    to.write_all(br#"{"request":"COUNT"}"#).unwrap();
    drop(to);
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(told.starts_with("st: line 1: after CLOSE "), "{told}");
}

#[test]
fn a_dump_can_be_laid_out_as_json() {
    let server = Server::start(&[]);
    client(&server, &["load"], AB.as_bytes());
    let dump = client(&server, &["dump"], b"").1;
    let laid = run(&mut st(&["json", "-c"]), dump.as_bytes());
    assert_eq!((String::from_utf8(laid.stdout).unwrap(), laid.status.code()), (dump, Some(0)));
}

#[cfg(unix)]
#[test]
fn a_value_too_large_for_the_environment_does_not_end_a_watch() {
    let server = Server::start(&["--max-request", "16M"]);
    assert_eq!(client(&server, &["set", "a", "-"], "x".repeat(12 << 20).as_bytes()).0, 0);
    let words = ["watch", "-c1", "a", "sh", "-c", "echo $ST_KEY=${ST_VALUE-none} $(wc -c)"];
    let (exit, out, err) = client(&server, &words, b"");
    assert_eq!((exit, &*out, err.lines().count()), (0, "a=none 12582913\n", 1), "{err}");
}

#[test]
fn waiting_for_a_key_that_is_there_needs_no_watch() {
    let server = Server::start(&["--mode", "iterative"]);
    assert_eq!(client(&server, &["set", "a", "x"], b"").0, 0);
    assert_eq!(client(&server, &["get", "-w5", "a"], b""), (0, "x\n".into(), String::new()));
    let (exit, _, err) = client(&server, &["get", "-w5", "b"], b"");
    assert!(exit == 5 && err.contains("WATCH needs event or pool mode"), "{err}");
}

#[cfg(unix)]
#[test]
fn a_batch_of_slow_actions_gets_each_reply_when_it_is_there() {
    use std::os::unix::fs::PermissionsExt;
    let program = scratch("slow");
    std::fs::write(&program, "#!/bin/sh\nsleep 0.1\necho 1\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let server = Server::start(&["--action", &format!("SLOW={}", program.display())]);
    // Together they take longer than the timeout.
    let told = client(&server, &["-T", "2", "batch"], "{\"request\":\"SLOW\"}".repeat(25).as_bytes());
    assert_eq!(told, (0, "{\"value\":1}\n".repeat(25), String::new()));
    std::fs::remove_file(program).unwrap();
}

#[test]
fn a_token_is_shown_from_the_environment_or_a_file() {
    let file = scratch("token");
    std::fs::write(&file, "s3cret\nignored\n").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let path = file.to_str().unwrap();
    let server = Server::start(&["--token-file", path, "--allow-exec"]);
    let (exit, _, err) = client(&server, &["count"], b"");
    assert!(exit == 5 && err.starts_with(&format!("st: {}: denied: ", server.addr)), "{exit} {err}");
    assert_eq!(client(&server, &["--token-file", path, "set", "a", "b"], b"").0, 0);
    let with = |token: &str, words: &[&str], stdin: &[u8]| {
        let mut command = st(&["client", "-a", &server.addr]);
        let output = run(command.args(words).env("ST_TOKEN", token), stdin);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(with("s3cret", &["get", "a"], b"").1, "b\n");
    assert_eq!(with("s3cret", &["keys"], b"").1, "a\n");
    assert_eq!(with("s3cret", &["batch"], b"{\"request\":\"COUNT\"}").1, "{\"value\":1}\n");
    assert_eq!(with("s3cret", &["load"], b"{\"key\":\"c\",\"value\":1}"), (0, String::new(), String::new()));
    assert_eq!(with("wrong", &["get", "a", "default"], b"").0, 5);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let bytes = std::ffi::OsStr::from_bytes(b"\xff");
        let output = run(st(&["client", "-a", &server.addr, "count"]).env("ST_TOKEN", bytes), b"");
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*err), (Some(2), "st: ST_TOKEN is not UTF-8 text\n"));
    }
    // EXEC's output is ours, byte for byte; its status is told by 1.
    let ran = with("s3cret", &["exec", "sh", "-c", "echo out; echo err >&2; exit 3"], b"");
    assert_eq!(ran, (1, "out\n".into(), "err\n".into()));
    assert_eq!(with("s3cret", &["exec", "echo", "-n", "--", "-j"], b""), (0, "-- -j".into(), String::new()));
    // An exit code that says it all leaves nothing to say of the line.
    let silent = with("s3cret", &[], b"exec sh -c 'exit 3'\n");
    assert_eq!(silent, (1, String::new(), String::new()));
    let json = with("s3cret", &["-j", "exec", "true"], b"");
    assert_eq!(json, (0, "{\"status\":0,\"stdout\":\"\",\"stderr\":\"\"}\n".into(), String::new()));
    assert!(with("s3cret", &["history"], b"").1.contains("\"echo\""));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn help_goes_to_stdout_under_the_name_it_was_called_by() {
    let output = run(&mut st(&["client", "get", "--help"]), b"");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(text.starts_with("st client [OPTIONS] get KEY [DEFAULT]: "), "{text}");
    #[cfg(unix)]
    {
        let link = scratch("table");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_st"), &link).unwrap();
        let output = run(std::process::Command::new(&link).args(["client", "frob"]), b"");
        let name = link.file_name().unwrap().to_str().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(err, format!("{name}: no command \"frob\" (see '{name} client --help')\n"));
        std::fs::remove_file(link).unwrap();
    }
}

/// A path in the temporary directory that no other test uses.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("st-cli-{}-{name}", std::process::id()))
}
