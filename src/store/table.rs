//! The table: keys and the JSON text of their values, in memory.
//!
//! A key and its value are one allocation, `key\nvalue`, in a numbered slot; two indexes over the
//! slots find a key (`index`) and list keys in order (`order`). A key holds no control character
//! and a value is compact JSON, so the newline between them is the only one, and since it sorts
//! before every byte that a key may hold, comparing entries as wholes compares their keys.
//!
//! Text is kept rather than a tree: a GET is then a copy of bytes, a number keeps all its digits, and a
//! value costs its length and not a forest of small allocations.
//!
//! Nothing here locks, waits or knows a request: [`crate::store`] does.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::index::Index;
use super::order::Order;

/// What a key costs beside its bytes and its value's: slot, allocation, and both indexes.
const KEY_OVERHEAD_BYTES: usize = 48;

/// Between a key and its value.
const SEPARATOR: char = '\n';

/// Keys and values.
pub struct Table {
    slots: Vec<Option<Box<str>>>,
    /// Slots to use again.
    free: Vec<u32>,
    index: Index,
    order: Order,
    /// Keyed at random, so that nobody can choose keys that collide.
    hasher: RandomState,
    bytes: usize,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            slots: Vec::new(),
            free: Vec::new(),
            index: Index::new(),
            order: Order::new(),
            hasher: RandomState::new(),
            bytes: 0,
        }
    }
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
        let slot = self.find(self.hash(key), key)?;
        Some(value_of(self.entry(slot), key))
    }

    /// Gives a key this value.
    pub fn set(&mut self, key: &str, value: &str) {
        let mut entry = String::with_capacity(key.len() + 1 + value.len());
        entry.push_str(key);
        entry.push(SEPARATOR);
        entry.push_str(value);
        let entry = entry.into_boxed_str();
        let hash = self.hash(key);
        self.bytes += Table::cost(key, value);
        if let Some(slot) = self.find(hash, key) {
            self.bytes -= Table::cost(key, value_of(self.entry(slot), key));
            self.slots[slot as usize] = Some(entry);
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("four billion entries do not fit in memory")
        });
        self.slots[slot as usize] = Some(entry);
        self.index.insert(hash, slot);
        let Table { slots, order, .. } = self;
        order.insert(slot, |other| entry_in(slots, other) < entry_in(slots, slot));
    }

    /// Takes a key out, if it is there.
    pub fn remove(&mut self, key: &str) {
        let hash = self.hash(key);
        let Some(slot) = self.find(hash, key) else { return };
        let Table { slots, order, .. } = self;
        order.remove(|other| entry_in(slots, other) < entry_in(slots, slot));
        self.index.remove(hash, slot);
        self.bytes -= Table::cost(key, value_of(self.entry(slot), key));
        self.slots[slot as usize] = None;
        self.free.push(slot);
    }

    /// Keys and values in order: those whose key begins with `prefix` and comes after `after`.
    pub fn range<'t>(
        &'t self,
        prefix: &'t str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'t str, &'t str)> {
        let start = self.order.position(|slot| {
            let entry = self.entry(slot);
            entry < prefix || after.is_some_and(|after| key_of(entry) <= after)
        });
        self.order
            .iter_from(start)
            .map(|slot| self.entry(slot))
            .take_while(move |entry| entry.starts_with(prefix))
            .filter_map(|entry| entry.split_once(SEPARATOR))
    }

    /// How many keys begin with `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        let before = self.order.rank(|slot| self.entry(slot) < prefix);
        let through = self.order.rank(|slot| {
            let entry = self.entry(slot);
            entry < prefix || entry.starts_with(prefix)
        });
        through - before
    }

    fn hash(&self, key: &str) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        hasher.finish() as u32
    }

    fn find(&self, hash: u32, key: &str) -> Option<u32> {
        self.index.find(hash, |slot| {
            let entry = self.entry(slot).as_bytes();
            entry.get(key.len()) == Some(&(SEPARATOR as u8)) && entry.starts_with(key.as_bytes())
        })
    }

    fn entry(&self, slot: u32) -> &str {
        entry_in(&self.slots, slot)
    }
}

fn entry_in(slots: &[Option<Box<str>>], slot: u32) -> &str {
    slots[slot as usize].as_deref().expect("an indexed slot holds an entry")
}

fn value_of<'t>(entry: &'t str, key: &str) -> &'t str {
    &entry[key.len() + 1..]
}

fn key_of(entry: &str) -> &str {
    entry.split_once(SEPARATOR).map_or(entry, |(key, _)| key)
}
