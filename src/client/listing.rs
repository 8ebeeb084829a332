//! The commands that print lists: `getall`, `keys` and `dump`. They hold an element of the list at a
//! time, so a table of any size goes through.

use std::io::{self, IsTerminal, Write};

use super::list::{entry, key};
use super::run::Run;
use super::trouble::Trouble;
use crate::protocol::Request;

/// How a list is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `KEY<TAB>JSON`, a line each.
    Tabs,
    /// One JSON object.
    Object,
    /// `{"key":KEY,"value":JSON}`, a line each.
    Dump,
    /// `KEY`, a line each.
    Keys,
    /// One JSON array of keys.
    Array,
}

/// Writes the keys that begin with `prefix`, and for most styles their values.
pub(super) fn list(run: &mut Run<'_>, prefix: &str, style: Style) -> Result<(), Trouble> {
    let keys_only = matches!(style, Style::Keys | Style::Array);
    let (mut list, after) = match keys_only {
        true => (run.client.list(&Request::Keys { prefix: prefix.into() }, "{\"value\":[")?, "}\n"),
        false => (run.client.list(&Request::GetAll { prefix: prefix.into() }, "[")?, "\n"),
    };
    let (open, comma, close) = match style {
        Style::Object => ("{", ",", "}\n"),
        Style::Array => ("[", ",", "]\n"),
        _ => ("", "", ""),
    };
    let progress = style == Style::Dump && !io::stdout().is_terminal();
    let mut count = 0;
    while let Some(element) = list.next(after)? {
        let read = if keys_only { key(&element) } else { entry(&element) };
        let (key, value) = read.map_err(|problem| list.connection.bad(problem))?;
        let name = key.as_string().unwrap_or_default();
        let before = if count == 0 { open } else { comma };
        let written = match style {
            Style::Tabs => writeln!(run.stdout, "{name}\t{value}"),
            Style::Object => write!(run.stdout, "{before}{key}:{value}"),
            Style::Dump => writeln!(run.stdout, "{{\"key\":{key},\"value\":{value}}}"),
            Style::Keys => writeln!(run.stdout, "{name}"),
            Style::Array => write!(run.stdout, "{before}{key}"),
        };
        written.map_err(Trouble::output)?;
        count += 1;
        if progress && count % 1_000 == 0 {
            run.stderr.progress(&format!("{count} keys dumped"));
        }
    }
    let open = if count == 0 { open } else { "" };
    write!(run.stdout, "{open}{close}").map_err(Trouble::output)
}
