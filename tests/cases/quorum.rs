//! A quorum queue that has no leader for a moment.

use std::time::Duration;

use actix_pika::testing::{Peer, Probe};
use actix_pika::{Connector, Delivery, Recovery};

use super::{healthy, scripted_broker};
use crate::support::{
    proxy::{Cut, Proxy},
    take, within,
};

/// A consumer that a recovery cannot register, because the queue has no leader, comes back with the queue.
#[actix::test]
#[ignore = "known fault: a 541 for `basic.consume` during a recovery ends the robust consumer for good"]
async fn consumer_comes_back_when_its_queue_has_a_leader_again() {
    let peer = Peer::listen().await.unwrap();
    let proxy = Proxy::to(&peer.addr().to_string());
    let connector = Connector::new(&proxy.url(&peer.url())).unwrap();
    scripted_broker(peer, |connection, queue| connection == 1 && queue == "jobs");
    let connector = connector.recovery(Recovery::fixed(Duration::from_millis(100)));
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let mut probe = Probe::<Delivery>::start().time_limit(Duration::from_secs(30));
    let consumer = channel.queue("jobs").consume(probe.recipient()).await.unwrap();
    within("a delivery", 10, take(&mut probe, 1)).await;
    proxy.cut_all(Cut::Rst);
    within("a delivery after the recovery", 40, take(&mut probe, 1)).await;
    assert!(consumer.end().is_none());
    healthy(&connection, 10).await;
}
