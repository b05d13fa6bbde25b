//! Random schedules: the machine of a channel against a model of a broker that refuses, cancels, nacks,
//! closes the channel and loses the connection, while exchanges are deleted and made again.
//!
//! Whatever happens, the channel sends nothing for which a broker closes the connection, and no publish to an
//! exchange that it knows as missing; every call and publish has an outcome, only a publish to the exchange at
//! fault ends with its refusal, and no refusal ends a robust consumer that had started. In the end each consumer
//! that has not ended is at the broker. `PROPTEST_CASES` sets how many are tried.

use std::{
    collections::{BTreeSet, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    bench::{Bench, Sink},
    model_broker::{Broker, BrokerChannel, Exchanges},
};
use crate::{
    channel::{output::Output, reply::Answer},
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

#[derive(Clone, Debug)]
enum Step {
    Consume {
        tag: usize,
        robust: bool,
    },
    Cancel(usize),
    TargetLost(usize),
    Purge,
    Publish {
        exchange: usize,
        resend: bool,
    },
    /// Somebody deletes an exchange, or makes it again.
    DeleteExchange(usize),
    MakeExchange(usize),
    /// Whether the user may publish to an exchange.
    Permit {
        exchange: usize,
        permitted: bool,
    },
    /// The supervisor finds the exchanges that channels asked for and that exist.
    FindExchanges,
    /// Whether the broker nacks publishes from now on.
    Nack(bool),
    /// One reply of the broker arrives, from the channel or from a queue.
    Reply {
        from_queue: bool,
    },
    Replies,
    DeleteQueue(usize),
    DeclareQueue(usize),
    /// The broker closes the channel because of a publish.
    CloseByBroker,
    Repair {
        repaired: bool,
    },
    LoseConnection {
        hard: bool,
    },
    Attach,
    Wait(u64),
    Close,
    /// The last handle is dropped.
    Release,
    /// The connection is being closed.
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3usize, prop::bool::weighted(0.8)).prop_map(|(tag, robust)| Step::Consume { tag, robust }),
        3 => (0..3usize).prop_map(Step::Cancel),
        1 => (0..3usize).prop_map(Step::TargetLost),
        2 => Just(Step::Purge),
        6 => (0..3usize, prop::bool::weighted(0.8))
            .prop_map(|(exchange, resend)| Step::Publish { exchange, resend }),
        2 => (1..3usize).prop_map(Step::DeleteExchange),
        2 => (1..3usize).prop_map(Step::MakeExchange),
        1 => (1..3usize, any::<bool>())
            .prop_map(|(exchange, permitted)| Step::Permit { exchange, permitted }),
        2 => Just(Step::FindExchanges),
        1 => any::<bool>().prop_map(Step::Nack),
        10 => any::<bool>().prop_map(|from_queue| Step::Reply { from_queue }),
        4 => Just(Step::Replies),
        4 => (0..3usize).prop_map(Step::DeleteQueue),
        2 => (0..3usize).prop_map(Step::DeclareQueue),
        2 => Just(Step::CloseByBroker),
        3 => prop::bool::weighted(0.8).prop_map(|repaired| Step::Repair { repaired }),
        3 => prop::bool::weighted(0.3).prop_map(|hard| Step::LoseConnection { hard }),
        5 => Just(Step::Attach),
        6 => prop_oneof![2 => Just(1), 3 => Just(3), 2 => Just(12), 3 => Just(31)].prop_map(Step::Wait),
        1 => prop_oneof![17 => Just(Step::Wait(3)), 1 => Just(Step::Close), 1 => Just(Step::Release), 1 => Just(Step::Drain)],
    ]
}

/// The default exchange exists always.
const EXCHANGES: [&str; 3] = ["", "x", "y"];

/// A publish without an outcome, or with one.
struct Published {
    exchange: &'static str,
    confirm: Option<Confirm>,
    outcome: Option<Result<Confirmation>>,
}

struct Run {
    bench: Bench,
    broker: Option<Broker>,
    missing: BTreeSet<&'static str>,
    sinks: Vec<(&'static str, Arc<Sink>)>,
    /// The replies to the consumes, and whether they are robust.
    consumed: Vec<(Answer<Consumed>, bool)>,
    done: Vec<Answer<()>>,
    purged: Vec<Answer<u32>>,
    published: Vec<Published>,
    exchanges: Exchanges,
    /// The exchanges that the channel has reported as gone, and not been told of since.
    known_missing: BTreeSet<String>,
    repairs: VecDeque<(u32, String)>,
    /// The addresses of sinks whose consumer was started.
    bound: BTreeSet<usize>,
    omits_close_ok: bool,
    nacks: bool,
    is_released: bool,
    /// When nacked publishes are tried again, and in which channel epoch.
    nack_retries: Vec<(Instant, u32)>,
    /// When the channel is reopened, and in which channel epoch that was decided.
    reopenings: Vec<(Instant, u32)>,
    ended: bool,
}

impl Run {
    fn new(omits_close_ok: bool) -> Self {
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

    fn step(&mut self, step: &Step) {
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
    fn exchange(&mut self) {
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

    fn publish(&mut self, exchange: &'static str, resend: bool) {
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
    fn poll_publishes(&mut self) {
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

    fn wait(&mut self, time: Duration) {
        self.bench.wait(time);
        let now = self.bench.now;
        for (_, epoch) in self.nack_retries.extract_if(.., |(due, _)| *due <= now) {
            self.bench.machine.retry_nacks(epoch, now);
        }
        for (_, epoch) in self.reopenings.extract_if(.., |(due, _)| *due <= now) {
            self.bench.machine.reopen_when_due(epoch, now);
        }
    }

    fn has_replies(&self) -> bool {
        let all = self.broker.as_ref().map(|broker| broker.replies.len() + broker.queue_replies.len());
        all.is_some_and(|count| count > 0)
    }

    fn reply(&mut self, from_queue: bool) {
        let Some(broker) = &mut self.broker else { return };
        let replies = if from_queue { &mut broker.queue_replies } else { &mut broker.replies };
        if let Some(reply) = replies.pop_front() {
            self.bench.receive(reply);
            self.exchange();
        }
    }

    fn delete_queue(&mut self, queue: &'static str) {
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

    /// Lets everything come to rest: the broker replies, and what is missing is repaired.
    fn settle(&mut self) {
        self.missing.clear();
        self.exchanges = Exchanges::default();
        self.nacks = false;
        for _ in 0..20 {
            self.step(&Step::Attach);
            self.step(&Step::FindExchanges);
            self.step(&Step::Replies);
            while !self.repairs.is_empty() {
                self.step(&Step::Repair { repaired: true });
            }
            self.step(&Step::Replies);
            // Long enough for a close-ok that the broker omits.
            self.step(&Step::Wait(if self.omits_close_ok { 31 } else { 12 }));
        }
    }

    /// After the last fault, publishes to any exchange are confirmed.
    fn publishes_are_confirmed(&mut self) {
        self.published.clear();
        (0..3).for_each(|exchange| self.step(&Step::Publish { exchange, resend: true }));
        self.step(&Step::Replies);
        let confirmed = |published: &Published| matches!(published.outcome, Some(Ok(_)));
        assert!(self.published.len() == 3 && self.published.iter().all(confirmed));
    }

    fn check(&self) {
        let consumed = self.consumed.iter().map(|(answer, robust)| (answer.take(), *robust));
        let consumed: Vec<_> = consumed.collect();
        assert!(consumed.iter().all(|(result, _)| result.is_some()), "a consume without an answer");
        assert!(self.done.iter().all(|answer| answer.take().is_some()), "a cancel without an answer");
        assert!(self.purged.iter().all(|answer| answer.take().is_some()), "a purge without an answer");
        assert_eq!(self.bench.machine.outbox.load().unconfirmed, 0, "a publish without an outcome");
        assert!(self.published.iter().all(|published| published.outcome.is_some()), "a publish that hangs");
        let is_running = |sink: &Arc<Sink>| {
            self.bound.contains(&(Arc::as_ptr(sink).cast::<()>() as usize)) && sink.end().is_none()
        };
        let running: Vec<&str> =
            self.sinks.iter().filter(|(_, sink)| is_running(sink)).map(|(tag, _)| *tag).collect();
        if self.ended {
            assert!(running.is_empty(), "{running:?} run on a closed channel");
            return;
        }
        for ((tag, sink), (result, robust)) in self.sinks.iter().zip(consumed) {
            // What has started is wanted until somebody ends it; a repair may fail.
            let is_wanted = robust && matches!(result, Some(Ok(_)));
            let end = sink.end().filter(|_| is_wanted);
            assert!(!matches!(end, Some(ConsumerEnd::Closed(_))), "{tag}: {end:?}");
        }
        assert!(self.bench.machine.state.is_open(), "{:?}", self.bench.machine.state);
        assert!(!self.is_released || !running.is_empty(), "a channel without handles and consumers");
        let broker = self.broker.as_ref().expect("a connection");
        let running_tags: BTreeSet<String> = running.iter().map(|tag| (*tag).to_owned()).collect();
        assert_eq!(running.len(), running_tags.len(), "two consumers of one tag: {running:?}");
        assert_eq!(running_tags, broker.consumers, "consumers here and at the broker");
    }
}

proptest! {
    #[test]
    fn every_consumer_that_has_not_ended_is_at_the_broker(
        steps in prop::collection::vec(step(), 1..60),
        omits_close_ok in prop::bool::weighted(0.2),
    ) {
        let mut run = Run::new(omits_close_ok);
        for step in &steps {
            if run.ended {
                break;
            }
            run.step(step);
        }
        run.settle();
        run.check();
        let takes_publishes = !steps.iter().any(|step| matches!(step, Step::Drain | Step::Close));
        if !run.ended && takes_publishes {
            run.publishes_are_confirmed();
        }
    }
}
