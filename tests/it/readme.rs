//! README's first screen, its action, and what it says of the Makefile. The recipes have a file of their own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::support::{Server, run};

/// Types the first screen as it stands there, and compares what comes out with what it shows.
#[cfg(unix)]
pub fn type_first_screen(shell: &str, server: &Server) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let screen = text.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
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
                let mut shell = Command::new(shell);
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

/// Everybody who says how long the soak takes says the same.
#[test]
fn the_soak_takes_as_long_as_every_file_says() {
    for file in ["README.md", "Makefile", "Cargo.toml"] {
        let text = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let told: Vec<_> = text.lines().filter(|line| line.to_lowercase().contains(" minutes")).collect();
        assert_eq!(told.len(), 1, "{file}: {told:?}");
        assert!(told[0].to_lowercase().contains("two minutes of hostile"), "{file}: {told:?}");
    }
}

/// The blocks of a language, in the section of this title.
fn blocks<'t>(text: &'t str, section: &str, language: &str) -> Vec<&'t str> {
    let section = text.split("\n## ").find(|part| part.starts_with(section)).unwrap();
    let fence = format!("```{language}\n");
    section.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The first terminal types two lines and has a server; the second one asks it.
#[cfg(unix)]
#[test]
fn a_new_action_is_two_lines_of_shell() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (sh, output) = (blocks(&text, "Actions of", "sh"), blocks(&text, "Actions of", "text"));
    let [server, client] = sh[..] else { panic!("{sh:?}") };
    assert_eq!(server.lines().count(), 2);
    let bin = Path::new(env!("CARGO_BIN_EXE_st")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let dir = std::env::temp_dir().join(format!("st-readme-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(&dir).env("PATH", &path);
        command
    };
    // On a port of its own, and in the shell's place, so that it can be ended.
    let server = server.trim_end().replace("st server", "exec st server") + " 0";
    let server = Server::spawn(shell(&server));
    let asked = run(shell(client).env("ST_ADDR", &server.addr), b"");
    drop(server);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(String::from_utf8_lossy(&asked.stdout), output.concat());
    assert!(asked.stderr.is_empty(), "{}", String::from_utf8_lossy(&asked.stderr));
}
