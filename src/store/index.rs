//! The two indexes of the table: one finds a key's slot by its hash, one lists the slots in the order of their keys.
//!
//! Both hold slot numbers of four bytes instead of keys, so a key is in memory once. They cannot read a key
//! themselves; the table hands them a closure that compares the key of a slot with the one that is looked for.
//!
//! Why not std's collections: a `HashMap` and a `BTreeMap` would each hold a pointer and a length for every key, 16
//! bytes instead of 4, and neither can tell how many keys begin with a prefix without walking over all of them.

/// A cell that holds no slot. Slot numbers stay below `u32::MAX`.
const EMPTY: Cell = Cell { slot: u32::MAX, hash: 0 };

#[derive(Clone, Copy)]
struct Cell {
    slot: u32,
    /// The low half of the key's hash. It spares most comparisons of keys, each a likely cache miss, and it is
    /// enough to place the cell again when the index grows.
    hash: u32,
}

/// Finds slots by hash: open addressing with linear probing.
///
/// A hash names the cell where a search begins, its home; the search goes on cell by cell until it meets the slot or
/// an empty cell. Neighbouring cells share a cache line, so a search costs one miss as a rule.
pub(super) struct HashIndex {
    /// A power of two of cells, at most three quarters of them taken, so every search meets an empty one.
    cells: Vec<Cell>,
    len: usize,
}

impl Default for HashIndex {
    fn default() -> HashIndex {
        HashIndex { cells: vec![EMPTY; 8], len: 0 }
    }
}

impl HashIndex {
    /// The slot with this hash for which `eq` holds.
    pub fn find(&self, hash: u32, eq: impl Fn(u32) -> bool) -> Option<u32> {
        self.probe(hash, eq).ok().map(|at| self.cells[at].slot)
    }

    /// Adds a slot that is not in the index yet.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        self.len += 1;
        if self.len * 4 > self.cells.len() * 3 {
            let larger = vec![EMPTY; self.cells.len() * 2];
            let cells = std::mem::replace(&mut self.cells, larger);
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
        self.len -= 1;
        self.cells[at] = EMPTY;
        loop {
            at = (at + 1) & (self.cells.len() - 1);
            let cell = std::mem::replace(&mut self.cells[at], EMPTY);
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

/// Slots in a block, at most. Making room in the middle of a full block moves 2 KiB at most.
const BLOCK_SLOTS_MAX: usize = 512;

/// Keeps slots in the order of their keys: a list of sorted blocks, which is a B-tree with one level.
///
/// Without it every listing would sort: a million keys hold writers up for a quarter of a second. It costs 4 bytes
/// a key where keys arrive sorted, and some 6 where they arrive in any other order.
pub(super) struct OrderedIndex {
    /// Never empty; and no block is, unless it is the only one.
    blocks: Vec<Vec<u32>>,
}

impl Default for OrderedIndex {
    fn default() -> OrderedIndex {
        OrderedIndex { blocks: vec![Vec::new()] }
    }
}

/// A place in the order: the number of a block, and a place in it.
type Position = (usize, usize);

impl OrderedIndex {
    /// Where the first slot stands that is not `less`. Behind the last slot that is the end of the last block.
    pub fn position(&self, less: impl Fn(u32) -> bool) -> Position {
        let block = self.blocks.partition_point(|slots| slots.last().is_some_and(|slot| less(*slot)));
        let block = block.min(self.blocks.len() - 1);
        (block, self.blocks[block].partition_point(|slot| less(*slot)))
    }

    /// Adds `slot` before the first one that is not `less` than it.
    pub fn insert(&mut self, slot: u32, less: impl Fn(u32) -> bool) {
        let (mut block, mut at) = self.position(&less);
        if self.blocks[block].len() == BLOCK_SLOTS_MAX {
            // Only the last block is ever added to at its end. Keys that arrive sorted do so all the time; cut in
            // half, each block would stay half empty for good.
            let cut = if at == BLOCK_SLOTS_MAX { at } else { BLOCK_SLOTS_MAX / 2 };
            let upper = self.blocks[block].split_off(cut);
            self.blocks.insert(block + 1, upper);
            (block, at) = self.position(less);
        }
        self.blocks[block].insert(at, slot);
    }

    /// Takes out the first slot that is not `less`. There must be one.
    pub fn remove(&mut self, less: impl Fn(u32) -> bool) {
        let (block, at) = self.position(less);
        let slots = &mut self.blocks[block];
        slots.remove(at);
        if slots.capacity() > 4 * slots.len() {
            slots.shrink_to(2 * slots.len());
        }
        if slots.is_empty() && self.blocks.len() > 1 {
            self.blocks.remove(block);
        }
    }

    /// The slots from a position on, in order.
    pub fn iter_from(&self, (block, at): Position) -> impl Iterator<Item = u32> {
        self.blocks[block][at..].iter().chain(self.blocks[block + 1..].iter().flatten()).copied()
    }

    /// How many slots lie between two positions.
    pub fn distance(&self, (first, start): Position, (last, end): Position) -> usize {
        self.blocks[first..last].iter().map(Vec::len).sum::<usize>() + end - start
    }
}
