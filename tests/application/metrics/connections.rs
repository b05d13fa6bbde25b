//! What is sampled of connections.

use std::time::Duration;

use ::metrics::set_default_local_recorder;
use actix_pika::{
    Channel, Connection, DeclareQueue, ErrorKind,
    metrics::{self, METRICS},
    options::Overflow,
    testing::protocol::connection as protocol,
};

use super::recorder::Recorded;
use crate::support::{
    broker::Vhost, eventually, robust_connection::RobustConnection, scripted_peer::connect_to_peer, unique,
    within,
};

/// The metrics of the connections of one name.
struct Of {
    recorded: Recorded,
    name: String,
}

impl Of {
    /// Returns what was recorded without labels other than that of the connection.
    fn get(&self, metric: &str) -> f64 {
        self.value(metric, "").expect(metric)
    }

    fn value(&self, metric: &str, more: &str) -> Option<f64> {
        self.recorded.value(&format!("actix_pika_{metric}{{connection={}{more}}}", self.name))
    }

    fn settled(&self) -> [f64; 3] {
        ["ack", "nack", "reject"]
            .map(|outcome| self.value("settled_total", &format!(",outcome={outcome}")).unwrap())
    }

    /// Returns how many connections are up, degraded and down.
    fn states(&self) -> [f64; 3] {
        ["up", "degraded", "down"].map(|state| self.value("connections", &format!(",state={state}")).unwrap())
    }

    fn publishes(&self) -> [f64; 4] {
        ["published_total", "confirmed_total", "nacked_total", "returned_total"]
            .map(|metric| self.get(metric))
    }
}

async fn publish(channel: &Channel, queue: &str) -> Option<ErrorKind> {
    let published = within("a confirm", 10, channel.default_exchange().publish("x", queue)).await;
    published.err().map(|error| error.kind())
}

async fn connect(vhost: &Vhost, name: &str) -> Connection {
    let connector = actix_pika::Connector::new(&vhost.url()).unwrap().name(name).metrics();
    within("connect", 10, connector.connect()).await.unwrap()
}

/// MET-01: what is published, answered, delivered and settled is counted exactly, also over a reconnect; a series is there
/// from the beginning.
#[actix::test]
async fn counts_are_exact_over_a_reconnect() {
    let of = Of { recorded: Recorded::default(), name: unique("metrics") };
    let _guard = set_default_local_recorder(&of.recorded);
    let mut robust = RobustConnection::connect_with(|connector| connector.name(&of.name).metrics()).await;
    let channel = robust.channel().await;
    assert_eq!((of.publishes(), of.settled()), ([0.0; 4], [0.0; 3]));
    for metric in METRICS {
        assert_eq!(of.recorded.description(metric.name).as_deref(), Some(metric.meaning));
    }

    let jobs = channel.declare_queue("jobs").await.unwrap();
    let full = DeclareQueue::new("full").max_length(1).overflow(Overflow::RejectPublish);
    channel.declare_queue(full).await.unwrap();
    for _ in 0..6 {
        assert_eq!(publish(&channel, "jobs").await, None);
    }
    assert_eq!(publish(&channel, "full").await, None);
    assert_eq!(publish(&channel, "full").await, Some(ErrorKind::Nacked));
    assert_eq!(publish(&channel, "nowhere").await, Some(ErrorKind::Unroutable));
    let mut deliveries = Vec::new();
    for _ in 0..6 {
        deliveries.push(within("a get", 10, jobs.get()).await.unwrap().unwrap());
    }
    let unsettled = deliveries.pop().unwrap();
    let mut deliveries = deliveries.into_iter();
    let mut next = || deliveries.next().unwrap();
    next().ack().unwrap();
    next().ack().unwrap();
    next().nack(false).unwrap();
    next().reject(false).unwrap();
    next().reject(true).unwrap();
    // A call comes behind the acks, so they have arrived.
    let again = within("a get", 10, jobs.get()).await.unwrap().unwrap();
    metrics::sample();
    assert_eq!(of.publishes(), [9.0, 7.0, 1.0, 1.0]);
    assert_eq!((of.get("delivered_total"), of.get("redelivered_total")), (7.0, 1.0));
    assert_eq!((of.settled(), of.get("requeued_total")), ([2.0, 1.0, 2.0], 1.0));
    assert_eq!((of.get("unsettled"), of.get("unconfirmed"), of.get("publishes_waiting")), (2.0, 0.0, 0.0));
    assert_eq!((of.states(), of.get("channels"), of.get("reconnects_total")), ([1.0, 0.0, 0.0], 1.0, 0.0));

    robust.cut_and_recover().await;
    unsettled.ack().unwrap_err();
    again.ack().unwrap_err();
    for _ in 0..2 {
        within("a get", 10, jobs.get()).await.unwrap().unwrap().ack().unwrap();
    }
    metrics::sample();
    assert_eq!(of.publishes(), [9.0, 7.0, 1.0, 1.0]);
    assert_eq!((of.get("delivered_total"), of.get("redelivered_total")), (9.0, 3.0));
    assert_eq!((of.settled(), of.get("requeued_total")), ([4.0, 1.0, 2.0], 1.0));
    assert_eq!((of.get("unsettled"), of.get("reconnects_total")), (0.0, 1.0));
    within("close", 10, robust.connection.close()).await.unwrap();
}

/// MET-02: counts arrive without being asked for, those of the last second too; a connection that is dropped is closed, and
/// its counts stay in the sum of its name.
#[actix::test]
async fn a_dropped_connection_ends_with_its_last_values() {
    let of = Of { recorded: Recorded::default(), name: unique("metrics") };
    let _guard = set_default_local_recorder(&of.recorded);
    let vhost = Vhost::fresh().await;
    let first = connect(&vhost, &of.name).await;
    let second = connect(&vhost, &of.name).await;
    let channel = within("a channel", 10, first.channel()).await.unwrap();
    channel.declare_queue("jobs").await.unwrap();
    publish(&channel, "jobs").await;
    let recorded = &of;
    eventually("a sample", 10, || async { (recorded.get("published_total") == 1.0).then_some(()) }).await;
    assert_eq!(of.states(), [2.0, 0.0, 0.0]);

    publish(&channel, "jobs").await;
    // The sampling holds no handle: the connection closes.
    drop((channel, first));
    eventually("the last sample", 10, || async {
        (recorded.states() == [1.0, 0.0, 0.0] && recorded.get("published_total") == 2.0).then_some(())
    })
    .await;

    let channel = within("a channel", 10, second.channel()).await.unwrap();
    publish(&channel, "jobs").await;
    within("close", 10, second.close()).await.unwrap();
    eventually("the last sample", 10, || async { (recorded.states() == [0.0; 3]).then_some(()) }).await;
    assert_eq!(of.publishes(), [3.0, 3.0, 0.0, 0.0]);
    assert_eq!((of.get("channels"), of.get("missing")), (0.0, 0.0));
}

/// MET-03: the time for which the broker blocks the connection is counted, and the connection is degraded meanwhile.
#[actix::test]
async fn blocked_time_is_counted() {
    let of = Of { recorded: Recorded::default(), name: unique("metrics") };
    let _guard = set_default_local_recorder(&of.recorded);
    let connect = connect_to_peer(|connector| connector.name(&of.name).metrics());
    let (connection, mut socket) = within("connect", 10, connect).await;
    let recorded = &of;
    let sampled = || async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        metrics::sample();
    };
    socket.send(0, protocol::Blocked { reason: "low on memory".into() }).await.unwrap();
    eventually("blocked time", 10, || async {
        sampled().await;
        (recorded.get("blocked_milliseconds_total") > 0.0).then_some(())
    })
    .await;
    assert_eq!(of.states(), [0.0, 1.0, 0.0]);
    socket.send(0, protocol::Unblocked {}).await.unwrap();
    eventually("unblocked", 10, || async {
        sampled().await;
        (recorded.states() == [1.0, 0.0, 0.0]).then_some(())
    })
    .await;
    let blocked = of.get("blocked_milliseconds_total");
    sampled().await;
    assert_eq!(of.get("blocked_milliseconds_total"), blocked);
    drop(connection);
}

/// MET-04: a connection that was opened without metrics is reported when it is watched, with what it has done before; it is
/// down while it is lost, and degraded as long as something is missing.
#[actix::test]
async fn health_and_what_is_missing_are_reported() {
    let of = Of { recorded: Recorded::default(), name: unique("metrics") };
    let _guard = set_default_local_recorder(&of.recorded);
    let mut robust = RobustConnection::connect_with(|connector| connector.name(&of.name)).await;
    let channel = robust.channel().await;
    channel.declare_queue("jobs").await.unwrap();
    publish(&channel, "jobs").await;
    assert!(of.recorded.with_label(&of.name).is_empty());
    metrics::watch(&robust.connection).unwrap();
    assert_eq!((of.get("published_total"), of.get("missing")), (1.0, 0.0));

    robust.disconnect().await;
    metrics::sample();
    assert_eq!(of.states(), [0.0, 0.0, 1.0]);
    let oracle = robust.oracle().await;
    oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
    let transient = lapin::options::QueueDeclareOptions { auto_delete: true, ..Default::default() };
    oracle.declare_queue_with("jobs", transient, Default::default()).await;
    robust.proxy.accept_new().await;
    let skipped = robust.wait_for_recovery().await;
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    metrics::sample();
    assert_eq!((of.states(), of.get("missing"), of.get("reconnects_total")), ([0.0, 1.0, 0.0], 1.0, 1.0));
    within("close", 10, robust.connection.close()).await.unwrap();
}
