//! Broker and database that fail, and a relay that panics.

use super::{LIMIT, event, is_taken, texts};
use crate::support::{
    broker::Vhost, eventually, oracle::Oracle, robust_connection::RobustConnection, within,
};
use actix_pika::{
    connect,
    outbox::{RelayEvent, To, Wake},
    testing::Probe,
};

fn is_ended(event: &RelayEvent) -> bool {
    matches!(event, RelayEvent::Ended(_))
}

on_databases! {
    /// OBX-13: what is written while the broker is down is published when it is back, in order.
    async fn a_broker_that_is_down_is_waited_for(pool, outbox) {
        let mut robust = RobustConnection::connect().await;
        let oracle = robust.oracle().await;
        oracle.declare_queue("orders").await;
        let relay = outbox.relay(&robust.connection).start().await.unwrap();
        put!(outbox, To::queue("orders").lane("a"), "0");
        assert_eq!(texts(&oracle, "orders", 1).await, ["0"]);
        robust.proxy.refuse_new().await;
        robust.disconnect().await;
        for n in 1..20 {
            put!(outbox, To::queue("orders").lane("a"), n);
        }
        assert!(relay.lag().await.unwrap().waiting >= 19);
        robust.proxy.accept_new().await;
        let expected: Vec<_> = (1..20).map(|n| n.to_string()).collect();
        assert_eq!(texts(&oracle, "orders", 19).await, expected);
        within("the drain", 10, relay.drain(LIMIT)).await;
    }

    /// OBX-14: a database that fails is asked again, and the relay does not end.
    async fn a_database_that_fails_is_asked_again(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        let mut probe = Probe::<RelayEvent>::start();
        let relay = outbox.relay(&connection).watch(probe.recipient()).start().await.unwrap();
        event(&mut probe, is_taken).await;
        sqlx::query("alter table pika_outbox rename to elsewhere").execute(&pool).await.unwrap();
        relay.addr().unwrap().send(Wake).await.unwrap();
        let is_failed = |event: &RelayEvent| matches!(event, RelayEvent::DatabaseFailed { .. });
        let RelayEvent::DatabaseFailed { error, .. } = event(&mut probe, is_failed).await else { panic!() };
        assert_eq!(error.kind(), actix_pika::ErrorKind::Database);
        event(&mut probe, is_failed).await;
        sqlx::query("alter table elsewhere rename to pika_outbox").execute(&pool).await.unwrap();
        put!(outbox, To::queue("orders"), "1");
        assert_eq!(texts(&oracle, "orders", 1).await, ["1"]);
        assert!(relay.counters().database_failures >= 2);
        within("the drain", 10, relay.drain(LIMIT)).await;
        let refused = outbox.clone().prefix("other_").unwrap().relay(&connection).start().await.unwrap_err();
        assert_eq!(refused.kind(), actix_pika::ErrorKind::Database, "there are no such tables");
    }

    /// OBX-15: a relay whose connection is closed ends, and says why; another one goes on without waiting for its lease.
    async fn a_closed_connection_ends_the_relay(pool, outbox) {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        let mut probe = Probe::<RelayEvent>::start();
        let relay = outbox.relay(&connection).watch(probe.recipient()).start().await.unwrap();
        event(&mut probe, is_taken).await;
        // Also if nothing is to be published.
        connection.close().await.unwrap();
        let RelayEvent::Ended(Some(error)) = event(&mut probe, is_ended).await else { panic!() };
        assert_eq!(error.kind(), actix_pika::ErrorKind::ConnectionClosed);
        let gone = async || (relay.addr().is_none() && !relay.is_running()).then_some(());
        eventually("the actor is gone", 10, gone).await;
        put!(outbox, To::queue("orders"), "1");
        let connection = connect(vhost.url()).await.unwrap();
        let next = outbox.relay(&connection).start().await.unwrap();
        within("the message", 5, oracle.wait_for_count("orders", 1)).await;
        within("the drain", 10, next.drain(LIMIT)).await;
        assert_eq!(within("the drain", 10, relay.drain(LIMIT)).await, Default::default());
    }
}
