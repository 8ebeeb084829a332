//! Lists of any length, an element at a time: the replies to GETALL and KEYS, and the objects that
//! `load` reads. What is held is one element, not the list.

use super::connection::Connection;
use super::{ClientError, ReplyProblem};
use crate::json::{Error, JsonText, Parser, Scan, Scanner};
use crate::protocol::Scope;

/// A reply that is a list, as it arrives: keys, and their values, or null where only keys were asked for.
/// It has its connection: what is left of a list that is not read to its end must not pass for another reply.
pub(crate) struct List {
    pub connection: Connection,
    /// What was asked for.
    pub scope: Scope<'static>,
    pub keys_only: bool,
    /// Its closing bracket has been met.
    pub closed: bool,
}

impl List {
    /// The next key and value; `None` after the last.
    pub fn next(&mut self) -> Result<Option<(JsonText<'static>, JsonText<'static>)>, ClientError> {
        if self.closed {
            return Ok(None);
        }
        let (element, end) = self.connection.item(element_end())?;
        self.closed = match end {
            b',' => false,
            b']' => true,
            _ => return Err(self.connection.bad(ReplyProblem::Lacks("]"))),
        };
        if self.closed {
            self.connection.expect(if self.keys_only { "}\n" } else { "\n" })?;
        }
        // An empty list has no element for its end to follow.
        if self.closed && element.is_empty() {
            return Ok(None);
        }
        let read = if self.keys_only { key(&element) } else { entry(&element) };
        let (key, value) = read.map_err(|problem| self.connection.bad(problem))?;
        self.connection.check_key(&key.as_string().unwrap_or_default(), &self.scope)?;
        Ok(Some((key.into_owned(), value.into_owned())))
    }
}

/// Finds the comma or closing bracket after an element that comes in pieces, each looked at once.
fn element_end() -> impl FnMut(&[u8]) -> Option<usize> {
    let mut scanner = Scanner::in_array();
    // What does not fit together ends at the bracket that does not fit, and is then refused as no JSON.
    move |piece| match scanner.scan_piece(piece) {
        Scan::Complete(end) => Some(end - 1),
        Scan::Lost(at) => Some(at),
        Scan::Incomplete => None,
    }
}

/// One key, as an element of the reply to KEYS; in place of a value, null.
fn key(element: &str) -> Result<(JsonText<'_>, JsonText<'_>), ReplyProblem> {
    let key = JsonText::parse(element)?;
    if key.as_str().starts_with('"') { Ok((key, JsonText::NULL)) } else { Err(ReplyProblem::Lacks("a key")) }
}

/// One key and its value, as an element of the reply to GETALL, or a line of a dump: an object of
/// these two members.
pub(crate) fn entry(element: &str) -> Result<(JsonText<'_>, JsonText<'_>), ReplyProblem> {
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
    use super::element_end;

    #[test]
    fn elements_end_at_the_same_places_however_they_are_cut() {
        let elements =
            [r#""a""#, r#""b,]\\""#, r#""\"]""#, r#"{"x":[1,{}],"y":"}"}"#, "1.5", r#"[[],","]"#, ""];
        for (element, end) in elements.iter().flat_map(|element| [(element, ","), (element, "]")]) {
            let text = format!("{element}{end}");
            for step in 1..=text.len() {
                let mut find = element_end();
                let found = text.as_bytes().chunks(step).map(&mut find).enumerate();
                let found: Vec<_> = found.filter_map(|(nth, at)| Some(nth * step + at?)).collect();
                assert_eq!(found, [element.len()], "{text} cut every {step} bytes");
            }
        }
    }
}
