//! What is missing, where the broker answers a try with something else than yes or no.

use super::{recovery::with_consumer, *};
use crate::{
    internal::{EndedChannel, Removal},
    message::{BindQueue, ConsumerEnd, DeclareExchange, EntityKind, NextTry},
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
    assert_eq!(effects, ["detach 10", "event gave up x"], "publishes fail here");
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
        machine.supervision.deleting(kind, name, true, machine.now);
        // The close of another channel overtakes the reply.
        let effects = gone(&mut machine, kind, name);
        assert!(effects.iter().all(|effect| effect.starts_with("1: found")), "{effects:?}");
        machine.supervision.deleting(kind, name, false, machine.now);
        assert!(gone(&mut machine, kind, name).len() <= 2);
    }
}

/// REC-58: somebody else has deleted it, and the application's own delete fails.
#[test]
fn what_is_gone_although_its_delete_failed_is_declared_again() {
    for is_gone in [false, true] {
        let mut machine = Machine::open();
        machine.declare(DeclareQueue::new("q"), "q");
        machine.supervision.deleting(EntityKind::Queue, "q", true, machine.now);
        machine.supervision.deleting(EntityKind::Queue, "q", true, machine.now);
        if is_gone {
            gone(&mut machine, EntityKind::Queue, "q");
        }
        machine.supervision.deleting(EntityKind::Queue, "q", false, machine.now);
        assert!(machine.effects().is_empty(), "another delete has no reply");
        machine.supervision.deleting(EntityKind::Queue, "q", false, machine.now);
        assert_eq!(machine.effects().contains(&"utility 10: q".to_owned()), is_gone);
        assert_eq!(machine.supervision.missing.list().len(), usize::from(is_gone));
    }
}

/// REC-57: a probe of an exchange that nobody has recorded.
#[test]
fn a_probe_that_costs_the_connection_is_not_repeated_at_once() {
    let mut machine = Machine::open();
    machine.open_channel();
    gone(&mut machine, EntityKind::Exchange, "theirs");
    machine.pass(50 * MILLISECOND);
    assert_eq!(machine.effects(), ["utility 10: theirs"]);
    let reason = CloseReason::new(541, "INTERNAL_ERROR", 40, 10);
    machine.supervision.connection_ended(Error::connection_closed("closed", Some(reason)), machine.now);
    machine.supervision.utility_lost(1, 10, Vec::new(), machine.now);
    machine.pass(SECOND);
    machine.connect();
    machine.supervision.channel_recovered(1, Vec::new(), machine.now);
    machine.effects();
    gone(&mut machine, EntityKind::Exchange, "theirs");
    machine.pass(SECOND);
    assert!(machine.effects().is_empty(), "not yet");
    machine.pass(8 * SECOND);
    assert_eq!(machine.effects(), ["utility 10: theirs"]);
}

/// The broker may hold a channel open that it did not reply on, so that its number is not used again.
#[test]
fn repairs_without_a_reply_leave_channel_numbers_to_the_application_and_wait_for_a_reconnect() {
    let mut machine = Machine::open();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"] {
        machine.declare(DeclareQueue::new(name), name);
        gone(&mut machine, EntityKind::Queue, name);
    }
    let mut runs = 0;
    loop {
        if let Some(number) = machine.supervision.utility.as_ref().map(|task| task.number) {
            runs += 1;
            machine.now += 30 * SECOND;
            machine.supervision.utility_lost(1, number, Vec::new(), machine.now);
        } else if let Some(due) = machine.supervision.deadline() {
            machine.now = machine.now.max(due);
            machine.supervision.time_passed(machine.now);
        } else {
            break;
        }
        assert!(runs < 20, "every run costs a number");
    }
    assert_eq!(runs, 5);
    let missing = machine.supervision.missing.list();
    assert_eq!(missing.len(), 11);
    assert!(missing.iter().all(|one| one.next_try == NextTry::AtReconnect), "{missing:?}");
    assert!((0..5).all(|_| machine.open_channel() > 0));
    machine.effects();
    machine.reconnect();
    assert!(machine.effects().iter().any(|effect| effect.starts_with("utility")));
}

#[test]
fn what_never_had_a_reply_keeps_nothing_else_from_its_repair() {
    let mut machine = Machine::open();
    machine.declare(DeclareQueue::new("silent"), "silent");
    gone(&mut machine, EntityKind::Queue, "silent");
    for number in [10, 9] {
        machine.now += 30 * SECOND;
        machine.supervision.utility_lost(1, number, Vec::new(), machine.now);
        machine.pass(5 * SECOND);
    }
    assert_eq!(machine.supervision.missing.list()[0].next_try, NextTry::AtReconnect);
    assert_eq!(machine.supervision.deadline(), None);
    machine.effects();
    machine.declare(DeclareQueue::new("jobs"), "jobs");
    let effects = gone(&mut machine, EntityKind::Queue, "jobs");
    assert!(effects.contains(&"utility 8: jobs".to_owned()), "{effects:?}");
    machine.supervision.steps_done(8, vec![Ok(None)], machine.now);
    let missing: Vec<_> = machine.supervision.missing.list().into_iter().map(|one| one.name).collect();
    assert_eq!(missing, ["silent"]);
}

/// Its channel may reopen on the same connection, without it.
#[test]
fn a_consumer_that_waits_for_a_reconnect_is_missing_when_its_channel_reopens() {
    let mut machine = super::recovery::with_consumer(DeclareQueue::new("jobs"), "jobs");
    let cause = ConsumerEnd::Closed(Error::timeout("basic.consume"));
    super::recovery::repair(&mut machine, "jobs", cause);
    for number in [10, 9] {
        machine.now += 30 * SECOND;
        machine.supervision.utility_lost(1, number, Vec::new(), machine.now);
        machine.pass(5 * SECOND);
    }
    machine.supervision.channel_reopened(1, Vec::new(), machine.now);
    let missing = machine.supervision.missing.list();
    let consumer = missing.iter().find(|one| one.kind == EntityKind::Consumer).expect("the consumer");
    assert_eq!(consumer.next_try, NextTry::AtReconnect, "{missing:?}");
}

#[test]
fn the_consumers_of_a_channel_that_has_ended_are_missing_until_the_application_acts() {
    for way in ["given up", "consumed", "forgotten", "queue forgotten", "queue deleted"] {
        let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
        let error = Error::channel_closed("test", None);
        let consumers = vec![("tag".into(), "jobs".to_owned(), error.clone())];
        let ended = EndedChannel { id: 7, channel: 1, error, consumers };
        machine.supervision.consumers_ended(ended, machine.now);
        assert_eq!(machine.effects(), ["event degraded"]);
        machine.supervision.channel_closed(1, true, machine.now);
        let seen = |machine: &Machine| -> Vec<_> {
            let missing = machine.supervision.missing.list();
            missing.iter().map(|one| (one.kind, one.name.clone(), one.next_try)).collect()
        };
        let names = [(EntityKind::Consumer, "tag"), (EntityKind::Channel, "1")];
        let expected = names.map(|(kind, name)| (kind, name.to_owned(), NextTry::ByApplication));
        assert_eq!(seen(&machine), expected);
        assert_eq!(machine.supervision.deadline(), None);
        machine.effects();
        let supervision = &mut machine.supervision;
        match way {
            "given up" => supervision.ended_given_up(7, Some("tag")),
            "consumed" => {
                let (channel, tag, queue) = (2, "tag".into(), "jobs".to_owned());
                machine.record(Entity::Consumer { channel, tag, queue });
            }
            "forgotten" => assert!(supervision.give_up(EntityKind::Consumer, "tag")),
            "queue forgotten" => assert!(supervision.give_up(EntityKind::Queue, "jobs")),
            _ => {
                let removal = Change::Forget(Removal::Queue("jobs".to_owned()));
                supervision.topology_changed(removal, machine.now);
            }
        }
        assert_eq!((machine.effects(), seen(&machine)), (vec!["event up".to_owned()], Vec::new()), "{way}");
    }
}
