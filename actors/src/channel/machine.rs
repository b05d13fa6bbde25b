//! The machine of a channel: every decision, without an actor, a runtime or a clock.
//!
//! It takes frames, calls and the time, writes to the outbox and replies to callers. Everything else it
//! leaves to the actor, as [`Output`]s. Its methods are in the files of this folder, one idea each.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{
    Call, PendingReply, Reply, Responder,
    consumers::Consumers,
    deliver::Inbox,
    held_calls::HeldCalls,
    lost_consumers::LostConsumers,
    nack_retry::NackRetry,
    output::{Output, Outputs},
    prefetch::Prefetch,
    renames::Renames,
    reopen_backoff::ReopenBackoff,
    replies::Replies,
    state::{ChannelState, OpenReply},
    transaction::TransactionState,
    unrouted::UnroutedQueues,
    waiting_calls::WaitingCalls,
};
use crate::{
    broker_rules::BrokerRules,
    error::{Error, Result},
    internal::{BrokerNotes, Change, Entity, Removal, SupervisorMessage},
    log_schedule::LogSchedule,
    message::{ChannelEvent, EntityKind, OnOutage, OpenChannel},
    outbox::Outbox,
    transport::{ChannelShare, ReadCredit},
    wire::{AMQPClass, Assembler, Fault, put_method},
};

#[derive(Debug)]
pub(super) struct ChannelMachine {
    /// Tells it from other channels that have its number before or after it.
    pub(super) id: u64,
    pub(super) outbox: Arc<Outbox>,
    /// The connection that the channel is attached to.
    pub(super) connection: Option<ConnectionLink>,
    /// The channel epoch of the outbox. Deliveries of another epoch are stale.
    pub(super) channel_epoch: u32,
    pub(super) state: ChannelState,
    /// The connection recovers, and the channel with it.
    pub(super) recovers: bool,
    /// Publishes fail while the connection is lost.
    pub(super) fails_in_outage: bool,
    /// The connection is being closed, and waits until this channel has no unconfirmed publish.
    pub(super) drain_requested: bool,
    /// Set once all handles are dropped: how long unconfirmed publishes are awaited.
    pub(super) released: Option<Instant>,
    pub(super) closers: Vec<Responder<()>>,
    pub(super) replies: Replies,
    pub(super) waiting: WaitingCalls,
    pub(super) consumers: Consumers,
    pub(super) lost: LostConsumers,
    pub(super) inbox: Inbox,
    pub(super) prefetch: Prefetch,
    pub(super) transaction: TransactionState,
    /// How many `basic.recover` have no reply yet. The broker requeues the deliveries that arrive before its
    /// reply.
    pub(super) basic_recovers: usize,
    pub(super) renames: Renames,
    pub(super) backoff: ReopenBackoff,
    pub(super) held_calls: HeldCalls,
    pub(super) nacks: NackRetry,
    /// When the next delivery is requeued that waits for that.
    pub(super) next_requeue: Option<Instant>,
    pub(super) unrouted: UnroutedQueues,
    pub(super) logged: Logged,
    pub(super) outputs: Outputs,
}

/// When what the broker may repeat without end is logged.
#[derive(Debug, Default)]
pub(super) struct Logged {
    pub(super) flow: LogSchedule,
    pub(super) deliveries_to_nobody: LogSchedule,
    pub(super) returns: LogSchedule,
}

/// The connection that a channel is attached to.
#[derive(Debug)]
pub(super) struct ConnectionLink {
    pub(super) epoch: u64,
    pub(super) credit: Arc<ReadCredit>,
    /// The memory of its deliveries.
    pub(super) share: Arc<ChannelShare>,
    pub(super) broker: Arc<BrokerNotes>,
}

impl Drop for ConnectionLink {
    fn drop(&mut self) {
        // Deliveries that are still held keep their part of the memory.
        self.share.forget_unsettled();
    }
}

/// A method that has a reply.
#[derive(Debug)]
pub(super) struct Request {
    method: AMQPClass,
    entity: String,
    change: Option<Change>,
    reply: PendingReply,
}

impl Request {
    pub(super) fn new(method: AMQPClass, reply: PendingReply) -> Self {
        Self { method, entity: String::new(), change: None, reply }
    }

    /// Names the exchange, queue or consumer that it concerns.
    pub(super) fn on(mut self, entity: impl Into<String>) -> Self {
        self.entity = entity.into();
        self
    }

    /// Sets the change of the topology that the reply confirms.
    pub(super) fn changing(mut self, change: Option<Change>) -> Self {
        self.change = change;
        self
    }
}

impl ChannelMachine {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        options: &OpenChannel,
        assembler: Assembler,
        recovers: bool,
        now: Instant,
    ) -> Self {
        let mut outputs = Outputs::default();
        // It may take long until there is a connection.
        outputs.request_tick();
        Self {
            id: 0,
            outbox,
            connection: None,
            channel_epoch: 0,
            state: ChannelState::Opening { since: now, last: None, reply: OpenReply::Due },
            recovers,
            fails_in_outage: options.on_outage == OnOutage::Fail,
            drain_requested: false,
            released: None,
            closers: Vec::new(),
            replies: Replies::default(),
            waiting: WaitingCalls::default(),
            consumers: Consumers::default(),
            lost: LostConsumers::default(),
            inbox: Inbox::new(assembler),
            prefetch: Prefetch::default(),
            transaction: TransactionState::default(),
            basic_recovers: 0,
            renames: Renames::default(),
            backoff: ReopenBackoff::default(),
            held_calls: HeldCalls::default(),
            nacks: NackRetry::default(),
            next_requeue: None,
            unrouted: UnroutedQueues::default(),
            logged: Logged::default(),
            outputs,
        }
    }

    pub(super) fn number(&self) -> u16 {
        self.outbox.config().channel
    }

    /// Makes a call, or queues it while the channel recovers or a commit has no reply. It fails when its deadline
    /// passes first.
    pub(super) fn call<C: Call>(&mut self, call: C, now: Instant) -> Reply<C::Answer> {
        self.outputs.request_tick();
        if self.state.is_recovering() || self.awaits_commit() || self.holds_calls() {
            return self.waiting.push(call, now);
        }
        call.make(self, now)
    }

    /// Sends a method that has a reply; returns whether it was sent.
    pub(super) fn ask(&mut self, request: Request, now: Instant) -> bool {
        let Request { method, entity, change, reply } = request;
        if let ChannelState::Closed(error) = &self.state {
            reply.fail(error.clone());
            return false;
        }
        let entity = Some(entity).filter(|name| !name.is_empty());
        let change = change.filter(|_| self.recovers);
        match self.frame(&method).map_err(Error::from).and_then(|frame| self.outbox.method(frame)) {
            Ok(()) => {
                self.replies.expect(&method, entity, change, reply, now);
                self.note_replies();
                true
            }
            Err(error) => {
                if let PendingReply::Consumed { tag, .. } = &reply {
                    self.unregister(tag, &error);
                }
                self.replies.not_made(change);
                reply.fail(match entity {
                    Some(entity) => error.on(entity),
                    None => error,
                });
                false
            }
        }
    }

    /// Sends the reply to a method of the broker.
    pub(super) fn answer(&self, method: &AMQPClass) {
        if let Ok(frame) = self.frame(method) {
            // An error means that the channel is closed.
            let _ = self.outbox.answer(frame);
        }
    }

    /// Notes for the connection whether a call has no reply.
    pub(super) fn note_replies(&self) {
        if let Some(connection) = &self.connection {
            connection.share.set_awaits_reply(!self.replies.is_empty());
        }
    }

    pub(super) fn frame(&self, method: &AMQPClass) -> Result<Bytes, Fault> {
        let mut frame = BytesMut::new();
        put_method(&mut frame, self.number(), method)?;
        Ok(frame.freeze())
    }

    pub(super) fn notify(&mut self, event: ChannelEvent) {
        self.outputs.push(Output::Event(event));
    }

    pub(super) fn report(&mut self, message: SupervisorMessage) {
        self.outputs.push(Output::Supervisor(message));
    }

    /// What the broker does that depends on its version, if that is known.
    pub(super) fn rules(&self) -> Option<BrokerRules> {
        self.connection.as_ref()?.broker.rules
    }

    /// The epoch of the connection, for messages that concern it.
    pub(super) fn epoch(&self) -> u64 {
        self.connection.as_ref().map_or(0, |connection| connection.epoch)
    }

    /// Reports the changes of the topology that calls have made, and those that failed.
    pub(super) fn report_changes(&mut self) {
        for change in self.replies.take_changes() {
            self.report(SupervisorMessage::TopologyChanged(change));
        }
        for change in self.replies.take_failed_changes() {
            let (kind, name) = match change {
                Change::Forget(Removal::Exchange(name)) => (EntityKind::Exchange, name),
                Change::Forget(Removal::Queue(name)) => (EntityKind::Queue, name),
                _ => continue,
            };
            self.report(SupervisorMessage::Deleting { kind, name, is_deleting: false });
        }
    }

    /// Reports a change of the topology, behind those of earlier replies.
    fn change(&mut self, change: Change) {
        self.report_changes();
        if self.recovers {
            self.report(SupervisorMessage::TopologyChanged(change));
        }
    }

    pub(super) fn record(&mut self, entity: Entity) {
        self.change(Change::Record(entity));
    }

    pub(super) fn forget(&mut self, removal: Removal) {
        self.change(Change::Forget(removal));
    }

    /// Replaces an earlier name of a queue that the broker has renamed.
    pub(super) fn rename(&self, name: &mut String) {
        if let Some(new) = self.renames.current().get(name) {
            name.clone_from(new);
        }
    }

    /// The broker has given a queue another name.
    pub(super) fn queue_renamed(&mut self, old: String, new: String) {
        self.renames.renamed(&old, &new);
        self.consumers.rename(&old, &new);
        self.notify(ChannelEvent::QueueRenamed { old, new });
    }
}
