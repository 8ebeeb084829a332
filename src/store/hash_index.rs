//! Finding a key's slot by its hash.

use std::array;
use std::mem;

/// A cell that holds no slot. Slot numbers stay below `u32::MAX`.
const EMPTY: Cell = Cell { slot: u32::MAX, hash: 0 };

#[derive(Clone, Copy)]
struct Cell {
    slot: u32,
    /// The low half of the key's hash. It spares most comparisons of keys, each a likely cache miss, and it is
    /// enough to place the cell again when the index grows.
    hash: u32,
}

/// Finds slots by hash. It has parts, each of which grows by itself: where twelve million cells were placed anew at once, all
/// clients waited for 0.8 s. A hash's highest bits name its part.
pub(super) struct HashIndex([HashPart; HASH_PARTS]);

const HASH_PARTS: usize = 256;
const HASH_PARTS_SHIFT: u32 = u32::BITS - HASH_PARTS.ilog2();

impl Default for HashIndex {
    fn default() -> HashIndex {
        HashIndex(array::from_fn(|_| HashPart { cells: vec![EMPTY; 8], taken: 0 }))
    }
}

impl HashIndex {
    pub fn part(&self, hash: u32) -> &HashPart {
        &self.0[hash as usize >> HASH_PARTS_SHIFT]
    }

    pub fn part_mut(&mut self, hash: u32) -> &mut HashPart {
        &mut self.0[hash as usize >> HASH_PARTS_SHIFT]
    }
}

/// A part of the index: open addressing with linear probing.
///
/// A hash names the cell where a search begins, its home; the search goes on cell by cell until it meets the slot or
/// an empty cell. Neighbouring cells share a cache line, so a search costs one miss as a rule.
pub(super) struct HashPart {
    /// A power of two of cells, at most three quarters of them taken, so every search meets an empty one.
    cells: Vec<Cell>,
    taken: usize,
}

impl HashPart {
    /// The slot with this hash for which `eq` holds.
    pub fn find(&self, hash: u32, eq: impl Fn(u32) -> bool) -> Option<u32> {
        self.probe(hash, eq).ok().map(|at| self.cells[at].slot)
    }

    /// Adds a slot that is not in the index yet.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        self.taken += 1;
        if self.taken * 4 > self.cells.len() * 3 {
            let larger = vec![EMPTY; self.cells.len() * 2];
            let cells = mem::replace(&mut self.cells, larger);
            cells.into_iter().filter(|cell| cell.slot != EMPTY.slot).for_each(|cell| self.place(cell));
        }
        self.place(Cell { slot, hash });
    }

    /// Takes a slot out.
    ///
    /// A search must not stop early at the cell that this empties. A tombstone in it would keep searches going, but
    /// tombstones pile up and a table that lives for months would slow down. So each cell behind it, up to the
    /// next empty one, is placed again.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let Ok(mut at) = self.probe(hash, |found| found == slot) else { return };
        self.cells[at] = EMPTY;
        self.taken -= 1;
        loop {
            at = (at + 1) & (self.cells.len() - 1);
            let cell = mem::replace(&mut self.cells[at], EMPTY);
            if cell.slot == EMPTY.slot {
                return;
            }
            self.place(cell);
        }
    }

    fn place(&mut self, cell: Cell) {
        let (Ok(at) | Err(at)) = self.probe(cell.hash, |_| false);
        self.cells[at] = cell;
    }

    /// The cell whose slot is looked for, or as an error the empty cell that ends the search.
    fn probe(&self, hash: u32, eq: impl Fn(u32) -> bool) -> Result<usize, usize> {
        let mask = self.cells.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let cell = self.cells[at];
            if cell.slot == EMPTY.slot {
                return Err(at);
            }
            if cell.hash == hash && eq(cell.slot) {
                return Ok(at);
            }
            at = (at + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_new_key_has_many_others_placed_anew() {
        let mut index = HashIndex::default();
        for slot in 0..100_000_u32 {
            let hash = slot.wrapping_mul(0x9E37_79B9);
            index.part_mut(hash).insert(hash, slot);
        }
        assert_eq!(index.0.iter().map(|part| part.taken).sum::<usize>(), 100_000);
        assert!(index.0.iter().all(|part| part.cells.len() <= 1 << 11));
    }
}
