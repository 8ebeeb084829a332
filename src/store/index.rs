//! The hash index: from a key's hash to the number of its slot.
//!
//! Open addressing with linear probing: one flat array, no pointer to follow, and neighbours share a
//! cache line. A cell holds a slot's number and 32 bits of hash, eight bytes in all; `std`'s
//! `HashMap` would hold the 16-byte entry itself, and at its lowest load cost twice the memory.
//! Growing needs no key to be read again, since a cell's hash bits are enough to place it.
//! Removal shifts the cells behind back (Knuth, TAOCP volume 3, section 6.4, algorithm R), so there
//! are no tombstones and a table that lives for months does not slow down.

/// The cell with no slot. Slot numbers stay below `u32::MAX`.
const EMPTY: Cell = Cell { slot: u32::MAX, hash: 0 };

#[derive(Clone, Copy)]
struct Cell {
    slot: u32,
    hash: u32,
}

/// Slots by hash. Whoever asks says which slot is the right one, by `eq`.
pub struct Index {
    /// A power of two of cells, at most three quarters of them taken, or none at all.
    cells: Vec<Cell>,
    len: usize,
}

impl Index {
    pub fn new() -> Index {
        Index { cells: Vec::new(), len: 0 }
    }

    /// The slot with this hash for which `eq` holds.
    pub fn find(&self, hash: u32, eq: impl Fn(u32) -> bool) -> Option<u32> {
        self.cell(hash, eq).map(|at| self.cells[at].slot)
    }

    /// Adds a slot that is not in the index yet.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            let larger = vec![EMPTY; (self.cells.len() * 2).max(8)];
            let cells = std::mem::replace(&mut self.cells, larger);
            cells.into_iter().filter(|cell| cell.slot != EMPTY.slot).for_each(|cell| self.place(cell));
        }
        self.place(Cell { slot, hash });
        self.len += 1;
    }

    /// Takes a slot out.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let Some(mut hole) = self.cell(hash, |found| found == slot) else { return };
        let mask = self.cells.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell.slot == EMPTY.slot {
                break;
            }
            // A cell may move back into the hole unless its home lies behind the hole.
            let home = cell.hash as usize & mask;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = EMPTY;
        self.len -= 1;
    }

    fn cell(&self, hash: u32, eq: impl Fn(u32) -> bool) -> Option<usize> {
        let mask = self.cells.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            let cell = self.cells[at];
            if cell.slot == EMPTY.slot {
                return None;
            }
            if cell.hash == hash && eq(cell.slot) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn place(&mut self, cell: Cell) {
        let mask = self.cells.len() - 1;
        let mut at = cell.hash as usize & mask;
        while self.cells[at].slot != EMPTY.slot {
            at = (at + 1) & mask;
        }
        self.cells[at] = cell;
    }
}
