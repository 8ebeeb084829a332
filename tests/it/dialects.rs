//! Three dialects, one meaning: what is asked in JSON, as a line and framed gets the same value, wherever the
//! bytes are cut; and a connection keeps the dialect it began with.

use proptest::prelude::*;
use socket_tables::json::{JsonText, Value as Json};
use socket_tables::session::Session;

use crate::session::{core, feed};

/// A request, and how each dialect says it.
#[derive(Clone, Debug)]
struct Asked {
    json: String,
    line: String,
}

impl Asked {
    fn new(name: &str, members: &[(&str, &str)], words: &[&str]) -> Asked {
        let members: String = members.iter().map(|(member, text)| format!(",\"{member}\":{text}")).collect();
        let words: String = words.iter().map(|word| format!(" {word}")).collect();
        Asked { json: format!("{{\"request\":\"{name}\"{members}}}"), line: format!("{name}{words}") }
    }
}

fn string(text: &str) -> String {
    JsonText::string(text).to_string()
}

/// Whatever a line can say. Keys and prefixes are one word there; values end with the line.
fn asked() -> impl Strategy<Value = Asked> {
    let key = prop::sample::select(vec!["a", "b", "n", "ключ", "a/b", "\"", "\\u0061", "", "{}", "\u{85}"]);
    let value = prop_oneof!["[^\r\n]{0,12}", Just("true".to_owned()), Just(" 7 ".to_owned())];
    (0..12_u8, key, value, -9..9_i64).prop_map(|(kind, key, value, by)| {
        let (quoted, number) = (string(key), by.to_string());
        let of_key = |name: &str| Asked::new(name, &[("key", &quoted)], &[key]);
        let of_prefix = |name: &str| match key {
            "" => Asked::new(name, &[], &[]),
            _ => Asked::new(name, &[("prefix", &quoted)], &[key]),
        };
        match kind {
            0 | 1 => of_key("GET"),
            2..=4 => Asked::new("UPDATE", &[("key", &quoted), ("value", &string(&value))], &[key, &value]),
            // A line cannot say a number without a key.
            5 if key.is_empty() => of_key("INCREMENT"),
            5 => Asked::new("INCREMENT", &[("key", &quoted), ("by", &number)], &[key, &number]),
            6 => of_key("DELETE"),
            7 => of_prefix("GETALL"),
            8 => of_prefix("KEYS"),
            9 => of_prefix("COUNT"),
            10 => Asked::new("ECHO", &[("data", &string(&value))], &[&value]),
            _ => Asked::new("HELLO", &[], &[]),
        }
    })
}

/// What all of `stream` is answered by a server of its own, cut at these places.
fn answered(stream: &str, cuts: &[prop::sample::Index]) -> String {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    at.sort_unstable();
    let ends = at.iter().copied().chain([stream.len()]);
    let begins = [0].into_iter().chain(at.iter().copied());
    let pieces: Vec<&[u8]> = begins.zip(ends).map(|(from, to)| &stream.as_bytes()[from..to]).collect();
    let core = core();
    feed(&mut Session::new(&core), pieces)
}

fn frame(payload: &str) -> String {
    format!("{:<64}{payload}", payload.len())
}

fn payloads(mut frames: &str) -> Vec<&str> {
    let mut found = Vec::new();
    while !frames.is_empty() {
        let (header, rest) = frames.split_at(64);
        let (payload, next) = rest.split_at(header.trim_end_matches(' ').parse().unwrap());
        found.push(payload);
        frames = next;
    }
    found
}

/// The value, or the error's message, of a reply in JSON.
fn meaning(reply: &str) -> Result<Json, String> {
    let reply = Json::parse(reply).unwrap();
    if let Some(error) = reply.get("error") {
        return Err(error.get("message").unwrap().as_str().unwrap().to_owned());
    }
    Ok(reply.get("value").cloned().unwrap_or(reply))
}

/// Whether a bare reply says the same: a string plain (as JSON where it holds control characters), anything
/// else as JSON, an error as its message.
fn same(bare: &str, meant: &Result<Json, String>) -> bool {
    match meant {
        Ok(Json::String(s)) if !s.as_str().contains(char::is_control) => bare == s.as_str(),
        Ok(value) => Json::parse(bare).is_ok_and(|said| said == *value),
        // In JSON the member has a name.
        Err(message) => bare.strip_prefix("error: ") == Some(message.trim_start_matches("in \"prefix\": ")),
    }
}

proptest! {
    #[test]
    fn any_request_means_the_same_in_json_as_a_line_and_framed(
        requests in prop::collection::vec(asked(), 1..10),
        ends in prop::sample::select(vec!["\n", "\r\n", "\n \t\n"]),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let stream = |say: &dyn Fn(&Asked) -> String| requests.iter().map(say).collect::<String>();
        let json = answered(&stream(&|asked| asked.json.clone()), &cuts);
        let lines = answered(&stream(&|asked| format!("{}{ends}", asked.line)), &cuts);
        let framed_json = answered(&stream(&|asked| frame(&asked.json)), &cuts);
        let framed_lines = answered(&stream(&|asked| frame(&asked.line)), &cuts);

        let meant: Vec<_> = json.lines().map(meaning).collect();
        prop_assert_eq!(meant.len(), requests.len());
        prop_assert_eq!(&payloads(&framed_json).into_iter().map(meaning).collect::<Vec<_>>(), &meant);
        let lines: Vec<&str> = lines.lines().collect();
        prop_assert!(lines.iter().all(|line| line.starts_with("MSG ")), "{:?}", lines);
        for said in [lines.iter().map(|line| &line[4..]).collect(), payloads(&framed_lines)] {
            prop_assert_eq!(said.len(), meant.len());
            for ((bare, meant), asked) in said.iter().zip(&meant).zip(&requests) {
                prop_assert!(same(bare, meant), "{asked:?}: {bare:?} is not {meant:?}");
            }
        }
    }

    #[test]
    fn a_connection_keeps_the_dialect_it_began_with(
        row in 0..KEPT.len(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let (began, then, answer) = KEPT[row];
        prop_assert_eq!(answered(&format!("{began}{then}"), &cuts), answer, "{}{}", began, then);
    }
}

const HEADER: &str = "5                                                               ";

/// How a connection began, what another dialect's client would say then, and what both are answered.
#[rustfmt::skip]
pub const KEPT: &[(&str, &str, &str)] = &[
    (r#"{"request":"COUNT"}"#, "COUNT\n",
     "{\"value\":0}\n{\"error\":{\"code\":\"bad_json\",\"message\":\"a request is a JSON object, so the next byte must be \\\"{\\\"\"}}\n"),
    (r#" {"request":"COUNT"}"#, "19",
     "{\"value\":0}\n{\"error\":{\"code\":\"bad_json\",\"message\":\"a request is a JSON object, so the next byte must be \\\"{\\\"\"}}\n"),
    (r#"{"request":"COUNT"}"#, "&END",
     "{\"value\":0}\n{\"error\":{\"code\":\"bad_json\",\"message\":\"a request is a JSON object, so the next byte must be \\\"{\\\"\"}}\n"),
    // To a line, a brace or a digit is but a name that nobody has.
    ("COUNT\n", "{\"request\":\"CLOSE\"}\nECHO on\n",
     "MSG 0\nMSG error: no request is named {\"REQUEST\":\"CLOSE\"}: INFO tells what there is\nMSG on\n"),
    ("\r\ncount\n", "5    \nECHO on\n",
     "MSG 0\nMSG error: no request is named 5: INFO tells what there is\nMSG on\n"),
    ("COUNT\n", "&END\nCOUNT\n", "MSG 0\nCLOSE CONFIRM\n"),
];

#[test]
fn a_frame_follows_a_frame_and_nothing_else() {
    let first = format!("{HEADER}COUNT");
    let zero = format!("{:<64}0", 1);
    let lost = "{\"error\":{\"code\":\"bad_request\",\"message\":\"a frame's header must be its length in decimal \
                digits, padded with spaces to 64 bytes\"}}";
    for (then, answer) in [
        (r#"{"request":"COUNT"}"#, frame(lost)),
        ("COUNT\n", frame(lost)),
        ("&END", frame(lost)),
        (&first, zero.clone()),
        (&frame("&END"), frame("CLOSE CONFIRM")),
    ] {
        assert_eq!(answered(&format!("{first}{then}"), &[]), format!("{zero}{answer}"), "{then}");
    }
}
