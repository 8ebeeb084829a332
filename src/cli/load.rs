//! The threads that load a server, and the one that watches them: it shows a person how far they have come, and hears
//! Ctrl-C.

use std::io::{self, PipeReader, Read, pipe};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use super::generator::{Endpoint, Generator, Limit, Progress, Tally};
use super::message::{Exit, Messages, Trouble};
use super::workload::{Batch, Verb, Workload};
use crate::sys::{self, Interest};

/// Batches that are prepared, and sent, before the next are when all keys are set or deleted.
const SWEEP_BATCHES: usize = 256;
/// How often a person is told how far it has come.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// With fewer processors a second thread of ours would take one from the server.
const PROCESSORS_FOR_TWO: usize = 4;

/// How long a part of a run lasts, all threads together.
#[derive(Clone, Copy)]
pub(super) enum Total {
    Batches(u64),
    Time(Duration),
}

/// The threads that make the load, and what watches them.
pub(super) struct Load<'a> {
    generators: Vec<Generator<'a>>,
    /// What the part that is under way has told, and was told.
    pub progress: Progress,
    /// A signal writes a byte into this pipe.
    signals: PipeReader,
    pub stderr: &'a mut Messages,
}

impl<'a> Load<'a> {
    pub fn connect(
        endpoint: &'a Endpoint,
        connections: usize,
        stderr: &'a mut Messages,
    ) -> Result<Load<'a>, Trouble> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = if processors >= PROCESSORS_FOR_TWO { connections.min(2) } else { 1 };
        let share = |at: usize| connections * (at + 1) / threads - connections * at / threads;
        let generators = (0..threads).map(|at| Generator::connect(endpoint, share(at)));
        let generators = generators.collect::<Result<_, _>>()?;
        let (signals, writer) = pipe().map_err(no_pipe)?;
        // The first Ctrl-C ends the load, and what was counted is told; the second ends the process.
        sys::signals_to(writer);
        Ok(Load { generators, progress: Progress::default(), signals, stderr })
    }

    /// Does one thing with every key. Its batches are prepared a few at a time, since those of all keys may be large.
    pub fn sweep(&mut self, workload: &Workload, verb: Verb, what: &str) -> Result<(), Trouble> {
        let mut batches = workload.sweep(verb);
        loop {
            let some: Vec<Batch> = batches.by_ref().take(SWEEP_BATCHES).collect();
            if some.is_empty() {
                return Ok(());
            }
            let tally = self.run(what, &some, Total::Batches(some.len() as u64))?;
            // Deleting what somebody else has deleted meanwhile is done.
            if let Some(first) = tally.first_wrong.filter(|_| verb == Verb::Set) {
                return Err(Trouble { exit: Exit::Refused, text: format!("{what}: {first}") });
            }
        }
    }

    /// Runs the batches of the ring, on all threads, and tells a person how far that has come.
    pub fn run(&mut self, what: &str, ring: &[Batch], total: Total) -> Result<Tally, Trouble> {
        let Load { generators, progress, signals, stderr } = self;
        let (threads, progress) = (generators.len() as u64, &*progress);
        // Each thread holds one end, so the other is at its end when the last thread is.
        let (ended, held) = pipe().map_err(no_pipe)?;
        let held = Arc::new(held);
        thread::scope(|scope| {
            // Each thread has its part of a sweep, and no other.
            let from = |at| match total {
                Total::Batches(batches) => batches * at / threads,
                Total::Time(_) => ring.len() as u64 * at / threads,
            };
            let mut running = Vec::new();
            for (at, generator) in (0..).zip(generators) {
                let limit = match total {
                    Total::Batches(_) => Limit::Batches(from(at + 1) - from(at)),
                    Total::Time(time) => Limit::Until(Instant::now() + time),
                };
                let (first, held) = (from(at), held.clone());
                running.push(scope.spawn(move || {
                    let _held = held;
                    generator.run(ring, first, limit, progress)
                }));
            }
            drop(held);
            loop {
                let fds = [signals.as_fd(), ended.as_fd()].map(|fd| (Some(fd), Interest::Read));
                match sys::wait_ready(fds, PROGRESS_INTERVAL) {
                    [_, true] => break,
                    [true, false] => {
                        progress.stop.store(true, Relaxed);
                        let _ = signals.read_exact(&mut [0]);
                    }
                    [false, false] => {
                        let answered = progress.answered.load(Relaxed);
                        stderr.progress(&format!("{what}: {answered} requests"));
                    }
                }
            }
            let mut all = Tally::default();
            for thread in running {
                all.merge(thread.join().expect("a generator does not panic")?);
            }
            Ok(all)
        })
    }
}

fn no_pipe(error: io::Error) -> Trouble {
    Trouble::local("cannot make a pipe", error)
}
