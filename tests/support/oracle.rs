//! Another client (lapin), which prepares and checks queues independently of this library.
//!
//! Its methods panic when they fail.

use lapin::message::Delivery;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};

use super::broker::tls::without_tls;

/// A connection of the other client with one channel in confirm mode.
pub struct Oracle {
    connection: Connection,
    channel: Channel,
}

impl std::fmt::Debug for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Oracle")
    }
}

impl Oracle {
    /// Connects to the virtual host of `url`.
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.unwrap_or_else(|e| panic!("the oracle cannot connect to {url}: {e}"))
    }

    pub async fn try_connect(url: &str) -> lapin::Result<Self> {
        let connection = Connection::connect(&without_tls(url), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel })
    }

    /// Returns the channel, for methods without a helper here.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Declares a durable queue.
    pub async fn declare_queue(&self, queue: &str) {
        self.declare_queue_with(queue, QueueDeclareOptions::durable(), FieldTable::default()).await;
    }

    pub async fn declare_queue_with(&self, queue: &str, options: QueueDeclareOptions, arguments: FieldTable) {
        self.channel
            .queue_declare(queue.into(), options, arguments)
            .await
            .unwrap_or_else(|e| panic!("the oracle cannot declare queue {queue}: {e}"));
    }

    /// Declares a durable exchange.
    pub async fn declare_exchange(&self, exchange: &str, kind: ExchangeKind) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        self.channel
            .exchange_declare(exchange.into(), kind, options, FieldTable::default())
            .await
            .unwrap_or_else(|e| panic!("the oracle cannot declare exchange {exchange}: {e}"));
    }

    pub async fn bind(&self, queue: &str, exchange: &str, routing_key: &str) {
        self.channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                routing_key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap_or_else(|e| panic!("the oracle cannot bind {queue} to {exchange}: {e}"));
    }

    /// Publishes and waits for the confirm.
    pub async fn publish(&self, exchange: &str, routing_key: &str, body: impl AsRef<[u8]>) {
        self.publish_with(exchange, routing_key, body, BasicProperties::default()).await;
    }

    pub async fn publish_with(
        &self,
        exchange: &str,
        routing_key: &str,
        body: impl AsRef<[u8]>,
        properties: BasicProperties,
    ) {
        let publish = async {
            self.channel
                .basic_publish(
                    exchange.into(),
                    routing_key.into(),
                    BasicPublishOptions::default(),
                    body.as_ref(),
                    properties,
                )
                .await?
                .await
        };
        match publish.await {
            Ok(Confirmation::Ack(_)) => {}
            other => panic!("the oracle cannot publish to {exchange}/{routing_key}: {other:?}"),
        }
    }

    /// Takes one message without acknowledgement.
    pub async fn get(&self, queue: &str) -> Option<Delivery> {
        self.channel
            .basic_get(queue.into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap_or_else(|e| panic!("the oracle cannot get from {queue}: {e}"))
            .map(|message| message.delivery)
    }

    /// Takes all messages that are ready.
    pub async fn drain(&self, queue: &str) -> Vec<Delivery> {
        let mut messages = Vec::new();
        while let Some(message) = self.get(queue).await {
            messages.push(message);
        }
        messages
    }

    /// Takes all messages that are ready, and returns their bodies in order.
    pub async fn drain_bodies(&self, queue: &str) -> Vec<Vec<u8>> {
        let messages = self.drain(queue).await;
        messages.into_iter().map(|message| message.data).collect()
    }

    /// Returns the current numbers of ready messages (without the unacknowledged ones) and of consumers of a queue; `None`
    /// if the queue does not exist. The exclusive queue of a lost connection is locked until the broker has removed it:
    /// waits for that.
    pub async fn queue_counts(&self, queue: &str) -> Option<(u32, u32)> {
        let what = format!("the lock of {queue} is released");
        super::eventually(&what, 10, async || self.counts_unless_locked(queue).await).await
    }

    /// Returns `None` if another connection locks the queue.
    async fn counts_unless_locked(&self, queue: &str) -> Option<Option<(u32, u32)>> {
        // On a new channel, because the broker closes the channel if the queue is missing or locked.
        let channel = self.connection.create_channel().await.expect("a channel");
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let error = match channel.queue_declare(queue.into(), options, FieldTable::default()).await {
            Ok(queue) => {
                let _ = channel.close(200, "".into()).await;
                return Some(Some((queue.message_count(), queue.consumer_count())));
            }
            Err(error) => error,
        };
        match &error.kind() {
            lapin::ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404 => Some(None),
            lapin::ErrorKind::ProtocolError(refusal) if refusal.get_id() == 405 => None,
            _ => panic!("the oracle cannot inspect {queue}: {error}"),
        }
    }

    /// Returns the number of ready messages of a queue that must exist.
    pub async fn count(&self, queue: &str) -> u32 {
        match self.queue_counts(queue).await {
            Some((messages, _)) => messages,
            None => panic!("there is no queue {queue}"),
        }
    }

    /// Waits for a number of ready messages. A broker requeues the messages of a closed channel after it has sent close-ok.
    pub async fn wait_for_count(&self, queue: &str, messages: u32) {
        let what = format!("{messages} messages in {queue}");
        super::eventually(&what, 10, async || (self.count(queue).await == messages).then_some(())).await;
    }

    /// Waits for a number of consumers. Those of a lost connection count until the broker has removed them, which may be
    /// after the client has recovered.
    pub async fn wait_for_consumers(&self, queue: &str, consumers: u32) {
        let what = format!("{consumers} consumers of {queue}");
        let counted = async || self.queue_counts(queue).await.is_some_and(|counts| counts.1 == consumers);
        super::eventually(&what, 30, async || counted().await.then_some(())).await;
    }

    /// Waits until no consumer is left, and all messages are back: this number of them.
    pub async fn wait_for_requeue(&self, queue: &str, messages: u32) {
        let what = format!("{messages} messages and no consumer in {queue}");
        let requeued = async || (self.queue_counts(queue).await == Some((messages, 0))).then_some(());
        super::eventually(&what, 30, requeued).await;
    }

    pub async fn close(self) {
        let _ = self.connection.close(200, "done".into()).await;
    }
}
