//! What the watchers of a supervised worker are told.

use std::time::Duration;

use actix::Message;
use actix_pika_actors::facade::Event;

use crate::ConsumerEnd;

/// What happens to a [`SupervisedWorker`](super::SupervisedWorker), for the actors that
/// [watch](super::SupervisedWorker::watch) it.
///
/// `thread` counts from 0; it is 0 unless there are several [threads](super::WorkerBuilder::threads). At most 256
/// events wait for a watcher; what it misses is counted in [`EventsDropped`](Self::EventsDropped).
///
/// # Examples
/// ```
/// use actix::prelude::*;
/// use actix_pika::worker::WorkerEvent;
///
/// struct Alarm;
///
/// impl Actor for Alarm {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<WorkerEvent> for Alarm {
///     type Result = ();
///
///     fn handle(&mut self, event: WorkerEvent, _: &mut Self::Context) {
///         if let WorkerEvent::Ended { panicked: true, next_in, .. } = event {
///             println!("a handler panicked, the next worker starts in {next_in:?}");
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WorkerEvent {
    /// A worker was built and takes tasks.
    Started {
        /// The thread that it runs on.
        thread: usize,
    },
    /// A worker has ended. What it left is handled by the next one.
    Ended {
        /// The thread that it ran on.
        thread: usize,
        /// Whether it panicked, or stopped.
        panicked: bool,
        /// When the next one is built; `None` if none is, because the worker is being drained.
        next_in: Option<Duration>,
    },
    /// The factory has panicked. No worker is built any more on this thread; its consumers are cancelled, and what
    /// waits returns to the queues.
    FactoryPanicked {
        /// The thread.
        thread: usize,
    },
    /// A consumer has ended for good. Those of the other queues go on; with the last one, the worker ends.
    ConsumerLost {
        /// The thread of the consumer.
        thread: usize,
        /// The queue.
        queue: String,
        /// Why it has ended.
        end: ConsumerEnd,
    },
    /// So many events were dropped before this one, because they were not handled in time.
    EventsDropped(u64),
    /// All threads have ended. This is the last event.
    Finished,
}

impl Message for WorkerEvent {
    type Result = ();
}

impl Event for WorkerEvent {
    fn is_minor(&self) -> bool {
        false
    }

    fn bytes(&self) -> usize {
        0
    }

    fn dropped(count: u64) -> Self {
        Self::EventsDropped(count)
    }
}
