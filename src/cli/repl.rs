//! The session: commands from stdin, a line each, over one connection. A person gets a prompt, and goes
//! on after an error; a script on a pipe ends with the first failure, as under `set -e`, since what
//! follows was written in the belief that all went well.

use std::io::{self, BufRead, BufReader, IsTerminal, Read};

use super::args::{self, Command, Problem, Topic, UsageError};
use super::client::ClientArgs;
use super::commands::{INPUT_BYTES_MAX, Run};
use super::message::Trouble;
use crate::protocol::did_you_mean;

pub(super) fn run(run: &mut Run<'_>, args: &ClientArgs) -> Result<(), Trouble> {
    let mut stdin = BufReader::new(run.take_stdin()?);
    let person = io::stdin().is_terminal();
    let prompt = person && io::stdout().is_terminal();
    let mut line = Vec::new();
    for number in 1.. {
        if prompt {
            run.write(b"st> ")?;
        }
        line.clear();
        let limit = INPUT_BYTES_MAX as u64 + 1;
        if (&mut stdin).take(limit).read_until(b'\n', &mut line).map_err(Trouble::stdin)? == 0 {
            break;
        }
        match command(run, args, &line) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // Nobody reads our stdout any more: there is no point in going on.
            Err(trouble) if trouble.code == 0 => return Err(trouble),
            Err(trouble) if person => {
                run.stderr.report(&trouble);
            }
            Err(trouble) => return Err(trouble.at(format_args!("line {number}"))),
        }
    }
    // The shell's prompt should not stand behind ours.
    if prompt { run.write(b"\n") } else { Ok(()) }
}

/// Carries out one line; false when it ends the session.
fn command(run: &mut Run<'_>, args: &ClientArgs, line: &[u8]) -> Result<bool, Trouble> {
    if line.len() > INPUT_BYTES_MAX {
        return Err(Trouble::input(format!("longer than {INPUT_BYTES_MAX} bytes")));
    }
    let line = std::str::from_utf8(line).map_err(|_| Trouble::input("the line is not UTF-8 text"))?;
    let words = split(line.trim_end_matches(['\r', '\n']))?;
    match words.first().map(String::as_str) {
        None => return Ok(true),
        Some(word) if word.starts_with('#') => return Ok(true),
        Some("quit" | "exit") => return Ok(false),
        Some(_) => {}
    }
    match args::parse_line(words, args) {
        Ok(Command::Client(line)) => {
            if line.address != args.address || line.token_file != args.token_file {
                return Err(Trouble::input("a session keeps to its server: start another with -a"));
            }
            run.client.options.timeout = line.timeout;
            run.client.options.retry = line.retry;
            run.stderr.quiet = line.quiet;
            // The server may have closed while the next line was typed.
            run.client.drop_stale();
            run.command(&line)?;
        }
        Ok(Command::Help(topic)) => run.write(super::help(run.stderr.program, topic).as_bytes())?,
        Ok(_) => {}
        Err(UsageError { problem: Problem::UnknownCommand(word, None), .. }) => {
            let problem = Problem::UnknownCommand(
                word.clone(),
                did_you_mean(&word, ["quit", "exit"]).map(str::to_owned),
            );
            return Err(Trouble::input(format!("{problem} (see 'help')")));
        }
        Err(UsageError { topic: Topic::ClientCommand(name), problem, .. }) => {
            return Err(Trouble::input(format!("{problem} (see 'help {name}')")));
        }
        Err(error) => return Err(Trouble::input(format!("{} (see 'help')", error.problem))),
    }
    Ok(true)
}

/// Cuts a line into words as a shell does: at white space, but not inside quotes; within double quotes,
/// and outside of any, a backslash takes the next character as it is. `$` and `*` are nothing special.
fn split(line: &str) -> Result<Vec<String>, Trouble> {
    let mut words = Vec::new();
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
                // Only what is special in double quotes needs the backslash; JSON's \n keeps its own.
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
    match quote {
        Some(mark) => Err(Trouble::input(format!("the quote {mark} is not closed"))),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}
