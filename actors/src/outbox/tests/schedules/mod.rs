//! An outbox over many connections, in random schedules, against a model of the broker that reads its frames.
//!
//! `PROPTEST_CASES` sets the number of schedules.

mod model_broker;
mod publishes;
mod steps;
mod world;

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use actix::{Actor, Recipient};
use proptest::{prelude::*, test_runner::TestRunner};

use self::{
    publishes::PublishRecord,
    steps::{ScheduleStep, steps},
    world::{FRAME_MAX, World},
};
use super::Flushes;
use crate::{
    ErrorKind,
    error::Error,
    outbox::{FinalFrames, Flush, Load},
};

impl World {
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
            // What has expired meanwhile is removed when the rest is taken.
            while self.take(usize::MAX) {}
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

/// PUB-39: a publish that was queued behind deferred nacks, and has expired there, is removed once these end.
#[actix::test]
async fn what_expires_behind_deferred_nacks_is_removed() {
    let flush: Arc<Recipient<Flush>> = Arc::new(Flushes::default().start().recipient());
    let mut world = World::new(flush, false);
    world.detach(false);
    world.attach(FRAME_MAX[0]);
    world.finish_recovery(true);
    world.run(ScheduleStep::Publish { size: 0, resend: true, exchange: "ex" });
    world.take(usize::MAX);
    world.answer(0, false, true);
    world.run(ScheduleStep::Publish { size: 0, resend: false, exchange: "ex" });
    world.run(ScheduleStep::Expire);
    assert!(!world.outbox.load().drained);
    world.run(ScheduleStep::EndNackRetry);
    world.take(usize::MAX);
    assert_eq!(world.outbox.load(), Load { drained: true, ..Load::default() });
    world.end(true);
}
