//! Messages that the broker refuses, and rows that cannot be read.

use super::{LIMIT, event, texts};
use crate::support::{broker::Vhost, eventually, oracle::Oracle, within};
use actix_pika::{
    DeclareExchange, DeclareQueue, ErrorKind, connect, connect_robust,
    message::Properties,
    options::Overflow,
    outbox::{RelayEvent, To},
    testing::Probe,
};
use std::time::Duration;

fn is_parked(event: &RelayEvent) -> bool {
    matches!(event, RelayEvent::Parked { .. })
}

on_databases! {
    /// OBX-06: an unroutable message is parked and stops its lane only; unparked, it is published before the others of its
    /// lane.
    async fn what_is_unroutable_is_parked_until_it_is_unparked(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        let parked = put!(outbox, To::exchange("amq.direct").key("mails").lane("a"), "a1");
        put!(outbox, To::exchange("amq.direct").key("mails").lane("a"), "a2");
        put!(outbox, To::queue("orders").lane("b"), "b1");
        put!(outbox, To::queue("orders"), "-1");
        put!(outbox, To::exchange("amq.direct").key("nobody").mandatory(false), "dropped");
        let mut probe = Probe::<RelayEvent>::start();
        let relay = outbox.relay(&connection).watch(probe.recipient()).start().await.unwrap();
        let mut others = texts(&oracle, "orders", 2).await;
        others.sort();
        assert_eq!(others, ["-1", "b1"]);
        let RelayEvent::Parked { message_id, lane, reason, .. } = event(&mut probe, is_parked).await else { panic!() };
        assert_eq!((&message_id, lane.as_deref()), (&parked.message_id, Some("a")));
        assert!(reason.contains("312"), "{reason}");
        let listed = outbox.parked().await.unwrap();
        assert_eq!((listed.len(), listed[0].tries, &listed[0].reason), (1, 1, &reason));
        assert_eq!((&*listed[0].exchange, &*listed[0].routing_key), ("amq.direct", "mails"));
        let settled = async || { let lag = outbox.lag().await.unwrap(); ((lag.waiting, lag.parked) == (1, 1)).then_some(()) };
        eventually("the others are published", 10, settled).await;

        oracle.declare_queue("mails").await;
        oracle.bind("mails", "amq.direct", "mails").await;
        assert!(!outbox.unpark("another").await.unwrap());
        assert!(outbox.unpark(&parked.message_id).await.unwrap());
        assert_eq!(texts(&oracle, "mails", 2).await, ["a1", "a2"]);
        within("the drain", 10, relay.drain(LIMIT)).await;
        let counters = relay.counters();
        assert_eq!((counters.published, counters.parked, counters.retried), (5, 1, 0));
    }

    /// OBX-07: what the broker does not take is tried again, and parked after the tenth time; a prune gives it up, and its
    /// lane goes on.
    async fn what_is_nacked_is_tried_again_and_then_parked(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let channel = connection.channel().await.unwrap();
        let full = DeclareQueue::new("full").max_length(0).overflow(Overflow::RejectPublish);
        channel.declare_queue(full).await.unwrap();
        channel.declare_queue("orders").await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        let nacked = put!(outbox, To::queue("full").lane("a"), "a1");
        sqlx::query("update pika_outbox set tries = 8").execute(&pool).await.unwrap();
        put!(outbox, To::queue("orders").lane("a"), "a2");
        let mut probe = Probe::<RelayEvent>::start();
        let relay = outbox.relay(&connection).watch(probe.recipient()).start().await.unwrap();
        let retried = async || (relay.counters().retried == 1).then_some(());
        eventually("the ninth refusal", 10, retried).await;
        // Not to wait for 25 seconds.
        sqlx::query("update pika_outbox set held_until = 0 where tries = 9").execute(&pool).await.unwrap();
        let RelayEvent::Parked { message_id, .. } = event(&mut probe, is_parked).await else { panic!() };
        assert_eq!(message_id, nacked.message_id);
        let listed = outbox.parked().await.unwrap();
        assert_eq!((listed.len(), listed[0].tries), (1, 10));
        assert_eq!(outbox.prune(Duration::from_secs(3_600)).await.unwrap(), 0, "it is younger");
        assert_eq!(oracle.count("orders").await, 0);
        assert_eq!(outbox.prune(Duration::ZERO).await.unwrap(), 1);
        assert_eq!(texts(&oracle, "orders", 1).await, ["a2"]);
        within("the drain", 10, relay.drain(LIMIT)).await;
    }

    /// OBX-08: a message for an exchange that is missing waits for it, and its lane with it; others do not.
    async fn a_missing_exchange_is_waited_for(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect_robust(vhost.url()).await.unwrap();
        let channel = connection.channel().await.unwrap();
        let orders = channel.declare_queue("orders").await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        put!(outbox, To::exchange("later").lane("a"), "a1");
        put!(outbox, To::queue("orders").lane("a"), "a2");
        put!(outbox, To::queue("orders").lane("b"), "b1");
        let relay = outbox.relay(&connection).start().await.unwrap();
        assert_eq!(texts(&oracle, "orders", 1).await, ["b1"]);
        let retried = async || (relay.counters().retried > 0).then_some(());
        eventually("a refusal", 10, retried).await;
        channel.declare_exchange(DeclareExchange::fanout("later")).await.unwrap();
        orders.bind("later", "").await.unwrap();
        assert_eq!(texts(&oracle, "orders", 2).await, ["a1", "a2"]);
        within("the drain", 10, relay.drain(LIMIT)).await;
    }

    /// OBX-25: headers that do not fit a frame are parked; a body that is larger than the window of the relay is published.
    async fn what_is_large_is_published_or_parked(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        // The window of the relay is 32 MiB. From 4.0 on the broker allows less in one body.
        let large = vhost.broker().largest_body().await.min(33 << 20);
        let outbox = outbox.body_max(64 << 20);
        put!(outbox, To::queue("orders").header("x", "y".repeat(200_000)), "headers");
        put!(outbox, To::queue("orders"), "small");
        put!(outbox, To::queue("orders"), "z".repeat(large));
        let relay = outbox.relay(&connection).start().await.unwrap();
        let sizes: Vec<_> = texts(&oracle, "orders", 2).await.iter().map(String::len).collect();
        assert_eq!(sizes, [5, large]);
        let parked = async || (relay.counters().parked == 1).then_some(());
        eventually("the headers are parked", 10, parked).await;
        let parked = outbox.parked().await.unwrap();
        assert!(parked[0].reason.contains("frame"), "{}", parked[0].reason);
        within("the drain", 10, relay.drain(LIMIT)).await;
    }

    /// OBX-26: on a connection that does not reconnect, a message for which the broker closes the channel is the only one that
    /// is held against its row.
    async fn a_closed_channel_is_held_against_no_other_message(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        for n in 0..40 {
            put!(outbox, To::queue("orders").lane(n % 4), n);
        }
        let wrong = put!(outbox, To::queue("orders").properties(Properties::new().with_user_id("somebody")), "wrong");
        for n in 40..80 {
            put!(outbox, To::queue("orders").lane(n % 4), n);
        }
        let mut probe = Probe::<RelayEvent>::start();
        let relay = outbox.relay(&connection).watch(probe.recipient()).start().await.unwrap();
        let RelayEvent::Parked { message_id, .. } = event(&mut probe, is_parked).await else { panic!() };
        assert_eq!(message_id, wrong.message_id);
        let arrived = async || (oracle.count("orders").await >= 80).then_some(());
        eventually("the others", 10, arrived).await;
        within("the drain", 10, relay.drain(LIMIT)).await;
        let counters = relay.counters();
        assert_eq!((counters.published, counters.parked, counters.retried), (80, 1, 0));
    }

    /// OBX-24: an empty message id, which the next message with one would share, is refused; nothing is written.
    async fn an_empty_message_id_is_refused(pool, outbox) {
        let mut tx = outbox.begin().await.unwrap();
        for to in [To::queue("orders").message_id(""), To::queue("orders").properties(Properties::new().with_message_id(""))] {
            let refused = outbox.publish(&mut tx, to, &1).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
        }
        tx.commit().await.unwrap();
        assert_eq!(outbox.lag().await.unwrap().waiting, 0);
    }

    /// OBX-09: a row that cannot be read is parked, and costs no other one.
    async fn a_row_that_is_corrupt_is_parked(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        // Flags without their properties, headers that are too long, a name of an unknown type.
        let corrupt = [vec![0xff, 0xff], vec![0x20, 0, 0, 0, 0, 99, 1], vec![0x20, 0, 0, 0, 0, 3, 1, b'a', b'?'], vec![]];
        for properties in &corrupt {
            let queued = put!(outbox, To::queue("orders"), "corrupt");
            let update = "update pika_outbox set properties = $1 where message_id = $2";
            sqlx::query(update).bind(properties).bind(queued.message_id).execute(&pool).await.unwrap();
        }
        let long = put!(outbox, To::queue("orders"), "long");
        let update = "update pika_outbox set routing_key = $1 where message_id = $2";
        sqlx::query(update).bind("x".repeat(300)).bind(long.message_id).execute(&pool).await.unwrap();
        put!(outbox, To::queue("orders"), "sound");
        let relay = outbox.relay(&connection).start().await.unwrap();
        assert_eq!(texts(&oracle, "orders", 1).await, ["sound"]);
        let parked = async || (relay.counters().parked == 5).then_some(());
        eventually("the others are parked", 10, parked).await;
        let reasons: Vec<_> = outbox.parked().await.unwrap().into_iter().map(|parked| parked.reason).collect();
        assert!(reasons[..4].iter().all(|reason| reason.contains("properties")), "{reasons:?}");
        assert!(reasons[4].contains("255"), "{reasons:?}");
        assert_eq!(outbox.unpark_all().await.unwrap(), 5);
        let again = async || (relay.counters().parked == 10).then_some(());
        eventually("they are parked again", 10, again).await;
        within("the drain", 10, relay.drain(LIMIT)).await;
    }
}
