//! `st json`: JSON in, one value or a stream of them, the same JSON out, indented or compact, or only checked.
//!
//! It builds no tree. All of the text is checked first, so that nothing comes out of what is not JSON, and then
//! copied from the parser to the writer: numbers and strings stay as they were written, and a file of a
//! gigabyte takes a gigabyte and a buffer.

use std::fmt;
use std::io::{self, Read, Write};

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

/// Why nothing, or not everything, came out.
#[derive(Debug)]
pub enum ReformatError {
    /// The input is not JSON.
    Json(json::Error),
    /// The input could not be read.
    Read(io::Error),
    /// The output could not be written.
    Write(io::Error),
}

/// So much is read and judged before the rest is: input without an end is most often no JSON, either.
const FIRST_BYTES: u64 = 1 << 20;
/// An error closer to the end of the first bytes than this may only be a word or an escape that is cut.
const TOKEN_BYTES: usize = 16;
/// Output goes out in pieces of this size.
const BUFFER_BYTES: usize = 16 * 1024;

/// Reads JSON values, at least one, and writes each in `layout`, with a newline after it.
pub fn reformat(mut input: impl Read, mut output: impl Write, layout: Layout) -> Result<(), ReformatError> {
    let mut bytes = Vec::new();
    input.by_ref().take(FIRST_BYTES).read_to_end(&mut bytes).map_err(ReformatError::Read)?;
    if let Err(error) = json::Error::unless_utf8(&bytes).and_then(check)
        && error.offset() + TOKEN_BYTES < bytes.len()
    {
        return Err(error.into());
    }
    input.read_to_end(&mut bytes).map_err(ReformatError::Read)?;
    let text = json::Error::unless_utf8(&bytes)?;
    check(text)?;
    if layout == Layout::Check {
        return Ok(());
    }
    let mut writer = Writer::new(Vec::new(), layout == Layout::Pretty);
    let mut parser = Parser::new(text);
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

/// Passes over a stream of values.
fn check(text: &str) -> Result<(), json::Error> {
    let mut parser = Parser::new(text);
    loop {
        parser.skip()?;
        if !parser.another()? {
            return Ok(());
        }
    }
}

/// One value. The parser is pulled rather than given a sink, since a full disk must end it.
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

impl From<json::Error> for ReformatError {
    fn from(error: json::Error) -> ReformatError {
        ReformatError::Json(error)
    }
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
