//! The actions every server has. They are plain functions in a table, no different from those that others register,
//! and a first one to read is `echo`: it takes the request's `data` from the call, and gives it back or says what it
//! needs.
//!
//! What an action answers is JSON text, since that is what is sent: a tree would be built only to be written.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::sync::{LazyLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::program::{cannot_run, find_program};
use super::{Call, Outcome};
use crate::json::{JsonText, Value};
use crate::protocol::{Code, Failure};

/// HISTORY keeps this many commands, and this many bytes of them; the oldest go first.
const HISTORY_COMMANDS_MAX: usize = 1_000;
const HISTORY_BYTES_MAX: usize = 1 << 20;

type Function = fn(&Call<'_>) -> Outcome;

/// Each action's name and arguments, what INFO tells of it, whether it may take long, and the function.
pub(super) const ACTIONS: [(&str, &str, &str, bool, Function); 6] = [
    ("ECHO", "[DATA]", "DATA, as it came", false, echo),
    ("TIME", "", "the time, UTC", false, time),
    ("HELLO", "", "a greeting with the host's name", false, hello),
    ("EXEC", "PROGRAM ARG...", "run a program, or in JSON also a line for sh, where allowed", true, exec),
    ("HISTORY", "", "the last 1,000 commands that EXEC ran", false, history),
    ("INFO", "", "what the server is, does, and can be asked", false, info),
];

/// The text is copied as it came, so every digit of a number stays.
fn echo(call: &Call<'_>) -> Outcome {
    Ok(call.data().cloned().map_or(JsonText::NULL, JsonText::into_owned))
}

fn time(_: &Call<'_>) -> Outcome {
    Ok(JsonText::string(&rfc3339(SystemTime::now())))
}

fn hello(_: &Call<'_>) -> Outcome {
    // Found at the first call: a program may have to be run for it.
    static HOST: LazyLock<String> = LazyLock::new(host_name);
    Ok(JsonText::string(&format!("Hello from {}", *HOST)))
}

/// Runs a program of the client's choice, so the operator must have allowed it. An array is the program and its
/// arguments, which no shell sees; a string is a line for the shell. What the program says is data: a
/// program that fails is no failed request. Gives the program's output lossily where it is not UTF-8: status and
/// the rest are worth having then.
fn exec(call: &Call<'_>) -> Outcome {
    if !call.actions.exec_allowed {
        let way_out = "EXEC is not allowed here: the server has to be started with --allow-exec and a token";
        return Err(Failure::new(Code::Denied, way_out));
    }
    let data = call.value();
    let words = match (data.as_str(), data.as_array()) {
        (Some(line), _) => Some(vec!["sh", "-c", line]),
        (None, Some(words)) => words.iter().map(Value::as_str).collect(),
        (None, None) => None,
    };
    let (Some([program, arguments @ ..]), Some(text)) = (words.as_deref(), call.data()) else {
        return Err(call.needs(r#"the command, an array of strings such as ["date","-u"], or a line for sh"#));
    };
    remember(call, text);
    let path = find_program(program.as_ref(), "/".as_ref());
    let path = path.map_err(|error| cannot_run(program.as_ref(), &error))?;
    let mut command = Command::new(path);
    command.arg0(program).args(arguments);
    let done = call.run(command, "")?;
    // As shells count it: 128 and the signal's number.
    let status = done.status.code().or(done.status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
    let said = |bytes: &[u8]| JsonText::string(&String::from_utf8_lossy(bytes));
    let (stdout, stderr) = (said(&done.stdout), said(&done.stderr));
    Ok(JsonText::trusted(format!(r#"{{"status":{status},"stdout":{stdout},"stderr":{stderr}}}"#)))
}

/// Adds a command to the history before it is run, so that one that fails is there too. A command of more than
/// [`HISTORY_BYTES_MAX`] pushes out all before it, and then itself.
fn remember(call: &Call<'_>, command: &JsonText<'_>) {
    let mut history = call.actions.history.lock().unwrap_or_else(PoisonError::into_inner);
    history.push_back(command.clone().into_owned());
    let mut bytes: usize = history.iter().map(|command| command.as_str().len()).sum();
    while history.len() > HISTORY_COMMANDS_MAX || bytes > HISTORY_BYTES_MAX {
        bytes -= history.pop_front().map_or(0, |oldest| oldest.as_str().len());
    }
}

/// The commands were checked to be JSON when EXEC was given them, so they are only joined.
fn history(call: &Call<'_>) -> Outcome {
    let history = call.actions.history.lock().unwrap_or_else(PoisonError::into_inner);
    let commands: Vec<&str> = history.iter().map(JsonText::as_str).collect();
    Ok(JsonText::trusted(format!("[{}]", commands.join(","))))
}

/// The server fills in what INFO tells: counters, address and mode are not known here.
fn info(call: &Call<'_>) -> Outcome {
    Ok(JsonText::from((call.actions.info)()))
}

/// The host's name, from where it can be had without a system call that std lacks.
pub(crate) fn host_name() -> String {
    let name = |text: String| Some(text.trim().to_owned()).filter(|name| !name.is_empty());
    let file = || fs::read_to_string("/proc/sys/kernel/hostname").ok().and_then(name);
    let program = || String::from_utf8(Command::new("hostname").output().ok()?.stdout).ok().and_then(name);
    file().or_else(program).unwrap_or_else(|| "localhost".to_owned())
}

/// A time as RFC 3339 has it, in UTC and whole seconds: `2026-11-20T08:49:00Z`. A clock that is set to
/// before 1970 is told as 1970; years past 9999 get more digits than the format knows.
///
/// The date is found as Howard Hinnant's `civil_from_days` does it. Years are counted from March, so that a leap
/// day is the last of its year, and the months from March on have 153 days in five, over and over. The Gregorian
/// calendar repeats itself after 400 years, which are 146,097 days.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
///
/// let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
/// assert_eq!(socket_tables::actions::rfc3339(time), "2001-09-09T01:46:40Z");
/// ```
pub fn rfc3339(time: SystemTime) -> String {
    /// From 0000-03-01 to 1970-01-01.
    const DAYS_BEFORE_1970: u64 = 719_468;

    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = seconds / 86_400 + DAYS_BEFORE_1970;
    let (era, day) = (days / 146_097, days % 146_097);
    // A leap day comes every 4 years of 1,461 days, but not every 100, and then every 400.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let months = (5 * day + 2) / 153;
    let day = day - (153 * months + 2) / 5 + 1;
    let month = if months < 10 { months + 3 } else { months - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
