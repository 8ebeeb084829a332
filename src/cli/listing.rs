//! The commands that print lists: `getall`, `keys` and `dump`. They hold an element of the list at a
//! time, so a table of any size goes through.

use std::io::{self, IsTerminal, Write};

use super::commands::Run;
use super::message::Trouble;
use crate::client::ClientError;

/// How a list is written: in lines, or with `-j` as one JSON object or array.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Tabs,
    Object,
    Dump,
    Keys,
    Array,
}

/// Writes the keys that begin with `prefix`, and for most styles their values.
pub(super) fn list(run: &mut Run<'_>, prefix: &str, style: Style) -> Result<(), Trouble> {
    let keys_only = matches!(style, Style::Keys | Style::Array);
    let (open, comma, close) = match style {
        Style::Object => ("{", ",", "}\n"),
        Style::Array => ("[", ",", "]\n"),
        _ => ("", "", ""),
    };
    let progress = style == Style::Dump && !io::stdout().is_terminal();
    let mut count = 0;
    let mut list = run.client.list(prefix, keys_only)?;
    while let Some((key, value)) = list.next().map_err(cut)? {
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

/// A server that closes amid a list has most likely waited for us too long.
fn cut(error: ClientError) -> Trouble {
    let lost = matches!(error, ClientError::Lost(..));
    let why = "; the list is cut off: was it taken too slowly for the server's --deadline?";
    let trouble = Trouble::from(error);
    Trouble { text: trouble.text + if lost { why } else { "" }, ..trouble }
}
