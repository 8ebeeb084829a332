//! The words of `st server`. A value that cannot be right is refused here; whether a file exists or
//! a port is free is for the server to find out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::args::{Command, Problem, Topic};
use super::options::{Opt, Words};
use super::values::{Expected, MILLISECOND, put, seconds, size, text, whole};
use crate::protocol::ADDRESS_DEFAULT;
use crate::protocol::TOKEN_VARIABLE;
use crate::server::{Level, Mode};

/// What `st server` was told.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the options that set the fields explain them")]
pub struct ServerArgs {
    pub address: String,
    pub mode: Mode,
    pub max_request: usize,
    pub idle: Option<Duration>,
    pub deadline: Duration,
    pub max_memory: Option<usize>,
    pub action_timeout: Duration,
    pub action_jobs: usize,
    pub actions: Vec<(String, PathBuf)>,
    pub allow_exec: bool,
    pub token_file: Option<PathBuf>,
    pub insecure: bool,
    pub level: Level,
    threads: usize,
}

const THREADS_MAX: u64 = 100_000;
const JOBS_MAX: u64 = 1_000;
/// A request is held in memory whole, once a connection.
const REQUEST_BYTES_MAX: u64 = 1 << 30;
const MEMORY_BYTES_MAX: u64 = 1 << 60;

type O = Opt<ServerArgs>;

/// Every option of the server.
#[rustfmt::skip]
pub(super) const OPTIONS: &[O] = &[
    O::new("-m, --mode MODE",
        "pool: many clients, a worker each (the default);\niterative: one after another; once: one request in all",
        |args, word| put(&mut args.mode, mode(word))),
    O::new("-t, --threads N", "live connections at once in pool mode (512)",
        |args, word| put(&mut args.threads, whole(word, 1..=THREADS_MAX))),
    O::new("    --max-request SIZE", "the largest request (1M)",
        |args, word| put(&mut args.max_request, size(word, REQUEST_BYTES_MAX))),
    O::new("    --max-memory SIZE", "the most that keys and values may hold (no limit)",
        |args, word| put(&mut args.max_memory, size(word, MEMORY_BYTES_MAX).map(Some))),
    O::new("    --idle SECS", "the longest silence between requests (300, iterative 10)",
        |args, word| put(&mut args.idle, seconds(word, MILLISECOND).map(Some))),
    O::new("    --deadline SECS", "for a request once begun, and for a reply to be taken (10)",
        |args, word| put(&mut args.deadline, seconds(word, MILLISECOND))),
    O::new("    --action NAME=PROGRAM", "answer requests NAME by what PROGRAM writes (repeatable)",
        |args, word| action(word).map(|action| args.actions.push(action))),
    O::new("    --action-timeout SECS", "for a program to end (5)",
        |args, word| put(&mut args.action_timeout, seconds(word, MILLISECOND))),
    O::new("    --action-jobs N", "programs running at once (16)",
        |args, word| put(&mut args.action_jobs, whole(word, 1..=JOBS_MAX))),
    O::new("    --allow-exec", "offer EXEC: who knows the token may run any program",
        |args, _| put(&mut args.allow_exec, Ok(true))),
    O::new("    --token-file FILE", "clients must show the token, FILE's first line;\nST_TOKEN can hold it too",
        |args, word| put(&mut args.token_file, Ok(Some(word.into())))),
    O::new("    --insecure", "listen beyond this machine without a token",
        |args, _| put(&mut args.insecure, Ok(true))),
    O::new("-q, --quiet", "log errors only", |args, _| put(&mut args.level, Ok(Level::Error))),
    O::new("-v, --verbose", "log every request", |args, _| put(&mut args.level, Ok(Level::Debug))),
];

/// Understands the words after `server`.
pub(super) fn parse(words: &mut Words) -> Result<Command, Problem> {
    words.topic = Topic::Server;
    let mut args = ServerArgs {
        address: ADDRESS_DEFAULT.into(),
        mode: Mode::Pool { threads: 0 },
        max_request: 1 << 20,
        idle: None,
        deadline: Duration::from_secs(10),
        max_memory: None,
        action_timeout: Duration::from_secs(5),
        action_jobs: 16,
        actions: Vec::new(),
        allow_exec: false,
        token_file: None,
        insecure: false,
        level: Level::Info,
        threads: 512,
    };
    words.skip_help();
    if let Some(word) = words.around(OPTIONS, &mut args)? {
        args.address = text(word).map_err(|_| Problem::NotUtf8("ADDR"))?;
    }
    if let Mode::Pool { threads } = &mut args.mode {
        *threads = args.threads;
    }
    if args.allow_exec && args.token_file.is_none() && words.variable(TOKEN_VARIABLE).is_none() {
        return Err(Problem::Needs("allow-exec", "--token-file or ST_TOKEN"));
    }
    Ok(Command::Server(args))
}

fn mode(word: OsString) -> Result<Mode, Expected> {
    match word.to_str() {
        Some("pool") => Ok(Mode::Pool { threads: 0 }),
        Some("iterative") => Ok(Mode::Iterative),
        Some("once") => Ok(Mode::Once),
        _ => Err("pool, iterative or once".into()),
    }
}

/// The path is absolute: what a server runs should not depend on where it was started.
fn action(word: OsString) -> Result<(String, PathBuf), Expected> {
    match word.to_str().and_then(|word| word.split_once('=')) {
        Some((name, program)) if !name.is_empty() && program.starts_with('/') => {
            Ok((name.into(), program.into()))
        }
        _ => Err("NAME=/PATH/TO/PROGRAM".into()),
    }
}
