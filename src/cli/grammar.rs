//! The commands of `st client`: `[OPTIONS] COMMAND [OPTIONS] DATA…`.
//!
//! One row of [`COMMANDS`] is a command with its operands, its help and its reader. The dispatch, the help
//! texts and the hints for misspelt words read this table, so a new command needs a row here, a variant
//! of [`ClientCommand`], and an arm in `commands`, which the compiler asks for.

use std::time::Duration;

use super::client::{ClientArgs, ClientCommand, OPTIONS};
use super::message::{Exit, Problem, Topic};
use super::words::{WordReader, text};
use crate::protocol::{Scope, check_key, did_you_mean};

/// A shorter lease could not be renewed in time over a network.
const LEASE_MIN: Duration = Duration::from_millis(100);

/// One command of the client: all that is known of it.
pub(super) struct CommandRow {
    /// Its name, and behind that any other that it goes by. There is one at least.
    pub names: &'static [&'static str],
    /// What users of other systems type first. It is not taken, but answered by naming this
    /// command.
    elsewhere: &'static [&'static str],
    /// The words behind it, for the help. Where the first may be completed to a key, they begin with KEY.
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
            --wait it waits until there is a value: any, or the one of --until, or none of --not, as get\n\
            prints them. A lost server is looked for until the time is over, unless --retry is 0.",
        example: "get -w 30 --until open door", exits: &[(No, "KEY is missing and there is no DEFAULT; the wait is over")],
        read: get, ..UNSAID },
    Row { names: &["update", "set"], elsewhere: &["put"], operands: "KEY VALUE|-", about: "set a value",
        more: "A dash reads the value from stdin, less one newline at its end.",
        example: "update colour blue", exits: &[(No, "the value is not what --if says; nothing was changed")],
        read: |w, _| Ok(C::Update { key: key(w)?, value: word(w, "VALUE")? }) },
    Row { names: &["add"], operands: "KEY VALUE|-", about: "set a value, if there is none yet",
        more: "Of many that add one key at once, one succeeds. With --wait it waits until KEY is free. For a lock\n\
            that outlives no crash see 'hold'.",
        example: "add leader \"$(hostname)\"", exits: &[(No, "KEY exists already; nothing was changed")],
        read: |w, _| Ok(C::Add { key: key(w)?, value: word(w, "VALUE")? }), ..UNSAID },
    Row { names: &["delete", "del"], elsewhere: &["rm", "remove"], operands: "KEY …|--prefix P",
        about: "remove keys and their values",
        more: "With --prefix it prints how many there were.",
        example: "delete --if \"$$\" lock", exits: &[(No, "a KEY is missing, or not what --if says")],
        read: delete },
    Row { names: &["take"], elsewhere: &["pop", "lpop"], operands: "KEY|--prefix P",
        about: "remove a key, or the first of a prefix, and print its value",
        more: "Of many that take at once, each gets another one: with names that sort as they came in, that is\n\
            a queue. With --wait it waits until there is one. With -j it prints key and value.",
        example: "take -w 60 --prefix queue/", exits: &[(No, "there is none")],
        read: |w, args| Ok(C::Take { scope: scope(w, args)? }) },
    Row { names: &["ttl"], operands: "KEY", about: "print the seconds until a key is deleted",
        more: "For a key without --ttl it prints null.",
        example: "ttl session/7", exits: &[(No, "KEY is missing")],
        read: |w, _| Ok(C::Ttl { key: key(w)? }), ..UNSAID },
    Row { names: &["hold"], elsewhere: &["lock", "flock"], operands: "KEY [VALUE] -- PROGRAM …",
        about: "run PROGRAM while holding KEY",
        more: "Adds KEY for --ttl seconds, 10 if nothing is said, with VALUE or else host and pid, which should be\n\
            no other holder's; renews it while PROGRAM runs; deletes it then. Whoever holds it may crash: its\n\
            PROGRAM is killed, and the key is free when its time is over. With --wait it waits for that.\n\
            Where no renewal succeeds for two thirds of the time, or the key is deleted or another's, PROGRAM\n\
            and its process group get SIGTERM, and SIGKILL a quarter of the time later. SIGINT, SIGTERM and\n\
            SIGHUP are passed on to them.",
        example: "hold -w 60 lock/backup -- ./backup.sh",
        exits: &[
            (Yes, "PROGRAM ended so; any other code is PROGRAM's, too, 128 and more if a signal ended it"),
            (No, "another has KEY, or still has it when --wait is over; or what -E says"),
            (Unknown, "the lease was lost: somebody else may have had KEY meanwhile"),
            (Local, "PROGRAM cannot be run"),
        ],
        read: hold },
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
        more: "With --wait and --until it waits until there are that many: no fewer where there were fewer at\n\
            first, no more where there were more.",
        example: "count -w 60 --until 3 worker/", exits: &[(No, "the wait is over")],
        read: count, ..UNSAID },
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
        read: |w, args| {
            let scope = scope(w, args)?;
            // The words behind it are PROGRAM's, options and all; only the first of them is refused where it is an
            // option of ours.
            Ok(C::Watch { scope, program: w.data(OPTIONS)?.into_iter().chain(w.rest()).collect() })
        }, ..UNSAID },
    Row { names: &["dump"], operands: "[PREFIX]", about: "write keys and values, as 'load' reads them",
        more: "A line of JSON each, sorted by key, with the \"ttl\" that is left of a lease.",
        example: "dump > table.json", read: |w, _| Ok(C::Dump { prefix: prefix(w)? }), ..UNSAID },
    Row { names: &["load"], about: "set what stdin says",
        more: "That is what 'dump' wrote, or one JSON object of keys and values. With --replace nothing is\n\
            deleted where anything was refused.",
        example: "load --replace < table.json", read: load, ..UNSAID },
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
        more: "What it wrote to stdout and stderr is written to ours; bytes that are not UTF-8 are replaced.\n\
            A single word with a space or a sign of the shell's in it is a line for sh: 'ls | wc -l'.\n\
            A program whose path has one is quoted for sh, too: \"'/opt/my tool'\".",
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
        if words.help
            && ["session", "quit", "exit", "close", "auth", "-h", "--help"].iter().any(|topic| word == *topic)
        {
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

/// The row of a command. On a command line names are matched to the letter: one in capitals is most likely an
/// action's name. A repl knows which actions there are, and takes the wire's own words, `GET door`.
fn find(word: &str, words: &mut WordReader<'_>) -> Result<&'static Row, Problem> {
    let in_repl = words.program.is_empty();
    let name = if in_repl { word.to_ascii_lowercase() } else { word.to_owned() };
    if let Some(row) = COMMANDS.iter().find(|row| row.names.contains(&&*name)) {
        return Ok(row);
    }
    let meant = match in_repl {
        // The repl runs these itself, before any word gets here, but a slip in them does.
        true => meant(word, "", &["quit", "exit", "close"]),
        false => meant(word, "", &[]).or_else(|| as_action(word, words)),
    };
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
    Some(format!("{} client call {word} {data}", words.program).trim_end().into())
}

/// A KEY, unless there is `--prefix`.
fn scope(words: &mut WordReader<'_>, args: &ClientArgs) -> Result<Scope<'static>, Problem> {
    Ok(match &args.prefix {
        Some(prefix) => Scope::Prefix(prefix.clone().into()),
        None => Scope::Key(key(words)?.into()),
    })
}

/// What `--until` and `--not` are without `--wait`, nobody can say.
fn get(words: &mut WordReader<'_>, args: &ClientArgs) -> Result<ClientCommand, Problem> {
    let what = args.until.as_ref().map(|_| "--until").or(args.not.as_ref().map(|_| "--not"));
    match what.filter(|_| args.wait.is_none()) {
        Some(what) => Err(Problem::Needs(what.into(), "--wait".into())),
        None => Ok(C::Get { key: key(words)?, default: optional(words, "DEFAULT")? }),
    }
}

fn count(words: &mut WordReader<'_>, args: &ClientArgs) -> Result<ClientCommand, Problem> {
    match (&args.wait, &args.until) {
        (None, Some(_)) => Err(Problem::Needs("--until".into(), "--wait".into())),
        (Some(_), None) => Err(Problem::Needs("--wait".into(), "--until, a number of keys".into())),
        (_, until) => {
            let until = until.as_ref().map(|number| read_integer("--until", number.clone())).transpose()?;
            Ok(C::Count { prefix: prefix(words)?, until })
        }
    }
}

/// A condition is about one value, so `--if` wants one KEY.
fn delete(words: &mut WordReader<'_>, args: &ClientArgs) -> Result<ClientCommand, Problem> {
    let one = || Problem::Needs("--if".into(), "one KEY".into());
    if let Some(prefix) = &args.prefix {
        let prefix = prefix.clone();
        return if args.condition.is_some() { Err(one()) } else { Ok(C::DeletePrefix { prefix }) };
    }
    let mut keys = vec![key(words)?];
    while let Some(word) = words.data(OPTIONS)? {
        keys.push(checked(text(word).map_err(|_| Problem::NotUtf8("KEY"))?)?);
    }
    if args.condition.is_some() && keys.len() > 1 { Err(one()) } else { Ok(C::Delete { keys }) }
}

/// `--` stands before PROGRAM, since its words look like anything.
fn hold(words: &mut WordReader<'_>, args: &ClientArgs) -> Result<ClientCommand, Problem> {
    if args.ttl.is_some_and(|ttl| ttl < LEASE_MIN) {
        let value = args.ttl.unwrap_or_default().as_secs_f64().to_string();
        let expected = "0.1 seconds or more, to be renewed in time".into();
        return Err(Problem::BadValue { what: "--ttl".into(), value, expected });
    }
    let key = key(words)?;
    let value = if words.passes("--") { None } else { optional(words, "VALUE")? };
    if value.is_some() && !words.passes("--") {
        return Err(Problem::MissingOperand("'--' before PROGRAM"));
    }
    let program = words.rest();
    if program.is_empty() {
        Err(Problem::MissingOperand("PROGRAM"))
    } else {
        Ok(C::Hold { key, value, program })
    }
}

fn load(_: &mut WordReader<'_>, args: &ClientArgs) -> Result<ClientCommand, Problem> {
    match (args.absent, args.replace, &args.prefix) {
        (true, true, _) => Err(Problem::Needs("--absent".into(), "to stand without --replace".into())),
        (_, false, Some(_)) => Err(Problem::Needs("--prefix".into(), "--replace".into())),
        (_, _, _) => Ok(C::Load),
    }
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
    checked(word(words, "KEY")?)
}

fn checked(key: String) -> Result<String, Problem> {
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
    optional(words, "N")?.map_or(Ok(1), |value| read_integer("N", value))
}

fn read_integer(what: &str, value: String) -> Result<i128, Problem> {
    let expected = "a whole number of 128 bits".into();
    value.parse().map_err(|_| Problem::BadValue { what: what.into(), value, expected })
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
