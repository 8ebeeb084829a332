//! Replies, and how each looks in the dialect that the connection speaks.
//!
//! A reply is written straight into the connection's output buffer, often while the table is being
//! read: it borrows what it says and is never stored.

use super::Failure;
use crate::json::{JsonText, write_str};

/// Bytes of a frame's header: the payload's length in decimal, padded with spaces.
pub const HEADER_BYTES: usize = 64;

/// How replies look: which of the three dialects, and within frames, which payload.
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

/// What a request is answered. Values are JSON text.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the members of the wire's replies, by their names there")]
pub enum Reply<'a> {
    /// A key's value; `None` where there is no such key.
    Entry { key: &'a str, value: Option<&'a str> },
    /// Some JSON.
    Value(&'a str),
    /// The greeting, which also tells the server's version, a plain string.
    Hello { value: &'a str, version: &'a str },
    /// The request was refused. `key` is there where the request had a good one, `present` after
    /// `conflict`: the key's value, if it has one.
    Failure { key: Option<&'a str>, failure: &'a Failure, present: Option<Option<&'a str>> },
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
        let start = begin(form, out);
        match (form, self) {
            (Form::Json | Form::FramedJson, _) => self.write_json(out),
            (Form::Line, Reply::Closed) => {
                out.truncate(start);
                out.extend_from_slice(b"CLOSE CONFIRM");
            }
            (Form::Line | Form::FramedBare, _) => self.write_bare(out),
        }
        end(form, out, start);
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Entry { key, value } => {
                out.extend_from_slice(b"{\"key\":");
                write_str(out, key);
                write_value(out, *value);
            }
            Reply::Value(value) => {
                out.extend_from_slice(b"{\"value\":");
                out.extend_from_slice(value.as_bytes());
            }
            Reply::Hello { value, version } => {
                out.extend_from_slice(b"{\"value\":");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b",\"version\":");
                write_str(out, version);
            }
            Reply::Failure { key, failure, present } => {
                out.push(b'{');
                if let Some(key) = key {
                    out.extend_from_slice(b"\"key\":");
                    write_str(out, key);
                    out.push(b',');
                }
                out.extend_from_slice(b"\"error\":{\"code\":");
                write_str(out, failure.code.as_str());
                out.extend_from_slice(b",\"message\":");
                write_str(out, &failure.message);
                out.push(b'}');
                if let Some(present) = present {
                    write_value(out, *present);
                }
            }
            Reply::Closed => out.extend_from_slice(b"{\"value\":\"CLOSE CONFIRM\""),
            Reply::Change { event, key, value } => {
                out.extend_from_slice(b"{\"request\":");
                write_str(out, event);
                out.extend_from_slice(b",\"key\":");
                write_str(out, key);
                write_value(out, Some(value));
            }
            Reply::Ready => out.extend_from_slice(b"{\"request\":\"READY\""),
        }
        out.push(b'}');
    }

    fn write_bare(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Entry { value: Some(value), .. } | Reply::Value(value) | Reply::Hello { value, .. } => {
                write_plain(out, value);
            }
            Reply::Entry { value: None, .. } => out.extend_from_slice(b"null"),
            Reply::Failure { failure, .. } => {
                out.extend_from_slice(b"error: ");
                write_printable(out, &failure.message);
            }
            Reply::Closed => out.extend_from_slice(b"CLOSE CONFIRM"),
            Reply::Change { .. } | Reply::Ready => self.write_json(out),
        }
    }
}

/// Begins a reply whose body the caller appends; [`end`] wants what this returns.
pub fn begin(form: Form, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    match form {
        Form::Json => {}
        Form::Line => out.extend_from_slice(b"MSG "),
        Form::FramedJson | Form::FramedBare => out.extend_from_slice(&[b' '; HEADER_BYTES]),
    }
    start
}

/// Ends the reply that [`begin`] began: a newline, or the length in the header.
pub fn end(form: Form, out: &mut Vec<u8>, start: usize) {
    match form {
        Form::Json | Form::Line => out.push(b'\n'),
        Form::FramedJson | Form::FramedBare => {
            let digits = (out.len() - start - HEADER_BYTES).to_string();
            out[start..start + digits.len()].copy_from_slice(digits.as_bytes());
        }
    }
}

fn write_value(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => {
            out.extend_from_slice(b",\"value\":");
            out.extend_from_slice(value.as_bytes());
        }
        None => out.extend_from_slice(b",\"value\":null,\"found\":false"),
    }
}

/// A string as it is, unless a control character in it could end the line or drive a terminal;
/// anything else as JSON.
fn write_plain(out: &mut Vec<u8>, value: &str) {
    match JsonText::trusted(value).as_string() {
        Some(string) if !string.contains(char::is_control) => out.extend_from_slice(string.as_bytes()),
        Some(string) if value.contains(char::is_control) => write_escaped(out, &string),
        _ => out.extend_from_slice(value.as_bytes()),
    }
}

/// JSON leaves DEL and the C1 control characters as they are; a terminal does not.
fn write_escaped(out: &mut Vec<u8>, string: &str) {
    let mut quoted = Vec::new();
    write_str(&mut quoted, string);
    write_printable(out, &String::from_utf8_lossy(&quoted));
}

/// A text whose control characters are escaped as JSON would, so that it stays on its line.
fn write_printable(out: &mut Vec<u8>, mut text: &str) {
    while let Some(at) = text.find(char::is_control) {
        let mut rest = text[at..].chars();
        out.extend_from_slice(&text.as_bytes()[..at]);
        // C0, DEL and C1: all lie below U+00A0.
        let code = rest.next().map_or(0, u32::from) as u8;
        let hex = |half: u8| b"0123456789abcdef"[usize::from(half)];
        out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(code >> 4), hex(code & 15)]);
        text = rest.as_str();
    }
    out.extend_from_slice(text.as_bytes());
}
