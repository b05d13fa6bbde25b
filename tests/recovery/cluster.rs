//! A cluster of three nodes, of which one is killed at a time.

use std::time::Duration;

use super::restart_options;
use crate::support::{
    broker::{Broker, Cluster, Vhost},
    eventually,
    oracle::Oracle,
    take, within,
};
use actix_pika::{
    ChannelEvent, Connection, ConnectionEvent, Connector, Consume, DeclareQueue, Delivery, Recovery,
    events::{ConnectionState, Events},
    testing::Probe,
};
use futures_util::StreamExt;

/// Connects to the first node that can be reached; reconnects try all of them.
async fn connect(vhost: &Vhost, nodes: &[&Broker]) -> (Connection, Events<ConnectionEvent>) {
    let urls: Vec<String> = nodes.iter().map(|node| node.url(vhost.name())).collect();
    let recovery = Recovery::exponential(Duration::from_millis(20), Duration::from_millis(200));
    let connector = Connector::from_uris(&urls).unwrap().recovery(recovery);
    let connection = within("connect", 20, connector.connect()).await.unwrap();
    let events = connection.events();
    (connection, events)
}

fn is_at(connection: &Connection, node: &Broker) -> bool {
    match connection.state() {
        ConnectionState::Open(opened) => opened.peer_addr.to_string() == node.address(),
        _ => false,
    }
}

async fn wait_for(events: &mut Events<ConnectionEvent>, what: &str, test: impl Fn(&ConnectionEvent) -> bool) {
    within(what, 60, async { while !test(&events.next().await.expect("the connection is not closed")) {} })
        .await;
}

/// Creates a virtual host, and waits until it runs on all nodes.
async fn vhost_on_all_nodes(cluster: &Cluster) -> Vhost {
    let vhost = Vhost::fresh_on(cluster.node(1)).await;
    for number in 2..=3 {
        eventually("the virtual host", 30, async || {
            cluster.node(number).vhost_runs_on_three_nodes(vhost.name()).await.then_some(())
        })
        .await;
    }
    vhost
}

/// CLU-03: a purge through one node counts the messages that were published through another.
async fn purge_counts_publishes_of_another_node(cluster: &Cluster, vhost: &Vhost) {
    let (publisher, _) = connect(vhost, &[cluster.node(1)]).await;
    let (purger, _) = connect(vhost, &[cluster.node(2)]).await;
    let channel = within("a channel", 10, publisher.channel()).await.unwrap();
    let other = within("a channel", 10, purger.channel()).await.unwrap();
    let names = ["p1", "p2", "p3"];
    for name in names {
        channel.declare_queue(name).await.unwrap();
    }
    for _ in 0..20 {
        for name in names {
            let bodies = (0..5).map(|n: u32| n.to_string());
            within("5 publishes", 10, channel.default_exchange().publish_all(bodies, name)).await.unwrap();
        }
        for name in names {
            assert_eq!(within("a purge", 10, other.queue(name).purge()).await.unwrap(), 5);
        }
    }
    within("close", 10, publisher.close()).await.unwrap();
    within("close", 10, purger.close()).await.unwrap();
}

/// CLU-01, CLU-05: the node of the connection and leader of a quorum queue is killed during publishes to that queue: no
/// confirmed message is lost.
async fn killing_the_leader_loses_no_confirmed_message(cluster: &Cluster, vhost: &Vhost) {
    let nodes = [cluster.node(3), cluster.node(2)];
    let (connection, mut events) = connect(vhost, &nodes).await;
    assert!(is_at(&connection, cluster.node(3)));
    let channel = within("a channel", 10, connection.channel_with(restart_options())).await.unwrap();
    let queue =
        within("a declare", 30, channel.declare_queue(DeclareQueue::new("led").quorum())).await.unwrap();
    let leader = eventually("a leader", 30, async || {
        let led = vhost.queue("led").await?;
        let members = led.members.len() == 3;
        led.leader.filter(|_| members).map(|name| cluster.number(&name))
    })
    .await;
    assert_eq!(leader, 3, "the leader is on the node of the declare");
    let exchange = channel.default_exchange();
    let publisher = actix_rt::spawn(async move {
        let mut confirms = Vec::new();
        for n in 0..3000 {
            let confirm = exchange.publish_deferred(n.to_string(), "led").await;
            confirms.push(confirm.map_err(|error| (n, error))?);
            if n % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for (n, confirm) in confirms.into_iter().enumerate() {
            confirm.await.map_err(|error| (n, error))?;
        }
        Ok::<_, (usize, actix_pika::Error)>(())
    });
    within("an unconfirmed publish", 10, async {
        while channel.load().unconfirmed == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    cluster.kill(3).await;
    wait_for(&mut events, "the loss", |event| matches!(event, ConnectionEvent::Lost(_))).await;
    wait_for(
        &mut events,
        "the recovery",
        |event| matches!(event, ConnectionEvent::Recovered { skipped, .. } if skipped.is_empty()),
    )
    .await;
    assert!(is_at(&connection, cluster.node(2)));
    within("the publisher", 60, publisher).await.unwrap().unwrap();
    let mut seen = vec![0; 3000];
    let mut failed_gets = 0;
    loop {
        let delivery = match within("a get", 40, queue.get()).await {
            Ok(Some(delivery)) => delivery,
            Ok(None) => break,
            // A get from a queue without a leader closes the connection with 541.
            Err(error) => {
                failed_gets += 1;
                assert!(error.is_retryable() && failed_gets < 100, "{error}");
                continue;
            }
        };
        seen[std::str::from_utf8(delivery.body()).unwrap().parse::<usize>().unwrap()] += 1;
        // If the connection was lost, the message is redelivered.
        let _ = delivery.ack();
    }
    let lost: Vec<_> = seen.iter().enumerate().filter(|(_, times)| **times == 0).map(|(n, _)| n).collect();
    assert_eq!(lost, [0usize; 0], "of 3000 that were confirmed");
    within("close", 10, connection.close()).await.unwrap();
}

/// CLU-02: the node of a queue is killed, not that of the connection: the consumer is retried until the node is back.
async fn a_consumer_recovers_when_the_node_of_its_queue_is_back(cluster: &Cluster, vhost: &Vhost) {
    // The other client declares it, so that the queue is on node 3.
    let oracle = within("the oracle", 10, Oracle::connect(&cluster.node(3).url(vhost.name()))).await;
    oracle.declare_queue("remote").await;
    let (connection, mut events) = connect(vhost, &[cluster.node(1)]).await;
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    let mut channel_events = channel.events();
    let queue = within("a declare", 10, channel.declare_queue("remote")).await.unwrap();
    let mut probe = Probe::<Delivery>::start().time_limit(Duration::from_secs(60));
    let consumer = queue.consume_with(Consume::new().tag("mine"), probe.recipient()).await.unwrap();
    within("a publish", 10, channel.default_exchange().publish("before", "remote")).await.unwrap();
    let before = take(&mut probe, 1).await.remove(0);
    assert_eq!(before.body(), b"before");
    drop(oracle);
    cluster.kill(3).await;
    wait_for(
        &mut events,
        "degraded health",
        |event| matches!(event, ConnectionEvent::Health(health) if !health.is_up()),
    )
    .await;
    drop(before);
    assert!(consumer.end().is_none());
    cluster.start_again(3).await;
    // The first try is made on its own channel, which the refusal closes; the others are not.
    let event = within("the refused repair", 60, channel_events.next()).await.unwrap();
    assert!(matches!(&event, ChannelEvent::Reopened(_)), "{event:?}");
    let event = within("the recovery of the consumer", 60, channel_events.next()).await.unwrap();
    assert!(matches!(&event, ChannelEvent::ConsumerRecovered { tag } if **tag == *"mine"), "{event:?}");
    within("a publish", 10, channel.default_exchange().publish("after", "remote")).await.unwrap();
    let mut bodies = Vec::new();
    while bodies.last().is_none_or(|body| body != b"after") {
        let delivery = take(&mut probe, 1).await.remove(0);
        bodies.push(delivery.body().to_vec());
        delivery.ack().unwrap();
    }
    assert!(bodies.len() <= 2, "{bodies:?}");
    assert!(connection.health().await.unwrap().is_up());
    within("close", 10, connection.close()).await.unwrap();
}

/// CLU-01, CLU-02, CLU-03, CLU-05: one test, because starting the nodes takes most of its time.
#[actix::test]
async fn connections_and_queues_survive_killed_cluster_nodes() {
    let Some(cluster) = Cluster::start().await else { return };
    let vhost = vhost_on_all_nodes(&cluster).await;
    purge_counts_publishes_of_another_node(&cluster, &vhost).await;
    killing_the_leader_loses_no_confirmed_message(&cluster, &vhost).await;
    cluster.start_again(3).await;
    a_consumer_recovers_when_the_node_of_its_queue_is_back(&cluster, &vhost).await;
}
