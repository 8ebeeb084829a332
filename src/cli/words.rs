//! Reads the words of a command line: options as a table lists them, and data.
//!
//! A program gets its arguments as a list of words. Nothing in that list says which word is an
//! option, which is an option's value and which is data: that is left to conventions. Those
//! followed here are getopt's, which every Unix user knows: `--long=value`, `--long value`,
//! `-ovalue`, `-o value`, flags grouped as in `-jn`, and `--`, after which everything is data.
//!
//! A table of [`Opt`]s says which options a command has. The reader, the help texts and the hints
//! for misspelt words all read that table, so the three cannot disagree.
//!
//! Nothing here opens a file or a socket or ends the process. A test can therefore try every line
//! that a person might type. Left out are abbreviated long options (`--time` for `--timeout`): they
//! break scripts on the day when another option begins with the same letters.

use std::ffi::OsString;
use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::time::Duration;
use std::vec::IntoIter;

use super::message::{Problem, Topic};
use crate::protocol::did_you_mean;

/// Looks up an environment variable. `main` hands in the process's own, a test whatever it needs.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// One option of a command whose arguments are a `T`.
pub(super) struct Opt<T: 'static> {
    /// Its letter, its name, and what its value is called, as the help shows them: `-a, --addr
    /// ADDR`.
    pub usage: &'static str,
    /// What it does, for the help.
    pub help: &'static str,
    /// The environment variable that counts where the option is not given; empty for none.
    pub env: &'static str,
    /// The client's commands that it belongs to; empty for all.
    pub only: &'static [&'static str],
    set: Setter<T>,
}

/// Stores an option's value, an empty word for a flag. The error says which values the option would
/// have taken.
type Setter<T> = fn(&mut T, OsString) -> Result<(), String>;

impl<T> Opt<T> {
    /// Every table ends with it. It stores nothing: asking for help ends the reading of words.
    pub const HELP: Opt<T> = Opt::new("-h, --help", "this text", |_, _| Ok(()));

    /// An option of every command, which no environment variable stands in for.
    pub const fn new(usage: &'static str, help: &'static str, set: Setter<T>) -> Opt<T> {
        Opt { usage, help, env: "", only: &[], set }
    }

    /// The environment variable that stands in for it.
    pub const fn env(self, env: &'static str) -> Opt<T> {
        Opt { env, ..self }
    }

    /// The commands that it belongs to.
    pub const fn only(self, only: &'static [&'static str]) -> Opt<T> {
        Opt { only, ..self }
    }

    /// Whether it belongs to a command.
    pub fn fits(&self, command: &str) -> bool {
        self.only.is_empty() || self.only.contains(&command)
    }

    /// Its letter. Options that are rarely given have none.
    fn letter(&self) -> Option<char> {
        self.usage.strip_prefix('-')?.chars().next().filter(char::is_ascii_alphabetic)
    }

    /// Its long name, and what its value is called: nothing for a flag.
    pub fn name(&self) -> (&'static str, &'static str) {
        let name = self.usage.rsplit("--").next().unwrap_or_default();
        name.split_once(' ').unwrap_or((name, ""))
    }

    /// Stores a value. `what` is what the message calls the option: as it was typed, or the
    /// variable's name.
    fn store(&self, what: String, value: OsString, into: &mut T) -> Result<(), Problem> {
        let shown = value.to_string_lossy().into_owned();
        (self.set)(into, value).map_err(|expected| Problem::BadValue { what, value: shown, expected })
    }
}

/// One option as somebody typed it.
struct Typed<'w, 't, T: 'static> {
    /// `--name` or `-l`, for messages.
    name: String,
    /// `None` where the table has no such option.
    opt: Option<&'t Opt<T>>,
    /// What follows it within the word: `=value`, or for a letter also just `value`.
    attached: &'w str,
}

/// Takes a word that begins with a dash apart: `--name`, `--name=value`, or a group of letters. The
/// first letter of a group that takes a value gets the rest of the group as that value.
fn take_apart<'w, 't, T>(word: &'w str, table: &'t [Opt<T>]) -> Vec<Typed<'w, 't, T>> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, attached) = long.split_at(long.find('=').unwrap_or(long.len()));
        let opt = table.iter().find(|opt| opt.name().0 == name);
        return vec![Typed { name: format!("--{name}"), opt, attached }];
    }
    let (mut typed, mut letters) = (Vec::new(), word[1..].chars());
    while let Some(letter) = letters.next() {
        let opt = table.iter().find(|opt| opt.letter() == Some(letter));
        let takes_value = opt.is_some_and(|opt| !opt.name().1.is_empty());
        let attached = if takes_value { std::mem::replace(&mut letters, "".chars()).as_str() } else { "" };
        typed.push(Typed { name: format!("-{letter}"), opt, attached });
    }
    typed
}

/// Whether a word that stands among data is an option of this command. Text right behind a letter
/// is no value here: `-apple` is data, though it could be read as `-a pple`.
fn is_option<T>(word: &str, table: &[Opt<T>], command: &str) -> bool {
    let fits = |typed: &Typed<'_, '_, T>| {
        typed.opt.is_some_and(|opt| opt.fits(command)) && !typed.attached.starts_with(char::is_alphabetic)
    };
    word.len() > 1 && word.starts_with('-') && take_apart(word, table).iter().all(fits)
}

/// The words that have not been understood yet, in order, and what was learnt from those before
/// them.
pub(super) struct WordReader<'e> {
    words: Peekable<IntoIter<OsString>>,
    /// `--` was read: no word after it is an option.
    data_only: bool,
    /// The long names of the options read so far. Whether they fit is known only with the command.
    given: Vec<&'static str>,
    env: Env<'e>,
    /// The name that the program was called by, for suggestions; empty in a repl.
    pub program: &'e str,
    /// The word `help` was read.
    pub help: bool,
    /// How far the words were understood. An error points to the help for that.
    pub topic: Topic,
}

impl<'e> WordReader<'e> {
    pub fn new(program: &'e str, words: impl IntoIterator<Item = OsString>, env: Env<'e>) -> WordReader<'e> {
        let words = words.into_iter().collect::<Vec<_>>().into_iter().peekable();
        let topic = Topic::Program;
        WordReader { words, data_only: false, given: Vec::new(), env, program, help: false, topic }
    }

    /// The next word, whatever it looks like.
    pub fn next(&mut self) -> Option<OsString> {
        self.words.next()
    }

    /// The next word as data. A word that would have been an option before the data is refused
    /// unless `--` stood before it: whoever typed it meant the option, and would never learn that
    /// it was taken for data.
    pub fn data<T>(&mut self, table: &[Opt<T>]) -> Result<Option<OsString>, Problem> {
        // A `--` that is the last word of all has nothing to protect: it is data itself.
        if !self.data_only && self.words.len() > 1 {
            self.data_only = self.words.next_if(|word| word == "--").is_some();
        }
        let word = self.next();
        match word.as_ref().and_then(|word| word.to_str()) {
            Some(word) if !self.data_only && is_option(word, table, self.topic.command()) => {
                Err(Problem::LateOption(word.into()))
            }
            Some(_) | None => Ok(word),
        }
    }

    /// Passes over this word, if it is the next one, and tells whether it was.
    pub fn passes(&mut self, word: &str) -> bool {
        self.words.next_if(|next| next == word).is_some()
    }

    /// All words that are left, as data.
    pub fn rest(&mut self) -> Vec<OsString> {
        self.words.by_ref().collect()
    }

    /// Passes over the word `help`, and remembers it: `st help client get` is `st client get
    /// --help`.
    pub fn skip_help(&mut self) {
        while self.words.next_if(|word| word == "help").is_some() {
            self.help = true;
        }
    }

    /// Makes sure that no word is left. Where the word `help` was read, this is where it takes
    /// effect.
    pub fn end(&mut self) -> Result<(), Problem> {
        match self.next() {
            Some(word) => Err(Problem::Unexpected(word.to_string_lossy().into())),
            None if self.help => Err(Problem::Help),
            None => Ok(()),
        }
    }

    /// Reads a command line with one operand at most, such as an address or a file. Options may
    /// stand on either side of it, since it is never free text that could look like one.
    pub fn around<T>(&mut self, table: &[Opt<T>], into: &mut T) -> Result<Option<OsString>, Problem> {
        self.options(table, into)?;
        let operand = self.next();
        self.options(table, into)?;
        self.end().map(|()| operand)
    }

    /// Reads the options at the front, up to the first word of data, and stores their values.
    pub fn options<T>(&mut self, table: &[Opt<T>], into: &mut T) -> Result<(), Problem> {
        // A dash alone is data: it stands for stdin.
        let dashed = |word: &OsString| word.len() > 1 && word.as_encoded_bytes()[0] == b'-';
        while !self.data_only
            && let Some(word) = self.words.next_if(dashed)
        {
            self.data_only = word == "--";
            let word = word.to_str().ok_or(Problem::NotUtf8("an option"))?;
            let typed = if self.data_only { Vec::new() } else { take_apart(word, table) };
            typed.into_iter().try_for_each(|typed| self.apply(typed, table, into))?;
        }
        Ok(())
    }

    /// Stores the value of one option. Where none is attached, the next word is the value whatever
    /// it looks like: `--if -5` wants the value to be -5.
    fn apply<T>(&mut self, typed: Typed<'_, '_, T>, table: &[Opt<T>], into: &mut T) -> Result<(), Problem> {
        let Typed { name, opt, attached } = typed;
        let Some(opt) = opt else {
            let names = table.iter().map(|opt| opt.name().0);
            let near = name.strip_prefix("--").and_then(|long| did_you_mean(long, names));
            return Err(match near {
                // After a command the word may have been meant as its data.
                None if !self.topic.command().is_empty() => Problem::DashedData(name),
                near => Problem::Unknown("option", name, near.map(|near| format!("--{near}"))),
            });
        };
        let value = match (opt.name().1, attached) {
            ("", "") => OsString::new(),
            ("", _) => return Err(Problem::UnwantedValue(name)),
            (called, "") => {
                self.next().ok_or_else(|| Problem::Needs(name.clone(), format!("a value, {called}")))?
            }
            (_, value) => value.strip_prefix('=').unwrap_or(value).into(),
        };
        if opt.name().0 == "help" {
            return Err(Problem::Help);
        }
        self.given.push(opt.name().0);
        opt.store(name, value, into)
    }

    /// Whether the option of this long name has been read.
    pub fn given(&self, name: &str) -> bool {
        self.given.contains(&name)
    }

    /// An environment variable. An empty one counts as unset, as in most programs.
    pub fn variable(&self, name: &str) -> Option<OsString> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// Refuses options that do not belong to the command, and takes from the environment what no
    /// option said. It comes last: only now is the command known, and whether an option will win
    /// over the environment.
    pub fn finish<T>(&self, table: &[Opt<T>], into: &mut T) -> Result<(), Problem> {
        for opt in table {
            let given = self.given(opt.name().0);
            if given && !opt.fits(self.topic.command()) {
                return Err(Problem::Misplaced(opt.name().0, opt.only));
            }
            if let Some(value) = self.variable(opt.env).filter(|_| !given) {
                opt.store(opt.env.into(), value, into)?;
            }
        }
        Ok(())
    }
}

// Words to values. Nothing is rounded, clipped or guessed. Each reader gives a value or says what
// it would have taken, limits included.

/// Times end here: a year is for ever to a script, and far from any overflow.
const SECONDS_MAX: u64 = 365 * 24 * 60 * 60;

/// The shortest timeout. The system counts its own in milliseconds or so, and takes zero for "for
/// ever".
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

/// Stores what was read.
pub(super) fn put<V>(slot: &mut V, read: Result<V, String>) -> Result<(), String> {
    read.map(|value| *slot = value)
}

/// To the system a word is bytes without a zero; here it must be text.
pub(super) fn text(word: OsString) -> Result<String, String> {
    word.into_string().map_err(|_| "UTF-8 text".into())
}

/// A whole number within `range`.
pub(super) fn whole<N: TryFrom<u64>>(word: OsString, range: RangeInclusive<u64>) -> Result<N, String> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    within(word, digits, range, expected)
}

/// A number of bytes, from 1 to `max`: a whole number, or one followed by `K`, `M` or `G`.
pub(super) fn size<N: TryFrom<u64>>(word: OsString, max: u64) -> Result<N, String> {
    let read = |word: &str| {
        let unit = match word.bytes().last()?.to_ascii_uppercase() {
            b'K' => 10,
            b'M' => 20,
            b'G' => 30,
            _ => 0,
        };
        digits(&word[..word.len() - usize::from(unit > 0)])?.checked_mul(1 << unit)
    };
    within(word, read, 1..=max, format!("a size from 1 to {max} bytes, as 1000, 64K, 1M or 2G"))
}

/// A time in seconds, to the nanosecond: `5`, `0.25`, `.5`. It is read as two whole numbers, since
/// a float would take `1e3`, `inf` and `NaN`, and would round.
pub(super) fn seconds(word: OsString, least: Duration) -> Result<Duration, String> {
    let read = |word: &str| {
        let (whole, fraction) = word.split_once('.').unwrap_or((word, "0"));
        if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let nanos = format!("{fraction:0<9}").parse().ok()?;
        let whole = if whole.is_empty() { 0 } else { digits(whole)? };
        Some(Duration::new(whole.min(SECONDS_MAX + 1), nanos))
    };
    let expected = format!("seconds from {} to {SECONDS_MAX}, as 5 or 0.25", least.as_secs_f64());
    within(word, read, least..=Duration::from_secs(SECONDS_MAX), expected)
}

/// What all of them have in common: a word is read, its value must be in range and fit the type
/// that it is stored in.
fn within<V: PartialOrd, N: TryFrom<V>>(
    word: OsString,
    read: impl FnOnce(&str) -> Option<V>,
    range: RangeInclusive<V>,
    expected: String,
) -> Result<N, String> {
    let value = word.to_str().and_then(read).filter(|value| range.contains(value));
    value.and_then(|value| value.try_into().ok()).ok_or(expected)
}

/// Decimal digits alone. `str::parse` would take a plus sign, too.
fn digits(word: &str) -> Option<u64> {
    word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse().ok()).flatten()
}
