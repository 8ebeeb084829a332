//! The repl: commands from stdin, a line each, over one connection. It takes the commands of `st client`, the
//! wire's own words in any case, and the names of the server's actions.
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
use super::message::{Exit, Problem, Topic, Trouble};
use super::words::WordReader;
use super::{INPUT_BYTES_MAX, Run};
use crate::actions::Actions;
use crate::client::{Client, ClientOptions};
use crate::json::{Object, Value};
use crate::protocol::{Request, Token, Verb};

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

/// Carries out one line; `quit` and the wire's words for it break. The words are read by what reads those of `st client`, so
/// that a line of a repl means what the same words mean in a shell, options included.
fn carry_out(run: &mut Run<'_>, args: &ClientArgs, line: &[u8]) -> Result<ControlFlow<()>, Trouble> {
    if line.len() > INPUT_BYTES_MAX {
        // Its rest would be read as the next line, and might be a command.
        return Err(Trouble::input(format!("longer than {INPUT_BYTES_MAX} bytes")));
    }
    let line = std::str::from_utf8(line).map_err(|_| Trouble::input("the line is not UTF-8 text"))?;
    let words = split(line.trim_end_matches(['\r', '\n']))?;
    match words.first().map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("quit" | "exit" | "close" | "&end") => return Ok(ControlFlow::Break(())),
        Some("auth") => return authenticate(run, args, &words[1..]).map(ControlFlow::Continue),
        Some(word) if !word.starts_with('#') => {}
        // An empty line, or a comment.
        Some(_) | None => return Ok(ControlFlow::Continue(())),
    }
    let wire = of_the_wire(run, args, &words)?;
    let (mut understood, mut topic, left) = understand(args, wire.as_ref().unwrap_or(&words));
    // Where the server cannot tell, it is a slip all the same.
    if let Err(Problem::Unknown("command", word, _)) = &understood
        && let Ok(Some(name)) = action(run, args, word)
    {
        // What stands behind an action's name is its data, as in a line of the wire's text dialect.
        let (before, data) = (&words[..words.len() - left - 1], &words[words.len() - left..]);
        let mut call = [before, &["call".into(), "--".into(), name]].concat();
        call.extend((left > 0).then(|| data.join(" ")));
        (understood, topic, _) = understand(args, &call);
    }
    match understood {
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
        Err(Problem::Help) => run.write(help(&run.stderr.program, topic).as_bytes())?,
        Err(problem) => {
            let help = format!("help {}", topic.command());
            return Err(Trouble::input(format!("{problem} (see '{}')", help.trim_end())));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The command that stands for words which begin with a name of the wire's in capitals, where it is not the one of that
/// name in small letters: an action's, also one that has the name of a command, or UPDATE of more than a word. What stands
/// behind these is one text on the wire, whatever it holds.
fn of_the_wire(
    run: &mut Run<'_>,
    args: &ClientArgs,
    words: &[String],
) -> Result<Option<Vec<String>>, Trouble> {
    let Some((name, rest)) = words.split_first() else { return Ok(None) };
    let of_a_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "_-".contains(c);
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(of_a_name);
    let command = |before: &[&str], text: &[String]| {
        let text = (!text.is_empty()).then(|| text.join(" "));
        Some(before.iter().map(|word| (*word).to_owned()).chain(text).collect())
    };
    Ok(match (Verb::from_word(name), rest) {
        (Some(Verb::Update), [key, text @ ..]) if text.len() > 1 => command(&["update", "--", key], text),
        (Some(_), _) => None,
        // Its words are a list.
        (None, _) if !is_name || name == "EXEC" => None,
        (None, _) if Actions::default().knows(name) => command(&["call", "--", name], rest),
        (None, _) => action(run, args, name)?.and_then(|name| command(&["call", "--", &name], rest)),
    })
}

/// What words ask for, how far they were understood, and how many of them were not read. The environment had its
/// say in `args`, when the repl began.
fn understand(args: &ClientArgs, words: &[String]) -> (Result<ClientArgs, Problem>, Topic, usize) {
    let mut words = WordReader::new("", words.iter().map(Into::into), &|_| None);
    let understood = grammar::parse(&mut words, args.clone());
    (understood, words.topic, words.rest().len())
}

/// The name of the server's action that a word means in any case, if there is one: INFO tells.
fn action(run: &mut Run<'_>, args: &ClientArgs, word: &str) -> Result<Option<String>, Trouble> {
    (run.client.options.timeout, run.client.options.retry) = (args.timeout, args.retry);
    run.client.drop_stale();
    let info = run.client.ask(&Request::Call { name: "INFO".into(), data: None })?.value.to_value();
    let name = word.to_ascii_uppercase();
    let usages = info.get("help").and_then(Value::as_object);
    let is_known = |help: &Object| help.iter().any(|(usage, _)| usage.split(' ').next() == Some(&*name));
    Ok(usages.is_some_and(is_known).then_some(name))
}

/// Shows a token, as the wire's AUTH does, and whenever the connection has to be made again.
fn authenticate(run: &mut Run<'_>, args: &ClientArgs, words: &[String]) -> Result<(), Trouble> {
    let [token] = words else { return Err(Trouble::input("AUTH needs one word, the token")) };
    let token = Token::new(token).map_err(|error| Trouble::input(error.to_string()))?;
    let options = ClientOptions { timeout: args.timeout, retry: args.retry, token: Some(token.clone()) };
    // The server has closed the connection of a client that showed none.
    run.client = Client::new(run.client.address().clone(), options);
    let answer = run.client.ask(&Request::Auth { token: token.as_str().into() })?;
    run.print(args, &answer.value)
}

/// Cuts a line into words as a shell does: at white space, but not inside quotes; within double
/// quotes, and outside of any, a backslash takes the next character as it is. `$` and `*` are
/// nothing special: a repl has no variables and no files, and a value that holds them should need
/// no quotes.
pub(super) fn split(line: &str) -> Result<Vec<String>, Trouble> {
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
