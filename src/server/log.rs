//! The log: one line an event, `key=value` pairs, for people with `grep`.
//!
//! A server that writes its log where it serves stops when the log stops: a pipe that nobody reads takes
//! 64 KiB, and then every thread that logs waits for ever. So lines are handed to a thread of their own, and
//! whatever becomes of the place it writes to (full, closed, blocked) the server goes on. The channel to that
//! thread is bounded, because a queue before a blocked pipe would otherwise take all memory; lines that
//! find it full are dropped and counted.
//!
//! A client must not be able to use the log either: nothing it sent can break a line or drive the terminal
//! of whoever reads it, and an event that repeats is told [`EVENTS_MAX`] times in a second and then only
//! counted, so that no client fills the disk.
//!
//! Deliberately absent: files and rotation. stderr goes wherever the operator sends it.

use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, Write};
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
/// Bytes of a field's value, with what quotes it and what tells that it was cut. A key may have 1,024.
const FIELD_BYTES_MAX: usize = 256;
/// How long the end of the log waits for its last lines to be written. They may never be.
const FLUSH_MAX: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is wrong.
    Error,
    /// Worth knowing.
    Info,
    /// Requests.
    Debug,
}

/// Where events are told. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    level: Level,
    lines: SyncSender<Line>,
    /// Lines that found the channel full since the writer last told of them.
    dropped: Arc<AtomicU64>,
}

enum Line {
    Event(&'static str, String),
    /// Answered when all before it has been written.
    Flush(SyncSender<()>),
}

impl Log {
    /// A log that says nothing: no thread is at the other end of its channel.
    pub fn none() -> Log {
        Log { level: Level::Error, lines: sync_channel(0).0, dropped: Arc::default() }
    }

    /// A log of events that matter at least as much as `level`, written by a thread of its own.
    ///
    /// ```
    /// use socket_tables::server::{Level, Log};
    ///
    /// let log = Log::new(Level::Info, std::io::stderr())?;
    /// let options = socket_tables::Options { log, ..Default::default() };
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(level: Level, out: impl Write + Send + 'static) -> io::Result<Log> {
        let (lines, waiting) = sync_channel(LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        thread::Builder::new().name("log".into()).spawn(move || write_lines(&waiting, out, &count))?;
        Ok(Log { level, lines, dropped })
    }

    /// Whether an event of this level is told, for those who would spend much to make one.
    pub fn tells(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Tells an event. Never waits.
    pub fn event(&self, level: Level, event: &'static str, fields: &[(&str, &dyn Display)]) {
        if !self.tells(level) {
            return;
        }
        let line = Line::Event(event, format_line(level, event, fields));
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits until the lines before this call are written, for half a second at most.
    pub fn flush(&self) {
        let (written, done) = sync_channel(1);
        if self.lines.try_send(Line::Flush(written)).is_ok() {
            // Whether it was written or not, the server has done what it could.
            let _ = done.recv_timeout(FLUSH_MAX);
        }
    }
}

fn format_line(level: Level, event: &str, fields: &[(&str, &dyn Display)]) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let mut line = format!("time={} level={level} event={event}", rfc3339(SystemTime::now()));
    for (name, value) in fields {
        line.extend([" ", name, "="]);
        push_escaped(&mut line, &value.to_string());
    }
    line.push('\n');
    line
}

/// Appends a value as it may stand in a line: quoted and escaped unless it is plain, and cut where it is
/// long. Without the escapes a key that holds a newline could forge a line of the log, and one that
/// holds a terminal's control sequences could rewrite what its reader sees.
fn push_escaped(line: &mut String, value: &str) {
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"\\=".contains(&b);
    if !value.is_empty() && value.len() <= FIELD_BYTES_MAX && value.bytes().all(plain) {
        return line.push_str(value);
    }
    let value = one_line(value, FIELD_BYTES_MAX - "\"…\"".len(), Escape::Quoted);
    line.extend(["\"", &value, "\""]);
}

/// Writes lines until the last [`Log`] is gone. It wakes up only while there is something to tell: at the end of
/// a second in which events came, for the sums of those that came too often.
fn write_lines(lines: &Receiver<Line>, mut out: impl Write, dropped: &AtomicU64) {
    // How often each event came since `second`.
    let mut counts: HashMap<&'static str, u64> = HashMap::new();
    let mut second = Instant::now();
    // A line that cannot be written is gone; the next may find room again.
    let mut write = |line: &str| drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
    loop {
        let left = SECOND.saturating_sub(second.elapsed());
        let line = lines.recv_timeout(if counts.is_empty() { Duration::MAX } else { left });
        let is_last = matches!(line, Err(RecvTimeoutError::Disconnected) | Ok(Line::Flush(_)));
        if is_last || second.elapsed() >= SECOND {
            for (event, count) in counts.drain().filter(|(_, count)| *count > EVENTS_MAX) {
                write(&format_line(Level::Info, event, &[("suppressed", &(count - EVENTS_MAX))]));
            }
            second = Instant::now();
        }
        let lost = dropped.swap(0, Relaxed);
        if lost > 0 {
            write(&format_line(Level::Error, "log", &[("dropped", &lost)]));
        }
        match line {
            Ok(Line::Event(event, line)) => {
                let count = counts.entry(event).or_default();
                *count += 1;
                if *count <= EVENTS_MAX {
                    write(&line);
                }
            }
            Ok(Line::Flush(written)) => drop(written.try_send(())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
