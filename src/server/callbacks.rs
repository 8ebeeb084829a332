//! Callbacks: code of the server's own program that is called for each change, on a thread of its own,
//! so that no client waits for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, Scope};
use std::time::Duration;

use super::log::{Level, Log};
use crate::store::{Change, WatchEnd, Watcher};

/// What is called.
pub(super) type Callback = Box<dyn Fn(&Change) + Send + Sync>;

/// Starts a thread that calls back for each change, until the watch ends.
pub(super) fn start<'s>(
    scope: &'s Scope<'s, '_>,
    watch: &'s Watcher<'_>,
    callback: &'s Callback,
    log: &'s Log,
) -> io::Result<()> {
    Builder::new().spawn_scoped(scope, move || call_back(watch, callback, log)).map(drop)
}

fn call_back(watch: &Watcher<'_>, callback: &Callback, log: &Log) {
    loop {
        match watch.take() {
            Ok(Some(waiting)) => {
                let change = &waiting.change;
                // The next change is told all the same: a callback is a guest here.
                if catch_unwind(AssertUnwindSafe(|| callback(change))).is_err() {
                    log.event(Level::Error, "callback_panic", &[("key", &change.key)]);
                }
            }
            Ok(None) => watch.wait(Duration::MAX),
            Err(end) => {
                if end == WatchEnd::TooSlow {
                    log.event(Level::Error, "callback_too_slow", &[]);
                }
                return;
            }
        }
    }
}
