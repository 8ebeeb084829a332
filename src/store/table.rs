//! The table: keys and the JSON text of their values, in memory. It knows no lock, no watcher and no request.
//!
//! A key and its value are one allocation, `key\nvalue`, in a numbered slot; indexes over the slots find a key
//! and list keys in order. A key holds no control character and a value is compact JSON, so the newline between
//! them is the only one. It also sorts before every byte of a key, so comparing two whole entries compares
//! their keys.
//!
//! A value is kept as text instead of a tree: a GET is then a copy of bytes, a number keeps all its digits, and a
//! value costs its length instead of a forest of small allocations.
//!
//! One index cannot do both. A hash finds a key with a cache miss or two however many there are, and an order lists
//! those that begin with a prefix. GET and UPDATE of a present key use the hash alone; only a new or removed key
//! changes the order. Both indexes hold slot numbers of four bytes instead of keys, the first with as much of each hash, so
//! a key is in memory once. They cannot read a key themselves; the table hands them a closure that compares the key of a
//! slot with the one that is looked for.
//!
//! A key that is to be deleted some day, a lease, has that time in a list beside the slots, and a third index has these
//! slots in the order of their times. So a lease costs 8 bytes in the one and some 5 in the other. Behind the value, where
//! it stood at first, it made most allocations larger by 16 bytes.
//!
//! Whatever grows does so a part at a time: a client's new key may not keep all others waiting while twelve million are
//! put into a larger index.
//!
//! Why not std's collections: a `HashMap` and a `BTreeMap` would each hold a pointer and a length for every key, 16
//! bytes instead of 4, and neither can tell how many keys begin with a prefix without walking over all of them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::mem;

use super::hash_index::HashIndex;

/// What a key costs beside its bytes and its value's: slot, allocation, and both indexes.
const KEY_OVERHEAD_BYTES: usize = 48;
/// What a lease costs: the time, and its place in the order of times.
const LEASE_BYTES: usize = 16;
/// The time of a key that is there for ever.
const NEVER: u64 = u64::MAX;

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'t> {
    /// Its value, as JSON.
    pub value: &'t str,
    /// When it is to be deleted, in milliseconds since 1970, if ever.
    pub until: Option<u64>,
}

/// Keys and values.
#[derive(Default)]
pub struct Table {
    /// `key\nvalue` each, or nothing at all in a slot that is free.
    slots: Vec<Box<str>>,
    /// When the key in each slot is to be deleted, in blocks of [`BLOCK_SLOTS_MAX`]. Those that are missing are never.
    times: Vec<Vec<u64>>,
    /// Slots to use again.
    free: Vec<u32>,
    by_hash: HashIndex,
    by_key: OrderedIndex,
    /// Of the keys that are leases.
    by_time: OrderedIndex,
    /// Keyed at random, so that nobody can choose keys that collide and make every search a long one.
    hasher: RandomState,
    bytes: usize,
}

impl Table {
    /// What keys and values hold of memory, by the rule of [`Table::cost`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What one key and what is known of it hold of memory, near enough to bound a process by.
    pub fn cost(key: &str, Entry { value, until }: Entry<'_>) -> usize {
        KEY_OVERHEAD_BYTES + key.len() + value.len() + until.map_or(0, |_| LEASE_BYTES)
    }

    /// What is known of a key, if it is there.
    pub fn get(&self, key: &str) -> Option<Entry<'_>> {
        self.find(self.hash(key), key).map(|slot| self.entry(slot, key))
    }

    /// Its value alone.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.find(self.hash(key), key).map(|slot| &self.text(slot)[key.len() + 1..])
    }

    /// Gives a key this value and this time.
    pub fn set(&mut self, key: &str, entry: Entry<'_>) {
        let hash = self.hash(key);
        self.bytes += Table::cost(key, entry);
        let slot = if let Some(slot) = self.find(hash, key) {
            self.bytes -= Table::cost(key, self.entry(slot, key));
            self.end_lease(slot);
            // The key stays where it is, and the value too where it is as long as the old one: counters, times and
            // states often are, and then nothing is allocated.
            let mut text = mem::take(&mut self.slots[slot as usize]).into_string();
            text.truncate(key.len() + 1);
            text.reserve_exact(entry.value.len());
            text.push_str(entry.value);
            self.slots[slot as usize] = text.into_boxed_str();
            slot
        } else {
            let text = [key, entry.value].join("\n").into_boxed_str();
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(Box::default());
                u32::try_from(self.slots.len() - 1).expect("four billion entries do not fit in memory")
            });
            self.slots[slot as usize] = text;
            self.by_hash.part_mut(hash).insert(hash, slot);
            self.by_key.insert(slot, |other| self.slots[other as usize] < self.slots[slot as usize]);
            slot
        };
        if let Some(until) = entry.until.map(|until| until.min(NEVER - 1)) {
            self.set_time(slot, until);
            self.by_time.insert(slot, |other| (time(&self.times, other), other) < (until, slot));
        }
    }

    /// Takes a key out, if it is there.
    pub fn remove(&mut self, key: &str) {
        let hash = self.hash(key);
        let Some(slot) = self.find(hash, key) else { return };
        self.bytes -= Table::cost(key, self.entry(slot, key));
        self.end_lease(slot);
        self.by_hash.part_mut(hash).remove(hash, slot);
        self.by_key.remove(|other| self.slots[other as usize] < self.slots[slot as usize]);
        self.slots[slot as usize] = Box::default();
        self.free.push(slot);
    }

    /// The key that is to be deleted next, and when.
    pub fn next_due(&self) -> Option<(&str, u64)> {
        let slot = self.by_time.iter_from((0, 0)).next()?;
        let (key, _) = self.text(slot).split_once('\n')?;
        Some((key, self.until(slot)?))
    }

    /// Keys and what is known of them, in order: those that begin with `prefix` and come after `after`. A whole listing
    /// splits every entry, so how this is written matters: with the split in a function of its own it took 1.8
    /// times as long.
    pub fn range<'t>(
        &'t self,
        prefix: &'t str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'t str, Entry<'t>)> {
        let start = self.by_key.position(|slot| {
            let text = self.text(slot);
            text < prefix
                || after.is_some_and(|after| text.split_once('\n').is_some_and(|(key, _)| key <= after))
        });
        self.by_key
            .iter_from(start)
            .map(|slot| (slot, self.text(slot)))
            .take_while(move |(_, text)| text.starts_with(prefix))
            .filter_map(|(slot, text)| {
                let (key, value) = text.split_once('\n')?;
                Some((key, Entry { value, until: self.until(slot) }))
            })
    }

    /// How many keys begin with `prefix`. It finds both ends and counts blocks between them, not keys.
    pub fn count(&self, prefix: &str) -> usize {
        let start = self.by_key.position(|slot| self.text(slot) < prefix);
        let end = self.by_key.position(|slot| {
            let text = self.text(slot);
            text < prefix || text.starts_with(prefix)
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
        self.by_hash.part(hash).find(hash, |slot| {
            let text = self.text(slot);
            text.as_bytes().get(key.len()) == Some(&b'\n')
                && same(&text.as_bytes()[..key.len()], key.as_bytes())
        })
    }

    /// What is in the slot of this key.
    fn entry(&self, slot: u32, key: &str) -> Entry<'_> {
        Entry { value: &self.text(slot)[key.len() + 1..], until: self.until(slot) }
    }

    fn until(&self, slot: u32) -> Option<u64> {
        Some(time(&self.times, slot)).filter(|until| *until != NEVER)
    }

    fn text(&self, slot: u32) -> &str {
        &self.slots[slot as usize]
    }

    /// Takes a slot out of the order of times, if it is there.
    fn end_lease(&mut self, slot: u32) {
        if let Some(until) = self.until(slot) {
            self.by_time.remove(|other| (time(&self.times, other), other) < (until, slot));
            self.set_time(slot, NEVER);
        }
    }

    fn set_time(&mut self, slot: u32, time: u64) {
        let (block, at) = (slot as usize / BLOCK_SLOTS_MAX, slot as usize % BLOCK_SLOTS_MAX);
        self.times.resize(self.times.len().max(block + 1), Vec::new());
        let times = &mut self.times[block];
        times.resize(times.len().max(at + 1), NEVER);
        times[at] = time;
    }
}

/// When the key in this slot is to be deleted.
fn time(times: &[Vec<u64>], slot: u32) -> u64 {
    let block = times.get(slot as usize / BLOCK_SLOTS_MAX);
    block.and_then(|times| times.get(slot as usize % BLOCK_SLOTS_MAX)).copied().unwrap_or(NEVER)
}

/// Whether two keys of one length are the same, eight bytes at a time. C's `memcmp` is a call, and musl's compares byte by
/// byte.
fn same(one: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (other_words, other_rest)) = (one.as_chunks(), other.as_chunks());
    words.iter().zip(other_words).all(|(a, b)| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b))
        && rest.iter().zip(other_rest).all(|(a, b)| a == b)
}

/// Slots in a block, at most. Making room in the middle of a full block moves 2 KiB at most.
const BLOCK_SLOTS_MAX: usize = 512;

/// Keeps slots in the order of their keys: a list of sorted blocks, which is a B-tree with one level.
///
/// Without it every listing would sort: a million keys hold writers up for a quarter of a second. It costs 4 bytes
/// a key where keys arrive sorted, and some 6 where they arrive in any other order.
struct OrderedIndex {
    /// Never empty; and no block is, unless it is the only one.
    blocks: Vec<Vec<u32>>,
}

impl Default for OrderedIndex {
    fn default() -> OrderedIndex {
        OrderedIndex { blocks: vec![Vec::new()] }
    }
}

/// A place in the order: the number of a block, and a place in it.
type Position = (usize, usize);

impl OrderedIndex {
    /// Where the first slot stands that is not `less`. Behind the last slot that is the end of the last block.
    fn position(&self, less: impl Fn(u32) -> bool) -> Position {
        let block = self.blocks.partition_point(|slots| slots.last().is_some_and(|slot| less(*slot)));
        let block = block.min(self.blocks.len() - 1);
        (block, self.blocks[block].partition_point(|slot| less(*slot)))
    }

    /// Adds `slot` before the first one that is not `less` than it.
    fn insert(&mut self, slot: u32, less: impl Fn(u32) -> bool) {
        let (mut block, mut at) = self.position(&less);
        if self.blocks[block].len() == BLOCK_SLOTS_MAX {
            // Only the last block is ever added to at its end. Keys that arrive sorted do so all the time; cut in
            // half, each block would stay half empty for good.
            let cut = if at == BLOCK_SLOTS_MAX { at } else { BLOCK_SLOTS_MAX / 2 };
            let upper = self.blocks[block].split_off(cut);
            self.blocks.insert(block + 1, upper);
            (block, at) = self.position(less);
        }
        self.blocks[block].insert(at, slot);
    }

    /// Takes out the first slot that is not `less`. There must be one.
    fn remove(&mut self, less: impl Fn(u32) -> bool) {
        let (block, at) = self.position(less);
        let slots = &mut self.blocks[block];
        slots.remove(at);
        if slots.capacity() > 4 * slots.len() {
            slots.shrink_to(2 * slots.len());
        }
        if slots.is_empty() && self.blocks.len() > 1 {
            self.blocks.remove(block);
        }
    }

    /// The slots from a position on, in order.
    fn iter_from(&self, (block, at): Position) -> impl Iterator<Item = u32> {
        self.blocks[block][at..].iter().chain(self.blocks[block + 1..].iter().flatten()).copied()
    }

    /// How many slots lie between two positions.
    fn distance(&self, (first, start): Position, (last, end): Position) -> usize {
        self.blocks[first..last].iter().map(Vec::len).sum::<usize>() + end - start
    }
}
