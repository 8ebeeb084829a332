//! Options: a table says what there is, and one reader, the help texts and the hints for misspelt
//! words all read that table. The conventions are getopt's: `--long=value`, `--long value`,
//! `-ovalue`, `-o value`, flags grouped as in `-jn`, and `--` before data that begins with a dash.
//! Deliberately absent: abbreviated long options, which break scripts when a new option arrives.

use std::ffi::OsString;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::args::{Problem, Topic};
use super::values::Expected;
use crate::protocol::did_you_mean;

/// One option of a command whose arguments are a `T`.
pub(super) struct Opt<T: 'static> {
    /// Its letter, its name, and what its value is called, as the help shows them: `-a, --addr ADDR`.
    pub usage: &'static str,
    pub help: &'static str,
    /// The environment variable that speaks where the option is absent; empty for none.
    pub env: &'static str,
    /// The commands it belongs to; empty for all.
    pub only: &'static [&'static str],
    set: fn(&mut T, OsString) -> Result<(), Expected>,
}

impl<T> Opt<T> {
    pub const fn new(
        usage: &'static str,
        help: &'static str,
        set: fn(&mut T, OsString) -> Result<(), Expected>,
    ) -> Opt<T> {
        Opt { usage, help, env: "", only: &[], set }
    }

    pub const fn env(self, env: &'static str) -> Opt<T> {
        Opt { env, ..self }
    }

    pub const fn only(self, only: &'static [&'static str]) -> Opt<T> {
        Opt { only, ..self }
    }

    pub fn fits(&self, command: &str) -> bool {
        self.only.is_empty() || self.only.contains(&command)
    }

    fn letter(&self) -> Option<char> {
        self.usage.strip_prefix('-')?.chars().next().filter(char::is_ascii_alphabetic)
    }

    /// The name, and what the value is called; nothing for a flag.
    fn name(&self) -> (&'static str, &'static str) {
        let name = self.usage.rsplit("--").next().unwrap_or_default();
        name.split_once(' ').unwrap_or((name, ""))
    }

    fn apply(&self, what: String, value: OsString, into: &mut T) -> Result<(), Problem> {
        let shown = value.to_string_lossy().into_owned();
        (self.set)(into, value).map_err(|expected| Problem::BadValue { what, value: shown, expected })
    }
}

/// The words not yet understood, in order.
pub(super) struct Words<'e> {
    words: Peekable<IntoIter<OsString>>,
    /// `--` was seen: nothing after it is an option.
    data_only: bool,
    /// The names of the options seen so far.
    given: Vec<&'static str>,
    /// Looks up environment variables.
    env: &'e dyn Fn(&str) -> Option<OsString>,
    /// The name the program was called by, for suggestions; empty in a session.
    pub program: &'e str,
    /// The word `help` was seen.
    pub help: bool,
    /// How far the words were understood: an error points to the help for that.
    pub topic: Topic,
}

impl<'e> Words<'e> {
    pub fn new(
        program: &'e str,
        words: impl IntoIterator<Item = OsString>,
        env: &'e dyn Fn(&str) -> Option<OsString>,
    ) -> Words<'e> {
        let words = words.into_iter().collect::<Vec<_>>().into_iter().peekable();
        Words { words, data_only: false, given: Vec::new(), env, program, help: false, topic: Topic::Program }
    }

    /// The next word as data, whatever it looks like.
    pub fn next(&mut self) -> Option<OsString> {
        self.words.next()
    }

    /// The next word as data of a command. One that would have been an option before is refused unless `--` stands
    /// before it or before all data: who typed it meant the option, and would never learn that it became data.
    pub fn data<T>(&mut self, table: &[Opt<T>], command: &str) -> Result<Option<OsString>, Problem> {
        // As the last word it can only be data.
        if !self.data_only && self.words.len() > 1 {
            self.data_only = self.words.next_if(|word| word == "--").is_some();
        }
        let word = self.next();
        match word.as_ref().and_then(|word| word.to_str()) {
            Some(word) if !self.data_only && is_option(word, table, command) => {
                Err(Problem::LateOption(word.into()))
            }
            _ => Ok(word),
        }
    }

    /// Whether the option of this name has been seen.
    pub fn given(&self, name: &str) -> bool {
        self.given.contains(&name)
    }

    /// Passes over the word `help`, and remembers it.
    pub fn skip_help(&mut self) {
        while self.words.next_if(|word| word == "help").is_some() {
            self.help = true;
        }
    }

    /// All that is left, as data.
    pub fn rest(&mut self) -> Vec<OsString> {
        self.words.by_ref().collect()
    }

    /// Nothing may be left but the help that was asked for.
    pub fn end(&mut self) -> Result<(), Problem> {
        match self.next() {
            Some(word) => Err(Problem::Unexpected(word.to_string_lossy().into())),
            None if self.help => Err(Problem::Help),
            None => Ok(()),
        }
    }

    /// Applies options before and after the one operand that there may be, where no operand is free text.
    pub fn around<T>(&mut self, table: &'static [Opt<T>], into: &mut T) -> Result<Option<OsString>, Problem> {
        self.options(table, into)?;
        let operand = self.next();
        self.options(table, into)?;
        self.end().map(|()| operand)
    }

    /// Applies the options at the front, up to the first word of data.
    pub fn options<T>(&mut self, table: &'static [Opt<T>], into: &mut T) -> Result<(), Problem> {
        // A dash alone is data: it means stdin.
        let dashed = |word: &OsString| word.len() > 1 && word.as_encoded_bytes()[0] == b'-';
        while !self.data_only
            && let Some(word) = self.words.next_if(dashed)
        {
            let word = word.to_str().ok_or(Problem::NotUtf8("an option"))?;
            match word.strip_prefix("--") {
                Some("") => self.data_only = true,
                Some(long) => self.long(long, table, into)?,
                None => self.short(&word[1..], table, into)?,
            }
        }
        Ok(())
    }

    fn long<T>(&mut self, word: &str, table: &'static [Opt<T>], into: &mut T) -> Result<(), Problem> {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let option = format!("--{name}");
        let Some(opt) = table.iter().find(|opt| opt.name().0 == name) else {
            let near = did_you_mean(name, table.iter().map(|opt| opt.name().0).chain(["help"]));
            return Err(if word == "help" { Problem::Help } else { self.unknown(option, near) });
        };
        self.apply(opt, option, attached, into)
    }

    fn short<T>(&mut self, group: &str, table: &'static [Opt<T>], into: &mut T) -> Result<(), Problem> {
        let mut letters = group.chars();
        while let Some(letter) = letters.next() {
            let option = format!("-{letter}");
            match table.iter().find(|opt| opt.letter() == Some(letter)) {
                Some(opt) if opt.name().1.is_empty() => self.apply(opt, option, None, into)?,
                Some(opt) => {
                    let rest = letters.as_str();
                    let rest = rest.strip_prefix('=').unwrap_or(rest);
                    return self.apply(opt, option, (!rest.is_empty()).then_some(rest), into);
                }
                None if letter == 'h' => return Err(Problem::Help),
                None => return Err(self.unknown(option, None)),
            }
        }
        Ok(())
    }

    fn unknown(&self, option: String, near: Option<&'static str>) -> Problem {
        match (near, self.topic) {
            (None, Topic::ClientCommand(_)) => Problem::DashedData(option),
            _ => Problem::UnknownOption(option, near),
        }
    }

    fn apply<T>(
        &mut self,
        opt: &Opt<T>,
        option: String,
        attached: Option<&str>,
        into: &mut T,
    ) -> Result<(), Problem> {
        let value = match (attached, opt.name()) {
            (Some(_), (_, "")) => return Err(Problem::UnwantedValue(option)),
            (Some(value), _) => value.into(),
            (None, (_, "")) => OsString::new(),
            (None, (_, what)) => self.next().ok_or_else(|| Problem::MissingValue(option.clone(), what))?,
        };
        self.given.push(opt.name().0);
        opt.apply(option, value, into)
    }

    /// An environment variable; an empty one counts as unset.
    pub fn variable(&self, name: &str) -> Option<OsString> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// Refuses options that are not for this command, and fills from the environment what no option said.
    pub fn finish<T>(&self, table: &[Opt<T>], command: &str, into: &mut T) -> Result<(), Problem> {
        for opt in table {
            let given = self.given(opt.name().0);
            if given && !opt.fits(command) {
                return Err(Problem::Misplaced(opt.name().0, opt.only));
            }
            if let Some(value) = self.variable(opt.env).filter(|_| !given) {
                opt.apply(opt.env.into(), value, into)?;
            }
        }
        Ok(())
    }
}

/// Whether a word is an option of this command: `--name` with or without a value, or letters of flags, of which
/// the last may have a value. Text after a letter that takes a value is no value here: `-apple` is data,
/// though it could be read as `-a pple`.
fn is_option<T>(word: &str, table: &[Opt<T>], command: &str) -> bool {
    let mut options = table.iter().filter(|opt| opt.fits(command));
    if let Some(long) = word.strip_prefix("--") {
        let name = long.split_once('=').map_or(long, |(name, _)| name);
        return name == "help" || options.any(|opt| opt.name().0 == name);
    }
    let Some(group) = word.strip_prefix('-').filter(|group| !group.is_empty()) else { return false };
    let mut letters = group.chars();
    while let Some(letter) = letters.next() {
        match options.clone().find(|opt| opt.letter() == Some(letter)) {
            Some(opt) if opt.name().1.is_empty() => {}
            Some(_) => return !letters.as_str().starts_with(char::is_alphabetic),
            None if letter == 'h' => {}
            None => return false,
        }
    }
    true
}
