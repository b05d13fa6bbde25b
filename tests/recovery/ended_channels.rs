//! What was consumed on a channel that has ended stays wanted. A channel in transaction mode is not reopened.

use actix_pika::{
    Channel, Consume, DeliveryStream, ErrorKind, OpenChannel, Transaction,
    events::{EntityKind, Health, NextTry},
};

use crate::support::{robust_connection::RobustConnection, within};

struct Test {
    robust: RobustConnection,
    channel: Channel,
    deliveries: DeliveryStream,
    transaction: Transaction,
}

impl Test {
    async fn start() -> Self {
        let robust = RobustConnection::connect().await;
        let channel = robust.connection.channel_with(OpenChannel::new().confirms(false)).await.unwrap();
        let queue = channel.declare_queue("jobs").await.unwrap();
        let deliveries = queue.deliveries_with(Consume::new().tag("worker")).await.unwrap();
        let transaction = channel.transaction().await.unwrap();
        Self { robust, channel, deliveries, transaction }
    }

    async fn missing(&self) -> Vec<(EntityKind, String, NextTry)> {
        let missing = within("what is missing", 10, self.robust.connection.missing()).await.unwrap();
        missing.into_iter().map(|one| (one.kind, one.name, one.next_try)).collect()
    }

    /// Waits until the consumer and the channel are missing.
    async fn wait_until_missing(&mut self) {
        self.robust.wait_for_health(|health| matches!(health, Health::Degraded(why) if why.len() == 2)).await;
        let (consumer, channel) = ("worker".to_owned(), self.channel.number().to_string());
        assert_eq!(
            self.missing().await,
            [
                (EntityKind::Consumer, consumer, NextTry::ByApplication),
                (EntityKind::Channel, channel, NextTry::ByApplication)
            ]
        );
    }

    async fn close_by_broker(&mut self) {
        self.channel.exchange("missing").publish("lost", "key").await.unwrap();
        let error = within("the end", 10, async {
            loop {
                match self.channel.close_cause() {
                    Some(error) => break error,
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        assert_eq!(error.close_reason().map(|reason| reason.code), Some(404));
        self.wait_until_missing().await;
    }

    async fn wait_until_up(&mut self) {
        self.robust.wait_for_health(Health::is_up).await;
        assert!(self.missing().await.is_empty());
    }
}

/// REC-60: until the application forgets it, or consumes with its tag elsewhere, or closes the channel.
#[actix::test]
async fn the_consumer_of_a_closed_transaction_channel_is_missing_until_the_application_acts() {
    for way in ["forget", "forget the queue", "consume", "close"] {
        let mut test = Test::start().await;
        test.close_by_broker().await;
        // A later channel has the same number.
        let other = test.robust.connection.channel().await.unwrap();
        assert_eq!(other.number(), test.channel.number());
        test.wait_until_missing().await;
        let connection = &test.robust.connection;
        match way {
            "forget" => assert!(connection.forget(EntityKind::Consumer, "worker").await.unwrap()),
            "forget the queue" => assert!(connection.forget(EntityKind::Queue, "jobs").await.unwrap()),
            "consume" => {
                let deliveries =
                    other.queue("jobs").deliveries_with(Consume::new().tag("worker")).await.unwrap();
                test.deliveries = deliveries;
            }
            _ => test.channel.close().await.unwrap(),
        }
        test.wait_until_up().await;
    }
}

/// REC-60: until the application drops the stream.
#[actix::test]
async fn the_stream_of_a_closed_transaction_channel_is_missing_until_it_is_dropped() {
    let mut test = Test::start().await;
    test.close_by_broker().await;
    let Test { mut robust, deliveries, channel, transaction } = test;
    drop(deliveries);
    robust.wait_for_health(Health::is_up).await;
    assert!(channel.is_closed());
    drop(transaction);
}

/// REC-60: a transaction is lost with its connection. The next ones do not change that.
#[actix::test]
async fn a_transaction_channel_that_is_lost_with_its_connection_leaves_its_consumer_missing() {
    let mut test = Test::start().await;
    test.robust.disconnect().await;
    test.robust.proxy.accept_new().await;
    test.robust.wait_for_recovery().await;
    test.wait_until_missing().await;
    assert_eq!(test.channel.close_cause().map(|error| error.kind()), Some(ErrorKind::ChannelClosed));
    test.robust.disconnect().await;
    test.robust.proxy.accept_new().await;
    test.robust.wait_for_recovery().await;
    test.wait_until_missing().await;
    let Test { mut robust, deliveries, channel, transaction } = test;
    drop((deliveries, channel, transaction));
    robust.wait_for_health(Health::is_up).await;
}
