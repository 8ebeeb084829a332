//! The table: keys and the JSON text of their values, in memory. It knows no lock, no watcher and no request.
//!
//! A key and its value are one allocation, `key\nvalue`, in a numbered slot; two indexes over the slots find a key
//! and list keys in order. A key holds no control character and a value is compact JSON, so the newline between
//! them is the only one. It also sorts before every byte of a key, so comparing two whole entries compares
//! their keys.
//!
//! A value is kept as text instead of a tree: a GET is then a copy of bytes, a number keeps all its digits, and a
//! value costs its length instead of a forest of small allocations.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::index::{HashIndex, OrderedIndex};

/// What a key costs beside its bytes and its value's: slot, allocation, and both indexes.
const KEY_OVERHEAD_BYTES: usize = 48;

/// Between a key and its value.
const SEPARATOR: u8 = b'\n';

/// Keys and values.
#[derive(Default)]
pub struct Table {
    /// `key\nvalue` each, or nothing at all in a slot that is free.
    slots: Vec<Box<str>>,
    /// Slots to use again.
    free: Vec<u32>,
    by_hash: HashIndex,
    by_key: OrderedIndex,
    /// Keyed at random, so that nobody can choose keys that collide and make every search a long one.
    hasher: RandomState,
    bytes: usize,
}

impl Table {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What keys and values hold of memory, by the rule of [`Table::cost`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What one key and its value hold of memory, near enough to bound a process by.
    pub fn cost(key: &str, value: &str) -> usize {
        KEY_OVERHEAD_BYTES + key.len() + value.len()
    }

    /// The text of a key's value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.find(self.hash(key), key).map(|slot| self.value(slot, key))
    }

    /// Gives a key this value.
    pub fn set(&mut self, key: &str, value: &str) {
        let entry = [key, value].join("\n").into_boxed_str();
        let hash = self.hash(key);
        self.bytes += Table::cost(key, value);
        if let Some(slot) = self.find(hash, key) {
            self.bytes -= Table::cost(key, self.value(slot, key));
            self.slots[slot as usize] = entry;
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Box::default());
            u32::try_from(self.slots.len() - 1).expect("four billion entries do not fit in memory")
        });
        self.slots[slot as usize] = entry;
        self.by_hash.insert(hash, slot);
        self.by_key.insert(slot, |other| self.slots[other as usize] < self.slots[slot as usize]);
    }

    /// Takes a key out, if it is there.
    pub fn remove(&mut self, key: &str) {
        let hash = self.hash(key);
        let Some(slot) = self.find(hash, key) else { return };
        self.bytes -= Table::cost(key, self.value(slot, key));
        self.by_hash.remove(hash, slot);
        self.by_key.remove(|other| self.slots[other as usize] < self.slots[slot as usize]);
        self.slots[slot as usize] = Box::default();
        self.free.push(slot);
    }

    /// Keys and values in order: those whose key begins with `prefix` and comes after `after`. A whole listing
    /// splits every entry, so how this is written matters: with the split in a function of its own it took 1.8
    /// times as long.
    pub fn range<'t>(
        &'t self,
        prefix: &'t str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'t str, &'t str)> {
        let start = self.by_key.position(|slot| {
            let entry = self.entry(slot);
            entry < prefix
                || after.is_some_and(|after| entry.split_once('\n').is_some_and(|(key, _)| key <= after))
        });
        self.by_key
            .iter_from(start)
            .map(|slot| self.entry(slot))
            .take_while(move |entry| entry.starts_with(prefix))
            .filter_map(|entry| entry.split_once('\n'))
    }

    /// How many keys begin with `prefix`. It finds both ends and counts blocks between them, not keys.
    pub fn count(&self, prefix: &str) -> usize {
        let start = self.by_key.position(|slot| self.entry(slot) < prefix);
        let end = self.by_key.position(|slot| {
            let entry = self.entry(slot);
            entry < prefix || entry.starts_with(prefix)
        });
        self.by_key.distance(start, end)
    }

    fn hash(&self, key: &str) -> u32 {
        // Not `hash_one`: it hashes one byte more, to mark the end, and a GET took 32 ns instead of 24.
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        hasher.finish() as u32
    }

    fn find(&self, hash: u32, key: &str) -> Option<u32> {
        self.by_hash.find(hash, |slot| {
            let entry = self.entry(slot);
            entry.as_bytes().get(key.len()) == Some(&SEPARATOR)
                && entry.as_bytes().starts_with(key.as_bytes())
        })
    }

    fn entry(&self, slot: u32) -> &str {
        &self.slots[slot as usize]
    }

    /// The value in the slot of this key.
    fn value(&self, slot: u32, key: &str) -> &str {
        &self.entry(slot)[key.len() + 1..]
    }
}
