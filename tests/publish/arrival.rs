//! Whether a publish that failed may have arrived, and what its error names.

use std::time::Duration;

use lapin::options::{BasicCancelOptions, BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use crate::support::{
    broker::Vhost,
    eventually,
    oracle::Oracle,
    proxy::{Cut, Direction},
    robust_connection::RobustConnection,
    within,
};
use actix_pika::{
    DeclareExchange, DeclareQueue, ErrorKind, OpenChannel, Publishing, connect, options::Overflow,
};

/// PUB-36: a publish that one of two queues refuses has arrived in the other one, and its error allows for that. It names
/// exchange, routing key and message id.
#[actix::test]
async fn a_publish_that_one_queue_of_two_refuses_may_have_arrived() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let exchange = channel.declare_exchange(DeclareExchange::fanout("all")).await.unwrap();
    let full = DeclareQueue::new("full").max_length(1).overflow(Overflow::RejectPublish);
    for declare in [full, DeclareQueue::new("roomy")] {
        channel.declare_queue(declare).await.unwrap().bind("all", "").await.unwrap();
    }
    within("a publish", 10, exchange.publish("one", "of the orders")).await.unwrap();
    let two = Publishing::new("two").message_id("order-7");
    let error = within("a nack", 10, exchange.publish(two, "of the orders")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Nacked, true), "{error}");
    Oracle::connect(&vhost.url()).await.wait_for_count("roomy", 2).await;
    assert!(error.may_have_arrived(), "{error}");
    assert_eq!(error.entity(), Some("all"));
    let text = error.to_string();
    assert!(text.contains("\"of the orders\"") && text.contains("\"order-7\""), "{text}");
}

/// PUB-37: a publish that arrived before the loss, and comes back when it is resent because its queue went with its
/// consumer, may have arrived. One that comes back the first time has not.
#[actix::test]
async fn a_resent_publish_that_comes_back_may_have_arrived() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let oracle = robust.oracle().await;
    let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    oracle.declare_queue_with("replies", options, FieldTable::default()).await;
    let consume = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consumer =
        oracle.channel().basic_consume("replies".into(), "c".into(), consume, FieldTable::default());
    let mut consumer = consumer.await.unwrap();
    robust.proxy.stall(Direction::ToClient);
    let exchange = channel.default_exchange();
    let confirm = within("room", 10, exchange.publish_deferred("the reply", "replies")).await.unwrap();
    let arrived =
        within("the reply", 10, futures_util::StreamExt::next(&mut consumer)).await.unwrap().unwrap();
    assert_eq!(arrived.data, b"the reply");
    oracle.channel().basic_cancel("c".into(), BasicCancelOptions::default()).await.unwrap();
    eventually("the end of the queue", 10, async || {
        oracle.queue_counts("replies").await.is_none().then_some(())
    })
    .await;
    robust.proxy.cut_all(Cut::Rst);
    robust.proxy.resume(Direction::ToClient);
    let error = within("a return", 20, confirm).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unroutable, Some(312)), "{error}");
    assert!(error.may_have_arrived(), "{error}");
    assert_eq!(error.returned().unwrap().body, "the reply");
    let error = within("a return", 20, exchange.publish("another", "replies")).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Unroutable, false), "{error}");
}

/// PUB-40: a publish that is made during an outage fails with the outage as its cause, and has not arrived. It is not
/// sent later.
#[actix::test]
async fn a_publish_of_an_outage_reports_the_outage() {
    let mut robust = RobustConnection::connect().await;
    let options = OpenChannel::new().deadline(Duration::from_millis(500));
    let channel = within("a channel", 10, robust.connection.channel_with(options)).await.unwrap();
    channel.declare_queue("jobs").await.unwrap();
    robust.proxy.reset_new().await;
    robust.proxy.cut_all(Cut::Rst);
    robust.wait_for_loss().await;
    let exchange = channel.default_exchange();
    let error = within("the deadline", 10, exchange.publish("lost", "jobs")).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, false), "{error}");
    assert!(error.is_retryable() && error.to_string().contains("there is no connection"), "{error}");
    // The failure of the last attempt to connect, or of the connection itself.
    assert!(error.io_kind().is_some(), "{error}");
    robust.proxy.accept_new().await;
    robust.wait_for_recovery().await;
    assert_eq!(channel.load().unconfirmed, 0);
    within("a publish", 10, exchange.publish("next", "jobs")).await.unwrap();
    assert_eq!(robust.oracle().await.drain_bodies("jobs").await, [b"next"]);
}

/// PUB-41: a commit, a declare or a delete whose reply is cut off may have taken effect; a call that changes nothing has
/// not.
#[actix::test]
async fn a_call_whose_reply_is_cut_off_may_have_taken_effect() {
    let mut robust = RobustConnection::connect_plain().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let with_tx = robust.connection.channel_with(OpenChannel::new().confirms(false)).await.unwrap();
    let transaction = with_tx.transaction().await.unwrap();
    with_tx.default_exchange().publish("committed", "jobs").await.unwrap();
    robust.proxy.record();
    robust.proxy.stall(Direction::ToClient);
    let calls = actix_rt::spawn(async move {
        tokio::join!(
            transaction.commit(),
            channel.declare_queue("more"),
            channel.get_queue("jobs"),
            queue.purge(),
        )
    });
    robust.proxy.wait_for_method(Direction::ToBroker, (90, 20), 0).await;
    robust.proxy.wait_for_method(Direction::ToBroker, (50, 30), 0).await;
    robust.proxy.cut_all(Cut::Rst);
    robust.proxy.resume(Direction::ToClient);
    let (commit, declare, passive, purge) = within("all answers", 10, calls).await.unwrap();
    let commit = commit.unwrap_err();
    assert_eq!((commit.kind(), commit.may_have_arrived()), (ErrorKind::ChannelClosed, true), "{commit}");
    for error in [declare.map(drop).unwrap_err(), purge.map(drop).unwrap_err()] {
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, true), "{error}");
        assert!(error.is_retryable());
    }
    let passive = passive.map(drop).unwrap_err();
    assert_eq!(
        (passive.kind(), passive.may_have_arrived()),
        (ErrorKind::ConnectionClosed, false),
        "{passive}"
    );
    robust.wait_for_recovery().await;
    // What was called behind a call that the broker refused was not done.
    let channel = robust.channel().await;
    let (refused, behind) = tokio::join!(
        channel.get_queue("missing"),
        channel.declare_exchange(DeclareExchange::fanout("behind"))
    );
    assert_eq!(refused.map(drop).unwrap_err().kind(), ErrorKind::Refused);
    let behind = behind.map(drop).unwrap_err();
    assert_eq!((behind.kind(), behind.may_have_arrived()), (ErrorKind::ChannelClosed, false), "{behind}");
}

/// PUB-52: who closes a channel or a connection himself cannot succeed by a retry.
#[actix::test]
async fn what_the_application_has_closed_is_not_retryable() {
    let mut robust = RobustConnection::connect().await;
    let [closed, late] = [robust.channel().await, robust.channel().await];
    within("close", 10, closed.close()).await.unwrap();
    let error = closed.default_exchange().publish("x", "jobs").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ChannelClosed, false), "{error}");

    robust.disconnect().await;
    let exchange = late.default_exchange();
    let waiting = actix_rt::spawn(async move { exchange.publish("x", "jobs").await.map(drop) });
    eventually("a publish", 10, async || (late.load().unconfirmed == 1).then_some(())).await;
    within("close", 10, robust.connection.close()).await.unwrap_err();
    let waiting = within("an outcome", 10, waiting).await.unwrap().unwrap_err();
    let new = late.default_exchange().publish("x", "jobs").await.unwrap_err();
    let declared = late.declare_queue("jobs").await.map(drop).unwrap_err();
    let opened = robust.connection.channel().await.map(drop).unwrap_err();
    for error in [waiting, new, declared, opened] {
        let says = (error.kind(), error.is_retryable(), error.may_have_arrived());
        assert_eq!(says, (ErrorKind::ConnectionClosed, false, false), "{error}");
    }
}
