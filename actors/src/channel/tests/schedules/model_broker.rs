//! A model of the broker's side of one channel on one connection, for random schedules.
//!
//! It answers each method, and panics for one for which a broker closes the connection.

use std::collections::{BTreeSet, VecDeque};

use crate::wire::{AMQPClass, basic, channel, confirm, queue};

/// What a broker has of the channel on one connection.
#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) state: BrokerChannel,
    pub(super) consumers: BTreeSet<String>,
    pub(super) replies: VecDeque<AMQPClass>,
    /// Replies of queues, which those of the channel may overtake.
    pub(super) queue_replies: VecDeque<AMQPClass>,
    pub(super) omits_close_ok: bool,
    pub(super) published: u64,
}

/// Exchanges that are deleted, or to which the user may not publish.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    pub(super) missing: BTreeSet<&'static str>,
    pub(super) forbidden: BTreeSet<&'static str>,
}

#[derive(Debug, Default, PartialEq)]
pub(super) enum BrokerChannel {
    #[default]
    Closed,
    Open,
    /// The broker has sent `channel.close`, and ignores everything until the reply.
    Closing,
}

impl Broker {
    pub(super) fn close(&mut self, code: u16, text: String, class_id: u16, method_id: u16) {
        self.state = BrokerChannel::Closing;
        self.consumers.clear();
        self.queue_replies.clear();
        let close =
            channel::Close { reply_code: code, reply_text: text.as_str().into(), class_id, method_id };
        self.replies.push_back(AMQPClass::Channel(channel::AMQPMethod::Close(close)));
    }

    fn awaits_consume_ok(&self, tag: &str) -> bool {
        self.queue_replies.iter().any(|reply| {
            matches!(reply, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)) if ok.consumer_tag.as_str() == tag)
        })
    }

    /// Reads a method of the client; panics for one that would close the connection.
    pub(super) fn read(
        &mut self,
        method: AMQPClass,
        missing: &BTreeSet<&'static str>,
        exchanges: &Exchanges,
        nacks: bool,
    ) {
        use AMQPClass::{Basic, Channel, Confirm, Queue};
        match (&self.state, method) {
            (BrokerChannel::Closed, Channel(channel::AMQPMethod::Open(_))) => {
                self.state = BrokerChannel::Open;
                self.published = 0;
                self.replies.push_back(Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})));
            }
            (BrokerChannel::Closing, Channel(channel::AMQPMethod::CloseOk(_))) => {
                self.state = BrokerChannel::Closed;
            }
            (BrokerChannel::Closing, Channel(channel::AMQPMethod::Close(_))) => {
                if !self.omits_close_ok {
                    self.replies.push_back(Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
                }
            }
            (BrokerChannel::Closing, _) => {}
            (BrokerChannel::Open, Channel(channel::AMQPMethod::Close(_))) => {
                self.state = BrokerChannel::Closed;
                self.consumers.clear();
                self.replies.append(&mut self.queue_replies);
                self.replies.push_back(Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
            }
            (BrokerChannel::Open, Confirm(confirm::AMQPMethod::Select(_))) => {
                self.replies.push_back(Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})));
            }
            (BrokerChannel::Open, Basic(basic::AMQPMethod::Qos(_))) => {
                self.replies.push_back(Basic(basic::AMQPMethod::QosOk(basic::QosOk {})));
            }
            (BrokerChannel::Open, Basic(basic::AMQPMethod::Publish(publish)))
                if exchanges.forbidden.contains(publish.exchange.as_str()) =>
            {
                let name = publish.exchange.as_str();
                let text = format!("ACCESS_REFUSED - access to exchange '{name}' in vhost '/' refused");
                self.close(403, text, 60, 40);
            }
            (BrokerChannel::Open, Basic(basic::AMQPMethod::Publish(publish)))
                if exchanges.missing.contains(publish.exchange.as_str()) =>
            {
                let name = publish.exchange.as_str();
                self.close(404, format!("NOT_FOUND - no exchange '{name}' in vhost '/'"), 60, 40);
            }
            (BrokerChannel::Open, Basic(basic::AMQPMethod::Publish(_))) => {
                self.published += 1;
                let (delivery_tag, multiple) = (self.published, false);
                self.replies.push_back(Basic(if nacks {
                    basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple, requeue: false })
                } else {
                    basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple })
                }));
            }
            (BrokerChannel::Open, Queue(queue::AMQPMethod::Purge(_))) => {
                let ok = queue::PurgeOk { message_count: 0 };
                self.replies.push_back(Queue(queue::AMQPMethod::PurgeOk(ok)));
            }
            (BrokerChannel::Open, Basic(basic::AMQPMethod::Consume(consume))) => {
                let (tag, queue) = (consume.consumer_tag.to_string(), consume.queue.as_str());
                assert!(!self.consumers.contains(&tag), "530: consumer tag {tag} is in use");
                if missing.contains(queue) {
                    return self.close(404, format!("NOT_FOUND - no queue '{queue}' in vhost '/'"), 60, 20);
                }
                self.consumers.insert(tag.clone());
                let ok = basic::ConsumeOk { consumer_tag: tag.as_str().into() };
                self.queue_replies.push_back(Basic(basic::AMQPMethod::ConsumeOk(ok)));
            }
            (BrokerChannel::Open, Basic(basic::AMQPMethod::Cancel(cancel))) => {
                let tag = cancel.consumer_tag.to_string();
                assert!(!self.awaits_consume_ok(&tag), "541: cancel of {tag} before consume-ok");
                self.consumers.remove(&tag);
                let ok = basic::CancelOk { consumer_tag: tag.as_str().into() };
                self.queue_replies.push_back(Basic(basic::AMQPMethod::CancelOk(ok)));
            }
            (state, method) => panic!("504 or 503: {method:?} on a channel that is {state:?}"),
        }
    }
}
