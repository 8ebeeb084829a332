//! Options: a table says what there is, and one reader, the help texts and the hints for misspelt
//! words all read that table. The conventions are getopt's: `--long=value`, `--long value`,
//! `-ovalue`, `-o value`, flags grouped as in `-jn`, and `--` before data that begins with a dash.
//! Deliberately absent: abbreviated long options, which break scripts when a new option arrives.

use std::collections::VecDeque;
use std::ffi::OsString;

use super::Problem;
use super::values::Expected;
use crate::near::nearest;

/// One option of a command whose arguments are a `T`.
pub(super) struct Opt<T: 'static> {
    /// The letter after one dash, if it has one.
    pub short: Option<char>,
    /// The word after two dashes.
    pub long: &'static str,
    /// What its value is called; empty for a flag.
    pub value: &'static str,
    /// A line for the help text.
    pub help: &'static str,
    /// The environment variable that speaks where the option is absent; empty for none.
    pub env: &'static str,
    /// The commands it belongs to; empty for all.
    pub only: &'static [&'static str],
    set: fn(&mut T, OsString) -> Result<(), Expected>,
}

impl<T> Opt<T> {
    pub const fn new(
        short: Option<char>,
        long: &'static str,
        value: &'static str,
        set: fn(&mut T, OsString) -> Result<(), Expected>,
    ) -> Opt<T> {
        Opt { short, long, value, help: "", env: "", only: &[], set }
    }

    pub const fn help(self, help: &'static str) -> Opt<T> {
        Opt { help, ..self }
    }

    pub const fn env(self, env: &'static str) -> Opt<T> {
        Opt { env, ..self }
    }

    pub const fn only(self, only: &'static [&'static str]) -> Opt<T> {
        Opt { only, ..self }
    }
}

/// The words not yet understood, in order.
pub(super) struct Words {
    words: VecDeque<OsString>,
    /// `--` was seen: nothing after it is an option.
    data_only: bool,
    /// The long names of the options seen so far.
    pub given: Vec<&'static str>,
}

impl Words {
    pub fn new(words: impl IntoIterator<Item = OsString>) -> Words {
        Words { words: words.into_iter().collect(), data_only: false, given: Vec::new() }
    }

    /// The next word as data, whatever it looks like.
    pub fn next(&mut self) -> Option<OsString> {
        self.words.pop_front()
    }

    /// Passes over the word `help`, and tells whether it was there.
    pub fn skip_help(&mut self) -> bool {
        let there = self.words.front().is_some_and(|word| word == "help");
        there && self.next().is_some()
    }

    /// All that is left, as data.
    pub fn rest(&mut self) -> Vec<OsString> {
        self.words.drain(..).collect()
    }

    /// Nothing may be left.
    pub fn end(&mut self) -> Result<(), Problem> {
        self.next().map_or(Ok(()), |word| Err(Problem::Unexpected(word.to_string_lossy().into())))
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
        while !self.data_only && self.words.front().is_some_and(dashed) {
            let word = self.words.pop_front().unwrap_or_default();
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
        match table.iter().find(|opt| opt.long == name) {
            Some(opt) if opt.value.is_empty() && attached.is_some() => Err(Problem::UnwantedValue(option)),
            Some(opt) => self.apply(opt, option, attached, into),
            None if word == "help" => Err(Problem::Help),
            None => {
                let near = nearest(name, table.iter().map(|opt| opt.long).chain(["help"]));
                Err(Problem::UnknownOption(option, near))
            }
        }
    }

    fn short<T>(&mut self, group: &str, table: &'static [Opt<T>], into: &mut T) -> Result<(), Problem> {
        let mut letters = group.chars();
        while let Some(letter) = letters.next() {
            let option = format!("-{letter}");
            match table.iter().find(|opt| opt.short == Some(letter)) {
                Some(opt) if opt.value.is_empty() => self.apply(opt, option, None, into)?,
                Some(opt) => {
                    let rest = letters.as_str();
                    let rest = rest.strip_prefix('=').unwrap_or(rest);
                    return self.apply(opt, option, (!rest.is_empty()).then_some(rest), into);
                }
                None if letter == 'h' => return Err(Problem::Help),
                None => return Err(Problem::UnknownOption(option, None)),
            }
        }
        Ok(())
    }

    fn apply<T>(
        &mut self,
        opt: &'static Opt<T>,
        option: String,
        attached: Option<&str>,
        into: &mut T,
    ) -> Result<(), Problem> {
        let value = match attached {
            Some(value) => value.into(),
            None if opt.value.is_empty() => OsString::new(),
            None => self.next().ok_or_else(|| Problem::MissingValue(option.clone(), opt.value))?,
        };
        self.given.push(opt.long);
        set(opt, option, value, into)
    }
}

/// Fills from the environment what no option said. An empty variable counts as unset.
pub(super) fn from_environment<T>(
    table: &'static [Opt<T>],
    given: &[&str],
    env: &dyn Fn(&str) -> Option<OsString>,
    into: &mut T,
) -> Result<(), Problem> {
    let silent = table.iter().filter(|opt| !opt.env.is_empty() && !given.contains(&opt.long));
    for opt in silent {
        if let Some(value) = env(opt.env).filter(|value| !value.is_empty()) {
            set(opt, opt.env.into(), value, into)?;
        }
    }
    Ok(())
}

fn set<T>(opt: &Opt<T>, what: String, value: OsString, into: &mut T) -> Result<(), Problem> {
    let shown = value.to_string_lossy().into_owned();
    (opt.set)(into, value).map_err(|expected| Problem::BadValue { what, value: shown, expected })
}
