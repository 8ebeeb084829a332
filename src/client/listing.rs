//! The commands that print lists: `getall`, `keys` and `dump`. They hold a piece of the list at a time,
//! so a table of any size goes through.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use super::list::{entry, key};
use super::run::{Messages, OUTPUT_BYTES, Run, Trouble, spill};
use crate::args::ClientArgs;
use crate::protocol::Request;

/// How keys and values are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `KEY<TAB>JSON`, a line each.
    Tabs,
    /// One JSON object.
    Object,
    /// `{"key":KEY,"value":JSON}`, a line each.
    Dump,
}

/// `getall` and `dump`.
pub(super) fn entries(run: &mut Run<'_>, prefix: &str, style: Style) -> Result<(), Trouble> {
    let mut progress = Progress::new(style == Style::Dump && !io::stdout().is_terminal());
    let mut list = run.client.list(&Request::GetAll { prefix: prefix.into() }, "[")?;
    let (mut out, mut count) = (Vec::with_capacity(OUTPUT_BYTES), 0);
    let ended = loop {
        let (key, value) = match list.next("\n", entry) {
            Ok(Some(entry)) => entry,
            ended => break ended.map(drop),
        };
        let name = key.as_string().unwrap_or_default();
        let (before, name, between, after) = match style {
            Style::Tabs => ("", &*name, "\t", "\n"),
            Style::Object if count == 0 => ("{", key.as_str(), ":", ""),
            Style::Object => (",", key.as_str(), ":", ""),
            Style::Dump => ("{\"key\":", key.as_str(), ",\"value\":", "}\n"),
        };
        for part in [before, name, between, value.as_str(), after] {
            out.extend_from_slice(part.as_bytes());
        }
        count += 1;
        if spill(run.stdout, &mut out, OUTPUT_BYTES)? {
            progress.show(&mut run.stderr, count, "dumped");
        }
    };
    if style == Style::Object && ended.is_ok() {
        out.extend_from_slice(if count == 0 { b"{}\n" } else { b"}\n" });
    }
    progress.clear(&mut run.stderr);
    // What came before a failure is the reader's all the same.
    spill(run.stdout, &mut out, 0)?;
    Ok(ended?)
}

/// `keys`.
pub(super) fn keys(run: &mut Run<'_>, args: &ClientArgs, prefix: &str) -> Result<(), Trouble> {
    let mut list = run.client.list(&Request::Keys { prefix: prefix.into() }, "{\"value\":[")?;
    let (mut out, mut mark) = (Vec::with_capacity(OUTPUT_BYTES), b'[');
    let ended = loop {
        let key = match list.next("}\n", key) {
            Ok(Some(key)) => key,
            ended => break ended.map(drop),
        };
        if args.json {
            out.push(mark);
            out.extend_from_slice(key.as_str().as_bytes());
            mark = b',';
        } else {
            out.extend_from_slice(key.as_string().unwrap_or_default().as_bytes());
            out.push(b'\n');
        }
        spill(run.stdout, &mut out, OUTPUT_BYTES)?;
    };
    if args.json && ended.is_ok() {
        out.extend_from_slice(if mark == b'[' { b"[]\n" } else { b"]\n" });
    }
    spill(run.stdout, &mut out, 0)?;
    Ok(ended?)
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
