//! Reads the frames that the broker sends on a channel, and dispatches them.
//!
//! The time is passed as a function, so that the clock is not read for batches that do not need it.

use bytes::Bytes;
use tokio::time::Instant;

use super::{ChannelMachine, PendingReply, pending_reply::answer_all, state::Reading};
use crate::{
    internal::Entity,
    message::{ChannelEvent, ContentLayout, QueueDeclared, QueueName, methods},
    transport::SMALL,
    wire::{
        AMQPClass, ContentMethod, Fault, Frame, FrameBatch, FrameKind, FrameViews, HEAD_LEN, Inbound, basic,
        channel, confirm, exchange, ids, parse_method, queue, read_method, single_frame_delivery, tx,
    },
};

impl ChannelMachine {
    /// Reads a batch of frames of the connection with this epoch.
    pub(super) fn frames(&mut self, epoch: u64, batch: &FrameBatch, now: impl Fn() -> Instant) {
        if self.connection.as_ref().is_none_or(|connection| connection.epoch != epoch) {
            let (channel, frames) = (self.number(), batch.frames);
            log::debug!("channel {channel}: {frames} frames of an earlier connection dropped");
            return;
        }
        if let Err(fault) = self.read(batch, &now) {
            self.fault(fault);
        }
        self.report_changes();
        self.note_replies();
        if self.state.awaits_recovery() {
            self.finish_recovery(now());
        }
        if !self.waiting.is_empty() {
            self.make_waiting();
        }
        self.schedule_nack_retry();
        if self.is_closing_soon() {
            self.continue_closing(now());
        }
        if self.state.is_recovering() {
            self.outputs.request_tick();
        }
    }

    fn read(&mut self, batch: &FrameBatch, now: &impl Fn() -> Instant) -> Result<(), Fault> {
        let copies_small =
            self.connection.as_ref().is_some_and(|connection| connection.credit.copies_small());
        let copy_below = if copies_small { SMALL } else { 0 };
        self.inbox.copy_below = copy_below;
        let bytes = &batch.bytes;
        let mut rest = batch.views();
        let mut reading = self.state.reading();
        let mut at_start = self.inbox.assembler.idle();
        let body_limit = self.inbox.assembler.body_limit();
        while rest.remaining() > 0 {
            let at = bytes.len() - rest.remaining();
            if reading == Reading::All && at_start {
                let front = bytes.get(at..).unwrap_or_default();
                if let Some(single) = single_frame_delivery(front, body_limit) {
                    rest = FrameViews::new(front.get(single.len..).unwrap_or_default());
                    let own = if single.len < copy_below {
                        copied(front, single.len)
                    } else {
                        bytes.slice(at + HEAD_LEN..at + single.len)
                    };
                    let layout =
                        ContentLayout::Contiguous { properties: single.properties, body: single.body };
                    self.deliver(&single.deliver, own, layout);
                    continue;
                }
            }
            let Some(view) = rest.next() else { break };
            let payload = bytes.slice_ref(view.payload);
            let frame = Frame { kind: view.kind, channel: view.channel, payload };
            match reading {
                Reading::All => self.read_frame(frame, now)?,
                Reading::Recovery | Reading::Opening => self.read_while_opening(frame, reading, now)?,
                Reading::Close => self.read_while_closing(&frame, now)?,
                Reading::Nothing => return Ok(()),
            }
            // A delivery in one step changes neither.
            reading = self.state.reading();
            at_start = self.inbox.assembler.idle();
        }
        self.inbox.assembler.detach();
        self.flush_deliveries(now)
    }

    pub(super) fn read_frame(&mut self, frame: Frame, now: &impl Fn() -> Instant) -> Result<(), Fault> {
        let content = match frame.kind {
            FrameKind::Method => return self.read_method_frame(frame.payload, now),
            FrameKind::Header => self.inbox.assembler.header(&frame.payload)?,
            FrameKind::Body => self.inbox.assembler.body(frame.payload)?,
            FrameKind::Heartbeat => return Err(Fault::frame("a heartbeat on a channel")),
        };
        match content {
            Some(content) => self.take_content(content, now),
            None => Ok(()),
        }
    }

    fn read_method_frame(&mut self, payload: Bytes, now: &impl Fn() -> Instant) -> Result<(), Fault> {
        if !self.inbox.assembler.idle() {
            return Err(Fault::unexpected("a method before the content was complete"));
        }
        match parse_method(&payload)? {
            Inbound::Deliver(head) => self.inbox.assembler.begin(ContentMethod::Deliver(head), payload),
            Inbound::GetOk(head) => {
                self.replies.check_next(60, 71)?;
                self.inbox.assembler.begin(ContentMethod::GetOk(head), payload)
            }
            Inbound::Return(head) => self.inbox.assembler.begin(ContentMethod::Return(head), payload),
            Inbound::GetEmpty => {
                if let PendingReply::Got { responder, .. } = self.replies.next(60, 72)? {
                    let _ = responder.send(Ok(None));
                }
                Ok(())
            }
            Inbound::Ack { tag, multiple } => {
                self.outbox.ack(tag, multiple).map_err(|()| never_written(tag, 80))
            }
            Inbound::Nack { tag, multiple, .. } => {
                if self.outbox.nack(tag, multiple).map_err(|()| never_written(tag, 120))? {
                    self.nacks.defer();
                }
                Ok(())
            }
            Inbound::Other { .. } => self.read_method(read_method(&payload)?, now()),
        }
    }

    /// Reads a method that is neither of a message nor a confirm.
    fn read_method(&mut self, method: AMQPClass, now: Instant) -> Result<(), Fault> {
        let (class_id, method_id) = ids(&method);
        match method {
            AMQPClass::Channel(method) => self.read_channel_method(method, now)?,
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_)) => {
                self.replies.next(class_id, method_id)?;
                self.opened(true);
            }
            AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
                self.flush_deliveries(&|| now)?;
                self.cancelled_by_broker(cancel.consumer_tag.as_str(), now);
            }
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)) => {
                let named = ok.consumer_tag.as_str();
                match self.replies.of_consumer(class_id, method_id, named)? {
                    PendingReply::Consumed { tag, responder, cancel } => {
                        self.consumed(&tag, named, responder, cancel, now);
                    }
                    PendingReply::Restarted { tag, consumer, cancel } => {
                        self.restarted(&tag, consumer, cancel, now);
                    }
                    _ => {
                        let fault = Fault::command("a reply to another method");
                        return Err(fault.with_method(class_id, method_id));
                    }
                }
            }
            AMQPClass::Basic(basic::AMQPMethod::CancelOk(ok)) => {
                let tag = ok.consumer_tag.as_str();
                if let PendingReply::Cancelled { consumer, responders, .. } =
                    self.replies.of_consumer(class_id, method_id, tag)?
                {
                    self.flush_deliveries(&|| now)?;
                    self.cancelled(tag, consumer, now);
                    answer_all(responders, &Ok(()));
                }
            }
            AMQPClass::Basic(basic::AMQPMethod::RecoverOk(_)) => {
                if let PendingReply::BasicRecovered(responder) = self.replies.next(class_id, method_id)? {
                    self.basic_recovered(responder);
                }
            }
            AMQPClass::Tx(tx::AMQPMethod::CommitOk(_) | tx::AMQPMethod::RollbackOk(_)) => {
                let reply = self.replies.next(class_id, method_id)?;
                self.transaction_answered(reply);
            }
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => {
                let reply = self.replies.next(class_id, method_id)?;
                self.queue_declared(reply, &ok);
            }
            AMQPClass::Queue(
                queue::AMQPMethod::PurgeOk(queue::PurgeOk { message_count })
                | queue::AMQPMethod::DeleteOk(queue::DeleteOk { message_count }),
            ) => {
                if let PendingReply::Count(responder) = self.replies.next(class_id, method_id)? {
                    let _ = responder.send(Ok(message_count));
                }
            }
            AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(_)) => {
                if let Some(name) = self.replies.next_entity() {
                    // Before the caller has its reply.
                    self.outbox.missing().remove(name);
                }
                self.done(class_id, method_id)?;
            }
            AMQPClass::Queue(queue::AMQPMethod::BindOk(_) | queue::AMQPMethod::UnbindOk(_))
            | AMQPClass::Exchange(
                exchange::AMQPMethod::DeleteOk(_)
                | exchange::AMQPMethod::BindOk(_)
                | exchange::AMQPMethod::UnbindOk(_),
            )
            | AMQPClass::Tx(tx::AMQPMethod::SelectOk(_))
            | AMQPClass::Basic(basic::AMQPMethod::QosOk(_)) => self.done(class_id, method_id)?,
            _ => return Err(only_of_clients(class_id, method_id)),
        }
        Ok(())
    }

    /// A reply without content has come.
    fn done(&mut self, class_id: u16, method_id: u16) -> Result<(), Fault> {
        if let PendingReply::Done(responder) = self.replies.next(class_id, method_id)? {
            let _ = responder.send(Ok(()));
        }
        Ok(())
    }

    fn read_channel_method(&mut self, method: channel::AMQPMethod, now: Instant) -> Result<(), Fault> {
        match method {
            channel::AMQPMethod::Close(close) => {
                self.flush_deliveries(&|| now)?;
                self.closed_by_broker(close, now);
                Ok(())
            }
            channel::AMQPMethod::CloseOk(_) => self.close_answered(now),
            channel::AMQPMethod::OpenOk(_) => {
                self.replies.next(20, 11)?;
                self.outbox.opened();
                self.state.open_answered();
                self.opened(false);
                Ok(())
            }
            channel::AMQPMethod::Flow(channel::Flow { active }) => {
                if let Some(so_far) = self.logged.flow.count(now) {
                    log::warn!("channel {}: channel.flow {active}{so_far}", self.number());
                }
                self.notify(ChannelEvent::Flow(active));
                self.answer(&methods::flow_ok(active));
                Ok(())
            }
            other => {
                let (class_id, method_id) = ids(&AMQPClass::Channel(other));
                Err(only_of_clients(class_id, method_id))
            }
        }
    }

    /// The reply to `queue.declare` has come: the queue has its name.
    fn queue_declared(&mut self, reply: PendingReply, ok: &queue::DeclareOk) {
        let PendingReply::Declared { record, responder } = reply else { return };
        let name = QueueName::new(ok.queue.to_string());
        if let Some(declare) = record {
            self.record(Entity::Queue { declare: *declare, name: name.clone() });
        }
        let _ = responder.send(Ok(QueueDeclared {
            name: ok.queue.to_string(),
            message_count: ok.message_count,
            consumer_count: ok.consumer_count,
            current_name: name,
        }));
    }

    /// Reads frames between the client's `channel.close` and its reply. Only `channel.close` and
    /// `channel.close-ok` matter, and `channel.open-ok`, behind which there is no reply to an earlier close.
    fn read_while_closing(&mut self, frame: &Frame, now: &impl Fn() -> Instant) -> Result<(), Fault> {
        if frame.kind != FrameKind::Method {
            return Ok(());
        }
        match parse_method(&frame.payload)? {
            Inbound::Other { class_id: 20, method_id: 40 } => {
                // Both sides have sent a close, and each gets a close-ok.
                self.outbox.append_final_frame(self.frame(&methods::channel_close_ok())?);
                self.closes_crossed();
                Ok(())
            }
            Inbound::Other { class_id: 20, method_id: 41 } => self.close_answered(now()),
            Inbound::Other { class_id: 20, method_id: 11 } => {
                self.state.open_answered();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Copies a delivery at the front of checked frames out of its block.
#[cold]
fn copied(front: &[u8], len: usize) -> Bytes {
    front.get(HEAD_LEN..len).map(Bytes::copy_from_slice).unwrap_or_default()
}

fn never_written(tag: u64, method_id: u16) -> Fault {
    Fault::command(format!("a confirm for publish {tag}, which was not written")).with_method(60, method_id)
}

fn only_of_clients(class_id: u16, method_id: u16) -> Fault {
    Fault::command("a method that only clients send").with_method(class_id, method_id)
}
