//! Tasks: what their handlers return settles their messages.

mod batches;
mod drain;
mod drains;
mod ends;
mod hostile;
mod ladder;
mod lanes;
mod late;
mod panics;
mod reconnects;
mod verdicts;

use actix_pika::{Channel, Connection, DeclareQueue, Publishing, Queue, connect};
use tokio::sync::mpsc;

use crate::support::{broker::Vhost, oracle::Oracle, within};

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Job {
    pub id: u32,
}

/// A queue with a dead-letter queue, `dead`.
pub struct Jobs {
    pub vhost: Vhost,
    pub connection: Connection,
    pub channel: Channel,
    pub queue: Queue,
    pub oracle: Oracle,
}

impl Jobs {
    pub async fn new() -> Self {
        let declare = DeclareQueue::new("jobs").dead_letter_exchange("").dead_letter_routing_key("dead");
        Self::of(declare).await
    }

    pub async fn of(declare: DeclareQueue) -> Self {
        let vhost = Vhost::fresh().await;
        let connection = within("connect", 10, connect(&vhost.url())).await.unwrap();
        let channel = connection.channel().await.unwrap();
        channel.declare_queue("dead").await.unwrap();
        let queue = channel.declare_queue(declare).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        Self { vhost, connection, channel, queue, oracle }
    }

    pub async fn publish(&self, ids: impl IntoIterator<Item = u32>) {
        publish(&self.channel, ids).await;
    }

    /// Waits until nothing is ready or unsettled.
    pub async fn until_empty(&self) {
        self.until_unsettled(0).await;
        assert_eq!(self.oracle.queue_counts("jobs").await.unwrap().0, 0);
    }

    pub async fn until_unsettled(&self, deliveries: usize) {
        crate::support::until_unsettled(&self.channel, deliveries).await;
    }

    /// Returns the ids in a queue, in order.
    pub async fn ids(&self, queue: &str) -> Vec<u32> {
        let bodies = self.oracle.drain_bodies(queue).await;
        bodies.iter().map(|body| serde_json::from_slice::<Job>(body).unwrap().id).collect()
    }
}

pub async fn publish(channel: &Channel, ids: impl IntoIterator<Item = u32>) {
    for id in ids {
        let body = serde_json::to_vec(&Job { id }).unwrap();
        let message = Publishing::new(body).content_type("application/json").message_id(format!("job-{id}"));
        within("a publish", 10, channel.default_exchange().publish(message, "jobs")).await.unwrap();
    }
}

/// Receives what handlers report.
pub struct Reports<R>(mpsc::UnboundedReceiver<R>);

pub fn reports<R>() -> (mpsc::UnboundedSender<R>, Reports<R>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Reports(receiver))
}

impl<R> Reports<R> {
    pub async fn next(&mut self) -> R {
        within("a report of a handler", 15, self.0.recv()).await.expect("the handler is there")
    }

    pub async fn take(&mut self, n: usize) -> Vec<R> {
        let mut reports = Vec::new();
        for _ in 0..n {
            reports.push(self.next().await);
        }
        reports
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
