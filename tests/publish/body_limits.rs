//! The largest body, by the client's `body_max` and the broker's limit, and the largest header.

use std::time::Duration;

use actix_pika::testing::Probe;
use actix_pika::{
    ChannelEvent, Connector, Consume, DeclareQueue, Delivery, ErrorKind, Publishing, connect,
    options::OversizedDelivery,
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use crate::support::{
    broker::{SecondNode, Vhost},
    eventually,
    modes::Bench,
    oracle::Oracle,
    robust_connection::RobustConnection,
    take, within,
};

crate::modes! {
    /// PRO-09: a message over `body_max` is not read, in many frames and in one. A get of it fails, and a consumer gets
    /// the next message. It stays with the broker, and a client with a larger limit receives it.
    async fn a_body_over_the_limit_stays_with_the_broker(bench: Bench) {
        let body = vec![b'x'; 40_000];
        let queue = bench.channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        let exchange = bench.channel.default_exchange();
        exchange.publish(body.clone(), "jobs").await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        for frame_max in [5000, 100_000] {
            let connector = Connector::new(&bench.vhost.url()).unwrap().body_max(20_000).frame_max(frame_max);
            let small = connector.connect().await.unwrap();
            let channel = small.channel().await.unwrap();
            let mut events = channel.events();
            let jobs = channel.queue("jobs");
            oracle.wait_for_count("jobs", 1).await;
            let error = jobs.get().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
            assert!(error.to_string().contains("40000"), "{error}");
            oracle.wait_for_count("jobs", 1).await;

            let mut deliveries = jobs.deliveries().await.unwrap();
            let event = within("the event", 5, events.next()).await.unwrap();
            let ChannelEvent::DeliverySkipped(skipped) = event else { panic!("{event:?}") };
            assert_eq!((&*skipped.queue, &*skipped.routing_key, skipped.size), ("jobs", "jobs", 40_000));
            assert_eq!(skipped.error.kind(), ErrorKind::Limit);
            exchange.publish("small", "jobs").await.unwrap();
            let delivery = within("the next message", 5, deliveries.next()).await.unwrap();
            assert_eq!(delivery.body(), b"small");
            delivery.ack().unwrap();
            deliveries.close().await.unwrap();
            oracle.wait_for_count("jobs", 1).await;
            assert!(!channel.is_closed() && !small.is_closed());
            small.close().await.unwrap();
        }
        let delivery = queue.get().await.unwrap().expect("the message");
        assert_eq!(delivery.body()[..], body[..]);
        assert!(delivery.redelivered());
        delivery.ack().unwrap();
        bench.connection.close().await.unwrap();
    }

    /// PRO-09: a consumer can have messages over `body_max` dead-lettered.
    async fn a_body_over_the_limit_is_dead_lettered(bench: Bench) {
        let work = DeclareQueue::new("work").dead_letter_exchange("").dead_letter_routing_key("dead");
        bench.channel.declare_queue(work).await.unwrap();
        let dead = bench.channel.declare_queue("dead").await.unwrap();
        let connector = Connector::new(&bench.vhost.url()).unwrap().body_max(20_000);
        let small = connector.connect().await.unwrap();
        let work = small.channel().await.unwrap().queue("work");
        let options = Consume::new().prefetch(1).oversized(OversizedDelivery::Reject);
        let mut deliveries = work.deliveries_with(options).await.unwrap();
        let exchange = bench.channel.default_exchange();
        for n in 0..3 {
            exchange.publish(vec![b'x'; 20_001 + n], "work").await.unwrap();
        }
        exchange.publish("small", "work").await.unwrap();
        let delivery = within("the next message", 5, deliveries.next()).await.unwrap();
        assert_eq!(delivery.body(), b"small");
        delivery.ack().unwrap();
        for n in 0..3 {
            let delivery = eventually("a dead letter", 10, || async { dead.get().await.unwrap() }).await;
            assert_eq!(delivery.body().len(), 20_001 + n);
            delivery.ack().unwrap();
        }
    }
}

/// PUB-30, PUB-32: the largest body that RabbitMQ accepts is confirmed, and is received unchanged.
#[actix::test]
async fn the_largest_body_is_intact() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue(DeclareQueue::new("large")).await.unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut body = vec![0; bench.vhost.broker().largest_body().await];
    random.fill(&mut body);
    let body = Bytes::from(body);
    let content = Publishing::new(&body).persistent(false);
    within("the confirm", 60, bench.channel.default_exchange().publish(content, "large")).await.unwrap();
    assert_eq!(bench.channel.load().bytes, 0);
    let mut deliveries = queue.deliveries().await.unwrap();
    let delivery = within("the delivery", 60, deliveries.next()).await.unwrap();
    assert!(*delivery.body() == body, "received {} bytes", delivery.body().len());
    delivery.ack().unwrap();
    deliveries.close().await.unwrap();
    assert_eq!(queue.delete().await.unwrap(), 0);
}

/// PUB-32: a body above the broker's limit closes its channel with 406 and both sizes in the text; bodies at the limit
/// are accepted before it, and after it on another channel.
#[actix::test]
async fn a_body_over_the_brokers_limit_closes_its_channel() {
    let node = SecondNode::start().await;
    let vhost = Vhost::fresh_on(node.broker()).await;
    let test = async {
        let connection = connect(vhost.url()).await.unwrap();
        let (one, other) = (connection.channel().await.unwrap(), connection.channel().await.unwrap());
        let queue = one.declare_queue("q").await.unwrap();
        one.default_exchange().publish(vec![1; 1000], "q").await.unwrap();
        let error = one.default_exchange().publish(vec![2; 1001], "q").await.unwrap_err();
        let reason = error.close_reason().expect("the broker's reason");
        assert_eq!(
            (error.kind(), reason.code, reason.method),
            (ErrorKind::ChannelClosed, 406, "basic.publish")
        );
        assert!(reason.text.contains("1001") && reason.text.contains("1000"), "{}", reason.text);
        assert!(one.is_closed() && queue.purge().await.is_err() && !connection.is_closed());
        other.default_exchange().publish(vec![3; 1000], "q").await.unwrap();
        assert_eq!(other.queue("q").purge().await.unwrap(), 2);
        connection.close().await.unwrap();
    };
    node.limit_bodies(1000).await;
    // Resets the limit for the next test, even if this one fails.
    let test = std::panic::AssertUnwindSafe(test).catch_unwind();
    let result = tokio::time::timeout(Duration::from_secs(30), test).await;
    node.limit_bodies(node.broker().largest_body().await).await;
    if let Err(panic) = result.expect("the test takes at most 30 s") {
        std::panic::resume_unwind(panic);
    }
}

/// PUB-35: RabbitMQ does not split headers. One that was published within `frame_max` exceeds it when the broker adds
/// `x-death`: it is delivered, and so is the next message. To publish it again is an error of this client.
#[actix::test]
async fn a_header_that_outgrew_the_frame_limit_is_delivered() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let work = DeclareQueue::new("work").dead_letter_exchange("").dead_letter_routing_key("dead");
    let work = channel.declare_queue(work).await.unwrap();
    let dead = channel.declare_queue("dead").await.unwrap();
    let exchange = channel.default_exchange();
    let trace = "z".repeat(130_950);
    let first = Publishing::new("first").header("trace", trace.clone());
    within("a publish", 10, exchange.publish(first, "work")).await.unwrap();
    work.get().await.unwrap().unwrap().reject(false).unwrap();
    robust.oracle().await.wait_for_count("dead", 1).await;
    within("a publish", 10, exchange.publish("second", "dead")).await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    dead.consume(probe.recipient()).await.unwrap();
    let deliveries = within("both deliveries", 10, take(&mut probe, 2)).await;
    let bodies: Vec<_> = deliveries.iter().map(Delivery::body).collect();
    assert_eq!(bodies, [&b"first"[..], b"second"]);
    let properties = deliveries[0].properties().unwrap();
    assert_eq!(properties.header("trace").and_then(|value| value.as_str()), Some(&*trace));
    assert_eq!(deliveries[0].deaths().len(), 1);

    let again = Publishing::new("again").properties(properties.clone());
    let error = exchange.publish(again, "work").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(error.to_string().contains("the headers make a frame of"), "{error}");
    assert!(!channel.is_closed());
    assert_eq!(robust.proxy.accepted_count(), 1);
}
