//! Replies in pieces.
//!
//! GETALL, KEYS and WATCH are answered by more than one piece of output. A table may be larger than what is left of the
//! memory, and a watch has no end: neither is ever held whole. [`Listing`] and [`Watching`] remember how far they have
//! come, and the session asks them for the next piece when the last one has been sent, so that a client which does not
//! read costs one buffer and no more.

use std::mem;

use super::OUTPUT_BYTES_HIGH;
use crate::json::write_str;
use crate::protocol::{Code, Failure, Form, Reply, begin_reply, end_reply, seconds};
use crate::store::{Change, ChangeKind, Store, WatchEnd, Watcher};

/// A frame tells its length first, so its payload must be held whole, and is bounded.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What is left to tell after a piece.
pub(super) enum Left {
    /// More, as soon as this piece has been sent.
    More,
    /// Nothing at present.
    NothingYet,
    /// Nothing any more.
    Nothing,
}

/// What a listing tells of each key.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Columns {
    Keys,
    KeysAndValues,
}

/// The reply to GETALL or KEYS, under way. Each piece is read under the table's lock and sent without it; the next
/// goes on behind the last key sent. So a reply that fits one piece is a snapshot; a longer one tells every key
/// once, and each with a value that it had while the reply was being sent.
pub(super) struct Listing {
    columns: Columns,
    form: Form,
    prefix: String,
    /// The last key told; `None` before the first piece.
    after: Option<String>,
}

impl Listing {
    /// A listing of the keys that begin so.
    pub fn new(columns: Columns, form: Form, prefix: &str) -> Listing {
        Listing { columns, form, prefix: prefix.to_owned(), after: None }
    }

    /// Appends the next piece.
    pub fn write_piece(&mut self, store: &Store, out: &mut Vec<u8>) -> Left {
        let framed = matches!(self.form, Form::FramedJson | Form::FramedBare);
        // GETALL is answered by an array, as SocketTables does it; KEYS by an object, as all else.
        let (opening, closing): (&[u8], &[u8]) = match (self.columns, self.form) {
            (Columns::Keys, Form::Json | Form::FramedJson) => (b"{\"value\":[", b"]}"),
            (Columns::Keys, Form::Line | Form::FramedBare) | (Columns::KeysAndValues, _) => (b"[", b"]"),
        };
        let start = out.len();
        let mut first = self.after.is_none();
        if first {
            begin_reply(self.form, out);
            out.extend_from_slice(opening);
        }
        // At least one key, even where the replies before it have all but filled the buffer.
        let bytes_max = if framed { start + FRAME_BYTES_MAX } else { OUTPUT_BYTES_HIGH.max(start + 1) };
        let all = store.list(&self.prefix, self.after.take().as_deref(), |key, entry| {
            if !mem::take(&mut first) {
                out.push(b',');
            }
            match self.columns {
                Columns::Keys => write_str(out, key),
                Columns::KeysAndValues => {
                    let ttl = entry.until.map(|until| seconds(store.left(until)));
                    Reply::Listed { key, value: entry.value, ttl: ttl.as_deref() }.write_json(out);
                }
            }
            let full = out.len() >= bytes_max;
            if full {
                self.after = Some(key.to_owned());
            }
            !full
        });
        if all {
            out.extend_from_slice(closing);
            end_reply(self.form, out, start);
            return Left::Nothing;
        }
        if framed {
            // The length would have had to be known before the first byte was sent.
            out.truncate(start);
            let message = "the listing is too long for a frame: ask for a prefix, or in the JSON dialect";
            Reply::Failure(&Failure::new(Code::TooLarge, message)).write_to(self.form, out);
            return Left::Nothing;
        }
        Left::More
    }
}

/// A watch under way: first the state as it is, then every change as it happens.
pub(super) struct Watching<'c> {
    pub watcher: Watcher<'c>,
    form: Form,
    /// The state has been told.
    pub ready: bool,
}

impl<'c> Watching<'c> {
    /// A watch that has told nothing yet.
    pub fn new(watcher: Watcher<'c>, form: Form) -> Watching<'c> {
        Watching { watcher, form, ready: false }
    }

    /// Appends what there is to tell, up to a bound.
    pub fn write_piece(&mut self, out: &mut Vec<u8>) -> Left {
        let form = self.form;
        let mut tell = |event: ChangeKind, key: &str, value: &str| {
            Reply::Change { event: event.as_str(), key, value }.write_to(form, out);
            out.len() < OUTPUT_BYTES_HIGH
        };
        if !self.ready {
            // Changes gather in the watcher's queue from its first moment on, so none is lost between the state and
            // the first change; a key that changed before it was listed is told by the listing alone.
            self.ready = self.watcher.tell_state(|key, value| tell(ChangeKind::Update, key, value));
            if self.ready {
                Reply::Ready.write_to(form, out);
            }
            return Left::More;
        }
        loop {
            match self.watcher.take() {
                Ok(Some(waiting)) => {
                    let Change { event, key, text: value } = &waiting.change;
                    if !tell(*event, key, value.as_str()) {
                        return Left::More;
                    }
                }
                Ok(None) => return Left::NothingYet,
                // Only watches with a callback are ended so; a session's ends with its connection.
                Err(WatchEnd::Stopped) => return Left::Nothing,
                // What waited for it has been thrown away. It must connect anew, and gets the state again: better
                // than to go on with a gap that it cannot see.
                Err(WatchEnd::TooSlow) => {
                    let failure = Failure::new(Code::Timeout, "changes came faster than they were taken");
                    Reply::Failure(&failure).write_to(form, out);
                    return Left::Nothing;
                }
            }
        }
    }
}
