//! `st json`: JSON in, one value or a stream of them, the same JSON out, indented or compact, or
//! only checked.
//!
//! With `--at` only a part of each value comes out, the one that a JSON Pointer (RFC 6901) leads to.
//!
//! It builds no tree. All of the text is checked first, so that nothing comes out of what is not
//! JSON, and then copied from the parser to the writer: numbers and strings stay as they were
//! written, and a file of a gigabyte takes a gigabyte and a buffer.
//!
//! A tree would turn `1.50` into `1.5`, drop the first of two members of one name, and take several
//! times the memory of the text. Left out are filters as in `jq`: this is for looking at JSON, and for
//! telling whether it is JSON.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Stdin, Stdout, Write};
use std::path::PathBuf;

use super::message::{Exit, Problem, Topic, Trouble};
use super::words::{Opt, WordReader, put, text};
use crate::json::{self, JsonText, Parser, Writer};

/// What is to come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One line.
    Compact,
    /// A line an element, indented by two spaces.
    Pretty,
    /// Nothing: only the result counts.
    Check,
}

/// What `st json` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonArgs {
    /// What to write.
    pub layout: Layout,
    /// Of which part of each value: the names on the way to it.
    pub at: Option<Vec<String>>,
    /// Strings are written as JSON, too.
    pub json: bool,
    /// What to read; stdin where there is no file.
    pub file: Option<PathBuf>,
}

/// All of stdin.
impl From<Layout> for JsonArgs {
    fn from(layout: Layout) -> JsonArgs {
        JsonArgs { layout, at: None, json: false, file: None }
    }
}

type O = Opt<JsonArgs>;

/// Every option of `st json`. The last layout given is the one that holds.
#[rustfmt::skip]
pub(super) const OPTIONS: &[O] = &[
    O::new("-c, --compact", "a line each, no spaces", |args, _| put(&mut args.layout, Ok(Layout::Compact))),
    O::new("-p, --pretty", "indented (the default)", |args, _| put(&mut args.layout, Ok(Layout::Pretty))),
    O::new("    --check", "write nothing: the exit code tells", |args, _| put(&mut args.layout, Ok(Layout::Check))),
    O::new("    --at POINTER", "only what this leads to: /a/0 is the first element\nof member \"a\"; a string is written as it is",
        |args, word| put(&mut args.at, text(word).and_then(|word| pointer(&word)).map(Some))),
    O::new("-j, --json", "with --at, a string is written as JSON, too", |args, _| put(&mut args.json, Ok(true))),
    O::HELP,
];

/// Understands the words after `json`.
pub(super) fn parse(words: &mut WordReader<'_>) -> Result<JsonArgs, Problem> {
    words.topic = Topic::Json;
    let mut args = JsonArgs::from(Layout::Pretty);
    let file = words.around(OPTIONS, &mut args)?;
    if args.json && args.at.is_none() {
        return Err(Problem::Needs("--json".into(), "--at".into()));
    }
    args.file = file.filter(|file| file != "-").map(PathBuf::from);
    Ok(args)
}

/// The names that a JSON Pointer is made of: each stands behind a slash, with `~1` for a slash in it and `~0` for `~`.
/// The empty pointer is the whole value.
fn pointer(word: &str) -> Result<Vec<String>, String> {
    let names = word.split('/').skip(1);
    let is_escaped = |name: &str| name.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if !(word.is_empty() || word.starts_with('/')) || !names.clone().all(is_escaped) {
        return Err("a JSON Pointer, as /a/0, with ~1 for a slash and ~0 for ~".into());
    }
    Ok(names.map(|name| name.replace("~1", "/").replace("~0", "~")).collect())
}

/// Does what `args` say. The file, or stdin, is named in messages, and stdout is not: it is where
/// everybody looks.
pub(super) fn run_json(args: &JsonArgs, stdin: Stdin, stdout: Stdout) -> Result<(), Trouble> {
    let (from, done) = match &args.file {
        None => ("stdin".into(), reformat(stdin.lock(), stdout.lock(), args)),
        Some(file) => {
            let input = File::open(file).map_err(ReformatError::Read);
            let done = input.and_then(|input| reformat(input, stdout.lock(), args));
            (file.display().to_string(), done)
        }
    };
    done.map_err(|error| match error {
        // To a script that asks whether this is JSON, it is the answer "no".
        ReformatError::Json(error) => Trouble { exit: Exit::No, text: format!("{from}: {error}") },
        ReformatError::Missing(line) => {
            Trouble { exit: Exit::No, text: format!("{from}: nothing there in the value on line {line}") }
        }
        ReformatError::Read(error) => Trouble::local(from, error),
        ReformatError::Write(error) => Trouble::output(error),
    })
}

/// Why nothing, or not everything, came out. These are kept apart, since the three have different
/// exit codes or texts.
#[derive(Debug)]
pub enum ReformatError {
    /// The input is not JSON.
    Json(json::Error),
    /// The pointer leads nowhere in the value that begins on this line.
    Missing(usize),
    /// The input could not be read.
    Read(io::Error),
    /// The output could not be written.
    Write(io::Error),
}

impl fmt::Display for ReformatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReformatError::Json(error) => write!(f, "not JSON: {error}"),
            ReformatError::Missing(line) => write!(f, "nothing there in the value on line {line}"),
            ReformatError::Read(error) => write!(f, "cannot read the input: {error}"),
            ReformatError::Write(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl std::error::Error for ReformatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReformatError::Json(error) => Some(error),
            ReformatError::Missing(_) => None,
            ReformatError::Read(error) | ReformatError::Write(error) => Some(error),
        }
    }
}

impl From<json::Error> for ReformatError {
    fn from(error: json::Error) -> ReformatError {
        ReformatError::Json(error)
    }
}

/// So much is read and judged before the rest is: input without an end is most often no JSON,
/// either.
const FIRST_BYTES: u64 = 1 << 20;
/// An error closer to the end of the first bytes than this may only be a word or an escape that is
/// cut.
const TOKEN_BYTES: usize = 16;
/// Output goes out in pieces of this size.
const BUFFER_BYTES: usize = 16 * 1024;

/// Reads JSON values, at least one, and writes each as `args` say, with a newline after it. Where a part of one is to be
/// written and is not there, nothing is.
pub fn reformat(mut input: impl Read, mut output: impl Write, args: &JsonArgs) -> Result<(), ReformatError> {
    let mut bytes = Vec::new();
    // `yes | st json` would read for ever if the first look came after the end.
    input.by_ref().take(FIRST_BYTES).read_to_end(&mut bytes).map_err(ReformatError::Read)?;
    if let Err(error) = json::Error::unless_utf8(&bytes).and_then(check)
        && error.offset + TOKEN_BYTES < bytes.len()
    {
        return Err(error.into());
    }
    input.read_to_end(&mut bytes).map_err(ReformatError::Read)?;
    let text = json::Error::unless_utf8(&bytes)?;
    // Nothing has been written yet. From here on only the output can fail.
    check(text)?;
    let (mut parser, mut writer) = (Parser::new(text), Writer::new(args.layout == Layout::Pretty));
    if let Some(names) = &args.at {
        let parts = parts(text, names)?;
        for part in parts.iter().filter(|_| args.layout != Layout::Check) {
            match part.as_string() {
                Some(string) if !args.json => writer.raw(&string),
                Some(_) | None => copy(&mut Parser::new(part.as_str()), &mut writer, &mut output)?,
            }
            writer.raw("\n");
        }
    } else if args.layout != Layout::Check {
        loop {
            copy(&mut parser, &mut writer, &mut output)?;
            writer.raw("\n");
            if !parser.another()? {
                break;
            }
        }
    }
    output.write_all(&writer.out).map_err(ReformatError::Write)?;
    output.flush().map_err(ReformatError::Write)
}

/// The part of each value to which these names lead.
fn parts<'t>(text: &'t str, names: &[String]) -> Result<Vec<JsonText<'t>>, ReformatError> {
    let (mut parser, mut parts) = (Parser::new(text), Vec::new());
    loop {
        parser.peek();
        let begin = parser.offset();
        let missing = || ReformatError::Missing(1 + text[..begin].matches('\n').count());
        parts.push(part(&mut parser, names)?.ok_or_else(missing)?);
        if !parser.another()? {
            return Ok(parts);
        }
    }
}

/// One value, of which all is passed over but the part. Of two members of one name the last counts, as nearly everywhere.
fn part<'t>(parser: &mut Parser<'t>, names: &[String]) -> Result<Option<JsonText<'t>>, json::Error> {
    let Some((name, names)) = names.split_first() else { return parser.compact().map(Some) };
    let mut found = None;
    match parser.peek() {
        b'{' => parser.object(|parser, member| {
            if *name != member.unescape() {
                return parser.skip();
            }
            found = part(parser, names)?;
            Ok::<(), json::Error>(())
        })?,
        b'[' => {
            // `01` and `+1` are no places in an array, and neither is `-`, which stands for the one behind its end.
            let place = name.parse().ok().filter(|place: &usize| place.to_string() == *name);
            let mut places = 0..;
            parser.array(|parser| {
                if places.next() != place {
                    return parser.skip();
                }
                found = part(parser, names)?;
                Ok::<(), json::Error>(())
            })?;
        }
        _ => parser.skip()?,
    }
    Ok(found)
}

/// Passes over a stream of values, at least one, without keeping any.
fn check(text: &str) -> Result<(), json::Error> {
    let mut parser = Parser::new(text);
    parser.skip()?;
    while parser.another()? {
        parser.skip()?;
    }
    Ok(())
}

/// One value. The parser is pulled rather than given a sink, since a full disk must end it. It
/// calls itself for each level of nesting, which the parser bounds.
fn copy(parser: &mut Parser<'_>, writer: &mut Writer, output: &mut impl Write) -> Result<(), ReformatError> {
    if writer.out.len() >= BUFFER_BYTES {
        output.write_all(&writer.out).map_err(ReformatError::Write)?;
        writer.out.clear();
    }
    match parser.peek() {
        b'[' => {
            writer.begin(b'[');
            parser.array(|parser| {
                writer.next();
                copy(parser, writer, output)
            })?;
            writer.end(b']');
        }
        b'{' => {
            writer.begin(b'{');
            parser.object(|parser, name| {
                writer.next();
                writer.raw_name(name);
                copy(parser, writer, output)
            })?;
            writer.end(b'}');
        }
        _ => writer.raw(parser.compact()?.as_str()),
    }
    Ok(())
}
