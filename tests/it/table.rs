//! The table against `BTreeMap`: two indexes must never disagree with one map.

use std::collections::BTreeMap;

use proptest::prelude::*;
use socket_tables::json::JsonText;
use socket_tables::protocol::Condition;
use socket_tables::store::{Entry, Rejected, Store, Table};

/// A value, and when it is to be deleted.
type Kept = (String, Option<u64>);

fn entry((value, until): &Kept) -> Entry<'_> {
    Entry { value, until: *until }
}

fn check(table: &Table, model: &BTreeMap<String, Kept>, prefixes: &[&str]) {
    assert_eq!(table.count(""), model.len());
    let bytes: usize = model.iter().map(|(key, kept)| Table::cost(key, entry(kept))).sum();
    assert_eq!(table.bytes(), bytes);
    let soonest = model.values().filter_map(|(_, until)| *until).min();
    assert_eq!(table.next_due().map(|(_, until)| until), soonest);
    assert!(table.next_due().is_none_or(|(key, until)| model[key].1 == Some(until)));
    for prefix in prefixes {
        let all = || model.iter().map(|(key, kept)| (key.as_str(), entry(kept)));
        let expected = || all().filter(|(key, _)| key.starts_with(prefix));
        assert!(table.range(prefix, None).eq(expected()), "{prefix}");
        assert_eq!(table.count(prefix), expected().count(), "{prefix}");
        // On from any key, there or not.
        for after in ["", "b", "k0500", "k0500x", "zz"] {
            let expected = expected().filter(|(key, _)| *key > after);
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
            // Every fifth is a lease; many end at the same time.
            let kept = (n.to_string(), (n % 5 == 0).then_some(n as u64 * 7_919 % 500));
            table.set(&key(n), entry(&kept));
            model.insert(key(n), kept);
        }
        check(&table, &model, &["", "k", "k00", "k4999", "k5", "l"]);
        for n in (0..5_000).filter(|n| n % 3 != 0) {
            table.remove(&key(n));
            table.remove(&key(n));
            model.remove(&key(n));
        }
        check(&table, &model, &["", "k1", "k2"]);
        for n in 0..5_000 {
            assert_eq!(table.get(&key(n)), model.get(&key(n)).map(entry));
        }
        for n in 0..5_000 {
            table.remove(&key(n));
        }
        check(&table, &BTreeMap::new(), &["", "k"]);
    }
}

/// The first and the last time there is, and times that differ in each of the places that the table writes them in.
fn kept() -> impl Strategy<Value = Kept> {
    let until = prop_oneof![0..200_u64, (0..48_u32).prop_map(|bit| 1 << bit), Just((1 << 48) - 1)];
    ("[0-9]{1,9}", prop::option::of(until))
}

proptest! {
    #[test]
    fn any_steps_leave_the_table_as_they_leave_a_map(
        steps in prop::collection::vec(("[a-cé]{1,3}", prop::option::of(kept())), 0..200),
    ) {
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        for (key, kept) in steps {
            if let Some(kept) = kept {
                table.set(&key, entry(&kept));
                model.insert(key, kept);
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
    let max = Table::cost("key", Entry { value: value(100).as_str(), until: None });
    let store = Store::new(Some(max));
    assert_eq!(store.update("key", &value(99), None, None), Ok(()));
    assert_eq!(store.update("key", &value(100), None, None), Ok(()));
    assert_eq!(store.update("key", &value(101), None, None), Err(Rejected::Full));
    assert_eq!(store.bytes(), max);
    assert_eq!(store.update("other", &value(2), None, None), Err(Rejected::Full));
    assert_eq!(store.increment("n", 1, None), Err(Rejected::Full));
    // A condition that does not hold is told first; reading, shrinking and deleting go on.
    let absent = Some(&Condition::Absent);
    assert!(matches!(store.update("key", &value(500), absent, None), Err(Rejected::Conflict(Some(_)))));
    assert!(store.get("key", |value| value.is_some_and(|value| value.len() == 100)));
    assert_eq!(store.update("key", &value(50), None, None), Ok(()));
    assert!(store.delete("key", None).is_ok_and(|old| old.is_some()));
    assert_eq!(store.bytes(), 0);
    assert_eq!(store.update("key", &value(100), None, None), Ok(()));
}

#[test]
fn readers_do_not_wait_for_one_another() {
    let store = Store::new(None);
    store.update("k", &JsonText::string("v"), None, None).unwrap();
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
