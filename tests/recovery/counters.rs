//! The counters of channels and connections, over a reconnect.

use std::time::Duration;

use actix_pika::{ErrorKind, OpenChannel};

use crate::support::{
    proxy::{Cut, Direction},
    robust_connection::RobustConnection,
    within,
};

/// CON-31: every counter is exact: over a reconnect, with publishes that are resent and messages that are delivered
/// again, and with a channel that is closed.
#[actix::test]
async fn counters_are_exact_over_a_reconnect() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let jobs = channel.declare_queue("jobs").await.unwrap();
    let exchange = channel.default_exchange();
    for _ in 0..6 {
        within("a confirm", 10, exchange.publish("x", "jobs")).await.unwrap();
    }
    let error = within("a return", 10, exchange.publish("x", "nowhere")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable);
    let mut deliveries = Vec::new();
    for _ in 0..6 {
        deliveries.push(within("a get", 10, jobs.get()).await.unwrap().unwrap());
    }
    // It is unsettled when the connection is lost.
    let sixth = deliveries.pop().unwrap();
    let mut deliveries = deliveries.into_iter();
    let mut next = || deliveries.next().unwrap();
    next().ack().unwrap();
    next().ack().unwrap();
    next().nack(false).unwrap();
    next().reject(false).unwrap();
    next().reject(true).unwrap();
    // A call comes behind the acks, so they have arrived.
    within("a purge", 10, jobs.purge()).await.unwrap();
    let counters = channel.counters();
    assert_eq!((counters.published, counters.confirmed, counters.returned), (7, 6, 1));
    assert_eq!((counters.delivered, counters.acked), (6, 2));
    assert_eq!((counters.deliveries_nacked, counters.deliveries_rejected, counters.requeued), (1, 2, 1));
    assert_eq!(channel.epoch(), 1);

    robust.proxy.stall(Direction::ToClient);
    let mut confirms = Vec::new();
    for _ in 0..3 {
        confirms.push(within("room", 10, exchange.publish_deferred("y", "jobs")).await.unwrap());
    }
    robust.proxy.cut_all(Cut::Rst);
    robust.proxy.resume(Direction::ToClient);
    robust.wait_for_loss().await;
    robust.wait_for_recovery().await;
    for confirm in confirms {
        assert_eq!(within("a confirm", 10, confirm).await.unwrap().epoch(), Some(2));
    }
    assert_eq!(sixth.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
    within("a get", 10, jobs.get()).await.unwrap().unwrap().ack().unwrap();
    let counters = channel.counters();
    assert_eq!((counters.published, counters.confirmed, counters.returned), (10, 9, 1));
    assert_eq!((counters.delivered, counters.acked, counters.publishes_nacked), (7, 3, 0));
    assert_eq!(counters.redelivered, 1, "the one that was unsettled, or was requeued");
    assert_eq!(channel.epoch(), 2);

    let other = robust.connection.channel_with(OpenChannel::new().confirms(false)).await.unwrap();
    for _ in 0..4 {
        within("room", 10, other.default_exchange().publish("z", "elsewhere")).await.unwrap();
    }
    within("close", 10, other.close()).await.unwrap();
    assert_eq!(other.counters().published, 4);
    let counters = robust.connection.counters();
    assert_eq!((counters.channels.published, counters.channels.confirmed), (14, 9));
    assert_eq!((counters.channels.acked, counters.channels.requeued), (3, 1));
    assert_eq!((counters.reconnects, counters.blocked), (1, Duration::ZERO));
    let load = robust.connection.load();
    assert_eq!((load.unconfirmed, load.unsettled, load.waiting, load.drained), (0, 0, 0, true));
    within("close", 10, robust.connection.close()).await.unwrap();
    assert_eq!(robust.connection.counters().channels, counters.channels, "all are closed");
}
