//! Jobs that end when the test has them end, and what they have done.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use actix_pika::tasks::{Done, Task};
use tokio::sync::{Notify, Semaphore};

use crate::{support::within, tasks::Job};

/// What a handler does with a job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Play {
    /// It ends when the other jobs of its four have ended that come after it.
    Backwards,
    /// It gives way, and ends.
    Through,
    /// It panics at once.
    Panic,
    /// It panics when four run.
    PanicAmongFour,
    /// It ends when the test lets it.
    Held,
}

/// What the handlers have done.
#[derive(Default)]
pub struct Stage {
    /// What jobs do; `Through` if they are not listed. Panics happen in the first attempt only.
    pub plays: Vec<(u32, Play)>,
    running: AtomicUsize,
    /// The most handlers that ran at once.
    pub most: AtomicUsize,
    /// Which jobs have begun, and in which attempt.
    pub runs: Mutex<Vec<(u32, u32)>>,
    /// Which jobs have ended, in order.
    pub ends: Mutex<Vec<u32>>,
    changed: Notify,
    pub held: Option<Arc<Semaphore>>,
}

/// Counts a handler that runs.
pub struct Runs<'a>(&'a Stage);

impl Drop for Runs<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl Stage {
    pub fn of(plays: &[(u32, Play)]) -> Arc<Self> {
        let held = Some(Arc::new(Semaphore::new(0)));
        Arc::new(Self { plays: plays.to_vec(), held, ..Self::default() })
    }

    pub fn backwards(jobs: u32) -> Arc<Self> {
        Self::of(&(1..=jobs).map(|id| (id, Play::Backwards)).collect::<Vec<_>>())
    }

    pub fn begin(&self, job: &Task<Job>) -> (Runs<'_>, Play) {
        self.most.fetch_max(self.running.fetch_add(1, SeqCst) + 1, SeqCst);
        self.runs.lock().unwrap().push((job.id, job.attempt()));
        self.changed.notify_waiters();
        let planned =
            self.plays.iter().find(|(id, _)| *id == job.id).map_or(Play::Through, |(_, play)| *play);
        let is_again = job.attempt() > 1 && matches!(planned, Play::Panic | Play::PanicAmongFour);
        (Runs(self), if is_again { Play::Through } else { planned })
    }

    fn end(&self, job: &Job) -> Done {
        self.ends.lock().unwrap().push(job.id);
        Ok(())
    }

    pub async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition() {
                return;
            }
            changed.await;
        }
    }

    pub fn play_now(&self, job: &Task<Job>) -> Done {
        let (_running, play) = self.begin(job);
        assert_ne!(play, Play::Panic, "a handler panics in this test");
        self.end(job)
    }

    pub async fn play(self: Arc<Self>, job: Task<Job>) -> Done {
        let (running, play) = self.begin(&job);
        let has_ended = |id| self.ends.lock().unwrap().contains(&id);
        match play {
            Play::Backwards => {
                let last = job.id.div_ceil(4) * 4;
                self.until(|| (job.id + 1..=last).all(has_ended)).await;
            }
            Play::Through => {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            }
            Play::Panic => panic!("a handler panics in this test"),
            Play::PanicAmongFour => {
                self.until(|| self.running.load(SeqCst) == 4).await;
                panic!("a handler panics in this test");
            }
            Play::Held => self.held.as_ref().unwrap().acquire().await?.forget(),
        }
        self.end(&job)?;
        drop(running);
        Ok(())
    }

    /// Returns the runs, sorted.
    pub fn all_runs(&self) -> Vec<(u32, u32)> {
        let mut runs = self.runs.lock().unwrap().clone();
        runs.sort_unstable();
        runs
    }

    pub async fn until_ended(&self, jobs: usize) {
        within("all jobs", 20, self.until(|| self.ends.lock().unwrap().len() == jobs)).await;
    }
}
