//! Replies, and how each looks in the dialect that the connection speaks.
//!
//! A reply is written straight into the connection's output buffer, often while the table is being read: it borrows
//! what it says and is never stored. So a GET copies its value once, from the table into the buffer that is sent.
//!
//! The members of an object come in the order of these lines. That is part of the protocol: SocketTables' Java
//! client does not parse JSON but looks for `"value":` and reads on to the brace.

use super::{Escape, Failure, one_line};
use crate::json::{JsonText, write_str};

/// Bytes of a frame's header: the payload's length in decimal, padded with spaces. It is micro-client-server's.
pub const HEADER_BYTES: usize = 64;

/// How replies look: which of the three dialects, and within frames, which payload. Only this room and listings,
/// which write their replies in pieces, look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One line of compact JSON.
    Json,
    /// `MSG value`, for people.
    Line,
    /// A frame that holds JSON, for a frame that held JSON.
    FramedJson,
    /// A frame that holds the bare value, for a frame that held a text line.
    FramedBare,
}

/// What a request is answered. Values are JSON text: the table holds them so, and nothing is parsed to be sent.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the members of the wire's replies, by their names there")]
pub enum Reply<'a> {
    /// A key's value; `None` where there is no such key.
    Entry { key: &'a str, value: Option<&'a str> },
    /// None of the keys that the request was about is there.
    Missing,
    /// A key in a listing; with the seconds that it has to live, unless it is there for ever.
    Listed { key: &'a str, value: &'a str, ttl: Option<&'a str> },
    /// Some JSON.
    Value(&'a str),
    /// The greeting, which also tells the server's version, a plain string.
    Hello { value: &'a str, version: &'a str },
    /// The request was refused.
    Failure(&'a Failure),
    /// The answer to CLOSE.
    Closed,
    /// To a watcher: after `UPDATE` a key has this value, before `DELETE` it had.
    Change { event: &'a str, key: &'a str, value: &'a str },
    /// To a watcher: the present state has been told; changes follow.
    Ready,
}

impl Reply<'_> {
    /// Appends the reply as the connection's dialect has it.
    pub fn write_to(&self, form: Form, out: &mut Vec<u8>) {
        if let (Form::Line, Reply::Closed) = (form, self) {
            // The one reply without MSG: ClientServerPython's clients wait for these very words.
            return out.extend_from_slice(b"CLOSE CONFIRM\n");
        }
        let start = begin_reply(form, out);
        match form {
            Form::Json | Form::FramedJson => self.write_json(out),
            Form::Line | Form::FramedBare => self.write_bare(out),
        }
        end_reply(form, out, start);
    }

    /// Appends the JSON of the reply alone, without what the dialect puts around it.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Entry { key, value } => {
                write_text(out, "{\"key\":", key);
                write_present(out, *value);
            }
            Reply::Missing => {
                out.push(b'{');
                out.extend_from_slice(NOT_FOUND);
            }
            Reply::Listed { key, value, ttl } => {
                write_text(out, "{\"key\":", key);
                write_member(out, ",\"value\":", value);
                ttl.iter().for_each(|ttl| write_member(out, ",\"ttl\":", ttl));
            }
            Reply::Value(value) => write_member(out, "{\"value\":", value),
            Reply::Hello { value, version } => {
                write_member(out, "{\"value\":", value);
                write_text(out, ",\"version\":", version);
            }
            Reply::Failure(Failure { code, message, key, present }) => {
                out.push(b'{');
                if let Some(key) = key {
                    write_text(out, "\"key\":", key);
                    out.push(b',');
                }
                write_text(out, "\"error\":{\"code\":", code.as_str());
                write_text(out, ",\"message\":", message);
                out.push(b'}');
                if let Some(present) = present {
                    write_present(out, present.as_ref().map(JsonText::as_str));
                }
            }
            Reply::Closed => out.extend_from_slice(b"{\"value\":\"CLOSE CONFIRM\""),
            Reply::Change { event, key, value } => {
                write_text(out, "{\"request\":", event);
                write_text(out, ",\"key\":", key);
                write_member(out, ",\"value\":", value);
            }
            Reply::Ready => out.extend_from_slice(b"{\"request\":\"READY\""),
        }
        out.push(b'}');
    }

    /// Appends what a line or a bare frame says: the value alone, for people and shells to use as it is.
    fn write_bare(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Entry { value: Some(value), .. } | Reply::Value(value) | Reply::Hello { value, .. } => {
                write_plain(out, value);
            }
            Reply::Entry { value: None, .. } | Reply::Missing => out.extend_from_slice(b"null"),
            Reply::Failure(failure) => {
                out.extend_from_slice(b"error: ");
                out.extend_from_slice(one_line(&failure.message, usize::MAX, Escape::Json).as_bytes());
            }
            Reply::Closed => out.extend_from_slice(b"CLOSE CONFIRM"),
            Reply::Listed { .. } | Reply::Change { .. } | Reply::Ready => self.write_json(out),
        }
    }
}

/// Begins a reply whose body the caller appends; [`end_reply`] wants the place that this returns.
pub fn begin_reply(form: Form, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    match form {
        Form::Json => {}
        Form::Line => out.extend_from_slice(b"MSG "),
        // The length comes first and is known last: room is left for it.
        Form::FramedJson | Form::FramedBare => out.extend_from_slice(&[b' '; HEADER_BYTES]),
    }
    start
}

/// Ends the reply that [`begin_reply`] began: a newline, or the length in the header.
pub fn end_reply(form: Form, out: &mut Vec<u8>, start: usize) {
    match form {
        Form::Json | Form::Line => out.push(b'\n'),
        Form::FramedJson | Form::FramedBare => {
            let digits = (out.len() - start - HEADER_BYTES).to_string();
            out[start..start + digits.len()].copy_from_slice(digits.as_bytes());
        }
    }
}

/// Appends what stands before a member's value, `,"name":` say, and the value, which is JSON.
pub(super) fn write_member(out: &mut Vec<u8>, before: &str, json: &str) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(json.as_bytes());
}

/// The same with a string, which is escaped.
pub(super) fn write_text(out: &mut Vec<u8>, before: &str, text: &str) {
    out.extend_from_slice(before.as_bytes());
    write_str(out, text);
}

/// What stands for a value that is not there. A stored `null` is a value, so `found` says which of the two it is. The
/// value comes last: SocketTables' Java client takes all up to the brace for it.
const NOT_FOUND: &[u8] = b"\"found\":false,\"value\":null";

/// A key's value behind other members of an object, or that it has none.
fn write_present(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => write_member(out, ",\"value\":", value),
        None => {
            out.push(b',');
            out.extend_from_slice(NOT_FOUND);
        }
    }
}

/// A string as it is, unless a control character in it could end the line or drive a terminal; anything else as
/// JSON. Such a string is JSON too; since JSON leaves DEL and the C1 control characters as they are, and a
/// terminal does not, these are escaped on top.
fn write_plain(out: &mut Vec<u8>, value: &str) {
    match JsonText::trusted(value).as_string() {
        Some(string) if !string.contains(char::is_control) => out.extend_from_slice(string.as_bytes()),
        Some(_) => out.extend_from_slice(one_line(value, usize::MAX, Escape::Json).as_bytes()),
        None => out.extend_from_slice(value.as_bytes()),
    }
}
