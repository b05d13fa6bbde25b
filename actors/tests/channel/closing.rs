//! Every way in which a channel closes: what becomes of its number, of other channels, and of frames under way.

use actix_pika_actors::{
    CancelConsumer, CloseChannel, Consume, ConsumerEnd, DeclareQueue, ErrorKind, OpenChannel, Publish,
    facade::{ReleaseChannel, deliver_into},
    testing::{
        RawFrame,
        protocol::{basic, channel, queue},
    },
};

use crate::common::{Bench, Deliveries, TAG, TryPublish, ask, at_once};

/// CH-04, CH-07: what the refused call, the calls after it and another channel get.
#[actix::test]
async fn a_refused_call_closes_its_channel_only() {
    let mut bench = Bench::open().await;
    let first = bench.channel(1, OpenChannel::new()).await;
    let second = bench.channel(2, OpenChannel::new()).await;
    let mut deliveries = bench.consume(&first).await;
    let publish = ask(&first.actor, Publish::new("", "jobs", "x"));
    bench.socket.expect_publish(1).await.unwrap();
    let refused = ask(&first.actor, DeclareQueue::new("amq.jobs"));
    let queued = ask(&first.actor, actix_pika_actors::PurgeQueue::new("jobs"));
    bench.socket.expect::<queue::Declare>(1).await.unwrap();
    bench.socket.expect::<queue::Purge>(1).await.unwrap();
    bench.socket.close_channel(1, 403, "ACCESS_REFUSED", 50, 10).await.unwrap();

    let errors = [
        (refused.answer().await.unwrap_err(), ErrorKind::Refused),
        (queued.answer().await.unwrap_err(), ErrorKind::ChannelClosed),
        (publish.answer().await.unwrap_err(), ErrorKind::ChannelClosed),
        (deliveries.closed().await, ErrorKind::ChannelClosed),
        (ask(&first.actor, DeclareQueue::new("late")).answer().await.unwrap_err(), ErrorKind::ChannelClosed),
    ];
    for (error, kind) in errors {
        let reason = error.close_reason().expect("the broker's reason");
        assert_eq!((error.kind(), reason.code, reason.method), (kind, 403, "queue.declare"), "{error}");
    }
    bench.round_trip(&second).await;
    // Its number is free again, and nothing else was sent on it.
    bench.assert_works(1).await;
}

/// PRO-08, CH-17: 200 deliveries between `channel.close` and its answer, and one after it.
#[actix::test]
async fn content_for_a_closing_or_closed_channel_is_discarded() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let neighbour = bench.channel(2, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume(&channel).await;
    let call = ask(&channel.actor, CloseChannel::new());
    bench.socket.expect::<channel::Close>(1).await.unwrap();
    for tag in 1..=200 {
        bench.socket.deliver(1, TAG, tag, "late").await.unwrap();
    }
    bench.socket.send(1, basic::Ack { delivery_tag: 7, multiple: false }).await.unwrap();
    bench.socket.send(1, channel::CloseOk {}).await.unwrap();
    call.answer().await.unwrap();
    assert!(
        matches!(deliveries.next().await, Err(ConsumerEnd::Closed(error)) if error.kind() == ErrorKind::ChannelClosed)
    );
    bench.socket.deliver(1, TAG, 201, "later").await.unwrap();
    bench.round_trip(&neighbour).await;
    // Content of the old channel is not taken for content of the new one.
    bench.assert_works(1).await;
}

/// CH-17: both sides close at once. The caller does not wait for the answer to its close, which RabbitMQ may omit; the
/// number is free only after it.
#[actix::test]
async fn channel_closes_that_cross_are_both_answered() {
    for broker_first in [true, false] {
        let mut bench = Bench::open().await;
        let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
        let neighbour = bench.channel(2, OpenChannel::new().confirms(false)).await;
        if broker_first {
            // The client closes before it has read this.
            let close = channel::Close {
                reply_code: 404,
                reply_text: "NOT_FOUND".into(),
                class_id: 60,
                method_id: 40,
            };
            bench.socket.send(1, close).await.unwrap();
        }
        let call = ask(&channel.actor, CloseChannel::new());
        if !broker_first {
            bench.socket.expect::<channel::Close>(1).await.unwrap();
            bench.socket.close_channel(1, 404, "NOT_FOUND", 60, 40).await.unwrap();
            call.answer().await.unwrap();
            bench.assert_works(3).await;
            bench.socket.send(1, channel::CloseOk {}).await.unwrap();
            bench.round_trip(&neighbour).await;
            bench.assert_works(1).await;
            continue;
        } else {
            let frame = bench.socket.next_frame_on(1).await.unwrap();
            if frame.is::<channel::Close>() {
                bench.socket.send(1, channel::CloseOk {}).await.unwrap();
                bench.socket.expect::<channel::CloseOk>(1).await.unwrap();
            } else {
                assert!(frame.is::<channel::CloseOk>(), "{frame}");
            }
        }
        call.answer().await.unwrap();
        bench.round_trip(&neighbour).await;
        bench.assert_works(1).await;
    }
}

/// CH-09, CON-05: the channel beyond the limit is refused, and a number is used again once it is free.
#[actix::test]
async fn a_channel_beyond_the_limit_is_refused_by_the_client() {
    let mut bench =
        Bench::open_with(&actix_pika_actors::testing::HandshakeScript::new().tune(3, 0, 0), |_| {}).await;
    let mut channels = Vec::new();
    for number in 1..=3 {
        channels.push(bench.channel(number, OpenChannel::new().confirms(false)).await);
    }
    let error = ask(&bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let call = ask(&channels[1].actor, CloseChannel::new());
    bench.socket.expect::<channel::Close>(2).await.unwrap();
    // Not free before the broker has answered.
    let error = ask(&bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    bench.socket.send(2, channel::CloseOk {}).await.unwrap();
    call.answer().await.unwrap();
    bench.assert_works(2).await;
    for number in [0, 1, 4] {
        let call = ask(&bench.client.supervisor, OpenChannel::new().number(number));
        assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Limit);
    }
    assert!(bench.client.is_open());
}

/// CH-33, CNS: the queue of a consumer is deleted; earlier deliveries reach the consumer, and the broker is answered.
#[actix::test]
async fn a_consumer_cancelled_by_the_broker_ends_after_its_deliveries() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume(&channel).await;
    let names = basic::Deliver { consumer_tag: TAG.into(), delivery_tag: 1, ..Default::default() };
    let last = [
        RawFrame::method(1, names),
        RawFrame::header(1, 0, &Default::default()),
        RawFrame::method(1, basic::Cancel { consumer_tag: TAG.into(), nowait: true }),
    ];
    bench.socket.send_frames(&last).await.unwrap();
    let delivery = deliveries.next().await.expect("the delivery before the end");
    assert!(matches!(deliveries.next().await, Err(ConsumerEnd::CancelledByBroker)));
    let cancel =
        bench.socket.answer(1, |cancel: basic::Cancel| basic::CancelOk { consumer_tag: cancel.consumer_tag });
    assert_eq!(cancel.await.unwrap().consumer_tag.as_str(), TAG);
    delivery.ack().unwrap();
    assert_eq!(bench.socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag, 1);
    assert_eq!(channel.outbox.load().unsettled, 0);
    // The cancel of an ended or unknown consumer is sent to the broker, and succeeds.
    let cancel = basic::Cancel { consumer_tag: "nobody".into(), nowait: true };
    bench.socket.send(1, cancel).await.unwrap();
    bench.round_trip(&channel).await;
    let call = ask(&channel.actor, CancelConsumer::new(TAG));
    bench
        .socket
        .answer(1, |cancel: basic::Cancel| basic::CancelOk { consumer_tag: cancel.consumer_tag })
        .await
        .unwrap();
    call.answer().await.unwrap();
}

/// The broker cancels a consumer while the application cancels it.
#[actix::test]
async fn cancels_that_cross_end_the_consumer_once() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume(&channel).await;
    let call = ask(&channel.actor, CancelConsumer::new(TAG));
    bench.socket.expect::<basic::Cancel>(1).await.unwrap();
    bench.socket.send(1, basic::Cancel { consumer_tag: TAG.into(), nowait: true }).await.unwrap();
    bench.socket.send(1, basic::CancelOk { consumer_tag: TAG.into() }).await.unwrap();
    call.answer().await.unwrap();
    assert!(deliveries.next().await.is_err());
    bench.round_trip(&channel).await;
}

/// CNS-12: RabbitMQ 3.10 closes the connection for a cancel before its answer to the consume, so the cancel waits.
#[actix::test]
async fn a_cancel_waits_for_consume_ok() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries = Deliveries::new();
    let consume = || Consume::new().queue("jobs").tag(TAG);
    let begun = ask(&channel.actor, deliver_into(consume(), deliveries.sink.clone()));
    bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    bench.socket.expect::<basic::Consume>(1).await.unwrap();
    let cancels = [(); 2].map(|()| ask(&channel.actor, CancelConsumer::new(TAG)));
    // Later calls do not wait.
    bench.round_trip(&channel).await;
    assert!(!begun.is_answered() && cancels.iter().all(|cancel| !cancel.is_answered()));
    bench.socket.send(1, basic::ConsumeOk { consumer_tag: TAG.into() }).await.unwrap();
    begun.answer().await.unwrap();
    assert_eq!(bench.socket.expect::<basic::Cancel>(1).await.unwrap().consumer_tag.as_str(), TAG);
    bench.socket.deliver(1, TAG, 1, "for nobody").await.unwrap();
    bench.socket.send(1, basic::CancelOk { consumer_tag: TAG.into() }).await.unwrap();
    for cancel in cancels {
        cancel.answer().await.unwrap();
    }
    let nack = bench.socket.expect::<basic::Nack>(1).await.unwrap();
    assert_eq!((nack.delivery_tag, nack.requeue), (1, true));
    assert!(matches!(deliveries.next().await, Err(ConsumerEnd::Cancelled)));
    assert_eq!(channel.outbox.load().unsettled, 0);
    bench.round_trip(&channel).await;
    // The cancel of a consumer that is refused succeeds.
    let refused = ask(&channel.actor, deliver_into(consume(), Deliveries::new().sink));
    bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    bench.socket.expect::<basic::Consume>(1).await.unwrap();
    let cancel = ask(&channel.actor, CancelConsumer::new(TAG));
    bench.socket.close_channel(1, 404, "NOT_FOUND", 60, 20).await.unwrap();
    assert_eq!(refused.answer().await.unwrap_err().kind(), ErrorKind::Refused);
    cancel.answer().await.unwrap();
}

/// CH-36: `channel.flow` is answered with `channel.flow-ok`.
#[actix::test]
async fn flow_is_answered() {
    let mut bench = Bench::open().await;
    let _channel = bench.channel(1, OpenChannel::new()).await;
    for active in [false, true] {
        bench.socket.send(1, channel::Flow { active }).await.unwrap();
        assert_eq!(bench.socket.expect::<channel::FlowOk>(1).await.unwrap().active, active);
    }
}

/// CH-26: the last handle is dropped before a publish is confirmed: the channel closes after the confirm.
#[actix::test]
async fn a_released_channel_closes_once_nothing_is_in_flight() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let neighbour = bench.channel(2, OpenChannel::new().confirms(false)).await;
    channel.outbox.try_publish_text("jobs", "x");
    bench.socket.expect_publish(1).await.unwrap();
    channel.actor.do_send(ReleaseChannel);
    bench.socket.expect_nothing(std::time::Duration::from_millis(50)).await.unwrap();
    bench.socket.confirm(1, 1, false).await.unwrap();
    assert_eq!(at_once("channel.close", bench.socket.expect_channel_close(1)).await.unwrap().0, 200);
    bench.round_trip(&neighbour).await;
    bench.assert_works(1).await;
}

/// CH-32: the text is cut to what fits, at a character.
#[actix::test]
async fn a_reason_that_is_too_long_is_cut() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let call = ask(&channel.actor, CloseChannel::new().reason(200, "\u{e9}".repeat(200)));
    let (_, text) = bench.socket.expect_channel_close(1).await.unwrap();
    assert_eq!(text, "\u{e9}".repeat(127));
    call.answer().await.unwrap();
}

/// PRO-08, ACK: no ack is sent after `channel.close`: the broker would close the connection (504), and it requeues the
/// deliveries anyway.
#[actix::test]
async fn nothing_is_sent_after_a_close() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let mut deliveries = bench.consume(&channel).await;
    for tag in 1..=4 {
        bench.socket.deliver(1, TAG, tag, "x").await.unwrap();
    }
    let first = deliveries.next().await.unwrap();
    let (second, third) = (deliveries.next().await.unwrap(), deliveries.next().await.unwrap());
    first.ack().unwrap();
    let call = ask(&channel.actor, CloseChannel::new());
    // An earlier ack is sent before the close.
    assert_eq!(bench.socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag, 1);
    bench.socket.expect::<channel::Close>(1).await.unwrap();
    assert!(second.is_stale());
    assert_eq!(second.ack().unwrap_err().kind(), ErrorKind::ChannelClosed);
    drop((third, deliveries));
    let late = ask(&channel.actor, DeclareQueue::new("jobs")).answer().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ChannelClosed);
    ask(&channel.actor, CancelConsumer::new(TAG)).answer().await.unwrap();
    let late = ask(&channel.actor, Publish::new("", "jobs", "x")).answer().await.unwrap_err();
    assert_eq!((late.kind(), late.may_have_arrived()), (ErrorKind::ChannelClosed, false));
    bench.socket.expect_nothing(std::time::Duration::from_millis(50)).await.unwrap();
    bench.socket.send(1, channel::CloseOk {}).await.unwrap();
    call.answer().await.unwrap();
    bench.assert_works(1).await;
}
