//! The outbox with what is around it: its connection, and the broker that reads what the connection takes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::Recipient;
use bytes::Bytes;
use proptest::sample::Index;
use tokio::time::Instant;

use super::{
    model_broker::ModelBroker,
    publishes::PublishRecord,
    steps::{Fault, GONE, ScheduleStep, TOO_LARGE},
};
use crate::{
    error::{CloseReason, Error},
    outbox::{
        ChannelClose, CloseFault, Flush, Outbox, OutboxConfig,
        attachment::{Attachment, Outage},
    },
    returned::Return,
    wire::Properties,
};

pub(super) const FRAME_MAX: [u32; 3] = [4096, 8192, 131_072];

pub(super) struct World {
    pub(super) outbox: Outbox,
    pub(super) flush: Arc<Recipient<Flush>>,
    pub(super) fails: bool,
    pub(super) broker: ModelBroker,
    pub(super) publishes: BTreeMap<u64, PublishRecord>,
    pub(super) attached: bool,
    pub(super) recovering: bool,
    /// Publishes fail until the channel is recovered.
    pub(super) refusing: bool,
    pub(super) defers_nacks: bool,
    pub(super) epoch: u64,
    pub(super) openings: u32,
    pub(super) now: Instant,
}

fn lost() -> Error {
    Error::connection_closed("lost", None)
}

impl World {
    pub(super) fn new(flush: Arc<Recipient<Flush>>, fails: bool) -> Self {
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

    pub(super) fn take(&mut self, budget: usize) -> bool {
        let mut taken = Vec::new();
        let more = self.outbox.take(self.epoch, budget, &mut taken);
        assert!(self.attached || taken.is_empty());
        self.broker.read(&taken.concat());
        more
    }

    pub(super) fn answer(&mut self, at: usize, multiple: bool, nack: bool) {
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

    pub(super) fn send_back(&mut self, at: usize) {
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

    pub(super) fn detach(&mut self, hard_error: bool) {
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

    pub(super) fn attach(&mut self, frame_max: u32) {
        self.epoch += 1;
        self.broker.frame_max = frame_max as usize;
        self.outbox.attach(self.epoch, self.flush.clone(), frame_max, true);
        (self.attached, self.recovering) = (true, true);
    }

    pub(super) fn finish_recovery(&mut self, defers_nacks: bool) {
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

    pub(super) fn fail_deferred_nacks(&mut self) {
        let ModelBroker { deferred, nacked, .. } = &mut self.broker;
        nacked.append(deferred);
        self.defers_nacks = false;
    }

    pub(super) fn reopen(&mut self, fault: Fault, fail: bool) {
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

    pub(super) fn run(&mut self, step: ScheduleStep) {
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
        self.check_flush();
    }

    /// The connection takes bytes only when it is asked to.
    fn check_flush(&self) {
        let state = self.outbox.lock();
        if let Attachment::Attached { flusher, .. } = &state.attachment {
            assert!(state.queue.is_empty() || flusher.requested, "nobody takes what is queued");
        }
    }
}
