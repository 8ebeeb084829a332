//! The memory that a session works in, and what has arrived in it.

use std::mem;

use super::Session;

/// Memory that is lent to one session after another by whoever serves many. So one that waits for its client holds none,
/// and one that works need not allocate any.
///
/// A session works without one, too, and keeps its own memory then.
#[derive(Default)]
pub struct Workspace {
    /// What the sockets are read by.
    pub buffer: Vec<u8>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Workspace {
    /// A workspace whose buffer has so many bytes. Of what a session has made it grow to, a quarter as much is kept.
    pub fn new(buffer_bytes: usize) -> Workspace {
        Workspace { buffer: vec![0; buffer_bytes], ..Workspace::default() }
    }

    /// Takes back memory that is empty by now. What is used on stays, with as much to spare as makes growing cheap.
    fn take_back(lent: &mut Vec<u8>, own: &mut Vec<u8>, kept_max: usize) {
        if !own.is_empty() {
            if own.capacity() > 4 * own.len() {
                own.shrink_to(2 * own.len());
            }
            return;
        }
        let memory = mem::take(own);
        if lent.capacity() == 0 && memory.capacity() <= kept_max {
            *lent = memory;
        }
    }
}

impl Session<'_> {
    /// Lends it memory, for as long as it does not wait.
    pub fn lend(&mut self, workspace: &mut Workspace) {
        for (own, lent) in
            [(&mut self.input.bytes, &mut workspace.input), (&mut self.output, &mut workspace.output)]
        {
            if own.is_empty() {
                mem::swap(own, lent);
            }
        }
    }

    /// Has it give back the memory that it does not need while it waits.
    pub fn give_back(&mut self, workspace: &mut Workspace) {
        let kept_max = workspace.buffer.len() / 4;
        // A client that has begun its next request may leave it at that.
        self.input.drop_used();
        Workspace::take_back(&mut workspace.input, &mut self.input.bytes, kept_max);
        Workspace::take_back(&mut workspace.output, &mut self.output, kept_max);
    }
}

/// What has arrived and is not yet used.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// How many of these have been used.
    used: usize,
}

impl Input {
    pub fn append(&mut self, bytes: &[u8]) {
        self.drop_used();
        self.bytes.extend_from_slice(bytes);
    }

    fn drop_used(&mut self) {
        self.bytes.drain(..mem::take(&mut self.used));
    }

    pub fn data(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    pub fn consume(&mut self, n: usize) {
        self.used += n;
        if self.used == self.bytes.len() {
            self.used = 0;
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Core, Next, Session};
    use super::*;

    #[test]
    fn a_session_that_waits_holds_no_more_than_what_was_begun() {
        let core = Core { request_bytes_max: 1 << 20, ..Core::default() };
        let (mut session, mut workspace) = (Session::new(&core), Workspace::new(1 << 16));
        for begun in ["", "GET"] {
            session.lend(&mut workspace);
            session.received(("GET k\n".repeat(1000) + begun).as_bytes());
            while session.advance() == Next::Write {
                session.sent();
            }
            session.give_back(&mut workspace);
            assert!(session.input.bytes.capacity() <= 4 * begun.len(), "{begun:?}");
            assert_eq!((session.requests() % 1000, session.output.capacity()), (0, 0));
        }
        assert!(workspace.output.capacity() > 0, "what was lent is lent again");
    }
}
