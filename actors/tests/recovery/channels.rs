//! What happens to channels, calls and publishes over a reconnect.

use std::time::Duration;

use actix_pika_actors::{
    ConnectionEvent, DeclareExchange, DeclareQueue, ErrorKind, GetHealth, Health, OpenChannel, OpenedChannel,
    PauseConsumer,
    testing::{
        GetRecordCounts, HandshakeScript, HandshakeStep, Panic, RawFrame,
        protocol::{basic, channel as methods, confirm, connection, exchange, queue},
    },
};

use super::common::{
    TAG, answer_consume, ask, at_once,
    recovery::{RecoveryBench, declare_ok, publish},
};

/// Returns when the channel has handled the messages sent so far.
async fn mailbox_handled(channel: &OpenedChannel) {
    at_once("an answer", channel.actor.send(PauseConsumer::pause("nobody"))).await.unwrap().unwrap_err();
}

/// ACT-04, CON-19: a call without a reply fails as retryable. Calls made while the connection is down are sent after the
/// reconnect, in order, except those whose caller gave up; calls made with `do_send` are sent too.
#[actix::test]
async fn calls_wait_for_the_connection_in_their_order() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new().confirms(false)).await;
    let under_way = ask(&channel.actor, DeclareQueue::new("under way"));
    test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    test.disconnect().await;
    let error = under_way.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ConnectionClosed, true));
    let first = ask(&channel.actor, DeclareQueue::new("first").robust(false));
    let dropped = ask(&channel.actor, DeclareQueue::new("dropped"));
    mailbox_handled(&channel).await;
    channel.actor.do_send(DeclareExchange::topic("sent"));
    let last = ask(&channel.actor, DeclareQueue::new("last"));
    mailbox_handled(&channel).await;
    dropped.give_up().await;
    test.reconnect().await;
    test.bench.socket.open_channel(1).await.unwrap();
    declare_ok(&mut test.bench.socket, 1, "first").await;
    let sent = test.bench.socket.answer(1, |_: exchange::Declare| exchange::DeclareOk {}).await.unwrap();
    assert_eq!(sent.exchange.as_str(), "sent");
    declare_ok(&mut test.bench.socket, 1, "last").await;
    assert_eq!(first.answer().await.unwrap().name, "first");
    assert_eq!(last.answer().await.unwrap().name, "last");
    let records = test.bench.client.supervisor.send(GetRecordCounts).await.unwrap();
    assert_eq!((records.exchanges, records.queues), (1, 1));
}

/// ACT-04, design 13.9: calls and channel opens that wait for the connection have a deadline.
#[actix::test]
async fn calls_that_wait_for_the_connection_have_a_deadline() {
    let deadline = Duration::from_millis(60);
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new().deadline(deadline)).await;
    test.disconnect().await;
    let call = ask(&channel.actor, DeclareQueue::new("late"));
    let open = ask(&test.bench.client.supervisor, OpenChannel::new().deadline(deadline));
    let patient = ask(&test.bench.client.supervisor, OpenChannel::new().confirms(false));
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(open.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    test.reconnect_and_reopen().await;
    test.bench.socket.open_channel(3).await.unwrap();
    patient.answer().await.unwrap();
    test.recovered().await;
    test.bench.round_trip(&channel).await;
    test.bench.assert_works(2).await;
}

/// ACT-07, design 13.9: a panic in a Channel actor closes the connection, unless that is down anyway; handles, publishes
/// and consumers recover with the next one.
#[actix::test]
async fn a_channel_that_panics_recovers_with_another_connection() {
    for phase in ["open", "down", "recovering"] {
        let mut test = RecoveryBench::start().await;
        let channel = test.bench.channel(1, OpenChannel::new().window(1)).await;
        let mut deliveries = test.bench.consume(&channel).await;
        let first = publish(&channel, "first").await;
        let second = publish(&channel, "second").await;
        test.expect_publishes(&["first"]).await;
        if phase != "open" {
            test.disconnect().await;
        }
        if phase == "recovering" {
            test.reconnect().await;
            test.bench.socket.expect::<methods::Open>(1).await.unwrap();
        }
        let call = ask(&channel.actor, DeclareQueue::new("jobs"));
        if phase == "open" {
            test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
        }
        channel.actor.do_send(Panic);
        if phase != "down" {
            test.bench.socket.expect_close().await.unwrap();
            assert_eq!(test.lost().await.kind(), ErrorKind::Protocol);
        }
        test.reconnect().await;
        test.bench.socket.open_channel(1).await.unwrap();
        answer_consume(&mut test.bench.socket, 1).await;
        test.bench.socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
        test.expect_publishes(&["first"]).await;
        if phase == "open" {
            assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
        } else {
            declare_ok(&mut test.bench.socket, 1, "jobs").await;
            call.answer().await.unwrap();
        }
        test.bench.socket.confirm(1, 1, false).await.unwrap();
        assert_eq!(first.answer().await.unwrap().sequence(), Some(1));
        test.expect_publishes(&["second"]).await;
        test.bench.socket.confirm(1, 2, false).await.unwrap();
        assert_eq!(second.answer().await.unwrap().sequence(), Some(2));
        test.bench.socket.deliver(1, TAG, 1, "x").await.unwrap();
        deliveries.next().await.unwrap().ack().unwrap();
        test.bench.socket.expect::<basic::Ack>(1).await.unwrap();
        test.recovered().await;
    }
}

/// Design 13.10: the caller gets `Timeout` after the deadline; after one more deadline the channel is closed and
/// reopened, and unconfirmed publishes may have arrived.
#[actix::test]
async fn a_channel_without_replies_is_reopened() {
    let mut test = RecoveryBench::start().await;
    let options = OpenChannel::new().deadline(Duration::from_millis(150));
    let channel = test.bench.channel(1, options).await;
    let call = ask(&channel.actor, DeclareQueue::new("jobs"));
    test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    let close = test.bench.socket.expect::<methods::Close>(1).await.unwrap();
    assert_eq!(close.reply_code, 541);
    let waiting = ask(&channel.actor, DeclareQueue::new("others"));
    // Too late: it must not be taken for a reply to another call.
    let late = queue::DeclareOk { queue: "jobs".into(), ..Default::default() };
    test.bench.socket.send(1, late).await.unwrap();
    test.bench.socket.send(1, methods::CloseOk {}).await.unwrap();
    test.reopen_channel(1).await;
    declare_ok(&mut test.bench.socket, 1, "others").await;
    assert_eq!(waiting.answer().await.unwrap().name, "others");
    let call = publish(&channel, "goes on").await;
    test.expect_publishes(&["goes on"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    call.answer().await.unwrap();
}

/// Design 13.9: an unexpected reply during the redeclaration closes the connection; the next one redeclares.
#[actix::test]
async fn a_wrong_reply_to_a_redeclaration_causes_another_reconnect() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    declare_ok(&mut test.bench.socket, 1, "jobs").await;
    declare.answer().await.unwrap();
    let kept = publish(&channel, "kept").await;
    test.expect_publishes(&["kept"]).await;
    test.disconnect().await;
    test.reconnect().await;
    test.bench.socket.open_channel(2047).await.unwrap();
    test.bench.socket.answer(2047, |_: queue::Declare| queue::PurgeOk::default()).await.unwrap();
    test.bench.socket.expect_close().await.unwrap();
    assert_eq!(test.lost().await.kind(), ErrorKind::Protocol);
    test.reconnect().await;
    test.bench.socket.open_channel(2047).await.unwrap();
    declare_ok(&mut test.bench.socket, 2047, "jobs").await;
    test.bench.socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    test.reopen_channel(1).await;
    test.expect_publishes(&["kept"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    test.recovered().await;
}

/// BLK-08, REC-08: an alarm ends with its connection, even with one that its channels were never attached to; the next
/// connection reports its own.
#[actix::test]
async fn an_alarm_ends_with_its_connection() {
    let blocked = || connection::Blocked { reason: "low on memory".into() };
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    declare_ok(&mut test.bench.socket, 1, "jobs").await;
    declare.answer().await.unwrap();
    test.bench.socket.send(0, blocked()).await.unwrap();
    test.events.next_matching(|event| matches!(event, ConnectionEvent::Blocked(_))).await.unwrap();
    let held = publish(&channel, "held").await;
    assert_eq!(channel.outbox.load().waiting, 1);
    test.disconnect().await;
    // Blocked again, before the channel has recovered.
    test.reconnect().await;
    test.bench.socket.open_channel(2047).await.unwrap();
    test.bench.socket.send(0, blocked()).await.unwrap();
    test.events.next_matching(|event| matches!(event, ConnectionEvent::Blocked(_))).await.unwrap();
    let Health::Degraded(_) = test.bench.client.supervisor.send(GetHealth).await.unwrap() else {
        panic!("not degraded")
    };
    test.disconnect().await;
    test.reconnect().await;
    test.bench.socket.open_channel(2047).await.unwrap();
    declare_ok(&mut test.bench.socket, 2047, "jobs").await;
    test.bench.socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    test.reopen_channel(1).await;
    test.expect_publishes(&["held"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    held.answer().await.unwrap();
    test.recovered().await;
    assert!(test.bench.client.supervisor.send(GetHealth).await.unwrap().is_up());
    // Publishes wait on a connection whose open-ok and alarm arrive in one read.
    test.disconnect().await;
    test.reconnect_with(&HandshakeScript::new().silent_at(HandshakeStep::OpenOk)).await;
    let words = [RawFrame::method(0, connection::OpenOk {}), RawFrame::method(0, blocked())];
    test.bench.socket.send_frames(&words).await.unwrap();
    test.events.next_matching(|event| matches!(event, ConnectionEvent::Blocked(_))).await.unwrap();
    test.bench.socket.open_channel(2047).await.unwrap();
    declare_ok(&mut test.bench.socket, 2047, "jobs").await;
    test.bench.socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    test.reopen_channel(1).await;
    test.recovered().await;
    let held = publish(&channel, "held").await;
    assert_eq!(channel.outbox.load().waiting, 1);
    test.bench.socket.send(0, connection::Unblocked {}).await.unwrap();
    test.expect_publishes(&["held"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    held.answer().await.unwrap();
}
