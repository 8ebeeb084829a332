//! A running server: accepts connections and has each served to its end, on this thread or on the pool's.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::connection::{self, Deadlines, End};
use super::log::{Level, Log};
use super::pool::Pool;
use super::stop::ShutdownHandle;
use crate::protocol::Code;
use crate::session::{Core, Session, TurnedAway};

/// After a failure to accept: how long to wait before the next try, at first and at most.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Threads that accept, in pool mode. The system holds 128 connections ahead of them, which a client can
/// make in three milliseconds; it may well leave one thread waiting for a processor that long, and rarely all.
const ACCEPTORS: usize = 4;

/// A connection, and who made it: once it has ended, the system no longer knows.
pub type Accepted = (TcpStream, SocketAddr);

/// What the threads of a running server share. The modes differ in who calls `serve`, and in nothing else.
pub struct Service {
    pub listener: TcpListener,
    pub core: Core,
    pub deadlines: Deadlines,
    pub log: Log,
    pub stop: ShutdownHandle,
}

impl Service {
    /// Serves one client after another; with `once`, until one of them has been answered.
    pub fn one_by_one(&self, once: bool) {
        let session = if once { Session::once } else { Session::new };
        while let Some(accepted) = self.accept() {
            if self.serve(accepted, session(&self.core)) && once {
                return;
            }
        }
    }

    pub fn side_by_side(&self, threads_max: usize) -> io::Result<()> {
        let pool = Pool {
            threads_max,
            stats: &self.core.stats,
            log: &self.log,
            serve: |accepted| _ = self.serve(accepted, Session::new(&self.core)),
            queue: Default::default(),
            work: Default::default(),
            waiting: Default::default(),
        };
        self.make_room(threads_max);
        thread::scope(|scope| {
            pool.open(scope)?;
            let accept = || {
                while let Some(accepted) = self.accept() {
                    pool.submit(accepted);
                }
                // The next of them waits for a connection yet.
                self.stop.wake();
            };
            // Where there is no thread for them, one does.
            (1..ACCEPTORS).for_each(|_| drop(thread::Builder::new().spawn_scoped(scope, accept)));
            accept();
            pool.close();
            Ok(())
        })
    }

    /// Has the kernel make the process's table of descriptors as large as it will be needed, by filling
    /// it once. It doubles as it fills up, which takes tens of milliseconds where there are threads; in
    /// a burst of connects the queue to `accept` would overflow meanwhile, and clients
    /// whose SYN is dropped try again after a second.
    fn make_room(&self, descriptors: usize) {
        let filled: Vec<_> = (0..descriptors).map_while(|_| self.listener.try_clone().ok()).collect();
        drop(filled);
    }

    /// The next connection; `None` when the server is to stop. Where none can be accepted (no
    /// descriptor is left, say) that is told and tried again, a little later each time: the reason
    /// is most often gone soon, and a loop without a pause would take a whole processor.
    fn accept(&self) -> Option<Accepted> {
        let mut backoff = BACKOFF_MIN;
        loop {
            let accepted = self.listener.accept();
            if self.stop.is_stopping() {
                return None;
            }
            match accepted {
                Ok(accepted) => {
                    self.core.stats.accepted.fetch_add(1, Relaxed);
                    return Some(accepted);
                }
                // The client was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.log.event(Level::Error, "accept", &[("error", &error)]);
                    thread::sleep(backoff);
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Serves one connection to its end.
    fn serve<'c>(&'c self, (stream, peer): Accepted, mut session: Session<'c>) -> bool {
        let _open = Counted::new(&self.core.stats.connections);
        let stream = self.stop.watch(stream);
        if self.log.tells(Level::Debug) {
            session.trace(Box::new(move |name, key, failed| {
                let (key, failed) = (key.unwrap_or_default(), failed.map_or("", Code::as_str));
                let fields: &[(&str, &dyn fmt::Display)] =
                    &[("peer", &peer), ("name", &name), ("key", &key), ("failed", &failed)];
                self.log.event(Level::Debug, "request", fields);
            }));
        }
        // A panic is a defect, but of one connection: its thread, and so the pool's size, survive it. What
        // it leaves half done is the session's own, and that goes with the connection.
        let serve = AssertUnwindSafe(|| connection::serve(&stream, &mut session, self.deadlines, &self.stop));
        let end = catch_unwind(serve).unwrap_or(End::Panic);
        // However the connection ended then: who guesses tokens need not wait for the reply.
        match session.turned_away() {
            Some(TurnedAway::Http) => self.log.event(Level::Info, "http_refused", &[("peer", &peer)]),
            Some(TurnedAway::Auth) => self.log.event(Level::Info, "auth_refused", &[("peer", &peer)]),
            None => {}
        }
        match end {
            End::Panic => self.log.event(Level::Error, "connection_panic", &[("peer", &peer)]),
            End::Closed | End::Idle => {}
            End::Deadline => {
                self.core.stats.timed_out.fetch_add(1, Relaxed);
                self.log.event(Level::Info, "deadline", &[("peer", &peer)]);
            }
            End::Broken(error) => {
                self.log.event(Level::Debug, "broken", &[("peer", &peer), ("error", &error)]);
            }
        }
        session.is_spent()
    }
}

/// Counts up, and down again when it is dropped, however that comes about.
struct Counted<'c>(&'c AtomicU64);

impl<'c> Counted<'c> {
    fn new(counter: &'c AtomicU64) -> Counted<'c> {
        counter.fetch_add(1, Relaxed);
        Counted(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
