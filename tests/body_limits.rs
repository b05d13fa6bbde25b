//! How large a body may be, against a real broker.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[macro_use]
mod support;

use actix_pika::{Connector, DeclareQueue, ErrorKind};
use futures_util::StreamExt;

use self::support::{eventually, within};

modes! {
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
