//! The table against `BTreeMap`: two indexes must never disagree with one map.

use std::collections::BTreeMap;

use proptest::prelude::*;
use socket_tables::json::JsonText;
use socket_tables::protocol::Condition;
use socket_tables::store::Table;
use socket_tables::store::{Rejected, Store};

fn check(table: &Table, model: &BTreeMap<String, String>, prefixes: &[&str]) {
    assert_eq!(table.count(""), model.len());
    let bytes: usize = model.iter().map(|(key, value)| Table::cost(key, value)).sum();
    assert_eq!(table.bytes(), bytes);
    for prefix in prefixes {
        let expected = || model.iter().filter(|(key, _)| key.starts_with(prefix));
        assert!(table.range(prefix, None).eq(expected().map(|(k, v)| (k.as_str(), v.as_str()))), "{prefix}");
        assert_eq!(table.count(prefix), expected().count(), "{prefix}");
        // On from any key, there or not.
        for after in ["", "b", "k0500", "k0500x", "zz"] {
            let expected =
                expected().filter(|(key, _)| key.as_str() > after).map(|(k, v)| (k.as_str(), v.as_str()));
            assert!(table.range(prefix, Some(after)).eq(expected), "{prefix} after {after}");
        }
    }
}

/// Enough keys for many blocks and several sizes of the hash index, in three orders of arrival.
#[test]
fn thousands_of_keys_come_and_go_in_any_order() {
    for order in [1, 4_999, 2_903] {
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        let key = |n: usize| format!("k{:04}", n * order % 5_000);
        for n in 0..5_000 {
            table.set(&key(n), &n.to_string());
            model.insert(key(n), n.to_string());
        }
        check(&table, &model, &["", "k", "k00", "k4999", "k5", "l"]);
        for n in (0..5_000).filter(|n| n % 3 != 0) {
            table.remove(&key(n));
            table.remove(&key(n));
            model.remove(&key(n));
        }
        check(&table, &model, &["", "k1", "k2"]);
        for n in 0..5_000 {
            assert_eq!(table.get(&key(n)), model.get(&key(n)).map(String::as_str));
        }
        for n in 0..5_000 {
            table.remove(&key(n));
        }
        check(&table, &BTreeMap::new(), &["", "k"]);
    }
}

proptest! {
    #[test]
    fn any_steps_leave_the_table_as_they_leave_a_map(
        steps in prop::collection::vec((any::<bool>(), "[a-cé]{1,3}", "[0-9]{1,3}"), 0..200),
    ) {
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        for (set, key, value) in steps {
            if set {
                table.set(&key, &value);
                model.insert(key, value);
            } else {
                table.remove(&key);
                model.remove(&key);
            }
        }
        check(&table, &model, &["", "a", "ab", "é", "éa", "d"]);
    }
}

#[test]
fn memory_is_bounded_to_the_byte_and_what_frees_it_goes_on() {
    let value = |bytes: usize| JsonText::string(&"x".repeat(bytes - 2));
    let max = Table::cost("key", value(100).as_str());
    let store = Store::new(Some(max));
    assert_eq!(store.update("key", &value(99), None), Ok(()));
    assert_eq!(store.update("key", &value(100), None), Ok(()));
    assert_eq!(store.update("key", &value(101), None), Err(Rejected::Full));
    assert_eq!(store.bytes(), max);
    assert_eq!(store.update("other", &value(2), None), Err(Rejected::Full));
    assert_eq!(store.increment("n", 1), Err(Rejected::Full));
    // A condition that does not hold is told first; reading, shrinking and deleting go on.
    let absent = Some(&Condition::Absent);
    assert!(matches!(store.update("key", &value(500), absent), Err(Rejected::Conflict(Some(_)))));
    assert!(store.get("key", |value| value.is_some_and(|value| value.len() == 100)));
    assert_eq!(store.update("key", &value(50), None), Ok(()));
    assert!(store.delete("key", None).is_ok_and(|old| old.is_some()));
    assert_eq!(store.bytes(), 0);
    assert_eq!(store.update("key", &value(100), None), Ok(()));
}

#[test]
fn readers_do_not_wait_for_one_another() {
    let store = Store::new(None);
    store.update("k", &JsonText::string("v"), None).unwrap();
    let (looking, both) = std::sync::mpsc::channel();
    // One reader looks at the value until another has seen it too.
    store.get("k", |value| {
        std::thread::scope(|scope| {
            scope.spawn(|| looking.send(store.get("k", |value| value.map(str::to_owned))).unwrap());
            let other = both.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
            assert_eq!(other.as_deref(), value);
        });
    });
}
