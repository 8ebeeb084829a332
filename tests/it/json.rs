//! What is JSON and what is not: a named row for each production of RFC 8259 and each boundary, and what
//! a refusal says. Each row is asked of everything that reads JSON, so that they cannot disagree.

use socket_tables::cli::{Layout, ReformatError, reformat};
use socket_tables::json::{Error, JsonText, Kind, Parser, Value};

/// The compact text, or the error, on which all readers must agree.
pub fn read(text: &str) -> Result<String, Error> {
    let compact = JsonText::parse(text).map(|text| text.as_str().to_owned());
    let tree = Value::parse(text);
    let mut parser = Parser::new(text);
    let check = parser.skip().and_then(|()| parser.end());
    let mut out = Vec::new();
    let reformatted = reformat(text.as_bytes(), &mut out, &Layout::Compact.into());
    match &compact {
        Ok(compact) => {
            assert_eq!(check, Ok(()), "{text}");
            reformatted.unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), format!("{compact}\n"));
            let tree = tree.unwrap();
            assert_eq!(Value::parse(&tree.to_string()).unwrap(), tree, "{text}");
            assert_eq!(JsonText::parse(compact).unwrap().to_value(), tree, "{text}");
        }
        Err(error) => {
            assert_eq!(check.as_ref(), Err(error), "{text}");
            assert_eq!(tree.as_ref(), Err(error), "{text}");
            match reformatted {
                // One value has ended, and `st json` takes another.
                Ok(()) => assert!(error.kind == Kind::End && !out.is_empty(), "{text}"),
                Err(ReformatError::Json(found)) => {
                    assert!(found == *error || error.kind == Kind::End, "{text}");
                    assert!(found.offset >= error.offset, "{text}");
                    assert!(out.is_empty(), "something came out of {text}");
                }
                Err(other) => panic!("{text}: {other}"),
            }
        }
    }
    compact
}

#[test]
fn accepted() {
    let deepest = "[".repeat(128) + &"]".repeat(128);
    let deep_objects = "{\"a\":".repeat(127) + "{}" + &"}".repeat(127);
    let long = format!("\"{}\"", "x".repeat(100_000));
    let digits = "7".repeat(400);
    let rows: &[(&str, &str, &str)] = &[
        ("null", "null", "null"),
        ("true", "true", "true"),
        ("false", "false", "false"),
        ("white space of each kind", " \t\r\n null \t\r\n ", "null"),
        ("no white space taken out of strings", " [ \" a b \" ] ", "[\" a b \"]"),
        ("empty array", "[ ]", "[]"),
        ("empty object", "{ }", "{}"),
        ("array", "[ 1 , 2 ]", "[1,2]"),
        ("object", "{ \"a\" : 1 , \"b\" : [ ] }", "{\"a\":1,\"b\":[]}"),
        ("empty name", "{\"\":0}", "{\"\":0}"),
        ("escaped name", "{\"\\u0061\":0}", "{\"\\u0061\":0}"),
        ("duplicate names are kept", "{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}"),
        ("zero", "0", "0"),
        ("minus zero", "-0", "-0"),
        ("integer", "1234567890", "1234567890"),
        ("negative", "-1", "-1"),
        ("fraction", "0.5", "0.5"),
        ("fraction of zeros", "1.000", "1.000"),
        (
            "fraction of 7, 8, 9 digits",
            "[0.1234567, 0.12345678, 0.123456789]",
            "[0.1234567,0.12345678,0.123456789]",
        ),
        ("exponents", "[1e1,1E1,1e+1,1e-1,1.5e00]", "[1e1,1E1,1e+1,1e-1,1.5e00]"),
        ("exponent of zero", "0e1", "0e1"),
        ("beyond every float", "1e400", "1e400"),
        ("below every float", "1e-400", "1e-400"),
        ("an exponent beyond every integer", "1e99999999999999999999", "1e99999999999999999999"),
        ("400 digits", &digits, &digits),
        ("2^53 + 1", "9007199254740993", "9007199254740993"),
        ("u64::MAX + 1", "18446744073709551616", "18446744073709551616"),
        ("empty string", "\"\"", "\"\""),
        ("each escape", r#""\"\\\/\b\f\n\r\t\u0000\uFFFF\uabCD""#, r#""\"\\\/\b\f\n\r\t\u0000\uFFFF\uabCD""#),
        ("surrogate pair", r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
        ("first and last pair", r#""\uD800\uDC00\uDBFF\uDFFF""#, r#""\uD800\uDC00\uDBFF\uDFFF""#),
        ("around the surrogates", r#""\ud7ff\ue000""#, r#""\ud7ff\ue000""#),
        (
            "DEL and characters of 2, 3, 4 bytes",
            "\"\u{7f}\u{80}é漢😀\u{10ffff}\"",
            "\"\u{7f}\u{80}é漢😀\u{10ffff}\"",
        ),
        ("line separator", "\"\u{2028}\"", "\"\u{2028}\""),
        ("byte order mark inside a string", "\"\u{feff}\"", "\"\u{feff}\""),
        ("a long string", &long, &long),
        ("127 arrays deep", &deepest[1..255], &deepest[1..255]),
        ("128 arrays deep", &deepest, &deepest),
        ("128 objects deep", &deep_objects, &deep_objects),
        ("a bracket closed is a level back", "[[],[],[[]]]", "[[],[],[[]]]"),
    ];
    for (name, text, compact) in rows {
        assert_eq!(read(text).as_deref(), Ok(*compact), "{name}");
    }
}

#[test]
fn refused() {
    use Kind::*;
    let too_deep = "[".repeat(129) + &"]".repeat(129);
    let objects_too_deep = "{\"a\":".repeat(128) + "{}" + &"}".repeat(128);
    let far_too_deep = "[".repeat(100_000);
    let rows: &[(&str, &str, Kind, usize)] = &[
        ("nothing", "", Value, 0),
        ("only white space", " \n", Value, 2),
        ("NUL", "\0", Value, 0),
        ("NUL behind a value", "1\0", End, 1),
        ("two values", "1 2", End, 2),
        ("a bracket too many", "[]]", End, 2),
        ("comma behind the value", "{},", End, 2),
        ("form feed", "\u{c}1", Value, 0),
        ("vertical tab", "1\u{b}", End, 1),
        ("no-break space", "\u{a0}1", Value, 0),
        ("ideographic space", "[1,\u{3000}2]", Value, 3),
        ("byte order mark", "\u{feff}{}", Value, 0),
        ("capital", "Null", Value, 0),
        ("cut word", "nul", Value, 0),
        ("cut word in an array", "[tru]", Value, 1),
        ("word too long", "nulll", End, 4),
        ("words together", "[truefalse]", CommaOrBracket, 5),
        ("minus", "-", Digit, 1),
        ("minus minus", "--1", Digit, 1),
        ("minus word", "-x", Digit, 1),
        ("plus", "+1", Value, 0),
        ("leading zero", "01", End, 1),
        ("negative leading zero", "-012", End, 2),
        ("two zeros", "00", End, 1),
        ("leading zero in an array", "[01]", CommaOrBracket, 2),
        ("point first", ".1", Value, 0),
        ("point last", "1.", Digit, 2),
        ("point, then exponent", "1.e5", Digit, 2),
        ("minus point", "-.5", Digit, 1),
        ("two points", "1.2.3", End, 3),
        ("exponent without digits", "1e", Digit, 2),
        ("exponent sign without digits", "1e+", Digit, 3),
        ("two exponents", "1e5e5", End, 3),
        ("exponent with a fraction", "1e5.5", End, 3),
        ("exponent first", "e5", Value, 0),
        ("hexadecimal", "0x10", End, 1),
        ("underscore", "1_000", End, 1),
        ("digits that are not ASCII", "१", Value, 0),
        ("the byte after 9 among 8 digits", "0.12:456789", End, 4),
        ("the byte before 0 among 8 digits", "0.12/456789", End, 4),
        ("digits behind 8 good ones", "0.12345678a", End, 10),
        ("NaN", "NaN", Value, 0),
        ("Infinity", "Infinity", Value, 0),
        ("-Infinity", "-Infinity", Digit, 1),
        ("open string", "\"abc", Quote, 4),
        ("open string of 8 and more", "\"abcdefghij", Quote, 11),
        ("only a quote", "\"", Quote, 1),
        ("open after a backslash", "\"\\", Escape, 1),
        ("quote escaped away", "\"\\\"", Quote, 3),
        ("line break in a string", "\"a\nb\"", Control, 2),
        ("tab in a string", "\"\t\"", Control, 1),
        ("NUL in a string", "\"\0\"", Control, 1),
        ("last control", "\"\u{1f}\"", Control, 1),
        ("last control among 8 plain bytes", "\"abc\u{1f}defgh\"", Control, 4),
        ("control behind 8 plain bytes", "\"abcdefgh\u{1}\"", Control, 9),
        ("unknown escape", r#""\x41""#, Escape, 1),
        ("capital escape", r#""\N""#, Escape, 1),
        ("escaped apostrophe", r#""\'""#, Escape, 1),
        ("escape of a character of 2 bytes", "\"\\é\"", Escape, 1),
        ("no hex digits", r#""\u""#, Hex, 1),
        ("three hex digits", r#""\u123""#, Hex, 1),
        ("hex digits cut off", r#""\u12"#, Hex, 1),
        ("hex digits with a plus", r#""\u+123""#, Hex, 1),
        ("hex digits with a space", r#""\u 123""#, Hex, 1),
        ("not a hex digit", r#""\u12g4""#, Hex, 1),
        ("capital U", r#""\U0041""#, Escape, 1),
        ("high half alone", r#""\ud83d""#, Surrogate, 1),
        ("high half and a letter", r#""\ud83dx""#, Surrogate, 1),
        ("high half and another escape", r#""\ud83d\n""#, Surrogate, 1),
        ("high half and no half", r#""\ud83d\u0041""#, Surrogate, 1),
        ("two high halves", r#""\ud83d\ud83d""#, Surrogate, 1),
        ("low half alone", r#""a\ude00""#, Surrogate, 2),
        ("halves in the wrong order", r#""\ude00\ud83d""#, Surrogate, 1),
        ("last low half", r#""\udfff""#, Surrogate, 1),
        ("lone half in a name", r#"{"\ud800":1}"#, Surrogate, 2),
        ("open array", "[", Value, 1),
        ("open array after a value", "[1", CommaOrBracket, 2),
        ("open array after a comma", "[1,", Value, 3),
        ("comma alone", "[,]", Value, 1),
        ("comma first", "[,1]", Value, 1),
        ("trailing comma", "[1,]", Value, 3),
        ("two commas", "[1,,2]", Value, 3),
        ("no comma", "[1 2]", CommaOrBracket, 3),
        ("semicolon", "[1;2]", CommaOrBracket, 2),
        ("colon in an array", "[\"a\":1]", CommaOrBracket, 4),
        ("wrong bracket", "[1}", CommaOrBracket, 2),
        ("closing bracket", "]", Value, 0),
        ("open object", "{", Name, 1),
        ("open object after a name", "{\"a\"", Colon, 4),
        ("open object after a colon", "{\"a\":", Value, 5),
        ("open object after a value", "{\"a\":1", CommaOrBrace, 6),
        ("open object after a comma", "{\"a\":1,", Name, 7),
        ("trailing comma in an object", "{\"a\":1,}", Name, 7),
        ("comma alone in an object", "{,}", Name, 1),
        ("no colon", "{\"a\" 1}", Colon, 5),
        ("equals sign", "{\"a\"=1}", Colon, 4),
        ("two colons", "{\"a\"::1}", Value, 5),
        ("no value", "{\"a\":}", Value, 5),
        ("no comma in an object", "{\"a\":1 \"b\":2}", CommaOrBrace, 7),
        ("number as a name", "{1:2}", Name, 1),
        ("null as a name", "{null:1}", Name, 1),
        ("name without quotes", "{a:1}", Name, 1),
        ("wrong bracket of an object", "{\"a\":1]", CommaOrBrace, 6),
        ("line comment", "[1, // one\n2]", Value, 4),
        ("block comment", "/* a */ 1", Value, 0),
        ("129 arrays deep", &too_deep, Depth, 128),
        ("129 objects deep", &objects_too_deep, Depth, 128 * 5),
        ("100,000 deep", &far_too_deep, Depth, 128),
    ];
    for (name, text, kind, offset) in rows {
        let error = read(text).expect_err(name);
        assert_eq!((error.kind, error.offset), (*kind, *offset), "{name}: {error}");
        assert_eq!(error.found, text[*offset..].chars().next(), "{name}");
    }
}

#[test]
fn bytes_that_are_not_utf8() {
    let rows: &[(&str, &[u8], usize)] = &[
        ("a stray continuation", b"\"\x80\"", 1),
        ("overlong slash", b"\"\xc0\xaf\"", 1),
        ("overlong NUL", b"\"\xe0\x80\x80\"", 1),
        ("surrogate in UTF-8", b"\"\xed\xa0\x80\"", 1),
        ("beyond U+10FFFF", b"\"\xf4\x90\x80\x80\"", 1),
        ("cut character", b"\"\xe6\xbc", 1),
        ("UTF-16", b"\xff\xfe[\0]\0", 0),
        ("behind the value", b"null \xff", 5),
    ];
    for (name, bytes, offset) in rows {
        let error = Value::from_slice(bytes).expect_err(name);
        assert_eq!((error.kind, error.offset), (Kind::Utf8, *offset), "{name}");
    }
    let error = Value::from_slice(b"[1,\n\"\xc3\xa9\xff\"]").unwrap_err();
    assert_eq!(error.to_string(), "byte 7 (line 2, column 3): expected UTF-8");
    assert_eq!(Value::from_slice("\"é\"".as_bytes()).unwrap().as_str(), Some("é"));
}

#[test]
fn an_error_says_where_and_what_to_do() {
    let rows: &[(&str, &str)] = &[
        ("", "byte 0 (line 1, column 1): expected a value, found the end"),
        (
            "{'a':1}",
            "byte 1 (line 1, column 2): expected a name in double quotes, found '\\'': JSON strings take double quotes",
        ),
        (
            "['a']",
            "byte 1 (line 1, column 2): expected a value, found '\\'': JSON strings take double quotes",
        ),
        (
            "[“a”]",
            "byte 1 (line 1, column 2): expected a value, found '“': JSON takes straight double quotes",
        ),
        (
            "[1,\n 2,\n]",
            "byte 8 (line 3, column 1): expected a value, found ']': take the trailing comma away",
        ),
        (
            "{\"é\":1,}",
            "byte 8 (line 1, column 8): expected a name in double quotes, found '}': take the trailing comma away",
        ),
        ("[1, // x\n2]", "byte 4 (line 1, column 5): expected a value, found '/': JSON has no comments"),
        (
            "{\"a\":1 # x\n}",
            "byte 7 (line 1, column 8): expected ',' or '}', found '#': JSON has no comments",
        ),
        (
            "{a:1}",
            "byte 1 (line 1, column 2): expected a name in double quotes, found 'a': put the name in double quotes",
        ),
        ("None", "byte 0 (line 1, column 1): expected a value, found 'N': write null"),
        ("[True]", "byte 1 (line 1, column 2): expected a value, found 'T': write true"),
        ("[False]", "byte 1 (line 1, column 2): expected a value, found 'F': write false"),
        (
            "NaN",
            "byte 0 (line 1, column 1): expected a value, found 'N': JSON has no NaN or Infinity: write null, or a string",
        ),
        (
            "-Infinity",
            "byte 1 (line 1, column 2): expected a digit, found 'I': JSON has no NaN or Infinity: write null, or a string",
        ),
        ("007", "byte 1 (line 1, column 2): expected the end, found '0': a number takes no leading zeros"),
        ("100 1", "byte 4 (line 1, column 5): expected the end, found '1': there must be one value only"),
        ("+1", "byte 0 (line 1, column 1): expected a value, found '+': a number takes no plus sign"),
        (".5", "byte 0 (line 1, column 1): expected a value, found '.': write a digit before the point"),
        ("[1.]", "byte 3 (line 1, column 4): expected a digit, found ']': write a digit after the point"),
        (
            "\"\\ud83d\"",
            "byte 1 (line 1, column 2): expected a surrogate pair, not half of one, found '\\\\': write the character itself, or both halves, as in \\ud83d\\ude00",
        ),
        (
            "\"a\nb\"",
            "byte 2 (line 1, column 3): expected no control character inside a string, found '\\n': write a line break inside a string as \\n",
        ),
        (
            "\u{feff}1",
            "byte 0 (line 1, column 1): expected a value, found '\\u{feff}': take the byte order mark away",
        ),
        (
            "\u{a0}1",
            "byte 0 (line 1, column 1): expected a value, found '\\u{a0}': JSON's white space is space, tab, \\n and \\r",
        ),
        ("hello", "byte 0 (line 1, column 1): expected a value, found 'h': a string goes in double quotes"),
        ("[1 [2]]", "byte 3 (line 1, column 4): expected ',' or ']', found '[': is a comma missing?"),
        (
            "\"C:\\dir\"",
            "byte 3 (line 1, column 4): expected one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u, found '\\\\': write a backslash itself as \\\\",
        ),
    ];
    for (text, message) in rows {
        assert_eq!(read(text).unwrap_err().to_string(), *message, "{text}");
    }
}
