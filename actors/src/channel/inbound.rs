//! What the broker says on a channel: answers, content, confirms.
//!
//! Deliveries of one run are noted in the outbox under one lock and handed on consumer by consumer.

use std::sync::{Arc, atomic::AtomicBool};

use bytes::Bytes;

use super::{Channel, ChannelState, acker::ChannelAcker, replies::PendingReply};
use crate::{
    error::Error,
    message::{
        ChannelEvent, Consumed, ContentLayout, Delivery, DeliveryParts, QueueDeclared, QueueName,
        internal::Entity,
    },
    outbox::{Outcome, Seen},
    returned::Return,
    wire::{
        AMQPClass, AssembledContent, Assembler, ContentMethod, Deliver, Fault, Frame, FrameBatch, FrameKind,
        FrameViews, HEAD_LEN, Inbound, basic, channel, confirm, decode_properties, exchange, ids,
        parse_method, queue, read_method, single_frame_delivery, tx,
    },
};

/// What is being assembled, and what one run has brought so far.
#[derive(Debug)]
pub(super) struct Inbox {
    assembler: Assembler,
    /// Deliveries that the outbox has not noted yet, and who must settle them.
    seen: Vec<Seen>,
    /// Those of them that are for nobody.
    strays: Vec<u64>,
}

impl Inbox {
    /// Notes a delivery that `consumer` must settle, or nobody.
    fn saw(&mut self, tag: u64, consumer: Option<u32>) {
        match self.seen.last_mut() {
            Some(seen) if seen.consumer == consumer && tag == seen.last + 1 => seen.last = tag,
            _ => self.seen.push(Seen { first: tag, last: tag, consumer }),
        }
    }

    pub(super) fn new(body_max: u64) -> Self {
        Self { assembler: Assembler::new(body_max), seen: Vec::new(), strays: Vec::new() }
    }

    /// Forgets what a life has left unfinished.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.assembler.body_limit());
    }
}

impl Channel {
    /// Reads one run of frames.
    pub(super) fn read(&mut self, run: &FrameBatch) -> Result<(), Fault> {
        let bytes = &run.bytes;
        let mut rest = run.views();
        while rest.remaining() > 0 {
            let at = bytes.len() - rest.remaining();
            let open = !matches!(self.phase, ChannelState::Closed(_) | ChannelState::Closing { .. });
            if open && self.inbox.assembler.idle() {
                let front = bytes.get(at..).unwrap_or_default();
                if let Some(whole) = single_frame_delivery(front, self.inbox.assembler.body_limit()) {
                    rest = FrameViews::new(front.get(whole.len..).unwrap_or_default());
                    let own = bytes.slice(at + HEAD_LEN..at + whole.len);
                    let content =
                        ContentLayout::Contiguous { properties: whole.properties, body: whole.body };
                    self.deliver(&whole.deliver, own, content);
                    continue;
                }
            }
            let Some(view) = rest.next() else { break };
            let payload = bytes.slice_ref(view.payload);
            let frame = Frame { kind: view.kind, channel: view.channel, payload };
            match self.phase {
                ChannelState::Closed(_) => return Ok(()),
                ChannelState::Closing { .. } => self.read_while_closing(&frame)?,
                _ => self.read_frame(frame)?,
            }
        }
        self.hand_on()
    }

    fn deliver(&mut self, head: &Deliver, bytes: Bytes, content: ContentLayout) {
        let tag = head.delivery_tag;
        let Some((at, entry)) = self.consumers.find(head.consumer_tag.of(&bytes)) else {
            self.inbox.saw(tag, Some(0));
            self.inbox.strays.push(tag);
            return;
        };
        let no_ack = entry.no_ack;
        if self.recovering > 0 && !no_ack {
            self.inbox.saw(tag, None);
            return;
        }
        self.inbox.saw(tag, (!no_ack).then_some(entry.link.consumer));
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

    fn read_frame(&mut self, frame: Frame) -> Result<(), Fault> {
        let content = match frame.kind {
            FrameKind::Method => return self.read_method_frame(frame.payload),
            FrameKind::Header => self.inbox.assembler.header(&frame.payload)?,
            FrameKind::Body => self.inbox.assembler.body(frame.payload)?,
            FrameKind::Heartbeat => return Err(Fault::frame("a heartbeat on a channel")),
        };
        match content {
            Some(content) => self.take_content(content),
            None => Ok(()),
        }
    }

    fn read_method_frame(&mut self, payload: Bytes) -> Result<(), Fault> {
        if !self.inbox.assembler.idle() {
            return Err(Fault::unexpected("a method before the content was complete"));
        }
        match parse_method(&payload)? {
            Inbound::Deliver(head) => self.inbox.assembler.begin(ContentMethod::Deliver(head), payload),
            Inbound::GetOk(head) => {
                self.replies.awaits(60, 71)?;
                self.inbox.assembler.begin(ContentMethod::GetOk(head), payload)
            }
            Inbound::Return(head) => self.inbox.assembler.begin(ContentMethod::Return(head), payload),
            Inbound::GetEmpty => {
                if let PendingReply::Got { responder, .. } = self.replies.next(60, 72)? {
                    drop(responder.send(Ok(None)));
                }
                Ok(())
            }
            Inbound::Ack { tag, multiple } => self.confirmed(self.outbox.ack(tag, multiple), tag, 80),
            Inbound::Nack { tag, multiple, .. } => {
                let known = self.outbox.nack(tag, multiple);
                self.nacks.put_off |= known == Ok(true);
                self.confirmed(known.map(drop), tag, 120)
            }
            Inbound::Other { .. } => self.read_other(&payload),
        }
    }

    fn confirmed(&self, known: Result<(), ()>, tag: u64, method_id: u16) -> Result<(), Fault> {
        known.map_err(|()| {
            Fault::command(format!("a confirm for publish {tag}, which was never made"))
                .with_method(60, method_id)
        })
    }

    fn read_other(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let method = read_method(payload)?;
        let (class_id, method_id) = ids(&method);
        match method {
            AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                self.hand_on()?;
                self.closed_by_broker(close);
            }
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)) => self.close_answered()?,
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)) => {
                self.replies.next(class_id, method_id)?;
                self.opened(false);
            }
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_)) => {
                self.replies.next(class_id, method_id)?;
                self.opened(true);
            }
            AMQPClass::Channel(channel::AMQPMethod::Flow(flow)) => {
                log::warn!("channel {}: the broker asks for flow {}", self.number(), flow.active);
                self.watchers.notify(&ChannelEvent::Flow(flow.active));
                let answer = channel::AMQPMethod::FlowOk(channel::FlowOk { active: flow.active });
                self.say(&AMQPClass::Channel(answer));
            }
            AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
                self.hand_on()?;
                self.cancelled_by_broker(cancel.consumer_tag.as_str());
            }
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)) => {
                match self.replies.of_consumer(class_id, method_id, ok.consumer_tag.as_str())? {
                    PendingReply::Consumed { tag, responder, cancel } => {
                        self.consumed(&tag, ok.consumer_tag.as_str(), responder);
                        if let Some(responders) = cancel {
                            self.cancel(&tag, None);
                            responders.into_iter().for_each(|r| self.cancel(&tag, Some(r)));
                        }
                    }
                    PendingReply::Resumed { tag, consumer, cancel, .. } => {
                        self.resumed(&tag, consumer);
                        if let Some(responders) = cancel {
                            self.cancel(&tag, None);
                            responders.into_iter().for_each(|r| self.cancel(&tag, Some(r)));
                        }
                    }
                    _ => {
                        return Err(
                            Fault::command("an answer of another kind").with_method(class_id, method_id)
                        );
                    }
                }
            }
            AMQPClass::Basic(basic::AMQPMethod::CancelOk(ok)) => {
                let consumer_tag = ok.consumer_tag.as_str();
                if let PendingReply::Cancelled { consumer, responders, .. } =
                    self.replies.of_consumer(class_id, method_id, consumer_tag)?
                {
                    self.hand_on()?;
                    self.cancelled(consumer_tag, consumer);
                    responders.into_iter().for_each(|r| drop(r.send(Ok(()))));
                }
            }
            AMQPClass::Basic(basic::AMQPMethod::RecoverOk(_)) => {
                // What came until now is requeued; what comes from now on counts.
                if let PendingReply::Recovered(responder) = self.replies.next(class_id, method_id)? {
                    self.recovering = self.recovering.saturating_sub(1);
                    drop(responder.send(Ok(())));
                }
            }
            AMQPClass::Tx(tx::AMQPMethod::CommitOk(_)) => {
                match self.replies.next(class_id, method_id)? {
                    PendingReply::Committed(responder) => self.committed(responder),
                    // The end of a rollback.
                    PendingReply::Done(responder) => drop(responder.send(Ok(()))),
                    _ => {}
                }
            }
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => {
                if let PendingReply::Declared { record, responder } =
                    self.replies.next(class_id, method_id)?
                {
                    let name = QueueName::new(ok.queue.to_string());
                    if let Some(declare) = record {
                        self.record(Entity::Queue { declare: *declare, name: name.clone() });
                    }
                    drop(responder.send(Ok(QueueDeclared {
                        name: ok.queue.to_string(),
                        message_count: ok.message_count,
                        consumer_count: ok.consumer_count,
                        current_name: name,
                    })));
                }
            }
            AMQPClass::Queue(queue::AMQPMethod::PurgeOk(ok)) => {
                self.counted(class_id, method_id, ok.message_count)?
            }
            AMQPClass::Queue(queue::AMQPMethod::DeleteOk(ok)) => {
                self.counted(class_id, method_id, ok.message_count)?;
            }
            AMQPClass::Queue(queue::AMQPMethod::BindOk(_) | queue::AMQPMethod::UnbindOk(_))
            | AMQPClass::Exchange(
                exchange::AMQPMethod::DeclareOk(_)
                | exchange::AMQPMethod::DeleteOk(_)
                | exchange::AMQPMethod::BindOk(_)
                | exchange::AMQPMethod::UnbindOk(_),
            )
            | AMQPClass::Tx(tx::AMQPMethod::SelectOk(_) | tx::AMQPMethod::RollbackOk(_))
            | AMQPClass::Basic(basic::AMQPMethod::QosOk(_)) => {
                if let PendingReply::Done(responder) = self.replies.next(class_id, method_id)? {
                    drop(responder.send(Ok(())));
                }
            }
            _ => {
                return Err(
                    Fault::command("a method that only clients send").with_method(class_id, method_id)
                );
            }
        }
        Ok(())
    }

    fn counted(&mut self, class_id: u16, method_id: u16, count: u32) -> Result<(), Fault> {
        if let PendingReply::Count(responder) = self.replies.next(class_id, method_id)? {
            drop(responder.send(Ok(count)));
        }
        Ok(())
    }

    /// Between our `channel.close` and its answer only the two methods that end the channel count.
    fn read_while_closing(&mut self, frame: &Frame) -> Result<(), Fault> {
        if frame.kind != FrameKind::Method {
            return Ok(());
        }
        if let Inbound::Other { class_id: 20, method_id } = parse_method(&frame.payload)? {
            match method_id {
                40 => {
                    // Both closed at once: each wants its own answer.
                    let close_ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
                    self.outbox.final_frames(self.frame(&AMQPClass::Channel(close_ok))?);
                    self.closes_crossed();
                }
                41 => self.close_answered()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn take_content(&mut self, content: AssembledContent) -> Result<(), Fault> {
        let separate = |content: &AssembledContent| {
            ContentLayout::Separate(Box::new((content.header.properties.clone(), content.body.clone())))
        };
        match &content.method {
            ContentMethod::Deliver(head) => {
                self.deliver(head, content.payload.clone(), separate(&content));
                Ok(())
            }
            ContentMethod::GetOk(head) => {
                let head = head.clone();
                self.hand_on()?;
                let PendingReply::Got { no_ack, responder } = self.replies.next(60, 71)? else {
                    return Err(Fault::command("an answer of another kind").with_method(60, 71));
                };
                let requeued = self.recovering > 0 && !no_ack;
                self.inbox.saw(head.delivery_tag, (!no_ack && !requeued).then_some(0));
                self.hand_on()?;
                let link = ChannelAcker {
                    outbox: self.outbox.clone(),
                    consumer: 0,
                    tag: Arc::from(""),
                    credit: None,
                    inlet: None,
                    warned: AtomicBool::new(true),
                    offsets: None,
                    held: None,
                };
                let delivery = Delivery::new(
                    Arc::new(link),
                    DeliveryParts {
                        content: separate(&content),
                        bytes: content.payload,
                        tag: head.delivery_tag,
                        channel_epoch: self.channel_epoch.wrapping_sub(requeued.into()),
                        message_count: Some(head.message_count),
                        exchange: head.exchange,
                        routing_key: head.routing_key,
                        redelivered: head.redelivered,
                        no_ack,
                    },
                );
                // Nobody waits any more: dropping it puts it back into its queue.
                drop(responder.send(Ok(Some(delivery))));
                Ok(())
            }
            ContentMethod::Return(head) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let returned = Return {
                    code: head.code,
                    text: text(head.text.of(&content.payload)),
                    exchange: text(head.exchange.of(&content.payload)),
                    routing_key: text(head.routing_key.of(&content.payload)),
                    properties: decode_properties(&content.header.properties).map_err(Error::properties),
                    body: content.body.clone(),
                };
                if let Some(returned) = self.outbox.returned(returned, &content.header.properties) {
                    self.transacting.returned(&returned);
                    log::debug!(
                        "channel {}: a publish without confirms came back: {} {}",
                        self.number(),
                        returned.code,
                        returned.text
                    );
                    self.watchers.notify(&ChannelEvent::Returned(returned));
                }
                Ok(())
            }
        }
    }

    /// Notes what the run has delivered and hands it to its consumers.
    pub(super) fn hand_on(&mut self) -> Result<(), Fault> {
        if self.inbox.seen.is_empty() {
            return Ok(());
        }
        self.outbox.delivered(&self.inbox.seen).map_err(out_of_turn)?;
        self.inbox.seen.clear();
        for tag in self.inbox.strays.drain(..) {
            // Legal while a cancel is under way; nobody can settle it but us.
            log::debug!("channel {}: a delivery for no consumer goes back", self.outbox.terms().channel);
            drop(self.outbox.settle(self.channel_epoch, tag, 0, Outcome::Reject { requeue: true }));
        }
        self.consumers.flush();
        Ok(())
    }

    /// Sends a method that is not answered.
    pub(super) fn say(&self, method: &AMQPClass) {
        if let Ok(frame) = self.frame(method) {
            // Closed already: then nobody listens either.
            drop(self.outbox.method(frame));
        }
    }

    fn consumed(&mut self, tag: &str, named: &str, responder: super::Responder<Consumed>) {
        if tag != named {
            log::warn!("channel {}: the broker renamed consumer {tag:?} to {named:?}", self.number());
        }
        let answer = match self.consumers.get(tag.as_bytes()) {
            Some(entry) => {
                let (consumed, robust) = (entry.consumed(), entry.robust);
                let (tag, queue) = (entry.link.tag.clone(), entry.queue.clone());
                if robust {
                    self.record(Entity::Consumer { channel: self.number(), tag, queue });
                }
                Ok(consumed)
            }
            None => Err(Error::refused_here("the consumer was cancelled before it began")),
        };
        if responder.send(answer).is_err() {
            log::debug!("channel {}: nobody waits for consumer {tag:?} any more; cancelled", self.number());
            self.cancel(tag, None);
        }
    }
}

fn out_of_turn(tag: u64) -> Fault {
    Fault::command(format!("delivery tag {tag} is out of turn")).with_method(60, 60)
}
