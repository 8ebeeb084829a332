//! The actions every server has: ECHO, TIME, HELLO, EXEC, HISTORY.
//!
//! (INFO tells about the server itself, so the server registers it.) They are plain functions in a table, no
//! different from those that others register.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

use super::run::Runner;
use super::{Call, Spec, spec};
use crate::json::{Text, Value};
use crate::protocol::{Code, Failure};

/// HISTORY keeps this many commands, and this many bytes of them; the oldest go first.
const HISTORY_COMMANDS_MAX: usize = 1_000;
const HISTORY_BYTES_MAX: usize = 1 << 20;

type Answer = Result<Text<'static>, Failure>;
type Function = fn(&Call<'_>) -> Answer;

pub(super) const ACTIONS: [(Spec<'static>, Function); 5] = [
    (spec("ECHO", "DATA", "DATA, as it came"), echo),
    (spec("TIME", "", "the time, UTC"), time),
    (spec("HELLO", "", "a greeting with the host's name"), hello),
    (spec("EXEC", "PROGRAM ARG...", "run a program, where the server allows it"), exec),
    (spec("HISTORY", "", "the last 1,000 commands that EXEC ran"), history),
];

fn echo(call: &Call<'_>) -> Answer {
    call.data().cloned().map(Text::into_owned).ok_or_else(|| call.needs("what to echo, any JSON"))
}

fn time(_: &Call<'_>) -> Answer {
    Ok(Text::string(&rfc3339(SystemTime::now())))
}

fn hello(call: &Call<'_>) -> Answer {
    Ok(Text::string(&format!("Hello from {}", call.actions.host)))
}

/// Gives the program's output lossily where it is not UTF-8: status and the rest are worth having then.
fn exec(call: &Call<'_>) -> Answer {
    if !call.actions.exec_allowed {
        let way_out = "EXEC is not allowed here: the server has to be started with --allow-exec and a token";
        return Err(Failure::new(Code::Denied, way_out));
    }
    let data = call.value();
    let words = data.as_array().and_then(|words| words.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    let (Some([program, arguments @ ..]), Some(text)) = (words.as_deref(), call.data()) else {
        return Err(call.needs(r#"the command, an array of strings such as ["date","-u"]"#));
    };
    let slot = call.actions.runner.slot()?;
    call.actions.history.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone().into_owned());
    let mut command = Command::new(program);
    command.args(arguments);
    let done = slot.run(command, call.name(), "")?;
    // As shells count it: 128 and the signal's number.
    let status = done.status.code().or(done.status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
    let said = |bytes: &[u8]| Text::string(&String::from_utf8_lossy(bytes));
    let (stdout, stderr) = (said(&done.stdout), said(&done.stderr));
    Ok(Text::known(format!(r#"{{"status":{status},"stdout":{stdout},"stderr":{stderr}}}"#)))
}

fn history(call: &Call<'_>) -> Answer {
    let history = call.actions.history.lock().unwrap_or_else(PoisonError::into_inner);
    let commands: Vec<&str> = history.commands.iter().map(Text::as_str).collect();
    Ok(Text::known(format!("[{}]", commands.join(","))))
}

/// What EXEC ran, or tried to: the commands' JSON, oldest first.
#[derive(Default)]
pub(super) struct History {
    commands: VecDeque<Text<'static>>,
    bytes: usize,
}

impl History {
    /// A command larger than all that is kept goes the way of the oldest at once.
    fn push(&mut self, command: Text<'static>) {
        self.bytes += command.as_str().len();
        self.commands.push_back(command);
        while self.commands.len() > HISTORY_COMMANDS_MAX || self.bytes > HISTORY_BYTES_MAX {
            self.bytes -= self.commands.pop_front().map_or(0, |oldest| oldest.as_str().len());
        }
    }
}

/// The host's name, from where it can be had without a system call that std lacks.
pub(super) fn host_name(runner: &Runner) -> String {
    let ask = || {
        let done = runner.slot()?.run(Command::new("hostname"), "HELLO", "")?;
        Ok::<_, Failure>(String::from_utf8(done.stdout)?)
    };
    let name = |text: String| Some(text.trim().to_owned()).filter(|name| !name.is_empty());
    let file = |path| fs::read_to_string(path).ok().and_then(name);
    file("/proc/sys/kernel/hostname")
        .or_else(|| file("/etc/hostname"))
        .or_else(|| ask().ok().and_then(name))
        .unwrap_or_else(|| "localhost".to_owned())
}

/// A time as RFC 3339 has it, in UTC and whole seconds: `2026-11-20T08:49:00Z`. (The format ends with the
/// year 9999; what lies beyond gets more digits.)
///
/// Years are taken to begin in March: the leap day is then a year's last day, and no month before it moves.
pub fn rfc3339(time: SystemTime) -> String {
    const DAY: i64 = 86_400;
    /// Days in 4, 100 and 400 years; the longer ones lack the leap days that the Gregorian calendar leaves out.
    const DAYS_4: i64 = 4 * 365 + 1;
    const DAYS_100: i64 = 25 * DAYS_4 - 1;
    const DAYS_400: i64 = 4 * DAYS_100 + 1;
    /// From 1 March of the year 0 to 1 January 1970.
    const DAYS_BEFORE_1970: i64 = 719_468;
    const MONTHS: [i64; 12] = [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 29];

    let seconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs().cast_signed(),
        Err(before) => {
            -before.duration().as_secs().cast_signed() - i64::from(before.duration().subsec_nanos() > 0)
        }
    };
    let days = seconds.div_euclid(DAY) + DAYS_BEFORE_1970;
    let day = days.rem_euclid(DAYS_400);
    // The last century of four, and the last year of four, are a day longer than the others.
    let century = (day / DAYS_100).min(3);
    let day = day - century * DAYS_100;
    let (fours, day) = (day / DAYS_4, day % DAYS_4);
    let single = (day / 365).min(3);
    let mut day = day - single * 365;
    let mut month = 0;
    while day >= MONTHS[month] {
        day -= MONTHS[month];
        month += 1;
    }
    let year = days.div_euclid(DAYS_400) * 400 + century * 100 + fours * 4 + single + i64::from(month >= 10);
    let (month, second) = ((month + 2) % 12 + 1, seconds.rem_euclid(DAY));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}
