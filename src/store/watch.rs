//! Watching: being told of every change, in order, none missed and none twice.
//!
//! A watcher is told the present state first, in pieces, since a table may be large; and writers do not
//! wait for it. So it keeps a mark: keys up to the mark have been told. A change of such a key
//! is queued, to be told after the state; a change of a key beyond the mark is not, for the state has
//! yet to tell it. Mark and queue move under the table's lock, which writers hold too, so
//! no change falls between them.
//!
//! A writer only appends to queues. A watcher that does not keep up is given up on, rather than have
//! the writers wait for it or the queue take all memory.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Store;
use crate::json::Text;
use crate::protocol::Scope;

/// Changes that may wait for a watcher for longer than [`LATE`]. A burst may be longer.
const CHANGES_MAX: usize = 1024;
/// Long enough for a thread on a busy machine to get a processor, and to empty the queue.
const LATE: Duration = Duration::from_secs(1);
/// What all changes that wait for a watcher may hold.
const CHANGES_BYTES_MAX: usize = 16 << 20;
/// What a waiting change holds beside key and value.
const CHANGE_OVERHEAD_BYTES: usize = 96;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has a new value.
    Update,
    /// Its value was removed.
    Delete,
}

impl Event {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Update => "UPDATE",
            Event::Delete => "DELETE",
        }
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub event: Event,
    /// The key.
    pub key: String,
    /// The new value; after [`Event::Delete`] the last one.
    pub value: Text<'static>,
}

/// Why no more changes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The watcher was too slow.
    TooSlow,
    /// It was ended by [`Watch::end`].
    Stopped,
}

/// How far a watcher has been told the state.
enum Mark {
    Start,
    /// Every key up to this one.
    Key(String),
    End,
}

pub(super) struct Watcher {
    scope: Scope<'static>,
    queue: Mutex<Queue>,
    /// Told when a change is queued, and at the end.
    changed: Condvar,
}

struct Queue {
    mark: Mark,
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Since when there have been more than [`CHANGES_MAX`].
    late: Option<Instant>,
    end: Option<End>,
}

/// A watcher's end of the watch. Dropping it ends the watch.
pub struct Watch<'s> {
    store: &'s Store,
    watcher: Arc<Watcher>,
}

impl Store {
    /// Begins a watch. With `state`, what is there now will be told by [`Watch::tell_state`];
    /// else only changes.
    pub fn watch(&self, scope: Scope<'_>, state: bool) -> Watch<'_> {
        let watcher = Arc::new(Watcher {
            scope: scope.into_owned(),
            queue: Mutex::new(Queue {
                mark: if state { Mark::Start } else { Mark::End },
                changes: VecDeque::new(),
                bytes: 0,
                late: None,
                end: None,
            }),
            changed: Condvar::new(),
        });
        self.write().watchers.push(watcher.clone());
        Watch { store: self, watcher }
    }
}

impl Watch<'_> {
    /// Shows the next keys of the state for as long as `show` says so; true when all have been shown.
    pub fn tell_state(&self, mut show: impl FnMut(&str, &str) -> bool) -> bool {
        let state = self.store.read();
        let mut queue = self.watcher.lock();
        let after = match &queue.mark {
            Mark::Start => None,
            Mark::Key(key) => Some(key.as_str()),
            Mark::End => return true,
        };
        let mut last = None;
        match &self.watcher.scope {
            Scope::Key(key) => {
                if let Some(value) = state.table.get(key) {
                    show(key, value);
                }
            }
            Scope::Prefix(prefix) => {
                last = state.table.range(prefix, after).find(|(key, value)| !show(key, value));
            }
        }
        queue.mark = last.map_or(Mark::End, |(key, _)| Mark::Key(key.to_owned()));
        last.is_none()
    }

    /// The next change, if one waits.
    pub fn take(&self) -> Result<Option<Arc<Change>>, End> {
        let mut queue = self.watcher.lock();
        let Some(change) = queue.changes.pop_front() else { return queue.end.map_or(Ok(None), Err) };
        queue.bytes -= cost(&change);
        if queue.changes.len() <= CHANGES_MAX {
            queue.late = None;
        }
        Ok(Some(change))
    }

    /// Ends the watch; what waits can still be taken.
    pub fn end(&self) {
        self.watcher.lock().end.get_or_insert(End::Stopped);
        self.watcher.changed.notify_all();
    }

    /// Waits until a change waits or the watch has ended, or this long.
    pub fn wait(&self, timeout: Duration) {
        let waiting = |queue: &mut Queue| queue.changes.is_empty() && queue.end.is_none();
        // What is waited for is looked at again by the caller, poisoned or not.
        drop(self.watcher.changed.wait_timeout_while(self.watcher.lock(), timeout, waiting));
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.store.write().watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
    }
}

/// Tells all whom it concerns of a change. The caller holds the table's lock for writing.
pub(super) fn tell(watchers: &[Arc<Watcher>], event: Event, key: &str, value: &str) {
    let mut change = None;
    for watcher in watchers.iter().filter(|watcher| watcher.scope.covers(key)) {
        let change = change.get_or_insert_with(|| {
            let value = Text::known(value).into_owned();
            Arc::new(Change { event, key: key.to_owned(), value })
        });
        watcher.offer(change);
    }
}

impl Watcher {
    fn offer(&self, change: &Arc<Change>) {
        let mut queue = self.lock();
        let told = match &queue.mark {
            Mark::Start => false,
            Mark::Key(key) => change.key <= *key,
            Mark::End => true,
        };
        if !told || queue.end.is_some() {
            return;
        }
        queue.bytes += cost(change);
        queue.changes.push_back(change.clone());
        let late =
            queue.changes.len() > CHANGES_MAX && queue.late.get_or_insert_with(Instant::now).elapsed() > LATE;
        if late || queue.bytes > CHANGES_BYTES_MAX {
            queue.changes = VecDeque::new();
            queue.end = Some(End::TooSlow);
        }
        self.changed.notify_all();
    }

    // The queue is whole between any two statements here.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(change: &Change) -> usize {
    CHANGE_OVERHEAD_BYTES + change.key.len() + change.value.as_str().len()
}
