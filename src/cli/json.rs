//! `st json`: JSON in, one value or a stream of them, the same JSON out, indented or compact, or
//! only checked.
//!
//! It builds no tree. All of the text is checked first, so that nothing comes out of what is not
//! JSON, and then copied from the parser to the writer: numbers and strings stay as they were
//! written, and a file of a gigabyte takes a gigabyte and a buffer.
//!
//! A tree would turn `1.50` into `1.5`, drop the first of two members of one name, and take several
//! times the memory of the text. Left out are filters and paths as in `jq`: this is for looking at
//! JSON, and for telling whether it is JSON.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Stdin, Stdout, Write};
use std::path::PathBuf;

use super::message::{Exit, Problem, Topic, Trouble};
use super::words::{Opt, WordReader, put};
use crate::json::{self, Parser, Writer};

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
    /// What to read; stdin where there is no file.
    pub file: Option<PathBuf>,
}

type O = Opt<JsonArgs>;

/// Every option of `st json`. The last layout given is the one that holds.
#[rustfmt::skip]
pub(super) const OPTIONS: &[O] = &[
    O::new("-c, --compact", "a line each, no spaces", |args, _| put(&mut args.layout, Ok(Layout::Compact))),
    O::new("-p, --pretty", "indented (the default)", |args, _| put(&mut args.layout, Ok(Layout::Pretty))),
    O::new("    --check", "write nothing: the exit code tells", |args, _| put(&mut args.layout, Ok(Layout::Check))),
    O::HELP,
];

/// Understands the words after `json`.
pub(super) fn parse(words: &mut WordReader<'_>) -> Result<JsonArgs, Problem> {
    words.topic = Topic::Json;
    let mut args = JsonArgs { layout: Layout::Pretty, file: None };
    let file = words.around(OPTIONS, &mut args)?;
    args.file = file.filter(|file| file != "-").map(PathBuf::from);
    Ok(args)
}

/// Does what `args` say. The file, or stdin, is named in messages, and stdout is not: it is where
/// everybody looks.
pub(super) fn run_json(args: &JsonArgs, stdin: Stdin, stdout: Stdout) -> Result<(), Trouble> {
    let (from, done) = match &args.file {
        None => ("stdin".into(), reformat(stdin.lock(), stdout.lock(), args.layout)),
        Some(file) => {
            let input = File::open(file).map_err(ReformatError::Read);
            let done = input.and_then(|input| reformat(input, stdout.lock(), args.layout));
            (file.display().to_string(), done)
        }
    };
    done.map_err(|error| match error {
        // To a script that asks whether this is JSON, it is the answer "no".
        ReformatError::Json(error) => Trouble { exit: Exit::No, text: format!("{from}: {error}") },
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
    /// The input could not be read.
    Read(io::Error),
    /// The output could not be written.
    Write(io::Error),
}

impl fmt::Display for ReformatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReformatError::Json(error) => write!(f, "not JSON: {error}"),
            ReformatError::Read(error) => write!(f, "cannot read the input: {error}"),
            ReformatError::Write(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl std::error::Error for ReformatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReformatError::Json(error) => Some(error),
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

/// Reads JSON values, at least one, and writes each in `layout`, with a newline after it.
pub fn reformat(mut input: impl Read, mut output: impl Write, layout: Layout) -> Result<(), ReformatError> {
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
    if layout == Layout::Check {
        return Ok(());
    }
    let (mut parser, mut writer) = (Parser::new(text), Writer::new(layout == Layout::Pretty));
    loop {
        copy(&mut parser, &mut writer, &mut output)?;
        writer.raw("\n");
        if !parser.another()? {
            break;
        }
    }
    output.write_all(&writer.out).map_err(ReformatError::Write)?;
    output.flush().map_err(ReformatError::Write)
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
