//! Trees: numbers to the last digit, equality, writing, the pull face, and stacks that must suffice.

use std::collections::BTreeMap;

use socket_tables::cli::{Layout, ReformatError, reformat};
use socket_tables::json::{
    Array, DEPTH_MAX, Error, JsonText, Kind, Number, Object, Parser, Value, write_str,
};

fn number(text: &str) -> Number {
    Value::parse(text).unwrap().as_number().unwrap().clone()
}

#[test]
fn numbers_are_equal_by_value_at_any_length() {
    let long = "123".repeat(200);
    let (with_point, with_exponent) = (format!("{long}.000"), format!("0.{long}e600"));
    let equal: &[&[&str]] = &[
        &["0", "-0", "0.0", "0e5", "-0.000e-99999999999999999999999", "0e99999999999999999999999"],
        &["1", "1.0", "10e-1", "0.1e1", "0.00001E+5", "1000e-3"],
        &["-5", "-5.0", "-0.5e1", "-50e-1"],
        &["100", "1e2", "1.00E2", "0.1e3", "1e+02"],
        &["1e999999999", "10e999999998", "0.1e1000000000"],
        &["1e-999999999", "10e-1000000000", "0.1e-999999998"],
        &[
            "1e99999999999999999999999999999999999999999999",
            "10e99999999999999999999999999999999999999999998",
        ],
        &[
            "1e100000000000000000000000000000000000000000000",
            "10e99999999999999999999999999999999999999999999",
        ],
        &["1.5e-100000000000000000000000", "15e-100000000000000000000001"],
        &[&long, &with_point, &with_exponent],
        &["9007199254740993", "9007199254740993.0"],
        &["9007199254740992", "9.007199254740992e15"],
        &["18446744073709551616", "18446744073709551616.0"],
        &["0.1", "0.10", "1e-1"],
        &["1e400", "10e399"],
        &["-1", "-1e0"],
        &["2", "2e00000000000000000000000000000000000000000000000000"],
        &["1e18446744073709551616"],
        &["1e1"],
        &["100000000000000000001", "10000000000000000000100e-2"],
    ];
    let mut rows = Vec::new();
    for (class, row) in equal.iter().enumerate() {
        rows.extend(row.iter().map(|text| (class, number(text))));
    }
    for (class, a) in &rows {
        for (other, b) in &rows {
            assert_eq!(a == b, class == other, "{a} and {b}");
        }
    }
}

#[test]
fn a_machine_number_comes_out_only_where_it_is_exact() {
    type Row = (&'static str, Option<i64>, Option<u64>, Option<i128>, Option<f64>);
    let rows: &[Row] = &[
        ("0", Some(0), Some(0), Some(0), Some(0.0)),
        ("-0", Some(0), Some(0), Some(0), Some(-0.0)),
        ("5.0", Some(5), Some(5), Some(5), Some(5.0)),
        ("1e3", Some(1000), Some(1000), Some(1000), Some(1000.0)),
        ("-12e-1", None, None, None, None),
        ("0.5", None, None, None, Some(0.5)),
        ("0.1", None, None, None, None),
        ("9007199254740992", Some(1 << 53), Some(1 << 53), Some(1 << 53), Some(9007199254740992.0)),
        ("9007199254740993", Some((1 << 53) + 1), Some((1 << 53) + 1), Some((1 << 53) + 1), None),
        ("9223372036854775807", Some(i64::MAX), Some(i64::MAX as u64), Some(i64::MAX.into()), None),
        ("9223372036854775808", None, Some(1 << 63), Some(1 << 63), Some(9223372036854775808.0)),
        ("-9223372036854775808", Some(i64::MIN), None, Some(i64::MIN.into()), Some(-9223372036854775808.0)),
        ("-9223372036854775809", None, None, Some(i128::from(i64::MIN) - 1), None),
        ("18446744073709551615", None, Some(u64::MAX), Some(u64::MAX.into()), None),
        ("18446744073709551616", None, None, Some(1 << 64), Some(18446744073709551616.0)),
        ("170141183460469231731687303715884105727", None, None, Some(i128::MAX), None),
        (
            "170141183460469231731687303715884105728",
            None,
            None,
            None,
            Some(170141183460469231731687303715884105728.0),
        ),
        (
            "-170141183460469231731687303715884105728",
            None,
            None,
            Some(i128::MIN),
            Some(-170141183460469231731687303715884105728.0),
        ),
        ("-170141183460469231731687303715884105729", None, None, None, None),
        ("1e38", None, None, Some(10_i128.pow(38)), None),
        ("1e39", None, None, None, None),
        ("1e400", None, None, None, None),
        ("1e-400", None, None, None, None),
        ("0e400", Some(0), Some(0), Some(0), Some(0.0)),
        ("1e99999999999999999999999999", None, None, None, None),
        ("5e-324", None, None, None, None),
    ];
    for (text, signed, unsigned, wide, float) in rows {
        let number = number(text);
        assert_eq!(number.as_i64(), *signed, "{text}");
        assert_eq!(number.as_u64(), *unsigned, "{text}");
        assert_eq!(number.as_i128(), *wide, "{text}");
        assert_eq!(number.as_exact_f64().map(f64::to_bits), float.map(f64::to_bits), "{text}");
        assert_eq!(number.as_str(), *text);
        assert_eq!(JsonText::parse(text).unwrap().as_i128(), *wide, "{text}");
    }
    assert_eq!(number("1e400").to_f64(), f64::INFINITY);
    assert_eq!(number("0.1").to_f64(), 0.1);
    // The smallest float, written out: 751 digits, all of which count.
    let smallest = format!("{:.1074}", f64::from_bits(1));
    assert_eq!(number(&smallest).as_exact_f64(), Some(f64::from_bits(1)));
    assert_eq!(number(&(smallest + "1")).as_exact_f64(), None);
}

#[test]
fn floats_become_numbers_unless_json_has_none_for_them() {
    for (float, text) in [(0.1, "0.1"), (-0.0, "-0.0"), (5.0, "5.0"), (1e300, "1e300"), (5e-324, "5e-324")] {
        assert_eq!(Number::from_f64(float).unwrap().as_str(), text);
        assert_eq!(number(text).to_f64().to_bits(), float.to_bits());
    }
    assert_eq!(Number::from_f64(f64::NAN), None);
    assert_eq!(Number::from_f64(f64::NEG_INFINITY), None);
}

#[test]
fn values_are_equal_as_json() {
    let rows = [
        ("{\"a\":1,\"b\":2}", "{\"b\":2.0,\"a\":1}", true),
        ("{\"a\":1}", "{\"a\":1,\"b\":2}", false),
        ("{\"a\":1}", "{\"b\":1}", false),
        ("{\"a\":1,\"a\":2}", "{\"a\":2}", true),
        ("{\"a\":1,\"a\":2}", "{\"a\":2,\"a\":1}", false),
        ("{\"\\u0061\":1}", "{\"a\":1}", true),
        ("\"\\u00e9\\/\"", "\"é/\"", true),
        ("[1,2]", "[2,1]", false),
        ("[1,2]", "[1,2,3]", false),
        ("[]", "{}", false),
        ("\"1\"", "1", false),
        ("null", "false", false),
        ("{\"a\":[{\"b\":1e2,\"c\":null}]}", "{\"a\":[{\"c\":null,\"b\":100}]}", true),
    ];
    for (a, b, same) in rows {
        let (a, b) = (JsonText::parse(a).unwrap(), JsonText::parse(b).unwrap());
        assert_eq!(a.same_value(&b), same, "{a} {b}");
        assert_eq!(b.same_value(&a), same, "{a} {b}");
        assert_eq!(a == b, a.as_str() == b.as_str());
    }
}

#[test]
fn of_duplicate_names_the_last_counts() {
    let mut object = Value::parse("{\"a\":1,\"b\":2,\"a\":3}").unwrap().as_object().unwrap().clone();
    assert_eq!(object.get("a"), Some(&Value::from(3)));
    assert_eq!(object.get("c"), None);
    object.push("b", "4");
    assert_eq!(object.get("b"), Some(&Value::from("4")));
    assert_eq!(object.iter().map(|(name, _)| name).collect::<String>(), "abab");
}

#[test]
fn comparing_large_objects_is_not_quadratic() {
    let members = |order: &mut dyn Iterator<Item = u32>| {
        Value::from(order.map(|n| (format!("name {n}"), n)).collect::<Object>())
    };
    // 300,000 members: trying each against each would take 9 * 10^10 steps.
    let (up, down) = (members(&mut (0..300_000)), members(&mut (0..300_000).rev()));
    assert_eq!(up, down);
    assert_ne!(up, members(&mut (1..300_001)));
}

#[test]
fn strings_keep_their_text_at_every_length() {
    for len in (0..70).chain([4096, 100_000]) {
        for (plain, filler) in [("x", "x"), ("é", "漢"), ("\"", "y"), ("\n", "\u{1}"), ("😀", "\\")] {
            let text = filler.repeat(len) + plain;
            let json = JsonText::string(&text);
            let tree = Value::parse(json.as_str()).unwrap();
            assert_eq!(tree.as_str(), Some(text.as_str()));
            assert_eq!(Value::from(text.as_str()), tree);
            assert_eq!(Value::from(text.clone()).to_string(), json.as_str());
            assert_eq!(json.as_string().as_deref(), Some(text.as_str()));
            let object = Value::parse(&format!("{{{json}:{json}}}")).unwrap();
            assert_eq!(object.get(&text), Some(&tree));
            assert_eq!(object.to_string(), format!("{{{json}:{json}}}"));
        }
    }
}

#[test]
fn escapes_are_written_only_where_the_grammar_demands_them() {
    for code in (0..0x300).chain([0x2028, 0xfeff, 0xffff, 0x1f600]) {
        let character = char::from_u32(code).unwrap();
        let expected = match character {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\u{8}' => "\\b".to_owned(),
            '\u{c}' => "\\f".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            '\0'..='\u{1f}' => format!("\\u{code:04x}"),
            itself => itself.to_string(),
        };
        let mut out = Vec::new();
        write_str(&mut out, &character.to_string());
        assert_eq!(String::from_utf8(out).unwrap(), format!("\"{expected}\""));
    }
}

#[test]
fn texts_are_read_without_a_tree() {
    let spaced = " { \"a\" : 1 } ";
    let text = JsonText::parse(spaced).unwrap();
    assert_eq!((text.as_str(), text.borrowed().as_str()), ("{\"a\":1}", "{\"a\":1}"));
    assert_eq!(text.to_value().get("a"), Some(&Value::from(1)));
    assert_eq!(text.clone().into_owned(), text);
    let source = String::from("[1,[2]]");
    assert!(std::ptr::eq(JsonText::parse(&source).unwrap().as_str(), source.as_str()), "copied without need");
    assert!(JsonText::parse("null").unwrap().is_null() && JsonText::NULL.is_null());
    assert!(!JsonText::parse("\"null\"").unwrap().is_null());
    assert_eq!(JsonText::parse("5").unwrap().as_string(), None);
    assert_eq!(JsonText::parse("\"5\"").unwrap().as_i128(), None);
    assert_eq!(JsonText::parse("\"\\ud83d\\ude00\\\"\\u0000\"").unwrap().as_string().unwrap(), "😀\"\0");
    assert_eq!(JsonText::from(Value::from(vec![Value::from(true), Value::Null])).as_str(), "[true,null]");
}

#[test]
fn objects_are_picked_apart_by_pulling() {
    let pick = |text: &'static str| {
        let mut parser = Parser::new(text);
        let mut found = BTreeMap::new();
        parser.object::<Error>(|parser, name| {
            found.insert(name.unescape().into_owned(), parser.compact()?.as_str().to_owned());
            Ok(())
        })?;
        parser.end().map(|()| found)
    };
    let found = pick(" { \"a\" : [ 1 , { } ] , \"\\u0062\" : \"x y\" } \n").unwrap();
    assert_eq!(found["a"], "[1,{}]");
    assert_eq!(found["b"], "\"x y\"");
    assert_eq!(pick("{}").unwrap().len(), 0);
    assert_eq!(pick("[]").unwrap_err().kind, Kind::Object);
    assert_eq!(pick("{\"a\":1,}").unwrap_err().kind, Kind::Name);
    // A closure that consumes nothing is told so; it cannot make the parser loop.
    let lazy = Parser::new("{\"a\":1}").object::<Error>(|_, _| Ok(()));
    assert_eq!(lazy.unwrap_err().kind, Kind::CommaOrBrace);
    // Pulled levels count like all others.
    fn dig(parser: &mut Parser<'_>) -> Result<(), Error> {
        if parser.peek() == b'[' { parser.array(dig) } else { parser.skip() }
    }
    assert!(dig(&mut Parser::new(&("[".repeat(128) + &"]".repeat(128)))).is_ok());
    assert_eq!(dig(&mut Parser::new(&"[".repeat(129))).unwrap_err().kind, Kind::Depth);
    assert!(dig(&mut Parser::new(&format!("[{}[1]]", "[],[1],".repeat(200)))).is_ok());
}

#[test]
fn pretty_is_two_spaces_a_level() {
    let value = Value::parse("{\"a\":[1,[],{}],\"b\":{\"c\":null}}").unwrap();
    let pretty = "{\n  \"a\": [\n    1,\n    [],\n    {}\n  ],\n  \"b\": {\n    \"c\": null\n  }\n}";
    assert_eq!(value.pretty(), pretty);
    assert_eq!(Value::Array(Array::default()).pretty(), "[]");
    let mut out = Vec::new();
    reformat(value.to_string().as_bytes(), &mut out, &Layout::Pretty.into()).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), format!("{pretty}\n"));
}

/// Notes how much it is given at a time.
struct Pieces(Vec<usize>);

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.push(bytes.len());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn reformatting_keeps_what_was_written() {
    let text = "{\"\\u0061\" : [ 1.50E+2, \"\\/\\ud83d\\ude00\" ] , \"\\u0061\":-0}";
    let run = |layout: Layout| {
        let mut out = Vec::new();
        reformat(text.as_bytes(), &mut out, &layout.into()).map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(
        run(Layout::Compact).unwrap(),
        "{\"\\u0061\":[1.50E+2,\"\\/\\ud83d\\ude00\"],\"\\u0061\":-0}\n"
    );
    assert_eq!(run(Layout::Check).unwrap(), "");
    assert_eq!(
        run(Layout::Pretty).unwrap(),
        "{\n  \"\\u0061\": [\n    1.50E+2,\n    \"\\/\\ud83d\\ude00\"\n  ],\n  \"\\u0061\": -0\n}\n"
    );
    let large = format!("[{}1]", "1,".repeat(100_000));
    let mut pieces = Pieces(Vec::new());
    reformat(large.as_bytes(), &mut pieces, &Layout::Compact.into()).unwrap();
    assert_eq!(pieces.0.iter().sum::<usize>(), large.len() + 1);
    assert!(pieces.0.iter().all(|len| (1..=32 * 1024).contains(len)), "gathered: {:?}", pieces.0);
    let full: &mut [u8] = &mut [0; 50_000];
    let error = reformat(large.as_bytes(), full, &Layout::Compact.into()).unwrap_err();
    assert!(matches!(error, ReformatError::Write(_)), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

/// What the server's smallest stack must carry, in a debug build.
#[test]
fn the_deepest_nesting_fits_a_small_stack() {
    let objects = "{\"a\":".repeat(DEPTH_MAX - 1) + "[]" + &"}".repeat(DEPTH_MAX - 1);
    let arrays = "[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX);
    let carry = move || {
        for text in [arrays.as_str(), objects.as_str()] {
            let value = Value::parse(text).unwrap();
            let copy = value.clone();
            assert_eq!(copy, value);
            assert!(
                JsonText::parse(text).unwrap().same_value(&JsonText::parse(&format!(" {text}")).unwrap())
            );
            assert_eq!(value.to_string(), text);
            assert_eq!(JsonText::parse(&value.pretty()).unwrap().as_str(), text);
            assert!(!format!("{value:?}").is_empty());
            assert!(Value::parse(&format!("[{text}]")).is_err());
        }
    };
    std::thread::Builder::new().stack_size(128 * 1024).spawn(carry).unwrap().join().unwrap();
}

/// A value that is put together by hand is never deeper than one that is parsed, whichever way is tried.
#[test]
fn what_nests_too_deep_is_refused_when_it_is_put_together() {
    let deepest = || Value::parse(&("[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX))).unwrap();
    let inner =
        || Value::parse(&("{\"a\":".repeat(DEPTH_MAX - 1) + "1" + &"}".repeat(DEPTH_MAX - 1))).unwrap();
    type Make = fn(Value) -> Value;
    let ways: [(&str, Make); 5] = [
        ("vec", |value| vec![Value::Null, value].into()),
        ("array", |value| Array::from(vec![value]).into()),
        ("iterator", |value| Value::Array([value].into_iter().collect())),
        ("members", |value| Object::from_iter([("a", value)]).into()),
        ("push", |value| {
            let mut object = Object::new();
            object.push("a", value);
            object.into()
        }),
    ];
    for (name, make) in ways {
        let made = make(inner());
        assert_eq!(Value::parse(&made.to_string()), Ok(made.clone()), "{name}");
        assert_eq!(JsonText::from(&made).to_value(), made, "{name}");
        let refused = std::panic::catch_unwind(|| make(deepest())).unwrap_err();
        let said = refused.downcast::<String>().unwrap();
        assert!(said.contains("128 levels"), "{name}: {said}");
    }
}

#[test]
fn a_value_is_four_words() {
    assert_eq!(size_of::<Value>(), 32);
    assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
}
