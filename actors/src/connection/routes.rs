//! Who reads which channel, and which channels have something to take.

use std::{collections::VecDeque, sync::Arc};

use actix::Recipient;
use bytes::Bytes;

use crate::{
    message::internal::ChannelMessage,
    outbox::Outbox,
    wire::{Fault, FrameBatch},
};

#[derive(Debug, Default)]
pub(super) struct AttachedChannels {
    /// By channel number.
    places: Vec<Place>,
    ready: VecDeque<u16>,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    NeverOpen,
    Open(AttachedChannel),
    /// Frames may still be on their way to a channel that has ended.
    Left,
}

#[derive(Debug)]
struct AttachedChannel {
    down: Recipient<ChannelMessage>,
    outbox: Arc<Outbox>,
    queued: bool,
}

impl AttachedChannels {
    pub(super) fn add(&mut self, channel: u16, down: Recipient<ChannelMessage>, outbox: Arc<Outbox>) {
        let at = usize::from(channel);
        if self.places.len() <= at {
            self.places.resize_with(at + 1, Place::default);
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = Place::Open(AttachedChannel { down, outbox, queued: false });
        }
    }

    pub(super) fn remove(&mut self, channel: u16) -> Option<Arc<Outbox>> {
        let place = self.places.get_mut(usize::from(channel))?;
        match std::mem::replace(place, Place::Left) {
            Place::Open(route) => Some(route.outbox),
            other => {
                *place = other;
                None
            }
        }
    }

    pub(super) fn deliver(&self, epoch: u64, run: FrameBatch) -> Result<(), Fault> {
        match self.places.get(usize::from(run.channel)) {
            Some(Place::Open(route)) => {
                route.down.do_send(ChannelMessage::Frames { epoch, batch: run });
                Ok(())
            }
            Some(Place::Left) => {
                log::trace!("channel {}: {} frames after its end, dropped", run.channel, run.frames);
                Ok(())
            }
            _ => Err(Fault::channel(format!("channel {} is not open", run.channel))),
        }
    }

    /// Tells a channel that one of its consumers chokes the connection.
    pub(super) fn choked(&self, channel: u16, consumer: u32) {
        if let Some(Place::Open(route)) = self.places.get(usize::from(channel)) {
            route.down.do_send(ChannelMessage::CancelSlowConsumer { consumer });
        }
    }

    /// Notes that a channel has something to take.
    pub(super) fn ready(&mut self, channel: u16) {
        if let Some(Place::Open(route)) = self.places.get_mut(usize::from(channel))
            && !std::mem::replace(&mut route.queued, true)
        {
            self.ready.push_back(channel);
        }
    }

    pub(super) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes about `budget` bytes from the next channel in turn.
    pub(super) fn take_next(&mut self, epoch: u64, budget: usize, out: &mut Vec<Bytes>) -> bool {
        let Some(channel) = self.ready.pop_front() else { return false };
        if let Some(Place::Open(route)) = self.places.get_mut(usize::from(channel)) {
            route.queued = route.outbox.take(epoch, budget, out);
            if route.queued {
                self.ready.push_back(channel);
            }
        }
        true
    }
}
