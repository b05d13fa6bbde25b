//! Messages that the broker sends: deliveries, the reply to `basic.get`, and returned publishes.
//!
//! The deliveries of one frame batch are noted in the outbox under one lock and sent to each sink as one
//! batch. This is the hot path: nothing here allocates for each delivery.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::{ChannelMachine, PendingReply, Responder, consumers::ChannelAcker};
use crate::{
    message::{ChannelEvent, ContentLayout, Delivery, DeliveryParts, Outcome, SeparateContent},
    outbox::{DeliveredTags, NOBODY},
    returned::Return,
    transport::{JoinedBytes, Sizes},
    wire::{
        AssembledContent, Assembler, ContentMethod, DecodeError, Deliver, Fault,
        basic_decode::{GetOk, ReturnHead},
        decode_properties,
    },
};

/// What was read of a frame batch so far.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) assembler: Assembler,
    /// Deliveries that the outbox has not noted yet, and the consumers that settle them.
    seen: Vec<DeliveredTags>,
    /// Tags of deliveries for an unknown consumer.
    unknown: Vec<u64>,
    /// How many of those that the outbox has not noted yet were delivered before.
    pub(super) redelivered: u64,
    /// The content that comes next is of the channel before, which had the same number.
    pub(super) is_stale: bool,
    sizes: Sizes,
    /// Deliveries of fewer bytes are copied out of their block.
    pub(super) copy_below: usize,
}

/// A `basic.get` that has a message.
pub(super) struct Got {
    no_ack: bool,
    /// A `basic.recover` has returned the message to its queue.
    requeued: bool,
    pub(super) acker: Arc<ChannelAcker>,
    pub(super) queue: String,
    pub(super) responder: Responder<Option<Delivery>>,
}

impl Got {
    /// Returns whether the message is unsettled.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.no_ack && !self.requeued
    }
}

impl Inbox {
    pub(super) fn new(assembler: Assembler) -> Self {
        Self {
            assembler,
            seen: Vec::new(),
            unknown: Vec::new(),
            redelivered: 0,
            is_stale: false,
            sizes: Sizes::default(),
            copy_below: 0,
        }
    }

    /// Notes a delivery that `consumer` settles; `None` if it needs no settling.
    #[inline]
    pub(super) fn note(&mut self, tag: u64, consumer: Option<u32>) {
        match self.seen.last_mut() {
            // The tag behind 2^64 - 1 is 0, which the outbox refuses.
            Some(seen) if seen.consumer == consumer && tag == seen.last.wrapping_add(1) => seen.last = tag,
            _ => self.seen.push(DeliveredTags { first: tag, last: tag, consumer }),
        }
    }

    /// Notes a delivery for an unknown consumer.
    pub(super) fn note_unknown(&mut self, tag: u64) {
        self.note(tag, Some(NOBODY));
        self.unknown.push(tag);
    }

    /// Forgets what a closed channel has left unfinished.
    pub(super) fn reset(&mut self) {
        self.assembler.reset();
        self.seen.clear();
        self.unknown.clear();
        self.redelivered = 0;
        self.is_stale = false;
    }
}

impl ChannelMachine {
    /// Adds a delivery to the batch of its consumer.
    pub(super) fn deliver(&mut self, head: &Deliver, bytes: Bytes, content: ContentLayout) {
        let tag = head.delivery_tag;
        self.inbox.redelivered += u64::from(head.redelivered);
        let Some((at, entry)) = self.consumers.find(head.consumer_tag.of(&bytes)) else {
            self.inbox.note_unknown(tag);
            return;
        };
        let no_ack = entry.subscription.no_ack;
        if self.basic_recovers > 0 && !no_ack {
            self.inbox.note(tag, None);
            return;
        }
        self.inbox.note(tag, (!no_ack).then_some(entry.acker.consumer));
        let parts = DeliveryParts {
            bytes,
            content,
            tag,
            channel_epoch: self.channel_epoch,
            message_count: None,
            exchange: head.exchange,
            routing_key: head.routing_key,
            redelivered: head.redelivered,
            no_ack,
        };
        self.consumers.stage(at, parts);
    }

    /// Notes the deliveries of a batch in the outbox and sends them to their sinks.
    pub(super) fn flush_deliveries(&mut self, now: &impl Fn() -> Instant) -> Result<(), Fault> {
        if self.inbox.seen.is_empty() {
            return Ok(());
        }
        let redelivered = std::mem::take(&mut self.inbox.redelivered);
        let unsettled = self.outbox.delivered(&self.inbox.seen, redelivered).map_err(out_of_turn)?;
        self.inbox.seen.clear();
        if let Some(connection) = &self.connection {
            self.consumers.sample(&mut self.inbox.sizes);
            connection.share.set_unsettled(unsettled, self.inbox.sizes);
            if connection.share.is_over_bound() {
                self.consumers.note_streams();
            }
        }
        for tag in self.inbox.unknown.drain(..) {
            // Legal while a cancel is under way.
            if let Some(so_far) = self.logged.deliveries_to_nobody.count(now()) {
                let channel = self.outbox.config().channel;
                log::debug!("channel {channel}: a delivery for no consumer requeued{so_far}");
            }
            let _ = self.outbox.settle(self.channel_epoch, tag, NOBODY, Outcome::NotBegun);
        }
        self.consumers.flush();
        Ok(())
    }

    /// Takes a message whose content is complete.
    pub(super) fn take_content(
        &mut self,
        content: AssembledContent,
        now: &impl Fn() -> Instant,
    ) -> Result<(), Fault> {
        let AssembledContent { method, mut payload, mut header, mut body } = content;
        if let Ok(body) = &mut body
            && payload.len() + header.properties.len() + body.len() < self.inbox.copy_below
        {
            for part in [&mut payload, &mut header.properties, body] {
                *part = Bytes::copy_from_slice(part);
            }
        }
        match (&method, body) {
            (ContentMethod::Deliver(head), Ok(body)) => {
                let counted = self.count_joined(head.consumer_tag.of(&payload), &body);
                self.deliver(head, payload, separate(header.properties, body, counted));
                Ok(())
            }
            (ContentMethod::GetOk(head), Ok(body)) => {
                self.got(head, payload, separate(header.properties, body, None), now)
            }
            (ContentMethod::Deliver(head), Err(skipped)) => {
                self.delivery_skipped(head, &payload, skipped, now())
            }
            (ContentMethod::GetOk(head), Err(skipped)) => self.get_skipped(head, skipped, now),
            (ContentMethod::Return(head), body) => {
                self.returned(head, &payload, &header.properties, body.unwrap_or_default(), now);
                Ok(())
            }
        }
    }

    /// Counts a body that has a buffer of its own, where the deliveries of its consumer are not counted anyway.
    fn count_joined(&mut self, consumer_tag: &[u8], body: &Bytes) -> Option<JoinedBytes> {
        // A view of what was read is not unique.
        let (_, entry) = self.consumers.find(consumer_tag).filter(|_| body.is_unique())?;
        let counts = entry.acker.credit.is_none();
        self.connection.as_ref().filter(|_| counts).map(|connection| connection.share.joined(body.len()))
    }

    /// The reply to `basic.get` is a message.
    fn got(
        &mut self,
        head: &GetOk,
        bytes: Bytes,
        content: ContentLayout,
        now: &impl Fn() -> Instant,
    ) -> Result<(), Fault> {
        let Got { no_ack, requeued, acker, responder, .. } = self.take_got(head, now)?;
        let parts = DeliveryParts {
            bytes,
            content,
            tag: head.delivery_tag,
            channel_epoch: self.channel_epoch.wrapping_sub(requeued.into()),
            message_count: Some(head.message_count),
            exchange: head.exchange,
            routing_key: head.routing_key,
            redelivered: head.redelivered,
            no_ack,
        };
        let delivery = Delivery::new(acker, parts);
        // The caller may have given up.
        if let Err(Ok(Some(delivery))) = responder.send(Ok(Some(delivery))) {
            delivery.hand_back();
        }
        Ok(())
    }

    /// Takes the pending `basic.get` of a message, and notes the message as delivered.
    pub(super) fn take_got(&mut self, head: &GetOk, now: &impl Fn() -> Instant) -> Result<Got, Fault> {
        self.flush_deliveries(now)?;
        let PendingReply::Got { no_ack, queue, responder } = self.replies.next(60, 71)? else {
            return Err(Fault::command("a reply to another method").with_method(60, 71));
        };
        let requeued = self.basic_recovers > 0 && !no_ack;
        let acker = self.consumers.get_acker(&queue, &self.outbox);
        self.inbox.redelivered += u64::from(head.redelivered);
        self.inbox.note(head.delivery_tag, (!no_ack && !requeued).then_some(acker.consumer));
        self.flush_deliveries(now)?;
        Ok(Got { no_ack, requeued, acker, queue, responder })
    }

    /// A publish was returned. Its confirm reports that, if there is one.
    fn returned(
        &mut self,
        head: &ReturnHead,
        payload: &[u8],
        properties: &[u8],
        body: Bytes,
        now: &impl Fn() -> Instant,
    ) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let returned = Return {
            code: head.code,
            text: text(head.text.of(payload)).into(),
            exchange: text(head.exchange.of(payload)),
            routing_key: text(head.routing_key.of(payload)),
            properties: decode_properties(properties).map_err(DecodeError::from),
            body,
        };
        if returned.exchange.is_empty() && self.recovers {
            self.unrouted.insert(&returned);
            self.outputs.request_tick();
        }
        if let Some(returned) = self.outbox.returned(returned, properties) {
            self.transaction.returned(&returned);
            let (code, text) = (returned.code, &returned.text);
            if let Some(so_far) = self.logged.returns.count(now()) {
                let channel = self.number();
                log::debug!("channel {channel}: a publish without confirms returned{so_far}: {code} {text}");
            }
            self.notify(ChannelEvent::Returned(returned));
        }
    }
}

fn separate(properties: Bytes, body: Bytes, counted: Option<JoinedBytes>) -> ContentLayout {
    ContentLayout::Separate(Arc::new(SeparateContent { properties, body, _counted: counted }))
}

fn out_of_turn(tag: u64) -> Fault {
    Fault::command(format!("delivery tag {tag} is out of turn")).with_method(60, 60)
}
