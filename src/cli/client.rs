//! What can be said to `st client`: `[OPTIONS] COMMAND [OPTIONS] DATA…`.
//!
//! Two tables hold it all. One row of [`OPTIONS`] is an option, one row of [`COMMANDS`] a command
//! with its operands, its help and its reader. The dispatch, the help texts and the hints for
//! misspelt words read these tables, so a new command needs a row here, a variant of
//! [`ClientCommand`], and an arm in `commands`, which the compiler asks for.
//!
//! Options end where the first word of data begins, which is a rule of our own: with getopt's rule,
//! `st client update temp -5` would be an unknown option, and a script that stores what it was
//! given would break on the first value with a dash. Data needs `--` before it only where its first
//! word begins with a dash, or where a later one is exactly an option of the command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::message::{Exit, Problem, Topic};
use super::words::{MILLISECOND, Opt, WordReader, put, seconds, text, whole};
use crate::client::ClientOptions;
use crate::json::JsonText;
use crate::protocol::{ADDRESS_DEFAULT, Scope, check_key, did_you_mean};

/// What `st client` was told. The token itself is not here, since it is never on the command line,
/// where every user of the machine could read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientArgs {
    /// The server, as it was written: whether it is an address is found out when it is needed.
    pub address: String,
    /// For connecting, all tries together, and then for each request.
    pub timeout: Duration,
    /// How often connecting is tried again within that time.
    pub retry: u32,
    /// Values are JSON, in and out.
    pub json: bool,
    /// Values come and go without a newline at their end.
    pub no_newline: bool,
    /// Nothing is said on stderr.
    pub quiet: bool,
    /// The value that `--if` wants to be there.
    pub condition: Option<String>,
    /// How long `get` waits for a key to appear.
    pub wait: Option<Duration>,
    /// How many changes `watch` tells before it ends.
    pub count: Option<u64>,
    /// What `watch` follows in place of one key.
    pub prefix: Option<String>,
    /// Where the token is.
    pub token_file: Option<PathBuf>,
    /// None asks for a repl.
    pub command: Option<ClientCommand>,
}

impl ClientArgs {
    /// What holds where no option says anything: the library's own defaults.
    pub(super) fn new() -> ClientArgs {
        let ClientOptions { timeout, retry, token: _ } = ClientOptions::default();
        ClientArgs { address: ADDRESS_DEFAULT.into(), timeout, retry, ..ClientArgs::default() }
    }

    /// A value as it is written: with `-j` as JSON, else a string as it is.
    pub(super) fn plain(&self, value: &JsonText<'_>) -> String {
        match value.as_string() {
            Some(string) if !self.json => string.into_owned(),
            _ => value.as_str().to_owned(),
        }
    }
}

/// What to ask of the server. Keys have been checked; values have not, since only `-j` says what a
/// value is. A value or data that is a dash stands for stdin.
///
/// Several commands share a variant where they differ in nothing but a name on the wire: `hello`,
/// `time`, `echo`, `history` and `info` are all calls. `exec` is one, too, but writes its reply in
/// a way of its own.
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

type O = Opt<ClientArgs>;

/// Every option of the client. Each is taken before every command and judged when the command is
/// known: `st client -c 3 watch k` and `st client watch -c 3 k` are the same.
///
/// The defaults in the help texts are written by hand; a test holds them to those of the library.
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
    O::HELP,
];

/// One command of the client: all that is known of it.
pub(super) struct CommandRow {
    /// Its name, and behind that any other that it goes by. There is one at least.
    pub names: &'static [&'static str],
    /// What users of other systems type first. It is not taken, but answered by naming this
    /// command.
    elsewhere: &'static [&'static str],
    /// The words behind it, for the help.
    pub operands: &'static str,
    /// What it does, in the few words that the list of commands has room for.
    pub about: &'static str,
    /// More than the line above has room for.
    pub more: &'static str,
    /// What to type behind `st client`, to see what it does.
    pub example: &'static str,
    /// What exit codes mean here, where that is not what they mean in general. "No" is listed only
    /// for commands that can end so.
    pub exits: &'static [(Exit, &'static str)],
    /// Reads its operands. What is left over is refused after it.
    read: fn(&mut WordReader<'_>, &ClientArgs) -> Result<ClientCommand, Problem>,
}

/// What a row means where it says nothing.
#[rustfmt::skip]
const UNSAID: CommandRow = CommandRow {
    names: &[], elsewhere: &[], operands: "", about: "", more: "", example: "", exits: &[],
    read: |_, _| Err(Problem::NoCommand),
};

use ClientCommand as C;
use CommandRow as Row;
use Exit::{Connect, Local, No, Unknown, Yes};

/// Every command, in the order of the help text.
#[rustfmt::skip]
pub(super) const COMMANDS: &[Row] = &[
    Row { names: &["get"], operands: "KEY [DEFAULT]", about: "print a value",
        more: "DEFAULT is printed only when the server says that KEY is missing, never on a failure. With\n\
            --wait a lost server is looked for until the time is over, unless --retry is 0.",
        example: "get colour red", exits: &[(No, "KEY is missing and there is no DEFAULT")],
        read: |w, _| Ok(C::Get { key: key(w)?, default: optional(w, "DEFAULT")? }), ..UNSAID },
    Row { names: &["update", "set"], elsewhere: &["put"], operands: "KEY VALUE|-", about: "set a value",
        more: "A dash reads the value from stdin, less one newline at its end.",
        example: "update colour blue", exits: &[(No, "the value is not what --if says; nothing was changed")],
        read: |w, _| Ok(C::Update { key: key(w)?, value: word(w, "VALUE")? }) },
    Row { names: &["add"], operands: "KEY VALUE|-", about: "set a value, if there is none yet",
        more: "Of many that add one key at once, one succeeds: that makes it a lock.",
        example: "add lock \"$$\"", exits: &[(No, "KEY exists already; nothing was changed")],
        read: |w, _| Ok(C::Add { key: key(w)?, value: word(w, "VALUE")? }), ..UNSAID },
    Row { names: &["delete", "del"], elsewhere: &["rm", "remove"], operands: "KEY",
        about: "remove a key and its value",
        example: "delete --if \"$$\" lock", exits: &[(No, "KEY is missing, or not what --if says")],
        read: |w, _| Ok(C::Delete { key: key(w)? }), ..UNSAID },
    Row { names: &["increment", "incr"], operands: "KEY [N]",
        about: "add N (1) to a number, and print the sum",
        more: "A missing KEY counts as 0, a string such as \"-5\" as that number; N may be negative.",
        example: "increment visits",
        read: |w, _| Ok(C::Increment { key: key(w)?, by: integer(w)? }), ..UNSAID },
    Row { names: &["exists"], operands: "KEY", about: "tell by the exit code whether KEY has a value",
        example: "exists door && echo there", exits: &[(No, "it has none")],
        read: |w, _| Ok(C::Exists { key: key(w)? }), ..UNSAID },
    Row { names: &["getall", "list"], operands: "[PREFIX]", about: "print keys and values",
        more: "A line each: the key, a tab, the value as JSON. With -j one JSON object.",
        example: "getall config/", read: |w, _| Ok(C::GetAll { prefix: prefix(w)? }), ..UNSAID },
    Row { names: &["keys"], elsewhere: &["ls"], operands: "[PREFIX]", about: "print keys, one a line",
        more: "With -j one JSON array.",
        example: "keys config/", read: |w, _| Ok(C::Keys { prefix: prefix(w)? }), ..UNSAID },
    Row { names: &["count"], operands: "[PREFIX]", about: "print how many keys there are",
        example: "count config/", read: |w, _| Ok(C::Count { prefix: prefix(w)? }), ..UNSAID },
    Row { names: &["watch"], operands: "KEY|--prefix P [PROGRAM …]",
        about: "follow changes, the present state first",
        more: "A line each: UPDATE or DELETE, the key and the value as JSON, tabs between. With -j, as on\n\
            the wire, with READY when the present state has been told (--count does not count it).\n\
            Or PROGRAM is run for each, with ST_EVENT, ST_KEY and ST_VALUE, and the value on stdin too;\n\
            ST_VALUE is left out where it holds a NUL or is larger than the system takes. That PROGRAM\n\
            failed is told on stderr, with the last line that it wrote there, and ends nothing.\n\
            After a lost connection it connects again, for --retry tries. The present state comes\n\
            again, then a DELETE for each key that is gone meanwhile, with the last value told.",
        example: "watch config/port ./reload.sh",
        exits: &[
            (Yes, "--count changes were told, or nobody reads stdout any more"),
            (Connect, "cannot connect, or not again within --retry tries"),
            (Unknown, "timeout, or the watch was lost and --retry is 0"),
            (Local, "PROGRAM cannot be run, or stdout cannot be written to"),
        ],
        read: watch, ..UNSAID },
    Row { names: &["dump"], operands: "[PREFIX]", about: "write keys and values, as 'load' reads them",
        more: "A line of JSON each, sorted by key.",
        example: "dump > table.json", read: |w, _| Ok(C::Dump { prefix: prefix(w)? }), ..UNSAID },
    Row { names: &["load"], about: "set what stdin says",
        more: "That is what 'dump' wrote, or one JSON object of keys and values.",
        example: "load < table.json", read: |_, _| Ok(C::Load), ..UNSAID },
    Row { names: &["batch"], about: "send requests in the wire's JSON from stdin, print the replies",
        more: "Replies come a line each, in order; the exit code is the highest of theirs. A request after\n\
            CLOSE is not sent, and makes it 2.",
        example: "batch < requests.json", exits: &[(No, "a key is missing, or a condition did not hold")],
        read: |_, _| Ok(C::Batch), ..UNSAID },
    Row { names: &["call"], operands: "NAME [DATA|-]", about: "run the action NAME, print its value",
        example: "call SHOUT hello",
        read: |w, _| Ok(C::Call { name: word(w, "NAME")?, data: optional(w, "DATA")? }), ..UNSAID },
    Row { names: &["hello"], elsewhere: &["ping"], about: "print the server's greeting",
        example: "hello", read: |_, _| Ok(call("HELLO", None)), ..UNSAID },
    Row { names: &["time"], about: "print the server's time, in UTC",
        example: "time", read: |_, _| Ok(call("TIME", None)), ..UNSAID },
    Row { names: &["echo"], operands: "DATA|-", about: "have DATA sent back",
        example: "echo hello", read: |w, _| Ok(call("ECHO", Some(word(w, "DATA")?))), ..UNSAID },
    Row { names: &["exec"], operands: "PROGRAM …", about: "run a program on the server, where it allows that",
        more: "What it wrote to stdout and stderr is written to ours; bytes that are not UTF-8 are replaced.",
        example: "exec uptime", exits: &[(No, "the program's status was not 0")],
        read: |w, _| Ok(C::Exec { program: program(w)? }), ..UNSAID },
    Row { names: &["history"], about: "print the programs that were run, as JSON",
        example: "history", read: |_, _| Ok(call("HISTORY", None)), ..UNSAID },
    Row { names: &["info"], about: "print the server's figures, as JSON",
        example: "info | {st} json", read: |_, _| Ok(call("INFO", None)), ..UNSAID },
];

/// Understands the words after `client`; `args` are the defaults. In a repl those are the repl's
/// own options.
pub(super) fn parse(words: &mut WordReader<'_>, mut args: ClientArgs) -> Result<ClientArgs, Problem> {
    words.topic = Topic::Client;
    // Options may stand before the command and after it: people add them where they are typing.
    words.options(OPTIONS, &mut args)?;
    words.skip_help();
    if let Some(word) = words.next() {
        // The repl has no name to be asked by: it is what there is without a command.
        if words.help && ["session", "-h", "--help"].iter().any(|topic| word == *topic) {
            return Err(Problem::Help);
        }
        let row = find(&word.to_string_lossy(), words)?;
        words.topic = Topic::ClientCommand(row.names[0]);
        words.options(OPTIONS, &mut args)?;
        // `st client help get` names a command and has no KEY for it.
        if !words.help {
            args.command = Some((row.read)(words, &args)?);
        }
    }
    words.end()?;
    words.finish(OPTIONS, &mut args)?;
    Ok(args)
}

/// The row of a command. Names are matched to the letter: a command in capitals is most likely an
/// action's name.
fn find(word: &str, words: &mut WordReader<'_>) -> Result<&'static Row, Problem> {
    if let Some(row) = COMMANDS.iter().find(|row| row.names.contains(&word)) {
        return Ok(row);
    }
    // Only a repl has these. It runs them itself, before any word gets here, but a slip in them
    // does.
    let others: &[&str] = if words.program.is_empty() { &["quit", "exit"] } else { &[] };
    let meant = meant(word, "", others).or_else(|| as_action(word, words));
    Err(Problem::Unknown("command", word.into(), meant))
}

/// What somebody probably meant by a word that is no command: a command of the client in another
/// case or by another system's word for it, one of these other words, or the command that it looks
/// most like. What has to be typed before a command of the client is put before it.
///
/// Such a word is only answered by a suggestion and never taken: a script with `rm` for `delete` in
/// it would work until the day when `rm` means something else here.
pub(super) fn meant(word: &str, before: &str, others: &[&str]) -> Option<String> {
    let command = |name: &str| format!("{before}{name}");
    let lower = &*word.to_ascii_lowercase();
    let synonym = COMMANDS.iter().find(|row| row.names.contains(&lower) || row.elsewhere.contains(&lower));
    let names = COMMANDS.iter().flat_map(|row| row.names).copied().chain(["help"]);
    synonym
        .map(|row| command(row.names[0]))
        .or_else(|| did_you_mean(word, others.iter().copied()).map(str::to_owned))
        .or_else(|| did_you_mean(word, names).map(command))
}

/// The line that calls an action, where the word looks like the name of one. Data that a shell
/// would want quoted is left out: what is suggested must mean the same when it is typed.
fn as_action(word: &str, words: &mut WordReader<'_>) -> Option<String> {
    let capital = |c: char| c.is_ascii_uppercase();
    let of_a_name = |c: char| capital(c) || c.is_ascii_digit() || "_-".contains(c);
    if !word.starts_with(capital) || !word.chars().all(of_a_name) {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let unquoted = |word: &&str| !word.is_empty() && word.chars().all(plain);
    let data = words.rest();
    let data: Option<Vec<_>> = data.iter().map(|word| word.to_str().filter(unquoted)).collect();
    let data = data.map_or("…".into(), |data| data.join(" "));
    let client = if words.program.is_empty() { "".into() } else { format!("{} client ", words.program) };
    Some(format!("{client}call {word} {data}").trim_end().into())
}

/// `watch` has a KEY or `--prefix`. The words behind it are PROGRAM's, options and all; only the
/// first of them is refused where it is an option of ours.
fn watch(words: &mut WordReader<'_>, args: &ClientArgs) -> Result<ClientCommand, Problem> {
    let scope = match &args.prefix {
        Some(prefix) => Scope::Prefix(prefix.clone().into()),
        None => Scope::Key(key(words)?.into()),
    };
    let program = words.data(OPTIONS)?.into_iter().chain(words.rest()).collect();
    Ok(C::Watch { scope, program })
}

/// The next word as text, if there is one. JSON holds text alone, so other bytes could not be sent.
fn optional(words: &mut WordReader<'_>, what: &'static str) -> Result<Option<String>, Problem> {
    words.data(OPTIONS)?.map(|word| text(word).map_err(|_| Problem::NotUtf8(what))).transpose()
}

fn word(words: &mut WordReader<'_>, operand: &'static str) -> Result<String, Problem> {
    optional(words, operand)?.ok_or(Problem::MissingOperand(operand))
}

/// A key is judged before anything is sent: the server would refuse it, but only after connecting,
/// and under another exit code.
fn key(words: &mut WordReader<'_>) -> Result<String, Problem> {
    let key = word(words, "KEY")?;
    check_key(&key).map_err(Problem::BadKey)?;
    Ok(key)
}

/// Without a prefix all keys are meant, since every key begins with the empty one.
fn prefix(words: &mut WordReader<'_>) -> Result<String, Problem> {
    Ok(optional(words, "PREFIX")?.unwrap_or_default())
}

/// What `increment` adds. The server counts in 128 bits, and so do we: a float would lose digits on
/// the way.
fn integer(words: &mut WordReader<'_>) -> Result<i128, Problem> {
    let Some(value) = optional(words, "N")? else { return Ok(1) };
    let expected = "a whole number of 128 bits".into();
    value.parse().map_err(|_| Problem::BadValue { what: "N".into(), value, expected })
}

/// A program of the server's and its arguments, which go over the wire as JSON strings.
fn program(words: &mut WordReader<'_>) -> Result<Vec<String>, Problem> {
    let first = word(words, "PROGRAM")?;
    let rest = words.rest().into_iter().map(|word| text(word).map_err(|_| Problem::NotUtf8("an argument")));
    std::iter::once(Ok(first)).chain(rest).collect()
}

/// What the server does under a name: any of its actions, built in or not, is asked for in the same
/// way.
fn call(name: &str, data: Option<String>) -> ClientCommand {
    C::Call { name: name.into(), data }
}
