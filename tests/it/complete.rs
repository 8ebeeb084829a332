//! What the shell is told when TAB is pressed, asked as bash asks.

use crate::support::{Server, own_address, run, st};

/// What is offered where the line is this and the cursor at its end.
fn offered(server: &str, line: &str) -> Vec<String> {
    // Bash's own idea of the word at the cursor.
    let word = line.rsplit([' ', ':', '=']).next().unwrap();
    at(server, line, line.len(), word)
}

fn at(server: &str, line: &str, point: usize, word: &str) -> Vec<String> {
    let mut asked = st(&["st", word, "before"]);
    asked.env("COMP_LINE", line).env("COMP_POINT", point.to_string()).env("ST_ADDR", server);
    let output = run(&mut asked, b"");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn words_that_fit_are_offered() {
    let server = Server::start(&["--action", "SHOUT=/bin/cat", "--action", "SHIFT=/bin/cat"]);
    for key in ["user:ann", "user:bob", "door", "two words", "$(reboot)", "--prefix", "ünal"] {
        let stored = run(&mut st(&["client", "-a", &server.addr, "set", "--", key, "1"]), b"");
        assert!(stored.status.success());
    }
    let other = Server::start(&[]);
    for (line, expected) in [
        ("st ", "server client bench json journal help"),
        ("st je", ""),
        ("st j", "json journal"),
        ("st --v", "--version"),
        ("st help cl", "client"),
        ("st client ge", "get getall"),
        ("st client -jq --timeout 2 ge", "get getall"),
        ("st client help wat", "watch"),
        ("st client --to", "--token-file"),
        // Of the options that begin so, some belong to other commands.
        ("st client watch --co", "--count"),
        ("st client get --co", ""),
        ("st client hold --co", "--conflict-exit-code"),
        ("st client --timeout ", ""),
        ("st client --frob get ", ""),
        // What could act on the shell, or be an option, is not offered.
        ("st client get ", "door user:ann user:bob ünal"),
        ("st client get d", "door"),
        // Of a word with a colon bash replaces what comes after it.
        ("st client get user:", "ann bob"),
        ("st client get user:b", "bob"),
        ("st client delete door user:a", "ann"),
        ("st client keys us", "user:ann user:bob"),
        ("st client get door ", ""),
        ("st client watch --prefix us", ""),
        ("st client get 'us", ""),
        ("st client call SH", "SHIFT SHOUT"),
        ("st client call GE", ""),
        ("st client call SHOUT ", ""),
        ("st client frob ", ""),
        ("st server --thr", "--threads"),
        ("st server ", ""),
        ("st bench --dep", "--depth"),
        ("st json --comp", "--compact"),
        ("st journal ", "check repair"),
        ("st journal check ", ""),
        ("st nothing ", ""),
    ] {
        assert_eq!(offered(&server.addr, line), expected.split_whitespace().collect::<Vec<_>>(), "{line:?}");
    }
    // The server that the line names counts.
    let line = format!("st client -a {} get d", other.addr);
    assert!(offered(&server.addr, &line).is_empty());
    let line = format!("st client -a {} get d", server.addr);
    assert_eq!(offered(&other.addr, &line), ["door"]);
    // What stands behind the cursor does not.
    assert_eq!(at(&server.addr, "st cl get door", 5, "cl"), ["client"]);
    // A cursor that is nowhere, or within a character, is at the end.
    assert_eq!(at(&server.addr, "st client get ün", 15, "ün"), ["ünal"]);
    assert_eq!(at(&server.addr, "st cl", 99, "cl"), ["client"]);
}

#[test]
fn where_there_is_no_server_nothing_is_said() {
    let nobody = own_address().replace(":0", ":1");
    for line in ["st client get d", "st client call S"] {
        assert!(offered(&nobody, line).is_empty());
    }
    // Not even to whom nobody lets in.
    let server = {
        let mut command = st(&["server", "0"]);
        command.env("ST_TOKEN", "secret");
        Server::spawn(command)
    };
    assert!(offered(&server.addr, "st client get d").is_empty());
}

#[test]
fn a_variable_that_was_inherited_changes_nothing() {
    let server = Server::start(&[]);
    for (words, exit) in
        [(&["client", "get", "door"][..], 1), (&["client", "count"], 0), (&["json", "--frob", "x"], 2)]
    {
        let mut command = st(words);
        let output = run(command.env("COMP_LINE", "st client ").env("ST_ADDR", &server.addr), b"");
        assert_eq!(output.status.code(), Some(exit), "{words:?}");
    }
    // Three words, but not for a command of that name.
    let mut command = st(&["client", "set", "client"]);
    let output = run(command.env("COMP_LINE", "st client ").env("ST_ADDR", &server.addr), b"");
    assert_eq!(output.status.code(), Some(2));
}
