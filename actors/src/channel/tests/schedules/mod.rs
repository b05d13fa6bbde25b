//! Random schedules: the machine of a channel against a model of a broker that refuses, cancels, nacks,
//! closes the channel and loses the connection, while exchanges are deleted and made again.
//!
//! Whatever happens, the channel sends nothing for which a broker closes the connection, and no publish to an
//! exchange that it knows as missing; every call and publish has an outcome, only a publish to the exchange at
//! fault ends with its refusal, and no refusal ends a robust consumer that had started. In the end each consumer
//! that has not ended is at the broker. `PROPTEST_CASES` sets how many are tried.

mod model_broker;
mod run;
mod steps;

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;

use self::{
    model_broker::Exchanges,
    run::{Published, Run},
    steps::{Step, step},
};
use super::bench::Sink;
use crate::message::ConsumerEnd;

impl Run {
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
