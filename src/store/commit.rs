//! The committer: writes what waits, syncs it, and tells who waits for that.
//!
//! It is a function, and whoever calls it gives it a thread: the server has one for it, a test calls a step at
//! a time.
//!
//! # Compaction
//!
//! A journal grows by each change, and the table need not. So a new file is begun beside it, the draft. From
//! then on each batch is written to both, and behind each batch the draft gets a piece of the table, in the
//! order of keys, as records that set each key to the value that it has. When the last key is in, the draft
//! holds the whole table, and takes the journal's name.
//!
//! Why that is right, while keys change under way: a record is an effect, which may be carried out twice. Take
//! any key. Where it changes while the draft is being written, the last of these changes is a record of the
//! draft, and if the key was copied after it, then it was copied as this change left it. Where it does not
//! change, it was copied as it is. Only the last piece may show changes whose records still wait, and not others that
//! came before them. So the draft takes the name behind the next batch, which has all of these.
//!
//! No client waits for it longer than for one piece. Until the rename, the journal is the file that it was:
//! whatever fails before, the draft is thrown away, and nothing is lost.

use std::fs;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use super::Store;
use super::file::{LogFile, RESERVE_BYTES, beside, sync_folder};
use super::journal::{Draft, Files, Journal, SyncPolicy};
use super::record::write_effect;
use super::recovery::{Fault, JournalError};

const SECOND: Duration = Duration::from_secs(1);
/// A shorter journal is not compacted: it is read in a moment.
const COMPACT_BYTES_MIN: u64 = 16 << 20;
/// What a draft gets of the table at a time. Whoever waits for a sync waits for this, too.
const PIECE_BYTES: u64 = 256 << 10;
/// How long others have the files between two pieces. A lock is no queue: without this a writer in pool mode waited for
/// half a second.
const PIECE_REST: Duration = Duration::from_millis(1);
/// When a compaction is tried again that has failed: a disk may have room by then.
const RETRY: Duration = Duration::from_secs(10);
/// The longest wait for others to take part in a commit.
const GATHER_MAX: Duration = Duration::from_millis(5);

impl Store {
    /// Writes changes to the journal and syncs it, after [`Journal::begin`] and until [`Journal::close`] is called and all
    /// has been written. Without a journal it returns at once. A failure is the end of the journal: what was not
    /// acknowledged by then never will be.
    pub fn commit(&self) -> Result<(), JournalError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        // Should this panic, those who wait must learn of it as they learn of a failure.
        let committed = catch_unwind(AssertUnwindSafe(|| self.commit_all(journal)));
        journal.end();
        committed
            .unwrap_or_else(|_| Err(io::Error::other("a panic")))
            .map_err(|error| JournalError { path: journal.path.clone(), fault: Fault::Io("write", error) })
    }

    fn commit_all(&self, journal: &Journal) -> io::Result<()> {
        let (mut awaited, mut due, mut stepped) = (journal.settled() + 1, None, Instant::now());
        let (mut group, mut took) = (0, Duration::ZERO);
        loop {
            let mut is_last = journal.await_work(awaited, due);
            if journal.policy == SyncPolicy::Always {
                // Those whose changes were in the last group ask for the next ones about now. Without this they and
                // those who came meanwhile take turns, and each sync serves half of them: 50 clients got 8% less.
                let rest = GATHER_MAX.min(took / 4);
                is_last |= journal.await_work(journal.settled() + group, Some(Instant::now() + rest));
            }
            let (begun, before) = (Instant::now(), journal.settled());
            let is_due = begun >= stepped + SECOND;
            if is_due {
                stepped = begun;
            }
            let files = &mut *journal.files();
            self.commit_once(journal, files, is_due || is_last)?;
            (group, took) = (journal.settled() - before, begun.elapsed());
            if is_last {
                return Ok(());
            }
            let next_piece = files.draft.is_some().then(|| Instant::now() + PIECE_REST);
            (awaited, due) = match journal.policy {
                SyncPolicy::EverySecond | SyncPolicy::No if next_piece.is_some() => (u64::MAX, next_piece),
                SyncPolicy::EverySecond | SyncPolicy::No if !is_due => (u64::MAX, Some(stepped + SECOND)),
                SyncPolicy::Always | SyncPolicy::EverySecond | SyncPolicy::No => {
                    (journal.settled() + 1, next_piece)
                }
            };
        }
    }

    /// One step: what waits is written, and synced if the policy is to sync always, or each second and it `is_due`.
    fn commit_once(&self, journal: &Journal, files: &mut Files, is_due: bool) -> io::Result<()> {
        let change = journal.write(files)?;
        match journal.policy {
            SyncPolicy::Always => files.log.sync()?,
            SyncPolicy::EverySecond if is_due => files.log.sync()?,
            SyncPolicy::EverySecond | SyncPolicy::No => {}
        }
        journal.settle(files, change);
        if files.log.is_short() {
            // Where it fails, the next write that needs room finds out.
            let _ = files.log.extend(RESERVE_BYTES);
            journal.note(files);
        }
        self.compact(journal, files)
    }

    /// A step of compaction, if one is under way or due.
    fn compact(&self, journal: &Journal, files: &mut Files) -> io::Result<()> {
        let length_max = COMPACT_BYTES_MIN.max(2 * files.compacted).max(2 * self.bytes() as u64);
        let is_due =
            files.log.extent.end >= length_max && files.retry_at.is_none_or(|at| at <= Instant::now());
        if files.draft.is_none() && !is_due {
            return Ok(());
        }
        match self.write_draft(journal, files) {
            Ok(None) => {}
            Ok(Some(draft)) => {
                let old = mem::replace(&mut files.log, draft);
                // Where this fails, nobody knows which of the two files a power failure would leave.
                sync_folder(&journal.path)?;
                let _ = thread::Builder::new().spawn(|| old.discard());
                files.compactions += 1;
                // Without this a table whose records are longer than it thinks would be written again and again.
                files.compacted = files.log.extent.end;
                journal.note(files);
            }
            // The journal is as it was.
            Err(_) => {
                let _ = fs::remove_file(beside(&journal.path, ".tmp"));
                files.retry_at = Some(Instant::now() + RETRY);
            }
        }
        Ok(())
    }

    /// Writes a piece of the table to the draft. Gives it back when it has all, with the journal's name.
    fn write_draft(&self, journal: &Journal, files: &mut Files) -> io::Result<Option<LogFile>> {
        let log_end = files.log.extent.end;
        let mut draft = match files.draft.take() {
            Some(draft) => draft,
            None => Draft { file: LogFile::draft(&journal.path)?, after: None, is_whole: false, log_end },
        };
        if draft.is_whole {
            // What is promised of the old file's room is to be had of the new one's.
            draft.file.publish(&journal.path, files.log.room().max(RESERVE_BYTES))?;
            return Ok(Some(draft.file));
        }
        // Twice what was written since the last piece: clients whose keys only grow would keep ahead of the copy else.
        let piece_bytes = PIECE_BYTES.max(2 * (log_end - draft.log_end)) as usize;
        let (mut piece, mut last) = (Vec::new(), None);
        // A change that has been written has been made before this gets the turn, so no key is copied as it was before.
        let turn = self.turn();
        let is_whole = self.list("", draft.after.as_deref(), |key, entry| {
            write_effect(&mut piece, key, Some(entry));
            let is_full = piece.len() >= piece_bytes;
            if is_full {
                last = Some(key.to_owned());
            }
            !is_full
        });
        drop(turn);
        draft.file.append(&piece)?;
        // Were all of it synced at the end, that would take long, and every sync of the journal with it.
        draft.file.sync()?;
        files.draft = Some(Draft { after: last, is_whole, log_end, ..draft });
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::json::JsonText;
    use crate::store::{Durability, Entry};

    fn all(store: &Store) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        store.list("", None, |key, entry| all.insert(key.to_owned(), entry.value.to_owned()).is_none());
        all
    }

    /// What would be found after a crash at this moment.
    fn found(path: &Path) -> BTreeMap<String, String> {
        let copy = path.with_file_name("copy");
        fs::copy(path, &copy).unwrap();
        all(&Store::open(None, &copy, SyncPolicy::No, |_| {}).unwrap().0)
    }

    /// A folder of our own, and a store whose journal is in it.
    fn store(name: &str, policy: SyncPolicy) -> (PathBuf, Store) {
        let folder = std::env::temp_dir().join(format!("st-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let (store, _) = Store::open(None, &folder.join("j"), policy, |_| {}).unwrap();
        (folder, store)
    }

    fn draft(journal: &Journal, after: Option<String>, log_end: u64) -> Draft {
        Draft { file: LogFile::draft(&journal.path).unwrap(), after, is_whole: false, log_end }
    }

    #[test]
    fn what_a_compaction_leaves_is_a_table_that_there_was() {
        let (folder, store) = store("order", SyncPolicy::Always);
        let path = folder.join("j");
        let journal = store.journal().unwrap();
        let set =
            |key: &str, value: &str| store.update(key, &JsonText::parse(value).unwrap(), None, None).unwrap();
        set("a", "0");
        set("z", "0");
        store.commit_once(journal, &mut journal.files(), false).unwrap();
        // All up to the last key has been copied, when both change and their records still wait.
        let files = &mut *journal.files();
        let mut copied = draft(journal, Some("m".into()), files.log.extent.end);
        let mut line = Vec::new();
        write_effect(&mut line, "a", Some(Entry { value: "0", until: None }));
        copied.file.append(&line).unwrap();
        files.draft = Some(copied);
        set("a", "1");
        set("z", "1");
        store.compact(journal, files).unwrap();
        let found_now = found(&path);
        assert!(found_now["a"] == "1" || found_now["z"] == "0", "a was set before z: {found_now:?}");
        store.commit_once(journal, files, false).unwrap();
        assert_eq!(files.compactions, 1);
        assert_eq!(found(&path), all(&store));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_last_step_syncs_and_there_is_one_committer() {
        let (folder, store) = store("last", SyncPolicy::EverySecond);
        let journal = store.journal().unwrap();
        journal.begin().unwrap();
        assert!(journal.begin().is_err(), "one committer is enough");
        store.update("k", &JsonText::trusted("1"), None, None).unwrap();
        journal.close();
        store.commit().unwrap();
        assert!(journal.files().log.is_synced() && journal.files().log.extent.records == 1);
        assert!(journal.begin().is_ok(), "the one before has ended");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_reserved_is_promised_once_and_some_of_it_to_deletions_alone() {
        let (folder, store) = store("room", SyncPolicy::Always);
        let journal = store.journal().unwrap();
        let most = || (0..2 * RESERVE_BYTES as usize).rev().find(|value| journal.has_room(1, Some(*value)));
        let write = |length: usize| {
            let value = JsonText::trusted(format!("\"{}\"", "v".repeat(length - 2)));
            store.update("k", &value, None, None).unwrap();
        };
        let before = most().unwrap();
        assert!(before as u64 > RESERVE_BYTES / 2 && !journal.has_room(1, Some(before + 1)));
        write(before);
        let promised = journal.files().log.room();
        assert!(most().is_none() && journal.has_room(1, None), "a deletion may be what makes room");
        // More than there is room for: the file is made longer before the change is made.
        write(before + 1);
        assert!(journal.files().log.room() > promised && journal.changes() == 2);
        store.commit_once(journal, &mut journal.files(), false).unwrap();
        let (room, spare) = (journal.files().log.room(), RESERVE_BYTES / 4);
        assert!(
            most().is_some_and(|most| (room - spare - 200..room - spare).contains(&(most as u64))),
            "{room}"
        );
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_table_is_found_at_every_step_of_a_compaction() {
        let (folder, store) = store("commit", SyncPolicy::Always);
        let path = folder.join("j");
        let journal = store.journal.as_ref().unwrap();
        let mut random = 1_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        // Together these keys take some four pieces.
        for step in 0..120 {
            for _ in 0..draw(12) {
                let key = format!("k{}", draw(60));
                let value = format!("\"{step} {}\"", "v".repeat(draw(40_000) as usize));
                match draw(4) {
                    0 => drop(store.delete(&key, None).unwrap()),
                    _ => store.update(&key, &JsonText::trusted(value), None, None).unwrap(),
                }
            }
            if draw(4) == 0 {
                let files = &mut *journal.files();
                let log_end = files.log.extent.end;
                files.draft.get_or_insert_with(|| draft(journal, None, log_end));
            }
            store.commit_once(journal, &mut journal.files(), false).unwrap();
            assert_eq!(found(&path), all(&store), "step {step}");
            assert_eq!(journal.durability(journal.changes()), Durability::Reached);
            // It is taken down when changes are acknowledged: they had been synced by then.
            let info = journal.info();
            assert_eq!(info.get("durable"), info.get("records"), "step {step}");
        }
        let files = journal.files();
        let (compactions, end) = (files.compactions, files.log.extent.end);
        assert!(compactions > 5 && end < 8 << 20, "{compactions} {end}");
        fs::remove_dir_all(folder).unwrap();
    }
}
