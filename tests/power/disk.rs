//! A disk whose power may fail: what is safe on it, what was asked of it since, and which states that may leave.
//!
//! - Of a file, what had been written when a sync began is there when it has ended.
//! - Of what was written since, any blocks may be there, be as they were before, or be as some of the writes left them.
//! - A block that lies behind the safe length, or whose bytes were zeros, may hold garbage where it was written; the
//!   bytes that were not written stay.
//! - A length that has changed since may be the old one, the new one, or one between.
//! - Of names that were given or taken since the folder was synced, any of these changes may be lost.

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::recorded::Operation;

/// What a file has been asked for since it was last synced.
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate { length: usize },
}

#[derive(Default)]
struct File {
    /// Its content, as of the last sync.
    safe: Vec<u8>,
    /// As far as this it has been written to and synced, not only made so long.
    reserved: usize,
    since: Vec<Change>,
    /// How many of these had been asked for when a sync began.
    begun: usize,
}

type Names = BTreeMap<String, usize>;

/// What happened to a name: it is that of this file from now on, or of none.
type Renaming = Vec<(String, Option<usize>)>;

/// A folder and its files, by their numbers.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    names: Names,
    safe_names: Names,
    since: Vec<Renaming>,
    begun: usize,
    open: HashMap<i64, Opened>,
}

#[derive(Clone, Copy)]
enum Opened {
    Folder,
    File(usize),
}

/// The files of a folder, as a power failure has left them.
pub type Left = BTreeMap<String, Vec<u8>>;

/// Numbers that look random and are the same in each run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// True so many times in eight.
    fn eighths(&mut self, eighths: u64) -> bool {
        self.below(8) < eighths
    }

    /// How many of a sequence count: most often none, or all.
    fn of(&mut self, all: usize) -> usize {
        match self.below(4) {
            0 => 0,
            1 => all,
            _ => self.below(all as u64 + 1) as usize,
        }
    }
}

impl Disk {
    /// These files are on it, and safe.
    pub fn new(files: Left) -> Disk {
        let mut disk = Disk::default();
        for (name, safe) in files {
            disk.names.insert(name, disk.files.len());
            disk.files.push(File { reserved: safe.len(), safe, ..File::default() });
        }
        disk.safe_names = disk.names.clone();
        disk
    }

    /// Whether a power failure could take anything.
    pub fn is_safe(&self) -> bool {
        self.since.is_empty() && self.files.iter().all(|file| file.since.is_empty())
    }

    /// Whether this descriptor is that of the file which has this name.
    pub fn is(&self, file: i64, name: &str) -> bool {
        match (self.open.get(&file), self.names.get(name)) {
            (Some(Opened::File(opened)), Some(named)) => opened == named,
            _ => false,
        }
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether a power failure could take this name from the file that has it.
    pub fn may_lose(&self, name: &str) -> bool {
        self.since.iter().flatten().any(|(other, _)| other == name)
    }

    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::OpenFolder { file } => drop(self.open.insert(*file, Opened::Folder)),
            Operation::Open { file, name, creates, empties } => self.open(*file, name, *creates, *empties),
            Operation::Close { file } => drop(self.open.remove(file)),
            Operation::Rename { from, to } => {
                let file = self.names[from];
                self.rename(vec![(from.clone(), None), (to.clone(), Some(file))]);
            }
            Operation::Unlink { name } => self.rename(vec![(name.clone(), None)]),
            Operation::Write { file, at, bytes } => {
                let (at, is_journal) = (*at as usize, self.is(*file, crate::JOURNAL));
                let Some(file) = self.file(*file) else { return };
                let is_reserved = at + bytes.len() <= file.reserved || bytes.iter().all(|byte| *byte == 0);
                assert!(is_reserved || !is_journal, "a record was written where nothing is reserved");
                file.since.push(Change::Write { at, bytes: bytes.clone() });
            }
            Operation::Truncate { file, length } => {
                let length = *length as usize;
                self.file(*file).unwrap().since.push(Change::Truncate { length });
            }
            Operation::SyncBegins { file } => match self.open.get(file) {
                Some(Opened::Folder) => self.begun = self.since.len(),
                _ => drop(self.file(*file).map(|file| file.begun = file.since.len())),
            },
            Operation::SyncEnds { file } => match self.open.get(file) {
                Some(Opened::Folder) => {
                    self.since
                        .drain(..self.begun)
                        .for_each(|renaming| rename(&mut self.safe_names, renaming));
                }
                _ => drop(self.file(*file).map(File::sync)),
            },
            Operation::Untold { file } => {
                assert!(
                    !self.is(*file, crate::JOURNAL),
                    "the journal was written by a call that is not understood"
                );
            }
            Operation::Sent { .. } => {}
        }
    }

    fn open(&mut self, file: i64, name: &str, creates: bool, empties: bool) {
        if creates && !self.names.contains_key(name) {
            self.files.push(File::default());
            self.rename(vec![(name.to_owned(), Some(self.files.len() - 1))]);
        }
        let number = self.names[name];
        self.open.insert(file, Opened::File(number));
        if empties {
            self.files[number].since.push(Change::Truncate { length: 0 });
        }
    }

    fn file(&mut self, file: i64) -> Option<&mut File> {
        match self.open.get(&file)? {
            Opened::File(number) => Some(&mut self.files[*number]),
            Opened::Folder => None,
        }
    }

    fn rename(&mut self, renaming: Renaming) {
        rename(&mut self.names, renaming.clone());
        self.since.push(renaming);
    }

    /// One of the states that a power failure may leave.
    pub fn left(&self, random: &mut Random) -> Left {
        let mut names = self.safe_names.clone();
        let (first, each) = (random.of(self.since.len()), random.eighths(2));
        for (at, renaming) in self.since.iter().enumerate() {
            if if each { random.eighths(4) } else { at < first } {
                rename(&mut names, renaming.clone());
            }
        }
        names.into_iter().map(|(name, file)| (name, self.files[file].left(random))).collect()
    }
}

fn rename(names: &mut Names, renaming: Renaming) {
    for (name, file) in renaming {
        match file {
            Some(file) => drop(names.insert(name, file)),
            None => drop(names.remove(&name)),
        }
    }
}

/// What becomes of a block that was written since the last sync.
#[derive(Clone, Copy)]
enum Fate {
    /// It is as it was after so many writes.
    After(usize),
    Garbage(u64),
    Zeros,
}

impl Fate {
    /// In so many of eight it is kept, unless it is among the others that are spoilt.
    fn draw(random: &mut Random, kept: u64, spoilt: u64, writes: usize) -> Fate {
        match () {
            () if random.eighths(spoilt) => Fate::Garbage(random.below(u64::MAX)),
            () if random.eighths(spoilt) => Fate::Zeros,
            () if random.eighths(kept) => Fate::After(writes),
            () if random.eighths(2) => Fate::After(random.below(writes as u64 + 1) as usize),
            () => Fate::After(0),
        }
    }
}

impl File {
    fn sync(&mut self) {
        for change in self.since.drain(..self.begun) {
            match change {
                Change::Write { at, bytes } => {
                    let end = at + bytes.len();
                    self.safe.resize(self.safe.len().max(end), 0);
                    self.safe[at..end].copy_from_slice(&bytes);
                    self.reserved = self.reserved.max(end);
                }
                Change::Truncate { length } => {
                    self.safe.resize(length, 0);
                    self.reserved = self.reserved.min(length);
                }
            }
        }
        self.begun = 0;
    }

    fn left(&self, random: &mut Random) -> Vec<u8> {
        let mut left = self.safe.clone();
        if self.since.is_empty() {
            return left;
        }
        // The first so many changes count for the length, and what was written before the last truncation is gone.
        let measured = random.of(self.since.len());
        let mut from = 0;
        for (at, change) in self.since[..measured].iter().enumerate() {
            match change {
                Change::Write { at, bytes } => left.resize(left.len().max(at + bytes.len()), 0),
                Change::Truncate { length } => {
                    left.resize(*length, 0);
                    from = at + 1;
                }
            }
        }
        let block = if random.eighths(4) { 4096 } else { 512 };
        let (kept, spoilt) = (random.below(9), random.below(9) / 3);
        let mut fates = HashMap::new();
        for (turn, change) in self.since.iter().enumerate().skip(from) {
            let Change::Write { at, bytes } = change else { continue };
            let (mut at, mut bytes) = (*at, &bytes[..]);
            while !bytes.is_empty() && at < left.len() {
                let here = bytes.len().min(block - at % block).min(left.len() - at);
                let draw = || Fate::draw(random, kept, spoilt, self.since.len());
                let fate = *fates.entry(at / block).or_insert_with(draw);
                self.write(&mut left[at..at + here], at, &bytes[..here], fate, turn);
                (at, bytes) = (at + here, &bytes[here..]);
            }
        }
        left
    }

    /// Writes to a piece of a block what its fate makes of these bytes.
    fn write(&self, left: &mut [u8], at: usize, bytes: &[u8], fate: Fate, turn: usize) {
        let mut garbage = match fate {
            Fate::After(turns) if turn < turns => return left.copy_from_slice(bytes),
            Fate::After(_) => return,
            Fate::Garbage(seed) => Some(Random(seed)),
            Fate::Zeros => None,
        };
        for (place, byte) in left.iter_mut().enumerate() {
            // What was no zero is not lost by being written again.
            if self.safe.get(at + place).is_none_or(|byte| *byte == 0) {
                *byte = garbage.as_mut().map_or(0, |random| random.below(256) as u8);
            }
        }
    }
}
