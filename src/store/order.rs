//! The ordered index: slot numbers, sorted by key, in blocks.
//!
//! A hash finds a key but cannot list keys in order, and sorting a million keys for every GETALL
//! would hold writers up for a quarter of a second. So the order is kept: a list of sorted blocks, each short
//! enough that making room in its middle is a small move of memory. It is a B-tree with one level, at
//! five bytes a key. Whoever asks compares slots, by a closure; nothing here knows a key.

/// Slots in a block, at most. A full one is split in two.
const BLOCK_SLOTS_MAX: usize = 512;

/// Slots in order.
pub struct Order {
    /// None is empty.
    blocks: Vec<Vec<u32>>,
}

impl Order {
    pub fn new() -> Order {
        Order { blocks: Vec::new() }
    }

    /// Adds `slot` before the first one that is not `less` than it.
    pub fn insert(&mut self, slot: u32, less: impl Fn(u32) -> bool) {
        let (block, at) = self.position(less);
        let Some(slots) = self.blocks.get_mut(block) else {
            return self.append(slot);
        };
        slots.insert(at, slot);
        if slots.len() > BLOCK_SLOTS_MAX {
            let upper = slots.split_off(BLOCK_SLOTS_MAX / 2);
            self.blocks.insert(block + 1, upper);
        }
    }

    /// Takes out the first slot that is not `less`.
    pub fn remove(&mut self, less: impl Fn(u32) -> bool) {
        let (block, at) = self.position(less);
        let Some(slots) = self.blocks.get_mut(block) else { return };
        slots.remove(at);
        if slots.is_empty() {
            self.blocks.remove(block);
        } else if slots.capacity() > 4 * slots.len() {
            slots.shrink_to(2 * slots.len());
        }
    }

    /// The slots from a position on, in order.
    pub fn iter_from(&self, (block, at): (usize, usize)) -> impl Iterator<Item = u32> {
        let first = self.blocks.get(block).map_or(&[][..], |slots| &slots[at..]);
        let others = self.blocks.get(block + 1..).unwrap_or_default();
        first.iter().chain(others.iter().flatten()).copied()
    }

    /// How many slots are `less`.
    pub fn rank(&self, less: impl Fn(u32) -> bool) -> usize {
        let (block, at) = self.position(less);
        self.blocks[..block].iter().map(Vec::len).sum::<usize>() + at
    }

    /// Where the first slot stands that is not `less`: its block and its place there. Past the last
    /// slot that is the block after the last.
    pub fn position(&self, less: impl Fn(u32) -> bool) -> (usize, usize) {
        let block = self.blocks.partition_point(|slots| slots.last().is_some_and(|slot| less(*slot)));
        let at = self.blocks.get(block).map_or(0, |slots| slots.partition_point(|slot| less(*slot)));
        (block, at)
    }

    /// Keys that arrive sorted fill their blocks: a new block is begun where splitting a full one
    /// would leave half of it empty for good.
    fn append(&mut self, slot: u32) {
        match self.blocks.last_mut() {
            Some(last) if last.len() < BLOCK_SLOTS_MAX => last.push(slot),
            _ => self.blocks.push(vec![slot]),
        }
    }
}
