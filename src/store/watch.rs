//! Watching: being told of every change, in order, none missed and none twice.
//!
//! A watcher is told the present state first, in pieces, since a table may be large; and writers do not
//! wait for it. So it keeps a mark: keys up to the mark have been told. A change of such a key
//! is queued, to be told after the state; a change of a key beyond the mark is not, for the state has
//! yet to tell it. Mark and queue move under the table's lock, which writers hold too, so
//! no change falls between them.
//!
//! A writer only appends to queues. A watcher that does not keep up is given up on, rather than have
//! the writers wait for it or the queue take all memory. There is a bound for each queue, and one for all of
//! them together: 200 slow watchers of different keys held 2.6 GB when there was only the first.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Store;
use crate::json::JsonText;
use crate::protocol::Scope;

/// Changes that may wait for a watcher for longer than [`LATE`]. A burst may be longer.
const CHANGES_MAX: usize = 1024;
/// Long enough for a thread on a busy machine to get a processor, and to empty the queue.
const LATE: Duration = Duration::from_secs(1);
/// What all changes that wait for a watcher may hold.
const CHANGES_BYTES_MAX: usize = 16 << 20;
/// What all changes that wait for any watcher may hold.
const ALL_CHANGES_BYTES_MAX: usize = 64 << 20;
/// What a waiting change holds beside key and value.
const CHANGE_OVERHEAD_BYTES: usize = 96;
/// What a watcher's place in its queue holds: a queue grows by doubling.
const PLACE_BYTES: usize = 16;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It has a new value.
    Update,
    /// Its value was removed.
    Delete,
}

impl ChangeKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Update => "UPDATE",
            ChangeKind::Delete => "DELETE",
        }
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub event: ChangeKind,
    /// The key.
    pub key: String,
    /// The new value; after [`ChangeKind::Delete`] the last one.
    pub value: JsonText<'static>,
}

/// Why no more changes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// The watcher was too slow.
    TooSlow,
    /// It was ended by [`Watcher::end`].
    Stopped,
}

/// How far a watcher has been told the state.
enum Mark {
    Start,
    /// Every key up to this one.
    Key(String),
    End,
}

/// A change that waits, once for all watchers that it waits for. When the last of them has taken it, what
/// it held is given back.
#[derive(Debug)]
pub struct Waiting {
    change: Change,
    held: Arc<AtomicUsize>,
}

impl Deref for Waiting {
    type Target = Change;

    fn deref(&self) -> &Change {
        &self.change
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.held.fetch_sub(cost(&self.change), Relaxed);
    }
}

/// All watchers of a table.
#[derive(Default)]
pub(super) struct Watchers {
    all: Vec<Arc<Inbox>>,
    /// Bytes that waiting changes hold, each counted once, and every queue's places.
    held: Arc<AtomicUsize>,
}

struct Inbox {
    scope: Scope<'static>,
    held: Arc<AtomicUsize>,
    queue: Mutex<Queue>,
    /// Told when a change is queued, and at the end.
    changed: Condvar,
}

struct Queue {
    mark: Mark,
    changes: VecDeque<Arc<Waiting>>,
    /// What they hold.
    bytes: usize,
    /// Since when there have been more than [`CHANGES_MAX`].
    late: Option<Instant>,
    end: Option<WatchEnd>,
}

/// A watcher's end of the watch. Dropping it ends the watch.
pub struct Watcher<'s> {
    store: &'s Store,
    watcher: Arc<Inbox>,
}

impl Store {
    /// Begins a watch. With `state`, what is there now will be told by [`Watcher::tell_state`];
    /// else only changes.
    pub fn watch(&self, scope: Scope<'_>, state: bool) -> Watcher<'_> {
        let turn = self.turn();
        let watchers = &mut self.write(&turn).watchers;
        let watcher = Arc::new(Inbox {
            scope: scope.into_owned(),
            held: watchers.held.clone(),
            queue: Mutex::new(Queue {
                mark: if state { Mark::Start } else { Mark::End },
                changes: VecDeque::new(),
                bytes: 0,
                late: None,
                end: None,
            }),
            changed: Condvar::new(),
        });
        watchers.all.push(watcher.clone());
        Watcher { store: self, watcher }
    }
}

impl Watcher<'_> {
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
    pub fn take(&self) -> Result<Option<Arc<Waiting>>, WatchEnd> {
        let mut queue = self.watcher.lock();
        let Some(change) = queue.changes.pop_front() else { return queue.end.map_or(Ok(None), Err) };
        queue.bytes -= cost(&change);
        self.watcher.held.fetch_sub(PLACE_BYTES, Relaxed);
        if queue.changes.len() <= CHANGES_MAX {
            queue.late = None;
        }
        Ok(Some(change))
    }

    /// Ends the watch; what waits can still be taken.
    pub fn end(&self) {
        self.watcher.lock().end.get_or_insert(WatchEnd::Stopped);
        self.watcher.changed.notify_all();
    }

    /// Waits until a change waits or the watch has ended, or this long.
    pub fn wait(&self, timeout: Duration) {
        let waiting = |queue: &mut Queue| queue.changes.is_empty() && queue.end.is_none();
        // What is waited for is looked at again by the caller, poisoned or not.
        drop(self.watcher.changed.wait_timeout_while(self.watcher.lock(), timeout, waiting));
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        let turn = self.store.turn();
        self.store.write(&turn).watchers.all.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
        self.watcher.empty(&mut self.watcher.lock());
    }
}

impl Watchers {
    /// How many there are, and what waits for them, in bytes.
    pub fn load(&self) -> (usize, usize) {
        (self.all.len(), self.held.load(Relaxed))
    }

    /// Tells all whom it concerns of a change.
    pub fn tell(&self, event: ChangeKind, key: &str, value: &str) {
        let mut waiting = None;
        for watcher in self.all.iter().filter(|watcher| watcher.scope.covers(key)) {
            let waiting = waiting.get_or_insert_with(|| {
                let value = JsonText::trusted(value).into_owned();
                let change = Change { event, key: key.to_owned(), value };
                self.held.fetch_add(cost(&change), Relaxed);
                Arc::new(Waiting { change, held: self.held.clone() })
            });
            watcher.offer(waiting);
        }
        drop(waiting);
        while self.held.load(Relaxed) > ALL_CHANGES_BYTES_MAX && self.give_up_slowest() {}
    }

    /// Ends the watcher for which most is waiting; false where nothing waits for any.
    fn give_up_slowest(&self) -> bool {
        let slowest = self.all.iter().map(|watcher| (watcher.lock().bytes, watcher));
        match slowest.max_by_key(|(bytes, _)| *bytes) {
            None | Some((0, _)) => false,
            Some((_, watcher)) => {
                watcher.give_up(&mut watcher.lock());
                true
            }
        }
    }
}

impl Inbox {
    fn offer(&self, change: &Arc<Waiting>) {
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
        self.held.fetch_add(PLACE_BYTES, Relaxed);
        let late =
            queue.changes.len() > CHANGES_MAX && queue.late.get_or_insert_with(Instant::now).elapsed() > LATE;
        if late || queue.bytes > CHANGES_BYTES_MAX {
            self.give_up(&mut queue);
        }
        self.changed.notify_all();
    }

    /// The watcher was too slow: what waits for it goes, and so will it.
    fn give_up(&self, queue: &mut Queue) {
        self.empty(queue);
        queue.end = Some(WatchEnd::TooSlow);
        self.changed.notify_all();
    }

    fn empty(&self, queue: &mut Queue) {
        self.held.fetch_sub(queue.changes.len() * PLACE_BYTES, Relaxed);
        (queue.changes, queue.bytes) = (VecDeque::new(), 0);
    }

    // The queue is whole between any two statements here.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(change: &Change) -> usize {
    CHANGE_OVERHEAD_BYTES + change.key.len() + change.value.as_str().len()
}
