//! The housekeeper: what must not creep in, checked where it would creep in.

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a source file, its unit tests included.
const FILE_LINES_MAX: usize = 400;

/// The most lines of a function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 60;

/// The rooms in their order: each knows only those before it. With each, the parts of `std` that it may touch of
/// those that are kept for few.
#[rustfmt::skip]
const ROOMS: &[(&str, &[&str])] = &[
    ("sys",      &["sync", "process"]),
    ("json",     &[]),
    ("protocol", &["fs", "net", "env"]),
    ("store",    &["sync", "time", "fs", "thread"]),
    ("actions",  &["fs", "process", "time", "thread", "sync", "env"]),
    ("session",  &["sync"]),
    ("server",   &["net", "thread", "time", "sync"]),
    ("client",   &["net", "time", "thread", "sync"]),
    ("cli",      &["env", "fs", "net", "process", "thread", "time", "sync"]),
    ("main",     &["env", "fs", "process"]),
];

/// Ways to reach a part of `std`, by the names that [`ROOMS`] uses.
const PARTS: &[(&str, &[&str])] = &[
    ("fs", &["std::fs", "fs::File"]),
    ("net", &["std::net", "TcpStream", "TcpListener"]),
    ("process", &["process::Command", "process::exit"]),
    ("thread", &["std::thread", "thread::spawn"]),
    ("time", &["Instant", "SystemTime"]),
    ("sync", &["Mutex", "RwLock", "Condvar", "mpsc", "Atomic"]),
    ("env", &["env::var", "env::args"]),
];

const NEVER: &[&str] = &[
    ".unwrap()",
    "todo!",
    "unimplemented!",
    "dbg!",
    "println!",
    "eprintln!",
    "print!(",
    "TODO",
    "FIXME",
    "#[ignore",
    "Box<dyn Error>",
    "Box<dyn std::error::Error>",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Each source file: its path below `src`, its whole text, and its code without tests and comments.
fn sources() -> Vec<(String, String, String)> {
    let src = root().join("src");
    let mut paths = Vec::new();
    files(&src, &mut paths);
    assert!(paths.len() > 20, "found only {} files", paths.len());
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        let tests = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
        let lines = text[..tests].lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n");
        (name, text, code)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn there_are_no_dependencies_but_proptest_for_tests() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = |name: &str| -> Vec<String> {
        let from = manifest.split_once(&format!("\n[{name}]\n")).unwrap().1;
        let body = from.split("\n[").next().unwrap();
        let lines = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| line.split([' ', '=']).next().unwrap().to_owned()).collect()
    };
    assert_eq!(section("dependencies"), Vec::<String>::new());
    assert_eq!(section("dev-dependencies"), ["proptest"]);
    assert!(!manifest.contains("build-dependencies") && !manifest.contains("[target"));
}

#[test]
fn git_ignores_what_tests_leave() {
    let ignored = fs::read_to_string(root().join(".gitignore")).unwrap();
    for left in ["/target", "/tests/proptest-regressions"] {
        assert!(ignored.lines().any(|line| line == left), "{left}");
    }
}

#[test]
fn the_top_level_holds_what_it_should_and_nothing_else() {
    let known = ["Cargo.toml", "Cargo.lock", "src", "tests", "README.md", "Makefile", "target"];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || known.contains(&&*name), "{name} does not belong there");
    }
}

#[test]
fn source_files_are_short_begin_with_their_reason_and_hold_nothing_forbidden() {
    for (name, text, code) in sources() {
        assert!(text.starts_with("//! "), "{name} must begin with what it is and why");
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{name} has {lines} lines: cut it by idea");
        let code = code.replace("forbid(unsafe_code)", "").replace("deny(unsafe_code)", "");
        assert_eq!(NEVER.iter().find(|never| code.contains(**never)), None, "{name} holds this");
        assert!(name == "sys.rs" || !code.contains("unsafe"), "{name} holds unsafe code: sys.rs is for that");
    }
}

#[test]
fn functions_fit_on_a_screen() {
    let mut seen = 0;
    for (name, text, _) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let words = line.trim_start();
            let begins = ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "const fn ", "pub const fn "];
            if !begins.iter().any(|begin| words.starts_with(begin)) || line.ends_with(';') {
                continue;
            }
            // rustfmt closes a function at the indentation at which it began, or on its own line.
            let close = format!("{}}}", &line[..line.len() - words.len()]);
            let length = match line.ends_with('}') {
                true => 1,
                false => 1 + lines[at..].iter().position(|line| *line == close).unwrap(),
            };
            assert!(length <= FUNCTION_LINES_MAX, "{name}:{} has {length} lines: {words}", at + 1);
            seen += 1;
        }
    }
    assert!(seen > 500, "saw only {seen} functions");
}

/// What a file uses of the files beside it: `super::name`, alone or in braces.
fn siblings(code: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let uses = code.split("super::").skip(1).flat_map(|rest| {
        let list = rest.strip_prefix('{').map_or(rest, |list| list.split(';').next().unwrap());
        let all = if list.len() < rest.len() { list.split([',', '}', '\n']).collect() } else { vec![rest] };
        all.into_iter().map(move |one: &str| one.trim_start().split(|c| !is_word(c)).next().unwrap())
    });
    uses.filter(|word| !word.is_empty()).collect()
}

#[test]
fn no_files_of_a_room_use_one_another_in_a_circle() {
    let sources = sources();
    let mut uses: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for (name, _, code) in &sources {
        if let Some((room, file)) = name.split_once('/').filter(|(_, file)| *file != "mod.rs") {
            uses.push((room, file.strip_suffix(".rs").unwrap(), siblings(code)));
        }
    }
    // What uses nothing that is left is taken out, again and again; a circle is what cannot be.
    loop {
        let left: Vec<(&str, &str)> = uses.iter().map(|(room, file, _)| (*room, *file)).collect();
        uses.retain(|(room, file, used)| {
            used.iter().any(|other| other != file && left.contains(&(*room, *other)))
        });
        if uses.len() == left.len() {
            break;
        }
    }
    assert!(uses.is_empty(), "a circle, and who uses it: {uses:?}");
}

#[test]
fn what_a_file_uses_of_those_beside_it_is_found() {
    let code = "use super::one::A;\nuse super::{\n    B, two,\n    three::{C, D},\n};\nuse super::Run;";
    assert_eq!(siblings(code), ["one", "B", "two", "three", "D", "Run"]);
}

#[test]
fn files_that_readers_are_sent_to_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let named: Vec<&str> = readme.split('`').filter(|words| words.starts_with("src/")).collect();
    assert!(named.len() > 15, "{named:?}");
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rooms = ROOMS.iter().map(|(room, _)| format!("{room}/"));
    let rooms: Vec<String> = rooms.collect();
    let in_map = map.split('`').filter(|words| rooms.iter().any(|room| words.starts_with(room.as_str())));
    let in_map: Vec<String> = in_map.map(|words| format!("src/{words}.rs")).collect();
    assert!(in_map.len() > 10, "{in_map:?}");
    for path in named.into_iter().map(str::to_owned).chain(in_map) {
        assert!(root().join(&path).exists(), "{path} is named and does not exist");
    }
}

#[test]
fn each_room_knows_only_those_before_it() {
    let place = |room: &str| ROOMS.iter().position(|(name, _)| *name == room);
    for (name, _, code) in sources() {
        let room = name.split(['/', '.']).next().unwrap();
        if room == "lib" {
            continue;
        }
        let at = place(room)
            .unwrap_or_else(|| panic!("{name} is in no room of the map; add it there and to lib.rs"));
        let used = code.split("crate::").skip(1).chain(code.split("socket_tables::").skip(1));
        for used in used.filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()) {
            assert!(place(used).is_none_or(|used| used <= at), "{name} uses {used}, which comes after it");
        }
        for (part, signs) in PARTS.iter().filter(|(part, _)| !ROOMS[at].1.contains(part)) {
            let code = code.replace("ErrorKind", "");
            let used = signs.iter().find(|sign| code.contains(**sign));
            assert_eq!(used, None, "{name} uses this, but {part} is not for {room}");
        }
    }
}

#[test]
fn one_place_prints() {
    for (name, _, code) in sources() {
        let code = code.replace("stdout().is_terminal()", "").replace("stderr().is_terminal()", "");
        for sign in ["stdout()", "stderr()"] {
            assert!(
                name == "main.rs" || !code.contains(sign),
                "{name} holds {sign}; main.rs hands writers down"
            );
        }
    }
}
