//! Leases: keys that are deleted when their time is over.
//!
//! A process that holds something (a lock, a place in a list of who is there) may die and never give it back. So what it
//! holds is a key with a time to live, which it renews while it lives. [`Store::expire`] deletes keys whose time is
//! over, as any client would: watchers are told and the journal has a record, and neither needs to know why.
//!
//! A time is kept as milliseconds since 1970, so that it means the same after a restart. But the clock that it is compared
//! with is read from the system once, and then counts by itself: a system's clock can be set, and a lock must not be
//! given away because somebody did.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Rejected, Store};
use crate::protocol::{KEY_BYTES_MAX, TTL_MIN};

/// Keys that are deleted at a time, and how long others then have the table for themselves.
const EXPIRED_MAX: usize = 256;
const REST: Duration = Duration::from_micros(100);
/// When to try again where the journal has no room for deletions.
const RETRY: Duration = Duration::from_secs(1);

/// What tells the time, in milliseconds since 1970.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// When somebody has to look for keys to delete.
pub(super) struct Leases {
    clock: Clock,
    /// The time that is waited for, if any is.
    due: Mutex<Option<u64>>,
    /// Notified when there is an earlier time, and when somebody is to wait no more.
    earlier: Condvar,
}

impl Default for Leases {
    fn default() -> Leases {
        let (begun, since) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH));
        let since = since.unwrap_or_default();
        let clock = Box::new(move || (since + begun.elapsed()).as_millis() as u64);
        Leases { clock, due: Mutex::default(), earlier: Condvar::new() }
    }
}

impl Leases {
    /// When a lease that is given now for so long is over.
    pub fn until(&self, ttl: Duration) -> u64 {
        (self.clock)() + ttl.as_millis() as u64
    }

    fn left(&self, until: u64) -> Duration {
        Duration::from_millis(until.saturating_sub((self.clock)()))
    }

    /// Has somebody look at this time.
    pub fn await_time(&self, until: u64) {
        if self.lock().is_none_or(|due| until < due) {
            self.earlier.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<u64>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The same store with another clock: tests have their own.
    pub fn with_clock(mut self, clock: Clock) -> Store {
        self.leases.clock = clock;
        self
    }

    /// How long a key has still to live, `None` where that is for ever; nothing where it is not there.
    pub fn ttl(&self, key: &str) -> Option<Option<Duration>> {
        let until = self.read().table.get(key)?.until;
        Some(until.map(|until| self.left(until)))
    }

    /// How long it is until then; for a key that is just being deleted, the shortest time there is.
    pub fn left(&self, until: u64) -> Duration {
        TTL_MIN.max(self.leases.left(until))
    }

    /// Deletes each key when its time is over, until [`Store::end_expiry`] is called with the same flag: a store may have
    /// several servers. Whoever calls this gives it a thread.
    pub fn expire(&self, is_over: &AtomicBool) {
        loop {
            let mut due = self.leases.lock();
            if is_over.load(SeqCst) {
                return;
            }
            // A lease that is given after this finds the time set and locked, and so is not overlooked.
            *due = self.read().table.next_due().map(|(_, until)| until);
            let mut left = due.map_or(Duration::MAX, |due| self.leases.left(due));
            if left.is_zero() {
                drop(due);
                left = if self.expire_some().is_ok() { REST } else { RETRY };
                due = self.leases.lock();
            }
            // The end may have been told in between.
            if !is_over.load(SeqCst) {
                drop(self.leases.earlier.wait_timeout(due, left));
            }
        }
    }

    /// Has [`Store::expire`] return.
    pub fn end_expiry(&self, is_over: &AtomicBool) {
        let due = self.leases.lock();
        is_over.store(true, SeqCst);
        self.leases.earlier.notify_all();
        drop(due);
    }

    /// Deletes keys whose time is over, in the order of their times, but not many at once.
    pub fn expire_some(&self) -> Result<(), Rejected> {
        for _ in 0..EXPIRED_MAX {
            let turn = self.turn_to_write(KEY_BYTES_MAX, None)?;
            let now = (self.leases.clock)();
            let due = self
                .read()
                .table
                .next_due()
                .filter(|(_, until)| *until <= now)
                .map(|(key, _)| key.to_owned());
            let Some(key) = due else { break };
            self.remove(&turn, &key);
        }
        Ok(())
    }
}
