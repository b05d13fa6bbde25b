//! One relay publishes at a time.

use super::{LIMIT, event, is_lost, is_taken, texts};
use crate::support::{
    broker::Vhost, eventually, oracle::Oracle, proxy::*, robust_connection::RobustConnection, within,
};
use actix::Arbiter;
use actix_pika::{
    connect,
    outbox::{RelayEvent, To},
    testing::Probe,
};
use std::{sync::mpsc, time::Duration};

const SHORT: Duration = Duration::from_secs(1);

on_databases! {
    /// OBX-10: of two relays one publishes, and the other one goes on at once when it is drained.
    async fn two_relays_publish_everything_once(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        let (mut first, mut second) = (Probe::<RelayEvent>::start(), Probe::<RelayEvent>::start());
        let holder = outbox.relay(&connection).watch(first.recipient()).start().await.unwrap();
        event(&mut first, is_taken).await;
        let standby = outbox.relay(&connection).watch(second.recipient()).start().await.unwrap();
        for n in 0..50 {
            put!(outbox, To::queue("orders").lane(n % 3), n);
        }
        let mut all = texts(&oracle, "orders", 50).await;
        all.sort_by_key(|text| text.parse::<u32>().unwrap());
        assert_eq!(all, (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(standby.counters().published, 0);
        let report = within("the drain", 10, holder.drain(LIMIT)).await;
        assert_eq!((report.abandoned, report.given_back), (0, 0));
        // The lease lasts for 10 seconds, and is not waited for.
        let RelayEvent::LeaseTaken { fence } = within("a holder", 5, event(&mut second, is_taken)).await else { panic!() };
        assert_eq!(fence, 2);
        put!(outbox, To::queue("orders"), "50");
        assert_eq!(texts(&oracle, "orders", 1).await, ["50"]);
        assert_eq!(holder.counters().published, 50);
        within("the drain", 10, standby.drain(LIMIT)).await;
    }

    /// OBX-11: a holder that stood still beyond its lease publishes nothing when it goes on.
    async fn a_holder_that_was_paused_has_lost_its_lease(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        let (mut first, mut second) = (Probe::<RelayEvent>::start(), Probe::<RelayEvent>::start());
        let arbiter = Arbiter::new();
        let paused = outbox.relay(&connection).lease(SHORT).arbiter(arbiter.handle()).watch(first.recipient());
        let paused = paused.start().await.unwrap();
        event(&mut first, is_taken).await;
        let (go_on, wait) = mpsc::channel::<()>();
        arbiter.spawn_fn(move || wait.recv().unwrap());
        let other = outbox.relay(&connection).lease(SHORT).watch(second.recipient()).start().await.unwrap();
        event(&mut second, is_taken).await;
        for n in 0..10 {
            put!(outbox, To::queue("orders").lane("a"), n);
        }
        go_on.send(()).unwrap();
        event(&mut first, is_lost).await;
        for n in 10..20 {
            put!(outbox, To::queue("orders").lane("a"), n);
        }
        let expected: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        assert_eq!(texts(&oracle, "orders", 20).await, expected);
        assert_eq!(paused.counters().published, 0);
        within("the drain", 10, paused.drain(LIMIT)).await;
        within("the drain", 10, other.drain(LIMIT)).await;
        assert_eq!(oracle.count("orders").await, 0);
        arbiter.stop();
    }

    /// OBX-12: what a holder has published after it lost the lease is not deleted by it.
    async fn a_lost_lease_deletes_nothing(pool, outbox) {
        let robust = RobustConnection::connect().await;
        let oracle = robust.oracle().await;
        oracle.declare_queue("orders").await;
        let mut probe = Probe::<RelayEvent>::start();
        let relay = outbox.relay(&robust.connection).watch(probe.recipient()).start().await.unwrap();
        put!(outbox, To::queue("orders"), "1");
        assert_eq!(texts(&oracle, "orders", 1).await, ["1"]);
        let deleted = async || (outbox.lag().await.unwrap().waiting == 0).then_some(());
        eventually("the row is deleted", 10, deleted).await;
        robust.proxy.stall(Direction::ToClient);
        put!(outbox, To::queue("orders"), "2");
        within("it is published", 10, oracle.wait_for_count("orders", 1)).await;
        let steal = "update pika_outbox_lease set holder = 'another', fence = fence + 1, until = 9000000000000";
        sqlx::query(steal).execute(&pool).await.unwrap();
        robust.proxy.resume(Direction::ToClient);
        event(&mut probe, is_lost).await;
        assert_eq!(outbox.lag().await.unwrap().waiting, 1);
        assert_eq!(relay.counters().published, 1);
        within("the drain", 10, relay.drain(LIMIT)).await;
        let lease: (String, i64) =
            sqlx::query_as("select holder, fence from pika_outbox_lease").fetch_one(&pool).await.unwrap();
        assert_eq!(lease, ("another".to_owned(), 2), "the drain ends no lease of others");
    }
}
