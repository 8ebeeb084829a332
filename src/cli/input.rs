//! JSON objects from stdin, for the commands that read many: in one line or many lines each. They are cut out by the scanner
//! that the server cuts requests out with: one grammar, and what was not read whole is not looked at twice.

use std::io::{Read, Stdin};
use std::mem::take;

use super::INPUT_BYTES_MAX;
use super::message::Trouble;
use crate::json::{self, Scan, Scanner};

/// What one read may bring.
const READ_BYTES: usize = 64 << 10;

/// JSON objects from stdin, one after another, with the line that each began on.
pub(super) struct Input {
    stdin: Stdin,
    /// What has been read; objects have been taken out of it up to `start`. It is only moved to the front of the
    /// buffer before a read: moving it for each object would cost O(n²).
    buffer: Vec<u8>,
    start: usize,
    /// The line that `start` is on, from 1.
    line: usize,
    /// It remembers how far it has looked into an object that is not whole yet.
    scanner: Scanner,
}

impl Input {
    pub fn new(stdin: Stdin) -> Input {
        Input { stdin, buffer: Vec::new(), start: 0, line: 1, scanner: Scanner::default() }
    }

    /// The next object that has been read whole, and the line it begins on; `None` where more must be read.
    pub fn next(&mut self) -> Result<Option<(usize, &str)>, Trouble> {
        let unread = &self.buffer[self.start..];
        let space = unread.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let (space, unread) = unread.split_at(space);
        let line = self.line + lines(space);
        (self.start, self.line) = (self.start + space.len(), line);
        let object = match unread.first() {
            None => return Ok(None),
            Some(b'{') => match self.scanner.scan(unread) {
                Scan::Complete(length) => &unread[..length],
                Scan::Incomplete => return Ok(None),
                Scan::Lost(at) => {
                    let text = "a bracket closes what was not opened";
                    return Err(at_line(line + lines(&unread[..at]), text));
                }
            },
            Some(_) => return Err(at_line(line, "expected a JSON object, which begins with '{'")),
        };
        (self.start, self.line) = (self.start + object.len(), line + lines(object));
        let not_utf8 = |_| at_line(line, "not UTF-8 text; other bytes can be stored as base64");
        Ok(Some((line, str::from_utf8(object).map_err(not_utf8)?)))
    }

    /// Reads more; 0 bytes at the end of stdin, where nothing may be left over. One read brings what is there, so that
    /// a line that somebody types is sent before the next one is typed.
    pub fn read(&mut self) -> Result<usize, Trouble> {
        self.buffer.drain(..take(&mut self.start));
        let end = self.buffer.len();
        if end > INPUT_BYTES_MAX {
            return Err(at_line(self.line, &format!("an object of more than {INPUT_BYTES_MAX} bytes")));
        }
        self.buffer.resize(end + READ_BYTES, 0);
        let got = self.stdin.read(&mut self.buffer[end..]).map_err(Trouble::stdin)?;
        self.buffer.truncate(end + got);
        if got == 0 && end > 0 {
            return Err(at_line(self.line + lines(&self.buffer), "the input ends inside an object"));
        }
        Ok(got)
    }
}

/// How many lines end in these bytes. Within a JSON string a newline is written as an escape, so none is counted
/// that an editor would not count.
fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Something is wrong with the input at this line.
pub(super) fn at_line(line: usize, text: &str) -> Trouble {
    Trouble::input(format!("line {line}: {text}"))
}

/// An object that began on this line is not JSON. The error counts lines from the object's first, and a person
/// counts them from the beginning of the file.
pub(super) fn not_json(line: usize, error: &json::Error) -> Trouble {
    let hint = error.hint.map_or(String::new(), |hint| format!(": {hint}"));
    let text = format!("column {}: expected {}{hint}", error.column, error.kind.expected());
    at_line(line + error.line - 1, &text)
}
