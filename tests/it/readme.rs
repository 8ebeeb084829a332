//! README's first screen, typed as it stands there.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::support::{Server, run};

#[cfg(unix)]
#[test]
fn the_first_screen_is_what_a_new_user_sees() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let screen = text.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let server = Server::start(&[]);
    let bin = Path::new(env!("CARGO_BIN_EXE_st")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut typed = 0;
    for entry in screen.split("$ ").skip(1) {
        let (command, output) = entry.split_once('\n').unwrap();
        // The one line that starts the server: this one has a port of its own.
        if command.starts_with("st server") {
            assert_eq!(output.lines().next(), Some("127.0.0.1:7777"));
            continue;
        }
        let seen = match command.split_once(" | nc ") {
            // The same bytes without nc, which a machine may not have.
            Some((echo, _)) => {
                let request = echo.strip_prefix("echo '").and_then(|rest| rest.strip_suffix('\'')).unwrap();
                let mut stream = TcpStream::connect(&server.addr).unwrap();
                stream.write_all(format!("{request}\n").as_bytes()).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut reply = String::new();
                stream.read_to_string(&mut reply).unwrap();
                reply
            }
            None => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", &format!("({command}) 2>&1")])
                    .env("PATH", &path)
                    .env("ST_ADDR", &server.addr);
                String::from_utf8(run(&mut shell, b"").stdout)
                    .unwrap()
                    .replace(&server.addr, "127.0.0.1:7777")
            }
        };
        assert_eq!(seen, output, "{command}");
        typed += 1;
    }
    assert!(typed >= 5, "{typed}");
}
