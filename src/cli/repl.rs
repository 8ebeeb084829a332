//! The repl: commands from stdin, a line each, over one connection.
//!
//! A person gets a prompt, and goes on after a mistake. A script on a pipe ends with the first
//! failure, as under `set -e`, since what follows was written in the belief that all went well.
//! Nothing else depends on a terminal.
//!
//! Many commands over one connection are far cheaper than as many calls of `st client`: what takes
//! longest in such a call is starting the program and connecting. Left out are variables, history
//! and line editing: those are a shell's.

use std::io::{BufRead, IsTerminal, Read};
use std::ops::ControlFlow;

use super::client::ClientArgs;
use super::grammar;
use super::help;
use super::message::{Exit, Problem, Trouble};
use super::words::WordReader;
use super::{INPUT_BYTES_MAX, Run};

/// Reads and carries out commands to the end of stdin, or to `quit`. `args` are the defaults for
/// each.
pub(super) fn converse(run: &mut Run<'_>, args: &ClientArgs) -> Result<(), Trouble> {
    let stdin = run.take_stdin()?;
    let person = stdin.is_terminal();
    let prompt = person && run.stdout.get_ref().is_terminal();
    let (mut stdin, mut line) = (stdin.lock(), Vec::new());
    for number in 1.. {
        // A prompt in a file or a pipe would be taken for data.
        if prompt {
            run.write(b"st> ")?;
        }
        line.clear();
        // A line without an end must not take all memory. One byte beyond the limit shows that it
        // was passed.
        let limit = INPUT_BYTES_MAX as u64 + 1;
        if (&mut stdin).take(limit).read_until(b'\n', &mut line).map_err(Trouble::stdin)? == 0 {
            break;
        }
        // The line before may have had its own -q.
        run.stderr.quiet = args.quiet;
        match carry_out(run, args, &line) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(()),
            // Nobody reads our stdout any more. That is no failure, but there is no point in going
            // on.
            Err(trouble) if trouble.exit == Exit::Yes => return Err(trouble),
            Err(trouble) if person => {
                run.stderr.report(&trouble);
            }
            Err(trouble) => return Err(trouble.at(format_args!("line {number}"))),
        }
    }
    // The shell's prompt should not stand behind ours.
    if prompt { run.write(b"\n") } else { Ok(()) }
}

/// Carries out one line; `quit` breaks. The words are read by what reads those of `st client`, so
/// that a line of a repl means what the same words mean in a shell, options included.
fn carry_out(run: &mut Run<'_>, args: &ClientArgs, line: &[u8]) -> Result<ControlFlow<()>, Trouble> {
    if line.len() > INPUT_BYTES_MAX {
        // Its rest would be read as the next line, and might be a command.
        return Err(Trouble::input(format!("longer than {INPUT_BYTES_MAX} bytes")));
    }
    let line = std::str::from_utf8(line).map_err(|_| Trouble::input("the line is not UTF-8 text"))?;
    let words = split(line.trim_end_matches(['\r', '\n']))?;
    match words.first().map(String::as_str) {
        Some("quit" | "exit") => return Ok(ControlFlow::Break(())),
        Some(word) if !word.starts_with('#') => {}
        // An empty line, or a comment.
        Some(_) | None => return Ok(ControlFlow::Continue(())),
    }
    // The environment had its say in `args`, when the repl began.
    let mut words = WordReader::new("", words.into_iter().map(Into::into), &|_| None);
    match grammar::parse(&mut words, args.clone()) {
        // One connection serves all lines, and its server has seen one token.
        Ok(line) if line.address != args.address || line.token_file != args.token_file => {
            return Err(Trouble::input("a session keeps to its server: start another with -a"));
        }
        // Options given on a line hold for that line: the next one starts from `args` again.
        Ok(line) => {
            run.client.options.timeout = line.timeout;
            run.client.options.retry = line.retry;
            run.stderr.quiet = line.quiet;
            // The server may have closed the connection while the next line was typed.
            run.client.drop_stale();
            run.command(&line)?;
        }
        Err(Problem::Help) => run.write(help(&run.stderr.program, words.topic).as_bytes())?,
        Err(problem) => {
            let help = format!("help {}", words.topic.command());
            return Err(Trouble::input(format!("{problem} (see '{}')", help.trim_end())));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Cuts a line into words as a shell does: at white space, but not inside quotes; within double
/// quotes, and outside of any, a backslash takes the next character as it is. `$` and `*` are
/// nothing special: a repl has no variables and no files, and a value that holds them should need
/// no quotes.
fn split(line: &str) -> Result<Vec<String>, Trouble> {
    let mut words = Vec::new();
    // `None` between words. An empty word is one as well: that is what `''` means.
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(mark), _) if c == mark => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match chars.next() {
                // Only what is special in double quotes needs the backslash; JSON's \n keeps its
                // own.
                Some(next) if quote.is_none() || next == '"' || next == '\\' => {
                    word.get_or_insert_default().push(next);
                }
                None => return Err(Trouble::input("the line ends after a backslash")),
                Some(next) => word.get_or_insert_default().extend(['\\', next]),
            },
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if let Some(mark) = quote {
        return Err(Trouble::input(format!("the quote {mark} is not closed")));
    }
    words.extend(word);
    Ok(words)
}
