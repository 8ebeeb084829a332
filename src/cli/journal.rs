//! `st journal`: looks at a journal, or makes it usable again.
//!
//! It asks no server. `check` reads and changes nothing; `repair` is for a journal that a server refused
//! because what had been durable was damaged: somebody has to decide that what is left is better than nothing,
//! and it is not st.

use std::ffi::OsString;
use std::io::{Stdout, Write};
use std::path::PathBuf;

use super::message::{Exit, Problem, Topic, Trouble};
use super::words::{Opt, WordReader, text};
use crate::store::{Found, JournalError, check_journal, repair_journal};

/// What `st journal` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalArgs {
    /// Whether to change anything.
    pub repair: bool,
    /// The journal.
    pub file: PathBuf,
}

/// Every option of `st journal`.
pub(super) const OPTIONS: &[Opt<()>] = &[Opt::HELP];

/// Understands the words after `journal`.
pub(super) fn parse(words: &mut WordReader<'_>) -> Result<JournalArgs, Problem> {
    words.topic = Topic::Journal;
    words.skip_help();
    words.options(OPTIONS, &mut ())?;
    let word = |words: &mut WordReader<'_>, what| match words.next() {
        Some(word) => Ok(word),
        None => words.end().and(Err(Problem::MissingOperand(what))),
    };
    let verb = word(words, "check or repair")?;
    let repair = match verb.to_str() {
        Some("check") => false,
        Some("repair") => true,
        _ => return Err(Problem::Unknown("command", text_of(verb), None)),
    };
    words.options(OPTIONS, &mut ())?;
    let file = word(words, "FILE")?.into();
    words.options(OPTIONS, &mut ())?;
    words.end().map(|()| JournalArgs { repair, file })
}

fn text_of(word: OsString) -> String {
    text(word).unwrap_or_else(|_| "?".into())
}

/// Does what `args` say, and tells what it found.
pub(super) fn run_journal(args: &JournalArgs, mut stdout: Stdout) -> Result<(), Trouble> {
    let refused = |error: JournalError| Trouble { exit: Exit::Local, text: error.to_string() };
    let path = args.file.display();
    let tell = |keys: Option<usize>, found: &Found| {
        let keys = keys.map_or(String::new(), |keys| format!("keys\t{keys}\n"));
        format!("records\t{}\n{keys}bytes\t{}\n", found.records, found.end)
    };
    if args.repair {
        let found = repair_journal(&args.file).map_err(refused)?;
        let moved = format!("{}moved\t{}\n", tell(None, &found), found.torn);
        return stdout.write_all(moved.as_bytes()).map_err(Trouble::output);
    }
    let (found, keys, is_in_use) = check_journal(&args.file).map_err(refused)?;
    let in_use = if is_in_use { "in use\tyes: more may follow\n" } else { "" };
    stdout.write_all((tell(Some(keys), &found) + in_use).as_bytes()).map_err(Trouble::output)?;
    let text = match (found.damage, found.torn) {
        (Some(by), _) => format!(
            "{path} is damaged at byte {}: record {} was durable when record {by} was written; \
             restore a copy, or keep what comes before by 'st journal repair'",
            found.end,
            found.records + 1
        ),
        (None, 0) => return Ok(()),
        (None, torn) => format!(
            "{path} ends at byte {}, and {torn} bytes follow that a crash left; the next start moves them to {path}.broken",
            found.end
        ),
    };
    Err(Trouble { exit: Exit::No, text })
}
