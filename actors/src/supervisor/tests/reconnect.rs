use super::*;
use crate::{
    error::ErrorKind,
    message::{EntityKind, Health},
    supervisor::{missing::EntityKey, ready::Readiness},
};

#[test]
fn the_first_connect_fails_at_its_first_failure() {
    let mut machine = Machine::with(|_| {});
    machine.lose();
    assert_eq!(machine.effects(), ["drop connection", "closed with an error"]);
    assert_eq!(machine.supervision.deadline(), None);
    assert!(machine.supervision.open_channel(&OpenChannel::new()).is_err());
}

#[test]
fn without_fail_fast_the_first_connect_is_tried_again() {
    let mut machine = Machine::with(|options| options.fail_fast = false);
    assert!(matches!(machine.supervision.health(), Health::Down(None)));
    machine.lose();
    assert_eq!(machine.effects(), ["drop connection", "state reconnecting", "event retrying 1"]);
    assert_eq!(machine.supervision.deadline(), Some(machine.now + SECOND));
    machine.pass(SECOND - MILLISECOND);
    assert!(machine.effects().is_empty());
    machine.pass(MILLISECOND);
    assert_eq!(machine.effects(), ["dial"]);
    assert!(matches!(machine.supervision.health(), Health::Down(Some(_))));
    assert!(matches!(machine.supervision.phase.state(), ConnectionState::Reconnecting(_)));
    // Nothing was open before, so that no channel opens and nothing is recovered.
    assert!(machine.supervision.open_channel(&OpenChannel::new()).is_err());
    machine.connect();
    assert_eq!(machine.effects(), ["state open", "event connected", "event up"]);
}

#[test]
fn without_recovery_a_lost_connection_is_closed() {
    let mut machine = Machine::with(|options| options.recovery = Recovery::Never);
    machine.connect();
    assert_eq!(machine.effects(), ["state open", "event connected"]);
    machine.lose();
    assert_eq!(machine.effects(), ["drop connection", "closed with an error"]);
}

#[test]
fn a_lost_connection_is_taken_from_its_channels_and_dialled_again() {
    let mut machine = Machine::open();
    machine.open_channel();
    machine.effects();
    machine.lose();
    let effects = ["drop connection", "stop utility", "fail secrets", "1: detached 1", "event lost"];
    assert_eq!(machine.effects(), [&effects[..], &["state reconnecting", "event retrying 1"]].concat());
    assert!(!machine.supervision.is_current(1));
    machine.pass(SECOND);
    assert_eq!(machine.effects(), ["dial"]);
    assert!(machine.supervision.is_current(2) && !machine.supervision.is_current(1));
    machine.connect();
    let effects = ["state open", "event connected", "event degraded", "attach 1"];
    assert_eq!(machine.effects(), effects);
    machine.supervision.channel_recovered(1, Vec::new(), machine.now);
    assert_eq!(machine.effects(), ["event recovered 2, 0 skipped", "event up"]);
}

#[test]
fn the_last_attempt_closes_the_connection_with_its_failure() {
    let recovery = Recovery::fixed(SECOND).attempts(1);
    let mut machine = Machine::with(|options| options.recovery = recovery);
    machine.connect();
    machine.lose();
    machine.pass(SECOND);
    machine.effects();
    machine.lose();
    assert_eq!(machine.effects(), ["drop connection", "closed with an error"]);
    assert!(matches!(machine.supervision.phase.state(), ConnectionState::Closed(Some(_))));
}

/// A connection that stood for 5 s after its recovery begins a new count.
#[test]
fn attempts_count_from_one_after_a_connection_that_stood() {
    let mut machine = Machine::open();
    for (stood, attempt) in [(SECOND, 1), (SECOND, 2), (4 * SECOND, 3), (5 * SECOND, 1), (SECOND, 2)] {
        machine.pass(stood);
        machine.lose();
        assert!(machine.effects().contains(&format!("event retrying {attempt}")), "attempt {attempt}");
        machine.pass(SECOND);
        machine.connect();
    }
}

/// However long its recovery takes: what dies before or right after it goes on to back off.
#[test]
fn attempts_count_on_while_connections_die_in_their_recovery() {
    let mut machine = Machine::open();
    let channel = machine.open_channel();
    machine.declare(DeclareQueue::new("jobs"), "jobs");
    for attempt in 1..=4 {
        machine.lose();
        assert!(machine.effects().contains(&format!("event retrying {attempt}")), "attempt {attempt}");
        machine.pass(SECOND);
        machine.connect();
        machine.pass(60 * SECOND);
        if attempt > 2 {
            machine.supervision.steps_done(10, vec![Ok(None)], machine.now);
            machine.supervision.channel_recovered(channel, Vec::new(), machine.now);
            machine.pass(4 * SECOND);
        }
    }
    machine.pass(SECOND);
    machine.lose();
    assert!(machine.effects().contains(&"event retrying 1".to_owned()));
}

#[test]
fn an_alarm_ends_with_its_connection() {
    let mut machine = Machine::open();
    machine.open_channel();
    machine.effects();
    machine.supervision.set_blocked(Some("low on memory".into()), machine.now);
    let effects = ["state open", "1: blocked true", "utility blocked: true"];
    assert_eq!(machine.effects()[..3], effects);
    assert!(machine.supervision.blocked().is_some());
    machine.reconnect();
    assert!(machine.supervision.blocked().is_none());
}

/// BRK-07: the broker closes the connection with 541 for a declaration that meets a virtual host on its way down.
#[test]
fn a_declaration_is_not_left_out_when_the_virtual_host_has_gone() {
    for is_gone in [false, true] {
        let mut machine = Machine::open();
        machine.declare(DeclareQueue::new("jobs"), "jobs");
        machine.supervision.entity_gone(EntityKind::Queue, "jobs", &refusal(404), machine.now);
        assert!(machine.effects().contains(&"utility 10: jobs".to_owned()));
        let reason = CloseReason::new(541, "INTERNAL_ERROR - Cannot declare queue 'jobs'", 50, 10);
        let error = Error::connection_closed("the broker closed the connection", Some(reason));
        machine.supervision.connection_ended(error, machine.now);
        machine.supervision.utility_lost(1, 10, Vec::new(), machine.now);
        machine.pass(SECOND);
        if is_gone {
            let reason = CloseReason::new(530, "NOT_ALLOWED - vhost v not found", 10, 40);
            machine.supervision.connection_ended(Error::connect_refused(reason), machine.now);
            machine.pass(5 * SECOND);
        }
        machine.effects();
        machine.connect();
        assert_eq!(machine.effects().contains(&"utility 10: jobs".to_owned()), is_gone);
    }
}

/// BRK-07: so does a consumer that starts meanwhile. It starts with its channel on the next connection.
#[test]
fn a_consumer_is_not_left_out_when_the_virtual_host_has_gone() {
    let mut machine = super::recovery::with_consumer(DeclareQueue::new("jobs"), "jobs");
    let reason = CloseReason::new(541, "INTERNAL_ERROR", 60, 20);
    let error = Error::connection_closed("the broker closed the connection", Some(reason));
    machine.supervision.connection_ended(error.clone(), machine.now);
    let key = EntityKey::consumer(1, "tag");
    machine.supervision.add_fatal_entity(key.clone(), error, machine.now);
    assert!(machine.supervision.fatal_entities.withheld(&key).is_some());
    machine.pass(SECOND);
    machine.effects();
    let reason = CloseReason::new(530, "NOT_ALLOWED - vhost v not found", 10, 40);
    machine.supervision.connection_ended(Error::connect_refused(reason), machine.now);
    assert!(machine.effects().contains(&"1: not at fault tag".to_owned()));
    assert!(machine.supervision.fatal_entities.withheld(&key).is_none());
}

fn readiness(machine: &Machine) -> String {
    match machine.supervision.readiness() {
        Readiness::Ready => "ready".into(),
        Readiness::NotYet(error) => {
            assert_eq!(error.kind(), ErrorKind::Timeout);
            error.to_string()
        }
        Readiness::Over(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
            error.to_string()
        }
    }
}

/// REC-43: a connection is ready when its recovery is complete, whatever is missing then.
#[test]
fn a_connection_is_ready_when_its_recovery_is_complete() {
    let mut machine = Machine::with(|_| {});
    assert_eq!(readiness(&machine), "the connection is not open yet");
    machine.connect();
    assert_eq!(readiness(&machine), "ready");
    let channel = machine.open_channel();
    machine.declare(DeclareQueue::new("jobs"), "jobs");
    machine.lose();
    assert_eq!(readiness(&machine), "the connection is down: test");
    machine.pass(SECOND);
    assert_eq!(readiness(&machine), "the connection is down: test");
    machine.connect();
    assert_eq!(readiness(&machine), "the connection is being recovered: test");
    machine.supervision.steps_done(10, vec![Err(refusal(406))], machine.now);
    assert_eq!(readiness(&machine), "the connection is being recovered: test");
    machine.supervision.channel_recovered(channel, Vec::new(), machine.now);
    assert!(!machine.supervision.health().is_up());
    assert_eq!(readiness(&machine), "ready");
    machine.supervision.set_blocked(Some("low on memory".into()), machine.now);
    assert_eq!(readiness(&machine), "ready");
    machine.supervision.close(CloseConnection::new().reason(200, "bye"), machine.now);
    assert_eq!(readiness(&machine), "the connection is being closed");
    machine.lose();
    assert!(readiness(&machine).contains("test"), "{}", readiness(&machine));
}

/// WEB-01: what fails because of a lost connection knows when it is dialled again.
#[test]
fn the_error_of_an_outage_knows_the_next_attempt() {
    let mut machine = Machine::with(|options| options.recovery = Recovery::fixed(3_600 * SECOND));
    machine.connect();
    assert!(machine.supervision.outage.is_none());
    machine.lose();
    let wait = machine.supervision.outage.as_ref().and_then(Error::next_attempt_in).unwrap();
    assert!(wait <= 3_600 * SECOND && wait > SECOND, "{wait:?}");
}
