//! What holds for every handle: clones are the same thing, and to end something twice is fine.

use std::{fmt::Debug, time::Duration};

use actix_pika::{
    Channel, Confirm, Connection, Connector, Consume, Consumer, ConsumerEnd, Delivery, DeliveryStream, Error,
    ErrorKind, Exchange, Queue, Transaction,
    message::{CloseChannel, CloseConnection, Processing},
    stream::{Batches, DeliveryBatch},
    testing::Probe,
};
use futures_util::StreamExt;

/// They go where the work is, and can be shown.
#[test]
fn handles_are_cloned_and_what_is_there_once_is_sent() {
    fn handle<T: Clone + Send + Sync + Debug + 'static>() {}
    fn single<T: Send + Debug + 'static>() {}
    handle::<Connector>();
    handle::<Connection>();
    handle::<Channel>();
    handle::<Exchange>();
    handle::<Queue>();
    handle::<Consumer>();
    handle::<Error>();
    single::<Confirm>();
    single::<Delivery>();
    single::<Processing>();
    single::<DeliveryStream>();
    single::<Batches>();
    single::<DeliveryBatch>();
    single::<Transaction>();
}

crate::modes! {
    /// CNS-09, ITR-03: each clone tells of the end, whichever was used to end it, and a channel that is closed, its
    /// consumers and its streams may be ended again, in whatever order.
    async fn a_channel_and_what_is_on_it_may_be_ended_again(bench: Bench) {
        let (channel, clone) = (bench.channel.clone(), bench.channel.clone());
        let queue = channel.declare_queue("jobs").await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        let consumer = queue.clone().consume_with(Consume::new().prefetch(1), probe.recipient()).await.unwrap();
        clone.default_exchange().publish("work", "jobs").await.unwrap();
        let delivery = probe.next().await.unwrap();
        let mut stream = queue.deliveries().await.unwrap();
        let mut batches = queue.deliveries().await.unwrap().batches(2, Duration::from_millis(1));

        clone.close().await.unwrap();
        assert!(channel.is_closed() && queue.channel().is_closed() && consumer.channel().is_closed());
        let facts = |error: Error| (error.kind(), error.close_reason().cloned());
        assert_eq!(facts(channel.close_cause().unwrap()), (ErrorKind::ChannelClosed, None));
        assert!(stream.next().await.is_none() && batches.next().await.is_none());
        assert!(matches!(consumer.ended().await, ConsumerEnd::Closed(_)));
        channel.close().await.unwrap();
        channel.close_with(CloseChannel::new().reason(311, "again")).await.unwrap();
        for handle in [&consumer, &consumer.clone()] {
            handle.cancel().await.unwrap();
            let in_hand = handle.drain(Duration::from_millis(10)).await.unwrap_err();
            assert_eq!(in_hand.kind(), ErrorKind::Timeout);
        }
        stream.close().await.unwrap();
        batches.close().await.unwrap();

        // Everything else is refused, by each of them.
        assert_eq!(facts(delivery.ack().unwrap_err()), (ErrorKind::ChannelClosed, None));
        assert_eq!(facts(consumer.pause().await.unwrap_err()), (ErrorKind::ChannelClosed, None));
        assert_eq!(facts(clone.set_qos(1).await.unwrap_err()), (ErrorKind::ChannelClosed, None));
        assert_eq!(facts(queue.clone().purge().await.unwrap_err()), (ErrorKind::ChannelClosed, None));
        let published = channel.exchange("amq.topic").clone().publish("late", "key").await;
        assert_eq!(facts(published.unwrap_err()), (ErrorKind::ChannelClosed, None));
        consumer.drain(Duration::from_secs(5)).await.unwrap();
    }

    /// CON-05: so may a connection, its channels and all that is on them.
    async fn a_connection_and_what_is_on_it_may_be_ended_again(bench: Bench) {
        let (connection, clone) = (bench.connection.clone(), bench.connection.clone());
        let channel = bench.channel.clone();
        let queue = channel.declare_queue("jobs").await.unwrap();
        let probe = Probe::<Delivery>::start();
        let consumer = queue.consume(probe.recipient()).await.unwrap();
        let stream = queue.deliveries().await.unwrap();

        clone.close_with(CloseConnection::new().reason(200, "done")).await.unwrap();
        assert!(connection.is_closed() && channel.connection().is_closed() && channel.is_closed());
        for handle in [&connection, &clone, channel.connection()] {
            handle.close().await.unwrap();
            handle.closed().await.unwrap();
        }
        for handle in [&channel, &channel.clone()] {
            handle.close().await.unwrap();
        }
        consumer.cancel().await.unwrap();
        consumer.drain(Duration::from_secs(5)).await.unwrap();
        stream.close().await.unwrap();
        assert_eq!(connection.channel().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
        assert_eq!(queue.get().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    }

    /// CH-26: a publish that has not been polled yet keeps its channel open.
    async fn a_publish_future_keeps_the_channel(bench: Bench) {
        bench.channel.declare_queue("jobs").await.unwrap();
        let sent = bench.another_channel().await.default_exchange().publish("work", "jobs");
        let queued = bench.another_channel().await.default_exchange().publish_deferred("more", "jobs");
        // Time for the channels to close, if anything let go of them.
        bench.channel.declare_queue("jobs").await.unwrap();
        sent.await.unwrap();
        queued.await.unwrap().await.unwrap();
    }

    /// CH-26: a clone of any handle keeps the channel, and only the last one lets it go.
    async fn any_clone_keeps_the_channel(bench: Bench) {
        let channel = bench.another_channel().await;
        let queue = channel.declare_queue("jobs").await.unwrap();
        let exchange = channel.default_exchange();
        let confirm = exchange.publish_deferred("work", "jobs").await.unwrap();
        let number = channel.number();
        let clone = queue.clone();
        drop((channel, queue));
        exchange.publish("more", "jobs").await.unwrap();
        confirm.await.unwrap();
        drop(exchange);
        crate::support::eventually("both are there", 10, async || {
            let declared = bench.channel.get_queue("jobs").await.unwrap().declared().unwrap().message_count;
            (declared == 2).then_some(())
        })
        .await;
        assert_eq!((clone.channel().is_closed(), clone.purge().await.unwrap()), (false, 2));
        drop(clone);
        // Its number is free again.
        crate::support::eventually("the channel is gone", 10, async || {
            let options = crate::support::modes::Bench::options(true).number(number);
            bench.connection.channel_with(options).await.ok()
        })
        .await;
    }
}
