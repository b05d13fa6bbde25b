//! Locks that the lost connection still holds at the broker: exclusive queues and consumers are retried until it lets
//! go.
//!
//! The first address of these connections leads through two proxies. The near one is cut, so that the client loses its
//! connection; the far one is stalled, so that the broker keeps it.

use std::time::Duration;

use actix_pika::{
    Channel, ChannelEvent, Connection, ConnectionEvent, Connector, Consume, DeclareQueue, Delivery, Recovery,
    events::{Degradation, EntityKind, Events, Health},
    testing::Probe,
};
use futures_util::StreamExt;

use crate::support::{
    broker::Vhost,
    proxy::{Cut, Direction, Proxy},
    take, within,
};

struct HalfOpen {
    vhost: Vhost,
    near: Proxy,
    far: Proxy,
    second: Proxy,
    connection: Connection,
    events: Events<ConnectionEvent>,
}

impl HalfOpen {
    async fn connect() -> Self {
        let vhost = Vhost::fresh_plain().await;
        let far = Proxy::to(&vhost.broker().address());
        let near = Proxy::to(&far.address().to_string());
        let second = Proxy::to(&vhost.broker().address());
        second.record();
        let urls = [near.url(&vhost.url()), second.url(&vhost.url())];
        let recovery = Recovery::exponential(Duration::from_millis(20), Duration::from_millis(100));
        let connector = Connector::from_uris(urls).unwrap().recovery(recovery);
        let connection = within("connect", 10, connector.connect()).await.unwrap();
        let events = connection.events();
        Self { vhost, near, far, second, connection, events }
    }

    /// Cuts the client's side only: the broker keeps the connection.
    async fn disconnect_client(&mut self) {
        self.far.stall(Direction::Both);
        self.near.refuse_new().await;
        self.near.cut_all(Cut::Rst);
    }

    /// Cuts the broker's side, which releases the locks.
    fn disconnect_broker(&self) {
        self.far.resume(Direction::Both);
        self.far.cut_all(Cut::Rst);
    }

    /// Waits for the recovery, and returns how many entities were skipped.
    async fn wait_for_recovery(&mut self) -> usize {
        loop {
            match within("the recovery", 30, self.events.next()).await.unwrap() {
                ConnectionEvent::Recovered { skipped, .. } => return skipped.len(),
                ConnectionEvent::Closed(cause) => panic!("{cause:?}"),
                _ => {}
            }
        }
    }
}

/// Publishes two messages to `other`: the broker delivers one to the recovered consumer, and one to that of the lost
/// connection.
async fn publish_to_both(channel: &Channel, probe: &mut Probe<Delivery>) {
    for _ in 0..2 {
        channel.default_exchange().publish("meanwhile", "other").await.unwrap();
    }
    take(probe, 1).await.remove(0).ack().unwrap();
}

/// The declare of an exclusive queue is retried until the lost connection releases it; the recovery then skips nothing.
#[actix::test]
async fn an_exclusive_queue_is_retried_during_the_recovery() {
    let mut half_open = HalfOpen::connect().await;
    let channel = within("a channel", 10, half_open.connection.channel()).await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("mine").exclusive(true)).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume_with(Consume::new().tag("c"), probe.recipient()).await.unwrap();
    half_open.disconnect_client().await;
    within("a second declare", 20, half_open.second.wait_for_method(Direction::ToBroker, (50, 10), 2)).await;
    half_open.disconnect_broker();
    assert_eq!(half_open.wait_for_recovery().await, 0, "released in time, so nothing was skipped");
    channel.exchange("amq.fanout").publish("x", "").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    assert!(half_open.connection.health().await.unwrap().is_up());
}

/// If the lock lasts longer than the recovery waits, queue, binding and consumer are skipped, and recovered later.
#[actix::test]
async fn an_exclusive_queue_is_recovered_after_the_lock_is_released() {
    let mut half_open = HalfOpen::connect().await;
    let channel = within("a channel", 10, half_open.connection.channel()).await.unwrap();
    let other = channel.declare_queue("other").await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("mine").exclusive(true)).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume_with(Consume::new().tag("c"), probe.recipient()).await.unwrap();
    other.consume(probe.recipient()).await.unwrap();
    let mut channel_events = channel.events();
    half_open.disconnect_client().await;
    assert_eq!(half_open.wait_for_recovery().await, 3);
    let Health::Degraded(why) = half_open.connection.health().await.unwrap() else { panic!("not degraded") };
    let mut kinds: Vec<EntityKind> = why
        .iter()
        .map(|one| match one {
            Degradation::Missing(skipped) => skipped.kind,
            other => panic!("{other:?}"),
        })
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [EntityKind::Queue, EntityKind::Binding, EntityKind::Consumer]);
    // The other consumer works meanwhile.
    publish_to_both(&channel, &mut probe).await;
    half_open.disconnect_broker();
    // The message that the consumer of the lost connection had.
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    loop {
        match within("the consumer", 30, channel_events.next()).await.unwrap() {
            ChannelEvent::ConsumerRecovered { tag } => break assert_eq!(&*tag, "c"),
            ChannelEvent::ConsumerLost { end, .. } => panic!("{end:?}"),
            _ => {}
        }
    }
    let mut health = half_open.connection.health().await.unwrap();
    while !health.is_up() {
        match within("health", 30, half_open.events.next()).await.unwrap() {
            ConnectionEvent::Health(new) => health = new,
            other => panic!("{other:?}"),
        }
    }
    channel.exchange("amq.fanout").publish("x", "").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
}

/// An exclusive consumer is tried on a utility channel until the lost one is gone; other consumers recover at once.
#[actix::test]
async fn an_exclusive_consumer_is_recovered_after_the_lock_is_released() {
    let mut half_open = HalfOpen::connect().await;
    let channel = within("a channel", 10, half_open.connection.channel()).await.unwrap();
    let queue = channel.declare_queue("mine").await.unwrap();
    let other = channel.declare_queue("other").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume_with(Consume::new().tag("alone").exclusive(true), probe.recipient()).await.unwrap();
    other.consume(probe.recipient()).await.unwrap();
    let mut channel_events = channel.events();
    half_open.disconnect_client().await;
    assert_eq!(half_open.wait_for_recovery().await, 1);
    publish_to_both(&channel, &mut probe).await;
    // Refused on its channel, and again on the utility channel.
    within("another consume", 20, half_open.second.wait_for_method(Direction::ToBroker, (60, 20), 4)).await;
    // An error that closes the channel does not end the waiting consumer.
    let error = channel.get_queue("missing").await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
    channel.set_qos(3).await.unwrap();
    half_open.disconnect_broker();
    // The message that the consumer of the lost connection had.
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    loop {
        match within("the consumer", 30, channel_events.next()).await.unwrap() {
            ChannelEvent::ConsumerRecovered { tag } => break assert_eq!(&*tag, "alone"),
            ChannelEvent::Reopened(_) => {}
            other => panic!("{other:?}"),
        }
    }
    channel.default_exchange().publish("x", "mine").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    channel.default_exchange().publish("y", "other").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    while !half_open.connection.health().await.unwrap().is_up() {
        within("health", 30, half_open.events.next()).await.unwrap();
    }
    let oracle = crate::support::oracle::Oracle::connect(&half_open.vhost.url()).await;
    oracle.wait_for_consumers("mine", 1).await;
}

/// A consumer that is cancelled while it waits for the lock is not started.
#[actix::test]
async fn a_waiting_consumer_can_be_cancelled() {
    let mut half_open = HalfOpen::connect().await;
    let channel = within("a channel", 10, half_open.connection.channel()).await.unwrap();
    let queue = channel.declare_queue("mine").await.unwrap();
    let probe = Probe::<Delivery>::start();
    let consumer = queue.consume_with(Consume::new().exclusive(true), probe.recipient()).await.unwrap();
    half_open.disconnect_client().await;
    assert_eq!(half_open.wait_for_recovery().await, 1);
    within("the cancel", 10, consumer.cancel()).await.unwrap();
    half_open.disconnect_broker();
    while !half_open.connection.health().await.unwrap().is_up() {
        within("health", 30, half_open.events.next()).await.unwrap();
    }
    let oracle = crate::support::oracle::Oracle::connect(&half_open.vhost.url()).await;
    assert_eq!(oracle.queue_counts("mine").await, Some((0, 0)));
}
