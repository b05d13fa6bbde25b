//! An outbox over many connections, in random schedules, against a model of the broker that reads its frames.

use std::collections::{BTreeMap, BTreeSet};

use actix::Actor;
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};

use super::{super::attachment::Outage, model_broker::ModelBroker, *};
use crate::{ErrorKind, error::CloseReason};

const FRAME_MAX: [u32; 3] = [4096, 8192, 131_072];

#[derive(Clone, Debug)]
enum ScheduleStep {
    Publish { size: usize, resend: bool, exchange: &'static str },
    Take(usize),
    Answer { which: Index, multiple: bool, nack: bool },
    Return(Index),
    Expire,
    OwnDeadline(Index),
    Detach { hard_error: bool },
    Attach(Index),
    FinishRecovery { defers_nacks: bool },
    Reopen { fault: Fault, fail: bool },
    RetryNacks,
    EndNackRetry,
}

/// What makes the broker close the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Elsewhere,
    Unknown,
    /// A publish to a missing exchange.
    Exchange,
    /// A publish that is too large.
    Size,
}

const GONE: &str = "gone";
/// More than the broker takes, after some time.
const TOO_LARGE: usize = 15_000;

fn steps() -> impl Strategy<Value = Vec<ScheduleStep>> {
    let sizes = prop_oneof![6 => 0..300usize, 2 => 4000..9000usize, 1 => 20_000..60_000usize];
    let index = any::<Index>;
    let step = prop_oneof![
        10 => (sizes, prop::bool::weighted(0.85), prop_oneof![4 => Just("ex"), 1 => Just(GONE)])
            .prop_map(|(size, resend, exchange)| ScheduleStep::Publish { size, resend, exchange }),
        8 => prop_oneof![Just(1), 1000..100_000usize].prop_map(ScheduleStep::Take),
        4 => (index(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(which, multiple, nack)| ScheduleStep::Answer { which, multiple, nack }),
        1 => index().prop_map(ScheduleStep::Return),
        1 => Just(ScheduleStep::Expire),
        2 => index().prop_map(ScheduleStep::OwnDeadline),
        3 => prop::bool::weighted(0.3).prop_map(|hard_error| ScheduleStep::Detach { hard_error }),
        4 => index().prop_map(ScheduleStep::Attach),
        6 => prop::bool::weighted(0.6).prop_map(|defers_nacks| ScheduleStep::FinishRecovery { defers_nacks }),
        4 => (
            prop_oneof![Just(Fault::Elsewhere), Just(Fault::Unknown), Just(Fault::Exchange), Just(Fault::Size)],
            prop::bool::weighted(0.1),
        ).prop_map(|(fault, fail)| ScheduleStep::Reopen { fault, fail }),
        3 => Just(ScheduleStep::RetryNacks),
        1 => Just(ScheduleStep::EndNackRetry),
    ];
    prop::collection::vec(step, 1..120)
}

/// The outcome of one publish, and what it may be.
#[derive(Debug)]
struct PublishRecord {
    resend: bool,
    exchange: &'static str,
    size: usize,
    failures: u8,
    outcome: Option<Result<()>>,
    late: bool,
    /// It was in flight when its channel was closed, or its connection lost.
    channel_closed: bool,
    connection_lost: bool,
    /// The broker refuses it with this code.
    refused: Option<u16>,
}

struct World {
    outbox: Outbox,
    flush: Arc<Recipient<Flush>>,
    fails: bool,
    broker: ModelBroker,
    publishes: BTreeMap<u64, PublishRecord>,
    attached: bool,
    recovering: bool,
    /// Publishes fail until the channel is recovered.
    refusing: bool,
    defers_nacks: bool,
    epoch: u64,
    openings: u32,
    now: Instant,
}

fn lost() -> Error {
    Error::connection_closed("lost", None)
}

impl World {
    fn new(flush: Arc<Recipient<Flush>>, fails: bool) -> Self {
        let deadline = Duration::from_secs(30);
        let config = OutboxConfig { channel: 3, confirms: true, window: 12, window_bytes: 70_000, deadline };
        let outbox = Outbox::new(config);
        outbox.attach(1, flush.clone(), FRAME_MAX[0], false);
        outbox.opened();
        let broker = ModelBroker { frame_max: FRAME_MAX[0] as usize, ..ModelBroker::default() };
        let (publishes, now) = (BTreeMap::new(), Instant::now());
        let (attached, recovering, refusing, defers_nacks, epoch) = (true, false, false, false, 1);
        Self {
            outbox,
            flush,
            fails,
            broker,
            publishes,
            attached,
            recovering,
            refusing,
            defers_nacks,
            epoch,
            openings: 1,
            now,
        }
    }

    /// Polls every publish without an outcome.
    fn poll_all(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for id in self.open() {
            if let Poll::Ready(answer) = self.outbox.poll_confirm(id, &mut cx) {
                self.resolve(id, answer);
            }
        }
    }

    /// Returns the publishes without an outcome.
    fn open(&self) -> Vec<u64> {
        let open = self.publishes.iter().filter(|(_, publish)| publish.outcome.is_none());
        open.map(|(id, _)| *id).collect()
    }

    /// Checks that an outcome is true.
    fn resolve(&mut self, id: u64, answer: Result<u32>) {
        let (publish, broker) = (self.publishes.get_mut(&id).expect("a publish"), &mut self.broker);
        let known = |set: &BTreeSet<u64>| set.contains(&id);
        match &answer {
            Ok(_) => assert!(known(&broker.acked), "{id} was never confirmed"),
            Err(error) => {
                let kind = error.kind();
                let may = match kind {
                    ErrorKind::Nacked => known(&broker.nacked),
                    ErrorKind::Unroutable => known(&broker.unroutable),
                    ErrorKind::Timeout => publish.late,
                    ErrorKind::ChannelClosed => publish.channel_closed || publish.late,
                    ErrorKind::ConnectionClosed => publish.connection_lost || publish.late,
                    _ => false,
                };
                assert!(may, "{id}: {error:?}, {publish:?}");
                let may_have_arrived = match kind {
                    ErrorKind::Unroutable => known(&broker.received_earlier),
                    _ => known(&broker.arrived),
                };
                assert_eq!(error.may_have_arrived(), may_have_arrived, "{id}: {error}");
                if kind == ErrorKind::Nacked {
                    assert_eq!(error.entity(), Some(publish.exchange));
                    assert!(error.to_string().contains(&format!("{:?}", id.to_string())), "{error}");
                }
                if matches!(kind, ErrorKind::ChannelClosed | ErrorKind::ConnectionClosed) {
                    assert_eq!(error.code(), publish.refused, "{id}: {error}");
                    assert_eq!(error.is_retryable(), publish.refused.is_none(), "{id}: {error}");
                }
                if kind != ErrorKind::Unroutable && !error.may_have_arrived() {
                    broker.not_arrived.insert(id);
                }
            }
        }
        publish.outcome = Some(answer.map(|_| ()));
    }

    fn own_deadline(&mut self, id: u64) {
        self.publishes.get_mut(&id).expect("a publish").late = true;
        let ModelBroker { deferred, nacked, .. } = &mut self.broker;
        if deferred.remove(&id) {
            nacked.insert(id);
        }
        let answer = self.outbox.expire_publish(id);
        self.resolve(id, answer);
    }

    fn publish(&mut self, size: usize, resend: bool, exchange: &'static str) {
        let id = self.outbox.published();
        let (properties, body) = (Properties::new(), Bytes::from(vec![b'x'; size]));
        let routing_key = &id.to_string();
        let outgoing =
            Outgoing { exchange, routing_key, mandatory: true, resend, properties: &properties, body: &body };
        match self.outbox.queue_publish(outgoing) {
            Ok(Some(sequence)) => {
                assert_eq!(sequence, id);
                let publish = PublishRecord {
                    resend,
                    exchange,
                    size,
                    failures: 0,
                    outcome: None,
                    late: false,
                    channel_closed: false,
                    connection_lost: false,
                    refused: None,
                };
                self.publishes.insert(id, publish);
            }
            Ok(None) => {}
            Err(error) => {
                let kinds = [ErrorKind::ConnectionClosed, ErrorKind::ChannelClosed];
                assert!(self.refusing && kinds.contains(&error.kind()), "{error}");
            }
        }
    }

    fn take(&mut self, budget: usize) -> bool {
        let mut taken = Vec::new();
        let more = self.outbox.take(self.epoch, budget, &mut taken);
        assert!(self.attached || taken.is_empty());
        self.broker.read(&taken.concat());
        more
    }

    fn answer(&mut self, at: usize, multiple: bool, nack: bool) {
        let first = if multiple { 0 } else { at };
        for (id, answered) in &mut self.broker.received[first..=at] {
            if !std::mem::replace(answered, true) {
                let publish = &self.publishes[id];
                let deferred = self.defers_nacks && publish.resend && !publish.late;
                let ids = match nack {
                    true if deferred => &mut self.broker.deferred,
                    true => &mut self.broker.nacked,
                    false if self.broker.returned.contains(id) => &mut self.broker.unroutable,
                    false => &mut self.broker.acked,
                };
                ids.insert(*id);
                if !nack {
                    self.broker.acked_in.insert(*id, self.openings);
                }
            }
        }
        let tag = at as u64 + 1;
        match nack {
            true => {
                let again = self.outbox.nack(tag, multiple).unwrap();
                assert_eq!(again, !self.broker.deferred.is_empty());
            }
            false => self.outbox.ack(tag, multiple).unwrap(),
        }
    }

    fn send_back(&mut self, at: usize) {
        let (id, _) = self.broker.received[at];
        // One return per publish and channel epoch, as brokers do.
        if self.broker.returned.insert(id) {
            let returned = Return {
                code: 312,
                text: "NO_ROUTE".into(),
                exchange: self.publishes[&id].exchange.into(),
                routing_key: id.to_string(),
                properties: Ok(Properties::new()),
                body: Bytes::new(),
            };
            assert!(self.outbox.returned(returned, &[0, 0]).is_none(), "{id} is not known");
        }
    }

    fn detach(&mut self, hard_error: bool) {
        let in_flight = self.broker.in_flight();
        for id in in_flight {
            let publish = self.publishes.get_mut(&id).expect("a publish");
            publish.failures += u8::from(hard_error);
            publish.connection_lost |= self.fails || !publish.resend || publish.failures >= 2;
            self.broker.may_repeat.insert(id);
        }
        if self.fails {
            self.publishes.values_mut().for_each(|publish| publish.connection_lost = true);
            self.fail_deferred_nacks();
        }
        self.broker.partial = None;
        self.broker.closing = false;
        self.broker.end_epoch();
        self.outbox.detach(&Outage { error: &lost(), fail: self.fails, hard_error });
        (self.attached, self.recovering, self.defers_nacks) = (false, false, false);
        self.refusing |= self.fails;
    }

    fn attach(&mut self, frame_max: u32) {
        self.epoch += 1;
        self.broker.frame_max = frame_max as usize;
        self.outbox.attach(self.epoch, self.flush.clone(), frame_max, true);
        (self.attached, self.recovering) = (true, true);
    }

    fn finish_recovery(&mut self, defers_nacks: bool) {
        self.poll_all();
        let answered = self.publishes.iter().filter(|(_, publish)| publish.outcome.is_some());
        self.broker.must_not_come = answered.map(|(id, _)| *id).collect();
        let far = Instant::now() + Duration::from_secs(3600);
        self.broker.deferred.clear();
        self.openings += 1;
        self.outbox.opened();
        self.outbox.finish_recovery(&Default::default(), defers_nacks.then_some(far));
        (self.recovering, self.refusing, self.defers_nacks) = (false, false, defers_nacks);
    }

    fn fail_deferred_nacks(&mut self) {
        let ModelBroker { deferred, nacked, .. } = &mut self.broker;
        nacked.append(deferred);
        self.defers_nacks = false;
    }

    fn reopen(&mut self, fault: Fault, fail: bool) {
        let of_fault = |publish: &PublishRecord| match fault {
            Fault::Elsewhere | Fault::Unknown => false,
            Fault::Exchange => publish.exchange == GONE,
            Fault::Size => publish.size > TOO_LARGE,
        };
        // Of a partial publish the broker knows nothing.
        let whole: Vec<u64> =
            self.broker.received.iter().filter(|(_, done)| !done).map(|(id, _)| *id).collect();
        let mut refused: Vec<u64> =
            whole.iter().copied().filter(|id| of_fault(&self.publishes[id])).collect();
        let told = matches!(fault, Fault::Exchange | Fault::Size);
        if told && refused.is_empty() {
            match whole[..] {
                [] => return,
                [only] => refused.push(only),
                _ => {}
            }
        }
        let code = if fault == Fault::Size { 406 } else { 404 };
        let refused_one = if fault == Fault::Size { refused.first() } else { refused.last() }.copied();
        let answered = self.broker.received.iter().rev().find(|(_, done)| *done).map_or(0, |(id, _)| *id);
        if refused_one.is_some_and(|refused_one| refused_one < answered) {
            // The broker works in order.
            return;
        }
        let is_known = fault == Fault::Elsewhere || refused_one.is_some();
        let open = self.publishes.iter_mut().filter(|(_, publish)| publish.outcome.is_none());
        for (&id, publish) in open {
            let in_flight = whole.contains(&id);
            let is_refused = refused_one.is_some()
                && (refused.contains(&id) || (of_fault(publish) && !self.broker.deferred.contains(&id)));
            if is_refused {
                publish.refused = Some(code);
            }
            publish.failures += u8::from(in_flight && !is_known);
            let was_read = in_flight && refused_one.is_none_or(|refused_one| id < refused_one);
            let given_up = was_read && (!publish.resend || publish.failures >= 2);
            publish.channel_closed |= fail || is_refused || given_up;
        }
        self.broker.may_repeat.extend(self.broker.in_flight());
        let partial = self.broker.partial.iter().map(|partial| partial.id);
        let dropped =
            whole.iter().copied().filter(|id| refused_one.is_some_and(|refused_one| *id >= refused_one));
        let dropped: Vec<u64> = dropped.chain(partial).collect();
        dropped.iter().for_each(|id| self.broker.drop_publish(*id));
        if fail {
            self.fail_deferred_nacks();
        }
        self.broker.closing = true;
        self.broker.end_epoch();
        let text = match fault {
            Fault::Size => "PRECONDITION_FAILED - message size 9 is larger than configured max size 15000",
            _ => "NOT_FOUND - no exchange 'gone' in vhost '/'",
        };
        let error = Error::channel_closed("refused", Some(CloseReason::new(code, text, 60, 40)));
        let others = Error::closed_meanwhile(&Error::channel_closed("closed", None));
        let fault = match fault {
            Fault::Elsewhere => CloseFault::Elsewhere,
            Fault::Unknown => CloseFault::Unknown,
            Fault::Exchange | Fault::Size => CloseFault::Publish(&error),
        };
        let close_ok = Bytes::from_static(&[1, 0, 3, 0, 0, 0, 4, 0, 20, 0, 41, 0xCE]);
        self.outbox.reopen(&ChannelClose { error: &others, fault, fail }, close_ok);
        (self.recovering, self.defers_nacks) = (true, false);
        self.refusing |= fail;
    }

    fn run(&mut self, step: ScheduleStep) {
        let pick = |open: Vec<usize>, which: Index| open.get(which.index(open.len().max(1))).copied();
        match step {
            ScheduleStep::Publish { size, resend, exchange } => self.publish(size, resend, exchange),
            ScheduleStep::Take(budget) => drop(self.take(budget)),
            ScheduleStep::Answer { which, multiple, nack } => {
                if let Some(at) = pick(self.broker.open(), which) {
                    self.answer(at, multiple, nack);
                }
            }
            ScheduleStep::Return(which) => {
                if let Some(at) = pick(self.broker.open(), which) {
                    self.send_back(at);
                }
            }
            ScheduleStep::OwnDeadline(which) => {
                let open = self.open();
                if let Some(id) = open.get(which.index(open.len().max(1))) {
                    self.own_deadline(*id);
                }
            }
            ScheduleStep::Expire => {
                self.publishes.values_mut().for_each(|publish| publish.late = true);
                let ModelBroker { deferred, nacked, .. } = &mut self.broker;
                nacked.extend(&*deferred);
                self.now += Duration::from_secs(3600);
                self.outbox.expire(self.now);
            }
            ScheduleStep::Detach { hard_error } if self.attached => self.detach(hard_error),
            ScheduleStep::Attach(which) if !self.attached => {
                self.attach(FRAME_MAX[which.index(FRAME_MAX.len())])
            }
            ScheduleStep::FinishRecovery { defers_nacks } if self.recovering && !self.broker.closing => {
                self.finish_recovery(defers_nacks)
            }
            ScheduleStep::Reopen { fault, fail } if self.attached && !self.broker.closing => {
                self.reopen(fault, fail);
            }
            ScheduleStep::RetryNacks
                if self.attached
                    && !self.recovering
                    && !self.broker.deferred.is_empty()
                    && self.outbox.awaits_only_deferred_nacks() =>
            {
                assert_eq!(self.broker.in_flight(), [0; 0]);
                self.reopen(Fault::Elsewhere, false);
            }
            ScheduleStep::EndNackRetry => {
                self.outbox.end_nack_retry();
                self.fail_deferred_nacks();
            }
            ScheduleStep::Detach { .. }
            | ScheduleStep::Attach(_)
            | ScheduleStep::FinishRecovery { .. }
            | ScheduleStep::Reopen { .. }
            | ScheduleStep::RetryNacks => {}
        }
        self.poll_all();
    }

    /// Either everything is confirmed after one more recovery, or the channel closes. Every publish has an
    /// outcome.
    fn end(&mut self, all_confirmed: bool) {
        if all_confirmed {
            if !self.attached {
                self.attach(FRAME_MAX[1]);
            }
            self.take(usize::MAX);
            if self.recovering {
                self.finish_recovery(false);
            }
            self.outbox.end_nack_retry();
            self.fail_deferred_nacks();
            while self.outbox.load().unconfirmed > 0 {
                while self.take(100) {}
                if let Some(last) = self.broker.received.len().checked_sub(1) {
                    self.answer(last, true, false);
                }
            }
        } else {
            self.publishes.values_mut().for_each(|publish| publish.channel_closed = true);
            self.fail_deferred_nacks();
            let over = Error::closed_meanwhile(&Error::channel_closed("over", None));
            self.outbox.end(over, FinalFrames::None);
        }
        self.poll_all();
        let unanswered: Vec<_> =
            self.publishes.iter().filter(|(_, publish)| publish.outcome.is_none()).collect();
        assert!(unanswered.is_empty(), "{unanswered:?}");
        // A confirm that is awaited late has the epoch in which it came.
        let mut cx = Context::from_waker(Waker::noop());
        for (id, _) in self.publishes.iter().filter(|(_, publish)| matches!(publish.outcome, Some(Ok(())))) {
            let Poll::Ready(Ok(epoch)) = self.outbox.poll_confirm(*id, &mut cx) else { panic!("{id}") };
            assert_eq!(epoch, self.broker.acked_in[id], "{id}");
        }
        assert_eq!(self.outbox.epoch(), self.openings);
        let (counters, broker) = (self.outbox.counters(), &self.broker);
        assert_eq!(counters.published, self.publishes.len() as u64);
        assert_eq!(counters.confirmed, broker.acked.len() as u64);
        assert_eq!(counters.returned, broker.unroutable.len() as u64);
        let is_nacked = |publish: &&PublishRecord| matches!(&publish.outcome, Some(Err(error)) if error.kind() == ErrorKind::Nacked);
        let nacked = self.publishes.values().filter(is_nacked).count();
        assert!((nacked..=broker.nacked.len()).contains(&(counters.publishes_nacked as usize)));
        assert_eq!(self.outbox.load(), Load { drained: true, ..Load::default() });
    }
}

/// Design 13.1, design 13.4, design 13.9: whatever happens in whatever order, every publish has one outcome,
/// and a true one; first deliveries are in order; only what was in flight comes twice; nothing is left.
///
/// `PROPTEST_CASES` sets the number of schedules.
#[actix::test]
async fn every_publish_has_one_outcome_over_any_connections() {
    let flush: Arc<Recipient<Flush>> = Arc::new(Flushes::default().start().recipient());
    let check = |(steps, fails, all_confirmed): (Vec<ScheduleStep>, bool, bool)| {
        let mut world = World::new(flush.clone(), fails);
        steps.into_iter().for_each(|step| world.run(step));
        world.end(all_confirmed);
        Ok(())
    };
    let mut config = proptest::test_runner::Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 2000;
    }
    TestRunner::new(config).run(&(steps(), prop::bool::weighted(0.2), any::<bool>()), check).unwrap();
}

/// Design 13.1: new publishes come behind those that are sent again, and keep their numbers on the next
/// connection.
#[actix::test]
async fn numbers_may_skip_before_new_publishes() {
    let flush: Arc<Recipient<Flush>> = Arc::new(Flushes::default().start().recipient());
    let mut world = World::new(flush, false);
    for resend in [false, true, false] {
        world.publish(0, resend, "ex");
    }
    world.take(1);
    world.detach(false);
    world.attach(FRAME_MAX[0]);
    world.finish_recovery(false);
    world.publish(0, true, "ex");
    world.detach(false);
    world.attach(FRAME_MAX[0]);
    world.finish_recovery(false);
    world.take(usize::MAX);
    assert_eq!(world.broker.in_flight(), [2, 4]);
}
