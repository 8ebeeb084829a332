//! What the shell offers when TAB is pressed: after `complete -C st st` bash asks the program itself, so there is no
//! file of rules that could be missing or old, and keys can be offered as they are in the table now.
//!
//! Bash sets `COMP_LINE`, the line so far, and `COMP_POINT`, where the cursor is in it, and passes three words: the
//! command, the word at the cursor, and the one before it. What is printed, a line each, is offered. The line is read by
//! what reads command lines, so `-a` before a command says whose keys are offered. Other shells can ask in the same way.
//!
//! All of this happens while somebody waits with a finger on a key. A server gets a third of a second; where there is none,
//! nothing is said.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::client::{ClientArgs, OPTIONS};
use super::grammar::{COMMANDS, CommandRow};
use super::message::Topic;
use super::repl::split;
use super::words::{Env, Opt, WordReader};
use super::{PARTS, bench, journal, json, server};
use crate::client::{Client, ClientOptions, ListOf, Result};
use crate::json::Value;
use crate::protocol::{Address, TOKEN_VARIABLE, Token, Verb};

/// For all that is asked of a server: half of it for connecting, half for the reply.
const TIME_MAX: Duration = Duration::from_millis(300);
/// Nobody reads more.
const KEYS_MAX: usize = 1_000;

/// What to offer, a line each, where a shell asks: `None` where none does. The variable alone is no sign of one, since
/// programs started from a completion inherit it.
pub(super) fn offered(args: &[OsString], env: Env<'_>) -> Option<String> {
    let (line, [command, word, _]) = (env("COMP_LINE")?.into_string().ok()?, args) else { return None };
    let (command, word) = (command.to_str()?, word.to_str()?);
    if !line.trim_start().starts_with(command) {
        return None;
    }
    let point = env("COMP_POINT").and_then(|point| point.to_str()?.parse().ok());
    let line = point.and_then(|point: usize| line.get(..point)).unwrap_or(&line);
    // The full stop makes a word of the cursor's place, where none has begun.
    let mut words = split(&format!("{line}.")).unwrap_or_default();
    // Within quotes nothing is offered.
    let Some(mut begun) = words.pop() else { return Some(String::new()) };
    begun.pop();
    let all = candidates(words.get(1..).unwrap_or_default(), &begun, env).unwrap_or_default();
    // To bash a colon and an equals sign end a word, and what it has taken for the word is what it replaces.
    let kept = if begun.ends_with(word) { begun.len() - word.len() } else { 0 };
    let fitting = all.iter().filter(|one| one.starts_with(&begun));
    Some(fitting.map(|one| format!("{}\n", &one[kept..])).collect())
}

/// What may stand after the words before. What they are not understood by offers nothing.
fn candidates(before: &[String], word: &str, env: Env<'_>) -> Option<Vec<String>> {
    let mut words = WordReader::new("", before.iter().map(OsString::from), env);
    words.skip_help();
    let Some(part) = words.next() else {
        let flags = ["--help", "--version"].iter().filter(|_| word.starts_with('-'));
        return Some(flags.chain(&PARTS).map(|part| (*part).into()).collect());
    };
    let of_part = match part.to_str()? {
        "client" => return of_client(words, word),
        "server" => names(server::OPTIONS, ""),
        "bench" => names(bench::OPTIONS, ""),
        "json" => names(json::OPTIONS, ""),
        "journal" if word.starts_with('-') => names(journal::OPTIONS, ""),
        "journal" if before.len() == 1 => return Some(vec!["check".into(), "repair".into()]),
        _ => Vec::new(),
    };
    // Options are offered to those who have begun one. The words beside them are files and addresses.
    Some(of_part).filter(|_| word.starts_with('-'))
}

/// The long names of the options that fit a command.
fn names<T>(table: &[Opt<T>], command: &str) -> Vec<String> {
    table.iter().filter(|opt| opt.fits(command)).map(|opt| format!("--{}", opt.name().0)).collect()
}

fn of_client(mut words: WordReader<'_>, word: &str) -> Option<Vec<String>> {
    let mut args = ClientArgs::new();
    words.options(OPTIONS, &mut args).ok()?;
    words.skip_help();
    let Some(command) = words.next() else {
        // Which options fit is known with the command, and until then all may.
        let options = OPTIONS.iter().map(|opt| format!("--{}", opt.name().0));
        let commands = COMMANDS.iter().flat_map(|row| row.names).map(|name| (*name).into());
        return Some(match word.starts_with('-') {
            true => options.collect(),
            false => commands.chain(["help".into()]).collect(),
        });
    };
    let row = COMMANDS.iter().find(|row| row.names.iter().any(|name| command == *name))?;
    words.topic = Topic::ClientCommand(row.names[0]);
    words.options(OPTIONS, &mut args).ok()?;
    let operands = words.rest().len();
    if word.starts_with('-') && operands == 0 {
        return Some(names(OPTIONS, row.names[0]));
    }
    words.finish(OPTIONS, &mut args).ok()?;
    let token = Token::find(args.token_file.as_deref(), words.variable(TOKEN_VARIABLE)).ok()?;
    let address = Address::parse(&args.address).ok()?;
    let options = ClientOptions { timeout: TIME_MAX / 2, retry: 0, token };
    ask(Client::new(address, options), row, operands, args.prefix.is_some(), word).ok()
}

/// What only a server knows: its keys, and the names of its actions.
fn ask(
    mut client: Client,
    row: &CommandRow,
    operands: usize,
    has_prefix: bool,
    word: &str,
) -> Result<Vec<String>> {
    let wants_key = row.operands.starts_with("KEY") || row.operands == "[PREFIX]";
    let one_more = operands == 0 || row.operands.starts_with("KEY …");
    // A key may hold what a shell acts on, and what is offered goes into the line as it is.
    let plain = |word: &String| {
        let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
        word.chars().all(is_plain) && !word.starts_with('-')
    };
    if wants_key && one_more && !has_prefix {
        let since = Instant::now();
        let keys = client.list(word, ListOf::Keys)?.take_while(|_| since.elapsed() < TIME_MAX);
        return Ok(keys.map_while(|key| Some(key.ok()?.key)).filter(plain).take(KEYS_MAX).collect());
    }
    if row.names[0] == "call" && operands == 0 {
        let info = client.call("INFO", None)?;
        let help = info.get("help").and_then(Value::as_object);
        let names = help.iter().flat_map(|help| help.iter()).filter_map(|(usage, _)| usage.split(' ').next());
        return Ok(names
            .filter(|name| Verb::from_word(name).is_none())
            .map(str::to_owned)
            .filter(plain)
            .collect());
    }
    Ok(Vec::new())
}
