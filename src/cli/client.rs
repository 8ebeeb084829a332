//! The words of `st client`: `[OPTIONS] COMMAND [OPTIONS] DATA…`. One table holds every command
//! with its name, operands, help and reader; the dispatch, the help texts and the hints read it.
//!
//! Options end where the first word of data begins. Data needs `--` before it only where its first word
//! begins with a dash, or where a later one is exactly an option of the command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::args::{Command, Problem, Topic};
use super::options::{Opt, Words};
use super::values::{MILLISECOND, put, seconds, text, whole};
use crate::protocol::did_you_mean;
use crate::protocol::{Scope, check_key};

/// What `st client` was told. The token itself is not here, since it never is on the command line, where
/// every user of the machine could read it.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the options that set the fields explain them")]
pub struct ClientArgs {
    pub address: String,
    pub timeout: Duration,
    pub retry: u32,
    pub json: bool,
    pub no_newline: bool,
    pub quiet: bool,
    pub condition: Option<String>,
    pub wait: Option<Duration>,
    pub count: Option<u64>,
    pub prefix: Option<String>,
    pub token_file: Option<PathBuf>,
    /// None asks for a session.
    pub command: Option<ClientCommand>,
}

/// What to ask of the server. Keys have been checked; values have not. A value or data that is a dash
/// stands for stdin.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the table of commands explains each, to users and readers alike")]
pub enum ClientCommand {
    Get { key: String, default: Option<String> },
    Update { key: String, value: String },
    Add { key: String, value: String },
    Delete { key: String },
    Increment { key: String, by: i128 },
    Exists { key: String },
    GetAll { prefix: String },
    Keys { prefix: String },
    Count { prefix: String },
    Watch { scope: Scope<'static>, program: Vec<OsString> },
    Dump { prefix: String },
    Load,
    Batch,
    Call { name: String, data: Option<String> },
    Exec { program: Vec<String> },
}

impl ClientCommand {
    /// Whether it leaves the server as it was, whatever becomes of the reply.
    pub fn only_reads(&self) -> bool {
        use ClientCommand as C;
        matches!(self, C::Get { .. } | C::Exists { .. } | C::GetAll { .. } | C::Keys { .. })
            || matches!(self, C::Count { .. } | C::Watch { .. } | C::Dump { .. })
    }
}

/// One command: all that is known of it.
pub(super) struct Spec {
    pub name: &'static str,
    /// Another name for it.
    pub alias: Option<&'static str>,
    pub operands: &'static str,
    pub about: &'static str,
    /// More than the line above has room for, or empty.
    pub more: &'static str,
    pub example: &'static str,
    /// What exit code 1 means here, or empty where it does not happen.
    pub no: &'static str,
    read: fn(&mut Words, &ClientArgs) -> Result<ClientCommand, Problem>,
}

type O = Opt<ClientArgs>;

/// Every option of the client.
#[rustfmt::skip]
pub(super) const OPTIONS: &[O] = &[
    O::new("-a, --addr ADDR", "the server: PORT, HOST:PORT, [IPV6]:PORT, or a service's\nname (127.0.0.1:7777)",
        |args, word| put(&mut args.address, text(word))).env("ST_ADDR"),
    O::new("-T, --timeout SECS", "for connecting, name lookup included, and then for each\nrequest (5)",
        |args, word| put(&mut args.timeout, seconds(word, MILLISECOND))).env("ST_TIMEOUT"),
    O::new("-r, --retry N", "how often connecting is tried again, within its time (3)",
        |args, word| put(&mut args.retry, whole(word, 0..=1_000_000))).env("ST_RETRY"),
    O::new("-j, --json", "values are JSON, in and out", |args, _| put(&mut args.json, Ok(true))),
    O::new("-n, --no-newline", "add no newline to a value, take none off stdin's end",
        |args, _| put(&mut args.no_newline, Ok(true))),
    O::new("-q, --quiet", "say nothing on stderr: the exit code tells",
        |args, _| put(&mut args.quiet, Ok(true))),
    O::new("    --token-file FILE", "the token is FILE's first line; ST_TOKEN can hold it too",
        |args, word| put(&mut args.token_file, Ok(Some(word.into())))),
    O::new("    --if VALUE", "write only where the value now is VALUE",
        |args, word| put(&mut args.condition, text(word).map(Some))).only(&["update", "delete"]),
    O::new("-w, --wait SECS", "wait so long for the key to appear",
        |args, word| put(&mut args.wait, seconds(word, Duration::ZERO).map(Some))).only(&["get"]),
    O::new("-c, --count N", "end after N lines",
        |args, word| put(&mut args.count, whole(word, 1..=u64::MAX).map(Some))).only(&["watch"]),
    O::new("    --prefix P", "every key that begins with P, instead of KEY",
        |args, word| put(&mut args.prefix, text(word).map(Some))).only(&["watch"]),
];

use ClientCommand as C;

/// Every command, in the order of the help text.
#[rustfmt::skip]
pub(super) const COMMANDS: &[Spec] = &[
    Spec { name: "get", alias: None, operands: "KEY [DEFAULT]", about: "print a value",
        more: "DEFAULT is printed only when the server says that KEY is missing, never on a failure. With\n\
            --wait a lost server is looked for until the time is over, unless --retry is 0.",
        example: "get colour red", no: "KEY is missing and there is no DEFAULT",
        read: |w, _| Ok(C::Get { key: key(w)?, default: optional(w, "DEFAULT")? }) },
    Spec { name: "update", alias: Some("set"), operands: "KEY VALUE|-", about: "set a value",
        more: "A dash reads the value from stdin, less one newline at its end.",
        example: "update colour blue", no: "the value is not what --if says; nothing was changed",
        read: |w, _| Ok(C::Update { key: key(w)?, value: word(w, "VALUE")? }) },
    Spec { name: "add", alias: None, operands: "KEY VALUE|-", about: "set a value, if there is none yet",
        more: "Of many that add one key at once, one succeeds: that makes it a lock.",
        example: "add lock \"$$\"", no: "KEY exists already; nothing was changed",
        read: |w, _| Ok(C::Add { key: key(w)?, value: word(w, "VALUE")? }) },
    Spec { name: "delete", alias: Some("del"), operands: "KEY", about: "remove a key and its value", more: "",
        example: "delete --if \"$$\" lock", no: "KEY is missing, or not what --if says",
        read: |w, _| Ok(C::Delete { key: key(w)? }) },
    Spec { name: "increment", alias: Some("incr"), operands: "KEY [N]",
        about: "add N (1) to a number, and print the sum",
        more: "A missing KEY counts as 0, a string such as \"-5\" as that number; N may be negative.", example: "increment visits", no: "",
        read: |w, _| Ok(C::Increment { key: key(w)?, by: integer(w)? }) },
    Spec { name: "exists", alias: None, operands: "KEY",
        about: "tell by the exit code whether KEY has a value", more: "",
        example: "exists door && echo there", no: "it has none",
        read: |w, _| Ok(C::Exists { key: key(w)? }) },
    Spec { name: "getall", alias: Some("list"), operands: "[PREFIX]", about: "print keys and values",
        more: "A line each: the key, a tab, the value as JSON. With -j one JSON object.",
        example: "getall config/", no: "", read: |w, _| Ok(C::GetAll { prefix: prefix(w)? }) },
    Spec { name: "keys", alias: None, operands: "[PREFIX]", about: "print keys, one a line",
        more: "With -j one JSON array.",
        example: "keys config/", no: "", read: |w, _| Ok(C::Keys { prefix: prefix(w)? }) },
    Spec { name: "count", alias: None, operands: "[PREFIX]", about: "print how many keys there are", more: "",
        example: "count config/", no: "", read: |w, _| Ok(C::Count { prefix: prefix(w)? }) },
    Spec { name: "watch", alias: None, operands: "KEY|--prefix P [PROGRAM …]",
        about: "follow changes, the present state first",
        more: "A line each: UPDATE or DELETE, the key and the value as JSON, tabs between. With -j, as on\n\
            the wire, with READY when the present state has been told (--count does not count it).\n\
            Or PROGRAM is run for each, with ST_EVENT, ST_KEY and ST_VALUE, and the value on stdin too;\n\
            ST_VALUE is left out where it holds a NUL or is larger than the system takes. That PROGRAM\n\
            failed is told on stderr, with the last line that it wrote there, and ends nothing.\n\
            After a lost connection it connects again, for --retry tries. The present state comes\n\
            again, then a DELETE for each key that is gone meanwhile, with the last value told.",
        example: "watch config/port ./reload.sh", no: "", read: |w, a| {
            let scope = match &a.prefix {
                Some(prefix) => Scope::Prefix(prefix.clone().into()),
                None => Scope::Key(key(w)?.into()),
            };
            let program = data(w)?.into_iter().chain(w.rest()).collect();
            Ok(C::Watch { scope, program })
        } },
    Spec { name: "dump", alias: None, operands: "[PREFIX]",
        about: "write keys and values, as 'load' reads them",
        more: "A line of JSON each, sorted by key.", example: "dump > table.json", no: "",
        read: |w, _| Ok(C::Dump { prefix: prefix(w)? }) },
    Spec { name: "load", alias: None, operands: "", about: "set what stdin says",
        more: "That is what 'dump' wrote, or one JSON object of keys and values.",
        example: "load < table.json", no: "", read: |_, _| Ok(C::Load) },
    Spec { name: "batch", alias: None, operands: "",
        about: "send requests in the wire's JSON from stdin, print the replies",
        more: "Replies come a line each, in order; the exit code is the highest of theirs. A request after\n\
            CLOSE is not sent, and makes it 2.",
        example: "batch < requests.json", no: "a key is missing, or a condition did not hold",
        read: |_, _| Ok(C::Batch) },
    Spec { name: "call", alias: None, operands: "NAME [DATA|-]",
        about: "run the action NAME, print its value", more: "",
        example: "call SHOUT hello", no: "",
        read: |w, _| Ok(C::Call { name: word(w, "NAME")?, data: optional(w, "DATA")? }) },
    Spec { name: "hello", alias: None, operands: "", about: "print the server's greeting", more: "",
        example: "hello", no: "",
        read: |_, _| Ok(call("HELLO", None)) },
    Spec { name: "time", alias: None, operands: "", about: "print the server's time, in UTC", more: "",
        example: "time", no: "",
        read: |_, _| Ok(call("TIME", None)) },
    Spec { name: "echo", alias: None, operands: "DATA|-", about: "have DATA sent back", more: "",
        example: "echo hello", no: "",
        read: |w, _| Ok(call("ECHO", Some(word(w, "DATA")?))) },
    Spec { name: "exec", alias: None, operands: "PROGRAM …",
        about: "run a program on the server, where it allows that",
        more: "What it wrote to stdout and stderr is written to ours; bytes that are not UTF-8 are replaced.",
        example: "exec uptime",
        no: "the program's status was not 0", read: |w, _| Ok(C::Exec { program: program(w)? }) },
    Spec { name: "history", alias: None, operands: "", about: "print the programs that were run, as JSON",
        more: "", example: "history", no: "",
        read: |_, _| Ok(call("HISTORY", None)) },
    Spec { name: "info", alias: None, operands: "", about: "print the server's figures, as JSON", more: "",
        example: "info | {st} json", no: "",
        read: |_, _| Ok(call("INFO", None)) },
];

/// Understands the words after `client`; `args` are the defaults.
pub(super) fn parse(words: &mut Words, mut args: ClientArgs) -> Result<Command, Problem> {
    words.topic = Topic::Client;
    words.options(OPTIONS, &mut args)?;
    words.skip_help();
    let mut command = "a session";
    if let Some(word) = words.next() {
        if words.help && ["session", "-h", "--help"].iter().any(|topic| word == *topic) {
            return Err(Problem::Help);
        }
        let spec = find(&word.to_string_lossy(), words)?;
        command = spec.name;
        words.topic = Topic::ClientCommand(command);
        words.options(OPTIONS, &mut args)?;
        if !words.help {
            args.command = Some((spec.read)(words, &args)?);
        }
    }
    words.end()?;
    words.finish(OPTIONS, command, &mut args)?;
    Ok(Command::Client(args))
}

/// Users of other systems try these words first.
const SYNONYMS: &[(&str, &str)] =
    &[("put", "update"), ("rm", "delete"), ("remove", "delete"), ("ls", "keys"), ("ping", "hello")];

fn find(word: &str, words: &mut Words) -> Result<&'static Spec, Problem> {
    if let Some(spec) = COMMANDS.iter().find(|spec| word == spec.name || Some(word) == spec.alias) {
        return Ok(spec);
    }
    let command = meant(word).or_else(|| near(word)).map(str::to_owned);
    Err(Problem::UnknownCommand(word.into(), command.or_else(|| as_action(word, words))))
}

/// The command that a word names in another case, or by another system's word.
pub(super) fn meant(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == word).map(|(_, name)| *name);
    let spec = COMMANDS.iter().find(|spec| word == spec.name || Some(&*word) == spec.alias);
    synonym.or(spec.map(|spec| spec.name))
}

/// The command that a misspelt word is nearest to.
pub(super) fn near(word: &str) -> Option<&'static str> {
    let names = COMMANDS.iter().flat_map(|spec| [Some(spec.name), spec.alias]).flatten();
    did_you_mean(word, names.chain(["help"]))
}

/// The line that calls an action, where the word looks like the name of one. Words that a shell would want quoted
/// are left out of it.
fn as_action(word: &str, words: &mut Words) -> Option<String> {
    let is_name = word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted =
        |word: &OsString| word.to_str().is_none_or(|word| word.is_empty() || !word.chars().all(plain));
    let data = words.rest();
    let data = match data.iter().any(quoted) {
        true => " …".into(),
        false => data.iter().map(|word| format!(" {}", word.display())).collect::<String>(),
    };
    let client = if words.program.is_empty() { "".into() } else { format!("{} client ", words.program) };
    is_name.then(|| format!("{client}call {word}{data}"))
}

/// The next word of data of the command that was named.
fn data(words: &mut Words) -> Result<Option<OsString>, Problem> {
    let Topic::ClientCommand(command) = words.topic else { return Ok(words.next()) };
    words.data(OPTIONS, command)
}

fn optional(words: &mut Words, what: &'static str) -> Result<Option<String>, Problem> {
    data(words)?.map(|word| text(word).map_err(|_| Problem::NotUtf8(what))).transpose()
}

fn word(words: &mut Words, operand: &'static str) -> Result<String, Problem> {
    optional(words, operand)?.ok_or(Problem::MissingOperand(operand))
}

fn key(words: &mut Words) -> Result<String, Problem> {
    let key = word(words, "KEY")?;
    check_key(&key).map_err(Problem::BadKey)?;
    Ok(key)
}

fn prefix(words: &mut Words) -> Result<String, Problem> {
    Ok(optional(words, "PREFIX")?.unwrap_or_default())
}

fn integer(words: &mut Words) -> Result<i128, Problem> {
    match optional(words, "N")? {
        None => Ok(1),
        Some(word) => word.parse().map_err(|_| Problem::BadValue {
            what: "N".into(),
            value: word,
            expected: "a whole number of 128 bits".into(),
        }),
    }
}

fn program(words: &mut Words) -> Result<Vec<String>, Problem> {
    let first = word(words, "PROGRAM")?;
    let rest = words.rest().into_iter().map(|word| text(word).map_err(|_| Problem::NotUtf8("an argument")));
    std::iter::once(Ok(first)).chain(rest).collect()
}

fn call(name: &str, data: Option<String>) -> ClientCommand {
    C::Call { name: name.into(), data }
}
