//! The token: who shows it is let in, who does not is not, and nobody else can read it.

use std::io::Write;
use std::process::Output;
use std::time::{Duration, Instant};

use socket_tables::token::{TOKEN_BYTES_MAX, Token};

use crate::process::{COUNT, COUNTED, Process, Temporary, exchange, ms, rest, server, side_by_side};

const AUTH: &str = r#"{"request":"AUTH","token":"open sesame"}"#;
const OK: &str = "{\"value\":\"ok\"}\n";

fn guarded() -> (Process, Temporary) {
    let file = Temporary::private(b"open sesame\n");
    (Process::start(&["--token-file", file.as_str()]), file)
}

fn code(reply: &str, code: &str) -> bool {
    reply.lines().count() == 1 && reply.contains(&format!("{{\"code\":\"{code}\""))
}

#[test]
fn who_shows_the_token_is_let_in_and_nobody_else() {
    let (server, _file) = guarded();
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
    assert_eq!(Process::start(&[]).ask([AUTH, COUNT].concat()), [OK, COUNTED].concat());
}

#[test]
fn before_auth_size_and_time_are_short() {
    let (server, _file) = guarded();
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
            let server = Process::start(&["--token-file", file.as_str(), "--deadline", "0.5"]);
            let mut stream = server.connect();
            let since = Instant::now();
            stream.write_all(b"{").unwrap();
            assert!(code(&rest(&mut stream), "denied"));
            assert!(since.elapsed() >= ms(480) && since.elapsed() < five, "{:?}", since.elapsed());
        },
    ]);
}

/// What becomes of a server that should not start.
fn refused(address: &str, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_st"));
    let Output { status, stdout, stderr } = command.arg("server").args(flags).arg(address).output().unwrap();
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
                }
            }
        }
    }
    let (status, told) = refused("0", &["--token-file", "/no/such/file"]);
    assert!(status == Some(6) && told.contains("/no/such/file"), "{told}");
    let (status, told) = refused("0", &["--token-file", Temporary::private(b"\xff\xff").as_str()]);
    assert!(status == Some(6) && told.contains("UTF-8"), "{told}");
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
        let told = std::fs::read_to_string(&log.0).unwrap();
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
    let (server, file) = guarded();
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
