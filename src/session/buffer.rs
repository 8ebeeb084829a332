//! The bytes that have arrived and are not yet used.

/// What a connection that says little needs.
const CAPACITY_MIN: usize = 1 << 10;
/// Past this a buffer grows only for a request that does not fit: a read of this size costs the
/// system call so little a request that a larger one would gain nothing.
const CAPACITY_BUSY: usize = 16 << 10;

/// So many reads in a row use little of a buffer before it is made small again.
const READS_SMALL: u32 = 16;

/// A buffer that is read into at its end and consumed from its start. It grows while reads fill
/// it, shrinks when they no longer do, and an idle connection is left with the least.
#[derive(Default)]
pub struct Buffer {
    /// All of it initialised; `start..end` has arrived.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Reads in a row that left most of it unused.
    small: u32,
}

impl Buffer {
    /// Room to read into. Never empty.
    pub fn space(&mut self) -> &mut [u8] {
        let len = self.end - self.start;
        let filled = self.end == self.bytes.len();
        self.small = if len == 0 && self.end < self.bytes.len() / 4 { self.small + 1 } else { 0 };
        let wanted = match self.bytes.len() {
            0 => CAPACITY_MIN,
            // One request fills it all.
            capacity if len == capacity => capacity * 2,
            // It was a large one, and is done.
            capacity if len == 0 && capacity > CAPACITY_BUSY => CAPACITY_BUSY,
            capacity if filled => (capacity * 2).min(CAPACITY_BUSY).max(capacity),
            _ if self.small == READS_SMALL => CAPACITY_MIN,
            capacity => capacity,
        };
        if wanted != self.bytes.len() {
            let mut bytes = vec![0; wanted];
            bytes[..len].copy_from_slice(self.data());
            self.bytes = bytes;
            self.start = 0;
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.start = 0;
        }
        self.end = len;
        &mut self.bytes[len..]
    }

    /// Whether what has arrived fills a small buffer, so that there is most likely more of it.
    pub fn is_small_and_full(&self) -> bool {
        self.end == self.bytes.len() && self.end < CAPACITY_BUSY
    }

    /// This many bytes have been read into [`Buffer::space`].
    pub fn received(&mut self, n: usize) {
        self.end += n;
    }

    /// What has arrived and is not yet used.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The first `n` bytes have been used.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_kept_in_order_while_the_buffer_grows_and_shrinks() {
        let mut buffer = Buffer::default();
        let (mut written, mut read) = (0_u32, 0_u32);
        for round in 0..2_000_usize {
            let space = buffer.space();
            let n = space.len().min(if round < 1_000 { usize::MAX } else { 100 });
            for byte in &mut space[..n] {
                *byte = (written % 251) as u8;
                written += 1;
            }
            buffer.received(n);
            let used = if round % 5 == 0 { 0 } else { buffer.data().len() };
            for byte in &buffer.data()[..used] {
                assert_eq!(u32::from(*byte), read % 251);
                read += 1;
            }
            buffer.consume(used);
            assert!(buffer.bytes.len() <= 4 * CAPACITY_BUSY, "{}", buffer.bytes.len());
        }
        assert!(read > 1_000_000 && written - read < 100_000);
        buffer.consume(buffer.data().len());
        for _ in 0..=READS_SMALL {
            buffer.space();
        }
        assert_eq!(buffer.space().len(), CAPACITY_MIN);
    }
}
