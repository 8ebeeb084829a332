//! `st server`: its options, and the way from them to a running server and from its end to an exit
//! code.
//!
//! Whatever can be wrong is found before the server says that it is ready. A value that cannot be
//! right is refused while the words are read; a file that cannot be read, a program that cannot be
//! run and a port that is taken end the start. A script that reads the address from stdout can
//! therefore rely on a server that works.
//!
//! Left out: forking into the background, pid files and configuration files. Whatever starts
//! services (systemd, a container, a shell's `&`) does these better.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{Stderr, Stdout, Write};
use std::panic;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{Exit, Problem, Topic, Trouble};
use super::words::{Env, MILLISECOND, Opt, WordReader, put, seconds, size, text, whole};
use crate::actions::{Limits, Program, adopt_orphans, end_orphans};
use crate::protocol::{ADDRESS_DEFAULT, Address, TOKEN_VARIABLE, Token};
use crate::server::{Level, Log, Mode, Options, Server};
use crate::store::{Store, SyncPolicy};
use crate::sys::survive_size_limit;

/// What `st server` was told.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerArgs {
    /// Where to listen, as it was written.
    pub address: String,
    /// Who serves how many clients at once.
    pub mode: Mode,
    /// The largest request, in bytes.
    pub max_request: usize,
    /// The longest silence between requests; `None` leaves it to the mode.
    pub idle: Option<Duration>,
    /// For a request once begun, and for a reply to be taken.
    pub deadline: Duration,
    /// The most that keys and values may hold, in bytes.
    pub max_memory: Option<usize>,
    /// Where changes are kept; only in memory where there is none.
    pub journal: Option<PathBuf>,
    /// What a change survives that was acknowledged.
    pub sync: SyncPolicy,
    /// What a program that is run as an action may use.
    pub limits: Limits,
    /// Names, and the programs that answer to them.
    pub actions: Vec<(String, PathBuf)>,
    /// Clients may run any program.
    pub allow_exec: bool,
    /// Where the token is.
    pub token_file: Option<PathBuf>,
    /// Other machines may reach the server although it has no token.
    pub insecure: bool,
    /// How much is logged.
    pub level: Level,
    /// Kept apart from the mode, since they may come before `-m`.
    threads: Option<usize>,
    connections: Option<usize>,
}

/// Each is a descriptor. Few systems grant a process more.
const CONNECTIONS_MAX: u64 = 1_000_000;
/// Each has a stack, of which the system reserves the addresses at once. Few systems grant so many.
const THREADS_MAX: u64 = 100_000;
/// Each is a process with pipes and threads that wait for it.
const JOBS_MAX: u64 = 1_000;
/// A request is held in memory whole, once a connection.
const REQUEST_BYTES_MAX: u64 = 1 << 30;
/// More than any machine has, and far from overflowing a sum of two.
const MEMORY_BYTES_MAX: u64 = 1 << 60;

/// How often a long start says how far it has come: some five times a second.
const RECORDS_TOLD: u64 = 250_000;

type O = Opt<ServerArgs>;

/// Every option of the server. There is none for the token itself: every user of a machine can list
/// the words that programs were started with, and a token must not be among them.
#[rustfmt::skip]
pub(super) const OPTIONS: &[O] = &[
    O::new("-m, --mode MODE",
        "event: many clients on one thread (the default);\npool: a worker each; iterative: one after another;\nonce: one request in all",
        |args, word| put(&mut args.mode, mode(word))),
    O::new("    --connections N", "live connections at once in event mode (10000)",
        |args, word| put(&mut args.connections, whole(word, 1..=CONNECTIONS_MAX).map(Some))),
    O::new("-t, --threads N", "live connections at once in pool mode (512)",
        |args, word| put(&mut args.threads, whole(word, 1..=THREADS_MAX).map(Some))),
    O::new("    --max-request SIZE", "the largest request (1M)",
        |args, word| put(&mut args.max_request, size(word, REQUEST_BYTES_MAX))),
    O::new("    --max-memory SIZE", "the most that keys and values may hold (no limit)",
        |args, word| put(&mut args.max_memory, size(word, MEMORY_BYTES_MAX).map(Some))),
    O::new("    --journal FILE", "keep the table in FILE, and begin with what is there",
        |args, word| put(&mut args.journal, Ok(Some(word.into())))),
    O::new("    --sync WHEN", "what acknowledged writes survive, with --journal:\nalways (the default): a power failure; everysec: the same\nafter a second; no: the end of the server alone",
        |args, word| put(&mut args.sync, sync(word))),
    O::new("    --idle SECS", "the longest silence between requests (300, iterative 10)",
        |args, word| put(&mut args.idle, seconds(word, MILLISECOND).map(Some))),
    O::new("    --deadline SECS", "for a request once begun, and for a reply to be taken (10)",
        |args, word| put(&mut args.deadline, seconds(word, MILLISECOND))),
    O::new("    --action NAME=PROGRAM", "answer requests NAME by what PROGRAM writes, and '*=PROGRAM'\nwhatever has no other name (repeatable)",
        |args, word| action(word).map(|action| args.actions.push(action))),
    O::new("    --action-timeout SECS", "for a program to end (5)",
        |args, word| put(&mut args.limits.timeout, seconds(word, MILLISECOND))),
    O::new("    --action-jobs N", "programs running at once (16)",
        |args, word| put(&mut args.limits.jobs_max, whole(word, 1..=JOBS_MAX))),
    O::new("    --allow-exec", "offer EXEC: who knows the token may run any program",
        |args, _| put(&mut args.allow_exec, Ok(true))),
    O::new("    --token-file FILE", "clients must show the token, FILE's first line;\nST_TOKEN can hold it too",
        |args, word| put(&mut args.token_file, Ok(Some(word.into())))),
    O::new("    --insecure", "listen beyond this machine without a token",
        |args, _| put(&mut args.insecure, Ok(true))),
    O::new("-q, --quiet", "log errors only", |args, _| put(&mut args.level, Ok(Level::Error))),
    O::new("-v, --verbose", "log requests, 20 a second; more are counted", |args, _| put(&mut args.level, Ok(Level::Debug))),
    O::HELP,
];

/// Understands the words after `server`. The defaults are the library's.
pub(super) fn parse(words: &mut WordReader<'_>) -> Result<ServerArgs, Problem> {
    words.topic = Topic::Server;
    let Options { mode, request_bytes_max, idle, deadline, .. } = Options::default();
    let mut args = ServerArgs {
        address: ADDRESS_DEFAULT.into(),
        mode,
        max_request: request_bytes_max,
        idle,
        deadline,
        max_memory: None,
        journal: None,
        sync: SyncPolicy::Always,
        limits: Limits::default(),
        actions: Vec::new(),
        allow_exec: false,
        token_file: None,
        insecure: false,
        level: Level::Info,
        threads: None,
        connections: None,
    };
    words.skip_help();
    if let Some(word) = words.around(OPTIONS, &mut args)? {
        args.address = text(word).map_err(|_| Problem::NotUtf8("ADDR"))?;
    }
    // Only now is it known which mode came last.
    match &mut args.mode {
        Mode::Event { connections } => *connections = args.connections.unwrap_or(*connections),
        Mode::Pool { threads } => *threads = args.threads.unwrap_or(*threads),
        Mode::Iterative | Mode::Once => {}
    }
    if args.journal.is_none() && words.given("sync") {
        return Err(Problem::Needs("--sync".into(), "--journal FILE".into()));
    }
    // Without a token everybody on this machine could run programs as us.
    if args.allow_exec && args.token_file.is_none() && words.variable(TOKEN_VARIABLE).is_none() {
        return Err(Problem::Needs("--allow-exec".into(), "--token-file or ST_TOKEN".into()));
    }
    Ok(args)
}

/// Each has its usual number of clients until all words have been read: `-t` may come last.
pub(super) fn mode(word: OsString) -> Result<Mode, String> {
    match word.to_str() {
        Some("event") => Ok(Mode::EVENT),
        Some("pool") => Ok(Mode::POOL),
        Some("iterative") => Ok(Mode::Iterative),
        Some("once") => Ok(Mode::Once),
        _ => Err("event, pool, iterative or once".into()),
    }
}

fn sync(word: OsString) -> Result<SyncPolicy, String> {
    let found = SyncPolicy::ALL.into_iter().find(|(_, name)| word.to_str() == Some(name));
    found.map(|(policy, _)| policy).ok_or_else(|| "always, everysec or no".into())
}

/// The path is absolute: what a server runs should not depend on where it was started.
fn action(word: OsString) -> Result<(String, PathBuf), String> {
    match word.to_str().and_then(|word| word.split_once('=')) {
        Some((name, path)) if !name.is_empty() && path.starts_with('/') => Ok((name.into(), path.into())),
        _ => Err("NAME=/PATH/TO/PROGRAM".into()),
    }
}

/// Serves until SIGINT or SIGTERM, or in mode `once` until a request is answered. The address goes to
/// `stdout`, in one line, as soon as clients can connect; events go to `stderr`.
///
/// The order matters. The token comes first, since it decides whether an address may be listened on
/// at all. The port is taken before anything is said, so that a port in use ends the start without
/// a line on stdout.
pub(super) fn serve(
    program: &str,
    args: &ServerArgs,
    env: Env<'_>,
    mut stdout: Stdout,
    stderr: Stderr,
) -> Result<(), Trouble> {
    let cannot_start = |error| Trouble::local("cannot start", error);
    // It is read once: a file that changes while the server runs changes nothing.
    let token = Token::find(args.token_file.as_deref(), env(TOKEN_VARIABLE))?;
    let server = bind(program, args, token.is_some())?;
    let log = Log::new(args.level, stderr).map_err(cannot_start)?;
    let panics = log.clone();
    // A panic is told by where it was, since its message may quote a client. By itself the thread would write to
    // stderr, and wait for ever where that is a pipe that nobody reads.
    panic::set_hook(Box::new(move |panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        panics.event(Level::Error, "panic", &[("at", &at)]);
    }));
    let store = open(args, &log)?;
    // Every file named by the options has been opened, and programs' paths are absolute. Programs
    // are to run in the root; were each sent there as it starts, a static binary could only fork
    // for it.
    env::set_current_dir("/").map_err(cannot_start)?;
    adopt_orphans().map_err(cannot_start)?;
    let address = server.address();
    server.shutdown_handle().on_signals().map_err(cannot_start)?;
    // A closed pipe is a failure here: whoever started us would never learn where the server is.
    writeln!(stdout, "{address}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Trouble::local("cannot write to stdout", error))?;
    // A token keeps strangers from writing, not from listening: on its way it can be read like all
    // else.
    if !address.ip().is_loopback() {
        let advice =
            format!("nothing is encrypted here; safer: ssh -L 7777:127.0.0.1:{} HOST", address.port());
        log.event(Level::Info, "exposed", &[("address", &address), ("advice", &advice)]);
    }
    log.event(Level::Info, "listening", &[("address", &address)]);
    let options = Options {
        mode: args.mode,
        request_bytes_max: args.max_request,
        idle: args.idle,
        deadline: args.deadline,
        store: Arc::new(store),
        token,
        log: log.clone(),
    };
    let ended = server.options(options).run().map_err(|error| Trouble::local("the server has ended", error));
    end_orphans();
    // What came last is most often what is looked for.
    log.flush();
    ended
}

/// The table: that of the journal, if there is one.
fn open(args: &ServerArgs, log: &Log) -> Result<Store, Trouble> {
    let Some(path) = &args.journal else { return Ok(Store::new(args.max_memory)) };
    survive_size_limit();
    let begun = Instant::now();
    let progress = |records: u64| {
        if records.is_multiple_of(RECORDS_TOLD) {
            log.event(Level::Info, "journal_loading", &[("records", &records)]);
        }
    };
    let (store, found) = Store::open(args.max_memory, path, args.sync, progress)
        .map_err(|error| Trouble { exit: Exit::Local, text: error.to_string() })?;
    let (path, seconds) = (path.display(), format!("{:.3}", begun.elapsed().as_secs_f64()));
    if found.torn > 0 {
        let moved = format!("{path}.broken");
        let fields: [(&str, &dyn Display); 4] =
            [("path", &path), ("at", &found.end), ("bytes", &found.torn), ("moved_to", &moved)];
        log.event(Level::Info, "journal_torn", &fields);
    }
    let keys = store.count("");
    let fields: [(&str, &dyn Display); 4] =
        [("path", &path), ("records", &found.records), ("keys", &keys), ("seconds", &seconds)];
    log.event(Level::Info, "journal", &fields);
    Ok(store)
}

/// A server that has its port and its actions. One that other machines can reach must have a token,
/// or whoever scans the network could write to it.
fn bind(program: &str, args: &ServerArgs, has_token: bool) -> Result<Server, Trouble> {
    let usage = |problem: &dyn Display| Trouble::usage(program, Topic::Server, problem);
    let address = Address::parse(&args.address).and_then(|address| address.resolve());
    // A host's name that leads nowhere is no address of this machine, now or later. To a client it
    // may be a name server that is down, hence another exit code there.
    let addresses = address.map_err(|error| usage(&error))?;
    // A name may stand for several addresses. One that others can reach is enough to refuse them
    // all.
    let exposed = addresses.iter().find(|address| !address.ip().is_loopback());
    if let Some(address) = exposed.filter(|_| !has_token && !args.insecure) {
        return Err(Trouble::input(format!(
            "{address} can be reached from other machines, and whoever reaches it can write: \
             set a token with --token-file FILE or ST_TOKEN, or say --insecure"
        )));
    }
    // The words were right; whether the port can be had is up to this machine, and may change.
    let mut server = Server::bind_to(&addresses)
        .map_err(|error| Trouble { exit: Exit::Local, text: error.to_string() })?;
    server.actions().limits = args.limits;
    server.actions().exec_allowed = args.allow_exec;
    for (name, path) in &args.actions {
        let program = Program::new(path).map_err(|error| usage(&error))?;
        server = server.action_by(name, program).map_err(|error| usage(&error))?;
    }
    Ok(server)
}
