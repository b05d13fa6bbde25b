//! Publishing over lost connections: which publishes are resent, in which order, and which are not.

use std::time::Duration;

use actix_pika_actors::{
    Consume, ErrorKind, OnOutage, OpenChannel, Publish, Publishing,
    testing::{
        HandshakeScript,
        protocol::{basic, channel as methods, confirm, connection},
    },
};

use super::common::{
    TAG, ask, at_once, close,
    recovery::{RecoveryBench, idle, publish, publish_as, until},
};

/// Design 13.1, design 13.4, PUB-14: unconfirmed publishes are resent, in the old order and before newer ones. Their
/// sequence numbers continue; acks, nacks and returns of each connection find their publishes. A confirm has the epoch in
/// which it came.
#[actix::test]
async fn unconfirmed_publishes_are_resent_in_order() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let mut calls = Vec::new();
    for body in ["1", "2", "3", "4", "5"] {
        calls.push(publish(&channel, body).await);
    }
    test.expect_publishes(&["1", "2", "3", "4", "5"]).await;
    test.bench.socket.confirm(1, 4, false).await.unwrap();
    test.bench.socket.confirm(1, 2, false).await.unwrap();
    test.bench.round_trip(&channel).await;
    test.disconnect().await;
    for body in ["6", "7"] {
        calls.push(publish(&channel, body).await);
    }
    test.reconnect().await;
    test.bench.socket.open_channel(1).await.unwrap();
    test.bench.socket.expect::<confirm::Select>(1).await.unwrap();
    // Nothing is published before the channel is reopened.
    calls.push(publish(&channel, "8").await);
    test.bench.socket.send(1, confirm::SelectOk {}).await.unwrap();
    test.expect_publishes(&["1", "3", "5", "6", "7", "8"]).await;
    // Another connection in between: only the first of these was confirmed.
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    test.bench.round_trip(&channel).await;
    test.disconnect_and_recover().await;
    test.expect_publishes(&["3", "5", "6"]).await;
    let seventh = test.next_publish().await;
    test.expect_publishes(&["8"]).await;
    calls.push(publish(&channel, "9").await);
    test.expect_publishes(&["9"]).await;
    let socket = &mut test.bench.socket;
    socket.confirm(1, 2, true).await.unwrap();
    socket.nack(1, 3, false).await.unwrap();
    socket.return_message(1, 312, "NO_ROUTE", seventh).await.unwrap();
    socket.confirm(1, 6, true).await.unwrap();
    test.close_and_reopen().await;
    test.expect_publishes(&["6"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    let mut epochs = Vec::new();
    for (n, call) in (1..).zip(calls) {
        match (n, call.answer().await) {
            (7, Err(error)) => assert_eq!(&error.returned().unwrap().body[..], b"7"),
            (_, answer) => {
                let confirmation = answer.unwrap();
                assert_eq!(confirmation.sequence(), Some(n));
                epochs.push((n, confirmation.epoch().unwrap()));
            }
        }
    }
    assert_eq!(epochs, [(1, 2), (2, 1), (3, 3), (4, 1), (5, 3), (6, 4), (8, 3), (9, 3)]);
    assert_eq!(channel.outbox.epoch(), 4);
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 13.3, NET: the connection is lost in the middle of a frame and of a body. The next one splits the body by its
/// own frame size, smaller or larger.
#[actix::test]
async fn large_bodies_are_split_again_for_every_connection() {
    let limits = |frame_max| HandshakeScript::new().tune(10, frame_max, 60);
    let mut test = RecoveryBench::start_with(&limits(131_072), |_| {}).await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n / 7) as u8).collect();
    let small = publish(&channel, "small").await;
    let large = publish_as(&channel, Publish::new("ex", "key", body.clone())).await;
    let last = publish(&channel, "last").await;
    test.expect_publishes(&["small"]).await;
    assert!(test.bench.socket.next_frame_on(1).await.unwrap().is::<basic::Publish>());
    for frame_max in [4096, 8192, 131_072] {
        test.disconnect().await;
        test.reconnect_with(&limits(frame_max)).await;
        test.reopen_channel(1).await;
        test.expect_publishes(&["small"]).await;
        let published = test.next_publish().await;
        let most = frame_max as usize - 8;
        assert!(published.body == body && published.exchange == "ex" && published.routing_key == "key");
        assert_eq!(published.frame_lengths.len(), body.len().div_ceil(most));
        assert!(published.frame_lengths.iter().all(|&cut| cut <= most));
        test.expect_publishes(&["last"]).await;
    }
    test.bench.socket.confirm(1, 3, true).await.unwrap();
    for call in [small, large, last] {
        call.answer().await.unwrap();
    }
    assert_eq!(channel.outbox.load(), idle());
}

/// PUB-37: a publish that comes back when it is resent may have arrived the first time.
#[actix::test]
async fn a_return_after_a_resend_says_that_the_publish_may_have_arrived() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let before = publish(&channel, "before").await;
    test.expect_publishes(&["before"]).await;
    test.disconnect().await;
    let meanwhile = publish(&channel, "meanwhile").await;
    test.reconnect_and_reopen().await;
    for _ in 0..2 {
        let published = test.next_publish().await;
        test.bench.socket.return_message(1, 312, "NO_ROUTE", published).await.unwrap();
    }
    test.bench.socket.confirm(1, 2, true).await.unwrap();
    for (call, arrived) in [(before, true), (meanwhile, false)] {
        let error = call.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unroutable, Some(312)));
        assert_eq!(error.may_have_arrived(), arrived, "{error}");
    }
}

/// Design 13.3: a header cannot be split: if it does not fit any more, only its publish fails.
#[actix::test]
async fn headers_that_do_not_fit_any_more_fail_alone() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let wide = Publishing::new("wide").header("k", "v".repeat(10_000));
    let before = publish(&channel, "before").await;
    let wide = publish_as(&channel, Publish::new("", "jobs", wide)).await;
    let after = publish(&channel, "after").await;
    test.expect_publishes(&["before", "wide", "after"]).await;
    test.disconnect().await;
    test.reconnect_with(&HandshakeScript::new().tune(10, 4096, 60)).await;
    test.reopen_channel(1).await;
    test.expect_publishes(&["before", "after"]).await;
    let error = wide.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Limit, true), "{error}");
    test.bench.socket.confirm(1, 2, true).await.unwrap();
    assert_eq!(before.answer().await.unwrap().sequence(), Some(1));
    assert_eq!(after.answer().await.unwrap().sequence(), Some(3));
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 13.4, design 13.6: deadlines run while the connection is down; a publish that timed out is not sent later.
#[actix::test]
async fn deadlines_run_while_the_connection_is_down() {
    let mut test = RecoveryBench::start().await;
    let options = OpenChannel::new().window(2).deadline(Duration::from_millis(100));
    let channel = test.bench.channel(1, options).await;
    let in_flight = publish(&channel, "in flight").await;
    test.expect_publishes(&["in flight"]).await;
    test.disconnect().await;
    let queued = publish(&channel, "queued").await;
    let waiting = publish(&channel, "waiting").await;
    assert_eq!(channel.outbox.load().waiting, 1);
    let error = in_flight.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, true), "{error}");
    for call in [queued, waiting] {
        let error = call.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, false), "{error}");
        assert!(error.is_retryable());
    }
    test.reconnect_and_reopen().await;
    test.recovered().await;
    assert_eq!(channel.outbox.load(), idle());
    let next = publish(&channel, "next").await;
    test.expect_publishes(&["next"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    assert_eq!(next.answer().await.unwrap().sequence(), Some(3));
}

/// Design 13.6: callers that wait for the window continue in their order, and the window counts messages and bytes
/// correctly after the recovery.
#[actix::test]
async fn the_window_and_its_queue_outlive_the_connection() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new().window(10).window_bytes(10_000)).await;
    let body = "x".repeat(6000);
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(publish_as(&channel, Publish::new("", "jobs", body.clone())).await);
    }
    calls.push(publish(&channel, "small").await);
    assert_eq!(channel.outbox.load().waiting, 3);
    test.next_publish().await;
    for _ in 0..2 {
        test.disconnect_and_recover().await;
        test.expect_publishes(&[&body]).await;
        test.bench.round_trip(&channel).await;
        let load = channel.outbox.load();
        assert_eq!((load.unconfirmed, load.waiting), (1, 3));
    }
    // A dropped waiter gives its ticket to the next one.
    calls.remove(1).give_up().await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    test.expect_publishes(&[&body]).await;
    test.bench.socket.confirm(1, 2, false).await.unwrap();
    test.expect_publishes(&[&body, "small"]).await;
    test.bench.socket.confirm(1, 4, true).await.unwrap();
    for call in calls {
        call.answer().await.unwrap();
    }
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 7.1, PUB-13: with `OnOutage::Fail`, written publishes may have arrived, and none is sent later.
#[actix::test]
async fn publishes_may_fail_in_an_outage() {
    let mut test = RecoveryBench::start().await;
    let options = OpenChannel::new().window(1).on_outage(OnOutage::Fail);
    let channel = test.bench.channel(1, options).await;
    let in_flight = publish(&channel, "in flight").await;
    let waiting = publish(&channel, "waiting").await;
    test.expect_publishes(&["in flight"]).await;
    test.disconnect().await;
    let away = publish(&channel, "away").await;
    for (call, arrived) in [(in_flight, true), (waiting, false), (away, false)] {
        let error = call.answer().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.may_have_arrived(), error.is_retryable()),
            (ErrorKind::ConnectionClosed, arrived, true)
        );
    }
    assert_eq!(channel.outbox.load(), idle());
    test.reconnect_and_reopen().await;
    test.recovered().await;
    let again = publish(&channel, "again").await;
    test.expect_publishes(&["again"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    again.answer().await.unwrap();
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 7.1: a publish with `resend(false)` fails only if it may have arrived.
#[actix::test]
async fn a_publish_without_resend_fails_if_it_may_have_arrived() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let once = |body: &'static str| Publish::new("", "jobs", Publishing::new(body).resend(false));
    let first = publish_as(&channel, once("first")).await;
    let second = publish(&channel, "second").await;
    test.expect_publishes(&["first", "second"]).await;
    test.disconnect().await;
    let error = first.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, true));
    let third = publish_as(&channel, once("third")).await;
    test.reconnect_and_reopen().await;
    test.expect_publishes(&["second", "third"]).await;
    test.bench.socket.confirm(1, 2, true).await.unwrap();
    second.answer().await.unwrap();
    assert_eq!(third.answer().await.unwrap().sequence(), Some(3));
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 13.1: a publish that was unconfirmed at two connection closes with an error may be their cause, and is not sent
/// a third time. A broker that shuts down and a broken socket do not count.
#[actix::test]
async fn a_publish_that_was_unconfirmed_at_two_errors_fails() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let bad = publish(&channel, "bad").await;
    test.expect_publishes(&["bad"]).await;
    for code in [541, 320] {
        test.close_by_broker(code).await;
        test.reconnect_and_reopen().await;
        test.expect_publishes(&["bad"]).await;
    }
    // A connection on which it was not sent does not count.
    test.disconnect().await;
    test.reconnect().await;
    test.bench.socket.open_channel(1).await.unwrap();
    test.close_by_broker(541).await;
    test.reconnect_and_reopen().await;
    test.expect_publishes(&["bad"]).await;
    let good = publish(&channel, "good").await;
    test.expect_publishes(&["good"]).await;
    test.close_by_broker(505).await;
    let error = bad.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, true));
    assert_eq!(error.close_reason().unwrap().code, 505);
    test.reconnect_and_reopen().await;
    test.expect_publishes(&["good"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    good.answer().await.unwrap();
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 13.1: a publish that was unconfirmed at connection closes because of other methods is sent on.
#[actix::test]
async fn a_publish_is_not_the_cause_of_errors_that_name_another_method() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let publish = publish(&channel, "innocent").await;
    test.expect_publishes(&["innocent"]).await;
    for (code, class_id, method_id) in [(541, 50, 10), (540, 60, 20), (541, 50, 10)] {
        let close = connection::Close { class_id, method_id, ..close(code, "so") };
        test.bench.socket.send(0, close).await.unwrap();
        test.bench.socket.expect::<connection::CloseOk>(0).await.unwrap();
        drop(test.take_socket());
        test.lost().await;
        test.reconnect_and_reopen().await;
        test.expect_publishes(&["innocent"]).await;
    }
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    publish.answer().await.unwrap();
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 13.1, PUB-02: without confirms, written publishes are not resent; the others are sent on the next connection.
#[actix::test]
async fn publishes_without_confirms_wait_for_the_connection() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new().confirms(false).window(2)).await;
    publish(&channel, "gone").await.answer().await.unwrap();
    test.expect_publishes(&["gone"]).await;
    test.disconnect().await;
    let body = "x".repeat(10_000);
    let first = publish_as(&channel, Publish::new("", "jobs", body.clone())).await;
    let wide = Publishing::new("wide").header("k", "v".repeat(5000));
    let wide = publish_as(&channel, Publish::new("", "jobs", wide)).await;
    let third = publish(&channel, "third").await;
    first.answer().await.unwrap();
    wide.answer().await.unwrap();
    assert_eq!(channel.outbox.load().waiting, 1);
    test.reconnect_with(&HandshakeScript::new().tune(10, 4096, 60)).await;
    test.bench.socket.open_channel(1).await.unwrap();
    let published = test.next_publish().await;
    assert!(published.body == body);
    assert_eq!(published.frame_lengths, [4088, 4088, 1824]);
    test.expect_publishes(&["third"]).await;
    third.answer().await.unwrap();
    until("the window is empty", || channel.outbox.load() == idle()).await;
}

/// Design 13.1, design 13.3: a consumer that is refused while its channel recovers fails no publish that was unconfirmed
/// when the connection was lost.
#[actix::test]
async fn a_refused_consumer_fails_no_publish() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let _deliveries = test.bench.consume_as(&channel, Consume::new().tag(TAG).exclusive(true)).await;
    let first = publish(&channel, "first").await;
    test.expect_publishes(&["first"]).await;
    test.disconnect().await;
    let second = publish(&channel, "second").await;
    test.reconnect().await;
    test.bench.socket.open_channel(1).await.unwrap();
    test.bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    test.bench.socket.expect::<basic::Consume>(1).await.unwrap();
    test.bench.socket.close_channel(1, 403, "ACCESS_REFUSED - queue 'jobs' in use", 60, 20).await.unwrap();
    test.reopen_channel(1).await;
    test.expect_publishes(&["first", "second"]).await;
    test.bench.socket.confirm(1, 2, true).await.unwrap();
    first.answer().await.unwrap();
    second.answer().await.unwrap();
}

/// Design 13.1: a channel that was still opening when the connection was lost recovers like any other afterwards.
#[actix::test]
async fn a_channel_that_opened_late_resends_its_publishes() {
    let mut test = RecoveryBench::start().await;
    let call = ask(&test.bench.client.supervisor, OpenChannel::new());
    test.bench.socket.expect::<methods::Open>(1).await.unwrap();
    test.disconnect().await;
    assert!(!call.is_answered());
    test.reconnect_and_reopen().await;
    let channel = call.answer().await.unwrap();
    let first = publish(&channel, "first").await;
    test.expect_publishes(&["first"]).await;
    test.bench.socket.close_channel(1, 404, "NOT_FOUND", 60, 40).await.unwrap();
    test.reopen_channel(1).await;
    // There is no other one that the broker can have refused.
    let error = first.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, false));
    let second = publish(&channel, "second").await;
    test.expect_publishes(&["second"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    second.answer().await.unwrap();
}

/// Design 13.4: a publish that was written on an earlier connection may have arrived, even if it was not resent.
#[actix::test]
async fn a_publish_of_an_earlier_connection_may_have_arrived() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let first = publish(&channel, "first").await;
    test.expect_publishes(&["first"]).await;
    test.disconnect().await;
    let second = publish(&channel, "second").await;
    test.reconnect().await;
    test.bench.socket.open_channel(1).await.unwrap();
    test.disconnect().await;
    at_once("close", test.bench.client.supervisor.send(actix_pika_actors::CloseConnection::new()))
        .await
        .unwrap()
        .unwrap_err();
    for (call, arrived) in [(first, true), (second, false)] {
        let error = call.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, arrived));
    }
}
