//! Shutting down: the accepting thread is woken, reading ends, and what has arrived is still answered.
//!
//! A thread that waits in `accept` or `read` looks at no flag. So `accept` is woken by a connection of
//! our own, and each live socket is shut for reading, which ends a read under way as if the client had
//! sent its last: the session answers what it has and closes.

use std::collections::HashMap;
use std::io::{PipeReader, pipe};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long to try to reach our own listener. On one machine it answers at once or not at all.
const WAKE_TIME: Duration = Duration::from_secs(1);

/// Ends [`Server::run`](super::Server::run) from any thread.
///
/// ```
/// # use socket_tables::server::Server;
/// let server = Server::bind("127.0.0.1:0")?;
/// let stop = server.shutdown_handle();
/// let serving = std::thread::spawn(|| server.run());
/// stop.shutdown();
/// serving.join().expect("no panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ShutdownHandle(Arc<Shared>);

struct Shared {
    stopping: AtomicBool,
    wake: SocketAddr,
    live: Mutex<Live>,
    /// A descriptor kept to be given up for the connection that wakes `accept`, should no other be left.
    spare: Mutex<Option<PipeReader>>,
}

#[derive(Default)]
struct Live {
    streams: HashMap<u64, Arc<TcpStream>>,
    next: u64,
}

impl ShutdownHandle {
    pub(super) fn new(wake: SocketAddr) -> ShutdownHandle {
        let spare = Mutex::new(pipe().ok().map(|(reader, _)| reader));
        ShutdownHandle(Arc::new(Shared {
            stopping: AtomicBool::new(false),
            wake,
            live: Mutex::default(),
            spare,
        }))
    }

    /// Tells the server to end. Returns at once; `run` returns when the requests under way are answered.
    pub fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        for stream in self.live().streams.values() {
            end_reading(stream);
        }
        self.wake();
    }

    /// Wakes a thread that waits in `accept`.
    pub(super) fn wake(&self) {
        drop(self.0.spare.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Where this fails there is no listener any more, or one that has just been woken by a client.
        let _ = TcpStream::connect_timeout(&self.0.wake, WAKE_TIME);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }

    /// Puts a connection among those that end with the server, for as long as it is held.
    pub(super) fn watch(&self, stream: TcpStream) -> Watched {
        let stream = Arc::new(stream);
        let mut live = self.live();
        live.next += 1;
        let number = live.next;
        live.streams.insert(number, stream.clone());
        drop(live);
        // Whoever sets the flag then looks through the streams; whoever adds one then looks at the flag.
        if self.is_stopping() {
            end_reading(&stream);
        }
        Watched { stream, number, handle: self.clone() }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that ends with the server.
pub(super) struct Watched {
    stream: Arc<TcpStream>,
    number: u64,
    handle: ShutdownHandle,
}

impl Deref for Watched {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.handle.live().streams.remove(&self.number);
    }
}

fn end_reading(stream: &TcpStream) {
    // It fails where the client has gone already.
    let _ = stream.shutdown(Shutdown::Read);
}
