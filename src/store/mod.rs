//! The store: the table behind a lock, and the only place where state changes.
//!
//! One `RwLock` around the whole table: readers do not wait for one another, a write is atomic with its
//! condition, and changes have one order, which watchers see. The lock is held while
//! an answer is copied out and never while anything waits for a socket. More locks (one for each
//! of many shards, say) would let writers run side by side, and would cost the one order.

mod watch;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::json::Text;
use crate::protocol::{Condition, KeyError, check_key};
use crate::table::Table;
use watch::Watcher;
pub use watch::{Change, End, Event, Watch};

/// A message shows no more of a value.
const SHOWN_CHARS_MAX: usize = 64;

/// A shared table. A key that is written must pass [`check_key`], whoever writes it.
#[derive(Default)]
pub struct Store {
    state: RwLock<State>,
    /// What keys and values may hold, in bytes.
    memory_max: Option<usize>,
}

/// What the lock guards.
#[derive(Default)]
struct State {
    table: Table,
    watchers: Vec<Arc<Watcher>>,
}

/// Why a write was not done. Nothing was changed.
#[derive(Debug, PartialEq)]
pub enum Rejected {
    /// The condition did not hold; the present value, if there is one.
    Conflict(Option<Text<'static>>),
    /// The present value, of which this is the beginning, is no integer, or the sum has no place in 128 bits.
    NotANumber(String),
    /// Keys and values would hold more than they may.
    Full,
    /// This is no key. Requests were checked when they were read; an action's code was not.
    BadKey(KeyError),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejected::BadKey(error) => return error.fmt(f),
            Rejected::Conflict(_) => "the condition \"if\" does not hold; nothing was changed",
            Rejected::NotANumber(value) => {
                return write!(f, "the value {value}, or the sum, is not an integer of 128 bits");
            }
            Rejected::Full => "keys and values hold as much memory as --max-memory allows; delete some",
        })
    }
}

impl std::error::Error for Rejected {}

impl Store {
    /// An empty store, whose keys and values may hold `memory_max` bytes.
    pub fn new(memory_max: Option<usize>) -> Store {
        Store { state: RwLock::default(), memory_max }
    }

    /// Looks at a key's value where it lies. `look` runs under the lock and must not wait.
    pub fn get<R>(&self, key: &str, look: impl FnOnce(Option<&str>) -> R) -> R {
        look(self.read().table.get(key))
    }

    /// Gives a key this value, if `condition` holds.
    pub fn update(&self, key: &str, value: &Text, condition: Option<&Condition>) -> Result<(), Rejected> {
        let mut state = self.write();
        check(&state.table, key, condition)?;
        self.set(&mut state, key, value.as_str())
    }

    /// Adds to an integer, and tells the sum. A missing key counts as 0, and a string that is an integer as that:
    /// `st client update n 0` stores a string.
    pub fn increment(&self, key: &str, by: i128) -> Result<i128, Rejected> {
        let mut state = self.write();
        let present = state.table.get(key).unwrap_or("0");
        let sum = integer(present).and_then(|n| n.checked_add(by));
        let sum = sum.ok_or_else(|| Rejected::NotANumber(shown(present)))?;
        self.set(&mut state, key, &sum.to_string())?;
        Ok(sum)
    }

    /// Takes a key out, if `condition` holds, and tells the value it had.
    pub fn delete(
        &self,
        key: &str,
        condition: Option<&Condition>,
    ) -> Result<Option<Text<'static>>, Rejected> {
        let mut state = self.write();
        check(&state.table, key, condition)?;
        let Some(old) = state.table.get(key) else { return Ok(None) };
        let old = Text::known(old).into_owned();
        state.table.remove(key);
        watch::tell(&state.watchers, Event::Delete, key, old.as_str());
        Ok(Some(old))
    }

    /// Shows keys and values in order, those that begin with `prefix` and come after `after`, for as
    /// long as `show` says so. Returns whether that was all of them. `show` runs under the lock.
    pub fn list(&self, prefix: &str, after: Option<&str>, mut show: impl FnMut(&str, &str) -> bool) -> bool {
        self.read().table.range(prefix, after).all(|(key, value)| show(key, value))
    }

    /// How many keys begin with `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        let table = &self.read().table;
        if prefix.is_empty() { table.len() } else { table.count(prefix) }
    }

    /// What keys and values hold, in bytes.
    pub fn bytes(&self) -> usize {
        self.read().table.bytes()
    }

    fn set(&self, state: &mut State, key: &str, value: &str) -> Result<(), Rejected> {
        check_key(key).map_err(Rejected::BadKey)?;
        let table = &mut state.table;
        if let Some(max) = self.memory_max {
            let old = table.get(key).map_or(0, |old| Table::cost(key, old));
            let new = Table::cost(key, value);
            // What makes the table smaller is let through even where it stays too large.
            if new > old && table.bytes() - old + new > max {
                return Err(Rejected::Full);
            }
        }
        table.set(key, value);
        watch::tell(&state.watchers, Event::Update, key, value);
        Ok(())
    }

    // A panic under the lock can only come of a defect in the table's own code. Half a table is still
    // more use to its clients than none, so a poisoned lock is used on.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The integer that a value is, or that a string holds. A string must hold it as INCREMENT itself would write it:
/// `"007"`, `"5.0"` and `" 5"` are somebody's texts, not numbers.
fn integer(value: &str) -> Option<i128> {
    let value = Text::known(value);
    match value.as_string() {
        None => value.as_i128(),
        Some(string) => string.parse().ok().filter(|integer: &i128| integer.to_string() == string),
    }
}

/// The beginning of a value for a message of one line.
fn shown(value: &str) -> String {
    let mut shown = String::new();
    for c in value.chars().take(SHOWN_CHARS_MAX) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if value.chars().nth(SHOWN_CHARS_MAX).is_some() { shown + "…" } else { shown }
}

fn check(table: &Table, key: &str, condition: Option<&Condition>) -> Result<(), Rejected> {
    let present = table.get(key).map(Text::known);
    let holds = match (condition, &present) {
        (None, _) | (Some(Condition::Absent), None) => true,
        (Some(Condition::Equals(wanted)), Some(present)) => present.same_value(wanted),
        (Some(Condition::Absent), Some(_)) | (Some(Condition::Equals(_)), None) => false,
    };
    if holds { Ok(()) } else { Err(Rejected::Conflict(present.map(Text::into_owned))) }
}
