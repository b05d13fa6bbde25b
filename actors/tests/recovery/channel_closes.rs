//! Channels that the broker closes: reopened, or closed for good.

use actix_pika_actors::{
    ChannelEvent, DeclareQueue, ErrorKind, OpenChannel, WatchChannel,
    testing::{
        Probe,
        protocol::{confirm, queue},
    },
};

use super::common::{
    ask,
    recovery::{RecoveryBench, idle, publish},
};

/// Design 13.1, CH-05: when the broker closes a channel, written publishes fail; the rest is sent when it is reopened.
#[actix::test]
async fn a_closed_channel_fails_written_publishes_and_is_reopened() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new().window(3)).await;
    let mut events = Probe::<ChannelEvent>::start();
    channel.actor.send(WatchChannel(events.recipient())).await.unwrap();
    let mut failed = Vec::new();
    for body in ["1", "2", "3"] {
        failed.push(publish(&channel, body).await);
    }
    test.expect_publishes(&["1", "2", "3"]).await;
    test.bench.socket.confirm(1, 2, false).await.unwrap();
    test.bench.round_trip(&channel).await;
    failed.remove(1).answer().await.unwrap();
    test.bench.socket.close_channel(1, 404, "NOT_FOUND - no exchange", 60, 40).await.unwrap();
    for call in failed {
        let error = call.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, true));
        assert_eq!(error.close_reason().unwrap().code, 404);
    }
    let fourth = publish(&channel, "4").await;
    test.bench.socket.open_channel(1).await.unwrap();
    let fifth = publish(&channel, "5").await;
    test.bench.socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    test.expect_publishes(&["4", "5"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    assert_eq!(fourth.answer().await.unwrap().sequence(), Some(4));
    let event = events.next().await.unwrap();
    assert!(matches!(event, ChannelEvent::Reopened(cause) if cause.close_reason().unwrap().code == 404));
    // Then the connection is lost: the fifth is resent.
    test.disconnect_and_recover().await;
    test.expect_publishes(&["5"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    assert_eq!(fifth.answer().await.unwrap().sequence(), Some(5));
    assert_eq!(channel.outbox.load(), idle());
}

/// Design 13.1: after five closes within ten seconds, the sixth closes the channel for good; the connection stays open.
#[actix::test]
async fn a_channel_that_is_closed_repeatedly_is_closed_for_good() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    for _ in 0..5 {
        test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED", 0, 0).await.unwrap();
        test.reopen_channel(1).await;
        test.bench.round_trip(&channel).await;
    }
    let waiting = ask(&channel.actor, DeclareQueue::new("jobs"));
    test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED", 0, 0).await.unwrap();
    for call in [waiting, ask(&channel.actor, DeclareQueue::new("jobs"))] {
        let error = call.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 406));
    }
    test.bench.assert_works(1).await;
}

/// Design 13.1: the same while it recovers, for a reason that is not a consumer's.
#[actix::test]
async fn a_channel_that_cannot_recover_is_closed_for_good() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let in_flight = publish(&channel, "in flight").await;
    test.expect_publishes(&["in flight"]).await;
    test.disconnect().await;
    test.reconnect().await;
    for _ in 0..6 {
        test.bench.socket.open_channel(1).await.unwrap();
        test.bench.socket.expect::<confirm::Select>(1).await.unwrap();
        test.bench.socket.close_channel(1, 406, "PRECONDITION_FAILED", 85, 10).await.unwrap();
    }
    let error = in_flight.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, true));
    test.recovered().await;
    test.bench.assert_works(1).await;
}
