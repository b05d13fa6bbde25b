//! The outputs of the machine, besides bytes and replies: messages, events and timers. The actor carries them
//! out after each message that it handles.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    internal::SupervisorMessage,
    message::{ChannelEvent, DeliverySink},
};

#[derive(Debug)]
pub(super) enum Output {
    /// A message to the supervisor.
    Supervisor(SupervisorMessage),
    /// An event for the watchers.
    Event(ChannelEvent),
    /// Give the sink of a new consumer the address of the channel.
    BindSink {
        sink: Arc<dyn DeliverySink>,
        consumer: u32,
        tag: Arc<str>,
        /// How many deliveries may be unsettled, where the broker does not bound them.
        permits: Option<usize>,
    },
    /// Call `retry_nacks` after this time.
    RetryNacks { channel_epoch: u32, after: Duration },
    /// Call `requeue_due` at this time, and not at the one before.
    RequeueAt(Instant),
    /// Call `reopen_when_due` after this time.
    Reopen { channel_epoch: u32, after: Duration },
}

#[derive(Debug, Default)]
pub(super) struct Outputs {
    queue: VecDeque<Output>,
    tick: bool,
}

impl Outputs {
    pub(super) fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    /// Requests a call of `tick`, one tick from now at the latest.
    pub(super) fn request_tick(&mut self) {
        self.tick = true;
    }

    #[inline]
    pub(super) fn take_tick(&mut self) -> bool {
        std::mem::take(&mut self.tick)
    }
}
