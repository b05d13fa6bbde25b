//! Properties of all handles: clones share one object, and closing twice is no error.

use std::{fmt::Debug, time::Duration};

use actix_pika::{
    Channel, Confirm, Connection, Connector, Consume, Consumer, ConsumerEnd, Delivery, DeliveryStream, Error,
    ErrorKind, Exchange, Queue, Transaction,
    message::{CloseChannel, CloseConnection, Processing},
    stream::{Batches, DeliveryBatch},
    testing::Probe,
};
use futures_util::StreamExt;

/// A compile-time check.
#[test]
fn handles_are_clone_send_and_sync() {
    fn handle<T: Clone + Send + Sync + Debug + 'static>() {}
    fn unique<T: Send + Debug + 'static>() {}
    handle::<Connector>();
    handle::<Connection>();
    handle::<Channel>();
    handle::<Exchange>();
    handle::<Queue>();
    handle::<Consumer>();
    handle::<Error>();
    unique::<Confirm>();
    unique::<Delivery>();
    unique::<Processing>();
    unique::<DeliveryStream>();
    unique::<Batches>();
    unique::<DeliveryBatch>();
    unique::<Transaction>();
}

crate::modes! {
    /// CNS-09, ITR-03: closing one clone closes all. A closed channel, its consumers and its streams may be closed again,
    /// in any order.
    async fn a_channel_its_consumers_and_streams_may_be_closed_again(bench: Bench) {
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
        let kind_and_reason = |error: Error| (error.kind(), error.close_reason().cloned());
        assert_eq!(kind_and_reason(channel.close_cause().unwrap()), (ErrorKind::ChannelClosed, None));
        assert!(stream.next().await.is_none() && batches.next().await.is_none());
        assert!(matches!(consumer.ended().await, ConsumerEnd::Closed(_)));
        channel.close().await.unwrap();
        channel.close_with(CloseChannel::new().reason(311, "again")).await.unwrap();
        for handle in [&consumer, &consumer.clone()] {
            handle.cancel().await.unwrap();
            let timed_out = handle.drain(Duration::from_millis(10)).await.unwrap_err();
            assert_eq!(timed_out.kind(), ErrorKind::Timeout);
        }
        stream.close().await.unwrap();
        batches.close().await.unwrap();

        // Everything else fails, on each clone.
        assert_eq!(kind_and_reason(delivery.ack().unwrap_err()), (ErrorKind::ChannelClosed, None));
        assert_eq!(kind_and_reason(consumer.pause().await.unwrap_err()), (ErrorKind::ChannelClosed, None));
        assert_eq!(kind_and_reason(clone.set_qos(1).await.unwrap_err()), (ErrorKind::ChannelClosed, None));
        assert_eq!(kind_and_reason(queue.clone().purge().await.unwrap_err()), (ErrorKind::ChannelClosed, None));
        let published = channel.exchange("amq.topic").clone().publish("late", "key").await;
        assert_eq!(kind_and_reason(published.unwrap_err()), (ErrorKind::ChannelClosed, None));
        consumer.drain(Duration::from_secs(5)).await.unwrap();
    }

    /// CON-05
    async fn a_connection_its_channels_and_consumers_may_be_closed_again(bench: Bench) {
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

    /// CH-26: also before it is polled.
    async fn a_publish_future_keeps_its_channel_open(bench: Bench) {
        bench.channel.declare_queue("jobs").await.unwrap();
        let sent = bench.another_channel().await.default_exchange().publish("work", "jobs");
        let deferred = bench.another_channel().await.default_exchange().publish_deferred("more", "jobs");
        // A round trip, in which the channels would close if nothing kept them open.
        bench.channel.declare_queue("jobs").await.unwrap();
        sent.await.unwrap();
        deferred.await.unwrap().await.unwrap();
    }

    /// CH-26: a clone of any handle keeps the channel open, and the last one closes it.
    async fn any_clone_keeps_its_channel_open(bench: Bench) {
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
        crate::support::eventually("both messages arrive", 10, async || {
            let declared = bench.channel.get_queue("jobs").await.unwrap().declared().unwrap().message_count;
            (declared == 2).then_some(())
        })
        .await;
        assert_eq!((clone.channel().is_closed(), clone.purge().await.unwrap()), (false, 2));
        drop(clone);
        crate::support::eventually("the channel number is free", 10, async || {
            let options = crate::support::modes::Bench::options(true).number(number);
            bench.connection.channel_with(options).await.ok()
        })
        .await;
    }
}
