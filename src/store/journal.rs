//! The journal: what was acknowledged survives the process, and a power failure.
//!
//! # How a write-ahead log is made
//!
//! Memory forgets. So each change is also written to a file, as a line behind the lines before it, and whoever
//! asked for the change is told that it is done only when that line is safe. After a crash the lines are read
//! from the first to the last and carried out again, and the table is as it was. Everything else answers a
//! question that this leaves open.
//!
//! **When is a line safe?** A write leaves it in the kernel's memory, which survives the death of the process.
//! Only a sync brings it to the disk, and takes a fraction of a millisecond at best. [`SyncPolicy`] says which of
//! the two is promised.
//!
//! **Must every write wait for a sync of its own?** No: the *committer* (`commit`) takes all lines that wait,
//! writes them by one system call, syncs once, and then all of them are safe: a group commit. While it syncs,
//! the next group gathers. Where the policy promises no sync, there is none to share: then whoever waits for lines
//! writes all that wait, which saves two switches of threads, and the committer does what is left to do each second.
//!
//! **Who may see a change that is not safe yet?** Nobody outside. Changes are made in memory at once, so that
//! writers need not wait for one another, but no byte of output leaves a session before every change that it
//! could have seen is safe: see [`Journal::durability`]. A reader who was told a value
//! that a crash takes back would have seen what never was.
//!
//! **In which order?** The table's. A line is queued and its change made by whoever has the writers' turn. It
//! is queued first, so a reader that sees a change also sees that there is something to wait for.
//!
//! **What if the disk is full?** Then a write must be refused before anything has changed. So the file is longer
//! than what is written: zeros that are on the disk already are reserved for lines to come (`file`). Whoever has
//! the turn looks whether they suffice, and since nobody else can queue a line then, they are kept for this one.
//! The same reserve bounds the queue.
//!
//! **How is the end found after a crash?** Lines carry checksums and numbers (`record`); the first that is not
//! whole ends the journal, unless a later one proves that it had been safe (`recovery`).
//!
//! **Does the file grow for ever?** When it is twice as long as the table needs, the committer begins a new
//! one, to which it writes the table piece by piece, and every change along with it. When it is whole it takes
//! the old one's name (`commit`).
//!
//! Two numbers are told apart. *Changes* are counted by this process, from 0, and are what sessions wait for.
//! *Records* are counted by a file, from 1. Nothing translates one into the other.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use super::Entry;
use super::file::{BUFFER_BYTES_KEPT, Extent, LogFile, RESERVE_BYTES, with_lock};
use super::record::{ENVELOPE_BYTES, Record, bytes_max, write_effect};
use super::recovery::{Fault, Found, JournalError};
use super::watch::unparking;
use crate::json::Value;

/// Of the reserve, what only a DELETE may take: it is what makes room where the disk is full.
const SPARE_BYTES: u64 = RESERVE_BYTES / 4;

/// What an acknowledged change survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// A power failure: it has been synced.
    Always,
    /// The end of the process; a power failure when a second has passed.
    EverySecond,
    /// The end of the process; a power failure when the system has written it, some day.
    No,
}

impl SyncPolicy {
    /// All there are, and what each is called.
    pub const ALL: [(SyncPolicy, &str); 3] =
        [(SyncPolicy::Always, "always"), (SyncPolicy::EverySecond, "everysec"), (SyncPolicy::No, "no")];
}

/// Whether what was seen is as durable as the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is.
    Reached,
    /// It will be.
    Awaited,
    /// It never will: the journal has failed, or nobody writes it any more.
    Never,
}

/// Where a store's changes are kept.
pub struct Journal {
    pub(super) path: PathBuf,
    pub(super) policy: SyncPolicy,
    /// How many changes have been queued, and how many of them may be acknowledged.
    queued: AtomicU64,
    settled: AtomicU64,
    /// How many bytes may still be queued: the reserve, less what waits and what is being written.
    room: AtomicU64,
    /// Somebody commits, or is about to; or nobody does any more.
    is_begun: AtomicBool,
    has_ended: AtomicBool,
    /// Held for a few instructions.
    queue: Mutex<Queue>,
    /// Notified when the committer has something to do.
    work: Condvar,
    /// Held for as long as the disk takes. Nobody waits for it who has the writers' turn.
    files: Mutex<Files>,
    /// Other processes are kept away until this is dropped.
    _lock: File,
}

/// What waits to be written, and who waits for it.
#[derive(Default)]
struct Queue {
    /// An effect each.
    lines: Vec<u8>,
    /// What they take in the file, at most.
    bytes: u64,
    wakers: Vec<Waker>,
    /// The change for which the committer waits, if it does.
    awaited: Option<u64>,
    is_asked: bool,
    is_closed: bool,
    /// How far the file has come, and how often there has been a new one.
    info: Option<(Extent, u64)>,
}

/// What is written to.
pub(super) struct Files {
    pub log: LogFile,
    /// What is to replace the log.
    pub draft: Option<Draft>,
    /// The length of the log when it was new, and how often it has been replaced.
    pub compacted: u64,
    pub compactions: u64,
    /// Before this it is not tried again.
    pub retry_at: Option<Instant>,
    /// What is being written.
    pub batch: Vec<u8>,
}

/// A file that is being given the table.
pub(super) struct Draft {
    pub file: LogFile,
    /// The last key that was copied, and whether all have been.
    pub after: Option<String>,
    pub is_whole: bool,
    /// How long the log was then.
    pub log_end: u64,
}

impl Journal {
    /// Opens the journal of this path, or begins it, and tells each of its records.
    pub(super) fn open(
        path: &Path,
        policy: SyncPolicy,
        tell: impl FnMut(&Record<'_>),
    ) -> Result<(Journal, Found), JournalError> {
        let (path, _lock, (log, found)) = with_lock(path, |path| LogFile::open(path, tell))?;
        let (draft, retry_at, batch) = (None, None, Vec::new());
        let files = Files { log, draft, compacted: 0, compactions: 0, retry_at, batch };
        let journal = Journal {
            path,
            policy,
            queued: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            room: AtomicU64::new(0),
            is_begun: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            queue: Mutex::default(),
            work: Condvar::new(),
            files: Mutex::new(files),
            _lock,
        };
        journal.note(&journal.files());
        Ok((journal, found))
    }

    /// How many changes there have been. Asked after something was looked at, this includes every change that could be
    /// seen.
    pub fn changes(&self) -> u64 {
        self.queued.load(SeqCst)
    }

    /// How many of them may be acknowledged.
    pub(super) fn settled(&self) -> u64 {
        self.settled.load(SeqCst)
    }

    /// Whether the first so many changes may be acknowledged.
    pub fn durability(&self, changes: u64) -> Durability {
        if self.settled() >= changes {
            Durability::Reached
        } else if self.has_ended.load(SeqCst) {
            Durability::Never
        } else {
            Durability::Awaited
        }
    }

    /// Waits until that is known.
    pub fn wait(&self, changes: u64) -> Durability {
        let is_awaited = || self.durability(changes) == Durability::Awaited;
        if self.policy != SyncPolicy::Always && is_awaited() {
            let mut files = self.files();
            // Whoever had the files before may have written what this waits for.
            if is_awaited() {
                self.write_alone(&mut files);
            }
        }
        while is_awaited() {
            self.wake_by(changes, unparking());
            thread::park();
        }
        self.durability(changes)
    }

    /// Has `waker` woken, once, when more changes may be acknowledged or none will be any more; at once where it is known
    /// whether the first so many may be.
    pub fn wake_by(&self, changes: u64, waker: Waker) {
        let mut queue = self.queue();
        if self.durability(changes) != Durability::Awaited {
            drop(queue);
            return waker.wake();
        }
        queue.wakers.push(waker);
        drop(queue);
        // Under `always` the committer is at it.
        if self.policy != SyncPolicy::Always {
            self.ask();
        }
    }

    /// Writes what waits, where the policy promises no more and nobody else is at it. So a thread that must not wait can
    /// acknowledge a few changes at once, without another. What it writes goes to the kernel's memory.
    pub fn flush(&self) {
        if self.policy != SyncPolicy::Always
            && self.durability(self.changes()) == Durability::Awaited
            && let Ok(mut files) = self.files.try_lock()
        {
            self.write_alone(&mut files);
        }
    }

    /// From now on changes will be acknowledged, by a [`Store::commit`](super::Store::commit) that is about to be called.
    /// Two at once there cannot be.
    pub fn begin(&self) -> Result<(), JournalError> {
        if self.is_begun.swap(true, SeqCst) {
            return Err(JournalError { path: self.path.clone(), fault: Fault::Locked });
        }
        self.has_ended.store(false, SeqCst);
        Ok(())
    }

    /// Has [`Store::commit`](super::Store::commit) write what waits and end.
    pub fn close(&self) {
        self.queue().is_closed = true;
        self.ask();
    }

    /// What INFO tells.
    pub fn info(&self) -> Value {
        let Some((extent, compactions)) = self.queue().info else { return Value::Null };
        let policy = SyncPolicy::ALL.into_iter().find(|(policy, _)| *policy == self.policy);
        let members: [(&str, Value); 6] = [
            ("policy", policy.map_or("", |(_, name)| name).into()),
            ("records", extent.records.into()),
            ("durable", extent.synced.into()),
            ("bytes", extent.end.into()),
            ("synced_s_ago", extent.synced_at.elapsed().as_secs().into()),
            ("compactions", compactions.into()),
        ];
        Value::Object(members.into_iter().collect())
    }

    /// Whether there is room for the record of a key and a value of so many bytes; a deletion has no value. To whoever
    /// has the writers' turn this is a promise.
    pub(super) fn has_room(&self, key: usize, value: Option<usize>) -> bool {
        let spare = value.map_or(0, |_| SPARE_BYTES);
        self.room.load(SeqCst) >= bytes_max(key, value) + spare
    }

    /// Reserves more where there is too little room for this record. It takes as long as the disk does.
    pub(super) fn extend(&self, key: usize, value: Option<usize>) -> Result<(), ErrorKind> {
        let mut files = self.files();
        // Whoever had the files before may have done it.
        if self.has_room(key, value) {
            return Ok(());
        }
        let extended = files.log.extend(bytes_max(key, value) + RESERVE_BYTES);
        self.note(&files);
        // On a disk that is all but full there may be less than was asked for, and enough.
        extended.or_else(|error| if self.has_room(key, value) { Ok(()) } else { Err(error.kind()) })
    }

    /// Queues the record of a change that is about to be made. Whoever does it has the writers' turn, and has seen that
    /// there is room.
    pub(super) fn record(&self, key: &str, entry: Option<Entry<'_>>) {
        let mut queue = self.queue();
        let before = queue.lines.len();
        write_effect(&mut queue.lines, key, entry);
        let bytes = (queue.lines.len() - before + ENVELOPE_BYTES) as u64;
        debug_assert!(self.room.load(SeqCst) >= bytes, "the writer told turn_to_write of a shorter record");
        queue.bytes += bytes;
        self.room.fetch_sub(bytes, SeqCst);
        let change = self.queued.fetch_add(1, SeqCst) + 1;
        // Only where it waits for this one: to notify is a system call.
        if queue.awaited == Some(change) {
            self.work.notify_one();
        }
    }

    /// Takes what waits and writes it. These are all changes up to the number that this returns.
    pub(super) fn write(&self, files: &mut Files) -> io::Result<u64> {
        files.batch.clear();
        files.batch.shrink_to(BUFFER_BYTES_KEPT);
        let mut queue = self.queue();
        (queue.is_asked, queue.bytes) = (false, 0);
        mem::swap(&mut files.batch, &mut queue.lines);
        let change = self.changes();
        drop(queue);
        files.log.append(&files.batch)?;
        if let Some(draft) = &mut files.draft {
            // Where this fails, so does the next step of the compaction.
            let _ = draft.file.append(&files.batch);
        }
        Ok(change)
    }

    /// Has all changes up to this one acknowledged.
    pub(super) fn settle(&self, files: &Files, change: u64) {
        self.note(files);
        self.settled.store(change, SeqCst);
        self.wake();
    }

    /// Writes what waits without the committer, who is asked to do the rest: also to tell of a failure.
    fn write_alone(&self, files: &mut Files) {
        let written = self.write(files).map(|change| self.settle(files, change));
        if written.is_err() || files.log.is_short() {
            self.ask();
        }
    }

    /// Takes down what has become of the files. What was taken has been written, so what waits was queued since.
    pub(super) fn note(&self, files: &Files) {
        let mut queue = self.queue();
        queue.info = Some((files.log.extent, files.compactions));
        self.room.store(files.log.room().saturating_sub(queue.bytes), SeqCst);
    }

    /// Has the committer take a step, and after [`Journal::close`] the last one.
    fn ask(&self) {
        let mut queue = self.queue();
        queue.is_asked = true;
        if queue.awaited.is_some() {
            self.work.notify_one();
        }
    }

    /// Waits until there is something for the committer to do: so many changes have been queued, somebody asks, or it is
    /// `due`. Tells whether the journal was closed.
    pub(super) fn await_work(&self, changes: u64, due: Option<Instant>) -> bool {
        let mut queue = self.queue();
        while self.changes() < changes && !queue.is_asked {
            let left = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            queue.awaited = Some(changes);
            queue = self.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.awaited = None;
        mem::take(&mut queue.is_closed)
    }

    /// No more changes will be acknowledged.
    pub(super) fn end(&self) {
        self.has_ended.store(true, SeqCst);
        self.is_begun.store(false, SeqCst);
        self.wake();
    }

    /// Wakes all who wait. Who was too early waits again.
    fn wake(&self) {
        let wakers = mem::take(&mut self.queue().wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Between any two statements, what this guards is whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
