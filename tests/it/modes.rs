//! The modes, in one table: what a test asks of a server, it asks of each mode that can do it.

use std::thread::{self, Builder};

use socket_tables::server::Mode;

pub const ALL: &[Mode] = &[Mode::EVENT, Mode::POOL, Mode::Iterative, Mode::Once];
/// Those in which a client may ask more than once.
#[rustfmt::skip]
pub const LASTING: &[Mode] = &[Mode::EVENT, Mode::POOL, Mode::Iterative];
/// Those that serve several clients at once.
pub const SEVERAL: &[Mode] = &[Mode::EVENT, Mode::POOL];

/// Runs a test in these modes, side by side, for most of its time is waiting. A failure is told with the name of its thread, and
/// that is the mode's.
pub fn in_modes(modes: &[Mode], test: impl Fn(Mode) + Sync) {
    thread::scope(|scope| {
        for mode in modes {
            Builder::new().name(mode.to_string()).spawn_scoped(scope, || test(*mode)).unwrap();
        }
    });
}

/// The same mode with so many places for clients, where it has more than one.
pub fn with_places(mode: Mode, places: usize) -> Mode {
    match mode {
        Mode::Event { .. } => Mode::Event { connections: places },
        Mode::Pool { .. } => Mode::Pool { threads: places },
        Mode::Iterative | Mode::Once => mode,
    }
}
