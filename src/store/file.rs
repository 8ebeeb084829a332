//! The journal's file: records are appended, synced, and room for more is reserved. It knows no lock and no thread.
//!
//! Room is reserved by writing zeros ahead and syncing them. Then a record that is appended changes blocks that
//! the file has: it cannot fail for want of space, and syncing it need not write the file's length and its list
//! of blocks as well. So a full disk is met where nothing has been promised yet, by [`LogFile::extend`], and
//! may be tried again. A failure of [`LogFile::append`] or [`LogFile::sync`] is of another kind: the kernel may
//! have dropped what it could not write, and have it succeed the next time, with the records gone. So after one
//! such failure the file is never used again.
//!
//! What is assumed of a disk: a block that is written anew keeps the bytes that do not change, even if power fails.
//!
//! A new file is a draft, FILE.tmp, until it is whole and synced; then it takes FILE's name. So FILE is always
//! a whole journal.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::Table;
use super::record::{Record, header, seal};
use super::recovery::{Fault, Found, JournalError, read};
use crate::sys::is_open_once;

/// Room that is reserved at a time. A sync of a mebibyte takes a few milliseconds, in which nothing else is synced.
pub(super) const RESERVE_BYTES: u64 = 1 << 20;
/// What is given back at a time of a file that is not needed any more, and how long the disk then has for others.
const DISCARDED_BYTES: usize = 8 << 20;
const DISCARD_REST: Duration = Duration::from_millis(10);
/// What is read at once, and written at once of zeros.
const PIECE_BYTES: usize = 64 << 10;
/// Of buffers, what is kept after a burst.
pub(super) const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// How far a journal's file has come.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    /// How many records it has; they are numbered from 1.
    pub records: u64,
    /// How many of them are known to be durable, and since when.
    pub synced: u64,
    pub synced_at: Instant,
    /// Where the next one goes.
    pub end: u64,
}

/// A journal's file, open for appending.
pub(super) struct LogFile {
    file: File,
    pub extent: Extent,
    /// Up to here there are zeros behind the end, and they are durable.
    reserved: u64,
    /// The error with which writing or syncing has failed.
    failure: Option<i32>,
    buffer: Vec<u8>,
}

impl LogFile {
    /// Opens a journal, or begins one, and tells each of its records. What a crash has left is cleared away.
    pub fn open(path: &Path, tell: impl FnMut(&Record<'_>)) -> Result<(LogFile, Found), Fault> {
        if !path.exists() {
            let begun = LogFile::draft(path).and_then(|mut draft| draft.publish(path, RESERVE_BYTES));
            begun.map_err(|error| {
                let _ = fs::remove_file(beside(path, ".tmp"));
                Fault::Io("create", error)
            })?;
        }
        let (file, found) = open_alone(path, tell)?;
        if found.damage.is_some() {
            return Err(Fault::Damaged(found));
        }
        cut(path, &file, &found).map_err(|error| Fault::Io("trim", error))?;
        // A compaction that did not finish may have left this.
        let _ = fs::remove_file(beside(path, ".tmp"));
        let mut log = LogFile::over(file, found.records, found.end);
        // Where the disk is full there is no room now, and what has been written can still be read.
        let _ = log.extend(RESERVE_BYTES);
        Ok((log, found))
    }

    /// A new file, beside the one that has this path.
    pub fn draft(path: &Path) -> io::Result<LogFile> {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(beside(path, ".tmp"))?;
        file.try_lock()?;
        let header = header();
        file.write_all_at(&header, 0)?;
        Ok(LogFile::over(file, 0, header.len() as u64))
    }

    fn over(file: File, records: u64, end: u64) -> LogFile {
        let extent = Extent { records, synced: records, synced_at: Instant::now(), end };
        LogFile { file, extent, reserved: end, failure: None, buffer: Vec::new() }
    }

    /// Gives a draft so much room, makes all of it durable, and gives it the journal's name. The name itself is
    /// durable only after [`sync_folder`].
    pub fn publish(&mut self, path: &Path, room: u64) -> io::Result<()> {
        self.extend(room)?;
        if let Ok(old) = fs::metadata(path) {
            self.file.set_permissions(old.permissions())?;
        }
        fs::rename(beside(path, ".tmp"), path)
    }

    /// Writes records, one for each of these lines, which are effects. They are durable after the next sync.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let (mut n, b) = (self.extent.records, self.extent.synced + 1);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            n += 1;
            seal(&mut self.buffer, n, b, line);
        }
        self.once(|log| log.file.write_all_at(&log.buffer, log.extent.end))?;
        self.extent.records = n;
        self.extent.end += self.buffer.len() as u64;
        Ok(())
    }

    /// Makes all records durable.
    pub fn sync(&mut self) -> io::Result<()> {
        // Also where there is nothing to sync: a draft whose last batch could not be written must not be published.
        self.once(|log| if log.is_synced() { Ok(()) } else { log.file.sync_data() })?;
        if !self.is_synced() {
            (self.extent.synced, self.extent.synced_at) = (self.extent.records, Instant::now());
        }
        Ok(())
    }

    /// Whether all records are known to be durable.
    pub fn is_synced(&self) -> bool {
        self.extent.synced == self.extent.records
    }

    /// How many bytes can be appended.
    pub fn room(&self) -> u64 {
        self.reserved.saturating_sub(self.extent.end)
    }

    /// Whether it is time to reserve more.
    pub fn is_short(&self) -> bool {
        self.room() < RESERVE_BYTES / 2
    }

    /// Reserves so many bytes more, or as many as there are on the disk. This may be tried again after a failure:
    /// the zeros are written anew then.
    pub fn extend(&mut self, more: u64) -> io::Result<()> {
        // A sync tells of a failure once. It must not be records that this one is about.
        self.sync()?;
        let from = self.reserved.max(self.extent.end);
        let (mut to, mut written) = (from, Ok(()));
        let zeros = vec![0; PIECE_BYTES];
        while to < from + more && written.is_ok() {
            let zeros = &zeros[..PIECE_BYTES.min((from + more - to) as usize)];
            written = self.file.write_all_at(zeros, to);
            to += written.as_ref().map_or(0, |()| zeros.len() as u64);
        }
        self.file.sync_data()?;
        self.reserved = to;
        written
    }

    /// Gives back the room of a file that was replaced, a little at a time: while the system frees 200 MB at once, every
    /// sync waits for 50 ms. But whoever has made a link to it, or is copying it, keeps it whole.
    pub fn discard(self) {
        if self.file.metadata().map_or(true, |file| file.nlink() > 0) || !is_open_once(&self.file) {
            return;
        }
        for length in (0..self.reserved).rev().step_by(DISCARDED_BYTES) {
            let _ = self.file.set_len(length);
            thread::sleep(DISCARD_REST);
        }
    }

    /// Does this, and never again once it has failed.
    fn once(&mut self, then: impl FnOnce(&LogFile) -> io::Result<()>) -> io::Result<()> {
        if let Some(code) = self.failure {
            return Err(io::Error::from_raw_os_error(code));
        }
        then(self).inspect_err(|error| self.failure = Some(error.raw_os_error().unwrap_or_default()))
    }
}

fn open(options: &OpenOptions, path: &Path) -> Result<File, Fault> {
    // To open a pipe could take for ever.
    if !fs::metadata(path).map_err(|error| Fault::Io("open", error))?.is_file() {
        return Err(Fault::NotAJournal);
    }
    options.open(path).map_err(|error| Fault::Io("open", error))
}

/// Opens a journal's file, keeps others away from it, and tells each of its records. The lock comes first: what is found
/// must be all that there is.
fn open_alone(path: &Path, tell: impl FnMut(&Record<'_>)) -> Result<(File, Found), Fault> {
    let file = open(File::options().read(true).write(true), path)?;
    lock(&file)?;
    let found = read_file(&file, tell)?;
    Ok((file, found))
}

fn read_file(file: &File, tell: impl FnMut(&Record<'_>)) -> Result<Found, Fault> {
    read(BufReader::with_capacity(PIECE_BYTES, file), tell)
}

/// Reads a journal and changes nothing: what was found, how many keys its table has, and whether another process uses
/// it. Then it has been read while it was written, and nothing is told of what follows the good records.
pub fn check_journal(path: &Path) -> Result<(Found, usize, bool), JournalError> {
    let mut table = Table::default();
    let read = open(File::options().read(true), path).and_then(|file| {
        let found = read_file(&file, |record| record.redo(&mut table))?;
        Ok((file, found))
    });
    let (file, mut found) = read.map_err(|fault| JournalError { path: path.to_owned(), fault })?;
    let is_in_use = file.try_lock_shared().is_err();
    if is_in_use {
        (found.torn, found.damage) = (0, None);
    }
    Ok((found, table.count(""), is_in_use))
}

/// Keeps a journal's longest good beginning, and moves the rest to FILE.broken, even if it was durable.
pub fn repair_journal(path: &Path) -> Result<Found, JournalError> {
    with_lock(path, |path| {
        let (file, found) = open_alone(path, |_| {})?;
        cut(path, &file, &found).map_err(|error| Fault::Io("trim", error))?;
        Ok(found)
    })
    .map(|(_, _, found)| found)
}

/// Does this with a journal that no other process uses, by its name without links. None will for as long as the file in
/// the result is open.
pub(super) fn with_lock<T>(
    path: &Path,
    then: impl FnOnce(&Path) -> Result<T, Fault>,
) -> Result<(PathBuf, File, T), JournalError> {
    let resolved = resolve(path).map_err(|error| Fault::Io("reach", error));
    let done = resolved.and_then(|resolved| {
        let opened = File::options().create(true).append(true).mode(0o600).open(beside(&resolved, ".lock"));
        let locked = opened.map_err(|error| Fault::Io("lock", error))?;
        lock(&locked)?;
        let done = then(&resolved)?;
        Ok((resolved, locked, done))
    });
    done.map_err(|fault| JournalError { path: path.to_owned(), fault })
}

/// The same path without symbolic links, so that a journal has one name, one lock and one draft.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        // A link that leads nowhere is refused: the file would take the place of the link.
        Err(error) if error.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err() => {
            let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
            let folder = path.parent().filter(|folder| *folder != "").unwrap_or(Path::new("."));
            Ok(fs::canonicalize(folder)?.join(name))
        }
        resolved => resolved,
    }
}

/// FILE.tmp, FILE.broken, FILE.lock.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Keeps other processes away for as long as the file is open. FILE.lock is one of its own, since a compaction replaces
/// the journal's; the journal's is locked as well, since by a hard link it has another name.
fn lock(file: &File) -> Result<(), Fault> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Fault::Locked,
        TryLockError::Error(error) => Fault::Io("lock", error),
    })
}

/// Makes durable which file has which name in the folder of this one.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Takes off what follows the good records, and keeps it in FILE.broken if there is anything but zeros. All
/// that is left is durable then, the file's name included.
fn cut(path: &Path, mut file: &File, found: &Found) -> io::Result<()> {
    if found.torn > 0 {
        let broken = File::options().create(true).append(true).mode(0o600).open(beside(path, ".broken"));
        let mut broken = broken?;
        file.seek(SeekFrom::Start(found.end))?;
        io::copy(&mut file.take(found.torn), &mut broken)?;
        broken.sync_all()?;
    }
    sync_folder(path)?;
    file.set_len(found.end)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_that_lacks_a_batch_is_not_published() {
        let folder = std::env::temp_dir().join(format!("st-file-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("j");
        let mut draft = LogFile::draft(&path).unwrap();
        let writable = std::mem::replace(&mut draft.file, File::open(beside(&path, ".tmp")).unwrap());
        assert!(draft.append(b"\"delete\":\"k\"}\n").is_err());
        draft.file = writable;
        assert!(draft.publish(&path, RESERVE_BYTES).is_err() && !path.exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
