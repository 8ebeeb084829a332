//! Leases and taking, from the store to the wire: against a model with a clock of its own, in three dialects, across
//! restarts, and by many takers at once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use socket_tables::json::{JsonText, Value};
use socket_tables::protocol::{Condition, Scope};
use socket_tables::session::{Core, Session};
use socket_tables::store::{ChangeKind, Store};

use crate::session::{core, feed};
use crate::support::{Server, run, st};

/// A store whose clock stands still until it is set.
fn store() -> (Store, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let hand = clock.clone();
    (Store::new(None).with_clock(Box::new(move || hand.load(SeqCst))), clock)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[derive(Clone, Debug)]
enum Step {
    /// To this value, for so long or for ever, and perhaps only where there is none.
    Set(String, i64, Option<u64>, bool),
    Add(String, Option<u64>),
    Delete(String),
    Take(String),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop::sample::select(vec!["a", "ab", "b", "c", "é"]).prop_map(str::to_owned);
    let ttl = || prop::option::of(prop_oneof![Just(1), 1..50_u64, Just(365 * 24 * 60 * 60 * 1000)]);
    prop_oneof![
        4 => (key(), 0..3_i64, ttl(), any::<bool>()).prop_map(|(k, v, ttl, absent)| Step::Set(k, v, ttl, absent)),
        2 => (key(), ttl()).prop_map(|(k, ttl)| Step::Add(k, ttl)),
        1 => key().prop_map(Step::Delete),
        1 => prop::sample::select(vec!["", "a", "x"]).prop_map(|p| Step::Take(p.to_owned())),
        3 => prop_oneof![Just(0), Just(1), 1..60_u64].prop_map(Step::Pass),
    ]
}

/// What a table with leases is: values, and the moment at which each is gone.
#[derive(Default)]
struct Model(BTreeMap<String, (i64, Option<u64>)>);

impl Model {
    fn pass(&mut self, now: u64) {
        self.0.retain(|_, (_, until)| until.is_none_or(|until| until > now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_steps_leave_the_store_as_the_model_says(steps in prop::collection::vec(step(), 0..80)) {
        let (store, clock) = store();
        let watcher = store.watch(Scope::Prefix("".into()), false);
        let (mut model, mut told) = (Model::default(), BTreeMap::new());
        for step in steps {
            let now = clock.load(SeqCst);
            match step {
                Step::Set(key, value, ttl, absent) => {
                    let condition = absent.then_some(Condition::Absent);
                    let text = JsonText::parse(&value.to_string()).unwrap().into_owned();
                    let set = store.update(&key, &text, condition.as_ref(), ttl.map(ms)).is_ok();
                    prop_assert_eq!(set, !(absent && model.0.contains_key(&key)));
                    if set {
                        model.0.insert(key, (value, ttl.map(|ttl| now + ttl)));
                    }
                }
                Step::Add(key, ttl) => {
                    let entry = model.0.entry(key.clone()).or_insert((0, None));
                    *entry = (entry.0 + 1, ttl.map(|ttl| now + ttl).or(entry.1));
                    prop_assert_eq!(store.increment(&key, 1, ttl.map(ms)), Ok(i128::from(entry.0)));
                }
                Step::Delete(key) => {
                    let old = store.delete(&key, None).unwrap().map(|old| old.to_string());
                    prop_assert_eq!(old, model.0.remove(&key).map(|(value, _)| value.to_string()));
                }
                Step::Take(prefix) => {
                    let taken = store.take_first(&prefix).unwrap().map(|(key, old)| (key, old.to_string()));
                    let first = model.0.keys().find(|key| key.starts_with(&prefix)).cloned();
                    let first = first.map(|key| { let (value, _) = model.0.remove(&key).unwrap(); (key, value.to_string()) });
                    prop_assert_eq!(taken, first);
                }
                Step::Pass(time) => {
                    clock.fetch_add(time, SeqCst);
                    store.expire_some().unwrap();
                    model.pass(now + time);
                }
            }
            let now = clock.load(SeqCst);
            let mut all = BTreeMap::new();
            store.list("", None, |key, entry| {
                all.insert(key.to_owned(), (entry.value.parse::<i64>().unwrap(), entry.until)).is_none()
            });
            prop_assert_eq!(&all, &model.0);
            for (key, (_, until)) in &all {
                prop_assert_eq!(store.ttl(key), Some(until.map(|until| ms(until - now))));
            }
            prop_assert_eq!(store.ttl("missing"), None);
            // Watchers see the end of a lease as any deletion.
            while let Ok(Some(waiting)) = watcher.take() {
                let change = &waiting.change;
                match change.event {
                    ChangeKind::Update => told.insert(change.key.clone(), change.text.to_string()),
                    ChangeKind::Delete => told.remove(&change.key),
                };
            }
            let values = model.0.iter().map(|(key, (value, _))| (key.clone(), value.to_string()));
            prop_assert_eq!(&told, &values.collect::<BTreeMap<_, _>>());
        }
    }
}

#[test]
fn not_many_expire_at_a_time_and_those_first_that_are_due_first() {
    let (store, clock) = store();
    for n in 0..800_u64 {
        store.update(&format!("k{n:03}"), &JsonText::NULL, None, Some(ms(1_000 - n))).unwrap();
    }
    clock.fetch_add(1_000, SeqCst);
    let (mut left, mut steps) = (800, 0);
    while left > 0 {
        store.expire_some().unwrap();
        let now = store.count("");
        // What is overdue is told as a time that can be written again.
        assert!(store.ttl("k000").is_none_or(|left| left == Some(ms(1))));
        assert!(left - now <= 256, "{left} to {now}");
        // The first of the keys has the longest time.
        assert!(store.get("k000", |value| value.is_some()) == (now > 0));
        (left, steps) = (now, steps + 1);
    }
    assert!(steps >= 4);
}

#[test]
fn a_thread_expires_keys_when_they_are_due_and_ends_when_it_is_told() {
    let store = Store::new(None);
    let flags = [AtomicBool::new(false), AtomicBool::new(false)];
    thread::scope(|scope| {
        let expiring = flags.each_ref().map(|flag| scope.spawn(|| store.expire(flag)));
        store.update("late", &JsonText::NULL, None, Some(Duration::from_secs(3_600))).unwrap();
        // This one is due before the one that is waited for.
        store.update("soon", &JsonText::NULL, None, Some(ms(20))).unwrap();
        crate::server::eventually(|| store.count("") == 1);
        assert!(store.get("late", |value| value.is_some()));
        // Of two, each ends when it is told, and not before.
        store.end_expiry(&flags[0]);
        let [first, second] = expiring;
        first.join().unwrap();
        store.update("soon", &JsonText::NULL, None, Some(ms(20))).unwrap();
        crate::server::eventually(|| store.count("") == 1);
        store.end_expiry(&flags[1]);
        second.join().unwrap();
    });
}

/// In a core whose clock stands still.
fn still() -> (Core, Arc<AtomicU64>) {
    let (store, clock) = store();
    (Core { store: Arc::new(store), ..core() }, clock)
}

fn ask(core: &Core, sent: &str) -> String {
    feed(&mut Session::new(core), [sent.as_bytes()])
}

fn frame(payload: &str) -> String {
    format!("{:<64}{payload}", payload.len())
}

#[test]
fn the_three_dialects_say_the_same_of_leases() {
    let (core, clock) = still();
    let set =
        r#"{"request":"UPDATE","key":"k","value":"v","ttl":2.5}{"request":"UPDATE","key":"p","value":1}"#;
    assert_eq!(ask(&core, set), "{\"key\":\"k\",\"value\":\"v\"}\n{\"key\":\"p\",\"value\":1}\n");
    clock.fetch_add(500, SeqCst);
    let rows = [("k", "2"), ("p", "null")];
    for (key, seconds) in rows {
        let json = format!(r#"{{"request":"TTL","key":"{key}"}}"#);
        let told = format!("{{\"key\":\"{key}\",\"value\":{seconds}}}");
        assert_eq!(ask(&core, &json), format!("{told}\n"));
        assert_eq!(ask(&core, &format!("TTL {key}\n")), format!("MSG {seconds}\n"));
        assert_eq!(ask(&core, &frame(&json)), frame(&told));
        assert_eq!(ask(&core, &frame(&format!("ttl {key}"))), frame(seconds));
    }
    assert_eq!(ask(&core, "TTL x\n"), "MSG null\n");
    assert_eq!(ask(&core, r#"{"request":"TTL","key":"x"}"#), ask(&core, r#"{"request":"GET","key":"x"}"#));
    // A listing tells what is left, and nothing of what is for ever.
    let listed = "[{\"key\":\"k\",\"value\":\"v\",\"ttl\":2},{\"key\":\"p\",\"value\":1}]";
    assert_eq!(ask(&core, r#"{"request":"GETALL"}"#), format!("{listed}\n"));
    assert_eq!(ask(&core, "GETALL\n"), format!("MSG {listed}\n"));
    assert_eq!(ask(&core, &frame("GETALL")), frame(listed));
}

#[test]
fn the_three_dialects_say_the_same_of_taking() {
    let keys = ["q/2", "q/1", "r"];
    let sent: String = keys
        .iter()
        .map(|key| format!(r#"{{"request":"UPDATE","key":"{key}","value":"of {key}"}}"#))
        .collect();
    let (core, _) = still();
    let by_prefix = r#"{"request":"TAKE","prefix":"q/"}"#;
    ask(&core, &sent);
    assert_eq!(ask(&core, by_prefix), "{\"key\":\"q/1\",\"value\":\"of q/1\"}\n");
    assert_eq!(ask(&core, &frame(by_prefix)), frame("{\"key\":\"q/2\",\"value\":\"of q/2\"}"));
    let none = ask(&core, by_prefix);
    assert!(
        none.contains("\"found\":false") && none.contains("\"value\":null") && !none.contains("key"),
        "{none}"
    );
    assert_eq!(ask(&core, r#"{"request":"TAKE","prefix":""}"#), "{\"key\":\"r\",\"value\":\"of r\"}\n");
    ask(&core, &sent);
    assert_eq!(ask(&core, "TAKE r\n"), "MSG of r\n");
    assert_eq!(ask(&core, &frame("TAKE q/2")), frame("of q/2"));
    assert_eq!(ask(&core, r#"{"request":"TAKE","key":"q/1"}"#), "{\"key\":\"q/1\",\"value\":\"of q/1\"}\n");
    assert_eq!(ask(&core, "TAKE r\n"), "MSG null\n");
    assert_eq!(ask(&core, r#"{"request":"COUNT"}"#), "{\"value\":0}\n");
    for wrong in [r#"{"request":"TAKE"}"#, r#"{"request":"TAKE","key":"a","prefix":"b"}"#] {
        assert!(ask(&core, wrong).contains("bad_request"), "{wrong}");
    }
}

#[test]
fn a_time_to_live_is_taken_from_a_millisecond_to_a_year() {
    let good = [
        ("0.001", 1),
        ("0.0005", 1),
        ("1", 1_000),
        ("1e1", 10_000),
        ("2.0004", 2_000),
        ("31536000", 31_536_000_000),
    ];
    let bad = [
        "0",
        "0.0004",
        "-1",
        "31536000.001",
        "31536001",
        "1e9",
        "1e400",
        "\"5\"",
        "null",
        "[1]",
        "true",
        "-0",
    ];
    for name in ["UPDATE", "INCREMENT"] {
        let request = |ttl: &str| format!(r#"{{"request":"{name}","key":"k","value":1,"ttl":{ttl}}}"#);
        for (ttl, left) in good {
            let (core, _) = still();
            assert_eq!(ask(&core, &request(ttl)), "{\"key\":\"k\",\"value\":1}\n", "{ttl}");
            assert_eq!(core.store.ttl("k"), Some(Some(ms(left))), "{ttl}");
        }
        for ttl in bad {
            let (core, _) = still();
            let said = ask(&core, &request(ttl));
            let expected = r#"{"key":"k","error":{"code":"bad_request","message":"the member \"ttl\" must be a number of seconds from 0.001 to 31536000"}}"#;
            assert_eq!(said.trim_end(), expected, "{ttl}");
            assert_eq!(core.store.count(""), 0);
        }
    }
    let twice = r#"{"request":"UPDATE","key":"k","value":1,"ttl":1,"ttl":2}"#;
    assert!(ask(&core(), twice).contains("stands there twice"));
}

#[test]
fn a_write_without_a_time_makes_a_key_permanent_and_counting_does_not() {
    let (core, clock) = still();
    let (update, increment) =
        (r#"{"request":"UPDATE","key":"n","value":1"#, r#"{"request":"INCREMENT","key":"n""#);
    ask(&core, &format!("{update},\"ttl\":1}}"));
    clock.fetch_add(400, SeqCst);
    ask(&core, &format!("{increment}}}"));
    assert_eq!(core.store.ttl("n"), Some(Some(ms(600))));
    ask(&core, &format!("{increment},\"ttl\":9}}"));
    assert_eq!(core.store.ttl("n"), Some(Some(ms(9_000))));
    ask(&core, &format!("{update}}}"));
    assert_eq!(core.store.ttl("n"), Some(None));
    // A write that is refused changes no time.
    ask(&core, &format!("{update},\"ttl\":1,\"if\":{{\"equals\":7}}}}"));
    assert_eq!(core.store.ttl("n"), Some(None));
}

/// A queue under kills: a taker that breaks off may have taken a job that it never hears of, and no job comes twice.
#[test]
fn each_job_is_given_at_most_once_and_none_is_left() {
    const JOBS: usize = 10_000;
    let server = Server::start(&[]);
    let lines: String = (0..JOBS).map(|n| format!("{{\"key\":\"queue/{n:05}\",\"value\":{n}}}\n")).collect();
    assert!(run(&mut st(&["client", "-a", &server.addr, "load"]), lines.as_bytes()).status.success());
    let taker = &|seed: u64| {
        let (mut random, mut jobs, mut broken) = (seed, Vec::new(), 0);
        loop {
            let mut stream = TcpStream::connect(&server.addr).unwrap();
            let mut replies = BufReader::new(stream.try_clone().unwrap());
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // So many at a time, and after so many it hangs up without a word.
            let (batch, patience) = (1 + (random >> 33) % 8, (random >> 40) % 60);
            for _ in 0..patience {
                stream
                    .write_all(
                        "{\"request\":\"TAKE\",\"prefix\":\"queue/\"}".repeat(batch as usize).as_bytes(),
                    )
                    .unwrap();
                for _ in 0..batch {
                    let mut line = String::new();
                    replies.read_line(&mut line).unwrap();
                    match Value::parse(&line).unwrap().get("value").and_then(Value::as_number) {
                        Some(job) => jobs.push(job.as_i64().unwrap()),
                        None => return (jobs, broken),
                    }
                }
            }
            stream.write_all(b"{\"request\":\"TAKE\",\"prefix\":\"queue/\"}").unwrap();
            broken += 1;
        }
    };
    let taken: Vec<(Vec<i64>, usize)> = thread::scope(|scope| {
        let takers: Vec<_> = (1..4).map(|seed| scope.spawn(move || taker(seed))).collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).collect()
    });
    let broken: usize = taken.iter().map(|(_, broken)| broken).sum();
    let mut jobs: Vec<i64> = taken.iter().flat_map(|(jobs, _)| jobs.iter().copied()).collect();
    // Each taker gets them in their order.
    assert!(taken.iter().all(|(jobs, _)| jobs.is_sorted() && !jobs.is_empty()));
    jobs.sort_unstable();
    let all = jobs.len();
    jobs.dedup();
    assert_eq!(jobs.len(), all, "one was given twice");
    assert!(broken > 10 && all + broken >= JOBS, "{all} of {JOBS}, {broken} broke off");
    let count = run(&mut st(&["client", "-a", &server.addr, "count"]), b"");
    assert_eq!(String::from_utf8(count.stdout).unwrap(), "0\n");
}
