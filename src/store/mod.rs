//! The store: the table behind one lock, and the only place where state changes.
//!
//! One `RwLock` guards the whole table and the list of watchers. Readers do not wait for one another, a write is
//! atomic with its condition, and changes have one order, which every watcher sees. The lock is held while an
//! answer is copied out and never while anything waits for a socket. A lock for each of many shards would let
//! writers run side by side, but there would be no one order of changes any more, nor a listing that is a snapshot.
//!
//! Writers take turns by a mutex of their own before they come to that lock. A condition (`if`) may have to
//! compare a megabyte of JSON, and std's `RwLock` lets no reader in while a writer waits: when conditions were
//! judged under the lock for writing, two clients that asked for nothing else stopped every GET for seconds. Now
//! whoever has the turn judges beside the readers, sure that nobody else writes, and holds the lock for writing
//! for the change alone.
//!
//! - `table` holds keys and values.
//! - `watch` tells of changes.
//! - `lease` deletes keys whose time is over.
//! - `journal` keeps them on disk, where that is wanted. Behind it come `record`, `recovery`, `file` and `commit`.

mod commit;
mod file;
mod hash_index;
mod journal;
mod lease;
mod record;
mod recovery;
mod rejected;
mod table;
mod watch;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::json::JsonText;
use crate::protocol::{Condition, KEY_BYTES_MAX, check_key, excerpt};
pub use file::{check_journal, repair_journal};
pub use journal::{Durability, Journal, SyncPolicy};
pub use lease::Clock;
use lease::Leases;
pub use recovery::{Fault, Found, JournalError};
pub use rejected::Rejected;
pub use table::{Entry, Table};
use watch::Watchers;
pub use watch::{Change, ChangeKind, QueuedChange, WatchEnd, Watcher};

/// What an integer of 128 bits has, with its sign.
pub const INTEGER_BYTES_MAX: usize = 40;

/// A shared table. A key that is written must pass [`check_key`], whoever writes it: the table relies on keys without
/// control characters.
///
/// ```
/// use socket_tables::store::Store;
///
/// let store = Store::default();
/// store.update("door", &"open".into(), None, None)?;
/// assert_eq!(store.get("door", |value| value.map(str::to_owned)).as_deref(), Some("\"open\""));
/// # Ok::<(), socket_tables::store::Rejected>(())
/// ```
#[derive(Default)]
pub struct Store {
    /// Locked before `state` by whoever is going to write.
    turn: Mutex<()>,
    state: RwLock<State>,
    /// What keys and values may hold, in bytes.
    memory_max: Option<usize>,
    journal: Option<Journal>,
    leases: Leases,
}

/// What the lock guards.
#[derive(Default)]
struct State {
    table: Table,
    watchers: Watchers,
}

/// Proof that nobody else writes, or decides what to write. Functions that rely on it take it as an argument, so that
/// none can be called without.
type Turn<'s> = MutexGuard<'s, ()>;

impl Store {
    /// An empty store, whose keys and values may hold `memory_max` bytes.
    ///
    /// ```
    /// use socket_tables::store::{Rejected, Store};
    ///
    /// let store = Store::new(Some(0));
    /// assert_eq!(store.update("door", &"open".into(), None, None), Err(Rejected::Full));
    /// ```
    pub fn new(memory_max: Option<usize>) -> Store {
        Store { memory_max, ..Store::default() }
    }

    /// A store whose table is that of a journal, and whose changes go there: see [`Store::commit`]. `progress` is told
    /// the number of each record that is read.
    ///
    /// ```no_run
    /// use socket_tables::store::{Store, SyncPolicy};
    ///
    /// let (store, found) = Store::open(None, "table".as_ref(), SyncPolicy::Always, |_| {})?;
    /// let server = socket_tables::Server::bind("7777")?;
    /// let options = socket_tables::Options { store: store.into(), ..Default::default() };
    /// server.options(options).run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(
        memory_max: Option<usize>,
        path: &Path,
        policy: SyncPolicy,
        mut progress: impl FnMut(u64),
    ) -> Result<(Store, Found), JournalError> {
        let mut store = Store::new(memory_max);
        let table = &mut store.state.get_mut().unwrap_or_else(PoisonError::into_inner).table;
        let (journal, found) = Journal::open(path, policy, |record| {
            record.redo(table);
            progress(record.n);
        })?;
        store.journal = Some(journal);
        Ok((store, found))
    }

    /// Looks at a key's value where it lies, so that GET copies it once, into the reply. `look` runs under the lock
    /// and must not wait.
    ///
    /// ```
    /// # let store = socket_tables::store::Store::default();
    /// assert!(store.get("door", |value| value.is_none()));
    /// ```
    pub fn get<R>(&self, key: &str, look: impl FnOnce(Option<&str>) -> R) -> R {
        look(self.read().table.value(key))
    }

    /// Gives a key this value, if `condition` holds: for so long, or else for ever.
    ///
    /// ```
    /// # let store = socket_tables::store::Store::default();
    /// use socket_tables::{protocol::Condition, store::Rejected};
    ///
    /// store.update("door", &"open".into(), None, None)?;
    /// let again = store.update("door", &"shut".into(), Some(&Condition::Absent), None);
    /// assert_eq!(again, Err(Rejected::Conflict(Some("open".into()))));
    /// # Ok::<(), socket_tables::store::Rejected>(())
    /// ```
    pub fn update(
        &self,
        key: &str,
        value: &JsonText,
        condition: Option<&Condition>,
        ttl: Option<Duration>,
    ) -> Result<(), Rejected> {
        let turn = self.turn_to_write(key.len(), Some(value.as_str().len()))?;
        self.check(&turn, key, condition)?;
        let until = ttl.map(|ttl| self.leases.until(ttl));
        self.set(&turn, key, Entry { value: value.as_str(), until })
    }

    /// Adds to an integer, and tells the sum. A missing key counts as 0, and a string that is an integer as that:
    /// `st client update n 0` stores a string. Where no time is given, the key keeps the one that it had.
    ///
    /// ```
    /// # let store = socket_tables::store::Store::default();
    /// assert_eq!(store.increment("visits", 2, None)?, 2);
    /// # Ok::<(), socket_tables::store::Rejected>(())
    /// ```
    pub fn increment(&self, key: &str, by: i128, ttl: Option<Duration>) -> Result<i128, Rejected> {
        let turn = self.turn_to_write(key.len(), Some(INTEGER_BYTES_MAX))?;
        let (sum, until) = {
            let state = self.read();
            let present = state.table.get(key).unwrap_or(Entry { value: "0", until: None });
            let sum = integer(present.value).and_then(|n| n.checked_add(by));
            (sum.ok_or_else(|| Rejected::NotANumber(excerpt(present.value.as_bytes())))?, present.until)
        };
        let until = ttl.map(|ttl| self.leases.until(ttl)).or(until);
        self.set(&turn, key, Entry { value: &sum.to_string(), until })?;
        Ok(sum)
    }

    /// Takes a key out, if `condition` holds, and tells the value it had.
    ///
    /// ```
    /// # let store = socket_tables::store::Store::default();
    /// store.update("door", &"open".into(), None, None)?;
    /// assert_eq!(store.delete("door", None)?, Some("open".into()));
    /// # Ok::<(), socket_tables::store::Rejected>(())
    /// ```
    pub fn delete(
        &self,
        key: &str,
        condition: Option<&Condition>,
    ) -> Result<Option<JsonText<'static>>, Rejected> {
        let turn = self.turn_to_write(key.len(), None)?;
        self.check(&turn, key, condition)?;
        Ok(self.remove(&turn, key))
    }

    /// Takes the first key out that begins so, and tells it and the value it had.
    ///
    /// ```
    /// # let store = socket_tables::store::Store::default();
    /// store.update("job/1", &"sweep".into(), None, None)?;
    /// assert_eq!(store.take_first("job/")?, Some(("job/1".to_owned(), "sweep".into())));
    /// # Ok::<(), socket_tables::store::Rejected>(())
    /// ```
    pub fn take_first(&self, prefix: &str) -> Result<Option<(String, JsonText<'static>)>, Rejected> {
        let turn = self.turn_to_write(KEY_BYTES_MAX, None)?;
        let first = self.read().table.range(prefix, None).next().map(|(key, _)| key.to_owned());
        Ok(first.and_then(|key| self.remove(&turn, &key).map(|old| (key, old))))
    }

    /// Shows keys and what is known of them in order, those that begin with `prefix` and come after `after`, for as
    /// long as `show` says so. Returns whether that was all of them. `show` runs under the lock.
    ///
    /// ```
    /// # let store = socket_tables::store::Store::default();
    /// store.update("job/1", &"sweep".into(), None, None)?;
    /// let mut keys = Vec::new();
    /// store.list("job/", None, |key, _| { keys.push(key.to_owned()); true });
    /// assert_eq!(keys, ["job/1"]);
    /// # Ok::<(), socket_tables::store::Rejected>(())
    /// ```
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        mut show: impl FnMut(&str, Entry<'_>) -> bool,
    ) -> bool {
        self.read().table.range(prefix, after).all(|(key, entry)| show(key, entry))
    }

    /// How many keys begin with `prefix`.
    ///
    /// ```
    /// # let store = socket_tables::store::Store::default();
    /// assert_eq!(store.count("job/"), 0);
    /// ```
    pub fn count(&self, prefix: &str) -> usize {
        self.read().table.count(prefix)
    }

    /// What keys and values hold, in bytes.
    pub fn bytes(&self) -> usize {
        self.read().table.bytes()
    }

    /// Where changes are kept, if not in memory alone.
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// Whether a write of this key and a value of so many bytes must wait until the journal has been made longer.
    pub fn may_wait(&self, key: usize, value: Option<usize>) -> bool {
        self.journal.as_ref().is_some_and(|journal| !journal.has_room(key, value))
    }

    /// Judges a condition. It holds the lock for reading alone; what it sees stays true for as long as the caller
    /// has the turn.
    fn check(&self, _: &Turn<'_>, key: &str, condition: Option<&Condition>) -> Result<(), Rejected> {
        let Some(condition) = condition else { return Ok(()) };
        self.get(key, |present| {
            let present = present.map(JsonText::trusted);
            let holds = match condition {
                Condition::Absent => present.is_none(),
                Condition::Equals(wanted) => {
                    present.as_ref().is_some_and(|present| present.same_value(wanted))
                }
            };
            if holds { Ok(()) } else { Err(Rejected::Conflict(present.map(JsonText::into_owned))) }
        })
    }

    /// Gives a key this value, where key and limit allow it. What UPDATE and INCREMENT have in common.
    fn set(&self, turn: &Turn<'_>, key: &str, entry: Entry<'_>) -> Result<(), Rejected> {
        check_key(key).map_err(Rejected::BadKey)?;
        if let Some(max) = self.memory_max {
            let table = &self.read().table;
            let old = table.get(key).map_or(0, |old| Table::cost(key, old));
            let new = Table::cost(key, entry);
            // What makes the table smaller is let through even where it stays too large.
            if new > old && table.bytes() - old + new > max {
                return Err(Rejected::Full);
            }
        }
        self.apply(turn, key, Some(entry), entry.value);
        // Not before: whoever waits for the time looks into the table for it.
        entry.until.iter().for_each(|until| self.leases.await_time(*until));
        Ok(())
    }

    /// Takes a key out, if it is there, and tells the value it had.
    fn remove(&self, turn: &Turn<'_>, key: &str) -> Option<JsonText<'static>> {
        // Copied under the lock for reading: a value may be a megabyte, and readers need not wait for the copy.
        let old = self.get(key, |old| old.map(|old| JsonText::trusted(old).into_owned()))?;
        self.apply(turn, key, None, old.as_str());
        Some(old)
    }

    /// Sets a key or takes it out, and queues the change for its watchers, under one lock: they see changes in the order
    /// in which the table does. Every change comes through here. So does the journal's record of it, which is queued
    /// before: see `journal`. Watchers are told `value`: the new one, or the last.
    fn apply(&self, turn: &Turn<'_>, key: &str, entry: Option<Entry<'_>>, value: &str) {
        if let Some(journal) = &self.journal {
            journal.record(key, entry);
        }
        let mut state = self.write(turn);
        let event = match entry {
            Some(entry) => {
                state.table.set(key, entry);
                ChangeKind::Update
            }
            None => {
                state.table.remove(key);
                ChangeKind::Delete
            }
        };
        state.watchers.tell(event, key, value);
    }

    /// The writers' turn, with room in the journal for the record of a key and a value of so many bytes, if it is to have
    /// one. To make room takes as long as the disk does, so it is done before the turn. A write whose value is found in its
    /// turn says how long that may become.
    fn turn_to_write(&self, key: usize, value: Option<usize>) -> Result<Turn<'_>, Rejected> {
        let mut turn = self.turn();
        if let Some(journal) = &self.journal {
            while !journal.has_room(key, value) {
                drop(turn);
                journal.extend(key, value).map_err(Rejected::NoRoom)?;
                turn = self.turn();
            }
        }
        Ok(turn)
    }

    // A panic under the lock can only come of a defect in the table's own code. Half a table is of more use to its
    // clients than none, so a poisoned lock is used on.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, _: &Turn<'_>) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> Turn<'_> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The integer that a value is, or that a string holds. A string must hold it as INCREMENT itself would write it:
/// `"007"`, `"5.0"` and `" 5"` are somebody's texts, not numbers.
fn integer(value: &str) -> Option<i128> {
    let value = JsonText::trusted(value);
    match value.as_string() {
        None => value.as_i128(),
        Some(string) => string.parse().ok().filter(|integer: &i128| integer.to_string() == string),
    }
}
