//! Watching: being told of every change, in order, none missed and none twice.
//!
//! A watcher is told the present state first. A table may be large and a reader slow, so the state is told in
//! pieces and writers go on in between. Therefore each watcher has a mark, the last key that it has been told. A
//! change of a key up to the mark is queued, to be told when the state has been; a change of a key beyond the mark
//! is not, because the state has yet to tell that key and will tell its new value. Mark and queue move while the
//! table is locked, which writers lock too, so no change falls between them.
//!
//! A writer appends to queues and never waits for a watcher. A watcher that does not keep up is given up on: what
//! waits for it is dropped at once, and it learns that it was too slow. There is a bound for each queue, and one
//! for all of them together: 200 slow watchers of different keys held 2.6 GB when there was only the first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::Store;
use crate::json::{JsonText, Value};
use crate::protocol::Scope;

/// Changes that may wait for a watcher for longer than [`LATE_MAX`]. A burst may be longer.
const CHANGES_MAX: usize = 1024;
/// Long enough for a thread on a busy machine to get a processor, and to empty the queue.
const LATE_MAX: Duration = Duration::from_secs(1);
/// What all changes that wait for a watcher may hold, not counting the one that it takes next. A value can be larger than
/// this where the server takes such requests, and a watcher that has nothing else to take is not slow.
const CHANGES_BYTES_MAX: usize = 16 << 20;
/// What all changes that wait for any watcher may hold.
const ALL_CHANGES_BYTES_MAX: usize = 64 << 20;
/// What a waiting change holds beside key and value.
const CHANGE_OVERHEAD_BYTES: usize = 96;
/// What a change's place in a queue holds: a pointer, and as much again since a queue grows by doubling.
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
    /// The new value as JSON text; after [`ChangeKind::Delete`] the last one.
    pub text: JsonText<'static>,
}

impl Change {
    /// The new value; after [`ChangeKind::Delete`] the last one.
    ///
    /// ```
    /// # use socket_tables::{json::JsonText, store::{Change, ChangeKind}};
    /// # let text = JsonText::from("open");
    /// # let change = Change { event: ChangeKind::Update, key: "door".into(), text };
    /// assert_eq!(change.value().as_str(), Some("open"));
    /// ```
    pub fn value(&self) -> Value {
        self.text.to_value()
    }
}

/// A change on its way to watchers, which share it: a large value is held once. The last of them to drop it takes
/// what it held from the total. A [`Change`] that somebody cloned to keep it is theirs, and counts no more.
#[derive(Debug)]
pub struct QueuedChange {
    /// What is to be told.
    pub change: Change,
    held: Arc<AtomicUsize>,
}

impl QueuedChange {
    fn cost(&self) -> usize {
        CHANGE_OVERHEAD_BYTES + self.change.key.len() + self.change.text.as_str().len()
    }
}

impl Drop for QueuedChange {
    fn drop(&mut self) {
        self.held.fetch_sub(self.cost(), Relaxed);
    }
}

/// Why no more changes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// The watcher was too slow.
    TooSlow,
    /// It was ended by [`Watcher::end`].
    Stopped,
}

/// All watchers of a table. The table's lock guards the list, so whoever changes a key also holds still who is told.
#[derive(Default)]
pub(super) struct Watchers {
    all: Vec<Arc<Inbox>>,
    /// Bytes that waiting changes hold, each counted once, and every queue's places. It is no part of what the
    /// table's lock guards: watchers take changes without that lock.
    held: Arc<AtomicUsize>,
}

/// Where writers leave changes for one watcher. A writer takes its lock while it has the table's, and does not wait
/// long: others hold it for a few instructions, or while they have the table's lock for reading.
struct Inbox {
    scope: Scope<'static>,
    /// [`Watchers::held`].
    held: Arc<AtomicUsize>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Keys up to this one have been told as part of the state: none up to the empty string. `None`: all have been.
    mark: Option<String>,
    changes: VecDeque<Arc<QueuedChange>>,
    /// The cost of these changes.
    bytes: usize,
    /// Since when there have been more than [`CHANGES_MAX`].
    late_since: Option<Instant>,
    end: Option<WatchEnd>,
    /// Woken, once, when a change is queued or the watch ends.
    waker: Option<Waker>,
}

impl Queue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A watcher's end of the watch. Dropping it ends the watch.
pub struct Watcher<'s> {
    store: &'s Store,
    inbox: Arc<Inbox>,
}

impl Store {
    /// Begins a watch. With `state`, what is there now will be told by [`Watcher::tell_state`];
    /// else only changes.
    pub fn watch(&self, scope: Scope<'_>, state: bool) -> Watcher<'_> {
        let turn = self.turn();
        let watchers = &mut self.write(&turn).watchers;
        let inbox = Arc::new(Inbox {
            scope: scope.into_owned(),
            held: watchers.held.clone(),
            queue: Mutex::new(Queue { mark: state.then(String::new), ..Queue::default() }),
        });
        watchers.all.push(inbox.clone());
        Watcher { store: self, inbox }
    }

    /// How many watchers there are, and what the changes that wait for them hold, in bytes.
    pub fn watchers(&self) -> (usize, usize) {
        let watchers = &self.read().watchers;
        (watchers.all.len(), watchers.held.load(Relaxed))
    }
}

impl Watcher<'_> {
    /// Shows the next keys of the state for as long as `show` says so, and tells whether all have been shown. It holds
    /// the table's lock for reading, which keeps writers out, and then the queue's: every change is either part of
    /// the state that it shows, or comes after and finds the mark where this left it.
    pub fn tell_state(&self, mut show: impl FnMut(&str, &str) -> bool) -> bool {
        let state = self.store.read();
        let mut queue = self.inbox.lock();
        let Some(mark) = queue.mark.as_deref() else { return true };
        let last = match &self.inbox.scope {
            Scope::Key(key) => {
                state.table.get(key).map(|entry| show(key, entry.value));
                None
            }
            Scope::Prefix(prefix) => {
                state.table.range(prefix, Some(mark)).find(|(key, entry)| !show(key, entry.value))
            }
        };
        queue.mark = last.map(|(key, _)| key.to_owned());
        queue.mark.is_none()
    }

    /// The next change, if one waits. After the end, what still waits comes first.
    pub fn take(&self) -> Result<Option<Arc<QueuedChange>>, WatchEnd> {
        let mut queue = self.inbox.lock();
        let Some(waiting) = queue.changes.pop_front() else { return queue.end.map_or(Ok(None), Err) };
        queue.bytes -= waiting.cost();
        self.inbox.held.fetch_sub(PLACE_BYTES, Relaxed);
        if queue.changes.len() <= CHANGES_MAX {
            queue.late_since = None;
        }
        Ok(Some(waiting))
    }

    /// Ends the watch; what waits can still be taken.
    pub fn end(&self) {
        let mut queue = self.inbox.lock();
        queue.end.get_or_insert(WatchEnd::Stopped);
        queue.wake();
    }

    /// Has `waker` woken, once, when there is a change to take or the watch has ended; at once where that is so
    /// already. Whoever waits again asks again, so a burst of changes wakes a watcher once.
    pub fn wake_by(&self, waker: Waker) {
        let mut queue = self.inbox.lock();
        queue.waker = Some(waker);
        if !queue.changes.is_empty() || queue.end.is_some() {
            queue.wake();
        }
    }

    /// Waits until there is a change to take or the watch has ended.
    pub fn wait(&self) {
        self.wake_by(unparking());
        thread::park();
    }
}

/// Unparks the current thread.
pub(super) fn unparking() -> Waker {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    Waker::from(Arc::new(Unpark(thread::current())))
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        let turn = self.store.turn();
        self.store.write(&turn).watchers.all.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
        self.inbox.empty(&mut self.inbox.lock());
    }
}

impl Watchers {
    /// Queues a change for every watcher whose scope covers the key. Without such a watcher nothing is copied.
    pub fn tell(&self, event: ChangeKind, key: &str, value: &str) {
        let mut waiting = None;
        for inbox in self.all.iter().filter(|inbox| inbox.scope.covers(key)) {
            inbox.offer(waiting.get_or_insert_with(|| {
                let text = JsonText::trusted(value).into_owned();
                let change = Change { event, key: key.to_owned(), text };
                let waiting = QueuedChange { change, held: self.held.clone() };
                self.held.fetch_add(waiting.cost(), Relaxed);
                Arc::new(waiting)
            }));
        }
        // This was one more reference. Where no queue took the change, it no longer counts.
        drop(waiting);
        // Where every queue is empty, all that is held has been taken from its queue and is being sent.
        while self.held.load(Relaxed) > ALL_CHANGES_BYTES_MAX
            && let Some(slowest) = self.all.iter().max_by_key(|inbox| inbox.lock().bytes)
            && slowest.lock().bytes > 0
        {
            slowest.give_up(&mut slowest.lock());
        }
    }
}

impl Inbox {
    /// Queues a change, unless the state will tell it or the watch has ended.
    fn offer(&self, waiting: &Arc<QueuedChange>) {
        let mut queue = self.lock();
        let state_tells = queue.mark.as_ref().is_some_and(|mark| waiting.change.key > *mark);
        if state_tells || queue.end.is_some() {
            return;
        }
        queue.bytes += waiting.cost();
        queue.changes.push_back(waiting.clone());
        self.held.fetch_add(PLACE_BYTES, Relaxed);
        let is_long = queue.changes.len() > CHANGES_MAX;
        let behind_next = queue.bytes - queue.changes[0].cost();
        let is_late = is_long && queue.late_since.get_or_insert_with(Instant::now).elapsed() > LATE_MAX;
        if is_late || behind_next > CHANGES_BYTES_MAX {
            self.give_up(&mut queue);
        }
        queue.wake();
    }

    /// Ends the watch of one that was too slow, and drops what waits for it.
    fn give_up(&self, queue: &mut Queue) {
        self.empty(queue);
        queue.end = Some(WatchEnd::TooSlow);
        queue.wake();
    }

    fn empty(&self, queue: &mut Queue) {
        self.held.fetch_sub(queue.changes.len() * PLACE_BYTES, Relaxed);
        (queue.changes, queue.bytes) = (VecDeque::new(), 0);
    }

    /// A poisoned lock is used on: no code between two statements that change a queue can panic.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
