//! The token: who shows it is let in, who does not is not, and nobody else can read it.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use socket_tables::protocol::{BadToken, TOKEN_BYTES_MAX, Token};
use socket_tables::server::Mode;

use crate::modes::{LASTING, SEVERAL, in_modes};
use crate::process::{
    COUNT, COUNTED, Process, Temporary, eventually, exchange, ms, rest, server, side_by_side,
};
use crate::support::{run, st};

const AUTH: &str = r#"{"request":"AUTH","token":"open sesame"}"#;
const OK: &str = "{\"value\":\"ok\"}\n";

fn guarded(mode: Mode) -> (Process, Temporary) {
    let file = Temporary::private(b"open sesame\n");
    (Process::in_mode(mode, &["--token-file", file.as_str()]), file)
}

fn code(reply: &str, code: &str) -> bool {
    reply.lines().count() == 1 && reply.contains(&format!("{{\"code\":\"{code}\""))
}

#[test]
fn who_shows_the_token_is_let_in_and_nobody_else() {
    in_modes(LASTING, |mode| {
        let (server, _file) = guarded(mode);
        assert_eq!(server.ask([AUTH, COUNT, COUNT].concat()), [OK, COUNTED, COUNTED].concat());
        assert_eq!(server.ask("AUTH open sesame\r\nCOUNT\n"), "MSG ok\nMSG 0\n");
        let large = format!("{{\"request\":\"ECHO\",\"data\":\"{}\"}}", "x".repeat(100_000));
        assert!(server.ask([AUTH, &large].concat()).len() > 100_000, "once known, the usual limits hold");
        for denied in [
            COUNT,
            r#"{"request":"UPDATE","key":"k","value":1}"#,
            r#"{"request":"GETALL"}"#,
            r#"{"request":"WATCH","prefix":""}"#,
            r#"{"request":"HELLO"}"#,
            r#"{"request":"INFO"}"#,
            r#"{"request":"CLOSE"}"#,
            r#"{"request":"NO SUCH"}"#,
            r#"{"request":"AUTH","token":"open sesam"}"#,
            r#"{"request":"AUTH","token":"open sesamee"}"#,
            r#"{"request":"AUTH","token":""}"#,
            r#"{"request":"AUTH","token":"Open sesame"}"#,
        ] {
            // One reply, and what comes after is not even looked at.
            let reply = server.ask([denied, AUTH, COUNT].concat());
            assert!(code(&reply, "denied"), "{denied}: {reply}");
        }
        for bad in [r#"{"request":"AUTH"}"#, r#"{"request":"AUTH","token":1}"#, r#"{"key":"k"}"#, "{]"] {
            let reply = server.ask([bad, AUTH, COUNT].concat());
            assert!(reply.lines().count() == 1 && reply.contains("\"bad_"), "{bad}: {reply}");
        }
        for line in ["COUNT\n", "AUTH open\n", "AUTH\n", "open sesame\n"] {
            assert!(server.ask(line.to_owned() + "AUTH open sesame\n").starts_with("MSG error: "), "{line}");
        }
        let count = r#"{"request":"AUTH","token":"open sesame"}{"request":"COUNT"}"#;
        assert_eq!(server.ask(count), [OK, COUNTED].concat(), "and nothing was changed");
        // A server without a token takes any.
        assert_eq!(Process::in_mode(mode, &[]).ask([AUTH, COUNT].concat()), [OK, COUNTED].concat());
    });
}

#[test]
fn before_auth_size_and_time_are_short() {
    in_modes(SEVERAL, |mode| {
        let (server, _file) = guarded(mode);
        for (bytes, fits) in [(4095, true), (4096, true), (4097, false)] {
            let sent = AUTH.replace('}', &format!(",\"pad\":\"{}\"}}", "x".repeat(bytes - AUTH.len() - 9)));
            assert_eq!(sent.len(), bytes);
            let reply = server.ask(sent + COUNT);
            assert!(
                if fits { reply == [OK, COUNTED].concat() } else { code(&reply, "denied") },
                "{bytes}: {reply}"
            );
        }
        let five = Duration::from_secs(5);
        let denied_at_five = |mut say: Box<dyn FnMut(&mut std::net::TcpStream)>| {
            let since = Instant::now();
            let mut stream = server.connect();
            let mut writer = stream.try_clone().unwrap();
            let reading = std::thread::spawn(move || rest(&mut stream));
            while !reading.is_finished() {
                say(&mut writer);
                std::thread::sleep(ms(50));
            }
            let (reply, took) = (reading.join().unwrap(), since.elapsed());
            assert!(reply.contains("denied") || reply.starts_with("MSG error: no token"), "{reply}");
            assert!(took + ms(20) >= five && took < five + Duration::from_secs(3), "{took:?}");
        };
        side_by_side(&[
            &|| denied_at_five(Box::new(|_| {})),
            &|| denied_at_five(Box::new(|stream| drop(stream.write_all(b"\n")))),
            &|| denied_at_five(Box::new(|stream| drop(stream.write_all(b"{")))),
            &|| denied_at_five(Box::new(|stream| drop(stream.write_all(b"A")))),
            &|| {
                // Who is known may be silent for longer.
                let mut stream = server.connect();
                std::thread::sleep(ms(3000));
                assert_eq!(exchange(&mut stream, AUTH), OK);
                std::thread::sleep(ms(3000));
                assert_eq!(exchange(&mut stream, COUNT), COUNTED);
            },
            &|| {
                // A shorter deadline of the server's own holds, too, and denies as well.
                let file = Temporary::private(b"open sesame");
                let server = Process::in_mode(mode, &["--token-file", file.as_str(), "--deadline", "0.5"]);
                let mut stream = server.connect();
                let since = Instant::now();
                stream.write_all(b"{").unwrap();
                assert!(code(&rest(&mut stream), "denied"));
                assert!(since.elapsed() >= ms(480) && since.elapsed() < five, "{:?}", since.elapsed());
            },
        ]);
    });
}

/// What becomes of a server that should not start.
fn refused(address: &str, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_st"));
    command.env_remove("ST_TOKEN").arg("server").args(flags).arg(address);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!((stdout.len(), stderr.lines().count()), (0, 1), "one line, on stderr: {stderr}");
    (status.code(), stderr)
}

#[test]
fn a_token_file_is_private_and_holds_a_token() {
    let file = Temporary::private(b"secret\n");
    for mode in [0o644, 0o640, 0o604, 0o660, 0o610, 0o601, 0o602, 0o777] {
        file.allow(mode);
        let (status, told) = refused("0", &["--token-file", file.as_str()]);
        assert!(
            status == Some(2) && told.contains("chmod 600") && told.contains(file.as_str()),
            "{mode:o}: {told}"
        );
    }
    for mode in [0o600, 0o400, 0o700] {
        file.allow(mode);
        Process::start(&["--token-file", file.as_str()]);
    }
    for (bytes, fits) in [(0, false), (1, true), (TOKEN_BYTES_MAX, true), (TOKEN_BYTES_MAX + 1, false)] {
        // A newline at the end is not part of it, whichever way it is written, nor are later lines.
        for end in ["", "\n", "\r\n", "\nmore\n"] {
            let token = "t".repeat(bytes);
            let file = Temporary::private((token.clone() + end).as_bytes());
            match fits {
                true => {
                    let server = Process::start(&["--token-file", file.as_str()]);
                    assert_eq!(server.ask(AUTH.replace("open sesame", &token)), OK, "{bytes} {end:?}");
                }
                false => {
                    let (status, told) = refused("0", &["--token-file", file.as_str()]);
                    assert!(status == Some(2) && told.contains("1 to 2048 bytes"), "{bytes} {end:?}: {told}");
                    assert!(told.contains(file.as_str()), "{told}");
                }
            }
        }
    }
    // So much is read of it that the last character is cut in two.
    let (status, told) =
        refused("0", &["--token-file", Temporary::private("日".repeat(700).as_bytes()).as_str()]);
    assert!(status == Some(2) && told.contains("1 to 2048 bytes"), "{told}");
    let (status, told) = refused("0", &["--token-file", "/no/such/file"]);
    assert!(status == Some(6) && told.contains("/no/such/file"), "{told}");
    let (status, told) = refused("0", &["--token-file", Temporary::private(b"\xff\xff").as_str()]);
    assert!(status == Some(6) && told.contains("UTF-8"), "{told}");
}

/// What the most cautious writers of JSON make of a string: everything beyond ASCII by its UTF-16 numbers.
fn cautious(text: &str) -> String {
    let units = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04x}")).collect();
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        _ if c.is_ascii() => c.to_string(),
        _ => units(c),
    };
    text.chars().map(escape).collect()
}

#[test]
fn every_token_that_a_server_takes_can_be_shown_in_every_dialect() {
    for (longest, last) in [
        ("t".repeat(2048), "t"),
        ("\"".repeat(1024), "\""),
        ("\\".repeat(1024), "\\"),
        ("é".repeat(341), "é"),
        ("日".repeat(341), "日"),
        ("🔑".repeat(170), "🔑"),
        ("a  b".repeat(512), " c"),
    ] {
        assert_eq!(Token::new(&(longest.clone() + last)).unwrap_err(), BadToken::Length, "{longest}");
        let file = Temporary::private(longest.as_bytes());
        // The limit of requests is not that of AUTH.
        let server = Process::start(&["--token-file", file.as_str(), "--max-request", "100"]);
        let json = format!("{{\"request\":\"AUTH\",\"token\":\"{}\"}}", cautious(&longest));
        assert_eq!(server.ask(json.clone() + COUNT), [OK, COUNTED].concat(), "{longest}");
        assert_eq!(server.ask(format!("AUTH {longest}\r\nCOUNT\n")), "MSG ok\nMSG 0\n", "{longest}");
        let frame = |payload: &str| format!("{:<64}{payload}", payload.len());
        assert_eq!(server.ask(frame(&format!("AUTH {longest}\n"))), frame("ok"), "{longest}");
        assert_eq!(server.ask(frame(&json)), frame(OK.trim_end()), "{longest}");
        let client =
            run(st(&["client", "-a", &server.addr.to_string(), "count"]).env("ST_TOKEN", &longest), b"");
        assert_eq!(String::from_utf8_lossy(&client.stdout), "0\n", "{longest}");
    }
    for (text, problem) in [
        ("", BadToken::Length),
        (" t", BadToken::OuterSpace),
        ("t ", BadToken::OuterSpace),
        (" ", BadToken::OuterSpace),
        ("\u{a0}t", BadToken::OuterSpace),
        ("t\tt", BadToken::Control),
        ("\rt", BadToken::Control),
        ("t\nt", BadToken::Control),
        ("t\0", BadToken::Control),
        ("t\u{7f}", BadToken::Control),
        ("t\u{9b}", BadToken::Control),
    ] {
        assert_eq!(Token::new(text).unwrap_err(), problem, "{text:?}");
        // Whoever names the token is told where it is, and never what it is.
        let file = Temporary::private(text.replace('\n', "\r").as_bytes());
        let (status, told) = refused("0", &["--token-file", file.as_str()]);
        assert!(status == Some(2) && told.contains(file.as_str()), "{text:?}: {told}");
    }
}

#[test]
fn the_server_takes_the_token_from_its_environment_too() {
    let with = |token: &str, flags: &[&str]| {
        let mut command = server(flags);
        command.env("ST_TOKEN", token);
        command
    };
    let exec = r#"{"request":"EXEC","data":["env"]}"#;
    let server = Process::spawn(with("open sesame", &["--allow-exec"]));
    assert!(code(&server.ask(COUNT), "denied"));
    let replies = server.ask([AUTH, COUNT, exec].concat());
    assert!(replies.starts_with(&[OK, COUNTED].concat()) && replies.contains("ST_ACTION"), "{replies}");
    assert!(!replies.contains("sesame"), "a program does not inherit it: {replies}");
    // A flag wins, also over a variable that holds no token; and an empty one is none.
    let file = Temporary::private(b"open sesame");
    for token in ["other", " other"] {
        let server = Process::spawn(with(token, &["--token-file", file.as_str()]));
        assert_eq!(server.ask(AUTH), OK);
        assert!(code(&server.ask(AUTH.replace("open sesame", token)), "denied"));
    }
    assert_eq!(Process::spawn(with("", &[])).ask(COUNT), COUNTED);
    for (token, flags, said) in [
        (" t", &[][..], "st: ST_TOKEN: a token must not begin or end with a space\n"),
        ("", &["--allow-exec"], "st: --allow-exec needs --token-file or ST_TOKEN (see 'st server --help')\n"),
    ] {
        let output = with(token, flags).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()),
            (Some(2), said)
        );
    }
    // Beyond this machine it is as good as a file.
    let mut command = st(&["server", "0.0.0.0:0"]);
    command.env("ST_TOKEN", "open sesame").stderr(Stdio::null());
    assert_eq!(Process::spawn(command).ask([AUTH, COUNT].concat()), [OK, COUNTED].concat());
}

#[test]
fn a_refused_auth_is_logged_with_its_peer_a_few_times_a_second_and_without_the_token() {
    in_modes(LASTING, |mode| {
        let file = Temporary::private(b"open sesame");
        let server = Process::logging_in(mode, &["--token-file", file.as_str()]);
        assert_eq!(server.ask(AUTH), OK);
        assert!(code(&server.ask(COUNT), "denied"), "this is no guess");
        let guess = AUTH.replace("open", "hush");
        let mut stream = server.connect();
        assert!(code(&exchange(&mut stream, &guess), "denied"));
        let peer = stream.local_addr().unwrap();
        drop(stream);
        let told = |log: &str| log.lines().filter(|line| line.contains("event=auth_refused")).count();
        eventually("it is told", || told(&server.log()) == 1);
        let log = server.log();
        let line = log.lines().find(|line| line.contains("auth_refused")).unwrap();
        assert!(line.contains("level=info") && line.ends_with(&format!("peer={peer}")), "{line}");
        // Many are told a few times a second, and counted, as what repeats is.
        let sum = |log: &str| -> usize {
            let refused = log.lines().filter(|line| line.contains("event=auth_refused"));
            let count = |line: &str| line.split_once("suppressed=").map_or(1, |(_, n)| n.parse().unwrap());
            refused.map(count).sum()
        };
        for line in std::iter::repeat_n(["AUTH hush\n", &guess], 100).flatten() {
            assert!(server.ask(line).contains("not the token"));
        }
        eventually("every one is told or counted", || sum(&server.log()) == 201);
        let log = server.log();
        assert!(!log.contains("hush") && !log.contains("sesame") && told(&log) < 201, "{log}");
    });
}

#[test]
fn tokens_are_compared_whole() {
    for (secret, shown, same) in [
        ("a", "a", true),
        ("secret", "secret", true),
        ("secret", "", false),
        ("secret", "secre", false),
        ("secret", "secretsecret", false),
        ("secret", "Secret", false),
        ("secret", "secres", false),
        ("aa", "a", false),
        ("a", "aa", false),
        ("é", "e", false),
    ] {
        assert_eq!(Token::new(secret).unwrap().matches(shown), same, "{secret} {shown}");
    }
    assert_eq!(format!("{:?}", Token::new("secret").unwrap()), "Token(…)");
}

#[test]
fn beyond_this_machine_only_with_a_token_or_on_demand() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let (status, told) = refused(address, &[]);
        assert!(status == Some(2) && told.contains("--token-file") && told.contains("--insecure"), "{told}");
    }
    let file = Temporary::private(b"open sesame");
    for flags in [&["--insecure"][..], &["--token-file", file.as_str()]] {
        // The last operand wins nothing: `server` adds a port, so the address goes to a command of its own.
        let log = Temporary::new();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_st"));
        command.arg("server").args(flags).arg("0.0.0.0:0");
        command.stderr(std::fs::File::create(&log.0).unwrap());
        let server = Process::spawn(command);
        assert_eq!(server.ask([AUTH, COUNT].concat()), [OK, COUNTED].concat());
        let told = || std::fs::read_to_string(&log.0).unwrap();
        eventually("there is a warning", || told().contains("event=listening"));
        let told = told();
        let warning = told.lines().find(|line| line.contains("event=exposed")).expect("a warning");
        assert!(warning.contains("encrypted") && warning.contains("ssh -L"), "{warning}");
    }
    // Of this machine's own addresses none needs one.
    for address in ["127.0.0.1:0", "localhost:0", "127.0.0.2:0"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_st"));
        command.args(["server", address]).stderr(std::process::Stdio::null());
        assert_eq!(Process::spawn(command).ask(COUNT), COUNTED);
    }
}

#[test]
fn the_client_takes_the_token_from_a_file_or_its_environment() {
    let (server, file) = guarded(Mode::EVENT);
    let addr = server.addr.to_string();
    let client = |flags: &[&str], token: Option<&str>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_st"));
        command.args(["client", "-a", &addr, "-r", "0"]).args(flags).arg("count");
        match token {
            Some(token) => command.env("ST_TOKEN", token),
            None => command.env_remove("ST_TOKEN"),
        };
        let Output { status, stdout, stderr } = command.output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(!stderr.contains("sesame"), "{stderr}");
        (status.code(), String::from_utf8(stdout).unwrap())
    };
    let counted = (Some(0), "0\n".to_owned());
    assert_eq!(client(&["--token-file", file.as_str()], None), counted);
    assert_eq!(client(&[], Some("open sesame")), counted);
    assert_eq!(client(&["--token-file", file.as_str()], Some("other")), counted, "a flag wins");
    assert_eq!(client(&[], None).0, Some(5));
    assert_eq!(client(&[], Some("other sesame")).0, Some(5));
    assert_eq!(client(&["--token", "open sesame"], None).0, Some(2), "never on the command line");
    file.allow(0o644);
    assert_ne!(
        client(&["--token-file", file.as_str()], None).0,
        Some(0),
        "nor from a file that all can read"
    );
}

#[test]
fn help_names_no_way_to_type_a_token() {
    let help = server(&["--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--token-file") && !help.contains("--token "), "{help}");
}
