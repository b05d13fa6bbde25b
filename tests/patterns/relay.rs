//! Relays: consume, publish, confirm, acknowledge.

use crate::support::{broker::Vhost, oracle::Oracle, proxy::*, robust_connection::RobustConnection, within};
use actix_pika::{Channel, connect};
use std::{sync::Arc, time::Duration};

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Order(u32);

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Bill {
    order: u32,
}

impl From<Order> for Bill {
    fn from(Order(order): Order) -> Self {
        Self { order }
    }
}

/// Declares "orders" and "bills" and publishes orders with ids.
async fn orders(channel: &Channel, numbers: std::ops::Range<u32>) {
    channel.declare_queue("orders").await.unwrap();
    channel.declare_queue("bills").await.unwrap();
    let orders = channel.queue("orders").publisher::<Order>();
    for n in numbers {
        orders.publish_with(&Order(n), |message| message.message_id(format!("order-{n}"))).await.unwrap();
    }
}

/// Returns the ids and bodies of "bills", and checks that no order is left.
async fn bills(vhost: &Vhost) -> Vec<(String, String)> {
    let oracle = Oracle::connect(&vhost.url()).await;
    assert_eq!(oracle.count("orders").await, 0);
    let bills = oracle.drain("bills").await.into_iter().map(|bill| {
        let id = bill.properties.message_id().as_ref().map(|id| id.to_string()).unwrap_or_default();
        (id, String::from_utf8(bill.data).unwrap())
    });
    bills.collect()
}

fn bill(n: u32) -> (String, String) {
    (format!("order-{n}"), format!("{{\"order\":{n}}}"))
}

/// RLY-01: each message is published once in another form under its id, and those without a form are acknowledged.
#[actix::test]
async fn messages_are_published_and_acknowledged() {
    let vhost = Vhost::fresh().await;
    let connection = connect(vhost.url()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    orders(&channel, 0..200).await;
    let publisher = channel.queue("bills").publisher::<Bill>();
    let tasks = channel.queue("orders").tasks::<Order>().at_once(20);
    let relay = tasks.relay(&publisher, |order| (order.0 % 4 != 0).then(|| Bill::from(order))).await.unwrap();
    let oracle = Oracle::connect(&vhost.url()).await;
    within("the bills", 20, oracle.wait_for_count("bills", 150)).await;
    let report = within("the drain", 20, relay.drain(Duration::from_secs(10))).await;
    assert_eq!((report.abandoned, report.given_back), (0, 0));
    channel.close().await.unwrap();
    let mut expected: Vec<_> = (0..200).filter(|n| n % 4 != 0).map(bill).collect();
    let mut published = bills(&vhost).await;
    expected.sort();
    published.sort();
    assert_eq!(published, expected);
}

/// RLY-02: a message that cannot be published is not lost: it is published once its target is there.
#[actix::test]
async fn a_message_waits_for_its_target() {
    let vhost = Vhost::fresh().await;
    let connection = connect(vhost.url()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    orders(&channel, 7..8).await;
    channel.queue("bills").delete().await.unwrap();
    let publisher = channel.queue("bills").publisher::<Bill>();
    let (tried, mut tries) = tokio::sync::mpsc::unbounded_channel();
    let map = move |order| {
        tried.send(()).unwrap();
        Some(Bill::from(order))
    };
    let relay = channel.queue("orders").tasks::<Order>().relay(&publisher, map).await.unwrap();
    for _ in 0..2 {
        within("a try", 10, tries.recv()).await.unwrap();
    }
    let oracle = Oracle::connect(&vhost.url()).await;
    oracle.declare_queue("bills").await;
    within("the bill", 20, oracle.wait_for_count("bills", 1)).await;
    within("the drain", 20, relay.drain(Duration::from_secs(10))).await;
    channel.close().await.unwrap();
    assert_eq!(bills(&vhost).await, [bill(7)]);
}

/// RLY-03: a cut between publish and confirm: the publish is resent, and its message is not handled again.
#[actix::test]
async fn a_cut_before_the_confirm_loses_nothing() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    orders(&channel, 7..8).await;
    let oracle = robust.oracle().await;
    let proxy = Arc::new(robust.proxy);
    let stall = proxy.clone();
    let (tried, mut tries) = tokio::sync::mpsc::unbounded_channel();
    let map = move |order| {
        if tried.send(()).is_ok() {
            stall.stall(Direction::ToClient);
        }
        Some(Bill::from(order))
    };
    let publisher = channel.queue("bills").publisher::<Bill>();
    let relay = channel.queue("orders").tasks::<Order>().relay(&publisher, map).await.unwrap();
    within("the publish", 10, oracle.wait_for_count("bills", 1)).await;
    tries.close();
    proxy.cut_all(Cut::Rst);
    proxy.resume(Direction::ToClient);
    within("the resent publish", 20, oracle.wait_for_count("bills", 2)).await;
    within("the drain", 20, relay.drain(Duration::from_secs(10))).await;
    within("the close", 10, robust.connection.close()).await.unwrap();
    assert_eq!(bills(&robust.vhost).await, [bill(7), bill(7)]);
    assert_eq!((tries.recv().await, tries.recv().await), (Some(()), None), "it ran once");
}

/// RLY-04: a cut between confirm and ack: the message is delivered and published again, under the same id.
#[actix::test]
async fn a_cut_before_the_ack_loses_nothing() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    orders(&channel, 7..8).await;
    let direct = connect(robust.vhost.url()).await.unwrap();
    let publisher = direct.channel().await.unwrap().queue("bills").publisher::<Bill>();
    let oracle = robust.oracle().await;
    let proxy = Arc::new(robust.proxy);
    let stall = proxy.clone();
    let mut first = true;
    let map = move |order| {
        if std::mem::take(&mut first) {
            stall.stall(Direction::ToBroker);
        }
        Some(Bill::from(order))
    };
    let relay = channel.queue("orders").tasks::<Order>().relay(&publisher, map).await.unwrap();
    within("the publish", 10, oracle.wait_for_count("bills", 1)).await;
    // Its ack is written, and does not arrive.
    crate::support::until_unsettled(&channel, 0).await;
    proxy.cut_all(Cut::Rst);
    proxy.resume(Direction::ToBroker);
    within("the second publish", 20, oracle.wait_for_count("bills", 2)).await;
    within("the drain", 20, relay.drain(Duration::from_secs(10))).await;
    within("the close", 10, robust.connection.close()).await.unwrap();
    assert_eq!(bills(&robust.vhost).await, [bill(7), bill(7)]);
}

/// RLY-05: over cuts at any place, each message arrives, and no id is made up.
#[actix::test]
async fn cuts_at_any_place_lose_nothing() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let direct = connect(robust.vhost.url()).await.unwrap().channel().await.unwrap();
    orders(&direct, 0..0).await;
    let publisher = channel.queue("bills").publisher::<Bill>();
    let tasks = channel.queue("orders").tasks::<Order>().at_once(10).prefetch(20);
    let relay = tasks.relay(&publisher, |order| Some(Bill::from(order))).await.unwrap();
    for round in 0..8 {
        let direction = if round % 2 == 0 { Direction::ToClient } else { Direction::ToBroker };
        robust.proxy.cut_once_after(direction, 300 + 517 * u64::from(round), Cut::Rst);
        orders(&direct, round * 60..(round + 1) * 60).await;
        robust.wait_for_loss().await;
        robust.wait_for_recovery().await;
    }
    robust.proxy.stop_cutting();
    let oracle = robust.oracle().await;
    crate::support::eventually("all bills", 30, async || {
        (oracle.count("orders").await == 0 && channel.load().unsettled == 0).then_some(())
    })
    .await;
    within("the drain", 20, relay.drain(Duration::from_secs(10))).await;
    within("the close", 10, robust.connection.close()).await.unwrap();
    let mut published = bills(&robust.vhost).await;
    published.sort();
    published.dedup();
    let mut expected: Vec<_> = (0..480).map(bill).collect();
    expected.sort();
    assert_eq!(published, expected);
}
