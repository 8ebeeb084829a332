//! The event loop: one thread that waits for many connections at once, and never for one of them.
//!
//! ```text
//! loop {
//!     wait until sockets are ready, the bell rings, or a deadline has come
//!     have each connection that this is about take a step, and note what it needs next
//! }
//! ```
//!
//! A thread for each client costs a switch of threads for each request, and 14 KiB for each client that says nothing.
//! Here a thread answers what fifty clients have sent before it waits again, and a silent client costs 0.6 KiB:
//! memory to work in is lent to each connection in its turn. The price is that no step may take long, since all others wait
//! for it. What may take long is lent to a worker, connection and all.
//!
//! The loop also accepts for pool mode, which is the same but for one thing: each new connection is lent to a worker at
//! once, until it ends.
//!
//! Left out: several loops (on two cores they brought half as much again at 50 connections and depth 64, and cost
//! 6% at depth 1), and looking at the sockets for a while before sleeping (3.5 times as quick for one client on
//! two cores, and 0.7 times on one).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::sync::mpsc::Receiver;
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::connection::{Connection, Need};
use super::listener::{Accepted, Place, REST};
use super::pool::{Lent, Pool, Work};
use super::{Level, Server};
use crate::session::Workspace;
use crate::store::Durability;
use crate::sys::{Interest, Poller, hung_up};

/// What a large request is read by.
const BUFFER_BYTES: usize = 64 << 10;
/// Clients that are accepted in one turn, so that a burst does not keep those that are served waiting.
const ACCEPTED_MAX: usize = 256;
/// Connections that go on in one turn when their output is durable.
const RELEASED_MAX: usize = 256;
/// How long a client waits for a place before it is told `busy`.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Clients that may wait so. One more is closed at once, without a word, so that a flood of clients
/// takes no more than this many descriptors from those that are served, and as many for those that are told `busy`.
pub(super) const WAITING_MAX: usize = 4096;

// What poller and alarms know beside connections, which count from 0.
const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
const BELL: u64 = u64::MAX - 2;
const WAITING: u64 = u64::MAX - 3;
const HELD: u64 = u64::MAX - 4;

/// A loop and all that it waits for.
pub(super) struct EventLoop<'s, 'e, 'c> {
    server: &'c Server,
    /// How many connections may be served at once.
    places: usize,
    /// Whom connections are lent to.
    pool: &'s Pool<'c>,
    scope: &'s Scope<'s, 'e>,
    /// Where they come back.
    returned: Receiver<Lent<'c>>,
    poller: Poller,
    /// Clients that were accepted and have no place yet, and since when.
    waiting: VecDeque<(Accepted, Instant)>,
    /// Those that are not lent, by number. A number is never used again, so an event that comes late, of a connection
    /// that has ended, is about none.
    connections: HashMap<u64, Tracked<'c>>,
    next_number: u64,
    /// Connections whose output waits for so many changes to be durable, in this order, and whether the journal will ring
    /// the bell when there is news of them.
    held: VecDeque<(u64, u64)>,
    will_ring: bool,
    /// When to look at what; each connection has one. Requests move a connection's deadline away all the time, and its
    /// alarm stays where it is. It goes off too early then and is set anew, so deadlines cost requests nothing.
    alarms: BTreeSet<(Instant, u64)>,
    is_stopping: bool,
    workspace: Workspace,
}

/// A connection that the poller knows.
struct Tracked<'c> {
    connection: Box<Connection<'c>>,
    /// What the poller waits for.
    interest: Interest,
    /// Its place among the alarms.
    alarm: Option<Instant>,
}

impl<'s, 'e, 'c> EventLoop<'s, 'e, 'c> {
    /// A loop that serves so many connections at once.
    pub fn new(
        server: &'c Server,
        places: usize,
        (pool, returned): (&'s Pool<'c>, Receiver<Lent<'c>>),
        scope: &'s Scope<'s, 'e>,
    ) -> io::Result<EventLoop<'s, 'e, 'c>> {
        let mut poller = Poller::new()?;
        poller.add(pool.bell.reader(), BELL, Interest::Read)?;
        poller.add(server.stop.told(), STOP, Interest::Read)?;
        poller.add(&server.listener, LISTENER, Interest::Read)?;
        Ok(EventLoop {
            server,
            places,
            pool,
            scope,
            returned,
            poller,
            waiting: VecDeque::new(),
            connections: HashMap::new(),
            next_number: 0,
            held: VecDeque::new(),
            will_ring: false,
            alarms: BTreeSet::new(),
            is_stopping: false,
            workspace: Workspace::new(BUFFER_BYTES),
        })
    }

    /// Serves until the server is to end and all connections have ended.
    pub fn run(mut self) -> io::Result<()> {
        let mut found = Vec::new();
        while !self.is_stopping || !self.connections.is_empty() || Place::taken(self.server) > 0 {
            let next = self.alarms.first().map(|(at, _)| at.saturating_duration_since(Instant::now()));
            self.poller.wait(&mut found, next)?;
            let now = Instant::now();
            for number in found.drain(..) {
                match number {
                    LISTENER if self.is_stopping => {}
                    LISTENER => self.accept(now)?,
                    STOP => self.stop(now)?,
                    BELL => self.answer_bell(now),
                    number => self.step(number, now, true),
                }
            }
            self.sound_alarms(now)?;
            self.admit(now);
            self.release(now);
        }
        Ok(())
    }

    /// Accepts clients that wait in the kernel.
    fn accept(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..ACCEPTED_MAX {
            match self.server.accept() {
                Ok(Some(accepted)) if self.waiting.len() < WAITING_MAX => {
                    self.waiting.push_back((accepted, now));
                }
                Ok(Some((_, peer))) => self.server.count_refused(peer),
                Ok(None) => break,
                Err(_) => {
                    self.alarms.insert((now + REST, LISTENER));
                    return self.poller.remove(&self.server.listener);
                }
            }
        }
        Ok(())
    }

    /// Serves those who wait, as far as there are places, and turns away those who have waited too long.
    fn admit(&mut self, now: Instant) {
        let serves_here = self.pool.work == Work::Act;
        while let Some((accepted, since)) = self.waiting.pop_front() {
            let place = Place::take(self.server, self.places);
            let place = place.filter(|_| serves_here || self.pool.promise(self.scope));
            let is_served = place.is_some();
            if !is_served && now < since + WAIT_MAX {
                self.alarms.insert((since + WAIT_MAX, WAITING));
                return self.waiting.push_front((accepted, since));
            }
            let connection = Connection::new(self.server, accepted, place, now);
            let number = self.next_number;
            self.next_number += 1;
            if is_served && !serves_here {
                self.pool.lend((number, connection));
            } else {
                self.track(number, connection);
                // Most clients have sent their first request by now.
                self.step(number, now, true);
            }
        }
    }

    /// Has a connection take a step, and waits for what it needs then.
    fn step(&mut self, number: u64, now: Instant, is_ready: bool) {
        // An earlier event of this turn may have ended it, or had it lent.
        let Some(Tracked { connection, interest, alarm }) = self.connections.get_mut(&number) else { return };
        if let Need::Sync(changes) = connection.need
            && let Some(journal) = self.server.core.store.journal()
            && journal.durability(changes) == Durability::Awaited
        {
            // What it has sent meanwhile is not read before it has got its replies, and would be told of all the time.
            if is_ready && mem::replace(interest, Interest::HangUp) != Interest::HangUp {
                let _ = self.poller.change(connection.stream(), number, *interest);
            } else if is_ready && hung_up(connection.stream().as_fd()) {
                drop(self.untrack(number));
            }
            return;
        }
        connection.step(now, is_ready, self.is_stopping, &mut self.workspace);
        // Where there is no worker at all the loop is kept busy itself, which is better than to serve nobody.
        while connection.need == Need::Act && !self.pool.promise(self.scope) {
            connection.act();
            connection.step(now, false, self.is_stopping, &mut self.workspace);
        }
        match connection.need {
            Need::Read | Need::Write => {}
            // Its deadlines are set when it has been told what it waits for.
            Need::Sync(changes) => {
                return self.held.push_back((changes, number));
            }
            Need::Change => connection.session.wake_by(self.pool.bell.waker(number)),
            Need::Act => {
                if let Some(connection) = self.untrack(number) {
                    self.pool.lend((number, connection));
                }
                return;
            }
            Need::End => return drop(self.untrack(number)),
        }
        let needed = connection.need.interest();
        if mem::replace(interest, needed) != needed {
            // This fails only for want of memory. The connection's deadline ends it then.
            let _ = self.poller.change(connection.stream(), number, needed);
        }
        let due = connection.due();
        if alarm.is_none_or(|alarm| due < alarm) {
            alarm.replace(due).map(|later| self.alarms.remove(&(later, number)));
            self.alarms.insert((due, number));
        }
    }

    /// Has the poller wait for a connection. Its next step sets its alarm.
    fn track(&mut self, number: u64, connection: Box<Connection<'c>>) {
        let interest = connection.need.interest();
        match self.poller.add(connection.stream(), number, interest) {
            Ok(()) => drop(self.connections.insert(number, Tracked { connection, interest, alarm: None })),
            // The system has no memory for one more, and the client finds the connection closed.
            Err(error) => self.server.log.event(Level::Error, "poll", &[("error", &error)]),
        }
    }

    fn untrack(&mut self, number: u64) -> Option<Box<Connection<'c>>> {
        let Tracked { connection, alarm, .. } = self.connections.remove(&number)?;
        alarm.map(|at| self.alarms.remove(&(at, number)));
        // What has been added can be removed.
        let _ = self.poller.remove(connection.stream());
        Some(connection)
    }

    /// Takes back what was lent, and looks at the connections for which the bell was rung.
    fn answer_bell(&mut self, now: Instant) {
        let numbers = self.pool.bell.answer();
        while let Ok((number, connection)) = self.returned.try_recv() {
            if connection.need != Need::End {
                self.track(number, connection);
            }
        }
        for number in numbers {
            match number {
                HELD => self.will_ring = false,
                number => self.step(number, now, false),
            }
        }
    }

    /// Has connections go on whose output is durable by now.
    fn release(&mut self, now: Instant) {
        let Some(journal) = self.server.core.store.journal() else { return };
        if !self.held.is_empty() {
            journal.flush();
        }
        for _ in 0..RELEASED_MAX {
            match self.held.front() {
                Some(&(changes, number)) if journal.durability(changes) != Durability::Awaited => {
                    self.held.pop_front();
                    self.step(number, now, false);
                }
                Some(_) | None => break,
            }
        }
        if let Some((changes, _)) = self.held.front()
            && !mem::replace(&mut self.will_ring, true)
        {
            journal.wake_by(*changes, self.pool.bell.waker(HELD));
        }
    }

    /// Looks at whatever was to be looked at by now.
    fn sound_alarms(&mut self, now: Instant) -> io::Result<()> {
        while let Some(&(at, number)) = self.alarms.first()
            && at <= now
        {
            self.alarms.pop_first();
            match number {
                LISTENER if self.is_stopping => {}
                LISTENER => self.poller.add(&self.server.listener, LISTENER, Interest::Read)?,
                // They are looked at in every turn.
                WAITING => {}
                number => {
                    if let Some(tracked) = self.connections.get_mut(&number) {
                        tracked.alarm = None;
                    }
                    self.step(number, now, false);
                }
            }
        }
        Ok(())
    }

    /// The server is to end: nobody is accepted any more, and each connection answers what has arrived and ends.
    fn stop(&mut self, now: Instant) -> io::Result<()> {
        self.is_stopping = true;
        self.waiting.clear();
        // It is not there while accepting rests.
        let _ = self.poller.remove(&self.server.listener);
        self.poller.remove(self.server.stop.told())?;
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.step(number, now, true));
        Ok(())
    }
}
