//! The machine with what is around it: the broker, the supervisor and the application.

use std::{
    collections::{BTreeSet, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    model_broker::{Broker, BrokerChannel, Exchanges},
    steps::Step,
};
use crate::{
    channel::{
        output::Output,
        reply::Answer,
        tests::bench::{Bench, Sink},
    },
    error::{CloseReason, Error, Result},
    internal::SupervisorMessage,
    message::{
        CancelConsumer, CloseChannel, Confirmation, Consume, Consumed, ConsumerEnd, EntityKind, Publishing,
        PurgeQueue,
    },
    outbox::Confirm,
    wire::{AMQPClass, basic},
};

const TAGS: [&str; 3] = ["a", "b", "c"];

fn queue_of(tag: &str) -> &'static str {
    if tag == "c" { "other" } else { "jobs" }
}

/// The default exchange exists always.
const EXCHANGES: [&str; 3] = ["", "x", "y"];

/// A publish without an outcome, or with one.
pub(super) struct Published {
    pub(super) exchange: &'static str,
    pub(super) confirm: Option<Confirm>,
    pub(super) outcome: Option<Result<Confirmation>>,
}

pub(super) struct Run {
    pub(super) bench: Bench,
    pub(super) broker: Option<Broker>,
    pub(super) missing: BTreeSet<&'static str>,
    pub(super) sinks: Vec<(&'static str, Arc<Sink>)>,
    /// The replies to the consumes, and whether they are robust.
    pub(super) consumed: Vec<(Answer<Consumed>, bool)>,
    pub(super) done: Vec<Answer<()>>,
    pub(super) purged: Vec<Answer<u32>>,
    pub(super) published: Vec<Published>,
    pub(super) exchanges: Exchanges,
    /// The exchanges that the channel has reported as gone, and not been told of since.
    pub(super) known_missing: BTreeSet<String>,
    pub(super) repairs: VecDeque<(u32, String)>,
    /// The addresses of sinks whose consumer was started.
    pub(super) bound: BTreeSet<usize>,
    pub(super) omits_close_ok: bool,
    pub(super) nacks: bool,
    pub(super) is_released: bool,
    /// When nacked publishes are tried again, and in which channel epoch.
    pub(super) nack_retries: Vec<(Instant, u32)>,
    /// When the channel is reopened, and in which channel epoch that was decided.
    pub(super) reopenings: Vec<(Instant, u32)>,
    pub(super) ended: bool,
}

impl Run {
    pub(super) fn new(omits_close_ok: bool) -> Self {
        let mut run = Self {
            bench: Bench::new(true),
            broker: None,
            missing: BTreeSet::new(),
            sinks: Vec::new(),
            consumed: Vec::new(),
            done: Vec::new(),
            purged: Vec::new(),
            published: Vec::new(),
            exchanges: Exchanges::default(),
            known_missing: BTreeSet::new(),
            repairs: VecDeque::new(),
            bound: BTreeSet::new(),
            omits_close_ok,
            nacks: false,
            is_released: false,
            nack_retries: Vec::new(),
            reopenings: Vec::new(),
            ended: false,
        };
        run.step(&Step::Attach);
        run.step(&Step::Replies);
        assert!(run.bench.machine.state.is_open());
        run
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Consume { tag, robust } => {
                let (tag, sink) = (TAGS[*tag], Arc::new(Sink::default()));
                let consume = Consume::new().queue(queue_of(tag)).tag(tag).robust(*robust).sink(sink.clone());
                self.consumed.push((self.bench.call(consume), *robust));
                self.sinks.push((tag, sink));
            }
            Step::Cancel(tag) => {
                let cancel = CancelConsumer::new(TAGS[*tag]);
                self.done.push(self.bench.machine.cancel_consumer(&cancel, self.bench.now).listen());
            }
            Step::TargetLost(tag) => {
                let id = self.bench.machine.consumers.get(TAGS[*tag]).map(|entry| entry.id());
                if let Some(id) = id {
                    self.bench.machine.cancel_because(id, ConsumerEnd::TargetGone, self.bench.now);
                }
            }
            Step::Purge => self.purged.push(self.bench.call(PurgeQueue::new("jobs"))),
            Step::Publish { exchange, resend } => self.publish(EXCHANGES[*exchange], *resend),
            Step::DeleteExchange(exchange) => {
                self.exchanges.missing.insert(EXCHANGES[*exchange]);
            }
            Step::MakeExchange(exchange) => {
                self.exchanges.missing.remove(EXCHANGES[*exchange]);
            }
            Step::Permit { exchange, permitted } => {
                self.exchanges.forbidden.remove(EXCHANGES[*exchange]);
                self.exchanges.forbidden.extend((!permitted).then_some(EXCHANGES[*exchange]));
            }
            Step::FindExchanges => {
                for exchange in EXCHANGES.into_iter().filter(|name| !self.exchanges.missing.contains(name)) {
                    self.known_missing.remove(exchange);
                    self.bench.machine.entity_found(EntityKind::Exchange, exchange);
                }
            }
            Step::Nack(nacks) => self.nacks = *nacks,
            Step::Reply { from_queue } => self.reply(*from_queue),
            Step::Replies => {
                while self.has_replies() {
                    self.reply(true);
                    self.reply(false);
                }
            }
            Step::DeleteQueue(tag) => self.delete_queue(queue_of(TAGS[*tag])),
            Step::DeclareQueue(tag) => {
                self.missing.remove(queue_of(TAGS[*tag]));
            }
            Step::CloseByBroker => {
                if let Some(broker) =
                    self.broker.as_mut().filter(|broker| broker.state == BrokerChannel::Open)
                {
                    broker.close(406, "PRECONDITION_FAILED".into(), 60, 40);
                }
            }
            Step::Repair { repaired } => {
                if let Some((consumer, queue)) = self.repairs.pop_front() {
                    let result = if *repaired { Ok(()) } else { Err(ConsumerEnd::CancelledByBroker) };
                    self.missing.retain(|missing| !repaired || *missing != queue);
                    self.bench.machine.consumer_repaired(consumer, result, self.bench.now);
                }
            }
            Step::LoseConnection { hard } => {
                if self.broker.take().is_some() {
                    let text = "INTERNAL_ERROR - queue 'jobs' in vhost '/'";
                    let reason = hard.then(|| CloseReason::new(541, text, 60, 20));
                    self.bench.machine.connection_lost(&Error::connection_closed("lost", reason));
                    self.repairs.clear();
                }
            }
            Step::Attach => {
                if self.broker.is_none() {
                    let omits_close_ok = self.omits_close_ok;
                    self.broker = Some(Broker { omits_close_ok, ..Broker::default() });
                    self.known_missing.clear();
                    self.bench.attach();
                }
            }
            Step::Wait(seconds) => self.wait(Duration::from_secs(*seconds)),
            Step::Release => {
                self.is_released = true;
                self.bench.machine.release(self.bench.now);
            }
            Step::Drain => self.bench.machine.drain(self.bench.now),
            Step::Close => {
                let close = self.bench.machine.close(CloseChannel::new(), self.bench.now);
                self.done.push(close.listen());
            }
        }
        self.exchange();
    }

    /// The broker reads what the channel has sent, and the supervisor what it reports.
    pub(super) fn exchange(&mut self) {
        let methods = self.bench.sent_methods();
        if let Some(broker) = &mut self.broker {
            for method in methods {
                if let AMQPClass::Basic(basic::AMQPMethod::Publish(publish)) = &method {
                    let is_read = broker.state == BrokerChannel::Open;
                    let exchange = publish.exchange.as_str();
                    assert!(!is_read || !self.known_missing.contains(exchange), "{exchange} is missing");
                }
                broker.read(method, &self.missing, &self.exchanges, self.nacks);
            }
        }
        for output in self.bench.outputs() {
            match output {
                Output::Supervisor(SupervisorMessage::RepairConsumer { consumer, trial, .. }) => {
                    self.repairs.push_back((consumer, trial.queue));
                }
                Output::Supervisor(SupervisorMessage::EntityGone {
                    kind: EntityKind::Exchange,
                    name,
                    ..
                }) => {
                    self.known_missing.insert(name);
                }
                Output::Supervisor(SupervisorMessage::ChannelClosed { .. }) => self.ended = true,
                Output::Supervisor(SupervisorMessage::ProtocolFault { fault, .. }) => panic!("{fault}"),
                Output::RetryNacks { channel_epoch, after } => {
                    self.nack_retries.push((self.bench.now + after, channel_epoch));
                }
                Output::Reopen { channel_epoch, after } => {
                    self.reopenings.push((self.bench.now + after, channel_epoch));
                }
                Output::BindSink { sink, .. } => {
                    self.bound.insert(Arc::as_ptr(&sink).cast::<()>() as usize);
                }
                _ => {}
            }
        }
        self.poll_publishes();
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.bench.wait(time);
        let now = self.bench.now;
        for (_, epoch) in self.nack_retries.extract_if(.., |(due, _)| *due <= now) {
            self.bench.machine.retry_nacks(epoch, now);
        }
        for (_, epoch) in self.reopenings.extract_if(.., |(due, _)| *due <= now) {
            self.bench.machine.reopen_when_due(epoch, now);
        }
    }

    pub(super) fn has_replies(&self) -> bool {
        let all = self.broker.as_ref().map(|broker| broker.replies.len() + broker.queue_replies.len());
        all.is_some_and(|count| count > 0)
    }

    pub(super) fn reply(&mut self, from_queue: bool) {
        let Some(broker) = &mut self.broker else { return };
        let replies = if from_queue { &mut broker.queue_replies } else { &mut broker.replies };
        if let Some(reply) = replies.pop_front() {
            self.bench.receive(reply);
            self.exchange();
        }
    }

    pub(super) fn delete_queue(&mut self, queue: &'static str) {
        self.missing.insert(queue);
        let Some(broker) = self.broker.as_mut().filter(|broker| broker.state == BrokerChannel::Open) else {
            return;
        };
        for tag in TAGS.into_iter().filter(|tag| queue_of(tag) == queue) {
            // The queue has replied to basic.consume before it sends its cancel.
            if broker.consumers.remove(tag) {
                let cancel = basic::Cancel { consumer_tag: tag.into(), nowait: true };
                broker.queue_replies.push_back(AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)));
            }
        }
    }

    pub(super) fn publish(&mut self, exchange: &'static str, resend: bool) {
        let content = Publishing::new("body").mandatory(false).resend(resend);
        match self.bench.machine.outbox.try_publish(exchange, "jobs", &content) {
            Ok(Some(confirm)) => {
                self.published.push(Published { exchange, confirm: Some(confirm), outcome: None });
            }
            Ok(None) => {}
            // Otherwise it fails while the channel closes.
            Err(error) if error.code() == Some(404) && !self.bench.machine.state.is_closed() => {
                assert!(self.known_missing.contains(exchange), "{error}");
            }
            Err(_) => {}
        }
    }

    /// Polls the publishes. Only what concerns its own exchange may end one with an error that is not
    /// retryable.
    pub(super) fn poll_publishes(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for published in &mut self.published {
            let Some(confirm) = &mut published.confirm else { continue };
            let Poll::Ready(outcome) = Pin::new(confirm).poll(&mut cx) else { continue };
            // The broker does not say for what `CloseByBroker` closes the channel (406).
            let code = outcome.as_ref().err().filter(|error| !error.is_retryable()).and_then(Error::code);
            if let Some(code) = code.filter(|code| *code != 406) {
                let error = outcome.as_ref().unwrap_err();
                assert!([403, 404].contains(&code), "{error}");
                assert_eq!(error.entity(), Some(published.exchange), "{error}");
            }
            (published.confirm, published.outcome) = (None, Some(outcome));
        }
    }
}
