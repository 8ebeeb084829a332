//! The `json` room: a named row for each production of RFC 8259 and each boundary.

use socket_tables::json::{Kind, Number, Object, Parser, Text, Value};

#[test]
fn first_face() {
    let value = Value::parse(" { \"a\" : [1, 2.50, \"x\\ud83d\\ude00\\n\"], \"a\": null } ").unwrap();
    assert_eq!(value.to_string(), "{\"a\":[1,2.50,\"x😀\\n\"],\"a\":null}");
    assert!(value.get("a").unwrap().is_null());
    assert_eq!(Text::parse(" [ 1 , 2 ]").unwrap().as_str(), "[1,2]");
    assert_eq!(Text::string("a\"b").as_string().unwrap(), "a\"b");
    assert_eq!(Text::parse("5.0e1").unwrap().as_i128(), Some(50));
    assert_eq!(
        Value::parse("[1,]").unwrap_err().to_string(),
        "byte 3 (line 1, column 4): expected a value, found ']': take the trailing comma away"
    );
    assert_eq!(std::mem::size_of::<Value>(), 32);
}
