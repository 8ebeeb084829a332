//! Lists of any length, an element at a time: the replies to GETALL and KEYS, and the objects that
//! `load` reads. What is held is one element, not the list.

use super::connection::Connection;
use super::{ClientError, ReplyProblem};
use crate::json::{Error, Parser, Text};

/// Finds where an element of a list ends: at the comma or closing bracket outside of it. Remembers
/// where it stopped, so that each byte is looked at once, however the list is cut by reads.
#[derive(Debug, Default)]
pub(super) struct Elements {
    at: usize,
    depth: usize,
    string: bool,
    escape: bool,
}

impl Elements {
    /// The offset of the comma or bracket after the element that `bytes` begin with, if it is there.
    /// Then it is ready for the next element.
    pub fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate().skip(self.at) {
            if self.string {
                self.string = self.escape || byte != b'"';
                self.escape = !self.escape && byte == b'\\';
                continue;
            }
            match byte {
                b'"' => self.string = true,
                b'[' | b'{' => self.depth += 1,
                b',' | b']' | b'}' if self.depth == 0 => {
                    *self = Elements::default();
                    return Some(at);
                }
                b']' | b'}' => self.depth -= 1,
                _ => {}
            }
        }
        self.at = bytes.len();
        None
    }
}

/// A reply that is a list, as it arrives.
pub(super) struct List {
    connection: Connection,
    elements: Elements,
    /// Whether the list's closing bracket has been met.
    closed: bool,
}

impl List {
    /// Begins where the text `before` the first element must stand.
    pub fn new(mut connection: Connection, before: &'static str) -> Result<List, ClientError> {
        connection.expect(before)?;
        // An empty list has no element for its end to follow.
        let closed = connection.begins_with(b"]")?;
        if closed {
            connection.expect("]")?;
        }
        Ok(List { connection, elements: Elements::default(), closed })
    }

    /// The next element, as `read` understands it; `None` after the last, and then `after` must follow.
    pub fn next<'t, T>(
        &'t mut self,
        after: &'static str,
        read: impl Fn(&'t str) -> Result<T, ReplyProblem>,
    ) -> Result<Option<T>, ClientError> {
        if self.closed {
            return self.connection.expect(after).map(|()| None);
        }
        let (element, end) = self.connection.item(|bytes| self.elements.end(bytes))?;
        match end {
            b',' => {}
            b']' => self.closed = true,
            _ => return Err(self.connection.bad(ReplyProblem::Lacks("]"))),
        }
        let read = read(self.connection.text(element)?);
        read.map(Some).map_err(|problem| self.connection.bad(problem))
    }
}

/// One key, as an element of the reply to KEYS; in place of a value, null.
pub(super) fn key(element: &str) -> Result<(Text<'_>, Text<'_>), ReplyProblem> {
    let key = Text::parse(element)?;
    if key.as_str().starts_with('"') { Ok((key, Text::NULL)) } else { Err(ReplyProblem::Lacks("a key")) }
}

/// One key and its value, as an element of the reply to GETALL, or a line of a dump: an object of
/// these two members.
pub(super) fn entry(element: &str) -> Result<(Text<'_>, Text<'_>), ReplyProblem> {
    let (mut key, mut value, mut more) = (None, None, false);
    let mut parser = Parser::new(element);
    parser.object(|parser, name| {
        match name.raw() {
            "key" if key.is_none() => key = Some(parser.compact()?),
            "value" if value.is_none() => value = Some(parser.compact()?),
            _ => {
                more = true;
                parser.skip()?;
            }
        }
        Ok::<(), Error>(())
    })?;
    parser.end()?;
    match (key, value) {
        (Some(key), Some(value)) if !more && key.as_str().starts_with('"') => Ok((key, value)),
        _ => Err(ReplyProblem::Lacks("a key and a value")),
    }
}

#[cfg(test)]
mod tests {
    use super::Elements;

    #[test]
    fn elements_end_at_the_same_places_however_they_are_cut() {
        let list = br#""a","b,]\\","\"]",{"x":[1,{}],"y":"}"},1.5,[[],","],null]"#;
        let ends = |step: usize| {
            let (mut elements, mut start, mut seen, mut found) = (Elements::default(), 0, 0, Vec::new());
            while seen < list.len() {
                seen = (seen + step).min(list.len());
                while let Some(length) = elements.end(&list[start..seen]) {
                    found.push(String::from_utf8_lossy(&list[start..start + length]).into_owned());
                    start += length + 1;
                }
            }
            found
        };
        let whole = ends(list.len());
        assert_eq!(whole.len(), 7, "{whole:?}");
        assert_eq!(whole[6], "null");
        for step in 1..list.len() {
            assert_eq!(ends(step), whole, "cut every {step} bytes");
        }
    }
}
