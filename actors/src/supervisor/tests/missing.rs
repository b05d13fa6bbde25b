//! What is missing, where the broker answers a try with something else than yes or no.

use super::*;
use crate::{
    message::{BindQueue, DeclareExchange, EntityKind, NextTry},
    options::Recovery,
};

fn gone(machine: &mut Machine, kind: EntityKind, name: &str) -> Vec<String> {
    let text = format!("NOT_FOUND - no {kind} '{name}' in vhost '/'");
    let error = Error::channel_closed("closed", Some(CloseReason::new(404, text, 60, 40)));
    machine.supervision.entity_gone(kind, name, &error, machine.now);
    machine.effects()
}

fn done(machine: &mut Machine, results: Vec<Result<Option<String>, Error>>) -> Vec<String> {
    machine.supervision.steps_done(10, results, machine.now);
    machine.effects()
}

/// A machine with a channel and a recorded exchange.
fn with_exchange(set: impl FnOnce(&mut ConnectionOptions)) -> Machine {
    let mut machine = Machine::with(set);
    machine.connect();
    machine.open_channel();
    machine.record(Entity::Exchange(DeclareExchange::fanout("x")));
    machine.effects();
    machine
}

#[test]
fn what_has_its_reply_is_in_place_although_a_later_one_has_none() {
    let mut machine = with_exchange(|_| {});
    machine.declare(DeclareQueue::new("q"), "q");
    machine.record(Entity::QueueBinding(BindQueue::new("q", "x", "")));
    let effects = gone(&mut machine, EntityKind::Queue, "q");
    assert_eq!(effects, ["event degraded", "utility 10: q, x -> q ()"]);
    machine.supervision.utility_lost(1, 10, vec![Ok(None)], machine.now);
    let missing: Vec<_> = machine.supervision.missing.list().into_iter().map(|one| one.kind).collect();
    assert_eq!(missing, [EntityKind::Binding]);
}

/// Two that never have a reply do not keep a third one from its tries.
#[test]
fn what_has_no_reply_is_tried_behind_all_else() {
    let mut machine = Machine::with(|_| {});
    machine.connect_with_channels(100);
    for name in ["a", "b", "c"] {
        machine.declare(DeclareQueue::new(name), name);
        gone(&mut machine, EntityKind::Queue, name);
    }
    for _ in 0..20 {
        machine.effects();
        let Some(task) = &machine.supervision.utility else {
            let due = machine.supervision.deadline().expect("something is tried");
            machine.now = machine.now.max(due);
            machine.supervision.time_passed(machine.now);
            continue;
        };
        let number = task.number;
        let answers = task.steps.iter().take_while(|step| step.name() == "c").map(|_| Ok(None)).collect();
        machine.now += 30 * SECOND;
        machine.supervision.utility_lost(1, number, answers, machine.now);
    }
    let missing: Vec<_> = machine.supervision.missing.list().into_iter().map(|one| one.name).collect();
    assert_eq!(missing, ["a", "b"]);
}

#[test]
fn publishes_go_on_to_an_exchange_that_exists_with_other_properties() {
    for code in [403, 406] {
        let mut machine = with_exchange(|_| {});
        let effects = gone(&mut machine, EntityKind::Exchange, "x");
        assert_eq!(effects, ["event degraded", "utility 10: x"]);
        assert_eq!(done(&mut machine, vec![Err(refusal(code))]), ["detach 10"]);
        machine.pass(50 * MILLISECOND);
        let probe = machine.effects();
        assert!(probe[0].starts_with("utility 10: x"), "{probe:?}");
        let answers = if code == 406 { vec![Ok(None)] } else { vec![Err(refusal(403)), Ok(None)] };
        assert_eq!(done(&mut machine, answers), ["detach 10", "1: found x"], "{code}");
        let missing = machine.supervision.missing.list();
        assert_eq!((missing.len(), missing[0].error.code()), (1, Some(code)));
    }
}

#[test]
fn an_exchange_that_was_given_up_by_limits_is_looked_for() {
    let mut machine = with_exchange(|options| options.recovery = Recovery::fixed(SECOND).attempts(1));
    gone(&mut machine, EntityKind::Exchange, "x");
    let effects = done(&mut machine, vec![Err(refusal(541))]);
    assert_eq!(effects, ["detach 10"], "publishes fail here");
    assert!(matches!(machine.supervision.missing.list()[0].next_try, NextTry::Never));
    assert!(gone(&mut machine, EntityKind::Exchange, "x").is_empty());
    machine.pass(50 * MILLISECOND);
    assert_eq!(machine.effects(), ["utility 10: x"]);
    assert_eq!(done(&mut machine, vec![Ok(None)]), ["detach 10", "1: found x"]);
}

#[test]
fn what_the_application_deletes_is_not_declared_again() {
    let mut machine = with_exchange(|_| {});
    machine.declare(DeclareQueue::new("q"), "q");
    for (kind, name) in [(EntityKind::Exchange, "x"), (EntityKind::Queue, "q")] {
        machine.supervision.deleting(kind, name, true);
        // The close of another channel overtakes the reply.
        let effects = gone(&mut machine, kind, name);
        assert!(effects.iter().all(|effect| effect.starts_with("1: found")), "{effects:?}");
        machine.supervision.deleting(kind, name, false);
        assert!(gone(&mut machine, kind, name).len() <= 2);
    }
}
