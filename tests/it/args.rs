//! Words to commands: every sequence of up to three words from a list of tricky ones is read as the
//! rules say. The rules are written down a second time here, by hand, for this list alone.

use std::ffi::OsString;
use std::time::Duration;

use socket_tables::cli::{
    ClientArgs, ClientCommand as C, Command, Problem, ServerArgs, Topic, UsageError, parse,
};
use socket_tables::protocol::Scope;

fn words(words: &[&str]) -> Result<Command, UsageError> {
    parse("st", words.iter().map(OsString::from), &|_| None)
}

fn client(rest: &[&str]) -> Result<Command, UsageError> {
    words(&[&["client"], rest].concat())
}

fn args(rest: &[&str]) -> ClientArgs {
    match client(rest) {
        Ok(Command::Client(args)) => args,
        other => panic!("{rest:?}: {other:?}"),
    }
}

fn problem(rest: &[&str]) -> Problem {
    client(rest).expect_err(&format!("{rest:?}")).problem
}

const VOCABULARY: [&str; 27] = [
    "get",
    "set",
    "keys",
    "load",
    "exec",
    "watch",
    "help",
    "gte",
    "k",
    "",
    "-",
    "--",
    "-5",
    "5",
    "-j",
    "-jn",
    "--json",
    "--json=1",
    "-T",
    "-T5",
    "-T=5",
    "-T0",
    "--timeout=5",
    "--if=x",
    "-h",
    "--help",
    "--prefix",
];

/// What the rules make of some words: an error, help, or a command with its data.
#[derive(Debug, PartialEq)]
enum Judged {
    Error,
    Help,
    Command { name: &'static str, data: Vec<String>, json: bool, timeout: u64, prefix: Option<String> },
}

/// The rules: options up to the command, options up to its data, data. Where that begins with a KEY, no word
/// after it may be an option, unless `--` stands before; the words after a PROGRAM are the program's.
fn judge(words: &[&str]) -> Judged {
    let mut left = words.iter().copied();
    let (mut json, mut timeout, mut prefix, mut condition, mut data_only) = (false, 5, None, false, false);
    let (mut name, mut asked) = (None, false);
    let mut data: Vec<String> = Vec::new();
    while let Some(word) = left.next() {
        let is_option = word.len() > 1 && word.starts_with('-') && !data_only && data.is_empty();
        let own = match name {
            Some("exec") => 1,
            Some("watch") if prefix.is_some() => 1,
            Some("watch") => 2,
            _ => usize::MAX,
        };
        if !data_only && (1..own).contains(&data.len()) {
            match word {
                "--" if left.len() > 0 => {
                    data_only = true;
                    continue;
                }
                "-j" | "-jn" | "--json" | "--json=1" | "-h" | "--help" => return Judged::Error,
                "-T" | "-T5" | "-T=5" | "-T0" | "--timeout=5" => return Judged::Error,
                "--if=x" if name == Some("set") => return Judged::Error,
                "--prefix" if name == Some("watch") => return Judged::Error,
                _ => {}
            }
        }
        match word {
            _ if !is_option => match name {
                None if word == "help" => {
                    asked = true;
                    match left.find(|word| *word != "help") {
                        None | Some("-h" | "--help") => return Judged::Help,
                        Some("get" | "set" | "keys" | "load" | "exec" | "watch") => name = Some("help"),
                        Some(_) => return Judged::Error,
                    }
                }
                None => match ["get", "set", "keys", "load", "exec", "watch"].iter().find(|n| **n == word) {
                    Some(found) => name = Some(*found),
                    None => return Judged::Error,
                },
                Some(_) => data.push(word.into()),
            },
            "--" => data_only = true,
            "-h" | "--help" => return Judged::Help,
            "-j" | "-jn" | "--json" => json = true,
            "-T5" | "-T=5" | "--timeout=5" => timeout = 5,
            "-T" => match left.next() {
                Some("5") => timeout = 5,
                _ => return Judged::Error,
            },
            "--if=x" => condition = true,
            "--prefix" => match left.next() {
                Some(word) => prefix = Some(word.to_owned()),
                None => return Judged::Error,
            },
            _ => return Judged::Error,
        }
    }
    if asked {
        return if data.is_empty() { Judged::Help } else { Judged::Error };
    }
    let count = data.len();
    let good_key = data.first().is_some_and(|key| !key.is_empty());
    let fits = match name {
        None => true,
        Some("get") => good_key && count <= 2,
        Some("set") => good_key && count == 2,
        Some("keys") => count <= 1,
        Some("load") => count == 0,
        Some("exec") => count > 0,
        Some("watch") => good_key || prefix.is_some(),
        Some(other) => panic!("{other}"),
    };
    let misplaced = (condition && name != Some("set")) || (prefix.is_some() && name != Some("watch"));
    match fits && !misplaced {
        true => Judged::Command { name: name.unwrap_or(""), data, json, timeout, prefix },
        false => Judged::Error,
    }
}

/// The parser's result in the judge's terms.
fn summary(parsed: &Result<Command, UsageError>) -> Judged {
    let args = match parsed {
        Err(_) => return Judged::Error,
        Ok(Command::Help(_)) => return Judged::Help,
        Ok(Command::Client(args)) => args,
        Ok(other) => panic!("{other:?}"),
    };
    let text = |word: &OsString| word.to_str().unwrap().to_owned();
    let (name, data) = match &args.command {
        None => ("", vec![]),
        Some(C::Get { key, default }) => {
            ("get", [Some(key.clone()), default.clone()].into_iter().flatten().collect())
        }
        Some(C::Update { key, value }) => ("set", vec![key.clone(), value.clone()]),
        Some(C::Keys { prefix }) => ("keys", vec![prefix.clone()]),
        Some(C::Load) => ("load", vec![]),
        Some(C::Exec { program }) => ("exec", program.clone()),
        Some(C::Watch { scope: Scope::Key(key), program }) => {
            ("watch", [key.to_string()].into_iter().chain(program.iter().map(text)).collect())
        }
        Some(C::Watch { program, .. }) => ("watch", program.iter().map(text).collect()),
        other => panic!("{other:?}"),
    };
    let (json, timeout, prefix) = (args.json, args.timeout.as_secs(), args.prefix.clone());
    Judged::Command { name, data, json, timeout, prefix }
}

#[test]
fn every_sequence_of_three_words_is_read_as_the_rules_say() {
    let mut sequences: Vec<Vec<&str>> = vec![vec![]];
    for length in 1..=4 {
        let longest: Vec<_> = sequences.iter().filter(|s| s.len() == length - 1).cloned().collect();
        // Four words where the first is a command: the longest that `set` has with an option.
        let first = |s: &[&str]| length < 4 || ["get", "set", "watch"].contains(&s[0]);
        for sequence in longest.iter().filter(|s| first(s)) {
            sequences.extend(VOCABULARY.iter().map(|word| [&sequence[..], &[word]].concat()));
        }
    }
    assert!(sequences.len() > 27 * 27 * 27 * 3);
    for sequence in &sequences {
        let parsed = client(sequence);
        let mut expected = judge(sequence);
        // A missing prefix is read as an empty one.
        if let Judged::Command { name: "keys", data, .. } = &mut expected
            && data.is_empty()
        {
            data.push(String::new());
        }
        assert_eq!(summary(&parsed), expected, "st client {sequence:?}: {parsed:?}");
        if let Err(error) = parsed {
            let line = error.to_string();
            assert!(line.starts_with("st: ") && line.ends_with(" --help')"), "{sequence:?}: {line}");
            assert_eq!(line.lines().count(), 1, "{sequence:?}: {line}");
        }
    }
}

#[test]
fn any_words_at_all_are_read_without_a_panic() {
    let tricky = [
        "server",
        "client",
        "json",
        "help",
        "-",
        "--",
        "-h",
        "-V",
        "--version",
        "-t",
        "-t0",
        "-m=once",
        "--mode",
        "pool",
        "7777",
        "--action",
        "A=/b",
        "--allow-exec",
        "--token-file=x",
        "-qv",
        "é",
        "-é",
        "--é=",
        "=",
        "-=",
    ];
    for first in tricky {
        for second in tricky {
            for third in tricky {
                if let Err(error) = words(&[first, second, third]) {
                    let line = error.to_string();
                    assert!(line.ends_with(" --help')") && line.lines().count() == 1, "{line}");
                }
            }
        }
    }
}

#[test]
fn options_have_their_defaults_and_the_last_one_wins() {
    let plain = args(&["get", "k"]);
    assert_eq!(
        (plain.address.as_str(), plain.retry, plain.timeout),
        ("127.0.0.1:7777", 3, Duration::from_secs(5))
    );
    assert_eq!((plain.json, plain.no_newline, plain.quiet), (false, false, false));
    let set = args(&[
        "-a", "1", "-a2", "--addr=3", "--addr", "4", "-r0", "-r", "7", "-T.5", "-jnq", "get", "-w0", "k",
    ]);
    assert_eq!((set.address.as_str(), set.retry, set.timeout), ("4", 7, Duration::from_millis(500)));
    assert_eq!((set.json, set.no_newline, set.quiet, set.wait), (true, true, true, Some(Duration::ZERO)));
    assert_eq!(args(&["--if=a=b", "set", "k", "v"]).condition.as_deref(), Some("a=b"));
    assert_eq!(args(&["--if", "-5", "set", "k", "v"]).condition.as_deref(), Some("-5"));
    assert_eq!(args(&["set", "--if=", "k", "v"]).condition.as_deref(), Some(""));
}

#[test]
fn after_key_everything_is_data() {
    let stored = |words: &[&str]| match args(words).command {
        Some(C::Update { key, value }) => (key, value),
        other => panic!("{other:?}"),
    };
    assert_eq!(stored(&["update", "temp", "-5"]), ("temp".into(), "-5".into()));
    assert_eq!(stored(&["update", "temp", "-"]), ("temp".into(), "-".into()));
    assert_eq!(stored(&["update", "temp", "--", "--help"]), ("temp".into(), "--help".into()));
    assert_eq!(stored(&["update", "--", "temp", "--help"]), ("temp".into(), "--help".into()));
    // These look like options and are none of this command's.
    for data in ["-x", "-apple", "--prefix", "--count=1", "-w", "-c1", "-éj", "--é", "---", "-j-", "-5j"] {
        assert_eq!(stored(&["update", "temp", data]), ("temp".into(), data.into()));
    }
    assert_eq!(stored(&["update", "temp", "--"]), ("temp".into(), "--".into()));
    assert_eq!(stored(&["update", "--", "-k", "-"]), ("-k".into(), "-".into()));
    assert_eq!(stored(&["--", "update", "-k", "-j"]), ("-k".into(), "-j".into()));
    assert_eq!(
        args(&["incr", "k", "-170141183460469231731687303715884105728"]).command,
        Some(C::Increment { key: "k".into(), by: i128::MIN })
    );
    assert!(matches!(problem(&["incr", "k", "1.5"]), Problem::BadValue { .. }));
    assert_eq!(
        args(&["exec", "ls", "-l", "--help"]).command,
        Some(C::Exec { program: vec!["ls".into(), "-l".into(), "--help".into()] })
    );
}

#[test]
fn an_option_after_key_is_refused_and_the_way_out_named() {
    for (words, option) in [
        (&["get", "k", "-j"][..], "-j"),
        (&["get", "k", "-w5"], "-w5"),
        (&["get", "k", "--wait"], "--wait"),
        (&["get", "k", "--wait=5"], "--wait=5"),
        (&["get", "k", "--help"], "--help"),
        (&["update", "k", "-jn"], "-jn"),
        (&["update", "k", "--if"], "--if"),
        (&["update", "k", "--if=-5"], "--if=-5"),
        (&["call", "NAME", "-j"], "-j"),
        (&["watch", "k", "-c1", "sh"], "-c1"),
    ] {
        assert_eq!(problem(words), Problem::LateOption(option.into()), "{words:?}");
        let line = client(words).unwrap_err().to_string();
        let shown = format!("st: {option:?} is an option: put options before KEY, or '--' before data (see ");
        assert!(line.starts_with(&shown), "{line}");
        // Either place of `--` makes it data.
        let mut before = words.to_vec();
        before.insert(2, "--");
        let (late, mut early) = (args(&before).command, words.to_vec());
        early.insert(1, "--");
        assert_eq!(late, args(&early).command, "{words:?}");
    }
    assert_eq!(problem(&["incr", "k", "-n"]), Problem::LateOption("-n".into()));
    // A program's words are its own.
    for words in [&["exec", "echo", "-n", "-j"][..], &["watch", "k", "grep", "-j", "--", "-c"]] {
        args(words);
    }
}

#[test]
fn a_quiet_client_s_usage_errors_are_marked_so() {
    for (typed, quiet) in [
        (&["client", "-q", "get"][..], true),
        (&["client", "get", "-jq"], true),
        (&["client", "-q", "frob"], true),
        (&["client", "-q", "get", "k", "-j"], true),
        (&["client", "get", "k", "-q"], false),
        (&["client", "get"], false),
        (&["server", "-q", "--frob"], false),
    ] {
        assert_eq!(words(typed).unwrap_err().quiet, quiet, "{typed:?}");
    }
}

#[test]
fn misspelt_words_get_the_near_one_named() {
    for (typed, shown) in [
        (&["client", "udpate", "k", "v"][..], "did you mean 'update'? (see 'st client --help')"),
        (&["client", "--tiemout", "5"], "did you mean '--timeout'? (see 'st client --help')"),
        (&["client", "get", "--jsn", "k"], "did you mean '--json'? (see 'st client get --help')"),
        (&["client", "help", "kyes"], "did you mean 'keys'?"),
        (&["sever"], "did you mean 'server'? (see 'st --help')"),
        (&["server", "--thread", "5"], "did you mean '--threads'? (see 'st server --help')"),
        (&["json", "--prety"], "did you mean '--pretty'? (see 'st json --help')"),
        (&["help", "jsn"], "did you mean 'json'?"),
        (&["--hepl"], "did you mean '--help'?"),
        // Other systems' words, and other cases.
        (&["client", "put", "k", "v"], "did you mean 'update'?"),
        (&["client", "SET", "k", "v"], "did you mean 'update'?"),
        (&["client", "rm", "k"], "did you mean 'delete'?"),
        (&["client", "remove", "k"], "did you mean 'delete'?"),
        (&["client", "ls"], "did you mean 'keys'?"),
        (&["client", "ping"], "did you mean 'hello'?"),
        (&["client", "PING"], "did you mean 'hello'?"),
        // An action's name.
        (&["client", "WORDS"], "did you mean 'st client call WORDS'?"),
        (&["client", "WORDS", "x", "-5"], "did you mean 'st client call WORDS x -5'?"),
        (&["client", "WORDS", "to be", "x"], "did you mean 'st client call WORDS …'?"),
        (&["client", "WORDS", "x\n"], "did you mean 'st client call WORDS …'?"),
        (&["client", "LIFE_GEN", ""], "did you mean 'st client call LIFE_GEN …'?"),
        // The client's commands without `client`.
        (&["get", "door"], "did you mean 'st client get'? (see 'st --help')"),
        (&["put", "door", "open"], "did you mean 'st client update'?"),
        (&["hello"], "did you mean 'st client hello'?"),
        (&["udpate", "door"], "did you mean 'st client update'?"),
        (&["vesrion"], "did you mean 'version'?"),
        (&["client", "lock", "k"], "did you mean 'hold'?"),
        (&["ttl", "k"], "did you mean 'st client ttl'?"),
        (&["pop"], "did you mean 'st client take'?"),
    ] {
        let error = words(typed).unwrap_err().to_string();
        assert!(error.contains(shown), "{typed:?}: {error}");
    }
    // What nothing here offers is not likened to what does something else.
    for typed in
        [&["client", "expire", "k"][..], &["client", "subscribe", "k"], &["client", "x"], &["zrange"], &["x"]]
    {
        let error = words(typed).unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{typed:?}: {error}");
    }
}

#[test]
fn version_and_help_are_words_too() {
    assert_eq!(words(&["version"]), Ok(Command::Version));
    assert_eq!(words(&["version", "x"]).unwrap_err().problem, Problem::Unexpected("x".into()));
    assert_eq!(words(&["help", "version"]), Ok(Command::Help(Topic::Program)));
    assert_eq!(words(&["server", "help"]), Ok(Command::Help(Topic::Server)));
    assert_eq!(words(&["help", "server"]), Ok(Command::Help(Topic::Server)));
    assert!(matches!(words(&["server", "--", "help"]), Ok(Command::Server(_))), "a service of that name");
}

#[test]
fn the_environment_speaks_where_no_option_does() {
    let with = |words: &[&str], set: &[(&str, &str)]| {
        let set: Vec<(String, OsString)> =
            set.iter().map(|(n, v)| ((*n).into(), OsString::from(v))).collect();
        let env = move |name: &str| set.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let words = [&["client"], words].concat();
        parse("st", words.iter().map(OsString::from), &env)
    };
    let read = |words: &[&str], set: &[(&str, &str)]| match with(words, set).unwrap() {
        Command::Client(args) => args,
        other => panic!("{other:?}"),
    };
    let all = [("ST_ADDR", "9"), ("ST_TIMEOUT", "2"), ("ST_RETRY", "0")];
    let args = read(&["count"], &all);
    assert_eq!((args.address.as_str(), args.timeout.as_secs(), args.retry), ("9", 2, 0));
    let args = read(&["-a8", "-T3", "-r4", "count"], &all);
    assert_eq!((args.address.as_str(), args.timeout.as_secs(), args.retry), ("8", 3, 4));
    assert_eq!(read(&["count"], &[("ST_ADDR", ""), ("ST_TOKEN", "")]), read(&["count"], &[]));
    let wrong = with(&["count"], &[("ST_TIMEOUT", "soon")]).unwrap_err().to_string();
    assert!(wrong.contains("ST_TIMEOUT wants seconds"), "{wrong}");
    read(&["-T3", "count"], &[("ST_TIMEOUT", "soon")]);
    assert_eq!(read(&["count"], &[("ST_TOKEN", "secret")]), read(&["count"], &[]), "it is not kept here");
}

#[test]
fn keys_are_judged_at_their_limits_before_anything_is_sent() {
    let (most, over) = ("k".repeat(1024), "k".repeat(1025));
    args(&["get", &most]);
    args(&["get", "é ☃ \"'\\"]);
    for bad in [&over, "", "a\nb", "a\0b", "\u{7f}", "\u{85}"] {
        assert!(matches!(problem(&["get", bad]), Problem::BadKey(_)), "{bad:?}");
    }
}

#[cfg(unix)]
#[test]
fn words_that_are_not_text_are_refused_with_a_way_out() {
    use std::os::unix::ffi::OsStringExt;
    let bad = OsString::from_vec(vec![b'v', 0xff]);
    for words in [
        vec!["client".into(), "set".into(), "k".into(), bad.clone()],
        vec!["client".into(), "get".into(), bad],
    ] {
        let error = parse("st", words, &|_| None).unwrap_err().to_string();
        assert!(error.contains("is not UTF-8 text") && error.contains("base64"), "{error}");
    }
}

#[test]
fn every_command_and_option_is_explained() {
    use socket_tables::cli::help;
    for (asked, topic) in [
        (&["--help"][..], Topic::Program),
        (&["-h"], Topic::Program),
        (&["help"], Topic::Program),
        (&["help", "server"], Topic::Server),
        (&["server", "7777", "--help"], Topic::Server),
        (&["client", "--help"], Topic::Client),
        (&["client", "help"], Topic::Client),
        (&["client", "help", "help"], Topic::Client),
        (&["client", "help", "-h"], Topic::Client),
        (&["client", "help", "session"], Topic::Client),
        (&["client", "help", "get", "--help"], Topic::ClientCommand("get")),
        (&["client", "help", "set"], Topic::ClientCommand("update")),
        (&["help", "client", "get"], Topic::ClientCommand("get")),
        (&["client", "get", "--help"], Topic::ClientCommand("get")),
        (&["json", "--help"], Topic::Json),
    ] {
        assert_eq!(words(asked), Ok(Command::Help(topic)), "{asked:?}");
    }
    let all = help("ST", Topic::Client);
    for name in [
        "get",
        "update",
        "set",
        "add",
        "delete",
        "del",
        "increment",
        "incr",
        "exists",
        "getall",
        "list",
        "keys",
        "count",
        "watch",
        "dump",
        "load",
        "batch",
        "call",
        "hello",
        "time",
        "echo",
        "exec",
        "history",
        "info",
    ] {
        assert!(all.contains(name), "{name}");
        let Ok(Command::Help(topic)) = words(&["client", "help", name]) else { panic!("{name}") };
        let text = help("ST", topic);
        assert!(
            text.contains("ST client") && text.contains("Exit:") && text.contains("-T, --timeout"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
    for topic in [Topic::Program, Topic::Server, Topic::Client, Topic::Json, Topic::Journal] {
        let text = help("ST", topic);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(!text.contains("st client") && !text.contains("st server"), "argv[0]'s name is used: {text}");
    }
}

#[test]
fn the_help_tells_the_library_s_defaults() {
    use socket_tables::cli::help;
    use socket_tables::client::ClientOptions;
    use socket_tables::server::{Mode, Options};
    let (client, server) = (ClientOptions::default(), Options::default());
    let limits = socket_tables::actions::Limits::default();
    let Mode::Event { connections } = server.mode else { panic!("the help says that it is the event loop") };
    let Mode::Pool { threads } = Mode::POOL else { unreachable!("by its name") };
    for (topic, option, default) in [
        (Topic::Client, "--addr", socket_tables::protocol::ADDRESS_DEFAULT.to_owned()),
        (Topic::Client, "--timeout", client.timeout.as_secs_f64().to_string()),
        (Topic::Client, "--retry", client.retry.to_string()),
        (Topic::Server, "--connections", connections.to_string()),
        (Topic::Server, "--threads", threads.to_string()),
        (Topic::Server, "--max-request", format!("{}M", server.request_bytes_max >> 20)),
        (Topic::Server, "--deadline", server.deadline.as_secs_f64().to_string()),
        (Topic::Server, "--action-timeout", limits.timeout.as_secs_f64().to_string()),
        (Topic::Server, "--action-jobs", limits.jobs_max.to_string()),
    ] {
        let text = help("st", topic);
        let (_, rest) = text.split_once(&format!("{option} ")).unwrap();
        let (told, _) = rest.split_once(" -").unwrap();
        assert!(told.contains(&format!("({default})")), "{option}: {told}");
    }
    let plain = args(&["count"]);
    assert_eq!((plain.timeout, plain.retry), (client.timeout, client.retry));
    assert_eq!(self::server(&[]).unwrap().limits, limits);
}

#[test]
fn the_server_s_words() {
    let read = |rest: &[&str]| match words(&[&["server"], rest].concat()) {
        Ok(Command::Server(args)) => Ok(args),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    };
    use socket_tables::server::{Level, Mode};
    let plain = read(&[]).unwrap();
    assert_eq!(
        (plain.address.as_str(), plain.mode, plain.level),
        ("127.0.0.1:7777", Mode::Event { connections: 10_000 }, Level::Info)
    );
    assert_eq!((plain.max_request, plain.max_memory, plain.idle), (1 << 20, None, None));
    let set =
        read(&["--max-memory=1G", "-m", "once", "8000", "-t9", "-v", "-q", "--max-request", "64K"]).unwrap();
    assert_eq!((set.address.as_str(), set.mode, set.level), ("8000", Mode::Once, Level::Error));
    assert_eq!((set.max_request, set.max_memory), (65_536, Some(1 << 30)));
    let clients = ["-t9", "--connections", "1000000", "-m"];
    for (mode, set) in [
        ("pool", Mode::Pool { threads: 9 }),
        ("event", Mode::Event { connections: 1_000_000 }),
        ("iterative", Mode::Iterative),
    ] {
        assert_eq!(read(&[&clients[..], &[mode]].concat()).unwrap().mode, set);
    }
    let actions = read(&["--action", "A=/bin/a", "--action=B=/b=c"]).unwrap().actions;
    assert_eq!(actions, [("A".into(), "/bin/a".into()), ("B".into(), "/b=c".into())]);
    for (wrong, shown) in [
        (&["-t0"][..], "-t wants a whole number from 1 to"),
        (&["--threads=1.5"], "--threads wants"),
        (&["--connections=0"], "--connections wants a whole number from 1 to 1000000"),
        (&["--connections=1000001"], "--connections wants"),
        (&["--max-request=0"], "a size from 1 to"),
        (&["--idle=0"], "--idle wants seconds from 0.001"),
        (&["-m", "fork"], "event, pool, iterative or once"),
        (&["--action=A=b"], "NAME=/PATH"),
        (&["--action=A"], "NAME=/PATH"),
        (&["--allow-exec"], "--allow-exec needs --token-file or ST_TOKEN"),
        (&["1", "2"], "a word too many: \"2\""),
        (&["--insecure=1"], "--insecure takes no value"),
        (&["--token-file"], "--token-file needs a value, FILE"),
    ] {
        let error = read(wrong).unwrap_err();
        assert!(error.contains(shown) && error.ends_with("(see 'st server --help')"), "{wrong:?}: {error}");
    }
    assert!(read(&["--foo"]).unwrap_err().starts_with("st: no option \"--foo\" (see"));
    assert!(read(&["--allow-exec", "--token-file=t"]).unwrap().allow_exec);
    let variable = |text: &'static str| {
        let env = move |name: &str| (name == "ST_TOKEN").then(|| OsString::from(text));
        parse("st", ["server", "--allow-exec"].map(OsString::from), &env)
    };
    assert!(variable("").is_err());
    let Ok(Command::Server(args)) = variable("hush") else { panic!("a token is there") };
    assert!(args.allow_exec && !format!("{args:?}").contains("hush"), "it is not kept here");
}

fn server(words: &[&str]) -> Option<ServerArgs> {
    match parse("st", ["server"].iter().chain(words).map(OsString::from), &|_| None) {
        Ok(Command::Server(args)) => Some(args),
        _ => None,
    }
}

#[test]
fn sizes_are_exact_at_their_limits() {
    for (word, bytes) in [
        ("1", Some(1)),
        ("0", None),
        ("", None),
        ("K", None),
        ("-1", None),
        ("+1", None),
        ("1.5M", None),
        ("1 K", None),
        ("1KB", None),
        ("é", None),
        ("64k", Some(65_536)),
        ("1M", Some(1 << 20)),
        ("1023M", Some(1023 << 20)),
        ("1G", Some(1 << 30)),
        ("1048576K", Some(1 << 30)),
        ("1048577K", None),
        ("1073741823", Some((1 << 30) - 1)),
        ("1073741825", None),
        ("17179869184G", None),
        ("99999999999999999999", None),
    ] {
        let read = server(&["--max-request", word]).map(|args| args.max_request);
        assert_eq!(read, bytes, "{word}");
    }
    assert_eq!(server(&["--max-memory=1073741824G"]).unwrap().max_memory, Some(1 << 60));
    assert_eq!(server(&["--max-memory=1073741825G"]), None);
}

#[test]
fn times_are_exact_at_their_limits() {
    for (word, nanos) in [
        ("5", Some(5_000_000_000)),
        ("0.25", Some(250_000_000)),
        (".5", Some(500_000_000)),
        ("0.001", Some(1_000_000)),
        ("0.000999999", None),
        ("0.0010000001", None),
        ("0", None),
        ("5.", None),
        (".", None),
        ("", None),
        ("-5", None),
        ("+5", None),
        ("1e3", None),
        ("5s", None),
        ("1.-5", None),
        ("31536000", Some(31_536_000_000_000_000)),
        ("31536000.000000001", None),
        ("31536001", None),
        ("18446744073709551616", None),
    ] {
        let read = server(&["--deadline", word]).map(|args| args.deadline.as_nanos());
        assert_eq!(read, nanos, "{word}");
    }
    assert_eq!(args(&["get", "-w", "0.000000001", "k"]).wait, Some(Duration::from_nanos(1)));
}

#[test]
fn whole_numbers_keep_to_their_range() {
    for (word, number) in
        [("0", None), ("1", Some(1)), ("1000", Some(1000)), ("1001", None), ("+1", None), ("0x1", None)]
    {
        assert_eq!(server(&["--action-jobs", word]).map(|args| args.limits.jobs_max), number, "{word}");
    }
    assert_eq!(args(&["watch", "-c", "18446744073709551615", "k"]).count, Some(u64::MAX));
    assert!(matches!(problem(&["watch", "-c", "18446744073709551616", "k"]), Problem::BadValue { .. }));
}
