//! JSON objects from stdin, one after another, with the line that each began on: what `load` and
//! `batch` read. Objects are cut out by the scanner that the server cuts requests out with.

use std::io::Read;

use super::commands::INPUT_BYTES_MAX;
use super::message::Trouble;
use crate::json::Error;
use crate::protocol::{Scan, Scanner};

/// What one read may bring.
const READ_BYTES: usize = 64 << 10;

pub(super) struct Input<'a> {
    stdin: &'a mut dyn Read,
    /// What has been read; it is taken up to `start`.
    buffer: Vec<u8>,
    start: usize,
    /// The line that `start` is on, from 1.
    line: usize,
    scanner: Scanner,
}

impl<'a> Input<'a> {
    pub fn new(stdin: &'a mut dyn Read) -> Input<'a> {
        Input { stdin, buffer: Vec::new(), start: 0, line: 1, scanner: Scanner::default() }
    }

    /// The next object that has been read whole, and the line it begins on; `None` where more must be read.
    pub fn next(&mut self) -> Result<Option<(usize, &str)>, Trouble> {
        let space = self.buffer[self.start..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.take(space);
        let unread = &self.buffer[self.start..];
        let length = match unread.first() {
            None => return Ok(None),
            Some(b'{') => match self.scanner.scan(unread) {
                Scan::Complete(length) => length,
                Scan::Incomplete => return Ok(None),
                Scan::Lost(at) => {
                    return Err(self.wrong(&unread[..at], "a bracket closes what was not opened"));
                }
            },
            Some(_) => return Err(self.wrong(&[], "expected a JSON object, which begins with '{'")),
        };
        let (from, line) = (self.start, self.line);
        self.take(length);
        match std::str::from_utf8(&self.buffer[from..self.start]) {
            Ok(object) => Ok(Some((line, object))),
            Err(_) => Err(at_line(line, "not UTF-8 text; other bytes can be stored as base64")),
        }
    }

    /// Reads more; false at the end of stdin, where nothing may be left over.
    pub fn read(&mut self) -> Result<bool, Trouble> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let end = self.buffer.len();
        if end > INPUT_BYTES_MAX {
            return Err(self.wrong(&[], &format!("an object of more than {INPUT_BYTES_MAX} bytes")));
        }
        self.buffer.resize(end + READ_BYTES, 0);
        let got = self.stdin.read(&mut self.buffer[end..]).map_err(Trouble::stdin)?;
        self.buffer.truncate(end + got);
        if got == 0 && end > 0 {
            return Err(self.wrong(&self.buffer, "the input ends inside an object"));
        }
        Ok(got > 0)
    }

    fn take(&mut self, length: usize) {
        self.line += lines(&self.buffer[self.start..self.start + length]);
        self.start += length;
    }

    fn wrong(&self, before: &[u8], text: &str) -> Trouble {
        at_line(self.line + lines(before), text)
    }
}

fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Something is wrong with the input at this line.
pub(super) fn at_line(line: usize, text: &str) -> Trouble {
    Trouble::input(format!("line {line}: {text}"))
}

/// An object that began on this line is not JSON.
pub(super) fn not_json(line: usize, error: &Error) -> Trouble {
    let hint = error.hint().map_or(String::new(), |hint| format!(": {hint}"));
    let text = format!("column {}: expected {}{hint}", error.column(), error.kind().expected());
    at_line(line + error.line() - 1, &text)
}
