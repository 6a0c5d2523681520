//! The reader threads' queue. Bounded by its users: a stream of reads has one under way.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use crate::engine::Engine;

/// One read to do.
pub(crate) type Job = Box<dyn FnOnce(&Engine) + Send>;

/// Reads that wait for a thread.
#[derive(Default)]
pub(crate) struct ReadQueue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Job>,
    stopping: bool,
}

impl ReadQueue {
    pub(crate) fn push(&self, job: Job) {
        self.inner.lock().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// The thread's loop.
    pub(crate) fn run(&self, engine: &Engine) {
        loop {
            let mut inner = self.inner.lock();
            while inner.jobs.is_empty() && !inner.stopping {
                self.changed.wait(&mut inner);
            }
            let Some(job) = inner.jobs.pop_front() else { return };
            drop(inner);
            job(engine);
        }
    }

    /// Does what waits, on this thread.
    pub(crate) fn drain(&self, engine: &Engine) {
        loop {
            let Some(job) = self.inner.lock().jobs.pop_front() else { return };
            job(engine);
        }
    }

    /// Ends [`ReadQueue::run`] once the queue is empty.
    pub(crate) fn stop(&self) {
        self.inner.lock().stopping = true;
        self.changed.notify_all();
    }
}
