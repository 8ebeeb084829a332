//! The session as a pure machine: bytes in, bytes out, cut anywhere, with no socket.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use proptest::prelude::*;
use socket_tables::actions::{Actions, Call};
use socket_tables::json::{JsonText, Value};
use socket_tables::protocol::Token;
use socket_tables::protocol::{Code, Failure};
use socket_tables::session::{Core, Next, Session, Stats};
use socket_tables::store::Store;

/// A core with small limits.
pub fn core() -> Core {
    Core {
        store: Arc::new(Store::new(None)),
        actions: Actions::default(),
        stats: Arc::new(Stats::default()),
        token: None,
        may_watch: true,
        request_bytes_max: 4096,
    }
}

/// Feeds the pieces one after another, and gives back all that was answered. Stops when the session closes.
pub fn feed<'p>(session: &mut Session<'_>, pieces: impl IntoIterator<Item = &'p [u8]>) -> String {
    let mut replies = Vec::new();
    let mut pieces = pieces.into_iter();
    let mut piece: &[u8] = &[];
    loop {
        match session.advance() {
            Next::Close => break,
            Next::Write => {
                replies.extend_from_slice(session.output());
                session.sent();
            }
            // Whoever watches may still be heard.
            Next::Read | Next::Wait => {
                while piece.is_empty() {
                    match pieces.next() {
                        Some(next) => piece = next,
                        None => break,
                    }
                }
                if piece.is_empty() {
                    session.ended();
                    continue;
                }
                session.received(mem::take(&mut piece));
            }
            Next::Sync(_) => unreachable!("a table in memory has nothing to wait for"),
            Next::Act => session.act(),
        }
    }
    String::from_utf8(replies).unwrap()
}

/// What a new server answers to these bytes.
fn ask(bytes: &str) -> String {
    feed(&mut Session::new(&core()), [bytes.as_bytes()])
}

macro_rules! rows {
    ($($name:ident: $sent:expr => $answered:expr,)+) => {
        /// Each with its name, what is sent, and what a new server answers.
        pub fn rows() -> Vec<(&'static str, String, String)> {
            vec![$((stringify!($name), String::from($sent), String::from($answered)),)+]
        }
    $(
        #[test]
        fn $name() {
            let sent = String::from($sent);
            let sent = sent.as_str();
            assert_eq!(ask(sent), $answered, "whole");
            let core = core();
            assert_eq!(feed(&mut Session::new(&core), sent.as_bytes().chunks(1)), $answered, "byte by byte");
        }
    )+ };
}

fn frame(payload: &str) -> String {
    format!("{:<64}{payload}", payload.len())
}

rows! {
    get_of_a_missing_key: r#"{"request":"GET","key":"a"}"# => "{\"key\":\"a\",\"found\":false,\"value\":null}\n",
    update_then_get: r#"{"request":"UPDATE","key":"a","value":"x"}{"request":"GET","key":"a"}"#
        => "{\"key\":\"a\",\"value\":\"x\"}\n{\"key\":\"a\",\"value\":\"x\"}\n",
    white_space_outside_strings_goes: "{ \"request\" : \"UPDATE\",\n\t\"key\":\"a\", \"value\" : [ 1 , { \"b c\" :\r\n null } ] }"
        => "{\"key\":\"a\",\"value\":[1,{\"b c\":null}]}\n",
    numbers_keep_every_digit: r#"{"request":"UPDATE","key":"a","value":[1.10,1e400,-0,123456789012345678901234567890]}{"request":"GET","key":"a"}"#
        => "{\"key\":\"a\",\"value\":[1.10,1e400,-0,123456789012345678901234567890]}\n".repeat(2),
    a_stored_null_is_found: r#"{"request":"UPDATE","key":"a","value":null}{"request":"GET","key":"a"}"#
        => "{\"key\":\"a\",\"value\":null}\n".repeat(2),
    increments: r#"{"request":"INCREMENT","key":"n"}{"request":"INCREMENT","key":"n","by":-3}{"request":"INCREMENT","key":"n","by":1e2}"#
        => "{\"key\":\"n\",\"value\":1}\n{\"key\":\"n\",\"value\":-2}\n{\"key\":\"n\",\"value\":98}\n",
    increments_beyond_64_bits: r#"{"request":"UPDATE","key":"n","value":18446744073709551615}{"request":"INCREMENT","key":"n"}"#
        => "{\"key\":\"n\",\"value\":18446744073709551615}\n{\"key\":\"n\",\"value\":18446744073709551616}\n",
    increment_of_a_string: r#"{"request":"UPDATE","key":"n","value":"5"}{"request":"INCREMENT","key":"n"}{"request":"GET","key":"n"}"#
        => "{\"key\":\"n\",\"value\":\"5\"}\n{\"key\":\"n\",\"value\":6}\n{\"key\":\"n\",\"value\":6}\n",
    increment_of_a_string_that_is_none: r#"{"request":"UPDATE","key":"n","value":"05"}{"request":"INCREMENT","key":"n"}{"request":"GET","key":"n"}"#
        => "{\"key\":\"n\",\"value\":\"05\"}\n{\"key\":\"n\",\"error\":{\"code\":\"not_a_number\",\"message\":\"the value \\\"05\\\", or the sum, is not an integer of 128 bits\"}}\n{\"key\":\"n\",\"value\":\"05\"}\n",
    increment_past_the_end: r#"{"request":"UPDATE","key":"n","value":170141183460469231731687303715884105727}{"request":"INCREMENT","key":"n","by":0}{"request":"INCREMENT","key":"n"}"#
        => "{\"key\":\"n\",\"value\":170141183460469231731687303715884105727}\n{\"key\":\"n\",\"value\":170141183460469231731687303715884105727}\n{\"key\":\"n\",\"error\":{\"code\":\"not_a_number\",\"message\":\"the value 170141183460469231731687303715884105727, or the sum, is not an integer of 128 bits\"}}\n",
    increment_by_a_fraction: r#"{"request":"INCREMENT","key":"n","by":1.5}"#
        => "{\"key\":\"n\",\"error\":{\"code\":\"bad_request\",\"message\":\"the member \\\"by\\\" must be an integer of 128 bits\"}}\n",
    delete_tells_the_old_value: r#"{"request":"UPDATE","key":"a","value":1}{"request":"DELETE","key":"a"}{"request":"DELETE","key":"a"}"#
        => "{\"key\":\"a\",\"value\":1}\n{\"key\":\"a\",\"value\":1}\n{\"key\":\"a\",\"found\":false,\"value\":null}\n",
    getall_is_sorted: r#"{"request":"UPDATE","key":"b","value":2}{"request":"UPDATE","key":"a b","value":"x"}{"request":"UPDATE","key":"a","value":1}{"request":"GETALL"}"#
        => "{\"key\":\"b\",\"value\":2}\n{\"key\":\"a b\",\"value\":\"x\"}\n{\"key\":\"a\",\"value\":1}\n[{\"key\":\"a\",\"value\":1},{\"key\":\"a b\",\"value\":\"x\"},{\"key\":\"b\",\"value\":2}]\n",
    listings_of_nothing: r#"{"request":"GETALL"}{"request":"KEYS"}{"request":"COUNT"}{"request":"COUNT","prefix":"a"}"#
        => "[]\n{\"value\":[]}\n{\"value\":0}\n{\"value\":0}\n",
    listings_by_prefix: r#"{"request":"UPDATE","key":"ab","value":1}{"request":"UPDATE","key":"b","value":2}{"request":"UPDATE","key":"a","value":3}{"request":"KEYS","prefix":"a"}{"request":"COUNT","prefix":"a"}{"request":"GETALL","prefix":"b"}{"request":"COUNT","prefix":"ab"}{"request":"KEYS","prefix":"abc"}"#
        => "{\"key\":\"ab\",\"value\":1}\n{\"key\":\"b\",\"value\":2}\n{\"key\":\"a\",\"value\":3}\n{\"value\":[\"a\",\"ab\"]}\n{\"value\":2}\n[{\"key\":\"b\",\"value\":2}]\n{\"value\":1}\n{\"value\":[]}\n",
    if_absent: r#"{"request":"UPDATE","key":"a","value":1,"if":{"absent":true}}{"request":"UPDATE","key":"a","value":2,"if":{"absent":true}}"#
        => "{\"key\":\"a\",\"value\":1}\n{\"key\":\"a\",\"error\":{\"code\":\"conflict\",\"message\":\"the condition \\\"if\\\" does not hold; nothing was changed\"},\"value\":1}\n",
    if_equals_compares_json: r#"{"request":"UPDATE","key":"a","value":{"x":1.0,"y":[1e1]}}{"request":"UPDATE","key":"a","value":2,"if":{"equals":{"y":[10],"x":1}}}{"request":"DELETE","key":"a","if":{"equals":2.00}}"#
        => "{\"key\":\"a\",\"value\":{\"x\":1.0,\"y\":[1e1]}}\n{\"key\":\"a\",\"value\":2}\n{\"key\":\"a\",\"value\":2}\n",
    if_equals_of_a_missing_key: r#"{"request":"DELETE","key":"a","if":{"equals":null}}"#
        => "{\"key\":\"a\",\"error\":{\"code\":\"conflict\",\"message\":\"the condition \\\"if\\\" does not hold; nothing was changed\"},\"found\":false,\"value\":null}\n",
    if_that_is_none: r#"{"request":"DELETE","key":"a","if":{"absent":false}}"#
        => "{\"key\":\"a\",\"error\":{\"code\":\"bad_request\",\"message\":\"the member \\\"if\\\" must be {\\\"absent\\\":true} or {\\\"equals\\\":VALUE}\"}}\n",
    watch_then_close: r#"{"request":"UPDATE","key":"a","value":1}{"request":"WATCH","prefix":""}{"request":"CLOSE"}"#
        => "{\"key\":\"a\",\"value\":1}\n{\"request\":\"UPDATE\",\"key\":\"a\",\"value\":1}\n{\"request\":\"READY\"}\n{\"value\":\"CLOSE CONFIRM\"}\n",
    watch_then_more: r#"{"request":"UPDATE","key":"a","value":1}{"request":"WATCH","key":"a"}{"request":"GET","key":"a"}{"request":"WATCH"}"#
        => "{\"key\":\"a\",\"value\":1}\n{\"request\":\"UPDATE\",\"key\":\"a\",\"value\":1}\n{\"request\":\"READY\"}\n{\"error\":{\"code\":\"bad_request\",\"message\":\"this connection watches: ask on another one\"}}\n{\"error\":{\"code\":\"bad_request\",\"message\":\"this request needs the member \\\"key\\\" or \\\"prefix\\\"\"}}\n",
    watch_then_close_in_text: "UPDATE a x\nWATCH\nCLOSE\n"
        => "MSG x\nMSG {\"request\":\"UPDATE\",\"key\":\"a\",\"value\":\"x\"}\nMSG {\"request\":\"READY\"}\nCLOSE CONFIRM\n",
    control_characters_in_text: "ECHO a\u{1}b\u{9}c\u{7f}d\u{9f}e\u{a0}f\n" => "MSG \"a\\u0001b\\tc\\u007fd\\u009fe\u{a0}f\"\n",
    a_browser_with_spaces_behind: "POST / HTTP/1.1 \r\n\r\nUPDATE k v\nCOUNT\n" => "",
    a_browser_in_small_letters: "put /x http/1.1\r\n\r\nUPDATE k v\nCOUNT\n" => "",
    a_browser_known_by_its_host: "POST / HTTPS\r\nUser-Agent: x\r\nhost: x\r\nUPDATE k v\nCOUNT\n"
        => "MSG error: no request is named POST: INFO tells what there is\nMSG error: no request is named USER-AGENT:: INFO tells what there is\n",
    a_line_of_just_the_most_bytes: format!("ECHO {}\r\nCOUNT\n", "x".repeat(4091)) => format!("MSG {}\nMSG 0\n", "x".repeat(4091)),
    a_line_of_one_byte_too_many: format!("ECHO {}\r\nCOUNT\n", "x".repeat(4092))
        => "MSG error: a request may have 4096 bytes here: the server's --max-request\n",
    a_line_whose_carriage_return_is_one_too_many: format!("ECHO {}\rx\n", "x".repeat(4091))
        => "MSG error: a request may have 4096 bytes here: the server's --max-request\n",
    unknown_names_without_end: "GETT\n".repeat(18)
        => "MSG error: no request is named GETT: did you mean GET?\n".repeat(16) + &"MSG error: no request is named GETT: INFO tells what there is\n".repeat(2),
    close: r#"{"request":"CLOSE"}{"request":"COUNT"}"# => "{\"value\":\"CLOSE CONFIRM\"}\n",
    echo_is_exact: r#"{"request":"ECHO","data":{"a":[1.0,"\u00e9",1E5]}}"# => "{\"value\":{\"a\":[1.0,\"\\u00e9\",1E5]}}\n",
    java_clients_send_more_than_is_needed: r#"{"request": "GET", "key": "test1", "value": "null"}
{"request": "GETALL", "key": "null", "value": "null"}
"# => "{\"key\":\"test1\",\"found\":false,\"value\":null}\n[]\n",
    escapes_in_names_and_keys: r#"{"re\u0071uest":"\u0047ET","key":"\"\\\/\u00e9"}"# => "{\"key\":\"\\\"\\\\/é\",\"found\":false,\"value\":null}\n",
    a_key_twice: r#"{"request":"GET","key":"a","key":"b"}{"request":"COUNT"}"#
        => "{\"error\":{\"code\":\"bad_request\",\"message\":\"the member \\\"key\\\" stands there twice\"}}\n{\"value\":0}\n",
    a_member_of_no_use_twice: r#"{"request":"GET","key":"a","value":1,"value":2}"# => "{\"key\":\"a\",\"found\":false,\"value\":null}\n",
    no_key: r#"{"request":"GET"}"# => "{\"error\":{\"code\":\"bad_request\",\"message\":\"this request needs the member \\\"key\\\"\"}}\n",
    no_value: r#"{"request":"UPDATE","key":"a"}"# => "{\"key\":\"a\",\"error\":{\"code\":\"bad_request\",\"message\":\"UPDATE needs the member \\\"value\\\"\"}}\n",
    a_key_that_is_no_string: r#"{"request":"GET","key":5}"# => "{\"error\":{\"code\":\"bad_request\",\"message\":\"the member \\\"key\\\" must be a string\"}}\n",
    an_empty_key: r#"{"request":"GET","key":""}"# => "{\"error\":{\"code\":\"bad_request\",\"message\":\"a key may not be empty\"}}\n",
    a_key_with_a_newline: r#"{"request":"GET","key":"a\nb"}"# => "{\"error\":{\"code\":\"bad_request\",\"message\":\"a key may not hold control characters, this one holds '\\\\n'\"}}\n",
    a_key_with_a_c1_control: "{\"request\":\"GET\",\"key\":\"a\u{9b}\"}" => "{\"error\":{\"code\":\"bad_request\",\"message\":\"a key may not hold control characters, this one holds '\\\\u{9b}'\"}}\n",
    no_request: r#"{"key":"a"}"# => "{\"key\":\"a\",\"error\":{\"code\":\"bad_request\",\"message\":\"an object without the member \\\"request\\\"; one is {\\\"request\\\":\\\"GET\\\",\\\"key\\\":\\\"door\\\"}\"}}\n",
    brackets_that_do_not_match: r#"{"request":["GET"}}{"request":"COUNT"}"#
        => "{\"error\":{\"code\":\"bad_json\",\"message\":\"byte 17 is '}', which does not close what was opened last\"}}\n",
    no_object: "[1]{\"request\":\"COUNT\"}"
        => "{\"error\":{\"code\":\"bad_json\",\"message\":\"no request begins with the byte \\\"[\\\": send a JSON object such as {\\\"request\\\":\\\"GET\\\",\\\"key\\\":\\\"door\\\"}, or a line such as GET door\"}}\n",
    no_object_later: "{\"request\":\"COUNT\"} 1"
        => "{\"value\":0}\n{\"error\":{\"code\":\"bad_json\",\"message\":\"a request is a JSON object, so the next byte must be \\\"{\\\"\"}}\n",
    half_a_request: r#"{"request":"COUNT"}{"request":"#
        => "{\"value\":0}\n{\"error\":{\"code\":\"bad_request\",\"message\":\"the input ends within a request\"}}\n",
    nothing: "" => "",
    only_white_space: " \r\n\t \n" => "",

    lines: "UPDATE k some  text \r\nget k\nKEYS\nINCREMENT n 5\nincrement n\nDELETE k\nGET k\nGETALL\nCOUNT n\nECHO hi  there\nCLOSE\nCOUNT\n"
        => "MSG some  text \nMSG some  text \nMSG [\"k\"]\nMSG 5\nMSG 6\nMSG some  text \nMSG null\nMSG [{\"key\":\"n\",\"value\":6}]\nMSG 1\nMSG hi  there\nCLOSE CONFIRM\n",
    a_last_line_without_newline: "UPDATE k v\nGET k" => "MSG v\nMSG v\n",
    text_with_controls_is_json: "ECHO a\u{1b}[31m\nECHO b\u{85}c\n" => "MSG \"a\\u001b[31m\"\nMSG \"b\\u0085c\"\n",
    line_errors: "GET\nGET a b\nUPDATE k\nINCREMENT n x\nFROB\n"
        => "MSG error: a key may not be empty\nMSG error: here a key is one word; in JSON it may hold spaces\nMSG error: UPDATE needs a key and a value\nMSG error: what INCREMENT adds must be an integer\nMSG error: no request is named FROB: INFO tells what there is\n",
    end_closes: "&END\nCOUNT\n" => "CLOSE CONFIRM\n",
    a_browser: "GET / HTTP/1.1\r\nHost: x\r\n\r\nUPDATE k v\n" => "",
    a_browser_that_posts_json: "POST /{\"request\":\"COUNT\"} HTTP/1.0\r\n\r\n{\"request\":\"COUNT\"}" => "",
    http_later_is_text: "COUNT\nECHO HTTP/1.1\n" => "MSG 0\nMSG HTTP/1.1\n",
    frames: format!("{}{}{}{}", frame(r#"{"request":"UPDATE","key":"a","value":"é"}"#), frame("GET a"), frame("KEYS"), frame("&END"))
        => format!("{}{}{}{}", frame(r#"{"key":"a","value":"é"}"#), frame("é"), frame("[\"a\"]"), frame("CLOSE CONFIRM")),
    frame_errors_are_frames: format!("{}{}", frame(r#"{"request":"GET"}"#), frame("GET"))
        => format!("{}{}", frame(r#"{"error":{"code":"bad_request","message":"this request needs the member \"key\""}}"#), frame("error: a key may not be empty")),
    a_header_that_is_no_number: "12x".to_owned() + &" ".repeat(61)
        => frame(r#"{"error":{"code":"bad_request","message":"a frame's header must be its length in decimal digits, padded with spaces to 64 bytes"}}"#),
    a_header_of_64_digits: "9".repeat(64)
        => frame(r#"{"error":{"code":"too_large","message":"a request may have 4096 bytes here: the server's --max-request"}}"#),
    a_frame_with_space_before_its_request: frame(" \n{\"request\":\"COUNT\"}") + &frame(" COUNT\n")
        => frame("{\"value\":0}") + &frame("0"),
    a_framed_line_with_its_end: frame("GET a\r\n") + &frame("GET a\n") => frame("null").repeat(2),
    a_watch_of_a_bad_key_and_a_prefix: r#"{"request":"WATCH","prefix":"a","key":7}"#
        => "{\"error\":{\"code\":\"bad_request\",\"message\":\"this request takes \\\"key\\\" or \\\"prefix\\\", not both\"}}\n",
    an_empty_frame: frame("")
        => frame("error: an empty line is no request; one is GET door"),
}

/// Requests of every kind, good and bad, for streams that are cut anywhere.
fn any_request() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a", "b", "ab", "ключ", "a b", "\\\"", ""]);
    let value = prop::sample::select(vec![
        "1",
        "-0",
        "\"x\"",
        "\"\\\"}{\\\\\"",
        " [1, {\"a\" : []}] ",
        "null",
        "{",
        "1e400",
    ]);
    let name = prop::sample::select(vec![
        "GET",
        "UPDATE",
        "INCREMENT",
        "DELETE",
        "GETALL",
        "KEYS",
        "COUNT",
        "ECHO",
        "CLOSE",
        "get",
        "NOPE",
    ]);
    let end = prop::sample::select(vec!["", "\n", "\r\n", " \t", "\n\n"]);
    (name, key, value.clone(), value, any::<bool>(), end).prop_map(|(name, key, value, wanted, pretty, end)| {
        let space = if pretty { " \n\t" } else { "" };
        let condition = if wanted.len() % 2 == 0 { format!(",\"if\":{{\"equals\":{wanted}}}") } else { String::new() };
        format!(
            "{{{space}\"request\":\"{name}\",{space}\"key\":\"{key}\",\"value\":{value},\"data\":{value}{condition}{space}}}{end}"
        )
    })
}

proptest! {
    #[test]
    fn where_the_stream_is_cut_changes_no_reply(
        requests in prop::collection::vec(any_request(), 1..12),
        watch in prop::option::of(0..12_usize),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut requests = requests;
        if let Some(at) = watch {
            requests.insert(at.min(requests.len()), r#"{"request":"WATCH","prefix":""}"#.into());
        }
        let stream = requests.concat();
        let whole = ask(&stream);
        let core = core();
        prop_assert_eq!(feed(&mut Session::new(&core), stream.as_bytes().chunks(1)), whole.as_str());
        let mut at: Vec<usize> = cuts.drain(..).map(|cut| cut.index(stream.len() + 1)).collect();
        at.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for to in at.into_iter().chain([stream.len()]) {
            pieces.push(&stream.as_bytes()[from..to]);
            from = to;
        }
        let core = self::core();
        prop_assert_eq!(feed(&mut Session::new(&core), pieces), whole);
    }

    #[test]
    fn any_bytes_at_all_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let core = core();
        feed(&mut Session::new(&core), bytes.chunks(7));
    }

    #[test]
    fn random_requests_are_answered_as_a_map_would(
        steps in prop::collection::vec((0..5_u8, "[ab]{1,2}", -3..3_i64, any::<bool>()), 1..60),
    ) {
        let core = core();
        let mut model: BTreeMap<String, i64> = BTreeMap::new();
        for (kind, key, number, conditional) in steps {
            let (name, present) = (format!("\"{key}\""), model.get(&key).copied());
            let found = |value: Option<i64>| match value {
                Some(value) => format!("{{\"key\":{name},\"value\":{value}}}\n"),
                None => format!("{{\"key\":{name},\"found\":false,\"value\":null}}\n"),
            };
            let (request, answer) = match kind {
                0 => ("\"GET\"".to_owned(), found(present)),
                1 if conditional => {
                    let request = format!("\"UPDATE\",\"value\":{number},\"if\":{{\"absent\":true}}");
                    if present.is_none() { model.insert(key.clone(), number); }
                    (request, if present.is_none() { found(Some(number)) } else { "conflict".into() })
                }
                1 => {
                    model.insert(key.clone(), number);
                    (format!("\"UPDATE\",\"value\":{number}"), found(Some(number)))
                }
                2 => {
                    let sum = present.unwrap_or(0) + number;
                    model.insert(key.clone(), sum);
                    (format!("\"INCREMENT\",\"by\":{number}"), found(Some(sum)))
                }
                3 if conditional => {
                    let request = format!("\"DELETE\",\"if\":{{\"equals\":{number}}}");
                    if present == Some(number) { model.remove(&key); }
                    (request, if present == Some(number) { found(present) } else { "conflict".into() })
                }
                3 => {
                    model.remove(&key);
                    ("\"DELETE\"".into(), found(present))
                }
                _ => {
                    let of = |prefix: &str| model.keys().filter(|key| key.starts_with(prefix)).count();
                    (format!("\"COUNT\",\"prefix\":{name}"), format!("{{\"value\":{}}}\n", of(&key)))
                }
            };
            let request = format!("{{\"request\":{request},\"key\":{name}}}");
            let reply = feed(&mut Session::new(&core), [request.as_bytes()]);
            prop_assert!(reply == answer || answer == "conflict" && reply.contains(r#""code":"conflict""#), "{} {}", reply, answer);
        }
        let all: Vec<String> = model.iter().map(|(k, v)| format!("{{\"key\":\"{k}\",\"value\":{v}}}")).collect();
        let reply = feed(&mut Session::new(&core), [&br#"{"request":"GETALL"}"#[..]]);
        prop_assert_eq!(reply, format!("[{}]\n", all.join(",")));
    }
}

/// Pads a request with an unknown member until it has this many bytes.
fn padded(bytes: usize) -> String {
    let (head, tail) = (r#"{"request":"COUNT","pad":""#, r#""}"#);
    format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
}

#[test]
fn the_request_limit_holds_to_the_byte() {
    let too_large = "{\"error\":{\"code\":\"too_large\",\"message\":\"a request may have 4096 bytes here: the server's --max-request\"}}\n";
    for (bytes, reply) in [(4095, "{\"value\":0}\n"), (4096, "{\"value\":0}\n"), (4097, too_large)] {
        let sent = padded(bytes) + &padded(100);
        let next = if bytes > 4096 { "" } else { "{\"value\":0}\n" };
        assert_eq!(ask(&sent), format!("{reply}{next}"), "{bytes}");
        assert_eq!(
            feed(&mut Session::new(&core()), sent.as_bytes().chunks(100)),
            format!("{reply}{next}"),
            "{bytes}"
        );
    }
    // The same for a line and a frame, and for a request that never ends.
    assert_eq!(ask(&format!("ECHO {}\n", "x".repeat(4091))), format!("MSG {}\n", "x".repeat(4091)));
    assert_eq!(
        ask(&format!("ECHO {}\n", "x".repeat(4092))),
        "MSG error: a request may have 4096 bytes here: the server's --max-request\n"
    );
    assert_eq!(ask(&format!("{:<64}{}", 4097, "x")), frame(too_large.trim_end()));
    assert_eq!(ask(&format!("{}{}", "{\"", "x".repeat(100_000))), too_large);
}

/// A line that has come whole is read at once, up to 256 bytes; any other request is cut out first. Neither limit may show.
#[test]
fn how_a_request_arrives_and_ends_changes_no_limit() {
    for max in [60, 255, 256, 257, 258, 1024] {
        let core = || Core { request_bytes_max: max, ..core() };
        let too_large = format!(
            "{{\"error\":{{\"code\":\"too_large\",\"message\":\"a request may have {max} bytes here: the server's --max-request\"}}}}\n"
        );
        for (bytes, end) in
            (max - 1..=max + 1).flat_map(|bytes| ["", "\n", "\r\n", " "].map(|end| (bytes, end)))
        {
            let sent = (padded(bytes) + end).repeat(2) + "{\"request\":\"COUNT\"}";
            let expected = if bytes > max { too_large.clone() } else { "{\"value\":0}\n".repeat(3) };
            for piece in [1, 1000, usize::MAX] {
                let replies = feed(&mut Session::new(&core()), sent.as_bytes().chunks(piece));
                assert_eq!(replies, expected, "{bytes} of {max} bytes and {end:?}, {piece} at a time");
            }
        }
    }
}

#[test]
fn the_depth_limit_holds_to_the_level_and_the_connection_goes_on() {
    for (depth, fits) in [(127, true), (128, true), (129, false), (1500, false)] {
        // The request's own braces are the first level.
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        let reply = ask(&format!("{{\"request\":\"ECHO\",\"data\":{open}{close}}}{{\"request\":\"COUNT\"}}"));
        let (first, second) = reply.split_once('\n').unwrap();
        assert_eq!(second, "{\"value\":0}\n");
        match fits {
            true => assert_eq!(first, format!("{{\"value\":{open}{close}}}")),
            false => assert!(first.starts_with(r#"{"error":{"code":"bad_json","#), "{first}"),
        }
    }
}

/// A turn of a thousand UPDATEs of a key that thousands watch would keep everybody else waiting for seconds.
#[test]
fn a_batch_of_changes_that_many_watch_is_answered_in_pieces() {
    for (watchers, changes_in_a_piece) in
        [(0, 20), (100, 20), (101, 20), (106, 19), (1_000, 2), (2_000, 1), (2_001, 1)]
    {
        let core = core();
        let watch = |_| core.store.watch("w".into(), false);
        let _watches: Vec<_> = (0..watchers).map(watch).collect();
        let mut session = Session::new(&core);
        session.received("UPDATE w v\n".repeat(20).as_bytes());
        let mut replies = 0;
        while session.advance() == Next::Write {
            let piece = std::str::from_utf8(session.output()).unwrap().matches("MSG v\n").count();
            assert_eq!(piece, changes_in_a_piece.min(20 - replies), "{watchers} watchers");
            replies += piece;
            session.sent();
        }
        assert_eq!(replies, 20);
    }
}

/// What a catch-all that gives back what it gets answers, and what stays ours beside it.
const CAUGHT: &[(&str, &str)] = &[
    ("Hello Server!\n", "MSG Hello Server!\n"),
    ("hello\nHELLO\n", "MSG hello\nMSG greeting\n"),
    ("Update me now\nCOUNT\n", "MSG Update me now\nMSG 0\n"),
    (
        "UPDATE a  b\nGET a\nGET a b\n",
        "MSG  b\nMSG  b\nMSG error: here a key is one word; in JSON it may hold spaces\n",
    ),
    ("close\nCLOSE\nlate\n", "MSG close\nCLOSE CONFIRM\n"),
    ("&end\n&END\nlate\n", "MSG &end\nCLOSE CONFIRM\n"),
    ("SHOUT a\nshout a\nFROB\n", "MSG A\nMSG shout a\nMSG FROB\n"),
    ("one line\r\ncut off", "MSG one line\nMSG cut off\n"),
    ("GET / HTTP/1.1\nHello\n", ""),
    (
        r#"{"request":"FROB", "x":[1, 2.50]}{"a":1}{"request":7}{"request":"*","data":1}"#,
        "{\"value\":{\"request\":\"FROB\",\"x\":[1,2.50]}}\n{\"value\":{\"a\":1}}\n{\"value\":{\"request\":7}}\n\
         {\"value\":{\"request\":\"*\",\"data\":1}}\n",
    ),
    (
        r#"{"request":"SHOUT","data":"a"}{"request":"HELLO"}"#,
        "{\"value\":\"A\"}\n{\"value\":\"greeting\",\"version\":",
    ),
    (r#"{"request":"GET"}"#, "{\"error\":{\"code\":\"bad_request\","),
    ("{'a':1}", "{\"error\":{\"code\":\"bad_json\","),
];

#[test]
fn a_catch_all_gets_whatever_has_no_other_name() {
    let catching = || {
        let mut core = core();
        let same = |call: &Call<'_>| Ok(call.data().cloned().unwrap().into_owned());
        core.actions.register("*", "", "", same).unwrap();
        core.actions.register("HELLO", "", "", |_: &Call<'_>| Ok(Value::from("greeting"))).unwrap();
        let shout = |call: &Call<'_>| Ok(Value::from(call.data_str()?.to_uppercase()));
        core.actions.register("SHOUT", "", "", shout).unwrap();
        core
    };
    let framed = ["Give me some data back!!", " {\"a\": 1}\n", "", "GET a\n", "{oops"].map(frame).concat();
    let answers = ["Give me some data back!!", "{\"value\":{\"a\":1}}", "", "null"].map(frame).concat();
    for (sent, answer) in CAUGHT.iter().copied().chain([(framed.as_str(), answers.as_str())]) {
        for size in [1, 7, sent.len()] {
            let core = catching();
            let said = feed(&mut Session::new(&core), sent.as_bytes().chunks(size));
            assert!(
                said.starts_with(answer) && said.is_empty() == answer.is_empty(),
                "{sent} by {size}: {said}"
            );
        }
    }
    // Who has not shown the token gets nothing out of it.
    let mut core = catching();
    core.token = Token::new("secret").ok();
    let said = feed(&mut Session::new(&core), [&b"Hello Server!\n"[..]]);
    assert!(said.starts_with("MSG error: this server wants a token first"), "{said}");
    let said = feed(&mut Session::new(&core), [&b"AUTH secret\nHello Server!\n"[..]]);
    assert_eq!(said, "MSG ok\nMSG Hello Server!\n");
}

#[test]
fn replies_do_not_wait_for_an_action_behind_them_that_may_take_long() {
    let mut core = core();
    let calls = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = calls.clone();
    let slow = move |_: &Call<'_>| Ok(Value::from(counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst)));
    core.actions.register("SLOW", "", "", slow).unwrap();
    let mut session = Session::new(&core);
    assert_eq!(session.advance(), Next::Read);
    let sent = b"COUNT\nECHO a\nSLOW\nSLOW\nCOUNT\n";
    session.received(sent);
    for (output, called) in [("MSG 0\nMSG a\n", 0), ("MSG 0\n", 1), ("MSG 1\nMSG 0\n", 2)] {
        if called > 0 {
            assert_eq!(session.advance(), Next::Act);
            assert_eq!(session.advance(), Next::Act, "and nothing is done before that");
            session.act();
        }
        assert_eq!(session.advance(), Next::Write);
        assert_eq!(std::str::from_utf8(session.output()), Ok(output));
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), called);
        session.sent();
    }
    assert_eq!(session.advance(), Next::Read);
    session.act();
    assert_eq!(session.advance(), Next::Read, "there is nothing to carry out any more");
}

/// What may be carried out while others wait, of a request and of a value that it is compared with.
const LARGE: usize = 128 << 10;

/// How often time is asked for to answer this, and what the answer is.
fn times_asked(core: &Core, sent: &str) -> (usize, String) {
    let (mut session, mut asked) = (Session::new(core), 0);
    session.received(sent.as_bytes());
    let mut replies = Vec::new();
    loop {
        match session.advance() {
            Next::Act => {
                asked += 1;
                session.act();
            }
            Next::Write => {
                replies.extend_from_slice(session.output());
                session.sent();
            }
            Next::Read | Next::Wait | Next::Close => return (asked, String::from_utf8(replies).unwrap()),
            Next::Sync(_) => unreachable!("a table in memory has nothing to wait for"),
        }
    }
}

#[test]
fn a_request_of_more_than_128_kib_asks_for_time() {
    let mut core = core();
    core.request_bytes_max = 1 << 20;
    for (bytes, times) in [(LARGE - 1, 0), (LARGE, 0), (LARGE + 1, 1)] {
        let counted = "{\"value\":0}\n";
        let two = |sent: String| times_asked(&core, &sent.repeat(2));
        assert_eq!(two(padded(bytes)), (2 * times, counted.repeat(2)), "JSON of {bytes}");
        assert_eq!(
            two(frame(&padded(bytes))),
            (2 * times, frame(counted.trim_end()).repeat(2)),
            "a frame of {bytes}"
        );
        let said = "x".repeat(bytes - 5);
        assert_eq!(
            two(format!("ECHO {said}\n")),
            (2 * times, format!("MSG {said}\n").repeat(2)),
            "a line of {bytes}"
        );
    }
}

#[test]
fn a_comparison_with_a_value_of_more_than_128_kib_asks_for_time() {
    for (bytes, times) in [(LARGE - 1, 0), (LARGE, 0), (LARGE + 1, 1)] {
        let core = core();
        let value = JsonText::string(&"x".repeat(bytes - 2));
        assert_eq!(value.as_str().len(), bytes);
        core.store.update("k", &value, None, None).unwrap();
        for request in [
            r#"{"request":"UPDATE","key":"k","value":1,"if":{"equals":0}}"#,
            r#"{"request":"DELETE","key":"k","if":{"equals":0}}"#,
        ] {
            let (asked, reply) = times_asked(&core, request);
            assert!(asked == times && reply.contains("conflict"), "{bytes}: {asked}, {}", &reply[..80]);
        }
        // What needs no comparison is answered at once, however large the value is.
        for request in [
            r#"{"request":"UPDATE","key":"k","value":1,"if":{"absent":true}}"#,
            r#"{"request":"DELETE","key":"other","if":{"equals":0}}"#,
            r#"{"request":"GET","key":"k"}"#,
            r#"{"request":"DELETE","key":"k"}"#,
        ] {
            assert_eq!(times_asked(&core, request).0, 0, "{bytes}: {request}");
        }
    }
}

/// A frame begins with its length, so what it lists is put together first; one that is too long was put together in vain.
#[test]
fn a_framed_listing_of_a_large_table_asks_for_time() {
    let core = core();
    let list = |n: usize| {
        (0..n).for_each(|n| {
            core.store.update(&format!("k{n:06}"), &JsonText::from(Value::from(0)), None, None).unwrap()
        })
    };
    for (keys, times, reply) in
        [(10, 0, "k000009"), (10_000, 1, "k009999"), (150_000, 1, "too long for a frame")]
    {
        list(keys);
        for request in ["GETALL", "KEYS", r#"{"request":"GETALL"}"#, r#"{"request":"KEYS"}"#] {
            let (mut session, sent) = (Session::new(&core), frame(request).repeat(2));
            session.received(sent.as_bytes());
            for _ in 0..2 * times {
                assert_eq!(session.advance(), Next::Act);
                session.act();
                assert!(str::from_utf8(session.output()).unwrap().contains(reply), "{request}: made by then");
                assert_eq!(session.advance(), Next::Write);
                session.sent();
            }
            let (asked, replies) = times_asked(&core, &sent);
            assert!(asked == 2 * times && replies.matches(reply).count() == 2, "{keys} {request}");
        }
        // The other dialects send pieces.
        assert_eq!(times_asked(&core, "KEYS\nGETALL\n").0, 0);
    }
}

/// Whether a request is carried out at once or when there is time for it, and wherever a batch is cut, the replies are the same.
#[test]
fn a_batch_with_requests_that_take_long_is_answered_as_one_without() {
    let slow = || {
        let mut core = core();
        core.actions.register("SLOW", "", "", |call: &Call<'_>| Ok(call.value())).unwrap();
        core
    };
    let json = r#"{"request":"SLOW","data":1}{"request":"UPDATE","key":"k","value":2}{"request":"SLOW","data":3}
        {"request":"SLOW","data":4} {"request":"GETALL"}{"request":"SLOW","data":5}{"request":"WATCH","key":"k"}
        {"request":"SLOW","data":6}{"request":"COUNT"}{"request":"CLOSE"}{"request":"SLOW","data":7}"#;
    let text = "SLOW a\nUPDATE k v\nSLOW b\nSLOW c\nGET k\nSLOW d\nWATCH k\nSLOW e\nCLOSE\nSLOW f\n";
    let framed =
        ["SLOW a", "UPDATE k v", "SLOW b", "SLOW c", "GET k", "SLOW d", "&END", "SLOW e"].map(frame).concat();
    for batch in [json, text, &framed] {
        let expected = ask(&batch.replace("SLOW", "ECHO"));
        let core = slow();
        assert!(times_asked(&core, batch).0 >= 4, "{batch}");
        for cut in 0..=batch.len() {
            let core = slow();
            let (first, second) = batch.as_bytes().split_at(cut);
            assert_eq!(feed(&mut Session::new(&core), [first, second]), expected, "cut at {cut}");
        }
        let core = slow();
        assert_eq!(feed(&mut Session::new(&core), batch.as_bytes().chunks(1)), expected, "byte by byte");
        // What arrives while one is waiting for its time is kept behind it.
        for pieces in 1..20 {
            let core = slow();
            let (mut session, mut replies) = (Session::new(&core), String::new());
            let mut pieces = batch.as_bytes().chunks(pieces);
            loop {
                match session.advance() {
                    Next::Act => {
                        pieces.by_ref().take(3).for_each(|piece| session.received(piece));
                        assert_eq!(session.advance(), Next::Act);
                        session.act();
                    }
                    Next::Write => {
                        replies += str::from_utf8(session.output()).unwrap();
                        session.sent();
                    }
                    Next::Read | Next::Wait => match pieces.next() {
                        Some(piece) => session.received(piece),
                        None => session.ended(),
                    },
                    Next::Close => break,
                    Next::Sync(_) => unreachable!("a table in memory has nothing to wait for"),
                }
            }
            assert_eq!(replies, expected);
        }
    }
}

#[test]
fn what_an_action_says_or_writes_stays_within_its_line_and_its_key() {
    let mut core = core();
    let store = core.store.clone();
    let forge = move |call: &Call<'_>| {
        store.increment(&format!("visits/{}", call.data_str()?), 1, None)?;
        Ok(Value::from(0))
    };
    core.actions.register("FORGE", "", "", forge).unwrap();
    let fail = |_: &Call<'_>| Err::<Value, _>(Failure::new(Code::ActionFailed, "one\nMSG two\u{1b}[31m"));
    core.actions.register("FAIL", "", "", fail).unwrap();
    let ask = |sent: &str| feed(&mut Session::new(&core), [sent.as_bytes()]);
    assert_eq!(ask("FAIL\nCOUNT\n"), "MSG error: one\\u000aMSG two\\u001b[31m\nMSG 0\n");
    for key in ["x\\ny", &"k".repeat(1020)] {
        let reply = ask(&format!("{{\"request\":\"FORGE\",\"data\":\"{key}\"}}{{\"request\":\"GETALL\"}}"));
        assert!(reply.contains("a key may") && reply.ends_with("}\n[]\n"), "{reply}");
    }
}

/// A value stands one level deeper in GETALL's reply, and in an "if", than in the UPDATE that brought it:
/// what can be stored can be listed, compared and parsed again.
#[test]
fn a_stored_value_leaves_room_for_what_is_put_around_it() {
    let core = core();
    let ask = |sent: String| feed(&mut Session::new(&core), [sent.as_bytes()]);
    for (depth, fits) in [(125, true), (126, true), (127, false)] {
        let value = "[".repeat(depth) + &"]".repeat(depth);
        let update = format!("{{\"request\":\"UPDATE\",\"key\":\"k\",\"value\":{value}");
        let reply = ask(format!("{update}}}"));
        assert_eq!(reply.contains("bad_json"), !fits, "{depth}: {reply}");
        if fits {
            let again = ask(format!("{update},\"if\":{{\"equals\":{value}}}}}"));
            assert_eq!(again, format!("{{\"key\":\"k\",\"value\":{value}}}\n"));
            let all = ask(r#"{"request":"GETALL"}"#.into());
            assert_eq!(socket_tables::json::Value::parse(&all).unwrap().to_string(), all.trim_end());
        }
    }
}

#[test]
fn keys_hold_to_their_limit_to_the_byte() {
    for (bytes, good) in [(1, true), (1023, true), (1024, true), (1025, false)] {
        let reply = ask(&format!("{{\"request\":\"GET\",\"key\":\"{}\"}}", "k".repeat(bytes)));
        assert_eq!(!reply.contains("error"), good, "{bytes}: {reply}");
    }
}

#[test]
fn invalid_utf8_ends_the_connection_with_one_error() {
    let error = "{\"error\":{\"code\":\"bad_json\",\"message\":\"the bytes are not UTF-8 from byte 26 of the request on\"}}\n";
    let (count, bad) = (&b"{\"request\":\"COUNT\"}"[..], &b"{\"request\":\"ECHO\",\"data\":\"\xff\"}"[..]);
    for (sent, replies) in [
        ([bad, count].concat(), error.to_owned()),
        ([bad, b"\n", count].concat(), error.to_owned()),
        // What stands behind a good request on its line is no business of that request.
        ([count, bad, b"\n", count].concat(), format!("{{\"value\":0}}\n{error}")),
    ] {
        for piece in [1, usize::MAX] {
            assert_eq!(feed(&mut Session::new(&core()), sent.chunks(piece)), replies);
        }
    }
}

#[test]
fn before_the_token_is_shown_only_auth_is_answered() {
    let mut core = core();
    core.token = Token::new("open sesame").ok();
    let auth = r#"{"request":"AUTH","token":"open sesame"}"#;
    let count = r#"{"request":"COUNT"}"#;
    let ask = |sent: String| feed(&mut Session::new(&core), sent.as_bytes().chunks(1000));
    assert_eq!(
        ask(format!("{auth}{count}{}", padded(4096))),
        "{\"value\":\"ok\"}\n{\"value\":0}\n{\"value\":0}\n"
    );
    for refused in [
        count.to_owned(),
        auth.replace("open", "close"),
        auth.replace("sesame", "sesam"),
        auth.replace("sesame", "sesamee"),
        r#"{"request":"AUTH","token":""}"#.to_owned(),
        r#"{"request":"AUTH"}"#.to_owned(),
        "COUNT\n".to_owned(),
        frame("COUNT"),
        padded(4096),
        "{\"".to_owned() + &"x".repeat(5000),
    ] {
        let reply = ask(format!("{refused}{auth}{count}"));
        assert!(reply.contains("denied") || reply.contains("token"), "{refused}: {reply}");
        let answered = reply.contains("\"ok\"") || reply.contains("MSG ok") || reply.contains("{\"value\"");
        assert!(!answered, "{refused}: {reply}");
    }
}

#[test]
fn a_long_listing_leaves_in_pieces_and_is_whole() {
    let core = core();
    let keys: Vec<String> = (0..5_000).map(|n| format!("key-{n:05}")).collect();
    for key in keys.iter().rev() {
        core.store.update(key, &JsonText::string(key), None, None).unwrap();
    }
    let mut session = Session::new(&core);
    let sent = br#"{"request":"GETALL"}{"request":"COUNT"}"#;
    assert_eq!(session.advance(), Next::Read);
    session.received(sent);
    let mut reply = Vec::new();
    while session.advance() == Next::Write {
        assert!(session.output().len() < 20_000, "a piece of {} bytes", session.output().len());
        reply.extend_from_slice(session.output());
        session.sent();
    }
    let expected: Vec<String> =
        keys.iter().map(|key| format!("{{\"key\":\"{key}\",\"value\":\"{key}\"}}")).collect();
    assert_eq!(String::from_utf8(reply).unwrap(), format!("[{}]\n{{\"value\":5000}}\n", expected.join(",")));
}

#[test]
fn a_request_in_a_million_reads_costs_a_million_looks() {
    // Quadratic work would be 5 * 10^11 looks here, which no test would live to see the end of.
    let mut core = core();
    core.request_bytes_max = 1 << 20;
    let sent = padded(1_000_000);
    assert_eq!(feed(&mut Session::new(&core), sent.as_bytes().chunks(1)), "{\"value\":0}\n");
    let line = format!("ECHO {}\n", "x".repeat(999_990));
    assert_eq!(feed(&mut Session::new(&core), line.as_bytes().chunks(1)).len(), 999_995);
}

/// Pieces are as large as a reader likes, and requests begin and end anywhere in them.
#[test]
fn what_arrives_in_pieces_of_any_size_is_kept_in_order() {
    let mut core = core();
    core.request_bytes_max = 1 << 20;
    let mut session = Session::new(&core);
    let (mut sent, mut expected) = (Vec::new(), String::new());
    for nth in 0..1_000_usize {
        let value = nth.to_string().repeat(if nth % 100 == 99 { 20_000 } else { nth % 500 + 1 });
        sent.extend(format!("UPDATE k {value}\n").into_bytes());
        expected += &format!("MSG {value}\n");
    }
    let (mut rest, mut replies, mut large, mut reads) = (&sent[..], Vec::new(), 0, 0);
    while !rest.is_empty() || session.has_begun() {
        match session.advance() {
            Next::Read => {
                large += usize::from(session.has_large_request());
                // Reads that bring much, then some that bring a little.
                reads += 1;
                let (piece, after) =
                    rest.split_at(rest.len().min(if reads % 50 < 25 { 16 << 10 } else { 100 }));
                session.received(piece);
                rest = after;
            }
            Next::Write => {
                replies.extend_from_slice(session.output());
                session.sent();
            }
            needs => panic!("{needs:?}"),
        }
    }
    assert!(String::from_utf8(replies).unwrap() == expected, "replies lost, doubled or out of order");
    assert!(large > 0 && large < reads, "{large} of {reads}");
}
