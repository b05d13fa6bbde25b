//! The broker's side of one channel: a plain machine. Frames go in, events and frames come out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::{
    DIRECT_REPLY_TO, FRAME_MAX, calls,
    publish::{Answer, Inner, Place},
    world::{Queued, World},
};
use crate::{
    testing::Settlement,
    wire::{
        AMQPClass, FRAME_OVERHEAD, Frame, FrameDecoder, FrameKind, Properties, basic, channel,
        decode_properties, put_ack, put_body, put_header, put_method, put_nack, read_method, short_truncated,
    },
};

/// The octets of a content header before the properties.
const HEADER_FIXED: usize = 12;

#[derive(Debug)]
pub(super) struct RecordedChannel {
    pub(super) number: u16,
    input: BytesMut,
    pub(super) output: BytesMut,
    decoder: FrameDecoder,
    /// Which one of the recorder it is; 0 before the first.
    opening: u64,
    /// It was closed by an answer: the broker reads nothing but the reply to that.
    closing: bool,
    pub(super) confirms: bool,
    sequence: u64,
    /// How many publishes it has had, with and without confirms.
    published: u64,
    /// The publishes without an answer, by that count.
    held: BTreeSet<u64>,
    content: Option<PartialContent>,
    /// That of consumers that start from now on; 0 for none.
    pub(super) prefetch: u16,
    pub(super) consumers: Vec<RecordedConsumer>,
    last_tag: u64,
    unsettled: BTreeMap<u64, Unsettled>,
}

#[derive(Debug)]
pub(super) struct RecordedConsumer {
    pub(super) tag: String,
    pub(super) queue: String,
    pub(super) no_ack: bool,
    pub(super) prefetch: u16,
    pub(super) unsettled: usize,
}

impl RecordedConsumer {
    pub(super) fn has_room(&self) -> bool {
        self.no_ack || self.prefetch == 0 || self.unsettled < usize::from(self.prefetch)
    }
}

#[derive(Debug)]
struct Unsettled {
    /// Empty for `basic.get`.
    consumer: String,
    settled: watch::Sender<Option<Settlement>>,
}

/// A publish whose body has not come whole.
#[derive(Debug)]
struct PartialContent {
    publish: basic::Publish,
    properties: Properties,
    missing: u64,
    body: BytesMut,
}

impl RecordedChannel {
    pub(super) fn new(number: u16) -> Self {
        Self {
            number,
            input: BytesMut::new(),
            output: BytesMut::new(),
            decoder: FrameDecoder::new(FRAME_MAX),
            opening: 0,
            closing: false,
            confirms: false,
            sequence: 0,
            published: 0,
            held: BTreeSet::new(),
            content: None,
            prefetch: 0,
            consumers: Vec::new(),
            last_tag: 0,
            unsettled: BTreeMap::new(),
        }
    }

    /// Takes what the client has written.
    pub(super) fn receive(&mut self, chunks: &[Bytes], world: &mut World) {
        chunks.iter().for_each(|chunk| self.input.extend_from_slice(chunk));
        while let Ok(Some(batch)) = self.decoder.next_batch(&mut self.input) {
            batch.iter().for_each(|frame| self.frame(&frame, world));
        }
    }

    fn frame(&mut self, frame: &Frame, world: &mut World) {
        let method = || read_method(&frame.payload).ok();
        if self.closing
            && (frame.kind != FrameKind::Method || !matches!(method(), Some(AMQPClass::Channel(_))))
        {
            return;
        }
        match frame.kind {
            FrameKind::Method => match read_method(&frame.payload) {
                Ok(AMQPClass::Basic(basic::AMQPMethod::Publish(publish))) => {
                    let (properties, body) = (Properties::default(), BytesMut::new());
                    self.content = Some(PartialContent { publish, properties, missing: 0, body });
                }
                Ok(method) => {
                    if let Some(reply) = calls::handle(self, world, method) {
                        self.put(&reply);
                    }
                }
                Err(fault) => log::error!("recorder: {fault:?}"),
            },
            FrameKind::Header => self.header(&frame.payload, world),
            FrameKind::Body => self.body(&frame.payload, world),
            FrameKind::Heartbeat => {}
        }
    }

    fn header(&mut self, payload: &[u8], world: &mut World) {
        let Some(content) = &mut self.content else { return };
        let Some((fixed, properties)) = payload.split_at_checked(HEADER_FIXED) else { return };
        content.properties = decode_properties(properties).unwrap_or_default();
        content.missing = fixed.last_chunk().map_or(0, |size| u64::from_be_bytes(*size));
        self.publish_if_whole(world);
    }

    fn body(&mut self, payload: &[u8], world: &mut World) {
        let Some(content) = &mut self.content else { return };
        content.missing = content.missing.saturating_sub(payload.len() as u64);
        content.body.extend_from_slice(payload);
        self.publish_if_whole(world);
    }

    fn publish_if_whole(&mut self, world: &mut World) {
        let Some(PartialContent { publish, properties, body, .. }) =
            self.content.take_if(|content| content.missing == 0)
        else {
            return;
        };
        if self.confirms {
            self.sequence += 1;
        }
        let sequence = if self.confirms { self.sequence } else { 0 };
        self.published += 1;
        let inner = Inner {
            place: Place { channel: self.number, opening: self.opening, count: self.published, sequence },
            exchange: publish.exchange.to_string(),
            routing_key: publish.routing_key.to_string(),
            mandatory: publish.mandatory,
            properties,
            body: body.freeze(),
        };
        let answer = world.next_answer();
        if answer == Answer::Hold {
            self.held.insert(self.published);
        } else {
            self.answer(&inner, &answer);
        }
        world.publish(inner);
    }

    /// Returns whether a publish came in this opening: after a reconnect, another channel has the number.
    pub(super) fn is_open_since(&self, place: Place) -> bool {
        (self.number, self.opening) == (place.channel, place.opening)
    }

    /// Answers a publish that was held. Returns whether it had no answer.
    pub(super) fn answer_held(&mut self, publish: &Inner, answer: &Answer) -> bool {
        let count = publish.place.count;
        let is_held = self.is_open_since(publish.place) && self.held.contains(&count);
        if is_held && *answer != Answer::Hold {
            self.held.remove(&count);
            self.answer(publish, answer);
        }
        is_held
    }

    fn answer(&mut self, publish: &Inner, answer: &Answer) {
        let (number, sequence) = (self.number, publish.place.sequence);
        match answer {
            Answer::Ack if sequence > 0 => put_ack(&mut self.output, number, sequence, false),
            Answer::Nack if sequence > 0 => put_nack(&mut self.output, number, sequence, false, false),
            Answer::Return { code, text } => {
                self.put(&AMQPClass::Basic(basic::AMQPMethod::Return(basic::Return {
                    reply_code: *code,
                    reply_text: short_truncated(text),
                    exchange: short_truncated(&publish.exchange),
                    routing_key: short_truncated(&publish.routing_key),
                })));
                self.put_content(&publish.properties, &publish.body);
                self.answer(publish, &Answer::Ack);
            }
            Answer::Close { code, text } => {
                self.put(&AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
                    reply_code: *code,
                    reply_text: short_truncated(text),
                    class_id: 60,
                    method_id: 40,
                })));
                self.reset();
                self.closing = true;
            }
            Answer::Ack | Answer::Nack | Answer::Hold => {}
        }
    }

    /// Sends a reply to the consumer of the channel's own reply queue, if there is one.
    pub(super) fn deliver_reply(&mut self, queued: Queued) {
        if let Some(consumer) = self.consumers.iter().position(|consumer| consumer.queue == DIRECT_REPLY_TO) {
            self.deliver(consumer, queued);
        }
    }

    /// Sends a message to a consumer.
    pub(super) fn deliver(&mut self, consumer: usize, queued: Queued) {
        let Some(consumer) = self.consumers.get_mut(consumer) else { return };
        self.last_tag += 1;
        let deliver = basic::Deliver {
            consumer_tag: short_truncated(&consumer.tag),
            delivery_tag: self.last_tag,
            redelivered: queued.redelivered,
            exchange: short_truncated(&queued.exchange),
            routing_key: short_truncated(&queued.routing_key),
        };
        if !consumer.no_ack {
            consumer.unsettled += 1;
            let unsettled = Unsettled { consumer: consumer.tag.clone(), settled: queued.settled };
            self.unsettled.insert(self.last_tag, unsettled);
        }
        self.put(&AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)));
        self.put_content(&queued.properties, &queued.body);
    }

    /// Sends a message in reply to `basic.get`.
    pub(super) fn get_ok(&mut self, queued: Queued, no_ack: bool, message_count: u32) {
        self.last_tag += 1;
        let get_ok = basic::GetOk {
            delivery_tag: self.last_tag,
            redelivered: queued.redelivered,
            exchange: short_truncated(&queued.exchange),
            routing_key: short_truncated(&queued.routing_key),
            message_count,
        };
        if !no_ack {
            let unsettled = Unsettled { consumer: String::new(), settled: queued.settled };
            self.unsettled.insert(self.last_tag, unsettled);
        }
        self.put(&AMQPClass::Basic(basic::AMQPMethod::GetOk(get_ok)));
        self.put_content(&queued.properties, &queued.body);
    }

    /// The client has settled a delivery; with `multiple` all up to it, and all with the tag 0.
    pub(super) fn settle(&mut self, tag: u64, multiple: bool, settlement: Settlement) {
        let rest = match (multiple, tag) {
            (true, 0 | u64::MAX) => BTreeMap::new(),
            (true, tag) => self.unsettled.split_off(&(tag + 1)),
            (false, tag) => {
                if let Some(one) = self.unsettled.remove(&tag) {
                    self.settled(&one, settlement);
                }
                return;
            }
        };
        for one in std::mem::replace(&mut self.unsettled, rest).values() {
            self.settled(one, settlement);
        }
    }

    fn settled(&mut self, one: &Unsettled, settlement: Settlement) {
        one.settled.send_replace(Some(settlement));
        if let Some(consumer) = self.consumers.iter_mut().find(|consumer| consumer.tag == one.consumer) {
            consumer.unsettled = consumer.unsettled.saturating_sub(1);
        }
    }

    /// The client settles none of its deliveries any more: they would return to their queues.
    pub(super) fn give_up_unsettled(&mut self) {
        self.unsettled.clear();
        self.consumers.iter_mut().for_each(|consumer| consumer.unsettled = 0);
    }

    pub(super) fn open(&mut self, opening: u64) {
        self.reset();
        self.opening = opening;
    }

    /// The channel is opened or closed: it has no consumers and no unsettled deliveries.
    pub(super) fn reset(&mut self) {
        self.closing = false;
        (self.confirms, self.sequence, self.prefetch, self.last_tag) = (false, 0, 0, 0);
        self.content = None;
        self.held.clear();
        self.consumers.clear();
        self.unsettled.clear();
    }

    fn put(&mut self, method: &AMQPClass) {
        if let Err(fault) = put_method(&mut self.output, self.number, method) {
            log::error!("recorder: {fault:?}");
        }
    }

    fn put_content(&mut self, properties: &Properties, body: &Bytes) {
        put_header(&mut self.output, self.number, body.len() as u64, properties);
        for part in body.chunks(FRAME_MAX as usize - FRAME_OVERHEAD) {
            put_body(&mut self.output, self.number, part);
        }
    }
}
