//! A link that is cut over and over, at chosen bytes.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{
    oracle::Oracle,
    proxy::{Cut, Direction},
    robust_connection::RobustConnection,
    within,
};
use actix_pika::{Consume, Recovery};
use futures_util::StreamExt;

/// NET-05: a link that lives for 5,000 bytes at a time; nothing is acknowledged, and deliveries come all the same.
#[actix::test]
async fn deliveries_come_over_a_link_that_is_cut_every_five_kilobytes() {
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
        let mut kept = Vec::new();
        for _ in 0..50 {
            kept.push(within("a delivery", 30, deliveries.next()).await.unwrap());
        }
        assert!(kept.iter().all(|delivery| delivery.body().len() == 1200));
        robust.wait_for_loss().await;
        robust.proxy.stop_cutting();
        robust.proxy.cut_all(Cut::Rst);
        drop(kept);
        within("close", 10, robust.connection.close()).await.unwrap();
        oracle.wait_for_count("kilobytes", 50).await;
    }
}

/// NET-05: the same with acknowledgements and publishes: all arrive, and the queue empties.
#[actix::test]
async fn work_gets_done_over_a_link_that_is_cut_every_six_kilobytes() {
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
    // Those that were published again, or whose acknowledgement was lost.
    let oracle = within("the oracle", 10, Oracle::connect(&robust.vhost.url())).await;
    within("empty", 30, async {
        loop {
            tokio::select! {
                Some(delivery) = deliveries.next() => drop(delivery.ack()),
                look = oracle.queue_counts("work") => if look == Some((0, 1)) { break },
            }
        }
    })
    .await;
    within("close", 10, robust.connection.close()).await.unwrap();
    oracle.wait_for_count("work", 0).await;
}

/// NET-19: cut within and between the frames of a delivery: it comes again, whole.
#[actix::test]
async fn a_delivery_that_is_cut_in_two_comes_again_whole() {
    let mut robust = RobustConnection::connect().await;
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
    let tapes = robust.proxy.recordings();
    let frames: Vec<_> = tapes.iter().flat_map(|tape| tape.frames(Direction::ToClient)).collect();
    let at = frames.iter().rposition(|frame| frame.method() == Some((60, 60))).unwrap();
    let lengths: Vec<u64> = frames[at..at + 3].iter().map(|frame| frame.payload.len() as u64 + 8).collect();
    let [method, header, content] = lengths[..] else { panic!("{lengths:?}") };
    let cuts = [7, method, method + 3, method + header, method + header + 9, method + header + content - 1];
    for (n, cut) in cuts.into_iter().enumerate() {
        let n = n + 1;
        // The acknowledgement before has left.
        within("a call", 10, channel.set_qos(0)).await.unwrap();
        robust.proxy.cut_once_after(Direction::ToClient, cut, Cut::Fin);
        oracle.publish("", "halves", body(n)).await;
        robust.wait_for_loss().await;
        assert!(robust.wait_for_recovery().await.is_empty());
        let delivery = within("again", 10, deliveries.next()).await.unwrap();
        assert_eq!((delivery.body(), delivery.redelivered()), (&body(n)[..], true), "cut after {cut}");
        delivery.ack().unwrap();
    }
    within("close", 10, robust.connection.close()).await.unwrap();
    oracle.wait_for_count("halves", 0).await;
}
