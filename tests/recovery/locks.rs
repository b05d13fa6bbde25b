//! What the dead connection still holds at the broker: exclusive queues and consumers are won back.
//!
//! The first address of these connections leads through two proxies: the first is cut, which the client sees, while the
//! second holds back everything, so that the broker takes the connection for alive.

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

struct Half {
    vhost: Vhost,
    near: Proxy,
    far: Proxy,
    second: Proxy,
    connection: Connection,
    events: Events<ConnectionEvent>,
}

impl Half {
    async fn connect() -> Self {
        let vhost = Vhost::fresh().await;
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

    /// The client loses its connection, and the broker does not hear of it.
    async fn lose(&mut self) {
        self.far.stall(Direction::Both);
        self.near.refuse_new().await;
        self.near.cut_all(Cut::Rst);
    }

    /// The broker hears of it.
    fn bury(&self) {
        self.far.resume(Direction::Both);
        self.far.cut_all(Cut::Rst);
    }

    async fn restored(&mut self) -> usize {
        loop {
            match within("restored", 30, self.events.next()).await.unwrap() {
                ConnectionEvent::Recovered { skipped, .. } => return skipped.len(),
                ConnectionEvent::Closed(cause) => panic!("{cause:?}"),
                _ => {}
            }
        }
    }
}

/// The consumer of `other` goes on; so does the one of the dead connection, for the broker.
async fn share(channel: &Channel, probe: &mut Probe<Delivery>) {
    for _ in 0..2 {
        channel.default_exchange().publish("meanwhile", "other").await.unwrap();
    }
    take(probe, 1).await.remove(0).ack().unwrap();
}

/// An exclusive queue is asked for again until the dead connection lets go of it, and then everything on it is there.
#[actix::test]
async fn an_exclusive_queue_is_won_back() {
    let mut half = Half::connect().await;
    let channel = within("a channel", 10, half.connection.channel()).await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("mine").exclusive(true)).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume_with(Consume::new().tag("c"), probe.recipient()).await.unwrap();
    half.lose().await;
    within("a second try", 20, half.second.wait_for_method(Direction::ToBroker, (50, 10), 2)).await;
    half.bury();
    assert_eq!(half.restored().await, 0, "in time, so that nothing was skipped");
    channel.exchange("amq.fanout").publish("x", "").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    assert!(half.connection.health().await.unwrap().is_up());
}

/// When that takes too long for the channels to wait, queue, binding and consumer are skipped, and had later.
#[actix::test]
async fn an_exclusive_queue_is_won_back_later() {
    let mut half = Half::connect().await;
    let channel = within("a channel", 10, half.connection.channel()).await.unwrap();
    let other = channel.declare_queue("other").await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("mine").exclusive(true)).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume_with(Consume::new().tag("c"), probe.recipient()).await.unwrap();
    other.consume(probe.recipient()).await.unwrap();
    let mut channel_events = channel.events();
    half.lose().await;
    assert_eq!(half.restored().await, 3);
    let Health::Degraded(why) = half.connection.health().await.unwrap() else { panic!("not degraded") };
    let mut kinds: Vec<EntityKind> = why
        .iter()
        .map(|one| match one {
            Degradation::Missing(skipped) => skipped.kind,
            other => panic!("{other:?}"),
        })
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [EntityKind::Queue, EntityKind::Binding, EntityKind::Consumer]);
    // The rest goes on meanwhile.
    share(&channel, &mut probe).await;
    half.bury();
    // What the dead consumer had.
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    loop {
        match within("the consumer", 30, channel_events.next()).await.unwrap() {
            ChannelEvent::ConsumerRecovered { tag } => break assert_eq!(&*tag, "c"),
            ChannelEvent::ConsumerLost { end, .. } => panic!("{end:?}"),
            _ => {}
        }
    }
    let mut health = half.connection.health().await.unwrap();
    while !health.is_up() {
        match within("health", 30, half.events.next()).await.unwrap() {
            ConnectionEvent::Health(new) => health = new,
            other => panic!("{other:?}"),
        }
    }
    channel.exchange("amq.fanout").publish("x", "").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
}

/// An exclusive consumer is tried beside its channel until the dead one is gone; the channel's others go on at once.
#[actix::test]
async fn an_exclusive_consumer_is_won_back() {
    let mut half = Half::connect().await;
    let channel = within("a channel", 10, half.connection.channel()).await.unwrap();
    let queue = channel.declare_queue("mine").await.unwrap();
    let other = channel.declare_queue("other").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume_with(Consume::new().tag("alone").exclusive(true), probe.recipient()).await.unwrap();
    other.consume(probe.recipient()).await.unwrap();
    let mut channel_events = channel.events();
    half.lose().await;
    assert_eq!(half.restored().await, 1);
    share(&channel, &mut probe).await;
    // Refused on the channel, and once more beside it.
    within("another try", 20, half.second.wait_for_method(Direction::ToBroker, (60, 20), 4)).await;
    // An error of the application's costs the channel, but not the waiting consumer.
    let error = channel.get_queue("missing").await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
    channel.set_qos(3).await.unwrap();
    half.bury();
    // What the dead consumer had.
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
    while !half.connection.health().await.unwrap().is_up() {
        within("health", 30, half.events.next()).await.unwrap();
    }
    let those = half.vhost.consumers("mine").await;
    assert!(those.len() <= 1, "{those:?}");
}

/// One that is cancelled while it waits for the lock stays cancelled.
#[actix::test]
async fn a_waiting_consumer_can_be_cancelled() {
    let mut half = Half::connect().await;
    let channel = within("a channel", 10, half.connection.channel()).await.unwrap();
    let queue = channel.declare_queue("mine").await.unwrap();
    let probe = Probe::<Delivery>::start();
    let consumer = queue.consume_with(Consume::new().exclusive(true), probe.recipient()).await.unwrap();
    half.lose().await;
    assert_eq!(half.restored().await, 1);
    within("its cancel", 10, consumer.cancel()).await.unwrap();
    half.bury();
    while !half.connection.health().await.unwrap().is_up() {
        within("health", 30, half.events.next()).await.unwrap();
    }
    let oracle = crate::support::oracle::Oracle::connect(&half.vhost.url()).await;
    assert_eq!(oracle.queue_counts("mine").await, Some((0, 0)));
}
