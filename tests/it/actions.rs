//! Actions without a server: the registry and the built-in ones.
#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket_tables::actions::{Actions, Call, RegisterError, rfc3339};
use socket_tables::json::{Array, JsonText, Object, Value};
use socket_tables::protocol::{Code, Failure, Verb};
use socket_tables::server::Server;

use crate::server::Running;
use crate::support::{run, st};

pub fn call(actions: &Actions, name: &str, data: &str) -> Result<String, Failure> {
    actions.call(name, Some(JsonText::parse(data).unwrap())).map(|text| text.as_str().to_owned())
}

pub fn expect_failure(result: Result<String, Failure>, code: Code, words: &str) {
    let failure = result.expect_err(words);
    assert!(failure.code == code && failure.message.contains(words), "{failure} should say {words:?}");
}

#[test]
fn exec_runs_a_command_and_history_keeps_it() {
    let mut actions = Actions::default();
    expect_failure(call(&actions, "EXEC", r#"["true"]"#), Code::Denied, "--allow-exec");
    assert_eq!(call(&actions, "HISTORY", "null").as_deref(), Ok("[]"));
    actions.exec_allowed = true;
    let done = |status: i32, stdout: &str, stderr: &str| {
        let (stdout, stderr) = (JsonText::string(stdout), JsonText::string(stderr));
        Ok(format!(r#"{{"status":{status},"stdout":{stdout},"stderr":{stderr}}}"#))
    };
    for (command, reply) in [
        (r#"["true"]"#, done(0, "", "")),
        (r#"["echo","a b","$HOME","; ls"]"#, done(0, "a b $HOME ; ls\n", "")),
        (r#"["sh","-c","echo out; echo err >&2; exit 7"]"#, done(7, "out\n", "err\n")),
        (r#"["sh","-c","kill -9 $$"]"#, done(137, "", "")),
        (r#"["printf","a\\377"]"#, done(0, "a\u{fffd}", "")),
        (r#"["cat"]"#, done(0, "", "")),
        (r#"["/bin/pwd"]"#, done(0, "/\n", "")),
        (r#"["sh","-c","echo $0"]"#, done(0, "sh\n", "")),
        // A string is a line for the shell.
        (r#""echo a b | tr a-z A-Z; exit 3""#, done(3, "A B\n", "")),
        (r#""no-such-program 2>/dev/null""#, done(127, "", "")),
        (r#""""#, done(0, "", "")),
    ] {
        assert_eq!(call(&actions, "EXEC", command), reply, "{command}");
    }
    for wrong in ["null", "[]", "7", "[1]", r#"["a",1]"#, r#"{"a":"b"}"#, "[[]]"] {
        expect_failure(call(&actions, "EXEC", wrong), Code::BadRequest, "array of strings");
    }
    expect_failure(actions.call("EXEC", None).map(|_| String::new()), Code::BadRequest, "EXEC needs");
    expect_failure(
        call(&actions, "EXEC", r#"["no-such-program"]"#),
        Code::ActionFailed,
        "cannot run no-such-program",
    );
    expect_failure(call(&actions, "EXEC", r#"[""]"#), Code::ActionFailed, "cannot run");
    expect_failure(call(&actions, "EXEC", r#"["a\u0000b"]"#), Code::ActionFailed, "cannot run");
    let history = actions.call("HISTORY", None).unwrap().to_value();
    let commands = history.as_array().unwrap();
    assert_eq!(commands.len(), 14);
    assert_eq!(commands[1].as_array().unwrap()[1].as_str(), Some("a b"));
    assert_eq!(commands[8].as_str(), Some("echo a b | tr a-z A-Z; exit 3"), "as it was asked");
}

#[test]
fn history_is_bounded() {
    let mut actions = Actions::default();
    actions.exec_allowed = true;
    let lengths = |actions: &Actions| -> Vec<usize> {
        let history = actions.call("HISTORY", None).unwrap().to_value();
        history.as_array().unwrap().iter().map(|command| command.as_array().unwrap().len()).collect()
    };
    // What cannot be run is kept too, and is quick to fail.
    for length in 1..=1_001 {
        let _ = call(&actions, "EXEC", &format!("[{}\"/\"]", "\"/\",".repeat(length - 1)));
    }
    let kept = lengths(&actions);
    assert!(kept.last() == Some(&1_001) && kept.len() < 1_000, "bytes bound it: {}", kept.len());
    let _ = call(&actions, "EXEC", &format!("[\"/{}\"]", "x".repeat(1 << 20)));
    assert_eq!(lengths(&actions), [], "too large to be kept");
    for _ in 0..1_001 {
        let _ = call(&actions, "EXEC", r#"["/"]"#);
    }
    assert_eq!(lengths(&actions).len(), 1_000);
}

#[test]
fn the_small_built_in_actions_answer() {
    let actions = Actions::default();
    for data in ["1.50", r#"{"a":[null,"b"]}"#, "null", r#""é\n""#] {
        assert_eq!(call(&actions, "ECHO", data).as_deref(), Ok(data));
    }
    assert_eq!(actions.call("ECHO", None), Ok(JsonText::NULL));
    let hello = call(&actions, "HELLO", "null").unwrap();
    assert!(hello.starts_with("\"Hello from ") && hello.len() > 14, "{hello}");
    let before = rfc3339(SystemTime::now());
    let time = actions.call("TIME", None).unwrap().as_string().unwrap().into_owned();
    assert!(before <= time && time <= rfc3339(SystemTime::now()), "{before} {time}");
}

#[test]
fn known_times_are_written_as_rfc_3339_has_them() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (951_868_800, "2000-03-01T00:00:00Z"),
        (1_000_000_000, "2001-09-09T01:46:40Z"),
        (1_795_164_540, "2026-11-20T08:49:00Z"),
        (4_107_542_399, "2100-02-28T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
        (253_402_300_800, "10000-01-01T00:00:00Z"),
    ] {
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
    }
    // A clock that is set wrong is no reason to fail, and no time is too far off to be told.
    assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
    let far = UNIX_EPOCH + Duration::from_secs(1 << 62);
    assert_eq!(rfc3339(far), "146138514283-06-19T07:45:04Z");
}

/// Counts every day of 800 years by hand.
#[test]
fn every_day_follows_the_one_before() {
    let (mut year, mut month, mut day) = (1970, 1, 1);
    for passed in 0..2 * 146_097_u64 {
        let text = rfc3339(UNIX_EPOCH + Duration::from_secs(passed * 86_400));
        assert_eq!(text, format!("{year:04}-{month:02}-{day:02}T00:00:00Z"));
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 => 28 + i32::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        day += 1;
        if day > last {
            (day, month) = (1, month + 1);
        }
        if month > 12 {
            (month, year) = (1, year + 1);
        }
    }
    assert_eq!(year, 2770);
}

#[test]
fn a_name_is_taken_once() {
    let mut actions = Actions::default();
    let answer = |_: &Call<'_>| Ok(Value::from("a"));
    let longest = "N".repeat(64);
    // Of the built-in ones these may be replaced, once.
    for good in ["A", "SHOUT", "A-1_Z", &longest, "*", "ECHO", "HELLO", "TIME"] {
        assert_eq!(actions.register(good, "", "", answer), Ok(()), "{good}");
    }
    for taken in actions.names().map(str::to_owned).collect::<Vec<_>>() {
        assert_eq!(actions.register(&taken, "", "", answer), Err(RegisterError::Taken(taken)));
    }
    assert_eq!(call(&actions, "TIME", "1").as_deref(), Ok("\"a\""));
    assert!(actions.may_take_long("TIME") && !actions.may_take_long("INFO"), "it is not known how long");
    for taken in ["GET", "UPDATE", "AUTH", "CLOSE", "EXEC", "HISTORY", "INFO"] {
        let refused = Actions::default().register(taken, "", "", answer);
        assert_eq!(refused, Err(RegisterError::Taken(taken.to_owned())));
    }
    let too_long = "N".repeat(65);
    for bad in ["", "a", "shout", "1A", "-A", "_A", "A B", "A\n", "É", "AÉ", "A.B", "**", &too_long] {
        let refused = actions.register(bad, "", "", answer);
        assert_eq!(refused, Err(RegisterError::BadName(bad.to_owned())));
    }
}

#[test]
fn the_table_tells_of_every_request() {
    let mut actions = Actions::default();
    actions.register("SHOUT", "TEXT", "louder", |_: &Call<'_>| Ok(JsonText::NULL)).unwrap();
    let names: Vec<_> = actions.names().collect();
    assert!(names.starts_with(&Verb::ALL.iter().map(|verb| verb.as_str()).collect::<Vec<_>>()));
    for name in ["GET", "CLOSE", "ECHO", "EXEC", "HELLO", "HISTORY", "TIME", "SHOUT"] {
        assert_eq!(names.iter().filter(|known| **known == name).count(), 1, "{name}");
    }
    let shout = actions.specs().find(|spec| spec.name == "SHOUT").unwrap();
    assert_eq!((shout.args, shout.help), ("TEXT", "louder"));
    assert!(actions.specs().all(|spec| !spec.help.is_empty()));
}

#[test]
fn info_tells_what_a_server_can_be_asked() {
    let mut server = Server::bind("127.0.0.1:0").unwrap();
    let louder = |call: &Call<'_>| Ok(Value::from(call.data_str()?.to_uppercase()));
    server.actions().register("SHOUT", "TEXT", "louder", louder).unwrap();
    let usages: Vec<String> =
        server.actions().specs().map(|spec| format!("{} {}", spec.name, spec.args)).collect();
    let info = Running::run(server).client().call("INFO", ()).unwrap();
    let help = info.get("help").unwrap().as_object().unwrap();
    let told: Vec<&str> = help.iter().map(|(usage, _)| usage).collect();
    assert_eq!(told, usages.iter().map(|usage| usage.trim_end()).collect::<Vec<_>>());
    assert_eq!(help.get("SHOUT TEXT"), Some(&Value::from("louder")));
}

#[test]
fn help_tells_what_a_server_can_be_asked() {
    let help = run(&mut st(&["server", "--help"]), b"").stdout;
    let help = String::from_utf8(help).unwrap();
    let actions = Actions::default();
    for spec in actions.specs() {
        let told =
            help.lines().any(|line| line.trim_start().starts_with(spec.name) && line.ends_with(spec.help));
        assert!(told, "{spec:?}");
    }
}

#[test]
fn an_unknown_name_gets_the_near_one() {
    let actions = Actions::default();
    for (typed, words) in [
        ("EHCO", "no request is named EHCO: did you mean ECHO?"),
        ("GTE", "did you mean GET?"),
        ("time", "did you mean TIME?"),
        ("FROBNICATE", "no request is named FROBNICATE: INFO tells"),
        ("", "INFO tells what there is"),
        ("A\x1b\n", r"named A\u{1b}:"),
        (&"X".repeat(1 << 20), "XXX…: INFO tells"),
    ] {
        expect_failure(call(&actions, typed, "1"), Code::UnknownRequest, words);
    }
}

#[test]
fn an_error_and_a_panic_reach_the_caller_and_nobody_else() {
    let mut actions = Actions::default();
    let refusing = |_: &Call<'_>| Err::<Value, _>(Failure::new(Code::Full, "not today"));
    actions.register("REFUSE", "", "", refusing).unwrap();
    actions
        .register("PARSE", "", "", |call: &Call<'_>| Ok(JsonText::from(Value::from(number(call)?))))
        .unwrap();
    actions.register("STR", "", "", |_: &Call<'_>| -> Result<Value, Failure> { panic!("plain") }).unwrap();
    actions
        .register("FORMAT", "", "", |call: &Call<'_>| -> Result<Value, Failure> {
            panic!("with {}", call.name());
        })
        .unwrap();
    actions
        .register("ODD", "", "", |_: &Call<'_>| -> Result<Value, Failure> {
            std::panic::panic_any(7);
        })
        .unwrap();

    assert_eq!(call(&actions, "REFUSE", "1"), Err(Failure::new(Code::Full, "not today")));
    assert_eq!(call(&actions, "PARSE", r#""42""#).as_deref(), Ok("42"));
    expect_failure(call(&actions, "PARSE", r#""x""#), Code::ActionFailed, "invalid digit");
    expect_failure(call(&actions, "PARSE", "42"), Code::BadRequest, "PARSE needs \"data\": a string");
    expect_failure(call(&actions, "STR", "1"), Code::ActionFailed, "STR panicked: plain");
    expect_failure(call(&actions, "FORMAT", "1"), Code::ActionFailed, "FORMAT panicked: with FORMAT");
    expect_failure(call(&actions, "ODD", "1"), Code::ActionFailed, "ODD panicked");
    assert_eq!(call(&actions, "ECHO", "1").as_deref(), Ok("1"));
}

/// A chain of this many arrays, and one of objects.
fn chains(levels: usize) -> [Value; 2] {
    let links = 1..levels;
    [
        links.clone().fold(Array::default().into(), |inner, _| Value::Array([inner].into_iter().collect())),
        links.fold(Object::new().into(), |inner, _| Object::from_iter([("a", inner)]).into()),
    ]
}

#[test]
fn a_value_nested_too_deep_is_action_failed_and_never_the_end() {
    let mut actions = Actions::default();
    let levels = |call: &Call<'_>| -> Result<usize, Failure> { Ok(call.data_str()?.parse()?) };
    actions.register("ARRAYS", "", "", move |call: &Call<'_>| Ok(chains(levels(call)?)[0].clone())).unwrap();
    actions.register("OBJECTS", "", "", move |call: &Call<'_>| Ok(chains(levels(call)?)[1].clone())).unwrap();
    actions.register("SAME", "", "", |call: &Call<'_>| Ok(call.value())).unwrap();
    // On the smallest stack that a server has.
    let stack = thread::Builder::new().stack_size(128 << 10);
    let ask = move || {
        for name in ["ARRAYS", "OBJECTS"] {
            for (levels, words) in
                [(127, "deeper than 126"), (128, "deeper than 126"), (129, "panicked"), (100_000, "panicked")]
            {
                assert!(call(&actions, name, r#""126""#).is_ok(), "{name}");
                expect_failure(call(&actions, name, &format!("\"{levels}\"")), Code::ActionFailed, words);
            }
        }
        // Brackets in strings are not levels, and arrays side by side are not above each other.
        for flat in [format!("[\"{}\"]", "[{".repeat(500)), format!("[{}[]]", "[[]],".repeat(500))] {
            assert_eq!(call(&actions, "SAME", &flat), Ok(flat));
        }
    };
    stack.spawn(ask).unwrap().join().unwrap();
}

fn number(call: &Call<'_>) -> Result<i64, Failure> {
    Ok(call.data_str()?.parse()?)
}
