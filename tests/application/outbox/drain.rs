//! The end of a relay.

use super::{LIMIT, event, texts};
use crate::support::{
    broker::Vhost, eventually, oracle::Oracle, proxy::*, robust_connection::RobustConnection, within,
};
use actix_pika::{
    connect,
    outbox::{Outbox, RelayEvent, To},
    shutdown::Shutdown,
    testing::Probe,
};
use std::time::Duration;

on_databases! {
    /// OBX-16: a drain awaits confirms, ends at its limit, and leaves what is not confirmed.
    async fn a_drain_awaits_confirms_and_ends_in_time(pool, outbox) {
        let robust = RobustConnection::connect().await;
        let oracle = robust.oracle().await;
        oracle.declare_queue("orders").await;
        let mut probe = Probe::<RelayEvent>::start();
        let relay = outbox.relay(&robust.connection).watch(probe.recipient()).start().await.unwrap();
        put!(outbox, To::queue("orders").lane("a"), "1");
        assert_eq!(texts(&oracle, "orders", 1).await, ["1"]);
        robust.proxy.stall(Direction::ToClient);
        put!(outbox, To::queue("orders").lane("a"), "2");
        within("it is published", 10, oracle.wait_for_count("orders", 1)).await;
        put!(outbox, To::queue("orders").lane("a"), "3");
        let report = within("the drain", 10, relay.drain(Duration::from_millis(300))).await;
        assert_eq!((report.finished, report.abandoned), (0, 1));
        assert!(!relay.is_running());
        assert_eq!(outbox.lag().await.unwrap().waiting, 2);
        let ended = event(&mut probe, |event| matches!(event, RelayEvent::Ended(_))).await;
        assert!(matches!(ended, RelayEvent::Ended(None)), "{ended:?}");
        robust.proxy.resume(Direction::ToClient);

        let next = outbox.relay(&robust.connection).start().await.unwrap();
        assert_eq!(texts(&oracle, "orders", 3).await, ["2", "2", "3"]);
        let deleted = async || (outbox.lag().await.unwrap().waiting == 0).then_some(());
        eventually("nothing is left", 10, deleted).await;
        robust.proxy.stall(Direction::ToClient);
        put!(outbox, To::queue("orders"), "4");
        within("it is published", 10, oracle.wait_for_count("orders", 1)).await;
        let (drain, resume) = (next.drain(LIMIT), async { robust.proxy.resume(Direction::ToClient) });
        let (report, ()) = within("the drain", 10, futures_util::future::join(drain, resume)).await;
        assert_eq!((report.finished, report.abandoned, report.given_back), (1, 0, 0));
        assert_eq!(outbox.lag().await.unwrap().waiting, 0);
    }

    /// OBX-17: a shutdown drains the relay before it closes the connection.
    async fn a_shutdown_drains_the_relay(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let relay = outbox.relay(&connection).start().await.unwrap();
        let shutdown = Shutdown::within(LIMIT).relay(relay.clone()).connection(connection.clone());
        let report = within("the shutdown", 20, shutdown.now()).await;
        assert!(connection.is_closed() && !relay.is_running(), "{report}");
        let free: i64 = sqlx::query_scalar("select count(*) from pika_outbox_lease where until <> 0")
            .fetch_one(&pool).await.unwrap();
        assert_eq!(free, 0);
    }
}

/// OBX-16: also on an arbiter that ends before the relay has begun.
#[cfg(feature = "sqlx")]
#[actix::test]
async fn a_drain_ends_though_the_relay_never_began() {
    let database = crate::databases::Sqlite::fresh();
    let outbox = Outbox::sqlite(database.pool().await);
    outbox.migrate().await.unwrap();
    let vhost = Vhost::fresh().await;
    let connection = connect(vhost.url()).await.unwrap();
    let arbiter = actix::Arbiter::new();
    // It is blocked until its end is ordered, and begins nothing that comes later.
    let ((begun, begins), (go, wait)) = (tokio::sync::oneshot::channel(), std::sync::mpsc::channel::<()>());
    arbiter.spawn_fn(move || {
        begun.send(()).unwrap();
        wait.recv().unwrap();
    });
    within("a blocked thread", 10, begins).await.unwrap();
    arbiter.stop();
    let relay = outbox.relay(&connection).arbiter(arbiter.handle()).start().await.unwrap();
    go.send(()).unwrap();
    let report = within("the drain", 10, relay.drain(Duration::from_millis(100))).await;
    assert_eq!(report, Default::default());
    assert!(!relay.is_running());
}

/// OBX-18: a `System` that ends with its relay panics nowhere: a connection of a pool would need a runtime to be dropped.
#[cfg(feature = "sqlx")]
#[test]
fn a_system_may_end_with_its_relay() {
    let database = crate::databases::Sqlite::fresh();
    let url = database.url();
    let thread = std::thread::spawn(move || {
        let system = actix::System::new();
        let kept = system.block_on(async {
            let pool = crate::databases::Sqlite::connect(&url).await;
            let outbox = Outbox::sqlite(pool);
            outbox.migrate().await.unwrap();
            let vhost = Vhost::fresh().await;
            let connection = connect(vhost.url()).await.unwrap();
            let oracle = Oracle::connect(&vhost.url()).await;
            oracle.declare_queue("orders").await;
            let relay = outbox.relay(&connection).start().await.unwrap();
            put!(outbox, To::queue("orders"), "1");
            assert_eq!(texts(&oracle, "orders", 1).await, ["1"]);
            relay
        });
        drop(system);
        drop(kept);
    });
    thread.join().expect("no panic");
}
