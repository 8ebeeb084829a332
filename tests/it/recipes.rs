//! The README from its first screen to its last recipe, typed as it stands there: on one server, in every
//! shell there is.

use std::path::Path;
use std::process::Command;

use crate::support::{Server, run, st};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

/// A recipe: its title, what to type, what comes out.
struct Recipe {
    title: String,
    script: String,
    output: String,
}

/// The blocks of the section "Recipes": each `sh` block with the `text` block that follows it.
fn recipes() -> Vec<Recipe> {
    let text = std::fs::read_to_string(README).unwrap();
    let section = text
        .split("\n## ")
        .chain([&*text])
        .find(|part| part.trim_start_matches("## ").starts_with("Recipes\n"));
    let mut recipes: Vec<Recipe> = Vec::new();
    let (mut title, mut block) = (String::new(), None);
    for line in section.expect("README has a section Recipes").lines() {
        match (line, block) {
            ("```", Some(_)) => block = None,
            (line, Some("sh")) => recipes.last_mut().unwrap().script += &format!("{line}\n"),
            (line, Some(_)) => recipes.last_mut().unwrap().output += &format!("{line}\n"),
            ("```sh", None) => {
                block = Some("sh");
                recipes.push(Recipe { title: title.clone(), script: String::new(), output: String::new() });
            }
            ("```text", None) => block = Some("text"),
            (line, None) => title = line.strip_prefix("### ").map_or(title, str::to_owned),
        }
    }
    recipes
}

#[cfg(unix)]
#[test]
fn readme_s_lines_run_top_to_bottom_on_one_server_give_what_it_shows() {
    let recipes = recipes();
    assert!(recipes.len() >= 8, "{}", recipes.len());
    let bin = Path::new(env!("CARGO_BIN_EXE_st")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let there =
        |shell: &&str| Command::new(shell).args(["-c", ":"]).status().is_ok_and(|status| status.success());
    let shells: Vec<&str> = ["sh", "bash", "dash", "zsh"].into_iter().filter(there).collect();
    assert!(!shells.is_empty());
    // Some need a program that a machine may not have.
    let has = |program: &&str| Command::new(program).arg("--version").output().is_ok();
    let (_, lacking): (Vec<&str>, Vec<&str>) = ["python3", "bash", "jq"].into_iter().partition(has);
    let can_run = |recipe: &&Recipe| !lacking.iter().any(|program| recipe.script.contains(program));
    for shell in shells {
        let (server, other) = (Server::start(&[]), Server::start(&[]));
        let dir = std::env::temp_dir().join(format!("st-recipe-{}-{shell}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        crate::readme::type_first_screen(shell, &server);
        for Recipe { title, script, output } in recipes.iter().filter(can_run) {
            let mut command = Command::new(shell);
            command.arg("-c").arg(script).current_dir(&dir).env("PATH", &path);
            command.env("ST_ADDR", &server.addr).env("OTHER", &other.addr);
            let ran = run(&mut command, b"");
            let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
            assert_eq!((&*out, &*err), (&**output, ""), "{title}, in {shell}");
            assert!(ran.status.success(), "{title}, in {shell}: {}", ran.status);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn changing_a_value_ends_whatever_there_is_to_change() {
    use std::time::{Duration, Instant};
    let recipes = recipes();
    let script = &recipes.iter().find(|recipe| recipe.title.starts_with("Change a value")).unwrap().script;
    let (_, change) = script.split_once('\n').unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_st")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let server = Server::start(&[]);
    for (addr, before, after) in [
        (&*server.addr, "incr stock 10", "7\n"),
        (&server.addr, "del stock", ""),
        ("127.0.0.1:1", "count", ""),
    ] {
        run(st(&["client", "-qr0", "-a", addr]).args(before.split(' ')), b"");
        let mut command = Command::new("sh");
        command.args(["-c", change]).env("PATH", &path).env("ST_ADDR", addr).env("ST_RETRY", "0");
        let mut shell = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while shell.try_wait().unwrap().is_none() {
            if began.elapsed() > Duration::from_secs(20) {
                shell.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap(), after, "{before}");
    }
}

/// No container here, but its words, its secret, and a place where nothing can be written.
#[cfg(unix)]
#[test]
fn what_the_container_runs_serves() {
    let text = std::fs::read_to_string(README).unwrap();
    let words = text.split_once("\"ST_TOKEN=$(cat token)\" st ").unwrap().1.lines().next().unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    assert_eq!(words[..1], ["server"]);
    let words: Vec<&str> =
        words.iter().map(|word| if *word == "0.0.0.0:7777" { "127.0.0.1:0" } else { word }).collect();
    let mut command = st(&words);
    command.current_dir("/proc").env("ST_TOKEN", "s3cret");
    let server = Server::spawn(command);
    let ask = |token: &str| {
        run(st(&["client", "-a", &server.addr, "hello"]).env("ST_TOKEN", token), b"").status.code()
    };
    assert_eq!((ask("s3cret"), ask("other")), (Some(0), Some(5)));
}
