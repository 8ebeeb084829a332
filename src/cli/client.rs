//! What `st client` can be told: its options, and what its commands are once they have been read. The
//! commands' own words are in `grammar`.
//!
//! Options end where the first word of data begins, which is a rule of our own: with getopt's rule,
//! `st client update temp -5` would be an unknown option, and a script that stores what it was
//! given would break on the first value with a dash. Data needs `--` before it only where its first
//! word begins with a dash, or where a later one is exactly an option of the command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::words::{MILLISECOND, Opt, put, seconds, text, whole};
use crate::client::ClientOptions;
use crate::json::JsonText;
use crate::protocol::{ADDRESS_DEFAULT, Scope, TTL_MIN};

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
    /// How long the server keeps what is written.
    pub ttl: Option<Duration>,
    /// How long a command waits for what it asks for to be so.
    pub wait: Option<Duration>,
    /// The value, or the number, that a command waits for.
    pub until: Option<String>,
    /// A value that `get` passes over.
    pub not: Option<String>,
    /// How `hold` ends where the key is another's.
    pub conflict: Option<u8>,
    /// How many changes `watch` tells before it ends.
    pub count: Option<u64>,
    /// Every key that begins so, in place of one key.
    pub prefix: Option<String>,
    /// What `load` does with keys that are there: nothing, where they are in the input too, ...
    pub absent: bool,
    /// ... and away with them, where they are not.
    pub replace: bool,
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
    Delete { keys: Vec<String> },
    DeletePrefix { prefix: String },
    Take { scope: Scope<'static> },
    Ttl { key: String },
    Hold { key: String, value: Option<String>, program: Vec<OsString> },
    Increment { key: String, by: i128 },
    Exists { key: String },
    GetAll { prefix: String },
    Keys { prefix: String },
    Count { prefix: String, until: Option<i128> },
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
    O::new("    --ttl SECS", "have the key deleted after that;\nhold renews it (10)",
        |args, word| put(&mut args.ttl, seconds(word, TTL_MIN).map(Some)))
        .only(&["update", "add", "increment", "hold"]),
    O::new("-w, --wait SECS", "wait so long for what is asked for",
        |args, word| put(&mut args.wait, seconds(word, Duration::ZERO).map(Some)))
        .only(&["get", "add", "hold", "take", "count"]),
    O::new("    --until VALUE", "wait for this value, or number of keys",
        |args, word| put(&mut args.until, text(word).map(Some))).only(&["get", "count"]),
    O::new("    --not VALUE", "wait for any other value",
        |args, word| put(&mut args.not, text(word).map(Some))).only(&["get"]),
    O::new("-E, --conflict-exit-code CODE", "exit so where another has the key (1)",
        |args, word| put(&mut args.conflict, whole(word, 0..=255).map(Some))).only(&["hold"]),
    O::new("-c, --count N", "end after N lines",
        |args, word| put(&mut args.count, whole(word, 1..=u64::MAX).map(Some))).only(&["watch"]),
    O::new("    --prefix P", "every key that begins with P",
        |args, word| put(&mut args.prefix, text(word).map(Some))).only(&["watch", "take", "delete", "load"]),
    O::new("    --absent", "set only keys that are not there",
        |args, _| put(&mut args.absent, Ok(true))).only(&["load"]),
    O::new("    --replace", "delete what is not in the input, or of that what\nbegins with --prefix",
        |args, _| put(&mut args.replace, Ok(true))).only(&["load"]),
    O::HELP,
];
