use super::*;

fn close(machine: &mut Machine) -> Vec<String> {
    close_within(machine, None)
}

fn close_within(machine: &mut Machine, limit: Option<Duration>) -> Vec<String> {
    let close = CloseConnection::new().reason(200, "bye");
    let close = limit.map_or(close.clone(), |limit| close.within(limit));
    machine.supervision.close(close, machine.now);
    machine.effects()
}

/// CON-23: a close that finds no open connection, or one that recovers, waits for nothing.
#[test]
fn a_close_during_the_recovery_is_ordered_at_once() {
    for phase in ["dialling", "redeclaring", "attaching"] {
        let mut machine = Machine::open();
        machine.open_channel();
        if phase == "redeclaring" {
            machine.declare(DeclareQueue::new("jobs"), "jobs");
        }
        machine.lose();
        machine.pass(SECOND);
        if phase != "dialling" {
            machine.connect();
        }
        machine.effects();
        let effects = close(&mut machine);
        assert_eq!(effects, ["1: drain", "count unconfirmed", "close connection"], "{phase}");
        assert!(close(&mut machine).is_empty());
        machine.lose();
        assert_eq!(machine.effects(), ["drop connection", "closed"], "{phase}");
    }
}

#[test]
fn a_close_during_the_back_off_is_done_at_once() {
    let mut machine = Machine::open();
    machine.lose();
    machine.effects();
    assert_eq!(close(&mut machine), ["closed"]);
    assert_eq!(machine.supervision.deadline(), None);
}

#[test]
fn a_close_waits_for_the_confirms_of_every_channel() {
    let mut machine = Machine::open();
    let (first, second) = (machine.open_channel(), machine.open_channel());
    machine.effects();
    assert_eq!(close(&mut machine), ["1: drain", "2: drain"]);
    assert!(machine.supervision.open_channel(&OpenChannel::new()).is_err());
    machine.supervision.channel_drained(first, machine.now);
    assert!(machine.effects().is_empty());
    machine.supervision.channel_closed(second, true, machine.now);
    assert_eq!(machine.effects(), ["detach 2", "count unconfirmed", "close connection"]);
}

#[test]
fn a_close_waits_no_longer_than_its_timeout() {
    let mut machine = Machine::with(|options| options.close_timeout = 2 * SECOND);
    machine.connect();
    machine.open_channel();
    machine.effects();
    close(&mut machine);
    assert_eq!(machine.supervision.deadline(), Some(machine.now + 2 * SECOND));
    machine.pass(2 * SECOND);
    assert_eq!(machine.effects(), ["count unconfirmed", "close connection"]);
    assert_eq!(machine.supervision.deadline(), None);
}

/// SHUT-03: the earliest limit counts, also when a close is under way.
#[test]
fn a_close_with_a_limit_waits_no_longer_than_that() {
    let mut machine = Machine::with(|options| options.close_timeout = 9 * SECOND);
    machine.connect();
    machine.open_channel();
    machine.effects();
    let start = machine.now;
    for (limit, until) in [(Some(5), 5), (Some(7), 5), (None, 5), (Some(20), 5), (Some(3), 3)] {
        close_within(&mut machine, limit.map(|n| n * SECOND));
        assert_eq!(machine.supervision.deadline(), Some(start + until * SECOND), "{limit:?}");
    }
    machine.pass(3 * SECOND);
    assert_eq!(machine.effects(), ["count unconfirmed", "close connection"]);
}

/// A connection that is lost before `connection.close` was ordered ends with that error.
#[test]
fn a_connection_that_is_lost_while_it_drains_ends_with_the_error() {
    let mut machine = Machine::open();
    machine.open_channel();
    machine.effects();
    close(&mut machine);
    machine.lose();
    assert_eq!(machine.effects(), ["drop connection", "closed with an error"]);
}

/// ACT-07: the connection closes when neither it nor one of its channels has a handle.
#[test]
fn a_released_connection_closes_after_its_last_channel() {
    let mut machine = Machine::open();
    let channel = machine.open_channel();
    machine.effects();
    machine.supervision.release(machine.now);
    assert!(machine.effects().is_empty());
    machine.supervision.channel_closed(channel, true, machine.now);
    assert_eq!(machine.effects(), ["detach 1", "count unconfirmed", "close connection"]);
}

/// ACT-07, design 13.12.
#[test]
fn a_released_connection_is_not_dialled_again() {
    let mut machine = Machine::open();
    machine.lose();
    machine.effects();
    machine.supervision.release(machine.now);
    assert_eq!(machine.effects(), ["closed", "stop"]);
    assert_eq!(machine.supervision.deadline(), None);
}
