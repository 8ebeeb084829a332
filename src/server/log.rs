//! The log: one line an event, `key=value` pairs, for people with `grep`.
//!
//! Whatever becomes of the place it is written to (full, closed, a pipe that nobody reads), the server
//! goes on: lines are handed to a thread of their own through a bounded channel, and where that is
//! full they are dropped and counted. Nothing that a client sent can break a line or drive a
//! terminal. An event that repeats is told [`EVENTS_MAX`] times a second; the rest is counted, too.

use std::collections::HashMap;
use std::fmt::{self, Display, Write as _};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::actions::rfc3339;
use crate::protocol::{Escape, one_line};

/// Lines of one event in one second.
const EVENTS_MAX: u64 = 20;
/// Lines that may wait to be written.
const LINES_WAITING_MAX: usize = 1024;
/// Bytes of a field's value, with what quotes it and what tells that it was cut.
const FIELD_BYTES_MAX: usize = 256;
/// How long the end of the log waits for its last lines to be written.
const FLUSH_MAX: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is wrong.
    Error,
    /// Worth knowing.
    Info,
    /// Each request.
    Debug,
}

/// Where events are told. Cheap to clone; without a writer it says nothing.
#[derive(Clone)]
pub struct Log {
    level: Level,
    lines: Option<SyncSender<Line>>,
    dropped: Arc<AtomicU64>,
}

enum Line {
    Event(&'static str, String),
    /// Answered when all before it has been written.
    Flush(SyncSender<()>),
}

impl Log {
    /// A log that says nothing.
    pub fn none() -> Log {
        Log { level: Level::Error, lines: None, dropped: Arc::default() }
    }

    /// A log of events that matter at least as much as `level`, written by a thread of its own.
    pub fn new(level: Level, out: impl Write + Send + 'static) -> std::io::Result<Log> {
        let (lines, waiting) = sync_channel(LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        thread::Builder::new().name("log".into()).spawn(move || write_lines(waiting, out, &count))?;
        Ok(Log { level, lines: Some(lines), dropped })
    }

    /// Whether an event of this level is told, for those who would spend much to make one.
    pub fn tells(&self, level: Level) -> bool {
        self.lines.is_some() && level <= self.level
    }

    /// Tells an event. Never waits.
    pub fn event(&self, level: Level, event: &'static str, fields: &[(&str, &dyn Display)]) {
        let Some(lines) = self.lines.as_ref().filter(|_| self.tells(level)) else { return };
        let mut line = format!("time={} ", rfc3339(SystemTime::now()));
        let level = match level {
            Level::Error => "error",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        for (name, value) in [("level", &level as &dyn Display), ("event", &event)].iter().chain(fields) {
            let space = if line.ends_with(' ') { "" } else { " " };
            // Writing to a String cannot fail.
            let _ = write!(line, "{space}{name}={}", Field(&value.to_string()));
        }
        line.push('\n');
        if let Err(TrySendError::Full(_)) = lines.try_send(Line::Event(event, line)) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits until what was told is written, but not for long.
    pub fn flush(&self) {
        let (written, done) = sync_channel(1);
        if self.lines.as_ref().is_some_and(|lines| lines.try_send(Line::Flush(written)).is_ok()) {
            // Whether it was written or not, the server has done what it could.
            let _ = done.recv_timeout(FLUSH_MAX);
        }
    }
}

/// A value as it may stand in a line: quoted and escaped unless it is plain, and cut.
struct Field<'a>(&'a str);

impl Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |b: u8| b.is_ascii_graphic() && !b"\"\\=".contains(&b);
        if !self.0.is_empty() && self.0.len() <= FIELD_BYTES_MAX && self.0.bytes().all(plain) {
            return f.write_str(self.0);
        }
        write!(f, "\"{}\"", one_line(self.0, FIELD_BYTES_MAX - "\"…\"".len(), Escape::Quoted))
    }
}

/// How often an event was told in the second that began then, and how often it was not.
struct Told {
    since: Instant,
    told: u64,
    untold: u64,
}

fn write_lines(lines: Receiver<Line>, mut out: impl Write, dropped: &AtomicU64) {
    let mut events: HashMap<&'static str, Told> = HashMap::new();
    // A line that cannot be written is gone; the next may find room again.
    let mut write = |line: &str| drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
    loop {
        // With nothing left to sum up there is nothing to wake up for.
        let line = match events.is_empty() {
            true => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => lines.recv_timeout(SECOND),
        };
        let ending = matches!(line, Err(RecvTimeoutError::Disconnected) | Ok(Line::Flush(_)));
        events.retain(|event, told| {
            let over = told.since.elapsed() >= SECOND || ending;
            if over && told.untold > 0 {
                let time = rfc3339(SystemTime::now());
                write(&format!("time={time} level=info event={event} suppressed={}\n", told.untold));
            }
            !over
        });
        match dropped.swap(0, Relaxed) {
            0 => {}
            n => write(&format!("time={} level=error event=log dropped={n}\n", rfc3339(SystemTime::now()))),
        }
        match line {
            Ok(Line::Event(event, line)) => {
                let now = Instant::now();
                let told = events.entry(event).or_insert(Told { since: now, told: 0, untold: 0 });
                if told.told < EVENTS_MAX {
                    told.told += 1;
                    write(&line);
                } else {
                    told.untold += 1;
                }
            }
            Ok(Line::Flush(written)) => drop(written.try_send(())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
