//! README's first screen, its action, and what it says of the Makefile. The recipes have a file of their own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;

use socket_tables::protocol::Verb;

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

#[test]
fn every_request_has_its_row() {
    let known = Verb::ALL.iter().map(|verb| verb.as_str());
    for name in known.chain(["HELLO", "TIME", "INFO", "ECHO", "EXEC", "HISTORY"]) {
        let rows = README.lines().filter(|line| line.starts_with("| `"));
        let named =
            rows.filter(|row| row.split(" |").next().is_some_and(|cell| cell.contains(&format!("`{name}`"))));
        assert_eq!(named.count(), 1, "{name}");
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

/// Runs a program in Python, and gives what it prints; `None` where there is no Python.
fn python(script: &str) -> Option<String> {
    let version = Command::new("python3").arg("--version").output();
    version.is_ok_and(|version| version.status.success()).then(|| {
        let output = run(&mut Command::new("python3"), script.as_bytes());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    })
}

const README: &str = include_str!("../../README.md");

#[test]
fn eighteen_lines_of_python_do_what_socket_tables_client_did() {
    let [client, example] = blocks(README, "From the five", "python")[..] else { panic!("two programs") };
    assert_eq!(client.lines().count(), 18);
    let server = Server::start(&[]);
    let connect = format!("SocketTableClient(port={})", server.addr.rsplit_once(':').unwrap().1);
    assert!(example.contains("SocketTableClient()"));
    let example = example.replace("SocketTableClient()", &connect);
    let Some(printed) = python(&format!("{client}\n{example}")) else { return };
    assert_eq!(printed, blocks(README, "From the five", "text").concat());
    // A value of any size and kind comes back, a stored null is no missing key, and an error is raised.
    let more = format!(
        "{client}\nclient = {connect}\nvalue = {{'é\\n': [1.5, None, 'x' * 100000]}}\n\
         assert client.update('a', value) == value and client.get('a') == value\n\
         client.update('n', None)\nassert client.get('n', 7) is None and client.get('m', 7) == 7\n\
         assert client.delete('m') is None and len(client.getAll()) == 2\n\
         try: client.get('')\nexcept RuntimeError as error: print(error)\nassert client.get('m') is None\n"
    );
    assert_eq!(python(&more).unwrap(), "a key may not be empty\n");
}

#[cfg(unix)]
#[test]
fn an_action_is_four_lines_of_python() {
    use std::os::unix::fs::PermissionsExt;
    if python("").is_none() {
        return;
    }
    let [program] = blocks(README, "Actions of", "python")[..] else { panic!("one program") };
    let [screen] = blocks(README, "Actions of", "console")[..] else { panic!("one screen") };
    let dir = std::env::temp_dir().join(format!("st-readme-python-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("longest");
    std::fs::write(&file, program).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(screen.contains("--action LONGEST=\"$PWD/longest\""));
    let server = Server::start(&["--action", &format!("LONGEST={}", file.display())]);
    let shell = |words: &str| {
        let bin = Path::new(env!("CARGO_BIN_EXE_st")).parent().unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        run(Command::new("sh").args(["-c", words]).env("PATH", path).env("ST_ADDR", &server.addr), b"")
    };
    let (asked, answer) =
        screen.split_once("$ st client").and_then(|(_, rest)| rest.split_once('\n')).unwrap();
    assert_eq!(String::from_utf8(shell(&format!("st client{asked}")).stdout).unwrap(), answer);
    // What it raises reaches the client.
    let raised = shell("st client call LONGEST ''");
    let said = String::from_utf8(raised.stderr).unwrap();
    assert!(raised.status.code() == Some(5) && said.contains("action_failed: LONGEST failed"), "{said}");
    std::fs::remove_dir_all(&dir).unwrap();
}
