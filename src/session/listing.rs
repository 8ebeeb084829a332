//! GETALL and KEYS: long replies, made and sent in pieces.
//!
//! A table may be larger than what is left of the memory, so its listing is never held whole. Each
//! piece is read under the lock, sent without it, and the next goes on behind the last key sent.
//! A reply that fits one piece is a snapshot; a longer one tells every key once, and each with
//! a value that it had while the reply was being sent.

use super::OUTPUT_BYTES_HIGH;
use crate::json::write_str;
use crate::protocol::{Code, Failure, Form, Reply, begin, end};
use crate::store::Store;

/// A frame tells its length first, so its payload must be held whole, and is bounded.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What a listing tells of each key.
#[derive(Clone, Copy, PartialEq)]
pub enum Columns {
    Keys,
    KeysAndValues,
}

/// A listing under way.
pub struct Listing {
    columns: Columns,
    form: Form,
    prefix: String,
    /// The last key told.
    after: Option<String>,
}

impl Listing {
    pub fn new(columns: Columns, form: Form, prefix: &str) -> Listing {
        Listing { columns, form, prefix: prefix.to_owned(), after: None }
    }

    /// Appends the next piece; true when it was the last.
    pub fn write_piece(&mut self, store: &Store, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if self.after.is_none() {
            begin(self.form, out);
            out.extend_from_slice(self.opening());
        }
        let bytes_max = match self.is_framed() {
            true => start + FRAME_BYTES_MAX,
            false => OUTPUT_BYTES_HIGH.max(start + 1),
        };
        let mut last = None;
        let done = store.list(&self.prefix, self.after.as_deref(), |key, value| {
            if self.after.is_some() || last.is_some() {
                out.push(b',');
            }
            self.write_item(out, key, value);
            let go_on = out.len() < bytes_max;
            last = Some(if go_on { String::new() } else { key.to_owned() });
            go_on
        });
        if done {
            out.extend_from_slice(self.closing());
            end(self.form, out, start);
        } else if self.is_framed() {
            out.truncate(start);
            let message = "the listing is too long for a frame: ask for a prefix, or in the JSON dialect";
            let failure = Failure::new(Code::TooLarge, message);
            Reply::Failure { key: None, failure: &failure, present: None }.write_to(self.form, out);
            return true;
        }
        self.after = last;
        done
    }

    fn write_item(&self, out: &mut Vec<u8>, key: &str, value: &str) {
        if self.columns == Columns::KeysAndValues {
            out.extend_from_slice(b"{\"key\":");
            write_str(out, key);
            out.extend_from_slice(b",\"value\":");
            out.extend_from_slice(value.as_bytes());
            out.push(b'}');
        } else {
            write_str(out, key);
        }
    }

    fn is_framed(&self) -> bool {
        matches!(self.form, Form::FramedJson | Form::FramedBare)
    }

    /// GETALL is answered by an array, as SocketTables does; KEYS by an object, as all else.
    fn in_object(&self) -> bool {
        self.columns == Columns::Keys && matches!(self.form, Form::Json | Form::FramedJson)
    }

    fn opening(&self) -> &'static [u8] {
        if self.in_object() { b"{\"value\":[" } else { b"[" }
    }

    fn closing(&self) -> &'static [u8] {
        if self.in_object() { b"]}" } else { b"]" }
    }
}
