//! Programs as actions: `--action NAME=PROGRAM`.
//!
//! The operator names a program at start, and it answers the requests of that name:
//!
//! - stdin: the request's `data` as one line of JSON; `null` where there is none.
//! - arguments: none. Environment: `PATH` as the server has it, `LANG=C.UTF-8`, `ST_ACTION=NAME`, under
//!   `st server` on Linux also `ST_JOB` (see `job`), and nothing else. A client decides nothing but what stands
//!   on stdin, so there is nothing to quote or to smuggle.
//! - stdout: the value. JSON if it is JSON, else a string, less one newline at its end; no output is `""`.
//!   It has to be UTF-8. JSON that is nested deeper than a stored value may be, 126 levels, is a string too.
//! - a status other than 0, or death by a signal: `action_failed`, with what stands on stderr, cut.
//!
//! How it is run, and ended, is `run`'s business.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::{error, fmt, fs, io};

use super::{Action, Call, ROOM_LEVELS};
use crate::json::{JsonText, Parser};
use crate::protocol::{Code, Failure, excerpt};

/// A program that answers requests. It is looked at when made and started anew for each call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Takes a program by its absolute path: a file that is executable. Checked now, so that a slip shows when the
    /// server starts and not when the first client asks; what is deleted later fails each call.
    pub fn new(path: impl Into<PathBuf>) -> Result<Program, ProgramError> {
        let path = path.into();
        if !path.is_absolute() {
            return Err(ProgramError::NotAbsolute(path));
        }
        match fs::metadata(&path) {
            Err(cause) => Err(ProgramError::Unreachable(path, cause)),
            Ok(found) if !found.is_file() => Err(ProgramError::NotAFile(path)),
            Ok(found) if found.permissions().mode() & 0o111 == 0 => Err(ProgramError::NotExecutable(path)),
            Ok(_) => Ok(Program { path }),
        }
    }
}

impl Action for Program {
    fn call(&self, call: &Call<'_>) -> Result<JsonText<'static>, Failure> {
        let fail = |what: String| Failure::new(Code::ActionFailed, format!("{} {what}", call.name()));
        let input = format!("{}\n", call.data().map_or("null", JsonText::as_str));
        let done = call.run(Command::new(&self.path), &input)?;
        if !done.status.success() {
            let said = excerpt(&done.stderr);
            let colon = if said.is_empty() { "" } else { ": " };
            return Err(fail(format!("failed ({}){colon}{said}", done.status)));
        }
        let output = String::from_utf8(done.stdout).map_err(|error| {
            fail(format!("wrote bytes that are not UTF-8, at {}", error.utf8_error().valid_up_to()))
        })?;
        let mut parser = Parser::new(&output);
        let value = parser.compact_with_room(ROOM_LEVELS).and_then(|value| parser.end().map(|()| value));
        Ok(match value {
            Ok(value) => value.into_owned(),
            Err(_) => JsonText::string(output.strip_suffix('\n').unwrap_or(&output)),
        })
    }
}

/// Why a file, the path given, cannot be an action.
#[derive(Debug)]
pub enum ProgramError {
    /// A relative path would depend on where the server was started.
    NotAbsolute(PathBuf),
    /// It does not exist, or may not be looked at, as the system says.
    Unreachable(PathBuf, io::Error),
    /// It is a directory, a device or the like.
    NotAFile(PathBuf),
    /// Nobody has the right to execute it.
    NotExecutable(PathBuf),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::NotAbsolute(path) => write!(f, "{path:?} is no absolute path: begin it with '/'"),
            ProgramError::Unreachable(path, cause) => write!(f, "no program at {path:?}: {cause}"),
            ProgramError::NotAFile(path) => write!(f, "{path:?} is not a file"),
            ProgramError::NotExecutable(path) => write!(f, "{path:?} is not executable: try chmod +x"),
        }
    }
}

impl error::Error for ProgramError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            ProgramError::Unreachable(_, cause) => Some(cause),
            _ => None,
        }
    }
}
