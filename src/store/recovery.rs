//! What a journal's bytes hold: the longest good beginning, and what to think of the rest.
//!
//! A crash leaves the last lines half written, or some of their blocks written and others not. That is no
//! damage: nobody was told that these lines were safe. Behind them come the zeros that were reserved. So
//! reading stops at the first line that is not whole, or whose number is not the next, and everything before it
//! counts.
//!
//! But a disk may also lose what was safe, and then to go on without a word would be the worst of answers: keys
//! would be missing and nobody knew. Therefore what comes behind is looked at, too. A record there whose `b` is
//! beyond the bad line says: "when I was written, that line was known to be durable." That proves damage, and
//! is refused. Without such a record the rest is a torn tail. What cannot be told apart is the damage of what
//! was written last of all: nothing behind it bears witness.
//!
//! Nothing here writes, and whatever can be read from is a journal: a test reads from a slice.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use std::{error, fmt};

use super::record::{Record, last_in, parse, read_header, unseal};

/// More than any first line of a journal, of whichever version, has.
const HEADER_BYTES_MAX: u64 = 4096;

/// What was found in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many records are good: all up to this number.
    pub records: u64,
    /// Where the next one would begin.
    pub end: u64,
    /// How many bytes follow there, up to the last one that is not zero.
    pub torn: u64,
    /// The number of a later record which proves that the first bad one had been durable.
    pub damage: Option<u64>,
}

/// Why a journal cannot be used, or can be used no more.
#[derive(Debug)]
pub struct JournalError {
    /// The journal.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a journal.
#[derive(Debug)]
pub enum Fault {
    /// The system would not do this.
    Io(&'static str, io::Error),
    /// Another process uses it.
    Locked,
    /// Its first line is not that of a journal.
    NotAJournal,
    /// It has this version.
    Newer(u64),
    /// The line at this offset is whole, and says what this version does not know.
    NotUnderstood(u64),
    /// What had been durable is damaged.
    Damaged(Found),
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.fault {
            Fault::Io(what, error) => write!(f, "cannot {what} the journal {path}: {error}"),
            Fault::Locked => write!(f, "the journal {path} is in use by another server"),
            Fault::NotAJournal => write!(f, "{path} is not a journal; it was left as it is"),
            Fault::Newer(version) => {
                write!(f, "the journal {path} is of version {version}, which this st does not read")
            }
            Fault::NotUnderstood(at) => {
                write!(f, "the journal {path} says at byte {at} what only a newer st understands")
            }
            Fault::Damaged(Found { end, records, damage, .. }) => write!(
                f,
                "the journal {path} is damaged at byte {end}, in record {}, which was durable when record {} was \
                 written; nothing was changed: restore a copy, or keep the first {records} records by \
                 'st journal repair'",
                records + 1,
                damage.unwrap_or_default()
            ),
        }
    }
}

impl error::Error for JournalError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.fault {
            Fault::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Reads a journal, and tells each good record in order.
pub(super) fn read(mut from: impl BufRead, mut tell: impl FnMut(&Record<'_>)) -> Result<Found, Fault> {
    let failed = |error| Fault::Io("read", error);
    let mut line = Vec::new();
    from.by_ref().take(HEADER_BYTES_MAX).read_until(b'\n', &mut line).map_err(failed)?;
    match read_header(&line) {
        Some(Ok(())) => {}
        Some(Err(version)) => return Err(Fault::Newer(version)),
        None => return Err(Fault::NotAJournal),
    }
    let mut found = Found { end: line.len() as u64, ..Found::default() };
    loop {
        line.clear();
        // There may be gigabytes of zeros: a line of them would be held in memory.
        if from.fill_buf().map_err(failed)?.first() == Some(&0) {
            break;
        }
        from.read_until(b'\n', &mut line).map_err(failed)?;
        let Some(json) = unseal(&line) else { break };
        match parse(json) {
            Some(record) if record.n == found.records + 1 => tell(&record),
            Some(_) => break,
            // It is as it was written, so it is no torn line, and must not be cut off as one.
            None => return Err(Fault::NotUnderstood(found.end)),
        }
        found.records += 1;
        found.end += line.len() as u64;
    }
    let mut passed = 0;
    loop {
        if line.is_empty() {
            passed += skip_zeros(&mut from).map_err(failed)?;
            from.read_until(b'\n', &mut line).map_err(failed)?;
        }
        if line.is_empty() {
            return Ok(found);
        }
        if let Some(last) = line.iter().rposition(|byte| *byte != 0) {
            found.torn = passed + last as u64 + 1;
        }
        found.damage = found.damage.or_else(|| {
            let record = last_in(&line).filter(|record| record.b > found.records + 1);
            record.map(|record| record.n)
        });
        passed += line.len() as u64;
        line.clear();
    }
}

/// Reads on to the next byte that is not zero, and tells how many were.
fn skip_zeros(from: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let bytes = from.fill_buf()?;
        let zeros = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        let is_all = zeros == bytes.len() && zeros > 0;
        from.consume(zeros);
        skipped += zeros as u64;
        if !is_all {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::json::JsonText;
    use crate::store::{Store, SyncPolicy};

    type Map = BTreeMap<String, String>;

    /// A journal as the store writes it: what it was after each batch was synced, how many records that were,
    /// and what the table was after each record.
    struct Recorded {
        states: Vec<(Vec<u8>, u64)>,
        tables: Vec<Map>,
    }

    /// What is written of a store's file, and some of the zeros behind it.
    fn content(path: &Path, store: &Store) -> Vec<u8> {
        let mut bytes = fs::read(path).unwrap();
        bytes.truncate(store.journal.as_ref().unwrap().files().log.extent.end as usize + 1500);
        bytes
    }

    fn record(batches: &[Vec<(u8, Option<u16>)>]) -> Recorded {
        let folder = tempfile();
        let path = folder.join("j");
        let (store, _) = Store::open(None, &path, SyncPolicy::Always, |_| {}).unwrap();
        let mut recorded = Recorded { states: vec![(content(&path, &store), 0)], tables: vec![Map::new()] };
        for batch in batches {
            for (key, value) in batch {
                let (key, mut table) = (format!("k\"{key}"), recorded.tables.last().unwrap().clone());
                match value {
                    Some(value) => {
                        let value = format!("\"{}\"", "v".repeat(usize::from(*value)));
                        store.update(&key, &JsonText::parse(&value).unwrap(), None, None).unwrap();
                        table.insert(key, value);
                    }
                    None if store.delete(&key, None).unwrap().is_none() => continue,
                    None => drop(table.remove(&key)),
                }
                recorded.tables.push(table);
            }
            // Closed before it begins, the committer writes all by one batch and returns.
            store.journal().unwrap().close();
            store.commit().unwrap();
            recorded.states.push((content(&path, &store), recorded.tables.len() as u64 - 1));
        }
        fs::remove_dir_all(folder).unwrap();
        recorded
    }

    fn tempfile() -> PathBuf {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let folder = if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
        let name = format!("st-recovery-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }

    impl Recorded {
        /// Reads a state, and makes sure that the table is one that there was.
        fn judge(&self, bytes: &[u8]) -> Result<Found, Fault> {
            let mut table = Map::new();
            let found = read(bytes, |record| match record.entry {
                Some(entry) => drop(table.insert(record.key.to_string(), entry.value.to_owned())),
                None => drop(table.remove(&*record.key)),
            })?;
            assert_eq!(table, self.tables[found.records as usize], "{found:?}");
            Ok(found)
        }
    }

    fn small() -> Recorded {
        record(&[
            vec![(1, Some(3)), (2, Some(40))],
            vec![(1, None)],
            vec![(3, Some(0)), (3, Some(9)), (2, None)],
            vec![(4, Some(1))],
        ])
    }

    #[test]
    fn what_was_written_is_read() {
        let recorded = small();
        for (bytes, records) in &recorded.states {
            let found = recorded.judge(bytes).unwrap();
            assert_eq!((found.records, found.torn, found.damage), (*records, 0, None));
        }
    }

    #[test]
    fn a_journal_cut_at_any_place_is_one_that_there_was() {
        let recorded = small();
        let (bytes, all) = recorded.states.last().unwrap();
        let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let mut records = 0;
        for cut in 0..bytes.len() {
            match recorded.judge(&bytes[..cut]) {
                Ok(found) => {
                    assert!(cut >= first && found.records >= records && found.damage.is_none(), "{cut}");
                    records = found.records;
                }
                Err(fault) => assert!(cut < first && matches!(fault, Fault::NotAJournal), "{cut}"),
            }
        }
        assert_eq!(records, *all);
    }

    /// Only of what was written last nobody can know whether it was synced.
    #[test]
    fn no_flipped_bit_is_read_and_what_was_durable_is_missed() {
        let recorded = small();
        let (bytes, all) = recorded.states.last().unwrap();
        let (before, durable) = &recorded.states[recorded.states.len() - 2];
        let last = before.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            let judged = recorded.judge(&bytes);
            let place = (at, bit);
            match judged {
                Err(fault) => assert!(at < first && matches!(fault, Fault::NotAJournal), "{place:?}"),
                Ok(found) if at < last => assert!(found.damage.is_some(), "{place:?}: {found:?}"),
                Ok(found) if at < end => {
                    assert_eq!((found.records, found.damage), (*durable, None), "{place:?}")
                }
                Ok(found) => assert_eq!((found.records, found.damage, found.torn > 0), (*all, None, true)),
            }
        }
    }

    fn batches() -> impl Strategy<Value = Vec<Vec<(u8, Option<u16>)>>> {
        let change = (0_u8..4, prop::option::weighted(0.8, 0_u16..300));
        prop::collection::vec(prop::collection::vec(change, 0..12), 1..6)
    }

    /// What a power failure may make of a block that was written and not synced.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Written,
        AsBefore,
        Garbage(u8),
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        /// Blocks are small here, so that many of them make a batch. A block keeps what it had that was durable.
        #[test]
        fn a_power_failure_leaves_what_was_durable(
            batches in batches(),
            at in any::<prop::sample::Index>(),
            block in prop::sample::select(vec![16_usize, 64, 512]),
            fates in prop::collection::vec(prop_oneof![
                Just(Fate::Written), Just(Fate::AsBefore), any::<u8>().prop_map(Fate::Garbage)
            ], 512),
        ) {
            let recorded = record(&batches);
            let at = at.index(batches.len());
            let ((before, durable), (after, written)) = (&recorded.states[at], &recorded.states[at + 1]);
            for turn in 0..40 {
                let mut left = after.clone();
                let mut old = before.clone();
                old.resize(after.len().max(old.len()), 0);
                left.resize(old.len(), 0);
                let fate = |at: usize| fates[(at / block + turn * 7) % fates.len()];
                for (at, byte) in left.iter_mut().enumerate().filter(|(at, byte)| old[*at] != **byte) {
                    match fate(at) {
                        Fate::Written => {}
                        Fate::AsBefore => *byte = old[at],
                        Fate::Garbage(seed) => *byte = seed.wrapping_mul(at as u8) ^ (at >> 3) as u8,
                    }
                }
                let found = recorded.judge(&left).unwrap();
                prop_assert!(found.damage.is_none(), "{found:?}");
                prop_assert!((*durable..=*written).contains(&found.records), "{durable} {written} {found:?}");
            }
        }

        /// What is damaged that a later batch has seen durable is never taken for a torn tail.
        #[test]
        fn a_lost_block_that_was_durable_is_missed(
            batches in batches(),
            at in any::<prop::sample::Index>(),
            length in 1_usize..600,
        ) {
            let recorded = record(&batches);
            let (bytes, _) = recorded.states.last().unwrap();
            let last = recorded.states.windows(2).rev().find(|states| states[0].1 < states[1].1);
            let Some([(before, durable), _]) = last else { return Ok(()) };
            let end = before.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            if first == end {
                return Ok(());
            }
            let at = first + at.index(end - first);
            let mut left = bytes.clone();
            left[at..(at + length).min(end)].fill(0);
            let found = recorded.judge(&left).unwrap();
            prop_assert!(found.damage.is_some() && found.records < *durable, "{found:?}");
        }
    }
}
