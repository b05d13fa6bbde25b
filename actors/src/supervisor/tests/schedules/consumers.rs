//! The consumers, as their channels have them.

use std::{collections::BTreeSet, sync::Arc};

use super::run::{Run, queue};
use crate::{
    error::Error,
    internal::{Change, ChannelMessage, Entity, Removal, TrialConsume},
    message::ConsumerEnd,
    supervisor::{missing::Repair, tests::refusal},
    wire::Table,
};

#[derive(Debug)]
pub(super) struct ConsumerModel {
    pub(super) tag: Arc<str>,
    pub(super) queue: String,
    pub(super) state: ConsumerStateModel,
    /// It has cost the connection, and is left out until it was tried.
    pub(super) is_at_fault: bool,
    /// What its channel declares before it starts.
    declare: Vec<Entity>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumerStateModel {
    Running,
    /// The supervisor repairs what it needs.
    Suspended,
    /// Its channel starts it.
    Starting,
    ByApplication,
}

impl ConsumerModel {
    pub(super) fn repair(&self, (channel, consumer): (u16, u32), cause: ConsumerEnd) -> Repair {
        let (tag, queue) = (self.tag.clone(), self.queue.clone());
        let trial =
            TrialConsume { tag, queue, exclusive: false, arguments: Table::new(), shared_prefetch: None };
        Repair { channel, consumer, trial, cause }
    }
}

fn cause(code: u16) -> ConsumerEnd {
    if code == 0 { ConsumerEnd::CancelledByBroker } else { ConsumerEnd::Closed(refusal(code)) }
}

impl Run {
    pub(super) fn make_consumer(&mut self, at: usize, on: usize, code: u16) {
        let Some(channel) = self.attached_channel(at) else { return };
        self.consumers += 1;
        let (consumer, queue, now) = (self.consumers, queue(on), self.machine.now);
        let tag: Arc<str> = format!("consumer {consumer}").into();
        let recorded = Entity::Consumer { channel, tag: tag.clone(), queue: queue.clone() };
        self.machine.supervision.topology_changed(Change::Record(recorded), now);
        let state = ConsumerStateModel::Suspended;
        let made = ConsumerModel { tag, queue, state, is_at_fault: false, declare: Vec::new() };
        self.machine.supervision.repair(made.repair((channel, consumer), cause(code)), now);
        self.made.insert((channel, consumer), made);
    }

    /// A running consumer cannot go on. The broker cancels it because its queue is deleted.
    pub(super) fn stop_running(&mut self, at: usize, code: u16) {
        let found = self.running().nth(at).map(|(key, made)| (*key, made.queue.clone()));
        match found {
            Some((_, queue)) if code == 0 => self.delete_queue(&queue),
            Some((key, _)) => self.suspend(key, code),
            None => {}
        }
    }

    pub(super) fn suspend(&mut self, key: (u16, u32), code: u16) {
        let now = self.machine.now;
        if let Some(made) = self.made.get_mut(&key) {
            made.state = ConsumerStateModel::Suspended;
            self.machine.supervision.repair(made.repair(key, cause(code)), now);
        }
    }

    pub(super) fn consumer_started(&mut self, at: usize, code: u16) {
        let now = self.machine.now;
        let mut starting =
            self.made.iter_mut().filter(|(_, made)| made.state == ConsumerStateModel::Starting);
        let Some((key, made)) = starting.nth(at) else { return };
        let declare = std::mem::take(&mut made.declare);
        let declared = declare.iter().try_for_each(|entity| self.broker.declare(entity));
        let started = match code {
            0 => declared.and_then(|()| self.broker.consume(&made.queue)),
            code => Err(refusal(code)),
        };
        match started {
            Ok(()) => {
                made.state = ConsumerStateModel::Running;
                self.machine.supervision.consumer_recovered(key.0, &made.tag, now);
            }
            Err(error) => {
                made.state = ConsumerStateModel::Suspended;
                self.machine.supervision.repair(made.repair(*key, ConsumerEnd::Closed(error)), now);
            }
        }
    }

    pub(super) fn cancel(&mut self, at: usize) {
        if let Some(key) = self.made.keys().nth(at).copied()
            && let Some(made) = self.made.remove(&key)
        {
            let removal = Removal::Consumer { channel: key.0, tag: made.tag };
            self.machine.supervision.topology_changed(Change::Forget(removal), self.machine.now);
        }
    }

    pub(super) fn by_application(&mut self, at: usize, missing: bool) {
        let Some(((channel, _), made)) = self.made.iter_mut().nth(at) else { return };
        let (now, supervision) = (self.machine.now, &mut self.machine.supervision);
        match (made.state, missing) {
            (ConsumerStateModel::Running, true) => {
                made.state = ConsumerStateModel::ByApplication;
                let error = Error::stopped("its actor has stopped");
                supervision.consumer_missing(*channel, &made.tag, error, now);
            }
            (ConsumerStateModel::ByApplication, false) => {
                made.state = ConsumerStateModel::Running;
                supervision.consumer_recovered(*channel, &made.tag, now);
            }
            _ => {}
        }
    }

    /// The consumers that the broker has.
    pub(super) fn running(&self) -> impl Iterator<Item = (&(u16, u32), &ConsumerModel)> {
        self.made.iter().filter(|((channel, _), made)| {
            made.state == ConsumerStateModel::Running
                && !made.is_at_fault
                && self.attached.contains(channel)
                && !self.recovering.contains(channel)
        })
    }

    /// The queues with consumers. The application looks after the queues of those that it starts itself.
    pub(super) fn consumed_queues(&self) -> BTreeSet<String> {
        let by_application =
            self.made.values().filter(|made| made.state == ConsumerStateModel::ByApplication);
        let consumers = self.running().map(|(_, made)| made).chain(by_application);
        consumers.map(|made| made.queue.clone()).collect()
    }

    /// A channel does what the machine asks of it.
    pub(super) fn channel_message(&mut self, channel: u16, message: ChannelMessage) {
        match message {
            // The channel starts its consumers on the next connection.
            ChannelMessage::Detached { .. } => {
                for (_, made) in self.made.iter_mut().filter(|((of, _), _)| *of == channel) {
                    if made.state != ConsumerStateModel::ByApplication {
                        made.state = ConsumerStateModel::Running;
                    }
                }
            }
            ChannelMessage::ConsumerRepaired { consumer, result: Ok(()) } => {
                self.start_suspended((channel, consumer), Vec::new());
            }
            ChannelMessage::ConsumerRepaired { consumer, result: Err(_) } => {
                self.made.remove(&(channel, consumer));
            }
            ChannelMessage::StartConsumer { consumer, declare } => {
                self.start_suspended((channel, consumer), declare);
            }
            ChannelMessage::ConsumerAtFault { consumer, .. } => {
                if let Some(made) = self.made.get_mut(&(channel, consumer)) {
                    made.is_at_fault = true;
                }
            }
            ChannelMessage::ConsumerNotAtFault { tag } => {
                let those = self.made.iter_mut().filter(|((of, _), _)| *of == channel);
                those.filter(|(_, made)| *made.tag == *tag).for_each(|(_, made)| made.is_at_fault = false);
            }
            ChannelMessage::ForgetConsumer { tag } => {
                self.made.retain(|(of, _), made| *of != channel || *made.tag != *tag);
            }
            _ => {}
        }
    }

    fn start_suspended(&mut self, key: (u16, u32), declare: Vec<Entity>) {
        if let Some(made) = self.made.get_mut(&key)
            && made.state == ConsumerStateModel::Suspended
        {
            (made.state, made.declare, made.is_at_fault) = (ConsumerStateModel::Starting, declare, false);
        }
    }
}
