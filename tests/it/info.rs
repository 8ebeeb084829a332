//! INFO: what an operator asks, in numbers that are right.

use std::io::{Read, Write};

use socket_tables::json::Value;

use crate::process::{COUNT, COUNTED, Process, eventually, exchange, ms};

const INFO: &str = r#"{"request":"INFO"}"#;

#[test]
fn info_tells_what_an_operator_asks() {
    let server = Process::start(&["--mode", "pool", "--threads", "3", "--deadline", "0.5"]);
    let mut operator = server.connect();
    let mut client = server.connect();
    let mut info = || {
        let reply = exchange(&mut operator, INFO);
        (Value::parse(&reply).unwrap().get("value").unwrap().clone(), reply.len())
    };
    assert_eq!(exchange(&mut client, COUNT), COUNTED);
    let (told, length) = info();
    let number = |told: &Value, path: &[&str]| {
        let found = path.iter().try_fold(told, |object, name| object.get(name));
        found.map(|number| number.to_string().parse::<usize>().unwrap())
    };
    for (path, expected) in [
        (&["connections"][..], Some(2)),
        (&["workers"], Some(2)),
        (&["accepted"], Some(2)),
        (&["refused"], Some(0)),
        (&["timed_out"], Some(0)),
        (&["keys"], Some(0)),
        (&["memory_bytes"], Some(0)),
        (&["requests", "COUNT"], Some(1)),
        // The one that asks is told of, too.
        (&["requests", "INFO"], Some(1)),
        (&["requests", "GET"], None),
        (&["errors", "bad_json"], None),
        (&["bytes_in"], Some(COUNT.len() + INFO.len())),
        (&["bytes_out"], Some(COUNTED.len())),
    ] {
        assert_eq!(number(&told, path), expected, "{path:?} in {told}");
    }
    assert_eq!(told.get("address").and_then(Value::as_str), Some(&*server.addr.to_string()));
    assert_eq!(told.get("mode").and_then(Value::as_str), Some("pool"));
    assert_eq!(told.get("version").and_then(Value::as_str), Some(env!("CARGO_PKG_VERSION")));
    // Some of each.
    let update = r#"{"request":"UPDATE","key":"k","value":1}"#;
    let sent =
        [update, r#"{"request":"INCREMENT","key":"k"}"#, r#"{"request":"GET"}"#, r#"{"request":"NONE"}"#];
    let received: usize = sent.iter().map(|sent| exchange(&mut client, sent).len()).sum();
    let mut slow = server.connect();
    slow.write_all(b"{").unwrap();
    // All workers are taken now: one more is refused.
    let _ = server.connect().read(&mut [0; 1]).unwrap();
    let lost = crate::process::rest(&mut slow).len();
    drop((client, slow));
    eventually("they are gone", || number(&info().0, &["connections"]) == Some(1));
    std::thread::sleep(ms(1000));
    let (told, _) = info();
    let infos = number(&told, &["requests", "INFO"]).unwrap();
    for (path, expected) in [
        (&["refused"][..], 1),
        (&["timed_out"], 1),
        (&["keys"], 1),
        (&["requests", "UPDATE"], 1),
        (&["requests", "INCREMENT"], 1),
        (&["errors", "bad_request"], 1),
        (&["errors", "unknown_request"], 1),
        (&["errors", "timeout"], 1),
        (&["bytes_in"], COUNT.len() + infos * INFO.len() + sent.concat().len() + 1),
    ] {
        assert_eq!(number(&told, path), Some(expected), "{path:?} in {told}");
    }
    assert!(number(&told, &["memory_bytes"]).unwrap() > 2);
    assert!(number(&told, &["uptime_s"]).unwrap() >= 1);
    let out = number(&told, &["bytes_out"]).unwrap();
    assert!(out > COUNTED.len() + received + lost + (infos - 1) * length, "{out}");
}
