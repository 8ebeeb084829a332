//! iSocket: named actions with shared state, errors that travel, retry, shutdown. What its README does, in
//! its order, then what its guide promises.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket_tables::actions::{Action, Call, Outcome, RegisterError};
use socket_tables::client::{Client, ClientError, ClientOptions};
use socket_tables::json::{JsonText, Value};
use socket_tables::protocol::Token;
use socket_tables::protocol::{Code, Failure};
use socket_tables::server::{BindError, Mode, Options, Server};

use crate::modes::{ALL, LASTING};
use crate::server::{Running, eventually, in_mode, start};
use crate::support::own_address;

fn bind() -> Server {
    Server::bind(own_address()).unwrap()
}

/// The code and the message of the server's refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (Code, String) {
    let error = result.unwrap_err();
    let failure = error.refusal().unwrap_or_else(|| panic!("{error}"));
    (failure.code, failure.message.clone())
}

#[test]
fn the_example_with_the_actions_that_are_there() {
    // EXEC is for those who know the token.
    let token = Token::new("open sesame").ok();
    let mut server = bind().options(Options { token: token.clone(), ..Options::default() });
    server.actions().exec_allowed = true;
    let server = Running::run(server);
    let options = ClientOptions { token, ..ClientOptions::default() };
    let mut client = Client::connect_with(server.address, options).unwrap();

    // As its README has them: runAction(Echo,"Echo test!"), runAction(Exec,"dir"), runAction(Exec,["python","-V"]),
    // runAction(ExecHistory), runAction(Time). Where there is no such program here, that is told, and kept.
    assert_eq!(client.call("ECHO", Value::from("Echo test!")).unwrap(), Value::from("Echo test!"));
    assert_eq!(client.call("ECHO", ()).unwrap(), Value::Null, "without data it is None there");
    let dir = client.call("EXEC", Value::from("dir")).unwrap();
    assert!(["0", "127"].contains(&&*dir.get("status").unwrap().to_string()), "{dir}");
    let _ = client.call("EXEC", Value::Array(["python", "-V"].into_iter().collect()));
    let history = client.call("HISTORY", ()).unwrap();
    assert_eq!(history.to_string(), r#"["dir",["python","-V"]]"#);
    let line = client.call("EXEC", Value::from("echo $((6 * 7)) | tr 4 5")).unwrap();
    assert_eq!(line.to_string(), r#"{"status":0,"stdout":"52\n","stderr":""}"#);
    let command = |words: &[&str]| Value::Array(words.iter().copied().collect());
    let done = client.call("EXEC", command(&["echo", "-n", "a b"])).unwrap();
    assert_eq!(done.to_string(), r#"{"status":0,"stdout":"a b","stderr":""}"#);
    let done = client.call("EXEC", command(&["sh", "-c", "echo oh >&2; exit 3"])).unwrap();
    assert_eq!(done.to_string(), r#"{"status":3,"stdout":"","stderr":"oh\n"}"#);
    let history = client.call("HISTORY", ()).unwrap();
    let before = r#""dir",["python","-V"],"echo $((6 * 7)) | tr 4 5""#;
    let after = r#"["echo","-n","a b"],["sh","-c","echo oh >&2; exit 3"]"#;
    assert_eq!(history.to_string(), format!("[{before},{after}]"));
    let time = client.call("TIME", ()).unwrap();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");

    let mut stranger = server.client();
    assert_eq!(refusal(stranger.call("HISTORY", ())).0, Code::Denied);
    let anybodys = in_mode(Mode::Pool { threads: 2 });
    let (code, message) = refusal(anybodys.client().call("EXEC", command(&["true"])));
    assert!(code == Code::Denied && message.contains("--allow-exec"), "{message}");
}

/// An action of the user's own, which shares a list with [`Told`].
struct Tell(Arc<Mutex<Vec<Value>>>);

impl Action for Tell {
    fn call(&self, call: &Call<'_>) -> Outcome {
        let mut history = self.0.lock().unwrap();
        history.push(call.value());
        Ok(history.len().into())
    }
}

/// Tells what [`Tell`] was told.
struct Told(Arc<Mutex<Vec<Value>>>);

impl Action for Told {
    fn call(&self, _: &Call<'_>) -> Outcome {
        Ok(self.0.lock().unwrap().clone().into())
    }
}

#[test]
fn the_example_with_actions_of_ones_own_that_share_state() {
    for mode in LASTING {
        let history = Arc::new(Mutex::new(Vec::new()));
        let server = bind().mode(*mode);
        let server = server.action_by("TELL", Tell(history.clone())).unwrap();
        let server = Running::run(server.action_by("TOLD", Told(history.clone())).unwrap());
        let mut client = server.client();
        // Any data there is in JSON; null where the client sends none.
        for (n, data) in [r#"{"a":[1.50,"é"]}"#, "12345678901234567890", "null"].into_iter().enumerate() {
            assert_eq!(client.call("TELL", Value::parse(data).unwrap()).unwrap(), Value::from(n + 1));
        }
        client.call("TELL", ()).unwrap();
        let told = client.call("TOLD", ()).unwrap();
        assert_eq!(told.to_string(), r#"[{"a":[1.50,"é"]},12345678901234567890,null,null]"#);
        // The server's own program sees the same list.
        assert_eq!(history.lock().unwrap().len(), 4);
    }
}

#[test]
fn actions_and_the_servers_program_share_the_table() {
    let server = bind();
    let table = server.store();
    let visits = table.clone();
    let visit = move |call: &Call<'_>| Ok(Value::from(visits.increment(&call.data_str()?, 1, None)?));
    let server = Running::run(server.action("VISIT", visit).unwrap());
    let mut client = server.client();
    client.call("VISIT", Value::from("door")).unwrap();
    assert_eq!(client.call("VISIT", Value::from("door")).unwrap(), Value::from(2));
    assert_eq!(client.get("door").unwrap(), Some(Value::from(2)));
    table.update("door", &JsonText::string("shut"), None, None).unwrap();
    assert_eq!(client.get("door").unwrap(), Some(Value::from("shut")));
    let (code, message) = refusal(client.call("VISIT", Value::from("door")));
    assert!(code == Code::ActionFailed && message.contains("not an integer"), "{message}");
}

#[test]
fn an_exception_is_raised_again_in_the_client_and_the_connection_goes_on() {
    let number = |call: &Call<'_>| Ok(Value::from(call.data_str()?.parse::<i64>()?));
    let no = |_: &Call<'_>| Err::<Value, _>(Failure::new(Code::ActionFailed, "no, \"never\""));
    let panics = |call: &Call<'_>| -> Result<Value, Failure> { panic!("lost {}", call.value()) };
    for mode in LASTING {
        let server = bind().mode(*mode).action("NUMBER", number).unwrap().action("NO", no).unwrap();
        let server = Running::run(server.action("PANIC", panics).unwrap());
        let mut client = server.client();
        let mut said = |name: &str, data: &str| refusal(client.call(name, Value::from(data)));
        assert_eq!(said("NUMBER", "x"), (Code::ActionFailed, "invalid digit found in string".into()));
        assert_eq!(said("NO", ""), (Code::ActionFailed, "no, \"never\"".into()));
        assert_eq!(said("PANIC", "7"), (Code::ActionFailed, "PANIC panicked: lost \"7\"".into()));
        let unknown = (Code::UnknownRequest, "no request is named NUMBR: did you mean NUMBER?".into());
        assert_eq!(said("NUMBR", ""), unknown);
        assert_eq!(client.call("NUMBER", Value::from("7")).unwrap(), Value::from(7));
        let error = client.call("NO", ()).unwrap_err();
        let as_a_line = format!("{}: action_failed: no, \"never\"", server.address);
        assert_eq!(error.to_string(), as_a_line, "it names the server");
    }
}

#[test]
fn a_client_tries_three_times_more() {
    assert_eq!(ClientOptions::default().retry, 3);
    // A server that is busy said that it did nothing, so it may be asked again.
    for (retry, busy, found) in [(3, 3, true), (3, 4, false), (0, 0, true), (0, 1, false)] {
        let listener = TcpListener::bind(own_address()).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            for turn in 0..=busy {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let reply: &[u8] = match turn < busy {
                    true => b"{\"error\":{\"code\":\"busy\",\"message\":\"try again\"}}\n",
                    false => b"{\"value\":\"hello\"}\n",
                };
                stream.write_all(reply).unwrap();
                while std::io::Read::read(&mut stream, &mut [0; 256]).is_ok_and(|n| n > 0) {}
            }
        });
        let options = ClientOptions { retry, ..ClientOptions::default() };
        let mut client = Client::connect_with(&address, options).unwrap();
        let reply = client.call("HELLO", ());
        drop(client);
        assert_eq!(reply.is_ok(), found, "{retry} {busy}: {reply:?}");
        // Whom the client no longer asks we do ourselves.
        while !server.is_finished() {
            drop(TcpStream::connect(&address));
            thread::sleep(Duration::from_millis(1));
        }
        server.join().unwrap();
    }
    // Where nobody listens, the pauses between the tries pass, and then the error names the server.
    let nobody = TcpListener::bind(own_address()).unwrap().local_addr().unwrap().to_string();
    let since = Instant::now();
    let error = Client::connect(&nobody).unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }) && error.to_string().contains(&nobody), "{error}");
    assert!(since.elapsed() >= Duration::from_millis(300), "{:?}", since.elapsed());
}

#[test]
fn registering_twice_is_an_error_and_so_is_a_name_that_is_none() {
    let echo = |call: &Call<'_>| Ok(call.value());
    let once = || bind().action("MINE", echo).unwrap();
    for (name, error) in [
        ("MINE", RegisterError::Taken("MINE".into())),
        ("EXEC", RegisterError::Taken("EXEC".into())),
        ("GET", RegisterError::Taken("GET".into())),
        ("INFO", RegisterError::Taken("INFO".into())),
        ("mine", RegisterError::BadName("mine".into())),
        ("MY OWN", RegisterError::BadName("MY OWN".into())),
    ] {
        let refused = once().action(name, echo).err();
        assert!(refused.as_ref().unwrap().to_string().contains(name));
        assert_eq!(refused, Some(error));
    }
}

#[test]
fn a_taken_port_is_an_error_that_says_so() {
    let server = bind();
    let error = Server::bind(server.address()).err().unwrap();
    let said = format!("cannot listen on {}: the port is taken by another program", server.address());
    assert_eq!(error.to_string(), said);
    assert!(matches!(error, BindError::Listen(at, _) if at == server.address()));
    // The second of two addresses is for where the first is not this machine's, not for where it is taken.
    let free = own_address().parse().unwrap();
    assert!(Server::bind_to(&[server.address(), free]).is_err());
    let elsewhere = "192.0.2.1:0".parse().unwrap();
    assert!(Server::bind_to(&[elsewhere, free]).unwrap().address().ip().is_loopback());
    let nowhere = Server::bind("no.such.host.invalid:0").err().unwrap();
    assert!(
        matches!(nowhere, BindError::Address(_)) && nowhere.to_string().starts_with("there is no address"),
        "{nowhere}"
    );
}

/// An action that says when it is asked, and answers when it is let.
pub fn gate() -> (impl Action, Receiver<()>, Sender<()>) {
    let ((asked, is_asked), (open, opened)) = (channel(), channel());
    let opened = Mutex::new(opened);
    let wait = move |_: &Call<'_>| {
        asked.send(()).map_err(|_| Failure::new(Code::ActionFailed, "nobody waits"))?;
        Ok(Value::Bool(opened.lock().unwrap().recv().is_ok()))
    };
    (wait, is_asked, open)
}

#[test]
fn shutdown_finishes_the_request_under_way_and_joins_every_thread() {
    for mode in ALL.iter().copied() {
        let (wait, is_asked, open) = gate();
        let server = bind().mode(mode).action_by("WAIT", wait).unwrap();
        let (address, stop) = (server.address(), server.shutdown_handle());
        let running = thread::spawn(|| server.run());
        let client = thread::spawn(move || {
            let mut client = Client::connect(address)?;
            client.call("WAIT", ())
        });
        is_asked.recv().unwrap();
        stop.shutdown();
        stop.shutdown();
        assert!(!running.is_finished(), "{mode}: the request is under way");
        open.send(()).unwrap();
        assert_eq!(client.join().unwrap().unwrap(), Value::Bool(true), "{mode}");
        running.join().unwrap().unwrap();
        // The port may be another test's for a while.
        eventually(|| TcpStream::connect(address).is_err());
        // All threads have ended, and with them the action, which held the other end.
        assert!(open.send(()).is_err() && is_asked.recv().is_err(), "{mode}");
        stop.shutdown();
    }
}

#[test]
fn shutdown_before_the_start_and_from_within_an_action() {
    for mode in ALL.iter().copied() {
        let server = bind().mode(mode);
        server.shutdown_handle().shutdown();
        server.run().unwrap();

        let server = bind().mode(mode);
        let stop = server.shutdown_handle();
        let last = move |_: &Call<'_>| {
            stop.shutdown();
            Ok(Value::from("goodbye"))
        };
        let server = server.action("SHUTDOWN", last).unwrap();
        let (address, running) = (server.address(), thread::spawn(|| server.run()));
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.call("SHUTDOWN", ()).unwrap(), Value::from("goodbye"), "{mode}");
        running.join().unwrap().unwrap();
    }
}

#[test]
fn a_server_that_is_gone_is_told_from_one_that_refuses() {
    let server = start(Options::default());
    let mut client = server.client();
    client.update("a", 1).unwrap();
    let address = server.address.to_string();
    drop(server);
    let lost = client.get("a").unwrap_err();
    assert!(matches!(lost, ClientError::Lost { .. }) && lost.to_string().contains(&address), "{lost}");
    let gone = client.get("a").unwrap_err();
    assert!(matches!(gone, ClientError::Connect { .. }) && gone.to_string().contains(&address), "{gone}");
}
