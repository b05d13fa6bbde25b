//! What a broker sends: frames put together to answers.

use std::collections::BTreeSet;

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{AMQPClass, BasicProperties, basic, channel, connection, queue},
};
use tokio::time::{Instant, timeout_at};

use super::{
    answer::{Answer, Said, content, said},
    operation::At,
    side::{MONITOR, SPARE, Side},
    socket::Event,
};

/// An open channel.
#[derive(Default)]
pub(crate) struct Channel {
    /// The number of the next publish, after `confirm.select`.
    pub(crate) next_publish: Option<u64>,
    pub(crate) unconfirmed: BTreeSet<u64>,
    pub(crate) last_delivery: u64,
    content: Option<Content>,
    /// How many `flow-ok` are due.
    pub(crate) barriers: u32,
    /// What was said on a channel that no operation uses.
    pub(crate) spare: Vec<Said>,
    /// Replies that have come, and closes.
    pub(crate) replies: u32,
}

/// A content that has not come in full.
struct Content {
    method: basic::AMQPMethod,
    size: u64,
    properties: BasicProperties,
    body: Vec<u8>,
}

impl Side {
    /// Waits until something was said, or until then.
    pub(crate) async fn more(&mut self, until: Instant) -> bool {
        let Ok(Some((number, event))) = timeout_at(until, self.next_event()).await else { return false };
        let Some(letter) = self.letter_of(number) else { return true };
        match event {
            Event::Frame(frame) => self.take_frame(letter, *frame).await,
            Event::Unreadable(text) => {
                self.note(At { connection: letter, channel: 0 }, Said::Reply(format!("unreadable: {text}")));
                self.remove(letter);
            }
            Event::Ended => {
                if !self.is_closed(letter) {
                    self.note(At { connection: letter, channel: 0 }, Said::Ended);
                }
                self.remove(letter);
            }
        }
        true
    }

    async fn take_frame(&mut self, letter: char, frame: AMQPFrame) {
        match frame {
            AMQPFrame::Method(channel, method) => {
                self.take_method(At { connection: letter, channel }, method).await;
            }
            AMQPFrame::Header(channel, header) => {
                let at = At { connection: letter, channel };
                if let Some(content) = self.channel_mut(at).and_then(|channel| channel.content.as_mut()) {
                    content.size = header.body_size;
                    content.properties = header.properties;
                }
                self.take_content(at);
            }
            AMQPFrame::Body(channel, part) => {
                let at = At { connection: letter, channel };
                // A node may go on to deliver to a channel that it has closed, until it has the `close-ok`.
                let Some(channel) = self.channel_mut(at) else { return };
                match channel.content.as_mut() {
                    Some(content) => content.body.extend(part),
                    None => self.note(at, Said::Reply("body without header".into())),
                }
                self.take_content(at);
            }
            other => self.note(At { connection: letter, channel: 0 }, Said::Reply(format!("{other:?}"))),
        }
    }

    async fn take_method(&mut self, at: At, method: AMQPClass) {
        use {
            basic::AMQPMethod as Basic, channel::AMQPMethod as OfChannel,
            connection::AMQPMethod as OfConnection,
        };
        match method {
            AMQPClass::Channel(OfChannel::FlowOk(_) | OfChannel::OpenOk(_)) => {
                if let Some(channel) = self.channel_mut(at) {
                    channel.barriers = channel.barriers.saturating_sub(1);
                }
            }
            AMQPClass::Channel(OfChannel::Close(_)) => {
                let close_ok = AMQPClass::Channel(OfChannel::CloseOk(channel::CloseOk {}));
                self.reply(at, close_ok).await;
                self.tell(at, method);
                if !is_spare(at) {
                    self.forget(at);
                }
            }
            AMQPClass::Channel(OfChannel::CloseOk(_)) => {
                self.tell(at, method);
                self.forget(at);
            }
            AMQPClass::Connection(OfConnection::Close(_)) => {
                let close_ok = AMQPClass::Connection(OfConnection::CloseOk(connection::CloseOk {}));
                self.reply(at, close_ok).await;
                self.tell(at, method);
                self.close(at.connection);
            }
            AMQPClass::Connection(OfConnection::CloseOk(_)) => self.remove(at.connection),
            AMQPClass::Basic(method @ (Basic::Deliver(_) | Basic::GetOk(_) | Basic::Return(_))) => {
                if let Some(channel) = self.channel_mut(at) {
                    let properties = BasicProperties::default();
                    channel.content = Some(Content { method, size: u64::MAX, properties, body: Vec::new() });
                }
            }
            AMQPClass::Basic(Basic::Ack(ack)) => self.confirm(at, ack.delivery_tag, ack.multiple, false),
            AMQPClass::Basic(Basic::Nack(nack)) => self.confirm(at, nack.delivery_tag, nack.multiple, true),
            method => self.tell(at, method),
        }
    }

    fn tell(&mut self, at: At, method: AMQPClass) {
        if let AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) = &method {
            self.note_generated(ok.queue.as_str());
        }
        let said = said(method, |text| self.names().short(text));
        self.note(at, said);
    }

    /// Takes a confirm for one publish or, with `multiple`, for all up to it.
    fn confirm(&mut self, at: At, number: u64, multiple: bool, refused: bool) {
        let Some(channel) = self.channel_mut(at) else { return };
        let covers =
            |unconfirmed: &u64| *unconfirmed == number || multiple && (number == 0 || *unconfirmed < number);
        let numbers: Vec<u64> = channel.unconfirmed.iter().copied().filter(covers).collect();
        channel.unconfirmed.retain(|number| !numbers.contains(number));
        if numbers.is_empty() {
            self.note(at, Said::Reply(format!("confirm of {number}, which is not due")));
        }
        for number in numbers {
            self.note(at, Said::Confirm { number, refused });
        }
    }

    /// Notes a content that has come in full.
    fn take_content(&mut self, at: At) {
        let Some(channel) = self.channel_mut(at) else { return };
        let Some(Content { method, properties, body, .. }) =
            channel.content.take_if(|content| content.body.len() as u64 >= content.size)
        else {
            return;
        };
        let step = match &method {
            basic::AMQPMethod::Deliver(basic::Deliver { delivery_tag, .. })
            | basic::AMQPMethod::GetOk(basic::GetOk { delivery_tag, .. }) => {
                let step = delivery_tag.wrapping_sub(channel.last_delivery);
                channel.last_delivery = *delivery_tag;
                step
            }
            _ => 1,
        };
        if at.connection == MONITOR {
            return;
        }
        let names = self.names().clone();
        self.note_reply_address(&properties);
        self.note(at, content(method, &properties, &body, |text| names.short(text)));
        if step != 1 {
            self.note(at, Said::Reply(format!("its tag is {} above the last one", step.cast_signed())));
        }
    }

    fn note(&mut self, at: At, said: Said) {
        if let Some(channel) = self.channel_mut(at) {
            channel.replies += u32::from(is_reply(&said));
            if is_spare(at) {
                channel.spare.push(said);
                return;
            }
        }
        if at.connection != MONITOR {
            self.answers_mut().push(Answer { at, said });
        }
    }
}

impl Channel {
    /// A channel whose open-ok is due.
    pub(crate) fn opening() -> Self {
        Self { barriers: 1, ..Self::default() }
    }

    pub(crate) fn has_spare(&self) -> bool {
        self.spare.iter().any(is_reply)
    }

    /// Takes the reply to what was asked.
    pub(crate) fn take_spare(&mut self) -> Option<Said> {
        let at = self.spare.iter().position(is_reply)?;
        Some(self.spare.remove(at))
    }
}

fn is_spare(at: At) -> bool {
    at.connection == MONITOR || at.channel >= SPARE
}

fn is_reply(said: &Said) -> bool {
    match said {
        Said::Reply(_) | Said::Got { .. } | Said::ChannelClosed(_) => true,
        Said::Consumer { text, .. } => text != "cancel",
        _ => false,
    }
}
