//! A session of `st client`: what its lines mean beside the commands of a command line, and how it ends.

use socket_tables::actions::Call;
use socket_tables::json::{JsonText, Value};
use socket_tables::server::Server;

use crate::server::{Running, in_mode};
use crate::support::{self, own_address, run, st};

/// The exit code, stdout and stderr of a session with these lines, in which the server's address is A.
fn session(address: &str, options: &[&str], lines: &str) -> (i32, String, String) {
    let output = run(st(&["client", "-a", address]).args(options), lines.as_bytes());
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(address, "A");
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn said(out: &str) -> (i32, String, String) {
    (0, out.into(), String::new())
}

/// A server with two actions of these names, which give back what they get.
fn server_with(one: &str, other: &str) -> Running {
    let same = |call: &Call<'_>| Ok(call.data().cloned().map_or("none".into(), JsonText::into_owned));
    let server = Server::bind(own_address()).unwrap().action(one, same).unwrap().action(other, same).unwrap();
    Running::run(server)
}

#[test]
fn the_wire_s_own_words_take_the_wire_s_arguments() {
    let server = in_mode(socket_tables::server::Mode::EVENT);
    let address = &server.address.to_string();
    let lines =
        "UPDATE door wide  open\nGET door\nECHO\nECHO a b\nUPDATE n 1\nINCREMENT n\nCOUNT\nDELETE n\n";
    assert_eq!(session(address, &[], lines), said("wide open\nnull\na b\n2\n2\n"));
    let help = session(address, &[], "help close\n").1;
    assert!(help.contains("Commands:"), "{help}");
    // A slip is one, whether or not a server can be asked what it has.
    let slip = "st: line 1: no command \"gte\"; did you mean 'get'? (see 'help')\n";
    assert_eq!(session("127.0.0.1:1", &["-r0"], "gte a\n"), (2, String::new(), slip.into()));
    assert_eq!(session("127.0.0.1:1", &["-r0"], "SHOUT a\n").0, 3);
}

#[test]
fn the_name_of_an_action_is_a_command() {
    let shout = |call: &Call<'_>| Ok(Value::from(call.data_str()?.to_uppercase()));
    let same =
        |call: &Call<'_>| Ok(call.data().cloned().map_or(JsonText::string("none"), JsonText::into_owned));
    let server = Server::bind(own_address()).unwrap();
    let server = server.action("SHOUT", shout).unwrap().action("A-1_B", same).unwrap();
    let server = Running::run(server);
    let address = &server.address.to_string();
    let ask = |lines: &str| session(address, &[], lines);
    assert_eq!(ask("SHOUT hi\nshout 'to  be' or\tnot\nShout -5\n"), said("HI\nTO  BE OR NOT\n-5\n"));
    assert_eq!(ask("A-1_B\n-j a-1_b '[1, 2]'\n-n A-1_B -j\n"), said("none\n[1,2]\n-j"));
    // In capitals an action goes before a command of that name, and the rest of the line is its data.
    let twice = server_with("SET", "HELLO");
    let ask_twice = |lines: &str| session(&twice.address.to_string(), &[], lines);
    assert_eq!(
        ask_twice("SET a b\nHELLO you  all\nHELLO\nset a c\nget a\nhello\n"),
        said("a b\nyou all\nnone\nc\nnone\n")
    );
    // What no command and no action is called is a slip, as ever.
    let slip = "st: line 1: no command \"gte\"; did you mean 'get'? (see 'help')\n";
    assert_eq!(ask("gte a\nSHOUT x\n"), (2, String::new(), slip.into()));
    let refused = (5, String::new(), "st: line 1: A: bad_request: SHOUT needs \"data\": a string\n".into());
    assert_eq!(ask("SHOUT\nSHOUT x\n"), refused);
    // On a command line it is not, since nobody knows there what actions the server has.
    let words = run(&mut st(&["client", "-a", address, "SHOUT", "hi"]), b"");
    let hint = "did you mean 'st client call SHOUT hi'?";
    assert!(words.status.code() == Some(2) && String::from_utf8(words.stderr).unwrap().contains(hint));
}

#[test]
fn a_catch_all_gets_no_slip_of_the_tongue() {
    let caught = |_: &Call<'_>| Ok(Value::from("caught"));
    let server = Running::run(Server::bind(own_address()).unwrap().fallback(caught).unwrap());
    let address = &server.address.to_string();
    let slip = "st: line 1: no command \"udpate\"; did you mean 'update'? (see 'help')\n";
    assert_eq!(session(address, &[], "udpate door open\n"), (2, String::new(), slip.into()));
    assert_eq!(session(address, &[], "call ANYTHING\n"), said("caught\n"));
}

/// Whatever goes wrong in a pipe, it ends the session, with its exit code and the number of its line.
#[test]
fn in_a_pipe_the_first_error_of_any_kind_ends_it() {
    let server = in_mode(socket_tables::server::Mode::EVENT);
    let address = &server.address.to_string();
    for (line, exit, text) in [
        ("get", 2, "KEY is missing (see 'help get')"),
        ("get a b c", 2, "a word too many: \"c\" (see 'help get')"),
        ("frobnicate", 2, "no command \"frobnicate\" (see 'help')"),
        ("get 'a", 2, "the quote ' is not closed"),
        ("-T x get a", 2, "-T wants seconds"),
        ("-j set a {", 2, "the value is not JSON"),
        ("get none", 1, "A: no key \"none\""),
        ("call FROB", 5, "A: unknown_request: no request is named FROB"),
        ("exec true", 5, "A: denied: "),
    ] {
        let (code, out, error) = session(address, &[], &format!("echo before\n{line}\necho after\n"));
        assert_eq!((code, out.as_str()), (exit, "before\n"), "{line}: {error}");
        assert!(error.starts_with(&format!("st: line 2: {text}")), "{line}: {error}");
        assert_eq!(error.lines().count(), 1, "{line}: {error}");
    }
    let help = String::from_utf8(run(&mut st(&["client", "--help"]), b"").stdout).unwrap();
    assert!(help.contains("in a pipe the first error ends it"), "{help}");
}

#[test]
fn a_session_shows_its_token() {
    let mut command = st(&["server", "--allow-exec", "0"]);
    command.env("ST_TOKEN", "s3cret");
    let server = support::Server::spawn(command);
    let (code, out, error) = session(&server.addr, &[], "count\n");
    assert!(code == 5 && out.is_empty() && error.contains("denied"), "{error}");
    assert_eq!(session(&server.addr, &[], "AUTH s3cret\ncount\nexec echo -n hi\n"), said("ok\n0\nhi"));
    let (code, _, error) = session(&server.addr, &[], "auth wrong\ncount\n");
    assert!(code == 5 && error.starts_with("st: line 1: A: denied"), "{error}");
    // A single word that no program is called by is a line for the server's shell.
    let exec = |word: &str| {
        let mut client = st(&["client", "-a", &server.addr, "exec", word]);
        let output = run(client.env("ST_TOKEN", "s3cret"), b"");
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(exec("echo a b | tr a-z A-Z"), (0, "A B\n".into()));
    assert_eq!(exec("echo>&2;exit"), (0, String::new()));
    assert_eq!(exec("exit 3"), (1, String::new()));
    assert_eq!(exec("true"), (0, String::new()));
    assert_eq!(exec("no-such-program"), (5, String::new()), "a name is a program's");
}
