//! `st bench`: loads a server, and tells how many requests a second it answers and how long a client waits.
//!
//! Every run has the same parts: all keys are set, so that each GET finds its value; a tenth of the load is run and not
//! counted, so that caches are warm and memory is there; the load is run and counted; at a server that was named, the keys
//! are deleted. Where no
//! address is given it serves the table itself, on threads of this process, so that one command gives a first number.
//!
//! What is asked, and what it must be answered, is in `workload`; the sending and receiving in `generator`; the threads
//! that do it in `load`. Here is what people see of it. Left out: several loads in one call, and a rate to hold. Two lines
//! of shell do the first, and for the second a closed loop is the wrong tool.

use std::ffi::OsString;
use std::io::{Stdout, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::generator::{Endpoint, Progress, Tally};
use super::load::{Load, Total};
use super::message::{Exit, Messages, Problem, Topic, Trouble};
use super::server::mode;
use super::words::{Env, MILLISECOND, Opt, WordReader, put, seconds, size, text, whole};
use super::workload::{Target, Verb, Workload};
use crate::client::{Client, ClientOptions};
use crate::json::{Number, Object, Value};
use crate::protocol::{Address, TOKEN_VARIABLE, Token};
use crate::server::{Mode, Options, Server};
use crate::sys::raise_descriptors;

/// How long the load is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// For so many requests, rounded up to whole batches.
    Requests(u64),
    /// For this time.
    Time(Duration),
}

/// What `st bench` was told.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchArgs {
    /// Whom to load; a server of its own where nobody is named.
    pub address: Option<String>,
    /// How many connections there are.
    pub connections: usize,
    /// What is asked on each.
    pub workload: Workload,
    /// How long.
    pub length: Length,
    /// What a server of its own is like.
    pub mode: Mode,
    /// The result is one JSON object.
    pub json: bool,
    /// Where the token is.
    pub token_file: Option<PathBuf>,
}

/// Each is a socket here, and in a server of its own one more. A client machine has some 28,000 ports for one server.
const CONNECTIONS_MAX: u64 = 20_000;
/// So many requests in one write are more than any client sends.
const DEPTH_MAX: u64 = 10_000;
/// A value has to fit into a request, and a server takes 1 MiB where nothing else was said.
const VALUE_BYTES_MAX: u64 = 1_000_000;
/// A key is told by ten digits.
const KEYS_MAX: u64 = 1_000_000_000;
/// A batch is held whole, several times.
const BATCH_BYTES_MAX: usize = 4 << 20;
type O = Opt<BenchArgs>;

/// Every option of `st bench`. The letters are those of `redis-benchmark` where it has one.
#[rustfmt::skip]
pub(super) const OPTIONS: &[O] = &[
    O::new("-c, --connections N", "connections at once (50)",
        |args, word| put(&mut args.connections, whole(word, 1..=CONNECTIONS_MAX))),
    O::new("-P, --depth N", "requests that a connection sends before it waits for their\nreplies (1)",
        |args, word| put(&mut args.workload.depth, whole(word, 1..=DEPTH_MAX))),
    O::new("-n, --requests N", "how many in all, rounded up to whole batches (100000)",
        |args, word| put(&mut args.length, whole(word, 1..=1_000_000_000_000).map(Length::Requests))),
    O::new("    --seconds SECS", "for so long, instead of -n",
        |args, word| put(&mut args.length, seconds(word, MILLISECOND).map(Length::Time))),
    O::new("-d, --bytes SIZE", "the length of a value (32)",
        |args, word| put(&mut args.workload.bytes, size(word, VALUE_BYTES_MAX))),
    O::new("-r, --keys N", "how many keys, taken at random (10000)",
        |args, word| put(&mut args.workload.keys, whole(word, 1..=KEYS_MAX))),
    O::new("-w, --writes PERCENT", "how many of a hundred requests are UPDATE, not GET (10)",
        |args, word| put(&mut args.workload.writes, whole(word, 0..=100))),
    O::new("-m, --mode MODE", "of a server of its own: event (the default), pool,\nor iterative, with -c 1",
        |args, word| put(&mut args.mode, mode(word))),
    O::new("    --against SERVER", "what is at ADDR, to compare: redis or memcached",
        |args, word| put(&mut args.workload.target, target(word))),
    O::new("-j, --json", "one JSON object, times in microseconds", |args, _| put(&mut args.json, Ok(true))),
    O::new("    --token-file FILE", "the token is FILE's first line; ST_TOKEN can hold it too",
        |args, word| put(&mut args.token_file, Ok(Some(word.into())))),
    O::HELP,
];

fn target(word: OsString) -> Result<Target, String> {
    match word.to_str() {
        Some("redis") => Ok(Target::Redis),
        Some("memcached") => Ok(Target::Memcached),
        _ => Err("redis or memcached".into()),
    }
}

/// Understands the words after `bench`. What they ask for must be possible: a load that waits for ever for its second
/// connection is found out here.
pub(super) fn parse(words: &mut WordReader<'_>) -> Result<BenchArgs, Problem> {
    words.topic = Topic::Bench;
    let workload = Workload { target: Target::St, depth: 1, bytes: 32, keys: 10_000, writes: 10 };
    let mut args = BenchArgs {
        address: None,
        connections: 50,
        workload,
        length: Length::Requests(100_000),
        mode: Mode::EVENT,
        json: false,
        token_file: None,
    };
    words.skip_help();
    let address = words.around(OPTIONS, &mut args)?;
    args.address = address.map(text).transpose().map_err(|_| Problem::NotUtf8("ADDR"))?;
    let Workload { target, depth, bytes, .. } = args.workload;
    let wants = |what: &str, value: String, expected: String| {
        Err(Problem::BadValue { what: what.into(), value, expected })
    };
    if words.given("requests") && words.given("seconds") {
        return Err(Problem::Exclusive("--requests", "--seconds"));
    }
    if args.address.is_some() && words.given("mode") {
        return Err(Problem::Exclusive("--mode", "ADDR"));
    }
    if args.address.is_none() && target != Target::St {
        return Err(Problem::Needs("--against".into(), "ADDR".into()));
    }
    if depth * bytes > BATCH_BYTES_MAX {
        let expected = format!("a depth that times --bytes makes {BATCH_BYTES_MAX} at most");
        return wants("--depth", depth.to_string(), expected);
    }
    match args.mode {
        Mode::Event { .. } => args.mode = Mode::Event { connections: args.connections + SPARE },
        Mode::Pool { .. } => args.mode = Mode::Pool { threads: args.connections + SPARE },
        Mode::Iterative if args.connections > 1 => {
            return wants("--connections", args.connections.to_string(), "1 in mode iterative".into());
        }
        Mode::Iterative => {}
        Mode::Once => return wants("--mode", "once".into(), "event, pool or iterative".into()),
    }
    Ok(args)
}

/// Places of a server of our own beside those of the load: one connection asks for its figures.
const SPARE: usize = 8;

/// Loads the server that `args` name, or one of our own, and writes what came of it.
pub(super) fn run_bench(
    args: &BenchArgs,
    env: Env<'_>,
    stdout: Stdout,
    stderr: &mut Messages,
) -> Result<(), Trouble> {
    // Two for each connection, where the server is our own. Where the system grants fewer, connecting fails and says so.
    let _ = raise_descriptors(2 * args.connections as u64 + 1024);
    let target = args.workload.target;
    if let Some(address) = &args.address {
        let address =
            Address::parse(address).map_err(|error| Trouble::usage(&stderr.program, Topic::Bench, error))?;
        let token = Token::find(args.token_file.as_deref(), env(TOKEN_VARIABLE))?;
        return measure(args, &Endpoint { address, target, token }, stdout, stderr);
    }
    let server = Server::bind("127.0.0.1:0")
        .map_err(|error| Trouble { exit: Exit::Local, text: error.to_string() })?
        .options(Options { mode: args.mode, ..Options::default() });
    let ended = |error| Trouble::local("the server has ended", error);
    let server = server.start().map_err(ended)?;
    let address = server.address().to_string();
    let address = Address::parse(&address).expect("what the system calls an address is one");
    let done = measure(args, &Endpoint { address, target, token: None }, stdout, stderr);
    server.shutdown();
    done.and(server.join().map_err(ended))
}

/// All parts of a run, and its report.
fn measure(
    args: &BenchArgs,
    endpoint: &Endpoint,
    mut stdout: Stdout,
    stderr: &mut Messages,
) -> Result<(), Trouble> {
    let mode = serving_mode(args, endpoint, &stderr.program)?;
    let mut load = Load::connect(endpoint, args.connections, stderr)?;
    let (workload, connections) = (&args.workload, args.connections as u64);
    load.sweep(workload, Verb::Set, "setting keys")?;
    let ring = workload.ring();
    let batches = |requests: u64| requests.div_ceil(workload.depth as u64);
    let (warm_up, length) = match args.length {
        Length::Requests(requests) => {
            (Total::Batches(batches(requests / 10)), Total::Batches(batches(requests)))
        }
        Length::Time(time) => (Total::Time(time / 10), Total::Time(time)),
    };
    // Each connection has a turn before it counts.
    load.run("warming up", &ring, Total::Batches(connections))?;
    load.run("warming up", &ring, warm_up)?;
    let tally = load.run("measuring", &ring, length)?;
    // One that was told to stop leaves nothing behind either.
    load.progress = Progress::default();
    if args.address.is_some() {
        load.sweep(workload, Verb::Delete, "deleting keys")?;
    }
    load.stderr.clear();
    if tally.requests == 0 {
        return Err(Trouble { exit: Exit::No, text: "interrupted before anything was counted".into() });
    }
    let report = match args.json {
        true => format!("{}\n", json(args, endpoint, mode, &tally)),
        false => table(args, endpoint, mode, &tally),
    };
    stdout.write_all(report.as_bytes()).map_err(Trouble::output)?;
    match tally.first_wrong {
        Some(first) => {
            let text = format!("{}: {} wrong replies, the first: {first}", endpoint.address, tally.wrong);
            Err(Trouble { exit: Exit::Refused, text })
        }
        None => Ok(()),
    }
}

/// The mode of a server of ours. Asking for it finds out, before much is made ready, whether it is there and lets us in.
fn serving_mode(args: &BenchArgs, endpoint: &Endpoint, program: &str) -> Result<Option<String>, Trouble> {
    if endpoint.target != Target::St {
        return endpoint.connect().map(|_| None);
    }
    let options = ClientOptions { token: endpoint.token.clone(), ..ClientOptions::default() };
    let info = Client::new(endpoint.address.clone(), options).call("INFO", None)?;
    let mode = info.get("mode").and_then(Value::as_str).map(str::to_owned);
    if args.connections > 1 && mode.as_deref() == Some("iterative") {
        let text = format!("{} serves one client after another: add -c 1", endpoint.address);
        return Err(Trouble::usage(program, Topic::Bench, text));
    }
    Ok(mode)
}

/// The times that are told, by the names of the columns.
fn times(tally: &Tally) -> [(&'static str, Duration); 4] {
    let times = &tally.times;
    [
        ("p50", times.per_mille(500)),
        ("p99", times.per_mille(990)),
        ("p99.9", times.per_mille(999)),
        ("max", times.max()),
    ]
}

/// For people: what was done in a line, then a line each.
fn table(args: &BenchArgs, endpoint: &Endpoint, mode: Option<String>, tally: &Tally) -> String {
    let Workload { depth, bytes, keys, writes, .. } = args.workload;
    let mode = mode.map_or(String::new(), |mode| format!(", mode {mode}"));
    let seconds = tally.elapsed.as_secs_f64();
    let mut text = format!(
        "{}{mode}: connections {}, depth {depth}, keys {keys}, bytes a value {bytes}, writes {writes}%\n\n\
         requests    {} in {seconds:.2} s\nrequests/s  {:.0}\n",
        endpoint.address,
        args.connections,
        tally.requests,
        tally.requests as f64 / seconds
    );
    for (name, time) in times(tally) {
        text += &format!("{name:<11} {:.3} ms\n", time.as_secs_f64() * 1e3);
    }
    text + &format!("wrong       {}\n", tally.wrong)
}

/// For programs.
fn json(args: &BenchArgs, endpoint: &Endpoint, mode: Option<String>, tally: &Tally) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    let Workload { depth, bytes, keys, writes, .. } = args.workload;
    let microseconds = |time: Duration| float(time.as_nanos() as f64 / 1e3);
    let latency: Object = times(tally).map(|(name, time)| (name, microseconds(time))).into_iter().collect();
    let members: [(&str, Value); 12] = [
        ("address", endpoint.address.to_string().into()),
        ("mode", mode.map_or(Value::Null, Value::from)),
        ("connections", args.connections.into()),
        ("depth", depth.into()),
        ("keys", keys.into()),
        ("bytes", bytes.into()),
        ("writes", writes.into()),
        ("requests", tally.requests.into()),
        ("seconds", float(tally.elapsed.as_secs_f64())),
        ("requests_per_second", float(tally.requests as f64 / tally.elapsed.as_secs_f64())),
        ("latency_us", latency.into()),
        ("wrong", tally.wrong.into()),
    ];
    Value::Object(members.into_iter().collect())
}
