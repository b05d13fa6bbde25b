//! Three nodes of one cluster, of which one is killed at a time.

use std::time::Duration;

use crate::support::{
    broker::{Broker, Cluster, Vhost, encode},
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

/// Connects to the first of these nodes that answers, and to the others when that is lost.
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

async fn until(events: &mut Events<ConnectionEvent>, what: &str, test: impl Fn(&ConnectionEvent) -> bool) {
    within(what, 60, async { while !test(&events.next().await.expect("a connection that goes on")) {} })
        .await;
}

/// Waits until the other nodes know of the virtual host.
async fn vhost_everywhere(cluster: &Cluster) -> Vhost {
    let vhost = Vhost::fresh_on(cluster.node(1)).await;
    for number in 2..=3 {
        let path = format!("/api/vhosts/{}", encode(vhost.name()));
        eventually("the virtual host", 30, async || {
            let answer = cluster.node(number).request("GET", &path, None).await;
            (answer.status == 200
                && answer.json()["cluster_state"]
                    .as_object()
                    .is_some_and(|nodes| nodes.len() == 3 && nodes.values().all(|state| state == "running")))
            .then_some(())
        })
        .await;
    }
    vhost
}

/// CLU-03: what is published through one node is there for a purge through another.
async fn purges_see_what_was_published_elsewhere(cluster: &Cluster, vhost: &Vhost) {
    let (here, _) = connect(vhost, &[cluster.node(1)]).await;
    let (there, _) = connect(vhost, &[cluster.node(2)]).await;
    let channel = within("a channel", 10, here.channel()).await.unwrap();
    let other = within("a channel", 10, there.channel()).await.unwrap();
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
    within("close", 10, here.close()).await.unwrap();
    within("close", 10, there.close()).await.unwrap();
}

/// CLU-01, CLU-05: the node of the connection, which leads a quorum queue, is killed while messages are published to it.
async fn a_leader_is_killed_under_load(cluster: &Cluster, vhost: &Vhost) {
    let nodes = [cluster.node(3), cluster.node(2)];
    let (connection, mut events) = connect(vhost, &nodes).await;
    assert!(is_at(&connection, cluster.node(3)));
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    let queue =
        within("a declare", 30, channel.declare_queue(DeclareQueue::new("led").quorum())).await.unwrap();
    let leader = eventually("a leader", 30, async || {
        let led = vhost.queue("led").await?;
        let members = led["members"].as_array().is_some_and(|members| members.len() == 3);
        led["leader"].as_str().filter(|_| members).map(|name| cluster.number(name))
    })
    .await;
    assert_eq!(leader, 3, "it leads where it was declared");
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
    within("under load", 10, async {
        while channel.load().unconfirmed == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    cluster.kill(3).await;
    until(&mut events, "lost", |event| matches!(event, ConnectionEvent::Lost(_))).await;
    until(
        &mut events,
        "restored",
        |event| matches!(event, ConnectionEvent::Recovered { skipped, .. } if skipped.is_empty()),
    )
    .await;
    assert!(is_at(&connection, cluster.node(2)));
    within("the publisher", 60, publisher).await.unwrap().unwrap();
    let mut seen = vec![0; 3000];
    let mut early = 0;
    loop {
        let delivery = match within("a get", 40, queue.get()).await {
            Ok(Some(delivery)) => delivery,
            Ok(None) => break,
            // To ask a queue without a leader costs the connection, with 541.
            Err(error) => {
                early += 1;
                assert!(error.is_retryable() && early < 100, "{error}");
                continue;
            }
        };
        seen[std::str::from_utf8(delivery.body()).unwrap().parse::<usize>().unwrap()] += 1;
        // Lost with its connection, it comes again.
        drop(delivery.ack());
    }
    let lost: Vec<_> = seen.iter().enumerate().filter(|(_, times)| **times == 0).map(|(n, _)| n).collect();
    assert_eq!(lost, [0usize; 0], "of 3000 that were confirmed");
    within("close", 10, connection.close()).await.unwrap();
}

/// CLU-02: the node of a queue is killed, not that of the connection: the consumer is tried again until it is back.
async fn the_home_of_a_queue_goes_and_comes(cluster: &Cluster, vhost: &Vhost) {
    // Declared by another one, on its node.
    let oracle = within("the oracle", 10, Oracle::connect(&cluster.node(3).url(vhost.name()))).await;
    oracle.declare_queue("homely").await;
    let (connection, mut events) = connect(vhost, &[cluster.node(1)]).await;
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    let mut told = channel.events();
    let queue = within("a declare", 10, channel.declare_queue("homely")).await.unwrap();
    let mut probe = Probe::<Delivery>::start().time_limit(Duration::from_secs(60));
    let consumer = queue.consume_with(Consume::new().tag("patient"), probe.recipient()).await.unwrap();
    within("a publish", 10, channel.default_exchange().publish("before", "homely")).await.unwrap();
    let before = take(&mut probe, 1).await.remove(0);
    assert_eq!(before.body(), b"before");
    drop(oracle);
    cluster.kill(3).await;
    until(
        &mut events,
        "missing",
        |event| matches!(event, ConnectionEvent::Health(health) if !health.is_up()),
    )
    .await;
    // Its queue is gone for now, but it is not.
    drop(before);
    assert!(consumer.end().is_none());
    cluster.start_again(3).await;
    let event = within("restored", 60, told.next()).await.unwrap();
    assert!(matches!(&event, ChannelEvent::ConsumerRecovered { tag } if **tag == *"patient"), "{event:?}");
    within("a publish", 10, channel.default_exchange().publish("after", "homely")).await.unwrap();
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

/// CLU-01, CLU-02, CLU-03, CLU-05: one test, because starting and killing nodes takes most of its time.
#[actix::test]
async fn nodes_of_a_cluster_come_and_go() {
    let cluster = Cluster::start().await;
    let vhost = vhost_everywhere(&cluster).await;
    purges_see_what_was_published_elsewhere(&cluster, &vhost).await;
    a_leader_is_killed_under_load(&cluster, &vhost).await;
    cluster.start_again(3).await;
    the_home_of_a_queue_goes_and_comes(&cluster, &vhost).await;
}
