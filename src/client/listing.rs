//! The commands that print lists: `getall`, `keys` and `dump`. They hold a piece of the list at a time,
//! so a table of any size goes through.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use super::list::{entry, key};
use super::run::{OUTPUT_BYTES, Run, spill};
use super::trouble::{Messages, Trouble};
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
    let mut progress = Progress::new(style == Style::Dump && !io::stdout().is_terminal());
    let keys_only = matches!(style, Style::Keys | Style::Array);
    let (before, after) = if keys_only { ("{\"value\":[", "}\n") } else { ("[", "\n") };
    let mut list = match keys_only {
        true => run.client.list(&Request::Keys { prefix: prefix.into() }, before)?,
        false => run.client.list(&Request::GetAll { prefix: prefix.into() }, before)?,
    };
    let (mut out, mut count) = (Vec::with_capacity(OUTPUT_BYTES), 0);
    let ended = loop {
        let (key, value) = match list.next(after, if keys_only { key } else { entry }) {
            Ok(Some(element)) => element,
            ended => break ended.map(drop),
        };
        let first = |mark| if count == 0 { mark } else { "," };
        let (name, json, value) = (key.as_string().unwrap_or_default(), key.as_str(), value.as_str());
        let parts = match style {
            Style::Tabs => ["", &*name, "\t", value, "\n"],
            Style::Object => [first("{"), json, ":", value, ""],
            Style::Dump => ["{\"key\":", json, ",\"value\":", value, "}\n"],
            Style::Keys => ["", &*name, "", "", "\n"],
            Style::Array => [first("["), json, "", "", ""],
        };
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        count += 1;
        if spill(run.stdout, &mut out, OUTPUT_BYTES)? {
            progress.show(&mut run.stderr, count, "dumped");
        }
    };
    let end: &[u8] = match style {
        Style::Object if ended.is_ok() => {
            if count == 0 {
                b"{}\n"
            } else {
                b"}\n"
            }
        }
        Style::Array if ended.is_ok() => {
            if count == 0 {
                b"[]\n"
            } else {
                b"]\n"
            }
        }
        _ => b"",
    };
    out.extend_from_slice(end);
    progress.clear(&mut run.stderr);
    // What came before a failure is the reader's all the same.
    spill(run.stdout, &mut out, 0)?;
    ended.map_err(Trouble::from)
}

/// The line on stderr, where that is a terminal, that shows how far a long copy has come.
pub(super) struct Progress {
    /// When it may be written next; `None` for never.
    due: Option<Instant>,
    shown: bool,
}

impl Progress {
    pub fn new(wanted: bool) -> Progress {
        Progress { due: (wanted && io::stderr().is_terminal()).then(Instant::now), shown: false }
    }

    pub fn show(&mut self, stderr: &mut Messages<'_>, count: u64, done: &str) {
        const INTERVAL: Duration = Duration::from_millis(100);
        if self.due.is_some_and(|due| due <= Instant::now()) {
            stderr.progress(&format!("{count} keys {done}"));
            (self.due, self.shown) = (Some(Instant::now() + INTERVAL), true);
        }
    }

    pub fn clear(&mut self, stderr: &mut Messages<'_>) {
        if std::mem::take(&mut self.shown) {
            stderr.progress("");
        }
    }
}
