//! Channels that the broker closes: what becomes of the publishes, and when they are reopened.

use std::time::Duration;

use actix_pika_actors::{
    ChannelEvent, CloseChannel, ConnectionEvent, DeclareExchange, DeclareQueue, Degradation, EntityKind,
    Error, ErrorKind, GetHealth, Health, OnOutage, OpenChannel, OpenedChannel, Publish, Publishing,
    WatchChannel,
    testing::{
        HandshakeScript, Probe,
        protocol::{channel as methods, confirm, connection, exchange, queue},
    },
};

use super::common::{
    Call, ask, at_once,
    recovery::{RecoveryBench, idle, publish, publish_as},
};

const MISSING: &str = "NOT_FOUND - no exchange 'gone' in vhost '/'";

/// Publishes to the exchange that is missing.
async fn publish_to_missing(channel: &OpenedChannel) -> Call<actix_pika_actors::Confirmation> {
    publish_as(channel, Publish::new("gone", "key", "wrong")).await
}

/// What matters of an error of a publish: kind, code, whether it is retryable and whether it may have arrived.
fn truth(error: &Error) -> (ErrorKind, Option<u16>, bool, bool) {
    (error.kind(), error.code(), error.is_retryable(), error.may_have_arrived())
}

/// Design 7.8, CH-05, CH-31: when the broker closes a channel because of one publish, only that one fails; the others are sent
/// again in order when it is reopened, unless they must not be.
#[actix::test]
async fn only_the_refused_publish_fails_and_the_others_are_sent_again() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let mut events = Probe::<ChannelEvent>::start();
    channel.actor.send(WatchChannel(events.recipient())).await.unwrap();
    let once = |body: &'static str| Publish::new("", "jobs", Publishing::new(body).resend(false));
    let confirmed = publish(&channel, "1").await;
    let before = publish(&channel, "2").await;
    let once_before = publish_as(&channel, once("3")).await;
    let wrong = publish_to_missing(&channel).await;
    let behind = publish(&channel, "5").await;
    let once_behind = publish_as(&channel, once("6")).await;
    test.expect_publishes(&["1", "2", "3", "wrong", "5", "6"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    test.bench.socket.close_channel(1, 404, MISSING, 60, 40).await.unwrap();
    let error = wrong.answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(404), false, false), "{error}");
    assert_eq!(error.entity(), Some("gone"));
    let error = once_before.answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(404), true, true), "{error}");
    let newer = publish(&channel, "7").await;
    test.reopen_channel(1).await;
    // What is behind the refused publish was dropped by the broker, so that the sixth cannot arrive twice.
    // Newer ones follow when it has confirmed these, so that another close does not cost their confirms again.
    test.expect_publishes(&["2", "5", "6"]).await;
    test.bench.socket.confirm(1, 3, true).await.unwrap();
    test.expect_publishes(&["7"]).await;
    test.bench.socket.confirm(1, 4, false).await.unwrap();
    for (call, sequence) in [(confirmed, 1), (before, 2), (behind, 5), (once_behind, 6), (newer, 7)] {
        assert_eq!(call.answer().await.unwrap().sequence(), Some(sequence));
    }
    let event = events.next().await.unwrap();
    assert!(matches!(event, ChannelEvent::Reopened(cause) if cause.close_reason().unwrap().code == 404));
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 7.8: of several publishes to the missing exchange, each fails; the last one has surely not arrived.
#[actix::test]
async fn all_publishes_to_the_missing_exchange_fail_at_once() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let first = publish_to_missing(&channel).await;
    let other = publish(&channel, "other").await;
    let last = publish_to_missing(&channel).await;
    test.expect_publishes(&["wrong", "other", "wrong"]).await;
    test.bench.socket.close_channel(1, 404, MISSING, 60, 40).await.unwrap();
    for (call, arrived) in [(first, true), (last, false)] {
        let error = call.answer().await.unwrap_err();
        assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(404), false, arrived), "{error}");
    }
    test.reopen_channel(1).await;
    test.expect_publishes(&["other"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    other.answer().await.unwrap();
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 7.8: the refused publish is found by the limit on its size.
#[actix::test]
async fn a_publish_that_is_too_large_is_found_by_its_size() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let before = publish(&channel, "before").await;
    let large = publish(&channel, "a large one").await;
    let behind = publish(&channel, "behind").await;
    test.expect_publishes(&["before", "a large one", "behind"]).await;
    let text = "PRECONDITION_FAILED - message size 11 is larger than configured max size 10";
    test.bench.socket.close_channel(1, 406, text, 60, 40).await.unwrap();
    let error = large.answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(406), false, false), "{error}");
    test.reopen_channel(1).await;
    test.expect_publishes(&["before", "behind"]).await;
    test.bench.socket.confirm(1, 2, true).await.unwrap();
    before.answer().await.unwrap();
    behind.answer().await.unwrap();
}

/// Design 13.1: where the refused publish cannot be told, one that was in flight at two closes fails with the cause.
#[actix::test]
async fn a_publish_that_was_in_flight_at_two_closes_fails() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let calls = [publish(&channel, "1").await, publish(&channel, "2").await];
    test.expect_publishes(&["1", "2"]).await;
    test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED - so", 60, 40).await.unwrap();
    test.reopen_channel(1).await;
    test.expect_publishes(&["1", "2"]).await;
    let third = publish(&channel, "3").await;
    test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED - so", 60, 40).await.unwrap();
    for call in calls {
        let error = call.answer().await.unwrap_err();
        assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(406), true, true), "{error}");
    }
    test.reopen_channel(1).await;
    test.expect_publishes(&["3"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    third.answer().await.unwrap();
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 7.8: closes for other methods do not count against publishes.
#[actix::test]
async fn a_refused_call_costs_no_publish() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let innocent = publish(&channel, "innocent").await;
    test.expect_publishes(&["innocent"]).await;
    for _ in 0..3 {
        let refused = ask(&channel.actor, DeclareQueue::new("jobs"));
        let beside = ask(&channel.actor, DeclareQueue::new("other"));
        test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
        test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
        let text = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'jobs' in vhost '/'";
        test.bench.socket.close_channel(1, 406, text, 50, 10).await.unwrap();
        let error = refused.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Refused, false), "{error}");
        let error = beside.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ChannelClosed, true), "{error}");
        test.reopen_channel(1).await;
        test.expect_publishes(&["innocent"]).await;
    }
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    innocent.answer().await.unwrap();
}

/// Design 7.8, PUB-02: without confirms, what was written is gone with the channel, and the rest is sent.
#[actix::test]
async fn without_confirms_only_unwritten_publishes_are_sent_when_the_channel_reopens() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new().confirms(false)).await;
    publish_to_missing(&channel).await.answer().await.unwrap();
    publish(&channel, "behind").await.answer().await.unwrap();
    test.expect_publishes(&["wrong", "behind"]).await;
    test.bench.socket.close_channel(1, 404, MISSING, 60, 40).await.unwrap();
    test.bench.socket.expect::<methods::Open>(1).await.unwrap();
    publish(&channel, "newer").await.answer().await.unwrap();
    test.bench.socket.send(1, methods::OpenOk::default()).await.unwrap();
    test.expect_publishes(&["newer"]).await;
}

/// Design 7.8, CH-40: a channel that is closed again and again is reopened without end, after pauses that grow. Health names
/// it, calls wait, and other channels are not affected.
#[actix::test]
async fn a_channel_that_is_closed_repeatedly_is_reopened_without_end() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    for _ in 0..5 {
        test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED", 60, 80).await.unwrap();
        test.reopen_channel(1).await;
    }
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED", 60, 80).await.unwrap();
    let error = declare.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(406)));
    let waiting = ask(&channel.actor, DeclareQueue::new("jobs"));
    loop {
        match test.events.next().await.unwrap() {
            ConnectionEvent::Health(Health::Degraded(reasons)) => {
                let [Degradation::Missing(missing)] = &reasons[..] else { panic!("{reasons:?}") };
                assert_eq!((missing.kind, missing.name.as_str()), (EntityKind::Channel, "1"));
                assert_eq!(missing.error.code(), Some(406));
                break;
            }
            ConnectionEvent::Health(Health::Up) => {}
            other => panic!("{other:?}"),
        }
    }
    test.bench.assert_works(2).await;
    test.reopen_channel(1).await;
    super::common::recovery::declare_ok(&mut test.bench.socket, 1, "jobs").await;
    waiting.answer().await.unwrap();
    let health = test.bench.client.supervisor.send(GetHealth).await.unwrap();
    assert!(health.is_up(), "{health:?}");
}

/// Design 7.9: a channel that is refused while it recovers does not hold up the others, and comes later.
#[actix::test]
async fn a_channel_that_cannot_recover_holds_up_no_other() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let in_flight = publish(&channel, "in flight").await;
    test.expect_publishes(&["in flight"]).await;
    test.disconnect().await;
    test.reconnect().await;
    for _ in 0..3 {
        test.bench.socket.open_channel(1).await.unwrap();
        test.bench.socket.expect::<confirm::Select>(1).await.unwrap();
        test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED", 85, 10).await.unwrap();
    }
    loop {
        if let ConnectionEvent::Recovered { skipped, .. } = test.events.next().await.unwrap() {
            assert_eq!(skipped.len(), 1, "{skipped:?}");
            assert_eq!((skipped[0].kind, skipped[0].name.as_str()), (EntityKind::Channel, "1"));
            break;
        }
    }
    test.reopen_channel(1).await;
    test.expect_publishes(&["in flight"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    in_flight.answer().await.unwrap();
}

/// Design 7.8: a channel that waits to be reopened is closed at once, and its publishes have the cause.
#[actix::test]
async fn a_channel_that_waits_to_be_reopened_closes_at_once() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    back_off(&mut test, 4).await;
    let abandoned = publish(&channel, "abandoned").await;
    let waiting = ask(&channel.actor, DeclareQueue::new("jobs"));
    let error = ask(&channel.actor, CloseChannel::new()).answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(406), false, false), "{error}");
    let error = abandoned.answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(406), true, false), "{error}");
    assert_eq!(waiting.answer().await.unwrap_err().kind(), ErrorKind::ChannelClosed);
    // Its number is free at once.
    test.bench.assert_works(1).await;
}

/// Closes channel 1 so often that it waits; the last close-ok was read.
async fn back_off(test: &mut RecoveryBench, closes: usize) {
    for n in 1..=closes {
        test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED", 60, 80).await.unwrap();
        if n < closes {
            test.reopen_channel(1).await;
        }
    }
}

/// Design 7.1: with `OnOutage::Fail`, publishes fail while the channel waits to be reopened.
#[actix::test]
async fn publishes_may_fail_while_the_channel_waits_to_be_reopened() {
    let mut test = RecoveryBench::start().await;
    let options = OpenChannel::new().window(1).on_outage(OnOutage::Fail);
    let channel = test.bench.channel(1, options).await;
    for _ in 0..2 {
        test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED", 60, 80).await.unwrap();
        test.reopen_channel(1).await;
        test.bench.round_trip(&channel).await;
    }
    let in_flight = publish(&channel, "in flight").await;
    let waiting = publish(&channel, "waiting").await;
    test.expect_publishes(&["in flight"]).await;
    test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED", 60, 80).await.unwrap();
    for (call, arrived) in [(in_flight, true), (waiting, false)] {
        let error = call.answer().await.unwrap_err();
        assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(406), true, arrived), "{error}");
    }
    let error = publish(&channel, "away").await.answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(406), true, false), "{error}");
    test.reopen_channel(1).await;
    test.bench.round_trip(&channel).await;
    let again = publish(&channel, "again").await;
    test.expect_publishes(&["again"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    again.answer().await.unwrap();
}

/// Design 7.1: without confirms and with `OnOutage::Fail`, callers that wait for room learn of an outage at once.
#[actix::test]
async fn callers_that_wait_for_room_learn_of_the_outage() {
    let mut test = RecoveryBench::start().await;
    let options = OpenChannel::new().confirms(false).window(1).on_outage(OnOutage::Fail);
    let channel = test.bench.channel(1, options).await;
    let blocked = connection::Blocked { reason: "low on memory".into() };
    test.bench.socket.send(0, blocked).await.unwrap();
    while !matches!(test.events.next().await.unwrap(), ConnectionEvent::Blocked(_)) {}
    test.bench.round_trip(&channel).await;
    let waiting = publish(&channel, "waiting").await;
    assert!(!waiting.is_answered());
    test.disconnect().await;
    let error = waiting.answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ConnectionClosed, None, true, false), "{error}");
}

/// Design 7.8: publishes to a missing exchange fail here, on every channel, until it is declared.
#[actix::test]
async fn publishes_to_a_missing_exchange_are_answered_here_until_it_is_declared() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let other = test.bench.channel(2, OpenChannel::new()).await;
    test.bench.socket.close_channel(1, 404, MISSING, 40, 30).await.unwrap();
    let _ = (&channel, &other);
    test.reopen_channel(1).await;
    let declared = ask(&other.actor, DeclareExchange::fanout("gone").robust(false));
    test.bench.socket.answer(2, |_: exchange::Declare| exchange::DeclareOk {}).await.unwrap();
    declared.answer().await.unwrap();
    let wanted = publish_to_missing(&channel).await;
    test.expect_publishes(&["wrong"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    wanted.answer().await.unwrap();
}

/// Design 13.12: the end of a channel that is being closed has its cause, for its publishes and for who closes it.
#[actix::test]
async fn the_end_of_a_closing_channel_has_its_cause() {
    let mut test = RecoveryBench::start_with(&HandshakeScript::new(), |_| {}).await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let before = publish(&channel, "before").await;
    let wrong = publish_to_missing(&channel).await;
    let behind = publish(&channel, "behind").await;
    test.expect_publishes(&["before", "wrong", "behind"]).await;
    let close = ask(&channel.actor, CloseChannel::new());
    let late = ask(&channel.actor, DeclareQueue::new("late"));
    assert_eq!(late.answer().await.unwrap_err().kind(), ErrorKind::ChannelClosed);
    test.bench.socket.close_channel(1, 404, MISSING, 60, 40).await.unwrap();
    let error = wrong.answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(404), false, false), "{error}");
    for (call, arrived) in [(before, true), (behind, false)] {
        let error = call.answer().await.unwrap_err();
        assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(404), true, arrived), "{error}");
    }
    let error = close.answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(404), false, true), "{error}");
    assert!(error.to_string().starts_with("closed with 3 publishes unconfirmed"), "{error}");
    test.bench.assert_works(1).await;
}

/// Design 13.12: the connection is lost while a channel waits for confirms to close.
#[actix::test]
async fn a_lost_connection_ends_a_closing_channel_with_its_cause() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let unconfirmed = publish(&channel, "unconfirmed").await;
    test.expect_publishes(&["unconfirmed"]).await;
    let close = ask(&channel.actor, CloseChannel::new());
    at_once("the close begins", async {
        while channel.actor.send(DeclareQueue::new("late")).await.unwrap().is_ok() {}
    })
    .await;
    test.disconnect().await;
    for error in [unconfirmed.answer().await.map(drop).unwrap_err(), close.answer().await.unwrap_err()] {
        assert_eq!(truth(&error), (ErrorKind::ConnectionClosed, None, true, true), "{error}");
    }
}

/// Design 13.12: a channel that is closed while its connection is away has the loss as the cause.
#[actix::test]
async fn a_channel_that_is_closed_while_away_has_the_loss_as_its_cause() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let written = publish(&channel, "written").await;
    test.expect_publishes(&["written"]).await;
    test.disconnect().await;
    let never = publish(&channel, "never written").await;
    let error = ask(&channel.actor, CloseChannel::new()).answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ConnectionClosed, None, true, true), "{error}");
    for (call, arrived) in [(written, true), (never, false)] {
        let error = call.answer().await.unwrap_err();
        assert_eq!(truth(&error), (ErrorKind::ChannelClosed, None, true, arrived), "{error}");
    }
}

/// CH-17: the reply to the client's close comes after its deadline, behind a close of the broker: nothing happens.
#[actix::test]
async fn a_late_close_ok_behind_crossed_closes_is_accepted() {
    let mut test = RecoveryBench::start().await;
    let options = OpenChannel::new().confirms(false).deadline(Duration::from_millis(100));
    let channel = test.bench.channel(1, options).await;
    // Without a reply the channel is closed to be reopened, which crosses the broker's close.
    let silent = ask(&channel.actor, DeclareQueue::new("jobs"));
    test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    assert_eq!(silent.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    test.bench.socket.expect::<methods::Close>(1).await.unwrap();
    let close = methods::Close { reply_code: 406, reply_text: "so".into(), class_id: 60, method_id: 80 };
    test.bench.socket.send(1, close).await.unwrap();
    test.bench.socket.expect::<methods::CloseOk>(1).await.unwrap();
    test.bench.socket.expect::<methods::Open>(1).await.unwrap();
    test.bench.socket.send(1, methods::CloseOk {}).await.unwrap();
    test.bench.socket.send(1, methods::OpenOk::default()).await.unwrap();
    test.bench.round_trip(&channel).await;
}
