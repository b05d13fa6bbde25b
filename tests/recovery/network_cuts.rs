//! A link that is cut repeatedly, after given numbers of bytes.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{
    oracle::Oracle,
    proxy::{Cut, Direction},
    robust_connection::RobustConnection,
    within,
};
use actix_pika::{Consume, Recovery};
use futures_util::StreamExt;

/// NET-05: on a link that is cut every 5,000 bytes, 50 deliveries arrive although none is acknowledged.
#[actix::test]
async fn deliveries_arrive_on_a_link_cut_every_five_kilobytes() {
    for wait in [0, 25, 100] {
        let mut robust = RobustConnection::connect_with(|connector| {
            connector.recovery(Recovery::fixed(Duration::from_millis(wait)))
        })
        .await;
        let channel = robust.channel().await;
        let queue = channel.declare_queue("kilobytes").await.unwrap();
        let oracle = within("the oracle", 10, Oracle::connect(&robust.vhost.url())).await;
        for n in 0..50 {
            oracle.publish("", "kilobytes", format!("{n:01200}")).await;
        }
        robust.proxy.cut_each_after(Direction::ToClient, 5000, Cut::Rst);
        let mut deliveries = queue.deliveries_with(Consume::new().prefetch(5)).await.unwrap();
        let mut unsettled = Vec::new();
        for _ in 0..50 {
            unsettled.push(within("a delivery", 30, deliveries.next()).await.unwrap());
        }
        assert!(unsettled.iter().all(|delivery| delivery.body().len() == 1200));
        robust.wait_for_loss().await;
        robust.proxy.stop_cutting();
        robust.proxy.cut_all(Cut::Rst);
        drop(unsettled);
        within("close", 10, robust.connection.close()).await.unwrap();
        oracle.wait_for_count("kilobytes", 50).await;
    }
}

/// NET-05: on a link that is cut every few kilobytes, 50 messages are published, delivered and acknowledged.
#[actix::test]
async fn publishes_and_acks_arrive_on_a_link_cut_every_six_kilobytes() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("work").await.unwrap();
    let mut deliveries = queue.deliveries_with(Consume::new().prefetch(3)).await.unwrap();
    robust.proxy.cut_each_after(Direction::ToClient, 6000, Cut::Rst);
    robust.proxy.cut_each_after(Direction::ToBroker, 9000, Cut::Fin);
    let exchange = channel.default_exchange();
    let publisher = actix_rt::spawn(async move {
        for n in 0..50 {
            exchange.publish(format!("{n:01000}"), "work").await.unwrap();
        }
    });
    let mut seen = BTreeSet::new();
    while seen.len() < 50 {
        let delivery = within("a delivery", 30, deliveries.next()).await.unwrap();
        let n: u32 = std::str::from_utf8(delivery.body()).unwrap().parse().unwrap();
        if delivery.ack().is_ok() {
            seen.insert(n);
        }
    }
    assert_eq!(seen, (0..50).collect());
    within("the publisher", 30, publisher).await.unwrap();
    assert!(robust.proxy.accepted_count() > 5);
    robust.proxy.stop_cutting();
    // Takes the messages that were resent, and those whose ack was lost.
    let oracle = within("the oracle", 10, Oracle::connect(&robust.vhost.url())).await;
    within("an empty queue", 30, async {
        loop {
            tokio::select! {
                Some(delivery) = deliveries.next() => { let _ = delivery.ack(); }
                counts = oracle.queue_counts("work") => if counts == Some((0, 1)) { break },
            }
        }
    })
    .await;
    within("close", 10, robust.connection.close()).await.unwrap();
    oracle.wait_for_count("work", 0).await;
}

/// NET-19: a delivery that is cut within or between its frames is redelivered completely.
#[actix::test]
async fn a_partly_read_delivery_is_redelivered_completely() {
    let mut robust = RobustConnection::connect_plain().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("halves").await.unwrap();
    let oracle = within("the oracle", 10, Oracle::connect(&robust.vhost.url())).await;
    let body = |n: usize| vec![b'a' + u8::try_from(n).unwrap(); 500];
    robust.proxy.record();
    robust.cut_and_recover().await;
    let mut deliveries = queue.deliveries_with(Consume::new().tag("mine")).await.unwrap();
    oracle.publish("", "halves", body(0)).await;
    let first = within("the first", 10, deliveries.next()).await.unwrap();
    assert_eq!(first.body(), &body(0));
    first.ack().unwrap();
    let recordings = robust.proxy.recordings();
    let frames: Vec<_> =
        recordings.iter().flat_map(|recording| recording.frames(Direction::ToClient)).collect();
    let at = frames.iter().rposition(|frame| frame.method() == Some((60, 60))).unwrap();
    let lengths: Vec<u64> = frames[at..at + 3].iter().map(|frame| frame.payload.len() as u64 + 8).collect();
    let [method, header, content] = lengths[..] else { panic!("{lengths:?}") };
    let cuts = [7, method, method + 3, method + header, method + header + 9, method + header + content - 1];
    for (n, cut) in cuts.into_iter().enumerate() {
        let n = n + 1;
        // When this returns, the previous ack was sent.
        within("a call", 10, channel.set_qos(0)).await.unwrap();
        robust.proxy.cut_once_after(Direction::ToClient, cut, Cut::Fin);
        oracle.publish("", "halves", body(n)).await;
        robust.wait_for_loss().await;
        assert!(robust.wait_for_recovery().await.is_empty());
        let delivery = within("a redelivery", 10, deliveries.next()).await.unwrap();
        assert_eq!((delivery.body(), delivery.redelivered()), (&body(n)[..], true), "cut after {cut}");
        delivery.ack().unwrap();
    }
    within("close", 10, robust.connection.close()).await.unwrap();
    oracle.wait_for_count("halves", 0).await;
}
