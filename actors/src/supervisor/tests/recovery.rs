use super::*;
use crate::{
    internal::{Removal, TrialConsume, TrialResult},
    message::{BindQueue, ConsumerEnd, DeclareExchange, Degradation, EntityKind, Health, NextTry},
    supervisor::missing::Repair,
};

/// A machine with a queue that has a consumer on channel 1.
pub(super) fn with_consumer(declare: DeclareQueue, name: &str) -> Machine {
    let mut machine = Machine::open();
    machine.open_channel();
    machine.declare(declare, name);
    machine.record(Entity::Consumer { channel: 1, tag: "tag".into(), queue: name.into() });
    machine.effects();
    machine
}

pub(super) fn repair(machine: &mut Machine, queue: &str, cause: ConsumerEnd) -> Vec<String> {
    let trial = TrialConsume {
        tag: "tag".into(),
        queue: queue.into(),
        exclusive: false,
        arguments: Table::new(),
        shared_prefetch: None,
    };
    let repair = Repair { channel: 1, consumer: 7, trial, cause };
    machine.supervision.repair(repair, machine.now);
    machine.effects()
}

fn done(machine: &mut Machine, number: u16, results: Vec<Result<Option<String>, Error>>) -> Vec<String> {
    machine.supervision.steps_done(number, results, machine.now);
    machine.effects()
}

#[test]
fn channels_are_attached_after_the_topology() {
    let mut machine = Machine::open();
    machine.declare(DeclareQueue::new("jobs"), "jobs");
    machine.record(Entity::QueueBinding(BindQueue::new("jobs", "events", "")));
    machine.open_channel();
    machine.open_channel();
    machine.reconnect();
    let effects = ["state open", "event connected", "event degraded", "utility 10: jobs"];
    assert_eq!(machine.effects(), effects);
    // A channel that is opened now waits for the topology like the others.
    let opening = machine.supervision.open_channel(&OpenChannel::new().confirms(false)).unwrap();
    assert!(machine.effects().is_empty());
    let effects = done(&mut machine, 10, vec![Ok(None)]);
    assert_eq!(effects, ["detach 10", "utility 10: events -> jobs ()"]);
    let effects = done(&mut machine, 10, vec![Ok(None)]);
    assert_eq!(effects, ["detach 10", "attach 1", "attach 2", "attach 3"]);
    machine.supervision.channel_recovered(2, Vec::new(), machine.now);
    assert!(machine.effects().is_empty());
    machine.supervision.channel_closed(1, true, machine.now);
    let effects = ["detach 1", "event recovered 2, 0 skipped", "event up"];
    assert_eq!((machine.effects(), opening), (effects.map(String::from).into(), 3));
}

#[test]
fn a_locked_queue_is_declared_again_after_a_pause() {
    let mut machine = Machine::open();
    machine.declare(DeclareQueue::new("jobs"), "jobs");
    machine.reconnect();
    machine.effects();
    assert_eq!(done(&mut machine, 10, vec![Err(refusal(405))]), ["detach 10", "event degraded"]);
    assert_eq!(machine.supervision.deadline(), Some(machine.now + 50 * MILLISECOND));
    machine.pass(50 * MILLISECOND);
    assert_eq!(machine.effects(), ["utility 10: jobs"]);
    // Longer than the channels wait.
    machine.pass(6 * SECOND);
    let effects = done(&mut machine, 10, vec![Err(refusal(405))]);
    assert_eq!(effects, ["detach 10", "event recovered 2, 1 skipped", "event degraded"]);
    machine.pass(100 * MILLISECOND);
    assert_eq!(machine.effects(), ["utility 10: jobs"]);
    assert_eq!(done(&mut machine, 10, vec![Ok(None)]), ["detach 10", "event up"]);
}

#[test]
fn a_redeclaration_without_replies_fails_the_connection() {
    let mut machine = Machine::open();
    machine.declare(DeclareQueue::new("jobs"), "jobs");
    machine.reconnect();
    machine.effects();
    let effects = done(&mut machine, 10, Vec::new());
    assert!(matches!(&effects[..], [fail] if fail.starts_with("Fail")), "{effects:?}");
}

#[test]
fn a_channel_whose_number_is_too_high_now_is_closed() {
    let mut machine = Machine::open();
    machine.open_channel();
    machine.supervision.open_channel(&OpenChannel::new().confirms(false).number(9)).unwrap();
    machine.supervision.channel_opened(9);
    machine.lose();
    machine.pass(SECOND);
    machine.effects();
    machine.connect_with_channels(4);
    assert_eq!(machine.effects()[3..], ["attach 1", "9: connection closed", "event degraded"]);
    machine.supervision.channel_recovered(1, Vec::new(), machine.now);
    assert_eq!(machine.effects()[0], "event recovered 2, 1 skipped");
}

#[test]
fn a_lost_consumer_is_tried_on_the_utility_channel() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    let effects = repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(404)));
    assert_eq!(effects, ["event degraded", "utility 10: jobs, tag, tag"]);
    let Health::Degraded(reasons) = machine.supervision.health() else { panic!("not degraded") };
    assert!(matches!(&reasons[..], [Degradation::Missing(missing)] if missing.name == "tag"));
    let effects = done(&mut machine, 10, vec![Ok(None), Ok(None), Ok(None)]);
    assert_eq!(effects, ["detach 10", "1: repaired 7"]);
    machine.supervision.consumer_recovered(1, "tag", machine.now);
    assert_eq!(machine.effects(), ["event up"]);
}

#[test]
fn a_consumer_that_the_broker_cancelled_is_tried_on_its_own_channel_first() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    machine.record(Entity::Exchange(DeclareExchange::fanout("events")));
    machine.record(Entity::QueueBinding(BindQueue::new("jobs", "events", "")));
    let effects = repair(&mut machine, "jobs", ConsumerEnd::CancelledByBroker);
    assert_eq!(effects, ["1: start 7, 2 steps", "event degraded"]);
    assert_eq!(machine.supervision.deadline(), None);
    // It is refused there, and tried on the utility channel after a pause.
    assert!(repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(404))).is_empty());
    assert_eq!(machine.supervision.deadline(), Some(machine.now + 50 * MILLISECOND));
    machine.pass(50 * MILLISECOND);
    assert_eq!(machine.effects(), ["utility 10: jobs, events -> jobs (), tag, tag"]);
}

/// A peer that cancels a consumer whenever it has started is answered at the pace of the back-off.
#[test]
fn a_consumer_that_is_cancelled_at_once_is_repaired_at_growing_pauses() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let mut effects = repair(&mut machine, "jobs", ConsumerEnd::CancelledByBroker);
        let start = machine.now;
        if let Some(due) = machine.supervision.deadline() {
            machine.pass(due - machine.now);
            effects.extend(machine.effects());
            effects.extend(done(&mut machine, 10, vec![Ok(None), Ok(None), Ok(None)]));
            assert!(effects.contains(&"1: repaired 7".to_owned()), "{effects:?}");
        } else {
            assert!(effects.contains(&"1: start 7, 1 steps".to_owned()), "{effects:?}");
        }
        pauses.push((machine.now - start).as_millis());
        machine.supervision.consumer_recovered(1, "tag", machine.now);
        machine.effects();
    }
    assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    machine.pass(5 * SECOND);
    assert!(repair(&mut machine, "jobs", ConsumerEnd::CancelledByBroker)[0].contains("start 7"));
}

#[test]
fn a_refused_consumer_is_tried_again_with_doubled_pauses_without_end() {
    for code in [403, 404, 405] {
        let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
        repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(code)));
        let mut pauses = Vec::new();
        for _ in 0..100 {
            done(&mut machine, 10, vec![Ok(None), Err(refusal(code)), Ok(None)]);
            let due = machine.supervision.deadline().unwrap();
            pauses.push(due - machine.now);
            machine.pass(due - machine.now);
            assert_eq!(machine.effects(), ["utility 10: jobs, tag, tag"]);
        }
        let expected = [50, 100, 200, 400, 800, 1600, 3200, 5000].map(|millis| millis * MILLISECOND);
        assert_eq!(pauses[..8], expected);
        assert!(pauses[8..].iter().all(|pause| *pause == 5 * SECOND));
        let effects = done(&mut machine, 10, vec![Ok(None), Ok(None), Ok(None)]);
        assert_eq!(effects, ["detach 10", "1: repaired 7"]);
    }
}

#[test]
fn a_conflict_is_tried_at_the_longest_pause() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(403)));
    done(&mut machine, 10, vec![Ok(None), Err(refusal(406)), Ok(None)]);
    assert_eq!(machine.supervision.deadline(), Some(machine.now + 5 * SECOND));
}

#[test]
fn the_limits_of_the_recovery_are_those_of_an_entity_too() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    let mut limited = Machine::with(|options| options.recovery = Recovery::fixed(SECOND).attempts(2));
    std::mem::swap(&mut machine.supervision.missing, &mut limited.supervision.missing);
    repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(404)));
    done(&mut machine, 10, vec![Ok(None), Err(refusal(404)), Ok(None)]);
    machine.pass(50 * MILLISECOND);
    machine.effects();
    let effects = done(&mut machine, 10, vec![Ok(None), Err(refusal(404)), Ok(None)]);
    assert_eq!(effects, ["detach 10", "event gave up tag"]);
    assert_eq!(machine.supervision.deadline(), None);
    assert!(!machine.supervision.health().is_up());
    let missing = machine.supervision.missing.list();
    assert!(matches!(&missing[..], [one] if one.next_try == NextTry::Never && one.name == "tag"));
}

#[test]
fn a_consumer_of_an_unrecorded_queue_is_only_tried() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    let effects = repair(&mut machine, "other", ConsumerEnd::CancelledByBroker);
    assert_eq!(effects, ["event degraded", "utility 10: tag, tag"]);
}

#[test]
fn a_server_named_queue_that_is_gone_is_replaced_at_once() {
    let mut machine = with_consumer(DeclareQueue::new(""), "amq.gen-1");
    machine.record(Entity::QueueBinding(BindQueue::new("amq.gen-1", "events", "")));
    let effects = repair(&mut machine, "amq.gen-1", ConsumerEnd::CancelledByBroker);
    let check = "utility 10: amq.gen-1, events -> amq.gen-1 (), tag, tag";
    assert_eq!(effects, ["event degraded", check]);
    let gone = vec![Err(refusal(404)), Err(refusal(404)), Err(refusal(404)), Ok(None)];
    let effects = done(&mut machine, 10, gone);
    assert_eq!(effects, ["detach 10", "utility 10: amq.gen-1", "event degraded"]);
    let effects = done(&mut machine, 10, vec![Ok(Some("amq.gen-2".into()))]);
    let again = "utility 10: amq.gen-2, events -> amq.gen-2 (), tag, tag";
    let expected = ["detach 10", "1: renamed amq.gen-1 amq.gen-2", again, "event degraded"];
    assert_eq!(effects, expected);
    let effects = done(&mut machine, 10, vec![Ok(None); 4]);
    assert_eq!(effects, ["detach 10", "1: repaired 7", "event degraded"]);
    machine.supervision.consumer_recovered(1, "tag", machine.now);
    assert_eq!(machine.effects(), ["event up"]);
}

#[test]
fn a_consumer_whose_queue_is_deleted_is_lost() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(403)));
    done(&mut machine, 10, vec![Ok(None), Err(refusal(403)), Ok(None)]);
    machine.supervision.topology_changed(Change::Forget(Removal::Queue("jobs".into())), machine.now);
    assert_eq!(machine.effects(), ["1: lost 7", "event up"]);
    assert_eq!(machine.supervision.deadline(), None);
}

#[test]
fn a_consumer_whose_channel_closes_is_not_repaired() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(403)));
    done(&mut machine, 10, vec![Ok(None), Err(refusal(403)), Ok(None)]);
    machine.supervision.channel_closed(1, true, machine.now);
    assert_eq!(machine.effects(), ["detach 1", "event up"]);
    assert_eq!(machine.supervision.deadline(), None);
}

#[test]
fn repairs_wait_until_all_channels_have_recovered() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    machine.reconnect();
    done(&mut machine, 10, vec![Ok(None)]);
    let effects = repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(403)));
    assert_eq!(effects, ["event degraded"]);
    assert_eq!(machine.supervision.deadline(), None);
    machine.supervision.channel_recovered(1, Vec::new(), machine.now);
    let effects = machine.effects();
    assert_eq!(effects[0], "event recovered 2, 1 skipped");
    assert_eq!(effects.last().map(String::as_str), Some("utility 10: jobs, tag, tag"));
}

#[test]
fn a_recorded_exchange_that_a_404_names_is_declared_again_with_its_bindings() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    machine.record(Entity::Exchange(DeclareExchange::fanout("events")));
    machine.record(Entity::QueueBinding(BindQueue::new("jobs", "events", "")));
    machine.supervision.entity_gone(EntityKind::Exchange, "events", &refusal(404), machine.now);
    assert_eq!(machine.effects(), ["event degraded", "utility 10: events, events -> jobs ()"]);
    let effects = done(&mut machine, 10, vec![Ok(None), Ok(None)]);
    assert_eq!(effects, ["detach 10", "1: found events", "event up"]);
}

#[test]
fn an_exchange_that_is_not_recorded_is_looked_for_while_somebody_asks_for_it() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    let ask = |machine: &mut Machine| {
        machine.supervision.entity_gone(EntityKind::Exchange, "theirs", &refusal(404), machine.now);
    };
    ask(&mut machine);
    assert!(machine.effects().is_empty() && machine.supervision.health().is_up());
    machine.pass(50 * MILLISECOND);
    assert_eq!(machine.effects(), ["utility 10: theirs"]);
    assert_eq!(done(&mut machine, 10, vec![Err(refusal(404))]), ["detach 10"]);
    ask(&mut machine);
    machine.pass(100 * MILLISECOND);
    assert_eq!(machine.effects(), ["utility 10: theirs"]);
    assert_eq!(done(&mut machine, 10, vec![Ok(None)]), ["detach 10", "1: found theirs"]);
    ask(&mut machine);
    machine.pass(60 * SECOND);
    assert_eq!(machine.effects(), ["1: found theirs"], "nobody has asked for a minute");
    assert_eq!(machine.supervision.deadline(), None);
}

#[test]
fn the_names_that_are_looked_for_are_bounded() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    for n in 0..256 {
        let name = format!("exchange {n}");
        machine.supervision.entity_gone(EntityKind::Exchange, &name, &refusal(404), machine.now);
    }
    assert!(machine.effects().is_empty());
    machine.supervision.entity_gone(EntityKind::Exchange, "one more", &refusal(404), machine.now);
    assert_eq!(machine.effects(), ["1: found one more"]);
}

#[test]
fn a_consumer_that_only_the_application_can_start_is_missing_until_it_is_given_up() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    machine.supervision.consumer_missing(1, "tag", Error::stopped("test"), machine.now);
    assert_eq!(machine.effects(), ["event degraded"]);
    assert_eq!(machine.supervision.missing.list()[0].next_try, NextTry::ByApplication);
    assert_eq!(machine.supervision.deadline(), None);
    machine.supervision.consumer_recovered(1, "tag", machine.now);
    assert_eq!(machine.effects(), ["event up"]);
}

/// REC-59: until the application gives it up, the broker keeps it, or the channel ends.
#[test]
fn a_shared_prefetch_that_the_broker_ignores_is_missing() {
    for end in ["given up", "reconnect", "closed"] {
        let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
        machine.supervision.prefetch_withheld(1, Some(Error::refused_here("ignored")), machine.now);
        assert_eq!(machine.effects(), ["event degraded"]);
        let missing = machine.supervision.missing.list();
        let seen: Vec<_> = missing.iter().map(|one| (one.kind, one.name.as_str(), one.next_try)).collect();
        assert_eq!(seen, [(EntityKind::Prefetch, "1", NextTry::ByApplication)]);
        assert_eq!(machine.supervision.deadline(), None);
        match end {
            "given up" => machine.supervision.prefetch_withheld(1, None, machine.now),
            "closed" => machine.supervision.channel_closed(1, true, machine.now),
            _ => {
                machine.reconnect();
                machine.supervision.steps_done(10, vec![Ok(None)], machine.now);
                machine.supervision.channel_recovered(1, Vec::new(), machine.now);
            }
        }
        assert!(machine.supervision.missing.list().is_empty(), "{end}");
    }
}

/// The supervisor reads the report of the channel behind the application's message.
#[test]
fn a_consumer_that_was_given_up_is_not_missing() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    assert!(machine.supervision.give_up(EntityKind::Consumer, "tag"));
    assert_eq!(machine.effects(), ["1: forget tag"]);
    machine.supervision.consumer_missing(1, "tag", Error::stopped("test"), machine.now);
    assert_eq!(machine.effects(), [""; 0]);
    assert!(machine.supervision.health().is_up());
}

#[test]
fn what_has_cost_a_connection_and_was_given_up_is_not_tried() {
    let mut machine = Machine::open();
    machine.declare(DeclareQueue::new("jobs"), "jobs");
    machine.reconnect();
    let (epoch, number) = (machine.supervision.epoch, 10);
    let reason = CloseReason::new(541, "INTERNAL_ERROR", 50, 10);
    machine.supervision.connection_ended(Error::connection_closed("test", Some(reason)), machine.now);
    assert!(machine.supervision.give_up(EntityKind::Queue, "jobs"));
    machine.supervision.utility_lost(epoch, number, Vec::new(), machine.now);
    machine.pass(SECOND);
    machine.connect();
    assert_eq!(machine.supervision.deadline(), None);
    assert!(machine.supervision.health().is_up());
}

#[test]
fn what_is_forgotten_is_not_tried_again() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    machine.record(Entity::QueueBinding(BindQueue::new("jobs", "events", "")));
    machine.supervision.entity_gone(EntityKind::Queue, "jobs", &refusal(404), machine.now);
    machine.effects();
    done(&mut machine, 10, vec![Err(refusal(403)), Err(refusal(404))]);
    assert!(machine.supervision.give_up(EntityKind::Queue, "jobs"));
    assert_eq!(machine.effects(), ["1: forget tag", "1: found jobs", "event up"]);
    assert_eq!((machine.supervision.deadline(), machine.supervision.topology.counts()), (None, [0; 4]));
    assert!(!machine.supervision.give_up(EntityKind::Queue, "jobs"));
}

/// Everything but the consumers waits for a channel to close; these are tried on their own channels.
#[test]
fn without_a_free_channel_number_entities_wait_visibly_for_room() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    while machine.supervision.open_channel(&OpenChannel::new().confirms(false)).is_ok() {}
    machine.effects();
    let effects = repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(404)));
    assert_eq!(effects, ["event degraded", "1: start 7, 1 steps"]);
    machine.supervision.entity_gone(EntityKind::Queue, "jobs", &refusal(404), machine.now);
    let missing = machine.supervision.missing.list();
    assert_eq!(missing[0].next_try, NextTry::WhenChannelCloses);
    assert!(missing[0].error.to_string().contains("all 10 channels are open"), "{}", missing[0].error);
    assert_eq!(machine.supervision.deadline(), None);
    machine.effects();
    machine.supervision.channel_closed(5, true, machine.now);
    assert!(machine.effects().contains(&"utility 5: jobs".to_owned()));
}

/// The broker closes the connection when its user has too many channels: that is remembered.
#[test]
fn a_user_at_its_limit_of_channels_opens_none_for_the_library() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    let theirs = Entity::Exchange(DeclareExchange::existing("theirs"));
    machine.record(theirs);
    machine.supervision.entity_gone(EntityKind::Exchange, "theirs", &refusal(404), machine.now);
    let limit = CloseReason::new(530, "NOT_ALLOWED - number of channels opened for user 'u'", 20, 10);
    let error = Error::connection_closed("the broker closed the connection", Some(limit));
    machine.supervision.connection_ended(error, machine.now);
    machine.pass(SECOND);
    machine.connect();
    done(&mut machine, 10, vec![Err(refusal(404)), Ok(None)]);
    machine.supervision.channel_recovered(1, Vec::new(), machine.now);
    machine.effects();
    let due = machine.supervision.room.due().expect("a probe");
    machine.now = due - MILLISECOND;
    machine.supervision.time_passed(machine.now);
    assert!(machine.effects().is_empty(), "no channel is opened");
    assert_eq!(machine.supervision.missing.list()[0].next_try, NextTry::At(due.into_std()));

    // Others may make room. A connection of its own finds that out.
    machine.pass(MILLISECOND);
    assert_eq!(machine.effects(), ["trial 1: "]);
    machine.supervision.trial_done(1, TrialResult::NotMade(refusal(530)), machine.now);
    let next = NextTry::At((machine.now + 10 * SECOND).into_std());
    assert_eq!(machine.supervision.missing.list()[0].next_try, next);
    machine.pass(10 * SECOND);
    assert_eq!(machine.effects(), ["trial 2: "]);
    machine.lose();
    assert!(machine.effects().contains(&"stop trial".to_owned()));
    machine.pass(SECOND);
    machine.connect();
    done(&mut machine, 10, vec![Err(refusal(404)), Ok(None)]);
    machine.supervision.channel_recovered(1, Vec::new(), machine.now);
    machine.effects();
    machine.pass(10 * SECOND);
    assert_eq!(machine.effects(), ["trial 3: "]);
    machine.supervision.trial_done(3, TrialResult::Accepted, machine.now);
    assert_eq!(machine.effects(), ["utility 10: theirs"]);
}

/// A broker that does not reply on the utility channel costs neither the connection nor the other entities.
#[test]
fn an_entity_without_a_reply_is_tried_later_and_the_others_without_it() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    machine.declare(DeclareQueue::new("stuck"), "stuck");
    machine.supervision.entity_gone(EntityKind::Exchange, "theirs", &refusal(404), machine.now);
    machine.supervision.entity_gone(EntityKind::Queue, "stuck", &refusal(404), machine.now);
    machine.effects();
    machine.supervision.entity_gone(EntityKind::Queue, "jobs", &refusal(404), machine.now);
    machine.effects();
    assert_eq!(done(&mut machine, 10, Vec::new()), ["detach 10", "utility 9: jobs"]);
    let stuck = &machine.supervision.missing.list()[1];
    assert_eq!((stuck.name.as_str(), stuck.error.kind()), ("stuck", crate::error::ErrorKind::Timeout));
    assert_eq!(stuck.next_try, NextTry::At((machine.now + 5 * SECOND).into_std()));
    let effects = done(&mut machine, 9, vec![Ok(None)]);
    assert_eq!(effects, ["detach 9", "1: found jobs", "event degraded"]);
    machine.pass(50 * MILLISECOND);
    assert_eq!(machine.effects(), ["utility 9: theirs"], "the broker may hold channel 10 open");
}
