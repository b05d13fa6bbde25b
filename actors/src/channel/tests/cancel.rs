//! What happens on `basic.cancel`, from either side. No runtime, no clock.

use std::{sync::Arc, time::Duration};

use super::bench::{Bench, Sink};
use crate::{
    channel::{output::Output, reply::Answer},
    error::{Error, ErrorKind},
    internal::{Change, Entity, SupervisorMessage},
    message::{
        BindQueue, CancelConsumer, CloseChannel, Consume, ConsumerEnd, Outcome, QueueType, TargetEnd,
        TargetLost,
    },
    outbox::DeliveredTags,
};

fn cancel(bench: &mut Bench, tag: &str) -> Answer<()> {
    bench.machine.cancel_consumer(&CancelConsumer::new(tag), bench.now).listen()
}

#[test]
fn one_cancel_is_sent_for_all_callers() {
    let mut bench = Bench::open();
    let sink = bench.consume("a");
    let calls = [cancel(&mut bench, "a"), cancel(&mut bench, "a")];
    assert_eq!(bench.sent(), ["basic.cancel a"]);
    assert!(sink.end().is_none(), "deliveries may come until the reply");
    bench.answer_cancel("a");
    assert!(calls.iter().all(Answer::is_ok));
    assert!(matches!(sink.end(), Some(ConsumerEnd::Cancelled)));
    assert_eq!(bench.events(), [""; 0], "the application wanted it");
}

/// Cancels a consumer by the broker with two deliveries unsettled; returns how acking one ends, and what was sent.
fn ack_after_a_cancel(
    version: &'static str,
    queue_type: Option<QueueType>,
) -> (Option<ErrorKind>, Vec<String>) {
    let mut bench = Bench::new(true);
    bench.version = version;
    bench.attach();
    bench.answer_opening();
    let consume = Consume::new().queue("jobs").tag("a").of_type(queue_type).sink(Arc::new(Sink::default()));
    let consumed = bench.call(consume);
    bench.answer_qos();
    bench.answer_consume("a");
    assert!(consumed.is_ok());
    let id = bench.machine.consumers.get("a").unwrap().id();
    let outbox = bench.machine.outbox.clone();
    outbox.delivered(&[DeliveredTags { first: 1, last: 2, consumer: Some(id) }], 0).unwrap();
    bench.sent();
    bench.cancel_by_broker("a");
    assert_eq!(bench.sent(), ["basic.cancel a"], "so that it can start again");
    bench.answer_cancel("a");
    let is_stale = outbox.is_stale(bench.machine.channel_epoch, 1);
    let error = outbox.settle(bench.machine.channel_epoch, 1, id, Outcome::Ack).err();
    assert_eq!(is_stale, error.is_some());
    (error.map(|error| error.kind()), bench.sent())
}

#[test]
fn what_a_cancel_of_the_broker_takes_back_is_not_acked() {
    let acked = (None, vec!["basic.ack".to_owned()]);
    let stale = (Some(ErrorKind::StaleDelivery), Vec::new());
    assert_eq!(ack_after_a_cancel("4.2.0", None), acked);
    assert_eq!(ack_after_a_cancel("4.2.0", Some(QueueType::Quorum)), acked);
    assert_eq!(ack_after_a_cancel("4.3.6", Some(QueueType::Classic)), acked, "its queue is gone");
    assert_eq!(ack_after_a_cancel("4.3.6", Some(QueueType::Quorum)), stale);
    assert_eq!(ack_after_a_cancel("4.3.6", None), stale, "it may be a quorum queue");
}

#[test]
fn a_cancel_waits_for_the_reply_to_the_consume() {
    let mut bench = Bench::open();
    let (consumed, sink) = bench.start_consumer("a");
    bench.sent();
    let call = cancel(&mut bench, "a");
    assert_eq!(bench.sent(), [""; 0]);
    bench.answer_qos();
    bench.answer_consume("a");
    assert!(consumed.is_ok());
    assert_eq!(bench.sent(), ["basic.cancel a"]);
    bench.answer_cancel("a");
    assert!(call.is_ok() && sink.end().is_some());
}

#[test]
fn a_consumer_whose_target_is_gone_is_lost() {
    let mut bench = Bench::open();
    let sink = bench.consume("a");
    bench.machine.cancel_because(1, ConsumerEnd::TargetGone, bench.now);
    assert_eq!(bench.sent(), ["basic.cancel a"]);
    bench.answer_cancel("a");
    assert!(matches!(sink.end(), Some(ConsumerEnd::TargetGone)));
    assert_eq!(bench.events(), ["consumer lost"]);
}

/// Loses a consumer whose actor has stopped. Returns what is reported, except for changes of the topology.
fn lose(bench: &mut Bench, why: TargetEnd) -> Vec<String> {
    bench.outputs();
    bench.machine.target_lost(TargetLost { consumer: 1, why }, bench.now);
    bench.answer_cancel("a");
    reports(bench)
}

fn reports(bench: &mut Bench) -> Vec<String> {
    let report = |output| match output {
        Output::Supervisor(SupervisorMessage::ConsumerMissing { tag, error, .. }) => {
            Some(format!("{tag} is missing: {:?} {:?}", error.kind(), error.entity()))
        }
        Output::Supervisor(SupervisorMessage::ConsumerGivenUp { tag, .. }) => {
            Some(format!("{tag} is given up"))
        }
        Output::Supervisor(SupervisorMessage::TopologyChanged(Change::Forget(removal))) => {
            Some(format!("{removal:?}"))
        }
        _ => None,
    };
    bench.outputs().into_iter().filter_map(report).collect()
}

const MISSING: &str = "a is missing: Stopped Some(\"a\")";

#[test]
fn a_consumer_whose_actor_has_stopped_is_missing_until_it_is_cancelled() {
    let mut bench = Bench::open();
    bench.consume("a");
    assert_eq!(lose(&mut bench, TargetEnd::ActorStopped), [MISSING], "and stays recorded");
    bench.sent();
    assert!(cancel(&mut bench, "a").is_ok());
    assert_eq!(bench.sent(), [""; 0]);
    assert_eq!(reports(&mut bench), ["a is given up", "LostConsumer { channel: 1, tag: \"a\" }"]);
    assert!(!cancel(&mut bench, "b").is_ok(), "it waits for the reply");
    assert_eq!(reports(&mut bench), [""; 0]);
}

#[test]
fn a_missing_consumer_is_reported_again_after_a_reconnect_and_replaced_by_its_tag() {
    let mut bench = Bench::open();
    bench.consume("a");
    lose(&mut bench, TargetEnd::ConsumerStopped);
    bench.lose_connection();
    bench.attach();
    bench.answer_open();
    bench.answer_confirm_select();
    assert_eq!(reports(&mut bench), [MISSING]);
    bench.sent();
    bench.consume("a");
    assert_eq!(reports(&mut bench), ["a is given up"]);
}

fn lose_target(bench: &mut Bench) {
    let why = TargetEnd::ActorStopped;
    bench.machine.target_lost(TargetLost { consumer: 1, why }, bench.now);
}

/// The supervisor knows it from the reply on.
#[test]
fn a_consumer_whose_target_is_gone_before_it_starts_is_missing_once_it_has_started() {
    let mut bench = Bench::open();
    let (consumed, sink) = bench.start_consumer("a");
    lose_target(&mut bench);
    assert_eq!(reports(&mut bench), [""; 0]);
    bench.answer_qos();
    bench.answer_consume("a");
    assert!(consumed.is_ok());
    let outputs = bench.outputs();
    let recorded = outputs.iter().position(|output| {
        matches!(output, Output::Supervisor(SupervisorMessage::TopologyChanged(Change::Record(_))))
    });
    let missing = outputs
        .iter()
        .position(|output| matches!(output, Output::Supervisor(SupervisorMessage::ConsumerMissing { .. })));
    assert!(recorded.is_some() && recorded < missing, "{outputs:?}");
    bench.answer_cancel("a");
    assert!(matches!(sink.end(), Some(ConsumerEnd::TargetGone)));
    assert_eq!(reports(&mut bench), [""; 0], "it stays recorded");
    assert!(cancel(&mut bench, "a").is_ok());
    assert_eq!(reports(&mut bench), ["a is given up", "LostConsumer { channel: 1, tag: \"a\" }"]);
}

#[test]
fn a_consumer_that_never_started_or_was_given_up_is_not_missing() {
    for how in ["refused", "lost", "cancelled", "late"] {
        let mut bench = Bench::open();
        let (consumed, _sink) = bench.start_consumer("a");
        lose_target(&mut bench);
        match how {
            "refused" => bench.close_by_broker(404, "NOT_FOUND - no queue 'jobs' in vhost '/'", 60, 20),
            "lost" => {
                bench.lose_connection();
                bench.attach();
            }
            "cancelled" => {
                let cancelled = cancel(&mut bench, "a");
                bench.answer_qos();
                bench.answer_consume("a");
                bench.answer_cancel("a");
                assert!(consumed.is_ok() && cancelled.is_ok());
            }
            _ => {
                bench.wait(Duration::from_secs(30));
                assert_eq!(consumed.error_kind(), Some(ErrorKind::Timeout));
                bench.answer_qos();
                bench.answer_consume("a");
                bench.answer_cancel("a");
            }
        }
        if matches!(how, "refused" | "lost") {
            assert!(!consumed.is_ok());
            bench.answer_opening();
        }
        assert!(bench.machine.state.is_open(), "{how}");
        let reported = reports(&mut bench);
        assert!(!reported.iter().any(|report| report.contains("is missing")), "{how}: {reported:?}");
    }
}

#[test]
fn a_consumer_whose_target_ends_while_it_starts_again_stays_missing() {
    let mut bench = Bench::open();
    bench.consume("a");
    bench.lose_connection();
    bench.attach();
    lose_target(&mut bench);
    assert_eq!(reports(&mut bench), [MISSING]);
    bench.answer_open();
    bench.answer_qos();
    bench.answer_consume("a");
    bench.answer_confirm_select();
    bench.answer_cancel("a");
    assert!(bench.machine.state.is_open());
    let repaired =
        |output: &Output| matches!(output, Output::Supervisor(SupervisorMessage::ConsumerRepaired { .. }));
    assert!(!bench.outputs().iter().any(repaired));
}

#[test]
fn a_consumer_that_is_too_slow_is_missing() {
    let mut bench = Bench::open();
    bench.consume("a");
    bench.outputs();
    bench.machine.cancel_slow_consumer(1, bench.now);
    assert_eq!(reports(&mut bench), ["a is missing: Limit Some(\"a\")"]);
}

#[test]
fn a_dropped_stream_is_given_up() {
    let mut bench = Bench::open();
    bench.consume("a");
    assert_eq!(lose(&mut bench, TargetEnd::StreamDropped), ["Consumer { channel: 1, tag: \"a\" }"]);
}

#[test]
fn a_consumer_whose_target_ends_during_its_cancel_is_not_missing() {
    let mut bench = Bench::open();
    bench.consume("a");
    let _cancelled = cancel(&mut bench, "a");
    assert_eq!(lose(&mut bench, TargetEnd::ActorStopped), ["Consumer { channel: 1, tag: \"a\" }"]);
}

#[test]
fn missing_consumers_are_given_up_when_the_application_closes_their_channel() {
    let mut bench = Bench::open();
    bench.consume("a");
    lose(&mut bench, TargetEnd::ActorStopped);
    let closed = bench.machine.close(CloseChannel::new(), bench.now).listen();
    bench.answer_close();
    assert!(closed.is_ok() && reports(&mut bench).contains(&"a is given up".to_owned()));
}

#[test]
fn a_consumer_cancelled_by_the_broker_is_freed_and_repaired() {
    let mut bench = Bench::open();
    let sink = bench.consume("a");
    bench.outputs();
    bench.cancel_by_broker("a");
    assert_eq!(bench.sent(), ["basic.cancel a"]);
    assert_eq!(bench.repair(), None, "not before the broker has forgotten it");
    bench.answer_cancel("a");
    let consumer = bench.repair().expect("a repair");
    bench.machine.consumer_repaired(consumer, Ok(()), bench.now);
    assert_eq!(bench.sent(), ["basic.qos", "basic.consume"]);
    bench.answer_qos();
    bench.answer_consume("a");
    assert_eq!(bench.events(), ["consumer recovered"]);
    assert!(sink.end().is_none());
}

/// The supervisor has asked for the binding before it hears that the exchange is gone: the broker would close the
/// channel once more for it.
#[test]
fn a_repair_binds_no_queue_to_an_exchange_that_is_gone() {
    for is_gone in [false, true] {
        let mut bench = Bench::open();
        bench.consume("a");
        bench.cancel_by_broker("a");
        bench.answer_cancel("a");
        let consumer = bench.repair().expect("a repair");
        bench.sent();
        if is_gone {
            let error = Error::refused_here("404");
            bench.machine.outbox.missing().insert("logs", error, bench.now);
        }
        let declare = vec![Entity::QueueBinding(BindQueue::new("jobs", "logs", "k"))];
        bench.machine.start_cancelled(consumer, declare, bench.now);
        let is_bound = bench.sent().iter().any(|sent| sent.starts_with("queue.bind"));
        assert_eq!(is_bound, !is_gone);
    }
}

#[test]
fn a_repair_that_fails_ends_the_consumer() {
    let mut bench = Bench::open();
    let sink = bench.consume("a");
    bench.cancel_by_broker("a");
    bench.answer_cancel("a");
    let consumer = bench.repair().expect("a repair");
    bench.machine.consumer_repaired(consumer, Err(ConsumerEnd::CancelledByBroker), bench.now);
    assert!(matches!(sink.end(), Some(ConsumerEnd::CancelledByBroker)));
    assert_eq!(bench.events(), ["consumer lost"]);
}

#[test]
fn a_consumer_that_is_cancelled_during_its_repair_does_not_start_again() {
    for freed in [false, true] {
        let mut bench = Bench::open();
        let sink = bench.consume("a");
        bench.cancel_by_broker("a");
        if freed {
            bench.answer_cancel("a");
        }
        let call = cancel(&mut bench, "a");
        assert_eq!(bench.sent().last().map(String::as_str), Some("basic.cancel a"));
        bench.machine.consumer_repaired(1, Ok(()), bench.now);
        assert_eq!(bench.sent(), [""; 0]);
        bench.answer_cancel("a");
        assert!(call.is_ok() && matches!(sink.end(), Some(ConsumerEnd::Cancelled)));
    }
}

#[test]
fn cancels_of_both_sides_that_cross_end_the_consumer_once() {
    let mut bench = Bench::open();
    let sink = bench.consume("a");
    let call = cancel(&mut bench, "a");
    assert_eq!(bench.sent(), ["basic.cancel a"]);
    bench.cancel_by_broker("a");
    assert_eq!(bench.sent(), [""; 0]);
    assert!(matches!(sink.end(), Some(ConsumerEnd::CancelledByBroker)));
    bench.answer_cancel("a");
    assert!(call.is_ok());
}

#[test]
fn a_consumer_is_cancelled_here_while_there_is_no_connection() {
    let mut bench = Bench::open();
    let sink = bench.consume("a");
    bench.lose_connection();
    let call = cancel(&mut bench, "a");
    assert!(call.is_ok() && matches!(sink.end(), Some(ConsumerEnd::Cancelled)));
    bench.attach();
    assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
}

#[test]
fn a_cancel_during_recovery_waits_for_the_restart() {
    let mut bench = Bench::open();
    let sink = bench.consume("a");
    bench.lose_connection();
    bench.attach();
    bench.sent();
    let call = cancel(&mut bench, "a");
    assert_eq!(bench.sent(), [""; 0]);
    bench.answer_open();
    bench.answer_qos();
    bench.answer_confirm_select();
    bench.answer_consume("a");
    assert_eq!(bench.sent(), ["basic.cancel a"]);
    bench.answer_cancel("a");
    assert!(call.is_ok() && matches!(sink.end(), Some(ConsumerEnd::Cancelled)));
    assert!(bench.machine.state.is_open());
}

#[test]
fn a_refused_restart_of_an_unwanted_consumer_is_its_cancel() {
    let mut bench = Bench::open();
    let sink = bench.consume("a");
    bench.lose_connection();
    bench.attach();
    let call = cancel(&mut bench, "a");
    bench.sent();
    bench.close_by_broker(404, "NOT_FOUND - no queue 'jobs' in vhost '/'", 60, 20);
    assert!(call.is_ok() && matches!(sink.end(), Some(ConsumerEnd::Cancelled)));
    assert_eq!(bench.sent(), ["channel.close-ok", "channel.open", "confirm.select"]);
}

#[test]
fn a_tag_in_use_is_refused() {
    let mut bench = Bench::open();
    bench.consume("a");
    let (second, _) = bench.start_consumer("a");
    assert_eq!(second.error_kind(), Some(ErrorKind::Refused));
    assert_eq!(bench.sent(), [""; 0]);
}
