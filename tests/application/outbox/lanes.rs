//! The order within lanes, whatever happens: rolled back transactions, cuts of the connection, a queue that is full.

use crate::support::{broker::Vhost, eventually, oracle::Oracle, proxy::*, within};
use actix_pika::{Connector, DeclareQueue, Recovery, connect, options::Overflow, outbox::To};
use sqlx::{query, query_as, query_scalar};
use std::{collections::HashSet, time::Duration};

const LANES: u32 = 4;

/// Returns the ids of messages in the order of their first arrival, until there are `n`, from a queue.
async fn first_arrivals(oracle: &Oracle, n: usize) -> Vec<String> {
    let (mut seen, mut arrived) = (HashSet::new(), Vec::new());
    while arrived.len() < n {
        let message = eventually("another message", 60, async || oracle.get("orders").await).await;
        let id = message.properties.message_id().as_ref().unwrap().to_string();
        if seen.insert(id.clone()) {
            arrived.push(id);
        }
    }
    arrived
}

on_databases! {
    /// OBX-22: over cuts of the connection and a queue that is full at times, each lane arrives in the order of its
    /// commits, and no row is lost.
    async fn lanes_stay_in_order_whatever_happens(pool, outbox) {
        query("create table written (n bigint, lane bigint, message_id text)").execute(&pool).await.unwrap();
        let vhost = Vhost::fresh_plain().await;
        let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
        // What does not fit is nacked.
        let queue = DeclareQueue::new("orders").max_length(2).overflow(Overflow::RejectPublish);
        channel.declare_queue(queue).await.unwrap();
        let proxy = Proxy::to(&vhost.broker().address());
        let connector = Connector::new(&proxy.url(&vhost.url())).unwrap().recovery(Recovery::default());
        let relay = outbox.relay(&connector.connect().await.unwrap());
        let relay = relay.poll(Duration::from_millis(20)).start().await.unwrap();
        let writers = (0..LANES).map(|writer| {
            let outbox = outbox.clone();
            actix_rt::spawn(async move {
                for n in 0..40u32 {
                    // Two writers of a lane at a time, one of which may wait for the other.
                    let lane = (writer + n) % LANES;
                    let mut tx = outbox.begin().await.unwrap();
                    let queued = outbox.publish(&mut tx, To::queue("orders").lane(lane), &n).await.unwrap();
                    let last: Option<i64> = query_scalar("select max(n) from written where lane = $1")
                        .bind(i64::from(lane)).fetch_one(&mut *tx).await.unwrap();
                    query("insert into written values ($1, $2, $3)")
                        .bind(last.unwrap_or_default() + 1).bind(i64::from(lane)).bind(&queued.message_id)
                        .execute(&mut *tx).await.unwrap();
                    match n % 5 {
                        4 => tx.rollback().await.unwrap(),
                        _ => tx.commit().await.unwrap(),
                    }
                }
            })
        });
        let writers = futures_util::future::join_all(writers);
        let oracle = Oracle::connect(&vhost.url()).await;
        let total = (LANES * 32) as usize;
        let cuts = async {
            for cut in 0..6u64 {
                let at = proxy.byte_count(Direction::ToBroker) + 1_500 + 300 * cut;
                // When everything is published, there is nothing to cut.
                let reached = proxy.wait_for_bytes(Direction::ToBroker, at);
                if tokio::time::timeout(Duration::from_secs(3), reached).await.is_ok() {
                    proxy.cut_all(Cut::Rst);
                }
            }
        };
        let (written, arrived, ()) = within("all messages", 120, async {
            futures_util::join!(writers, first_arrivals(&oracle, total), cuts)
        }).await;
        for writer in written {
            writer.unwrap();
        }
        for lane in 0..i64::from(LANES) {
            let rows: Vec<(i64, String)> = query_as("select n, message_id from written where lane = $1 order by n")
                .bind(lane).fetch_all(&pool).await.unwrap();
            let written: Vec<_> = rows.into_iter().map(|(_, id)| id).collect();
            let in_lane: Vec<_> = arrived.iter().filter(|id| written.contains(id)).cloned().collect();
            assert_eq!(in_lane, written, "lane {lane}");
        }
        within("the drain", 20, relay.drain(Duration::from_secs(10))).await;
        let left: i64 = query_scalar("select count(*) from pika_outbox").fetch_one(&pool).await.unwrap();
        assert_eq!(left, 0);
    }

    /// OBX-23: a row whose hold runs out while the relay reads is not overtaken by a later one of its lane.
    async fn a_hold_that_runs_out_during_a_read_lets_nobody_pass(pool, outbox) {
        let vhost = Vhost::fresh_plain().await;
        let connection = connect(vhost.url()).await.unwrap();
        connection.channel().await.unwrap().declare_queue("orders").await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        let relay = outbox.relay(&connection).poll(Duration::from_millis(1)).start().await.unwrap();
        for round in 0..5 {
            let mut tx = outbox.begin().await.unwrap();
            let first = outbox.publish(&mut tx, To::queue("orders").lane("a"), &round).await.unwrap();
            let held = "update pika_outbox set held_until = created + 1500, tries = 1";
            query(held).execute(&mut *tx).await.unwrap();
            // A read takes longer with them, so that the hold runs out during one.
            let others = outbox.publish_all(&mut tx, (0..4_000).map(|_| (To::queue("orders").lane("held"), &round))).await.unwrap();
            query("update pika_outbox set held_until = 9223372036854775807 where lane = 'held'")
                .execute(&mut *tx).await.unwrap();
            let second = outbox.publish(&mut tx, To::queue("orders").lane("a"), &round).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(others.len(), 4_000);
            let arrived = within("both", 60, first_arrivals(&oracle, 2)).await;
            assert_eq!(arrived, [first.message_id, second.message_id], "round {round}");
            query("delete from pika_outbox").execute(&pool).await.unwrap();
        }
        within("the drain", 20, relay.drain(Duration::from_secs(10))).await;
    }
}
