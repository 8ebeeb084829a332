//! The words of `st server`. A value that cannot be right is refused here; whether a file exists or
//! a port is free is for the server to find out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::options::{Opt, Words};
use super::values::{Expected, MILLISECOND, put, seconds, size, text, whole};
use super::{Command, Problem};
use crate::address::DEFAULT;
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
pub(super) const OPTIONS: &[Opt<ServerArgs>] = &[
    O::new(Some('m'), "mode", "MODE", |args, word| put(&mut args.mode, mode(word)))
        .help("pool: many clients, a worker each (the default);\niterative: one after another; once: one request in all"),
    O::new(Some('t'), "threads", "N", |args, word| put(&mut args.threads, whole(word, 1..=THREADS_MAX)))
        .help("live connections at once in pool mode (512)"),
    O::new(None, "max-request", "SIZE", |args, word| put(&mut args.max_request, size(word, REQUEST_BYTES_MAX)))
        .help("the largest request (1M)"),
    O::new(None, "max-memory", "SIZE", |args, word| {
        put(&mut args.max_memory, size(word, MEMORY_BYTES_MAX).map(Some))
    })
    .help("the most that keys and values may hold (no limit)"),
    O::new(None, "idle", "SECS", |args, word| put(&mut args.idle, seconds(word, MILLISECOND).map(Some)))
        .help("the longest silence between requests (300, iterative 10)"),
    O::new(None, "deadline", "SECS", |args, word| put(&mut args.deadline, seconds(word, MILLISECOND)))
        .help("for a request once begun, and for a reply to be taken (10)"),
    O::new(None, "action", "NAME=PROGRAM", |args, word| action(word).map(|action| args.actions.push(action)))
        .help("answer requests NAME by what PROGRAM writes (repeatable)"),
    O::new(None, "action-timeout", "SECS", |args, word| {
        put(&mut args.action_timeout, seconds(word, MILLISECOND))
    })
    .help("for a program to end (5)"),
    O::new(None, "action-jobs", "N", |args, word| put(&mut args.action_jobs, whole(word, 1..=JOBS_MAX)))
        .help("programs running at once (16)"),
    O::new(None, "allow-exec", "", |args, _| put(&mut args.allow_exec, Ok(true)))
        .help("offer EXEC: who knows the token may run any program"),
    O::new(None, "token-file", "FILE", |args, word| put(&mut args.token_file, Ok(Some(word.into()))))
        .help("clients must show the token, FILE's first line"),
    O::new(None, "insecure", "", |args, _| put(&mut args.insecure, Ok(true)))
        .help("listen beyond this machine without a token"),
    O::new(Some('q'), "quiet", "", |args, _| put(&mut args.level, Ok(Level::Error))).help("log errors only"),
    O::new(Some('v'), "verbose", "", |args, _| put(&mut args.level, Ok(Level::Debug)))
        .help("log every request"),
];

/// Understands the words after `server`.
pub(super) fn parse(words: &mut Words) -> Result<Command, Problem> {
    let mut args = ServerArgs {
        address: DEFAULT.into(),
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
    if let Some(word) = words.around(OPTIONS, &mut args)? {
        args.address = text(word).map_err(|_| Problem::NotUtf8("ADDR"))?;
    }
    if let Mode::Pool { threads } = &mut args.mode {
        *threads = args.threads;
    }
    if args.allow_exec && args.token_file.is_none() {
        return Err(Problem::Needs("allow-exec", "token-file"));
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
