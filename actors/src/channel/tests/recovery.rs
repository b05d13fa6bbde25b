//! What is recovered, and in which order. No runtime, no clock.

use std::time::Duration;

use super::bench::Bench;
use crate::{
    channel::output::Output,
    error::{CloseReason, Error, ErrorKind},
    internal::SupervisorMessage,
    message::{CancelConsumer, Consume, ConsumerEnd, PurgeQueue, Qos},
};

#[test]
fn a_channel_recovers_in_two_phases() {
    let mut bench = Bench::open();
    bench.consume("first");
    bench.consume("second");
    let shared = bench.call(Qos::new(9).global(true));
    bench.answer_qos();
    assert!(shared.is_ok());
    bench.publish();
    assert_eq!(bench.sent(), ["basic.qos", "basic.publish"]);

    bench.lose_connection();
    bench.publish();
    let purged = bench.call(PurgeQueue::new("jobs"));
    bench.attach();
    let first_phase = [
        "channel.open",
        "basic.qos",
        "basic.qos",
        "basic.consume",
        "basic.consume",
        "basic.qos",
        "confirm.select",
    ];
    assert_eq!(bench.sent(), first_phase);
    bench.answer_open();
    (0..3).for_each(|_| bench.answer_qos());
    bench.answer_confirm_select();
    bench.answer_consume("second");
    assert!(purged.take().is_none());
    assert_eq!(bench.sent(), [""; 0], "not all is answered");
    bench.answer_consume("first");
    assert_eq!(bench.sent(), ["basic.publish", "basic.publish", "queue.purge"]);
    assert!(bench.machine.state.is_open());
    assert_eq!(bench.events(), ["reopened"]);
    bench.answer_purge();
    assert!(matches!(purged.take(), Some(Ok(3))));
}

/// REC-59
#[test]
fn a_broker_that_ignores_a_shared_prefetch_does_not_get_it() {
    let mut bench = Bench::open();
    bench.consume("first");
    let shared = bench.call(Qos::new(9).global(true));
    bench.answer_qos();
    assert!(shared.is_ok());
    bench.sent();

    bench.version = "4.3.6";
    bench.lose_connection();
    bench.attach();
    assert_eq!(bench.sent(), ["channel.open", "basic.qos", "basic.consume", "confirm.select"]);
    bench.answer_open();
    bench.answer_qos();
    bench.answer_consume("first");
    bench.answer_confirm_select();
    assert!(bench.machine.state.is_open(), "it recovers without the shared prefetch");
    let withheld = |bench: &mut Bench| {
        let report = |output| match output {
            Output::Supervisor(SupervisorMessage::PrefetchWithheld { error, .. }) => Some(error.is_some()),
            _ => None,
        };
        bench.outputs().into_iter().filter_map(report).collect::<Vec<_>>()
    };
    assert_eq!(withheld(&mut bench), [false, true]);
    let refused = bench.call(Qos::new(9).global(true));
    assert_eq!(refused.error_kind(), Some(ErrorKind::Refused));
    let removed = bench.call(Qos::new(0).global(true));
    assert!(removed.is_ok());
    assert_eq!(bench.sent(), [""; 0], "nothing is sent that the broker takes for something else");
    assert_eq!(withheld(&mut bench), [false], "it is not wanted any more");

    bench.version = "4.2.0";
    let permitted = bench.call(Qos::new(9).global(true).permitted(true));
    bench.answer_qos();
    assert!(permitted.is_ok());
    assert_eq!(bench.sent(), ["basic.qos"]);
}

#[test]
fn calls_without_a_reply_fail_with_the_connection() {
    let mut bench = Bench::open();
    let purged = bench.call(PurgeQueue::new("jobs"));
    let (consumed, sink) = bench.start_consumer("new");
    bench.lose_connection();
    assert_eq!(purged.error_kind(), Some(ErrorKind::ConnectionClosed));
    assert_eq!(consumed.error_kind(), Some(ErrorKind::ConnectionClosed));
    assert!(matches!(sink.end(), Some(ConsumerEnd::Closed(_))), "it had not started");
    bench.attach();
    assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
}

#[test]
fn a_call_waits_for_the_channel_until_its_deadline() {
    let mut bench = Bench::open();
    bench.lose_connection();
    let early = bench.call(PurgeQueue::new("jobs"));
    bench.wait(Duration::from_secs(20));
    let late = bench.call(PurgeQueue::new("jobs"));
    bench.wait(Duration::from_secs(10));
    assert_eq!(early.error_kind(), Some(ErrorKind::Timeout));
    bench.attach();
    bench.sent();
    bench.answer_opening();
    assert_eq!(bench.sent(), ["queue.purge"]);
    // Its deadline runs since it was made.
    bench.wait(Duration::from_secs(20));
    assert_eq!(late.error_kind(), Some(ErrorKind::Timeout));
}

#[test]
fn a_consumer_that_does_not_recover_ends_with_its_connection() {
    let mut bench = Bench::open();
    let sink = std::sync::Arc::new(super::bench::Sink::default());
    let _consumed = bench.call(Consume::new().queue("jobs").tag("once").robust(false).sink(sink.clone()));
    bench.answer_qos();
    bench.answer_consume("once");
    bench.sent();
    bench.lose_connection();
    assert!(matches!(sink.end(), Some(ConsumerEnd::Closed(_))));
    bench.attach();
    assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
}

#[test]
fn a_channel_without_recovery_ends_for_a_protocol_fault() {
    let mut bench = Bench::new(false);
    bench.attach();
    bench.answer_opening();
    bench.answer_purge();
    assert_eq!(bench.ended(), Some(false));
}

#[test]
fn the_broker_closes_the_channel_and_it_reopens() {
    let mut bench = Bench::open();
    bench.consume("jobs");
    bench.sent();
    let purged = bench.call(PurgeQueue::new("missing"));
    bench.sent();
    bench.close_by_broker(404, "NOT_FOUND - no queue 'missing' in vhost '/'", 50, 30);
    let error = purged.take().expect("an answer").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("missing"), "{error}");
    let sent = ["channel.close-ok", "channel.open", "basic.qos", "basic.consume", "confirm.select"];
    assert_eq!(bench.sent(), sent);
    bench.answer_open();
    bench.answer_qos();
    bench.answer_consume("jobs");
    bench.answer_confirm_select();
    assert!(bench.machine.state.is_open());
}

#[test]
fn a_channel_that_is_closed_again_and_again_is_reopened_after_pauses() {
    let mut bench = Bench::open();
    let consumer = bench.consume("jobs");
    bench.close_by_broker(406, "PRECONDITION_FAILED", 60, 80);
    bench.reopened_with("jobs");
    for _ in 0..12 {
        bench.close_by_broker(406, "PRECONDITION_FAILED", 60, 80);
        assert!(bench.machine.state.is_backing_off());
        assert_eq!(bench.sent(), ["channel.close-ok"]);
        let purged = bench.call(PurgeQueue::new("jobs"));
        let (epoch, pause) = bench.reopening().expect("a pause");
        bench.machine.reopen_when_due(epoch, bench.now);
        assert_eq!(bench.sent(), [""; 0], "too early");
        bench.now += pause;
        bench.machine.reopen_when_due(epoch, bench.now);
        bench.reopened_with("jobs");
        assert_eq!(bench.sent(), ["queue.purge"]);
        bench.answer_purge();
        assert!(purged.is_ok());
    }
    assert!(consumer.end().is_none());
}

/// Wrong calls and publishes repeat, and the pauses between them are short: health does not follow each.
#[test]
fn a_short_pause_is_not_missing() {
    for (text, method, is_reported) in [
        ("NOT_FOUND - no queue 'jobs' in vhost '/'", 30, false),
        // Another cause, which may close the channel again.
        ("PRECONDITION_FAILED", 90, true),
    ] {
        let mut bench = Bench::open();
        let mut reports = Vec::new();
        for _ in 0..12 {
            let _purged = bench.call(PurgeQueue::new("jobs"));
            bench.outputs();
            bench.close_by_broker(404, text, 50, method);
            let mut pause = None;
            for output in bench.outputs() {
                match output {
                    Output::Supervisor(SupervisorMessage::ChannelBackingOff { .. }) => reports.push(true),
                    Output::Reopen { channel_epoch, after } => pause = Some((channel_epoch, after)),
                    _ => {}
                }
            }
            if let Some((epoch, after)) = pause {
                assert!(is_reported || after == Duration::from_millis(100), "{after:?}");
                reports.push(false);
                bench.now += after;
                bench.machine.reopen_when_due(epoch, bench.now);
            }
            bench.answer_opening();
            assert!(bench.machine.state.is_open());
        }
        assert_eq!((reports.contains(&true), reports.contains(&false)), (is_reported, true), "{text}");
    }
}

#[test]
fn a_pause_ends_with_the_connection_and_counts_no_more() {
    let mut bench = Bench::open();
    for _ in 0..2 {
        bench.close_by_broker(406, "PRECONDITION_FAILED", 60, 80);
        bench.answer_opening();
    }
    let (epoch, pause) = bench.reopening().expect("a pause");
    bench.lose_connection();
    bench.sent();
    bench.attach();
    assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
    bench.now += pause;
    bench.machine.reopen_when_due(epoch, bench.now);
    assert_eq!(bench.sent(), [""; 0]);
    bench.answer_opening();
    assert!(bench.machine.state.is_open());
}

#[test]
fn a_consumer_may_be_cancelled_and_repaired_during_a_pause() {
    let mut bench = Bench::open();
    bench.consume("first");
    let cancelled = bench.consume("second");
    for _ in 0..2 {
        bench.close_by_broker(406, "PRECONDITION_FAILED", 60, 80);
        if !bench.machine.state.is_backing_off() {
            bench.answer_open();
            for tag in ["first", "second"] {
                bench.answer_qos();
                bench.answer_consume(tag);
            }
            bench.answer_confirm_select();
            bench.sent();
        }
    }
    let (epoch, pause) = bench.reopening().expect("a pause");
    let cancel = bench.machine.cancel_consumer(&CancelConsumer::new("second"), bench.now).listen();
    assert!(cancel.is_ok());
    assert!(matches!(cancelled.end(), Some(ConsumerEnd::Cancelled)));
    assert_eq!(bench.sent(), ["channel.close-ok"]);
    bench.now += pause;
    bench.machine.reopen_when_due(epoch, bench.now);
    assert_eq!(bench.sent(), ["channel.open", "basic.qos", "basic.consume", "confirm.select"]);
}

/// Its predecessor was cancelled by the broker, and the reply to the client's cancel has not come.
#[test]
fn a_consumer_that_took_over_a_tag_survives_the_connection() {
    let mut bench = Bench::open();
    bench.consume("tag");
    let end = bench.machine.cancel_consumer(&CancelConsumer::new("tag"), bench.now).listen();
    assert_eq!(bench.sent(), ["basic.cancel tag"]);
    bench.cancel_by_broker("tag");
    let (consumed, sink) = bench.start_consumer("tag");
    if consumed.take().is_none() {
        bench.answer_qos();
        bench.answer_consume("tag");
        bench.lose_connection();
        assert!(end.is_ok());
        assert!(sink.end().is_none(), "{:?}", sink.end());
    }
}

#[test]
fn consumers_of_a_missing_queue_are_skipped_together_and_repaired() {
    let mut bench = Bench::open();
    bench.consume("first");
    bench.consume("second");
    bench.lose_connection();
    bench.attach();
    bench.sent();
    bench.close_by_broker(404, "NOT_FOUND - no queue 'jobs' in vhost '/'", 60, 20);
    assert_eq!(bench.sent(), ["channel.close-ok", "channel.open", "confirm.select"]);
    bench.outputs();
    bench.answer_opening();
    assert!(bench.machine.state.is_open());
    let first = bench.repair().expect("a repair");
    bench.machine.consumer_repaired(first, Ok(()), bench.now);
    assert_eq!(bench.sent(), ["basic.qos", "basic.consume"]);
    bench.answer_qos();
    bench.answer_consume(["first", "second"][first as usize - 1]);
    assert_eq!(bench.events(), ["consumer recovered"]);
}

#[test]
fn a_skipped_consumer_is_repaired_although_the_recovery_itself_was_not_answered() {
    let mut bench = Bench::open();
    bench.consume("jobs");
    bench.lose_connection();
    bench.attach();
    bench.sent();
    bench.close_by_broker(404, "NOT_FOUND - no queue 'jobs' in vhost '/'", 60, 20);
    assert_eq!(bench.sent(), ["channel.close-ok", "channel.open", "confirm.select"]);
    bench.wait(Duration::from_secs(30));
    assert_eq!(bench.sent(), ["channel.close"]);
    bench.answer_close();
    assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
    bench.outputs();
    bench.answer_opening();
    assert_eq!(bench.repair(), Some(1));
}

/// The first one holds up the channel; the second one is not at fault, and starts with the next opening.
#[test]
fn a_channel_recovers_without_a_consumer_whose_start_is_never_answered() {
    for is_held_up in [true, false] {
        let mut bench = Bench::open();
        let sink = bench.consume("silent");
        let other = std::sync::Arc::new(super::bench::Sink::default());
        let consumed = bench.call(Consume::new().queue("other").tag("second").sink(other.clone()));
        bench.answer_qos();
        bench.answer_consume("second");
        assert!(consumed.is_ok());
        bench.lose_connection();
        bench.attach();
        bench.sent();
        bench.answer_open();
        bench.answer_qos();
        if !is_held_up {
            bench.answer_qos();
            bench.answer_consume("second");
            bench.answer_confirm_select();
            bench.wait(Duration::from_secs(30));
            assert_eq!(bench.sent(), [""; 0], "the consumer alone has no reply");
        }
        bench.wait(Duration::from_secs(30));
        assert_eq!(bench.sent(), ["channel.close"]);
        bench.answer_close();
        bench.outputs();
        bench.reopened_with("second");
        let repairs = bench.outputs().into_iter().filter_map(|output| match output {
            Output::Supervisor(SupervisorMessage::RepairConsumer { consumer, .. }) => Some(consumer),
            _ => None,
        });
        assert_eq!(repairs.collect::<Vec<_>>(), [1], "only the one without a reply");
        assert!(sink.end().is_none() && other.end().is_none());
        bench.machine.consumer_repaired(1, Ok(()), bench.now);
        assert_eq!(bench.sent(), ["basic.qos", "basic.consume"]);
        bench.answer_qos();
        bench.answer_consume("silent");
        assert_eq!(bench.events(), ["consumer recovered"]);
    }
}

#[test]
fn a_consumer_without_a_reply_is_started_again_on_the_next_connection() {
    let mut bench = Bench::open();
    bench.consume("jobs");
    bench.lose_connection();
    bench.attach();
    bench.sent();
    bench.answer_open();
    bench.answer_qos();
    bench.answer_confirm_select();
    assert!(bench.machine.state.awaits_recovery(), "the consumer has no reply");
    bench.wait(Duration::from_secs(30));
    bench.wait(Duration::from_secs(30));
    assert_eq!(bench.sent(), ["channel.close"]);
    bench.lose_connection();
    bench.attach();
    bench.reopened_with("jobs");
    assert!(bench.repair().is_none());
}

/// BRK-07: what costs the connection while the virtual host is deleted is not at fault.
#[test]
fn a_consumer_that_has_cost_the_connection_starts_with_its_channel_if_it_was_not_at_fault() {
    for is_cleared in [false, true] {
        let mut bench = Bench::open();
        bench.consume("jobs");
        bench.lose_connection();
        bench.attach();
        bench.sent();
        let reason = CloseReason::new(541, "INTERNAL_ERROR", 60, 20);
        bench.machine.connection_lost(&Error::connection_closed("closed", Some(reason)));
        let is_report =
            |output: &Output| matches!(output, Output::Supervisor(SupervisorMessage::ConsumerAtFault { .. }));
        assert!(bench.outputs().iter().any(is_report));
        if is_cleared {
            bench.machine.consumer_not_at_fault("jobs");
        }
        bench.attach();
        assert_eq!(bench.sent().contains(&"basic.consume".to_owned()), is_cleared);
    }
}

#[test]
fn a_silent_broker_has_the_channel_closed_and_reopened() {
    let mut bench = Bench::open();
    let purged = bench.call(PurgeQueue::new("jobs"));
    bench.sent();
    bench.wait(Duration::from_secs(30));
    assert_eq!(purged.error_kind(), Some(ErrorKind::Timeout));
    assert_eq!(bench.sent(), [""; 0]);
    bench.wait(Duration::from_secs(30));
    assert_eq!(bench.sent(), ["channel.close"]);
    bench.answer_close();
    assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
}

/// CH-39: RabbitMQ goes on to send what it had under way when it closes a channel, until it has read `channel.close-ok`,
/// and on another thread than the channel that is opened next.
#[test]
fn what_is_of_the_channel_before_is_not_taken_for_what_is_of_the_next() {
    let mut bench = Bench::open();
    bench.consume("first");
    bench.consume("second");
    bench.publish();
    bench.sent();
    bench.receive_delivery("first", 1, 4);
    bench.close_by_broker(404, "NOT_FOUND - no exchange 'x' in vhost '/'", 60, 40);
    assert!(bench.machine.state.awaits_recovery());
    bench.receive_delivery("first", 2, 4);
    bench.confirm(1);
    bench.cancel_by_broker("second");
    bench.answer_open();
    bench.receive_delivery("first", 3, 9000);
    bench.receive_delivery("second", 4, 4);
    bench.confirm(1);
    (0..2).for_each(|_| bench.answer_qos());
    bench.answer_confirm_select();
    bench.answer_consume("second");
    bench.receive_delivery("second", 1, 4);
    bench.receive_delivery("first", 5, 4);
    bench.answer_consume("first");
    bench.receive_delivery("first", 2, 4);
    assert!(bench.machine.state.is_open());
    let is_fault =
        |output: &Output| matches!(output, Output::Supervisor(SupervisorMessage::ProtocolFault { .. }));
    assert!(!bench.outputs().iter().any(is_fault), "the tags are in order");
    assert_eq!(bench.machine.outbox.counters().delivered, 3, "one before and two after");
}

/// CH-39: the number of a closed channel is that of the next one.
#[test]
fn what_is_of_the_channel_before_is_not_taken_for_what_is_of_a_new_one() {
    let mut bench = Bench::new(false);
    bench.attach();
    bench.receive_delivery("first", 7, 9000);
    bench.confirm(3);
    bench.answer_open();
    bench.receive_delivery("first", 8, 4);
    bench.confirm(4);
    bench.answer_confirm_select();
    bench.sent();
    bench.consume("first");
    bench.receive_delivery("first", 1, 4);
    assert!(bench.machine.state.is_open());
    assert_eq!(bench.machine.outbox.counters().delivered, 1);
}
