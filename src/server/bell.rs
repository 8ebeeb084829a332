//! The bell: how other threads wake one that waits for sockets.
//!
//! Whoever waits for descriptors hears of nothing else. So news are made to look like a socket: there is a pipe that
//! the waiting thread waits for, too, and whoever has news for it writes a byte. News are numbers of connections: one
//! that has a change to be told, or one that comes back from a worker.

use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Numbers that are taken at once. A change may wake thousands of watchers, and others are to have their turn between.
const ANSWERED_MAX: usize = 64;

/// Where others leave numbers.
pub(super) struct Bell {
    numbers: Mutex<Vec<u64>>,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Bell {
    /// A bell that has not rung.
    pub fn new() -> io::Result<Arc<Bell>> {
        let (reader, writer) = pipe()?;
        Ok(Arc::new(Bell { numbers: Mutex::default(), reader, writer }))
    }

    /// What has something to read when the bell has rung.
    pub fn reader(&self) -> &PipeReader {
        &self.reader
    }

    /// Has the waiting thread look at the connection of this number.
    pub fn ring(&self, number: u64) {
        let mut numbers = self.lock();
        numbers.push(number);
        // The pipe holds one byte while numbers wait, and else none. So it is never full, and a thousand changes that
        // come before the loop has time for them cost one system call.
        if numbers.len() == 1 {
            let _ = (&self.writer).write_all(&[0]);
        }
    }

    /// Takes the numbers that came first, once [`Bell::reader`] is ready; it stays so where there are more.
    pub fn answer(&self) -> Vec<u64> {
        let mut numbers = self.lock();
        let first = numbers.len().min(ANSWERED_MAX);
        let later = numbers.split_off(first);
        if later.is_empty() && !numbers.is_empty() {
            let _ = (&self.reader).read_exact(&mut [0]);
        }
        mem::replace(&mut numbers, later)
    }

    /// Rings for one connection when it is woken: what a watch is given.
    pub fn waker(self: &Arc<Bell>, number: u64) -> Waker {
        Waker::from(Arc::new(Ring(self.clone(), number)))
    }

    // Between any two statements, what this guards is whole.
    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Ring(Arc<Bell>, u64);

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.0.ring(self.1);
    }
}
