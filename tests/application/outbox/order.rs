//! What is committed is published, in order in each lane.

use super::{LIMIT, texts};
use crate::support::{
    broker::Vhost, eventually, oracle::Oracle, proxy::*, robust_connection::RobustConnection, within,
};
use actix_pika::{codec::Raw, connect, outbox::To};
use std::time::Duration;

on_databases! {
    /// OBX-03: what is committed is published once, with its properties; what is rolled back is not.
    async fn what_is_committed_is_published(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        let relay = outbox.relay(&connection).start().await.unwrap();

        let mut rolled_back = outbox.begin().await.unwrap();
        outbox.publish(&mut rolled_back, To::queue("orders"), &0).await.unwrap();
        rolled_back.rollback().await.unwrap();
        let mut tx = outbox.begin().await.unwrap();
        let to = To::queue("orders").lane("a").header("version", 2).message_type("placed");
        let queued = outbox.publish(&mut tx, to, &vec![7]).await.unwrap();
        assert!(queued.is_new && queued.message_id.len() == 36, "{queued:?}");
        let own = || To::queue("orders").codec(Raw).message_id("order-8");
        let (one, other) = ("first".to_owned(), "second".to_owned());
        let both = outbox.publish_all(&mut tx, [(own(), &one), (own(), &other)]).await.unwrap();
        assert_eq!(both.iter().map(|one| (&*one.message_id, one.is_new)).collect::<Vec<_>>(), [("order-8", true), ("order-8", false)]);
        let again = outbox.publish(&mut tx, own(), &other).await.unwrap();
        assert!(!again.is_new);
        assert_eq!(outbox.publish_all(&mut tx, Vec::<(To, &u8)>::new()).await.unwrap(), []);
        tx.commit().await.unwrap();

        within("both", 20, oracle.wait_for_count("orders", 2)).await;
        let mut messages = oracle.drain("orders").await;
        messages.sort_by_key(|message| message.data.len());
        let [placed, own] = messages.try_into().unwrap();
        let (own_body, placed_body) = (own.data, placed.data);
        assert_eq!((&*placed_body, &*own_body), (&b"[7]"[..], &b"first"[..]));
        let id = |properties: &lapin::BasicProperties| properties.message_id().as_ref().unwrap().to_string();
        assert_eq!(id(&placed.properties), queued.message_id);
        assert_eq!(id(&own.properties), "order-8");
        assert_eq!(placed.properties.kind().as_ref().unwrap().as_str(), "placed");
        assert_eq!(placed.properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(*placed.properties.delivery_mode(), Some(2));
        assert!(placed.properties.headers().as_ref().unwrap().inner().contains_key("version"));
        let empty = async || (relay.lag().await.unwrap().waiting == 0).then_some(());
        eventually("an empty outbox", 10, empty).await;
        assert_eq!(relay.counters().published, 2);
        within("the drain", 10, relay.drain(LIMIT)).await;
    }

    /// OBX-04: cuts at any byte keep the order of each lane, and lose nothing.
    async fn lanes_keep_their_order_over_cuts(pool, outbox) {
        let mut robust = RobustConnection::connect().await;
        let oracle = robust.oracle().await;
        oracle.declare_queue("orders").await;
        let lanes = ["a", "b", "c", "-"];
        for n in 0..40 {
            let mut tx = outbox.begin().await.unwrap();
            for lane in lanes {
                let to = To::queue("orders").codec(Raw);
                let to = if lane == "-" { to } else { to.lane(lane) };
                outbox.publish(&mut tx, to, &format!("{lane}{n:02}")).await.unwrap();
            }
            tx.commit().await.unwrap();
        }
        robust.proxy.cut_once_after(Direction::Both, 3_000, Cut::Rst);
        let relay = outbox.relay(&robust.connection).batch(50).start().await.unwrap();
        robust.wait_for_loss().await;
        robust.proxy.cut_once_after(Direction::Both, 5_000, Cut::Rst);
        let empty = async || (outbox.lag().await.unwrap().waiting == 0).then_some(());
        eventually("an empty outbox", 60, empty).await;
        within("the drain", 10, relay.drain(LIMIT)).await;
        let mut seen = Vec::new();
        for text in oracle.drain_bodies("orders").await {
            let text = String::from_utf8(text).unwrap();
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
        for lane in lanes {
            let of_lane: Vec<_> = seen.iter().filter(|text| text.starts_with(lane)).cloned().collect();
            let mut expected: Vec<_> = (0..40).map(|n| format!("{lane}{n:02}")).collect();
            if lane == "-" {
                let mut any_order = of_lane.clone();
                any_order.sort();
                expected.sort();
                assert_eq!(any_order, expected);
            } else {
                assert_eq!(of_lane, expected);
            }
        }
    }

    /// OBX-05: what another process has written is found, though nothing wakes the relay.
    async fn the_rows_of_another_process_are_found(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        let relay = outbox.relay(&connection).poll(Duration::from_millis(20)).start().await.unwrap();
        sqlx::query(
            "insert into pika_outbox (message_id, exchange, routing_key, mandatory, properties, body, created)
             values ('x', '', 'orders', true, $1, $2, 0)",
        )
        .bind(&[0u8, 0][..])
        .bind(&b"by hand"[..])
        .execute(&pool)
        .await
        .unwrap();
        assert_eq!(texts(&oracle, "orders", 1).await, ["by hand"]);
        within("the drain", 10, relay.drain(LIMIT)).await;
    }

    /// OBX-04: a batch has a bounded number of rows and bytes; a large row comes alone.
    async fn a_batch_is_bounded(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        let outbox = outbox.body_max(20 << 20);
        // Over the bytes of a batch, if the broker takes that: from 4.0 on it takes as many.
        let large = vhost.broker().largest_body().await.min(17 << 20);
        for size in [6 << 20, 6 << 20, large, 6 << 20, 1, 1, 1] {
            put!(outbox, To::queue("orders").lane("a"), "x".repeat(size));
        }
        let relay = outbox.relay(&connection).batch(2).start().await.unwrap();
        within("the messages", 30, oracle.wait_for_count("orders", 7)).await;
        let sizes: Vec<_> = oracle.drain_bodies("orders").await.iter().map(|body| body.len() >> 20).collect();
        assert_eq!(sizes, [6, 6, large >> 20, 6, 0, 0, 0]);
        within("the drain", 10, relay.drain(LIMIT)).await;
    }
}
