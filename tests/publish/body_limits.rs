//! How large a body may be, against a real broker.

use std::time::Duration;

use actix_pika::{Connector, DeclareQueue, ErrorKind, Publishing, connect};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use crate::support::{
    broker::{SecondNode, Vhost},
    eventually,
    modes::Bench,
    within,
};

crate::modes! {
    /// PRO-09: by get and by consume, in many frames and in one; the message goes back into its queue, and a client
    /// with a larger limit gets it.
    async fn a_body_over_the_limit_goes_back_into_its_queue(bench: Bench) {
        let body = vec![b'x'; 40_000];
        let queue = bench.channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        bench.channel.default_exchange().publish(body.clone(), "jobs").await.unwrap();
        for frame_max in [5000, 100_000] {
            for by_get in [true, false] {
                let connector = Connector::new(&bench.vhost.url()).unwrap().body_max(20_000).frame_max(frame_max);
                let small = connector.connect().await.unwrap();
                let channel = small.channel().await.unwrap();
                let jobs = channel.queue("jobs");
                // The message is back once the connection of the last turn is gone.
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

/// PUB-30, PUB-32: the largest body that RabbitMQ takes goes out with a confirm and comes back as it was.
#[actix::test]
async fn the_largest_body_of_all_is_intact() {
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
    assert!(*delivery.body() == body, "{} bytes came", delivery.body().len());
    delivery.ack().unwrap();
    deliveries.close().await.unwrap();
    assert_eq!(queue.delete().await.unwrap(), 0);
}

/// PUB-32: a body above the broker's limit is 406 for its channel, with the sizes; one that fits is taken before and
/// after it on another.
#[actix::test]
async fn a_body_over_the_brokers_limit_costs_its_channel() {
    let node = SecondNode::start().await;
    let vhost = Vhost::fresh_on(node.broker()).await;
    // A channel has the limit of the time when it was opened; since 4.0, that of now, which is kept elsewhere.
    let global = node.broker().version().await >= (4, 0);
    let limit = async |bytes: usize| {
        let set = match global {
            true => format!("persistent_term:put(max_message_size, {bytes})."),
            false => format!("application:set_env(rabbit, max_message_size, {bytes})."),
        };
        node.broker().eval(&set).await;
    };
    let story = async {
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
    limit(1000).await;
    // The next test has the node as it was, whatever comes of this one.
    let story = std::panic::AssertUnwindSafe(story).catch_unwind();
    let told = tokio::time::timeout(Duration::from_secs(30), story).await;
    limit(node.broker().largest_body().await).await;
    if let Err(panic) = told.expect("publishes around the limit in time") {
        std::panic::resume_unwind(panic);
    }
}
