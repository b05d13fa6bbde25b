//! Supervised workers: what becomes of their tasks when they panic or stop, and what is reported.

mod ends;
mod restarts;
mod services;
mod threads;

use actix::prelude::*;
use actix_pika::{tasks::Task, testing::Probe, worker::WorkerEvent};

use crate::{
    support::within,
    tasks::{Job, Jobs},
};

/// The events of a worker.
pub struct WorkerEvents {
    probe: Probe<WorkerEvent>,
    pub watcher: Recipient<WorkerEvent>,
}

impl WorkerEvents {
    pub fn watch() -> Self {
        let probe = Probe::<WorkerEvent>::start();
        let watcher = probe.recipient();
        Self { probe, watcher }
    }

    pub async fn next(&mut self) -> WorkerEvent {
        within("an event of a worker", 20, self.probe.next()).await.unwrap()
    }

    pub async fn started(&mut self) {
        let event = self.next().await;
        assert!(matches!(event, WorkerEvent::Started { thread: 0 }), "{event:?}");
    }

    /// Takes the event of an end, after which another worker is built or not.
    pub async fn ended(&mut self, expected: bool, is_built_again: bool) {
        match self.next().await {
            WorkerEvent::Ended { thread: 0, panicked, next_in } => {
                assert_eq!((panicked, next_in.is_some()), (expected, is_built_again));
            }
            event => panic!("{event:?}"),
        }
    }

    pub async fn finished(&mut self) {
        let event = self.next().await;
        assert!(matches!(event, WorkerEvent::Finished), "{event:?}");
    }
}

/// Returns how many consumers a queue has.
pub async fn consumers(jobs: &Jobs, queue: &str) -> u32 {
    jobs.oracle.queue_counts(queue).await.unwrap().1
}

/// Ends the worker that gets it.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub enum End {
    Panic,
    Stop,
}

/// Has an actor end when it is told to.
#[macro_export]
macro_rules! ends_when_told {
    ($actor:ty) => {
        impl Handler<$crate::worker::End> for $actor {
            type Result = ();

            fn handle(&mut self, end: $crate::worker::End, ctx: &mut Self::Context) {
                match end {
                    $crate::worker::End::Panic => panic!("a worker panics in this test"),
                    $crate::worker::End::Stop => ctx.stop(),
                }
            }
        }
    };
}

/// Returns id and attempt of a job.
pub fn run_of(job: &Task<Job>) -> (u32, u32) {
    (job.id, job.attempt())
}
