//! Replies that come late, after the caller gave up, or never: none of them answers another call, and what they did is
//! undone.

use std::time::Duration;

use actix_pika_actors::{
    CancelConsumer, CloseChannel, Consume, DeclareQueue, ErrorKind, Get, OpenChannel, OpenedChannel, Publish,
    facade::{StreamSink, deliver_into},
    testing::{
        PeerSocket,
        protocol::{basic, channel, confirm, queue},
    },
};

use crate::common::{Bench, TAG, ask, at_once, method};

/// Long enough to be met by the calls that must, short enough for the tests to wait.
const DEADLINE: Duration = Duration::from_millis(120);

async fn with_short_deadline() -> (Bench, OpenedChannel) {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().deadline(DEADLINE)).await;
    (bench, channel)
}

async fn declare_ok(socket: &mut PeerSocket, name: &str) {
    let ok = queue::DeclareOk { queue: name.into(), message_count: 0, consumer_count: 0 };
    socket.send(1, ok).await.unwrap();
}

/// CH-18, design 13.10: three times, because each late reply must be matched with its own call.
#[actix::test]
async fn a_late_reply_does_not_answer_the_next_call() {
    let (mut bench, channel) = with_short_deadline().await;
    for round in ["a", "b", "c"] {
        let late = ask(&channel.actor, DeclareQueue::new(format!("late-{round}")));
        bench.socket.expect::<queue::Declare>(1).await.unwrap();
        let error = late.answer().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.entity(), Some(&*format!("late-{round}")));
        assert!(error.is_retryable());
        let next = ask(&channel.actor, DeclareQueue::new(format!("next-{round}")));
        bench.socket.expect::<queue::Declare>(1).await.unwrap();
        declare_ok(&mut bench.socket, &format!("late-{round}")).await;
        declare_ok(&mut bench.socket, &format!("next-{round}")).await;
        assert_eq!(next.answer().await.unwrap().name, format!("next-{round}"));
    }
    assert!(bench.client.is_open());
}

/// Design 13.10: a late success is undone: the consumer is cancelled.
#[actix::test]
async fn a_consumer_that_starts_late_is_cancelled() {
    let (mut bench, channel) = with_short_deadline().await;
    let sink = std::sync::Arc::new(StreamSink::default());
    let call = ask(&channel.actor, deliver_into(Consume::new().queue("jobs").tag(TAG), sink));
    bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    bench.socket.expect::<basic::Consume>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    bench.socket.send(1, basic::ConsumeOk { consumer_tag: TAG.into() }).await.unwrap();
    bench.socket.deliver(1, TAG, 1, "for nobody").await.unwrap();
    let cancel = bench.socket.expect::<basic::Cancel>(1).await.unwrap();
    assert_eq!(cancel.consumer_tag.as_str(), TAG);
    // Requeued after cancel-ok only, or it would be delivered again at once.
    bench.socket.send(1, basic::CancelOk { consumer_tag: TAG.into() }).await.unwrap();
    let nack = bench.socket.expect::<basic::Nack>(1).await.unwrap();
    assert_eq!((nack.delivery_tag, nack.requeue), (1, true));
    assert_eq!(channel.outbox.load().unsettled, 0);
    bench.round_trip(&channel).await;
}

/// Design 13.10: a late success is undone: the message is requeued.
#[actix::test]
async fn a_late_message_of_a_get_is_requeued() {
    let (mut bench, channel) = with_short_deadline().await;
    let call = ask(&channel.actor, Get::new("jobs"));
    bench.socket.expect::<basic::Get>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    bench.socket.get_ok(1, 1, 0, "for nobody").await.unwrap();
    let nack = bench.socket.expect::<basic::Nack>(1).await.unwrap();
    assert_eq!((nack.delivery_tag, nack.requeue), (1, true));
    // A late get-empty does not answer the next call.
    let call = ask(&channel.actor, Get::new("jobs"));
    bench.socket.expect::<basic::Get>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    let next = ask(&channel.actor, Get::new("jobs"));
    bench.socket.expect::<basic::Get>(1).await.unwrap();
    bench.socket.send(1, basic::GetEmpty {}).await.unwrap();
    bench.socket.get_ok(1, 2, 7, "for the next").await.unwrap();
    let delivery = next.answer().await.unwrap().expect("a message");
    assert_eq!((delivery.body(), delivery.message_count()), (&b"for the next"[..], Some(7)));
}

/// A cancel whose deadline has passed still cancels.
#[actix::test]
async fn a_late_cancel_ok_ends_the_consumer() {
    let (mut bench, channel) = with_short_deadline().await;
    let mut deliveries = bench.consume(&channel).await;
    let call = ask(&channel.actor, CancelConsumer::new(TAG));
    bench.socket.expect::<basic::Cancel>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    bench.socket.send(1, basic::CancelOk { consumer_tag: TAG.into() }).await.unwrap();
    assert!(deliveries.next().await.is_err());
    bench.round_trip(&channel).await;
}

/// Design 13.10: without a reply for one more deadline the channel is closed. Everyone who waits gets an error, and the
/// number is free once the broker has answered.
#[actix::test]
async fn a_channel_without_replies_is_closed() {
    let (mut bench, channel) = with_short_deadline().await;
    let neighbour = bench.channel(2, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume(&channel).await;
    let first = ask(&channel.actor, DeclareQueue::new("first"));
    bench.socket.expect::<queue::Declare>(1).await.unwrap();
    assert_eq!(first.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    let second = ask(&channel.actor, DeclareQueue::new("second"));
    let publish = ask(&channel.actor, Publish::new("", "jobs", "x"));
    bench.socket.expect::<queue::Declare>(1).await.unwrap();
    bench.socket.expect_publish(1).await.unwrap();
    let close = at_once("channel.close", bench.socket.expect::<channel::Close>(1)).await.unwrap();
    assert_eq!(close.reply_code, 541);
    // One of them may have reached its own deadline at the same time.
    for kind in [second.answer().await.unwrap_err().kind(), publish.answer().await.unwrap_err().kind()] {
        assert!(matches!(kind, ErrorKind::ChannelClosed | ErrorKind::Timeout), "{kind:?}");
    }
    let error = deliveries.closed().await;
    assert_eq!(error.kind(), ErrorKind::ChannelClosed);
    assert!(error.to_string().contains("queue.declare"), "{error}");
    assert_eq!(ask(&channel.actor, DeclareQueue::new("x")).answer().await.unwrap_err().kind(), error.kind());
    // A late reply is ignored, and the number is not free yet.
    declare_ok(&mut bench.socket, "first").await;
    bench.round_trip(&neighbour).await;
    bench.assert_works(3).await;
    bench.socket.send(1, channel::CloseOk {}).await.unwrap();
    bench.round_trip(&neighbour).await;
    bench.assert_works(1).await;
}

/// Without an answer to `channel.close` the number is never used again.
#[actix::test]
async fn the_number_of_an_unanswered_close_is_not_used_again() {
    let (mut bench, channel) = with_short_deadline().await;
    let neighbour = bench.channel(2, OpenChannel::new().confirms(false)).await;
    let call = ask(&channel.actor, CloseChannel::new());
    bench.socket.expect::<channel::Close>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    bench.assert_works(3).await;
    bench.socket.send(1, channel::CloseOk {}).await.unwrap();
    bench.round_trip(&neighbour).await;
    assert!(bench.client.is_open());
}

/// Design 13.10: a channel that opens after the deadline is closed, and its number is free after that.
#[actix::test]
async fn a_channel_that_opens_late_is_closed() {
    let mut bench = Bench::open().await;
    let neighbour = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let call = ask(&bench.client.supervisor, OpenChannel::new().deadline(DEADLINE));
    bench.socket.expect::<channel::Open>(2).await.unwrap();
    bench.socket.expect::<confirm::Select>(2).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    bench.socket.send(2, channel::OpenOk {}).await.unwrap();
    bench.socket.send(2, confirm::SelectOk {}).await.unwrap();
    bench.socket.expect_channel_close(2).await.unwrap();
    bench.round_trip(&neighbour).await;
    bench.assert_works(2).await;
}

/// PUB: a late confirm does not confirm another publish.
#[actix::test]
async fn a_late_confirm_is_for_its_own_publish() {
    let (mut bench, channel) = with_short_deadline().await;
    let first = ask(&channel.actor, Publish::new("", "jobs", "first"));
    bench.socket.expect_publish(1).await.unwrap();
    let error = first.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, true));
    let second = ask(&channel.actor, Publish::new("", "jobs", "second"));
    bench.socket.expect_publish(1).await.unwrap();
    bench.socket.confirm(1, 1, false).await.unwrap();
    bench.round_trip(&channel).await;
    assert!(!second.is_answered());
    bench.socket.confirm(1, 2, false).await.unwrap();
    assert_eq!(second.answer().await.unwrap().sequence(), Some(2));
    assert_eq!(channel.outbox.load().unconfirmed, 0);
}

/// CH-22: callers that give up while they wait.
#[actix::test]
async fn calls_whose_callers_give_up_are_undone() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;

    let declare = ask(&channel.actor, DeclareQueue::new("dropped"));
    bench.socket.expect::<queue::Declare>(1).await.unwrap();
    declare.give_up().await;
    let next = ask(&channel.actor, DeclareQueue::new("next"));
    bench.socket.expect::<queue::Declare>(1).await.unwrap();
    declare_ok(&mut bench.socket, "dropped").await;
    declare_ok(&mut bench.socket, "next").await;
    assert_eq!(next.answer().await.unwrap().name, "next");

    let get = ask(&channel.actor, Get::new("jobs"));
    bench.socket.expect::<basic::Get>(1).await.unwrap();
    get.give_up().await;
    bench.socket.get_ok(1, 1, 0, "for nobody").await.unwrap();
    assert!(bench.socket.expect::<basic::Nack>(1).await.unwrap().requeue);

    let sink = std::sync::Arc::new(StreamSink::default());
    let consume = ask(&channel.actor, deliver_into(Consume::new().queue("jobs").tag(TAG), sink));
    bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    let frame = bench.socket.next_frame_on(1).await.unwrap();
    assert_eq!(method::<basic::Consume>(&frame).queue.as_str(), "jobs");
    consume.give_up().await;
    bench.socket.send(1, basic::ConsumeOk { consumer_tag: TAG.into() }).await.unwrap();
    bench
        .socket
        .answer(1, |c: basic::Cancel| basic::CancelOk { consumer_tag: c.consumer_tag })
        .await
        .unwrap();

    let open = ask(&bench.client.supervisor, OpenChannel::new().confirms(false));
    bench.socket.expect::<channel::Open>(2).await.unwrap();
    open.give_up().await;
    bench.socket.send(2, channel::OpenOk {}).await.unwrap();
    bench.socket.expect_channel_close(2).await.unwrap();
    bench.round_trip(&channel).await;
    bench.assert_works(2).await;
}

/// A publish that is sent to the actor does not need its caller, and later publishes do not wait for that caller.
#[actix::test]
async fn publishes_sent_to_the_actor_do_not_need_their_callers() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().window(1)).await;
    let first = ask(&channel.actor, Publish::new("", "jobs", "first"));
    assert_eq!(&bench.socket.expect_publish(1).await.unwrap().body[..], b"first");
    let second = ask(&channel.actor, Publish::new("", "jobs", "second"));
    bench.round_trip(&channel).await;
    assert_eq!(channel.outbox.load().waiting, 1);
    first.give_up().await;
    second.give_up().await;
    let third = ask(&channel.actor, Publish::new("", "jobs", "third"));
    for (tag, body) in [(1, "second"), (2, "third")] {
        bench.socket.confirm(1, tag, false).await.unwrap();
        assert_eq!(bench.socket.expect_publish(1).await.unwrap().body, body);
    }
    bench.socket.confirm(1, 3, false).await.unwrap();
    assert_eq!(third.answer().await.unwrap().sequence(), Some(3));
    assert_eq!((channel.outbox.load().unconfirmed, channel.outbox.load().waiting), (0, 0));
}

/// CNS: a consumer is registered before its `basic.consume` is sent, so no delivery comes too early.
#[actix::test]
async fn deliveries_before_consume_ok_reach_the_consumer() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let mut deliveries = crate::common::Deliveries::new();
    let call =
        ask(&channel.actor, deliver_into(Consume::new().queue("jobs").tag(TAG), deliveries.sink.clone()));
    bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    bench.socket.expect::<basic::Consume>(1).await.unwrap();
    bench.socket.deliver(1, TAG, 1, "early").await.unwrap();
    assert_eq!(deliveries.next().await.unwrap().body(), b"early");
    assert!(!call.is_answered());
    bench.socket.send(1, basic::ConsumeOk { consumer_tag: TAG.into() }).await.unwrap();
    call.answer().await.unwrap();
}

/// CNS, 20 of the malformed cases: legal while a cancel is under way, so the delivery is requeued.
#[actix::test]
async fn a_delivery_for_an_unknown_consumer_is_requeued() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    bench.socket.deliver(1, "nobody", 1, "x").await.unwrap();
    let nack = bench.socket.expect::<basic::Nack>(1).await.unwrap();
    assert_eq!((nack.delivery_tag, nack.requeue), (1, true));
    // A delivery between cancel and cancel-ok is requeued after cancel-ok.
    let deliveries = bench.consume(&channel).await;
    let call = ask(&channel.actor, CancelConsumer::new(TAG));
    bench.socket.expect::<basic::Cancel>(1).await.unwrap();
    bench.socket.deliver(1, TAG, 2, "y").await.unwrap();
    bench.socket.send(1, basic::CancelOk { consumer_tag: TAG.into() }).await.unwrap();
    call.answer().await.unwrap();
    assert_eq!(bench.socket.expect::<basic::Nack>(1).await.unwrap().delivery_tag, 2);
    bench.socket.deliver(1, TAG, 3, "z").await.unwrap();
    assert_eq!(bench.socket.expect::<basic::Nack>(1).await.unwrap().delivery_tag, 3);
    assert_eq!(channel.outbox.load().unsettled, 0);
    drop(deliveries);
    bench.round_trip(&channel).await;
}
