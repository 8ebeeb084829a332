//! The library's face. First what the five systems' examples do, as one program; then what it promises beyond them.

use std::error::Error;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc::channel};
use std::{env, fs, panic, thread};

use socket_tables::client::ClientError;
use socket_tables::json::{JsonText, Object};
use socket_tables::protocol::Code;
use socket_tables::server::BindError;
use socket_tables::{Action, Call, Client, ClientOptions, Event, Failure, Mode, Options, Outcome, Server};
use socket_tables::{Token, Value};

use crate::server::eventually;
use crate::support::own_address;

/// A protocol object: counts the words that are longer than this.
struct CountWords(usize);

impl Action for CountWords {
    fn call(&self, call: &Call<'_>) -> Outcome {
        let text = call.data_str()?;
        let words = text.split_whitespace().filter(|word| word.len() > self.0).count();
        Ok(Object::from_iter([("words", words), ("bytes", text.len())]).into())
    }
}

fn five_systems() -> Result<(), Box<dyn Error>> {
    // SocketTables: a value or its default, a method for each type, a callback when a key changes, a watch.
    let (tell, told) = channel();
    let server = Server::bind("0")?.on_change("TestKey", move |change| tell.send(change.value()).unwrap());
    let server = server.start()?;
    let mut client = Client::connect(server.address())?;
    assert_eq!(client.get_or("TestKey", "Default Value")?, "Default Value".into());
    let mut watch = client.watch("TestKey")?;
    client.update("TestKey", "New Value")?;
    assert_eq!(told.recv()?, "New Value".into());
    let changed = watch.find(|event| !matches!(event, Ok(Event::Ready))).unwrap()?;
    assert_eq!(changed, Event::Update("TestKey".into(), "New Value".into()));
    client.update("int", -7)?;
    client.update("double", 0.1)?;
    assert_eq!(client.get_or("int", 0)?.as_i64(), Some(-7));
    assert_eq!(client.get_or("double", 0)?.as_f64(), Some(0.1));

    // ClientServerPython: TIME hooked on both sides.
    let server = Server::bind("0")?.action("TIME", |_| Ok("TIME 20.11.2026 12:00:00"))?.start()?;
    let (mut client, (print, printed)) = (Client::connect(server.address())?, channel());
    client.on_exchange(move |_, reply| {
        let said = reply.as_ref().ok().and_then(|reply| reply.value.as_string()).unwrap_or_default();
        print.send(said.replace("TIME ", "")).unwrap();
    });
    client.call("HELLO", ())?;
    client.call("TIME", ())?;
    client.close()?;
    assert!(printed.recv()?.starts_with("Hello from ") && printed.recv()? == "20.11.2026 12:00:00");

    // tcp-client-serv: each kind of server over one protocol object, and over a callback for whatever comes.
    for mode in [Mode::Once, Mode::Iterative, Mode::Pool { threads: 2 }] {
        let server = Server::bind("0")?.mode(mode).action_by("COUNT-WORDS", CountWords(2))?.start()?;
        let counted = Client::connect(server.address())?.call("COUNT-WORDS", "to be or not to be")?;
        assert_eq!(counted.get("words").and_then(Value::as_i64), Some(1));
    }
    let server = Server::bind("0")?.fallback(|call| Ok(call.value().to_string().len()))?.start()?;
    assert_eq!(Client::connect(server.address())?.call("HELLO-SERVER", ())?.as_i64(), Some(26));

    // iSocket: actions that share state, added one by one or many; errors raised again in the client; shutdown.
    let (token, history) = (Token::new("open sesame").ok(), Arc::new(Mutex::new(Vec::new())));
    let mut server = Server::bind("0")?.options(Options { token: token.clone(), ..Options::default() });
    let actions = server.actions();
    actions.add("TELL", move |call| {
        let mut history = history.lock().unwrap();
        history.push(call.value());
        Ok(history.clone())
    })?;
    actions.add("PARSE", |call| Ok(call.data_str()?.parse::<i64>()?))?;
    actions.add("REFUSE", |call| call.data().map_or(Ok(0), |_| Err(Failure::action("no, never"))))?;
    for (name, n) in [("ONE", 1), ("TWO", 2)] {
        actions.add(name, move |_| Ok(n))?;
    }
    let server = server.start()?;
    assert!(Server::bind("0")?.action("MINE", |_| Ok(0))?.action("MINE", |_| Ok(0)).is_err());
    assert!(Server::bind(server.address()).is_err_and(|error| error.to_string().contains("is taken")));
    let mut client = Client::connect_with(server.address(), ClientOptions { token, ..Default::default() })?;
    assert_eq!(client.call("ECHO", "Echo test!")?, "Echo test!".into());
    assert!(client.call("TIME", ())?.as_str().is_some());
    client.call("TELL", "a")?;
    assert_eq!(client.call("TELL", 2)?, vec!["a".into(), 2.into()].into());
    assert_eq!(client.call("PARSE", "7")?, 7.into());
    for (name, why) in [("PARSE", "invalid digit found in string"), ("REFUSE", "no, never")] {
        assert_eq!(client.call(name, "x").unwrap_err().refusal().unwrap().message, why);
    }
    assert_eq!(client.call("TWO", ())?, 2.into());
    server.shutdown();
    server.join()?;

    // micro-client-server: a server is a callback, and goes by the name of its service.
    let callback = |call: &Call<'_>| Ok(call.data_str()?.replace('.', "#"));
    let _server = Server::bind("LIFE_GEN")?.action("NEXT", callback)?.start()?;
    assert_eq!(Client::connect("LIFE_GEN")?.call("NEXT", "..#..")?, "#####".into());
    Ok(())
}

/// The environment belongs to a whole process, so a second one has a file of services that names LIFE_GEN.
#[test]
fn the_five_systems_examples_are_one_program() {
    if env::var_os("ST_SERVICES").is_some() {
        return five_systems().unwrap();
    }
    let file = env::temp_dir().join(format!("st-library-{}", std::process::id()));
    // A port below those that the system gives to whoever takes any.
    fs::write(&file, format!("LIFE_GEN {}/tcp\n", 20_000 + std::process::id() % 10_000)).unwrap();
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", "library::the_five_systems_examples_are_one_program"]).env("ST_SERVICES", &file);
    let output = again.output().unwrap();
    fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_server_binds_where_clients_connect() {
    for address in ["0", "127.0.0.1:0", "localhost:0", "[::1]:0"] {
        // A machine may lack IPv6.
        let Ok(server) = Server::bind(address) else { continue };
        let server = server.start().unwrap();
        assert!(server.address().ip().is_loopback() && server.address().port() > 0, "{address}");
        Client::connect(server.address()).unwrap().update("a", 1).unwrap();
        Client::connect(server.address().to_string()).unwrap().update("a", 2).unwrap();
    }
    for address in ["no address", "65536", "no.such.host.invalid:0", "NO_SUCH_SERVICE"] {
        let error = Server::bind(address).err().unwrap();
        assert!(matches!(error, BindError::Address(_)) && error.source().is_some(), "{error}");
    }
    assert!(matches!(Server::bind_to(&[]), Err(BindError::Nowhere)));
}

#[test]
fn a_server_that_is_dropped_has_ended_and_one_that_is_joined_tells_how() {
    for mode in [Mode::Iterative, Mode::POOL, Mode::EVENT] {
        let ended = Arc::new(AtomicUsize::new(0));
        let (counted, (asked, is_asked)) = (ended.clone(), channel());
        let slow = move |_: &Call<'_>| {
            asked.send(()).map_err(|_| Failure::action("nobody waits"))?;
            thread::sleep(std::time::Duration::from_millis(50));
            counted.fetch_add(1, SeqCst);
            Ok("done")
        };
        let server =
            Server::bind(own_address()).unwrap().mode(mode).action("SLOW", slow).unwrap().start().unwrap();
        let (address, mut client) = (server.address(), Client::connect(server.address()).unwrap());
        let asking = thread::spawn(move || client.call("SLOW", ()));
        is_asked.recv().unwrap();
        drop(server);
        assert_eq!(ended.load(SeqCst), 1, "{mode}: the action under way was waited for");
        // A child that another test is starting has the listener too, until its exec.
        eventually(|| TcpStream::connect(address).is_err());
        assert_eq!(asking.join().unwrap().unwrap(), "done".into(), "{mode}");
    }
    let once = Server::bind("0").unwrap().mode(Mode::Once).start().unwrap();
    Client::connect(once.address()).unwrap().call("HELLO", ()).unwrap();
    once.join().unwrap();
    let server = Server::bind(own_address()).unwrap().start().unwrap();
    let (stop, address) = (server.shutdown_handle(), server.address());
    thread::spawn(move || stop.shutdown());
    server.join().unwrap();
    eventually(|| TcpStream::connect(address).is_err());
}

#[test]
fn whoever_panics_does_not_wait_for_an_action_that_waits_for_it() {
    let (open, opened) = channel::<()>();
    let (opened, (asked, is_asked)) = (Mutex::new(opened), channel());
    let wait = move |_: &Call<'_>| {
        asked.send(()).map_err(|_| Failure::action("nobody waits"))?;
        Ok(opened.lock().unwrap().recv().is_ok())
    };
    let server = Server::bind("0").unwrap().action("WAIT", wait).unwrap().start().unwrap();
    let mut client = Client::connect(server.address()).unwrap();
    let asking = thread::spawn(move || client.call("WAIT", ()));
    is_asked.recv().unwrap();
    let failing = thread::spawn(move || {
        let _server = server;
        panic::resume_unwind(Box::new("a test that has failed"));
    });
    assert!(failing.join().is_err());
    open.send(()).unwrap();
    assert_eq!(asking.join().unwrap().unwrap(), true.into());
}

#[test]
fn an_action_gives_whatever_becomes_json_and_any_error() {
    let mut server = Server::bind("0").unwrap();
    let actions = server.actions();
    actions.add("STR", |_| Ok("a")).unwrap();
    actions.add("STRING", |call| Ok(call.name().to_owned())).unwrap();
    actions.add("INTEGER", |call| Ok(call.data_str()?.len())).unwrap();
    actions.add("FLOAT", |_| Ok(0.5)).unwrap();
    actions.add("BOOL", |_| Ok(true)).unwrap();
    actions.add("TREE", |call| Ok(call.value())).unwrap();
    actions
        .add("TEXT", |call| Ok(call.data().cloned().map_or(JsonText::NULL, JsonText::into_owned)))
        .unwrap();
    actions.add("KIND", |call| Ok(call.data().map_or("none".to_owned(), JsonText::to_string))).unwrap();
    let table = server.store();
    server.actions().add("VISIT", move |call| Ok(table.increment(&call.data_str()?, 1, None)?)).unwrap();
    server.actions().add("PARSE", |call| Ok(call.data_str()?.parse::<u8>()?)).unwrap();
    server.actions().add("NO", |call| Err::<Value, _>(Failure::action(call.data_str()?))).unwrap();
    let server = server.start().unwrap();
    let mut client = Client::connect(server.address()).unwrap();
    for (name, data, reply) in [
        ("STR", "null", "\"a\""),
        ("STRING", "null", "\"STRING\""),
        ("INTEGER", "\"four\"", "4"),
        ("FLOAT", "0", "0.5"),
        ("BOOL", "0", "true"),
        ("TREE", "[1.50]", "[1.50]"),
        ("TEXT", "{\"a\":1e400}", "{\"a\":1e400}"),
        ("KIND", "null", "\"null\""),
        ("VISIT", "\"door\"", "1"),
    ] {
        assert_eq!(client.call(name, Value::parse(data).unwrap()).unwrap().to_string(), reply, "{name}");
        assert!(client.call(name, JsonText::parse(data).unwrap().into_owned()).is_ok(), "{name}");
    }
    assert_eq!(client.call("KIND", ()).unwrap(), "none".into(), "no data is not null");
    assert_eq!(client.call("KIND", None::<Value>).unwrap(), "none".into());
    assert_eq!(client.call("KIND", Some(Value::Null)).unwrap(), "null".into());
    client.update("door", "open").unwrap();
    for (name, data, why) in [
        ("VISIT", "door", "not an integer"),
        ("PARSE", "256", "number too large"),
        ("NO", "sold out", "sold out"),
    ] {
        let error = client.call(name, data).unwrap_err();
        let failure = error.refusal().unwrap();
        assert!(failure.code == Code::ActionFailed && failure.message.contains(why), "{failure}");
    }
}

#[test]
fn a_watch_leaves_the_client_its_connection_and_a_hook_sees_requests_and_replies() {
    let server = Server::bind("0").unwrap().start().unwrap();
    let mut client = Client::connect(server.address()).unwrap();
    let connections = |client: &mut Client| {
        client.call("INFO", ()).unwrap().get("connections").and_then(Value::as_u64).unwrap()
    };
    assert_eq!(connections(&mut client), 1);
    let watch = client.watch("door").unwrap();
    assert_eq!(connections(&mut client), 2, "the watch's, and the one that the client had");
    drop(watch);
    let (tell, told) = channel();
    client.on_exchange(move |sent, reply| {
        let said = match reply {
            Ok(answer) => answer.value.to_string(),
            Err(ClientError::Refused(_, failure)) => failure.code.as_str().to_owned(),
            Err(error) => error.to_string(),
        };
        tell.send(format!("{} {:?} {said}", sent.name(), sent.key())).unwrap();
    });
    client.update("door", "open").unwrap();
    assert!(!client.add("door", "shut").unwrap());
    assert!(client.call("FROBNICATE", ()).is_err());
    assert_eq!(client.keys("").unwrap(), ["door"], "a list has no single reply");
    drop(server);
    let lost = client.get("door").unwrap_err();
    let told: Vec<String> = told.try_iter().collect();
    let expected = [
        "UPDATE Some(\"door\") \"open\"".to_owned(),
        "UPDATE Some(\"door\") conflict".to_owned(),
        "FROBNICATE None unknown_request".to_owned(),
        format!("GET Some(\"door\") {lost}"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn floats_that_json_lacks_become_null() {
    for (float, json) in [(0.1, "0.1"), (-2.0, "-2.0"), (f64::NAN, "null"), (f64::NEG_INFINITY, "null")] {
        assert_eq!(Value::from(float).to_string(), json);
    }
    let value = |text: &str| Value::parse(text).unwrap();
    assert_eq!((value("1e400").as_f64(), value("1e400").as_exact_f64()), (Some(f64::INFINITY), None));
    assert_eq!(
        (value("1e3").as_i64(), value("1e3").as_u64(), value("-1").as_u64()),
        (Some(1000), Some(1000), None)
    );
    let wide = value("9007199254740993");
    assert_eq!((wide.as_f64(), wide.as_exact_f64()), (Some(9007199254740992.0), None));
    assert_eq!((value("\"5\"").as_i64(), value("\"5\"").as_f64(), value("[5]").as_i64()), (None, None, None));
}
