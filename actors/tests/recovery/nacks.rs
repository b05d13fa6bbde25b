//! Nacks soon after a reconnect: a leader may still be elected, so the publish is resent.

use actix_pika_actors::{
    ChannelEvent, CloseChannel, ErrorKind, OnOutage, OpenChannel, Publish, Publishing, WatchChannel,
    testing::{
        Probe,
        protocol::{basic, channel as methods, confirm},
    },
};

use super::common::{
    ask, at_once,
    recovery::{RecoveryBench, idle, publish, publish_as},
};

/// CLU-05, design 13.1: new publishes wait behind the nacked ones; the channel is reopened when all others are answered.
#[actix::test]
async fn publishes_nacked_after_a_reconnect_are_resent_in_order() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let mut events = Probe::start();
    channel.actor.send(WatchChannel(events.recipient())).await.unwrap();
    let mut calls = Vec::new();
    for body in ["1", "2", "3"] {
        calls.push(publish(&channel, body).await);
    }
    test.expect_publishes(&["1", "2", "3"]).await;
    test.disconnect_and_recover().await;
    test.expect_publishes(&["1", "2", "3"]).await;
    test.recovered().await;
    test.bench.socket.nack(1, 1, false).await.unwrap();
    test.bench.socket.nack(1, 3, false).await.unwrap();
    test.bench.round_trip(&channel).await;
    calls.push(publish(&channel, "4").await);
    assert_eq!(channel.outbox.load().unconfirmed, 4);
    // Covers 1 and 3, which are nacked already.
    test.bench.socket.confirm(1, 3, true).await.unwrap();
    test.close_and_reopen().await;
    test.expect_publishes(&["1", "3", "4"]).await;
    // Once more, after a pause.
    test.bench.socket.nack(1, 2, true).await.unwrap();
    test.bench.socket.confirm(1, 3, false).await.unwrap();
    test.close_and_reopen().await;
    test.expect_publishes(&["1", "3"]).await;
    test.bench.socket.confirm(1, 2, true).await.unwrap();
    for (n, call) in (1..).zip(calls) {
        assert_eq!(call.answer().await.unwrap().sequence(), Some(n));
    }
    assert_eq!(channel.outbox.load(), idle());
    for _ in 0..3 {
        let event = at_once("an event", events.next()).await.unwrap();
        assert!(matches!(event, ChannelEvent::Reopened(_)), "{event:?}");
    }
}

/// CLU-05: after five seconds a nack is final, and publishes that waited are sent.
#[actix::test]
async fn a_repeated_nack_is_final_after_the_retry_window() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    test.disconnect_and_recover().await;
    test.recovered().await;
    let call = publish(&channel, "1").await;
    test.expect_publishes(&["1"]).await;
    test.bench.socket.nack(1, 1, false).await.unwrap();
    test.bench.round_trip(&channel).await;
    let second = publish(&channel, "2").await;
    for _ in 0..2 {
        test.close_and_reopen().await;
        test.expect_publishes(&["1", "2"]).await;
        test.bench.socket.nack(1, 2, true).await.unwrap();
    }
    test.close_and_reopen().await;
    test.expect_publishes(&["1", "2"]).await;
    // The channel stays open while one of them is unanswered.
    test.bench.socket.nack(1, 1, false).await.unwrap();
    test.bench.round_trip(&channel).await;
    let third = publish(&channel, "3").await;
    test.expect_publishes(&["3"]).await;
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Nacked);
    test.bench.socket.confirm(1, 3, true).await.unwrap();
    assert_eq!(second.answer().await.unwrap().sequence(), Some(2));
    assert_eq!(third.answer().await.unwrap().sequence(), Some(3));
    assert_eq!(channel.outbox.load(), idle());
}

/// CLU-05: a nack is final at once before any reconnect, with a consumer, with `OnOutage::Fail`, and without resend.
#[actix::test]
async fn other_nacks_are_final_at_once() {
    let mut test = RecoveryBench::start().await;
    let fails = test.bench.channel(1, OpenChannel::new().on_outage(OnOutage::Fail)).await;
    let call = publish(&fails, "first connection").await;
    test.expect_publishes(&["first connection"]).await;
    test.bench.socket.nack(1, 1, false).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Nacked);
    test.disconnect_and_recover().await;
    test.recovered().await;
    let call = publish(&fails, "fails in an outage").await;
    test.expect_publishes(&["fails in an outage"]).await;
    test.bench.socket.nack(1, 1, false).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Nacked);

    let (mut test, channel) = RecoveryBench::with_channel().await;
    test.disconnect_and_recover().await;
    test.recovered().await;
    let once = Publish::new("", "jobs", Publishing::new("once").resend(false));
    let call = publish_as(&channel, once).await;
    test.expect_publishes(&["once"]).await;
    test.bench.socket.nack(1, 1, false).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Nacked);
    assert_eq!(channel.outbox.load(), idle());

    let (mut test, channel) = RecoveryBench::with_channel().await;
    let _deliveries = test.bench.consume(&channel).await;
    test.disconnect().await;
    test.reconnect().await;
    test.bench.socket.open_channel(1).await.unwrap();
    test.bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    let tag = |consume: basic::Consume| basic::ConsumeOk { consumer_tag: consume.consumer_tag };
    test.bench.socket.answer(1, tag).await.unwrap();
    test.bench.socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    test.recovered().await;
    let call = publish(&channel, "beside a consumer").await;
    test.expect_publishes(&["beside a consumer"]).await;
    test.bench.socket.nack(1, 1, false).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Nacked);
}

/// CLU-05, design 13.12: closing the channel does not wait for another attempt; publishes that waited are sent first.
#[actix::test]
async fn a_close_makes_deferred_nacks_final() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    test.disconnect_and_recover().await;
    test.recovered().await;
    let first = publish(&channel, "1").await;
    test.expect_publishes(&["1"]).await;
    test.bench.socket.nack(1, 1, false).await.unwrap();
    test.bench.round_trip(&channel).await;
    let second = publish(&channel, "2").await;
    let closed = ask(&channel.actor, CloseChannel::new());
    assert_eq!(first.answer().await.unwrap_err().kind(), ErrorKind::Nacked);
    test.expect_publishes(&["2"]).await;
    test.bench.socket.confirm(1, 2, false).await.unwrap();
    second.answer().await.unwrap();
    test.bench.socket.answer(1, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    closed.answer().await.unwrap();
    assert_eq!(channel.outbox.load(), idle());
}
