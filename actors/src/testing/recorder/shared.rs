//! What the handles of a recorder, its publishes and its actor share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::Recipient;
use bytes::Bytes;
use tokio::sync::watch;

use super::{
    FRAME_MAX,
    channel::RecordedChannel,
    publish::{Answer, RecordedPublish},
    world::{Queued, World},
};
use crate::{
    error::Error,
    internal::{ChannelMessage, SupervisorMessage},
    outbox::Outbox,
    wire::FrameDecoder,
};

pub(crate) struct Shared {
    state: Mutex<State>,
    /// How much was published.
    pub(super) published: watch::Sender<usize>,
}

pub(super) struct State {
    epoch: u64,
    supervisor: Option<Recipient<SupervisorMessage>>,
    channels: BTreeMap<u16, AttachedChannel>,
    pub(super) world: World,
    /// How many publishes the test has taken.
    pub(super) taken: usize,
}

struct AttachedChannel {
    recipient: Recipient<ChannelMessage>,
    outbox: Arc<Outbox>,
    channel: RecordedChannel,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new_cyclic(|shared| Self {
            state: Mutex::new(State {
                epoch: 0,
                supervisor: None,
                channels: BTreeMap::new(),
                world: World::new(shared.clone()),
                taken: 0,
            }),
            published: watch::Sender::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, after all that channels have written until now was recorded. Then sends the replies.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        state.take();
        let result = change(&mut state);
        state.dispatch();
        // Under the lock, so that each channel gets its frames in order; a mailbox runs nothing.
        state.send();
        let published = state.world.published.len();
        drop(state);
        self.published.send_if_modified(|count| std::mem::replace(count, published.max(*count)) < published);
        result
    }

    /// Records what channels have written until now.
    pub(crate) fn read(&self) {
        self.with(|_| ());
    }

    /// A connection begins.
    pub(super) fn begin(&self, epoch: u64, supervisor: Recipient<SupervisorMessage>) {
        // Dropped without the lock: nobody knows what it wakes.
        let _old = {
            let mut state = self.lock();
            state.epoch = epoch;
            (std::mem::take(&mut state.channels), state.supervisor.replace(supervisor))
        };
    }

    /// Ends the connection, if there is one, with this error.
    pub(super) fn end(&self, error: Error) {
        let ended = self.with(|state| {
            let channels = std::mem::take(&mut state.channels);
            (channels, state.supervisor.take(), state.epoch)
        });
        if let (_, Some(supervisor), epoch) = &ended {
            supervisor.do_send(SupervisorMessage::ConnectionEnded { epoch: *epoch, error });
        }
    }

    pub(super) fn attach(&self, number: u16, recipient: Recipient<ChannelMessage>, outbox: Arc<Outbox>) {
        let attached = AttachedChannel { recipient, outbox, channel: RecordedChannel::new(number) };
        let _old = self.with(|state| state.channels.insert(number, attached));
    }

    pub(super) fn detach(&self, number: u16) {
        let _old = self.with(|state| state.channels.remove(&number));
    }

    /// Answers a publish that was held. Returns whether it had no answer.
    pub(super) fn answer_one(&self, publish: &RecordedPublish, answer: &Answer) -> bool {
        self.with(|state| state.answer(publish, answer))
    }
}

impl State {
    /// Takes what the channels have written.
    fn take(&mut self) {
        for attached in self.channels.values_mut() {
            let mut chunks: Vec<Bytes> = Vec::new();
            while attached.outbox.take(self.epoch, usize::MAX, &mut chunks) {}
            attached.channel.receive(&chunks, &mut self.world);
        }
    }

    pub(super) fn answer(&mut self, publish: &RecordedPublish, answer: &Answer) -> bool {
        let attached = self.channels.get_mut(&publish.channel());
        attached.is_some_and(|attached| attached.channel.answer_held(publish.inner(), answer))
    }

    /// Delivers a reply to the channel of its request, if it is still the same. Such a reply waits for no consumer.
    pub(super) fn reply_to(&mut self, request: &RecordedPublish, reply: Queued) {
        let attached = self.channels.get_mut(&request.channel());
        if let Some(attached) = attached.filter(|attached| attached.channel.is_open_since(request.place())) {
            attached.channel.deliver_reply(reply);
        }
    }

    /// Delivers what waits to the consumer of its queue that has the fewest unsettled deliveries.
    fn dispatch(&mut self) {
        let Self { channels, world, .. } = self;
        for (queue, waiting) in &mut world.queues {
            while !waiting.is_empty() {
                let consumers = channels.values().flat_map(|attached| {
                    let consumers = attached.channel.consumers.iter().enumerate();
                    consumers.map(|(index, consumer)| (attached.channel.number, index, consumer))
                });
                let free = consumers.filter(|(.., consumer)| consumer.queue == *queue && consumer.has_room());
                let Some((number, index, _)) = free.min_by_key(|(.., consumer)| consumer.unsettled) else {
                    break;
                };
                if let (Some(attached), Some(queued)) = (channels.get_mut(&number), waiting.pop_front()) {
                    attached.channel.deliver(index, queued);
                }
            }
        }
        world.queues.retain(|_, waiting| !waiting.is_empty());
    }

    fn send(&mut self) {
        for attached in self.channels.values_mut() {
            let mut decoder = FrameDecoder::new(FRAME_MAX);
            loop {
                match decoder.next_batch(&mut attached.channel.output) {
                    Ok(Some(batch)) => {
                        attached.recipient.do_send(ChannelMessage::Frames { epoch: self.epoch, batch });
                    }
                    Ok(None) => break,
                    // As properties above the largest frame: the client would close its connection.
                    Err(fault) => {
                        let number = attached.channel.number;
                        log::error!("recorder: what is sent to channel {number} is no frame: {fault:?}");
                        attached.channel.output.clear();
                        break;
                    }
                }
            }
        }
    }
}
