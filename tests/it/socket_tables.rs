//! SocketTables: a table of keys and values, JSON over TCP, port 7777. Its clients, as they speak, and what
//! its programs do, in the order of its README.

use std::io::Write;
use std::sync::mpsc;

use socket_tables::client::Event;
use socket_tables::json::Value;
use socket_tables::server::{Mode, Server};

use crate::modes::LASTING;
use crate::server::{Running, in_mode, read_once};

/// Its Python client: a connection for each message, and one read of 1,024 bytes for the reply.
fn message(server: &Running, sent: &str) -> String {
    let mut stream = server.connect();
    stream.write_all(sent.as_bytes()).unwrap();
    let mut bytes = [0; 1024];
    let n = read_once(&stream, &mut bytes);
    String::from_utf8(bytes[..n].to_vec()).unwrap()
}

#[test]
fn demo_usage_one_round_of_the_demo_client_after_another() {
    for mode in LASTING.iter().copied() {
        let server = in_mode(mode);
        // It connects once at its start, to see whether the server is there, and says nothing.
        drop(server.connect());
        for i in 0..20 {
            let ask = |sent: String| message(&server, &sent);
            let entry = |key: &str, value: i32| format!("{{\"key\":\"{key}\",\"value\":{value}}}");
            let update = |key: &str, value: i32| {
                format!("{{\"request\": \"UPDATE\", \"key\": \"{key}\", \"value\": {value}}}")
            };
            assert_eq!(ask(update("test1", i)), entry("test1", i) + "\n");
            assert_eq!(ask(r#"{"request": "GET", "key": "test1"}"#.into()), entry("test1", i) + "\n");
            assert_eq!(ask(update("test2", i + 50)), entry("test2", i + 50) + "\n");
            let all = format!("[{},{}]\n", entry("test1", i), entry("test2", i + 50));
            assert_eq!(ask(r#"{"request": "GETALL"}"#.into()), all);
            assert_eq!(ask(r#"{"request": "DELETE", "key": "test1"}"#.into()), entry("test1", i) + "\n");
        }
    }
}

#[test]
fn example_client_update_get_with_a_default_delete() {
    for mode in LASTING.iter().copied() {
        let server = in_mode(mode);
        let mut client = server.client();
        let get = |client: &mut socket_tables::client::Client| {
            client.get("TestKey").unwrap().unwrap_or(Value::from("Default Value"))
        };
        assert_eq!(get(&mut client), Value::from("Default Value"));
        client.update("TestKey", "New Value").unwrap();
        assert_eq!(get(&mut client), Value::from("New Value"));
        assert_eq!(client.delete("TestKey").unwrap(), Some(Value::from("New Value")));
        assert_eq!(client.delete("TestKey").unwrap(), None);
        assert_eq!(get(&mut client), Value::from("Default Value"));
        // Its Java client has a method for each type; here a value says what it is.
        for value in [Value::from(-7), Value::Bool(true), Value::parse("0.25").unwrap(), Value::from("x")] {
            client.update("typed", value.clone()).unwrap();
            assert_eq!(client.get("typed").unwrap(), Some(value));
        }
        assert_eq!(client.getall("").unwrap(), [("typed".to_owned(), Value::from("x"))]);
    }
}

#[test]
fn protocol_format_as_its_page_prints_the_messages() {
    let server = in_mode(Mode::Pool { threads: 4 });
    let ask = |sent: &str| message(&server, sent);
    let request = |name: &str, rest: &str| format!("{{\n    \"request\": \"{name}\"{rest}\n}}");
    let update = request("UPDATE", ",\n    \"key\": \"TestKey\",\n    \"value\": \"New Value\"");
    let get = request("GET", ",\n    \"key\": \"TestKey\"");
    let delete = request("DELETE", ",\n    \"key\": \"TestKey\"") + "\n";
    let getall = request("GETALL", "") + "\n";
    let entry = "{\"key\":\"TestKey\",\"value\":\"New Value\"}";
    assert_eq!(ask(&update), format!("{entry}\n"));
    assert_eq!(ask(&get), format!("{entry}\n"));
    assert_eq!(ask(&getall), format!("[{entry}]\n"));
    assert_eq!(ask(&format!("{get}\n{get}{getall}")), format!("{entry}\n{entry}\n[{entry}]\n"));
    assert_eq!(ask(&delete), format!("{entry}\n"));
    assert_eq!(ask(&get), "{\"key\":\"TestKey\",\"found\":false,\"value\":null}\n");
    // The page prints Python's quotes, which no JSON has: whoever copies them is told.
    let quoted = ask("{\n    'request': 'GET',\n    'key': 'REQUESTED_KEY'\n}");
    assert!(quoted.contains("\"bad_json\"") && quoted.contains("double quotes"), "{quoted}");
    // Its Java client sends all members always, and a null as a string.
    let java = |name: &str, key: &str, value: &str| {
        ask(&format!("{{\"request\": \"{name}\", \"key\": \"{key}\", \"value\": \"{value}\"}}\n"))
    };
    let entry = "{\"key\":\"t\",\"value\":\"Run - 1\"}";
    assert_eq!(java("UPDATE", "t", "Run - 1"), format!("{entry}\n"));
    assert_eq!(java("GET", "t", "null"), format!("{entry}\n"));
    assert_eq!(java("GETALL", "null", "null"), format!("[{entry}]\n"));
}

/// Its Java client: no JSON parser, but a look for `"value":`, and what stands from there to the brace.
fn java(server: &Running, request: &str, key: &str, value: &str) -> Option<String> {
    let reply =
        message(server, &format!("{{\"request\": \"{request}\", \"key\": \"{key}\", \"value\": {value}}}"));
    let value = reply.split_once("\"value\":")?.1.split_once('}')?.0;
    (value != "null").then(|| value.trim_matches('"').to_owned())
}

#[test]
fn its_java_client_takes_all_up_to_the_brace_for_the_value() {
    let server = in_mode(Mode::EVENT);
    let get_string =
        |key: &str, default: &str| java(&server, "GET", key, "\"null\"").unwrap_or(default.into());
    assert_eq!(get_string("test1", "default"), "default", "a missing key is its null, and nothing behind it");
    for i in [0, 5] {
        let run = format!("Run - {i}");
        assert_eq!(java(&server, "UPDATE", "test1", &format!("\"{run}\"")).as_ref(), Some(&run));
        assert_eq!(get_string("test1", "default"), run);
        assert_eq!(java(&server, "UPDATE", "test2", &format!("\"{i}\"")), Some(i.to_string()));
        assert_eq!(get_string("test2", "").parse(), Ok(i));
        assert_eq!(java(&server, "DELETE", "test1", "\"null\""), Some(run), "it was there");
        assert_eq!(java(&server, "DELETE", "test1", "\"null\""), None, "it was not");
    }
}

/// Its clients look for a value, and know no errors: they show None, or the default.
#[test]
fn an_error_has_no_value_but_a_conflict_that_they_do_not_ask_for() {
    let server = in_mode(Mode::EVENT);
    for sent in
        [r#"{"request": "GET", "key": ""}"#, r#"{"request": "GETT", "key": "a"}"#, "{'request': 'GET'}"]
    {
        let reply = message(&server, sent);
        assert!(reply.contains("\"error\"") && !reply.contains("\"value\""), "{reply}");
    }
}

#[test]
fn a_callback_on_either_side_when_a_key_changes() {
    let (tell, told) = mpsc::channel();
    let server = Server::bind("127.0.0.1:0")
        .unwrap()
        .on_change("TestKey", move |change| tell.send(change.value()).unwrap());
    let server = Running::run(server);
    let mut client = server.client();
    client.update("TestKey", "before").unwrap();
    let mut watch = server.client().watch("TestKey").unwrap();
    let key = "TestKey".to_owned();
    let update = |value: &str| Event::Update(key.clone(), Value::from(value));
    assert_eq!(watch.next().unwrap().unwrap(), update("before"));
    assert_eq!(watch.next().unwrap().unwrap(), Event::Ready);
    client.update("other", "unheard").unwrap();
    client.update("TestKey", "after").unwrap();
    client.delete("TestKey").unwrap();
    assert_eq!(watch.next().unwrap().unwrap(), update("after"));
    let deleted = Event::Delete(key.clone(), Value::from("after"));
    assert_eq!(watch.next().unwrap().unwrap(), deleted);
    for value in ["before", "after", "after"] {
        assert_eq!(told.recv().unwrap(), Value::from(value));
    }
}
