//! The largest body, by the client's `body_max` and the broker's limit, and the largest header.

use std::time::Duration;

use actix_pika::testing::Probe;
use actix_pika::{Connector, DeclareQueue, Delivery, ErrorKind, Publishing, connect};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use crate::support::{
    broker::{SecondNode, Vhost},
    eventually,
    modes::Bench,
    robust_connection::RobustConnection,
    take, within,
};

crate::modes! {
    /// PRO-09: a message over `body_max` closes the connection, by get and by consume, in many frames and in one. The
    /// message is requeued, and a client with a larger limit receives it.
    async fn a_body_over_the_limit_is_requeued(bench: Bench) {
        let body = vec![b'x'; 40_000];
        let queue = bench.channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        bench.channel.default_exchange().publish(body.clone(), "jobs").await.unwrap();
        for frame_max in [5000, 100_000] {
            for by_get in [true, false] {
                let connector = Connector::new(&bench.vhost.url()).unwrap().body_max(20_000).frame_max(frame_max);
                let small = connector.connect().await.unwrap();
                let channel = small.channel().await.unwrap();
                let jobs = channel.queue("jobs");
                // The broker requeues the message once the previous connection is gone.
                eventually("the message is back", 10, || async {
                    let declared = queue.channel().declare_queue(DeclareQueue::new("jobs")).await.unwrap();
                    (declared.declared().unwrap().message_count == 1).then_some(())
                })
                .await;
                if by_get {
                    let error = jobs.get().await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
                } else {
                    let mut deliveries = jobs.deliveries().await.unwrap();
                    assert!(within("the stream ends", 5, deliveries.next()).await.is_none());
                }
                let cause = within("the connection ends", 5, small.closed()).await.unwrap_err();
                assert_eq!(cause.kind(), ErrorKind::Protocol);
                assert!(cause.to_string().contains("40000"), "{cause}");
                assert!(small.is_closed());
            }
        }
        let delivery = eventually("the message is back", 10, || async { queue.get().await.unwrap() }).await;
        assert_eq!(delivery.body()[..], body[..]);
        assert!(delivery.redelivered());
        delivery.ack().unwrap();
        bench.connection.close().await.unwrap();
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
    // Before 4.0 a channel keeps the limit from when it was opened. Since 4.0 the current limit counts, kept elsewhere.
    let global = node.broker().version().await >= (4, 0);
    let set_limit = async |bytes: usize| {
        let command = if global {
            format!("persistent_term:put(max_message_size, {bytes}).")
        } else {
            format!("application:set_env(rabbit, max_message_size, {bytes}).")
        };
        node.broker().eval(&command).await;
    };
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
    set_limit(1000).await;
    // Resets the limit for the next test, even if this one fails.
    let test = std::panic::AssertUnwindSafe(test).catch_unwind();
    let result = tokio::time::timeout(Duration::from_secs(30), test).await;
    set_limit(node.broker().largest_body().await).await;
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
