//! WATCH: the present state, then every change as it happens.

use std::time::Duration;

use super::OUTPUT_BYTES_HIGH;
use crate::protocol::{Code, Failure, Form, Reply};
use crate::store::{ChangeKind, WatchEnd, Watcher};

/// A watch under way.
pub struct Watching<'c> {
    watch: Watcher<'c>,
    form: Form,
    /// The state has been told.
    ready: bool,
}

/// How far a watch has come.
#[derive(Clone, Copy, PartialEq)]
pub enum Told {
    /// There is more to tell now.
    Some,
    /// There is nothing more to tell yet.
    All,
    /// There will be nothing more to tell.
    Ended,
}

impl<'c> Watching<'c> {
    pub fn new(watch: Watcher<'c>, form: Form) -> Watching<'c> {
        Watching { watch, form, ready: false }
    }

    /// Whether the state has been told.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Appends what there is to tell, up to a bound.
    pub fn write_piece(&mut self, out: &mut Vec<u8>) -> Told {
        let form = self.form;
        let tell = |out: &mut Vec<u8>, event: ChangeKind, key: &str, value: &str| {
            Reply::Change { event: event.as_str(), key, value }.write_to(form, out);
            out.len() < OUTPUT_BYTES_HIGH
        };
        if !self.ready {
            self.ready = self.watch.tell_state(|key, value| tell(out, ChangeKind::Update, key, value));
            if self.ready {
                Reply::Ready.write_to(form, out);
            }
            return Told::Some;
        }
        loop {
            match self.watch.take() {
                Ok(Some(waiting)) => {
                    let change = &waiting.change;
                    if !tell(out, change.event, &change.key, change.value.as_str()) {
                        return Told::Some;
                    }
                }
                Ok(None) => return Told::All,
                Err(WatchEnd::Stopped) => return Told::Ended,
                Err(WatchEnd::TooSlow) => {
                    let failure = Failure::new(Code::Timeout, "changes came faster than they were taken");
                    Reply::Failure { key: None, failure: &failure, present: None }.write_to(form, out);
                    return Told::Ended;
                }
            }
        }
    }

    pub fn wait(&self, timeout: Duration) {
        self.watch.wait(timeout);
    }
}
