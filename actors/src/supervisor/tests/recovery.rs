use super::*;
use crate::{
    internal::{Removal, TrialConsume},
    message::{BindQueue, ConsumerEnd, DeclareExchange, Degradation, EntityKind, Health},
    supervisor::{repair::Repair, repair_steps::ServerNamed},
};

/// A machine with a queue that has a consumer on channel 1.
fn with_consumer(declare: DeclareQueue, name: &str) -> Machine {
    let mut machine = Machine::open();
    machine.open_channel();
    machine.declare(declare, name);
    machine.record(Entity::Consumer { channel: 1, tag: "tag".into(), queue: name.into() });
    machine.effects();
    machine
}

fn repair(machine: &mut Machine, queue: &str, cause: ConsumerEnd) -> Vec<String> {
    let trial =
        TrialConsume { tag: "tag".into(), queue: queue.into(), exclusive: false, arguments: Table::new() };
    let repair = Repair { channel: 1, consumer: 7, trial, cause, queue: ServerNamed::Check };
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
    assert_eq!(done(&mut machine, 10, vec![Err(refusal(405))]), ["detach 10"]);
    assert_eq!(machine.supervision.deadline(), Some(machine.now + 50 * MILLISECOND));
    machine.pass(50 * MILLISECOND);
    assert_eq!(machine.effects(), ["utility 10: jobs"]);
    // Longer than the channels wait.
    machine.pass(6 * SECOND);
    let effects = done(&mut machine, 10, vec![Err(refusal(405))]);
    let recovered = ["detach 10", "event recovered 2, 1 skipped", "event degraded", "utility 10: jobs"];
    assert_eq!(effects, recovered);
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
    let effects = repair(&mut machine, "jobs", ConsumerEnd::Cancelled);
    assert_eq!(effects, ["event degraded", "utility 10: jobs, tag, tag"]);
    let Health::Degraded(reasons) = machine.supervision.health() else { panic!("not degraded") };
    assert!(matches!(&reasons[..], [Degradation::Missing(missing)] if missing.name == "tag"));
    let effects = done(&mut machine, 10, vec![Ok(None), Ok(None), Ok(None)]);
    assert_eq!(effects, ["detach 10", "1: repaired 7"]);
    machine.supervision.consumer_recovered("tag");
    assert_eq!(machine.effects(), ["event up"]);
}

#[test]
fn a_transient_refusal_is_tried_again_with_doubled_pauses_for_a_minute() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(403)));
    let start = machine.now;
    let mut pauses = Vec::new();
    let last = loop {
        let effects = done(&mut machine, 10, vec![Ok(None), Err(refusal(403)), Ok(None)]);
        let Some(due) = machine.supervision.deadline() else { break effects };
        pauses.push(due - machine.now);
        machine.pass(due - machine.now);
        assert_eq!(machine.effects(), ["utility 10: jobs, tag, tag"]);
    };
    let expected = [50, 100, 200, 400, 800, 1600, 3200, 5000].map(|millis| millis * MILLISECOND);
    assert_eq!(pauses[..8], expected);
    assert!(pauses[8..].iter().all(|pause| *pause == 5 * SECOND));
    assert!(machine.now - start >= 60 * SECOND);
    assert_eq!(last, ["detach 10", "event up", "1: lost 7"]);
}

#[test]
fn a_final_refusal_ends_the_consumer() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(403)));
    let effects = done(&mut machine, 10, vec![Ok(None), Err(refusal(406)), Ok(None)]);
    assert_eq!(effects, ["detach 10", "event up", "1: lost 7"]);
}

#[test]
fn a_consumer_of_an_unrecorded_queue_is_repaired_only_after_a_transient_refusal() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    assert_eq!(repair(&mut machine, "other", ConsumerEnd::Cancelled), ["1: lost 7"]);
    let effects = repair(&mut machine, "other", ConsumerEnd::Closed(refusal(403)));
    assert_eq!(effects, ["event degraded", "utility 10: tag, tag"]);
}

#[test]
fn a_server_named_queue_that_is_gone_is_replaced_at_once() {
    let mut machine = with_consumer(DeclareQueue::new(""), "amq.gen-1");
    let effects = repair(&mut machine, "amq.gen-1", ConsumerEnd::Cancelled);
    assert_eq!(effects, ["event degraded", "utility 10: amq.gen-1, tag, tag"]);
    let gone = vec![Err(refusal(404)), Ok(None), Ok(None)];
    assert_eq!(done(&mut machine, 10, gone), ["detach 10", "utility 10: amq.gen-1"]);
    let effects = done(&mut machine, 10, vec![Ok(Some("amq.gen-2".into()))]);
    assert_eq!(effects, ["detach 10", "1: renamed amq.gen-1 amq.gen-2", "1: repaired 7"]);
}

#[test]
fn a_consumer_whose_queue_is_deleted_is_lost() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    repair(&mut machine, "jobs", ConsumerEnd::Closed(refusal(403)));
    done(&mut machine, 10, vec![Ok(None), Err(refusal(403)), Ok(None)]);
    machine.supervision.topology_changed(Change::Forget(Removal::Queue("jobs".into())));
    assert_eq!(machine.effects(), ["event up", "1: lost 7"]);
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
    machine.supervision.entity_gone(EntityKind::Exchange, "events".into(), refusal(404), machine.now);
    assert_eq!(machine.effects(), ["event degraded", "utility 10: events, events -> jobs ()"]);
    let effects = done(&mut machine, 10, vec![Ok(None), Ok(None)]);
    assert_eq!(effects, ["detach 10", "1: found events", "event up"]);
}

#[test]
fn a_consumer_that_only_the_application_can_start_is_missing_until_it_is_given_up() {
    let mut machine = with_consumer(DeclareQueue::new("jobs"), "jobs");
    machine.supervision.consumer_missing("tag", Error::stopped("test"));
    assert_eq!(machine.effects(), ["event degraded"]);
    machine.supervision.consumer_recovered("tag");
    assert_eq!(machine.effects(), ["event up"]);
}
