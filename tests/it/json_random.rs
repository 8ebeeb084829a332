//! The `json` room under random trees and random damage.

use proptest::prelude::*;

use crate::json::read;
use socket_tables::json::{Number, Object, Value};

fn string() -> impl Strategy<Value = String> {
    prop_oneof![".{0,12}", "[ -~]{0,40}", "[\\x00-\\x7f\"\\\\]{0,12}", "[a-c]{0,2}"]
}

fn number() -> impl Strategy<Value = Value> {
    let written = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][-+]?[0-9]{1,25})?";
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|float| Number::from_f64(float).map_or(Value::Null, Value::from)),
        written.prop_map(|text| Value::parse(&text).unwrap()),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number(),
        string().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((string(), inner), 0..8)
                .prop_map(|members| Value::from(members.into_iter().collect::<Object>())),
        ]
    })
}

/// `text` with white space at every place that `spaces` picks among those between tokens.
fn spaced(text: &str, spaces: &[&str]) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    let mut spaces = spaces.iter().cycle();
    for character in text.chars() {
        let structural = !in_string && "[]{},:".contains(character);
        if structural {
            out.push_str(spaces.next().unwrap());
        }
        out.push(character);
        if structural {
            out.push_str(spaces.next().unwrap());
        }
        in_string ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tree_to_text_to_tree(tree in tree()) {
        let text = tree.to_string();
        let back = Value::parse(&text).unwrap();
        prop_assert_eq!(&back, &tree);
        prop_assert_eq!(back.to_string(), text.as_str());
        prop_assert_eq!(read(&text).unwrap(), text.as_str());
        prop_assert_eq!(read(&tree.pretty()).unwrap(), text);
    }

    #[test]
    fn white_space_between_tokens_means_nothing(
        tree in tree(),
        spaces in prop::collection::vec(prop::sample::select(vec!["", " ", "\n", "\t", "\r\n", "\n          "]), 1..9),
    ) {
        let text = tree.to_string();
        let spaced = spaced(&text, &spaces);
        prop_assert_eq!(read(&spaced).unwrap(), text);
        prop_assert_eq!(Value::parse(&spaced).unwrap(), tree);
    }

    /// All readers agree, on validity and on the error (that is what `read` asserts), and none panics.
    #[test]
    fn damaged_text_is_judged_alike_by_all(
        tree in tree(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..3, prop::sample::select(
            vec!["\"", "\\", "{", "}", "[", "]", ",", ":", "0", "9", "-", ".", "e", " ", "\n", "\u{0}", "é", "\\u", "\\ud83d", "null"],
        )), 1..4),
    ) {
        let mut characters: Vec<String> = tree.to_string().chars().map(String::from).collect();
        for (place, how, what) in damage {
            let at = place.index(characters.len());
            match how {
                0 => characters[at] = what.to_owned(),
                1 => characters.insert(at, what.to_owned()),
                _ => characters[at].clear(),
            }
        }
        let text = characters.concat();
        if let Ok(compact) = read(&text) {
            prop_assert_eq!(read(&compact).unwrap(), compact.as_str());
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let tree = Value::from_slice(&bytes);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            prop_assert_eq!(read(text).is_ok(), tree.is_ok());
        } else {
            prop_assert!(tree.is_err());
        }
    }

    #[test]
    fn cut_text_is_no_json(tree in tree()) {
        let text = Value::from(vec![tree]).to_string();
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            prop_assert!(read(&text[..at]).is_err(), "{}", &text[..at]);
        }
    }

    #[test]
    fn integers_come_back(signed in any::<i128>(), unsigned in any::<u64>()) {
        prop_assert_eq!(Number::from(signed).as_i128(), Some(signed));
        prop_assert_eq!(Number::from(unsigned).as_u64(), Some(unsigned));
        prop_assert_eq!(Number::from(signed) == Number::from(unsigned), signed == i128::from(unsigned));
    }

    #[test]
    fn floats_come_back(float in any::<f64>().prop_filter("JSON has it", |float| float.is_finite())) {
        let number = Number::from_f64(float).unwrap();
        prop_assert_eq!(number.to_f64().to_bits(), float.to_bits());
        // Written out to the last digit it is exactly this float.
        let exact = Value::parse(&format!("{float:.1074}")).unwrap();
        prop_assert_eq!(exact.as_number().unwrap().as_exact_f64(), Some(float));
    }

    #[test]
    fn scaling_by_ten_keeps_the_value(digits in "[1-9][0-9]{0,40}", exponent in any::<i64>(), shift in 0_usize..60) {
        let (plain, shifted) = (format!("{digits}e{exponent}"), format!("{digits}{}e{}", "0".repeat(shift), i128::from(exponent) - shift as i128));
        prop_assert_eq!(Value::parse(&plain).unwrap(), Value::parse(&shifted).unwrap());
        let off = format!("{digits}e{}", i128::from(exponent) + 1);
        prop_assert_ne!(Value::parse(&plain).unwrap(), Value::parse(&off).unwrap());
    }
}
