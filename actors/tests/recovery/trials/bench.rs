//! A client of the broker, and what its tests ask and wait for.

use std::{future::Future, time::Duration};

use actix_pika_actors::{
    ConnectionEvent, ConnectionOptions, Consume, DeclareQueue, Degradation, EntityKind, GetHealth, Health,
    OpenChannel, OpenedChannel, Recovery, Skipped, WatchConnection,
    facade::deliver_into,
    testing::{MemoryPeer, Probe},
};
use tokio::time::Instant;

use super::{
    super::common::{Client, Deliveries},
    broker::{Broker, NAME, Script},
};

/// A client with a name, and a broker that it reconnects to after 100 milliseconds.
pub(super) struct Test {
    pub(super) broker: Broker,
    pub(super) client: Client,
    events: Probe<ConnectionEvent>,
}

impl Test {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(set: impl FnOnce(&mut ConnectionOptions)) -> Self {
        tokio::time::pause();
        let peer = MemoryPeer::new();
        let client = Client::dial_in_memory(&peer, |options| {
            options.recovery = Recovery::fixed(Duration::from_millis(100));
            options.client_properties.insert("connection_name", NAME);
            set(options);
        });
        let broker = Broker::start(peer);
        client.opened().await;
        let events = Probe::start().time_limit(Duration::from_secs(3600));
        client.supervisor.send(WatchConnection(events.recipient())).await.unwrap();
        Self { broker, client, events }
    }

    /// Starts with a queue whose declaration costs the connection from now on, which is lost once. Returns the channel
    /// that has declared it as well.
    pub(super) async fn with_fatal_queue(set: impl FnOnce(&mut Script)) -> (Self, OpenedChannel) {
        let mut test = Self::start().await;
        let channel = test.channel().await;
        test.declare(&channel, DeclareQueue::new("temporary").durable(false)).await;
        test.broker.set(|script| script.fatal_queues = vec!["temporary"]);
        test.broker.set(set);
        test.cut().await;
        (test, channel)
    }

    pub(super) async fn channel(&self) -> OpenedChannel {
        self.client.supervisor.send(OpenChannel::new()).await.unwrap().unwrap()
    }

    pub(super) async fn consume(&self, channel: &OpenedChannel, queue: &str, options: Consume) -> Deliveries {
        let mut deliveries = Deliveries::new();
        let consume = deliver_into(options.queue(queue).tag(queue), deliveries.sink.clone());
        channel.actor.send(consume).await.unwrap().unwrap();
        work(&mut deliveries).await;
        deliveries
    }

    pub(super) async fn declare(&self, channel: &OpenedChannel, declare: DeclareQueue) {
        channel.actor.send(declare).await.unwrap().unwrap();
    }

    /// Cuts the connection. Returns what the recovery that follows has skipped.
    pub(super) async fn cut(&mut self) -> Vec<(EntityKind, String)> {
        self.broker.cut();
        self.recovered().await
    }

    pub(super) async fn recovered(&mut self) -> Vec<(EntityKind, String)> {
        loop {
            if let ConnectionEvent::Recovered { skipped, .. } = self.events.next().await.unwrap() {
                return skipped.iter().map(|one| (one.kind, one.name.clone())).collect();
            }
        }
    }

    pub(super) async fn missing(&self) -> Vec<Skipped> {
        let Health::Degraded(reasons) = self.client.supervisor.send(GetHealth).await.unwrap() else {
            return Vec::new();
        };
        let missing = |reason| match reason {
            Degradation::Missing(missing) => Some(missing),
            _ => None,
        };
        reasons.into_iter().filter_map(missing).collect()
    }

    /// Waits until nothing is missing.
    pub(super) async fn healthy(&mut self) {
        loop {
            if self.client.supervisor.send(GetHealth).await.unwrap().is_up() {
                return;
            }
            self.events.next().await.unwrap();
        }
    }
}

/// Waits for the delivery that each new consumer gets.
#[track_caller]
pub(super) fn work(deliveries: &mut Deliveries) -> impl Future<Output = ()> {
    let next = deliveries.next();
    async move {
        let delivery = next.await.unwrap();
        assert_eq!(delivery.body(), b"work");
        let _ = delivery.ack();
    }
}

pub(super) async fn pass(secs: u64) {
    tokio::time::sleep(Duration::from_secs(secs)).await;
}

pub(super) fn pauses(trials: &[Instant]) -> Vec<u64> {
    trials.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect()
}
