//! Random schedules: the machine of the supervisor, with connections that come and go, against a model of a
//! broker.
//!
//! Exchanges and queues are deleted by others, declarations and consumers refused, channels limited and closed,
//! consumers cancelled, things forgotten; declarations and consumers cost the connection. Whatever happens, the
//! effects fit the state of the connection, and nothing is due twice. After the last fault the broker has
//! everything that is recorded, every consumer has started, no trial is left, nothing is missing, and the health
//! is up; or the connection is closed: by the application, or because every address has refused it for a minute.
//!
//! `PROPTEST_CASES` sets how many are tried.

mod connection;
mod consumers;
mod model_broker;
mod run;
mod steps;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::{
    consumers::ConsumerStateModel,
    run::{Run, key},
    steps::{Answer, Step, step},
};
use crate::supervisor::{missing::EntityKey, phase::Phase};

impl Run {
    /// Lets everything come to rest.
    fn settle(&mut self) {
        // Trials have pauses of minutes.
        for round in 0..200 {
            if round >= 60 && (self.closed || self.machine.supervision.health().is_up()) {
                break;
            }
            if round == 100 {
                // What can only be tried here waits for a reconnect.
                self.step(&Step::Ended);
            }
            self.step(&Step::Opened);
            self.others_declare();
            if round < 5 {
                // Publishers find out what is gone with what was bound to it.
                let gone: Vec<_> = (3..6).filter(|at| !self.broker.has(&key(*at))).collect();
                gone.into_iter().for_each(|at| self.report_gone(at));
            }
            self.settle_channels();
            for at in 0..self.made.len() {
                self.step(&Step::ByApplication { at, missing: false });
                self.step(&Step::Started { at: 0, code: 0 });
            }
            self.step(&Step::Results { codes: vec![0], all: true });
            self.step(&Step::Trial(0));
            if self.ends && self.connection {
                self.step(&Step::Ended);
            }
            self.step(&Step::Wait(5000));
        }
    }

    fn check(&self) {
        let supervision = &self.machine.supervision;
        if self.closed {
            assert_eq!(supervision.deadline(), None);
            return;
        }
        assert!(matches!(supervision.phase, Phase::Up(_)), "{:?}", supervision.phase);
        assert!(self.utility.is_none() && supervision.utility.is_none(), "{:?}", supervision.utility);
        assert!(self.trial.is_none(), "{:?}", self.trial);
        let is_running =
            |made: &&consumers::ConsumerModel| made.state == ConsumerStateModel::Running && !made.is_at_fault;
        let stopped: Vec<_> = self.made.values().filter(|made| !is_running(made)).collect();
        assert!(stopped.is_empty(), "{stopped:?}");
        assert!(supervision.missing.list().is_empty(), "{:?}", supervision.missing.list());
        assert!(supervision.health().is_up(), "{:?}", supervision.health());
        let recorded = (0..6).map(key).filter(|key| supervision.topology.has(key));
        let recorded: Vec<_> = recorded
            .flat_map(|key| {
                let bindings = supervision.topology.bindings_of(&key);
                bindings.into_iter().map(EntityKey::Binding).chain([key])
            })
            .collect();
        let lacking: Vec<_> = recorded.iter().filter(|key| !self.broker.has(key)).collect();
        assert!(lacking.is_empty(), "the broker lacks {lacking:?}");
        for made in self.made.values() {
            assert!(self.broker.consume(&made.queue).is_ok(), "no queue for {:?}", made.tag);
        }
        let attached: BTreeSet<u16> = self.channels.iter().copied().collect();
        assert_eq!(self.attached, attached, "channels with a connection, and all of them");
    }
}

/// Runs a schedule, and checks the end.
fn play(steps: &[Step]) {
    let mut run = Run::new();
    for step in steps {
        run.step(step);
    }
    run.settle();
    run.check();
}

proptest! {
    #[test]
    fn everything_is_in_place_or_the_connection_closed_in_the_end(steps in prop::collection::vec(step(), 1..100)) {
        play(&steps);
    }
}

#[test]
fn what_is_given_up_while_its_step_is_at_the_broker_is_not_tried_for_ever() {
    play(&[
        Step::Declare { queue: 0, auto_delete: false },
        Step::Refused(vec![Answer::Login]),
        Step::Gone(0),
        Step::Results { codes: vec![403, 0, 0, 0], all: false },
        Step::Refused(vec![Answer::Login]),
        Step::Wait(5000),
        Step::Results { codes: vec![0, 404, 0, 0], all: true },
        Step::GiveUp(3),
        Step::Results { codes: vec![403, 0, 0, 0], all: false },
    ]);
}

#[test]
fn a_binding_comes_back_with_an_exchange_that_others_declare() {
    play(&[Step::Declare { queue: 1, auto_delete: false }, Step::Gone(3)]);
}
