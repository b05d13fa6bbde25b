//! Answers that come late, or to nobody, or never: none of them answers another call, and what they promise is
//! undone.

#![allow(missing_docs, unreachable_pub, dead_code)]

mod common;

use std::time::Duration;

use actix_pika_actors::{
    CancelConsumer, CloseChannel, Consume, DeclareQueue, ErrorKind, Get, OpenChannel, OpenedChannel, Publish,
    facade::{StreamSink, deliver_into},
    testing::{
        PeerSocket,
        protocol::{basic, channel, confirm, queue},
    },
};

use self::common::{Bench, TAG, ask, at_once, method};

/// Long enough to be kept, short enough to be waited for.
const DEADLINE: Duration = Duration::from_millis(120);

async fn hasty() -> (Bench, OpenedChannel) {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().deadline(DEADLINE)).await;
    (bench, channel)
}

async fn declare_ok(socket: &mut PeerSocket, name: &str) {
    let ok = queue::DeclareOk { queue: name.into(), message_count: 0, consumer_count: 0 };
    socket.send(1, ok).await.unwrap();
}

/// CH-18, design 13.10: three times, and each late answer meets nobody.
#[actix::test]
async fn a_late_answer_does_not_answer_the_next_call() {
    let (mut bench, channel) = hasty().await;
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

/// Design 13.10: a late success is undone: a consumer that nobody has is cancelled.
#[actix::test]
async fn a_consumer_that_starts_late_is_cancelled() {
    let (mut bench, channel) = hasty().await;
    let feed = std::sync::Arc::new(StreamSink::default());
    let call = ask(&channel.actor, deliver_into(Consume::new().queue("jobs").tag(TAG), feed));
    bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    bench.socket.expect::<basic::Consume>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    bench.socket.send(1, basic::ConsumeOk { consumer_tag: TAG.into() }).await.unwrap();
    bench.socket.deliver(1, TAG, 1, "for nobody").await.unwrap();
    let cancel = bench.socket.expect::<basic::Cancel>(1).await.unwrap();
    assert_eq!(cancel.consumer_tag.as_str(), TAG);
    // Only behind cancel-ok, or it would come again at once.
    bench.socket.send(1, basic::CancelOk { consumer_tag: TAG.into() }).await.unwrap();
    let reject = bench.socket.expect::<basic::Reject>(1).await.unwrap();
    assert_eq!((reject.delivery_tag, reject.requeue), (1, true));
    assert_eq!(channel.outbox.load().unsettled, 0);
    bench.round_trip(&channel).await;
}

/// Design 13.10: a late success is undone: a message that nobody has goes back.
#[actix::test]
async fn a_message_that_comes_late_to_a_get_goes_back() {
    let (mut bench, channel) = hasty().await;
    let call = ask(&channel.actor, Get::new("jobs"));
    bench.socket.expect::<basic::Get>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    bench.socket.get_ok(1, 1, 0, "for nobody").await.unwrap();
    let reject = bench.socket.expect::<basic::Reject>(1).await.unwrap();
    assert_eq!((reject.delivery_tag, reject.requeue), (1, true));
    // One that was empty, late, is no answer either.
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

/// A cancel that times out is still a cancel.
#[actix::test]
async fn a_late_cancel_ok_ends_the_consumer() {
    let (mut bench, channel) = hasty().await;
    let mut deliveries = bench.consume(&channel).await;
    let call = ask(&channel.actor, CancelConsumer::new(TAG));
    bench.socket.expect::<basic::Cancel>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    bench.socket.send(1, basic::CancelOk { consumer_tag: TAG.into() }).await.unwrap();
    assert!(deliveries.next().await.is_err());
    bench.round_trip(&channel).await;
}

/// Design 13.10: after one more deadline of silence nothing that comes can be trusted: the channel goes, its number when the
/// broker says so, and everyone is told.
#[actix::test]
async fn a_channel_whose_broker_is_silent_is_given_up() {
    let (mut bench, channel) = hasty().await;
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
    // One of them may have reached its own deadline in the same moment.
    for kind in [second.answer().await.unwrap_err().kind(), publish.answer().await.unwrap_err().kind()] {
        assert!(matches!(kind, ErrorKind::ChannelClosed | ErrorKind::Timeout), "{kind:?}");
    }
    let error = deliveries.closed().await;
    assert_eq!(error.kind(), ErrorKind::ChannelClosed);
    assert!(error.to_string().contains("queue.declare"), "{error}");
    assert_eq!(ask(&channel.actor, DeclareQueue::new("x")).answer().await.unwrap_err().kind(), error.kind());
    // What comes late is nothing any more, and the number is not free yet.
    declare_ok(&mut bench.socket, "first").await;
    bench.round_trip(&neighbour).await;
    bench.assert_works(3).await;
    bench.socket.send(1, channel::CloseOk {}).await.unwrap();
    bench.round_trip(&neighbour).await;
    bench.assert_works(1).await;
}

/// The same, with a broker that does not even answer the close: its number is never used again.
#[actix::test]
async fn a_close_that_is_not_answered_costs_the_number() {
    let (mut bench, channel) = hasty().await;
    let neighbour = bench.channel(2, OpenChannel::new().confirms(false)).await;
    let call = ask(&channel.actor, CloseChannel::new());
    bench.socket.expect::<channel::Close>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    bench.assert_works(3).await;
    bench.socket.send(1, channel::CloseOk {}).await.unwrap();
    bench.round_trip(&neighbour).await;
    assert!(bench.client.is_open());
}

/// Design 13.10: a channel that opens too late is closed again, and only then its number is free.
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

/// PUB: a confirm that comes late confirms no other publish.
#[actix::test]
async fn a_late_confirm_is_for_its_own_publish() {
    let (mut bench, channel) = hasty().await;
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

/// CH-22: callers that go away while they wait.
#[actix::test]
async fn calls_that_are_dropped_are_undone() {
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
    assert!(bench.socket.expect::<basic::Reject>(1).await.unwrap().requeue);

    let feed = std::sync::Arc::new(StreamSink::default());
    let consume = ask(&channel.actor, deliver_into(Consume::new().queue("jobs").tag(TAG), feed));
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

/// A publish by message is accepted with the message: it goes on without its caller, and holds nobody back.
#[actix::test]
async fn publishes_by_message_go_on_without_their_callers() {
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

/// CNS: a consumer is known before its `basic.consume` leaves, so that nothing can come too early.
#[actix::test]
async fn deliveries_before_consume_ok_are_handed_out() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let mut deliveries = common::Deliveries::new();
    let call =
        ask(&channel.actor, deliver_into(Consume::new().queue("jobs").tag(TAG), deliveries.feed.clone()));
    bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    bench.socket.expect::<basic::Consume>(1).await.unwrap();
    bench.socket.deliver(1, TAG, 1, "early").await.unwrap();
    assert_eq!(deliveries.next().await.unwrap().body(), b"early");
    assert!(!call.is_answered());
    bench.socket.send(1, basic::ConsumeOk { consumer_tag: TAG.into() }).await.unwrap();
    call.answer().await.unwrap();
}

/// CNS, 20 of the malformed cases: legal while a cancel is under way, so it goes back and nothing else happens.
#[actix::test]
async fn a_delivery_for_no_consumer_goes_back() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    bench.socket.deliver(1, "nobody", 1, "x").await.unwrap();
    let reject = bench.socket.expect::<basic::Reject>(1).await.unwrap();
    assert_eq!((reject.delivery_tag, reject.requeue), (1, true));
    // Between cancel and cancel-ok they are still taken, and go back behind it.
    let deliveries = bench.consume(&channel).await;
    let call = ask(&channel.actor, CancelConsumer::new(TAG));
    bench.socket.expect::<basic::Cancel>(1).await.unwrap();
    bench.socket.deliver(1, TAG, 2, "y").await.unwrap();
    bench.socket.send(1, basic::CancelOk { consumer_tag: TAG.into() }).await.unwrap();
    call.answer().await.unwrap();
    assert_eq!(bench.socket.expect::<basic::Reject>(1).await.unwrap().delivery_tag, 2);
    bench.socket.deliver(1, TAG, 3, "z").await.unwrap();
    assert_eq!(bench.socket.expect::<basic::Reject>(1).await.unwrap().delivery_tag, 3);
    assert_eq!(channel.outbox.load().unsettled, 0);
    drop(deliveries);
    bench.round_trip(&channel).await;
}
