//! Hooks: what they see of publishes and tasks, traces, spans.

mod outcomes;
mod publishes;
#[cfg(feature = "tracing")]
mod spans;
mod traces;

use std::sync::{Arc, Mutex};

use actix_pika::{
    Channel, Connection, Connector, DeclareQueue, Queue,
    hook::{Hook, Incoming, Outgoing, PublishEnd, PublishOutcome, Span, TaskEnd},
};
use tokio::sync::Notify;

use crate::support::{broker::Vhost, within};

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Job {
    pub id: u32,
}

/// What hooks and handlers have reported. Clones share it.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Vec<String>>, Notify)>);

impl Log {
    pub fn add(&self, line: impl Into<String>) {
        self.0.0.lock().unwrap().push(line.into());
        self.0.1.notify_waiters();
    }

    /// Waits for `n` lines, and returns all.
    pub async fn lines(&self, n: usize) -> Vec<String> {
        let enough = async {
            loop {
                let changed = self.0.1.notified();
                let lines = self.0.0.lock().unwrap().clone();
                if lines.len() >= n {
                    return lines;
                }
                changed.await;
            }
        };
        within("what is reported", 20, enough).await
    }

    /// Waits for `n` lines that begin so, and returns them.
    pub async fn that_begin(&self, start: &str, n: usize) -> Vec<String> {
        let mut seen = n;
        loop {
            let lines = self.lines(seen).await;
            let found: Vec<String> = lines.iter().filter(|line| line.starts_with(start)).cloned().collect();
            if found.len() >= n {
                return found;
            }
            seen = lines.len() + 1;
        }
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.0.lock().unwrap())
    }
}

/// A hook that reports what it sees.
pub struct Recorder {
    pub name: &'static str,
    pub log: Log,
}

pub fn recorder(name: &'static str, log: &Log) -> Recorder {
    Recorder { name, log: log.clone() }
}

struct Within {
    name: &'static str,
    log: Log,
}

impl Span for Within {
    fn within(&self, run: &mut dyn FnMut()) {
        self.log.add(format!("> {}", self.name));
        run();
        self.log.add(format!("< {}", self.name));
    }
}

fn published(outcome: PublishOutcome<'_>) -> String {
    match outcome {
        PublishOutcome::Published(confirmation) => format!("confirmed {}", confirmation.is_confirmed()),
        PublishOutcome::Failed(error) => format!("{:?}", error.kind()),
        _ => "unknown".to_owned(),
    }
}

impl Hook for Recorder {
    fn publishing(&self, message: &mut Outgoing<'_>) -> Option<Box<dyn Span>> {
        let (kind, key) = (message.kind().as_str(), message.routing_key().to_owned());
        self.log.add(format!("publishing {} {kind} {key}", self.name));
        message.properties_mut().headers_mut().insert(self.name, "seen");
        None
    }

    fn published(&self, end: &PublishEnd<'_>) {
        let (kind, key) = (end.kind().as_str(), end.routing_key());
        self.log.add(format!("published {} {kind} {key}: {}", self.name, published(end.outcome())));
    }

    fn begin(&self, message: &Incoming<'_>) -> Option<Box<dyn Span>> {
        self.log.add(format!("begin {} {} {}", self.name, message.queue(), message.attempt()));
        Some(Box::new(Within { name: self.name, log: self.log.clone() }))
    }

    fn end(&self, end: &TaskEnd<'_>) {
        self.log.add(format!("end {} {}", self.name, end.outcome().as_str()));
    }
}

/// A hook that reports how tasks end: body, try, outcome, cause, its text, whether a handler was called.
pub struct Ends(pub Log);

impl Hook for Ends {
    fn begin(&self, message: &Incoming<'_>) -> Option<Box<dyn Span>> {
        assert!(message.age().is_none());
        None
    }

    fn end(&self, end: &TaskEnd<'_>) {
        let message = end.message();
        let body = String::from_utf8_lossy(message.content().body());
        let called = if end.took().is_some() { "called" } else { "not called" };
        let cause = end.cause().map_or("done", |cause| cause.as_str());
        let (text, attempt) = (end.cause_text().unwrap_or("-"), message.attempt());
        let outcome = end.outcome().as_str();
        self.0.add(format!("{body} {attempt} {outcome}, {cause} ({text}), {called}"));
    }
}

/// A connection with hooks to a new virtual host, and a queue `jobs` with the dead letters `dead`.
pub struct Hooked {
    pub vhost: Vhost,
    pub connection: Connection,
    pub channel: Channel,
    pub jobs: Queue,
}

impl Hooked {
    pub async fn open(hooks: impl FnOnce(Connector) -> Connector) -> Self {
        let vhost = Vhost::fresh().await;
        let connector = hooks(Connector::new(&vhost.url()).unwrap());
        let connection = within("connect", 10, connector.connect()).await.unwrap();
        let channel = connection.channel().await.unwrap();
        channel.declare_queue("dead").await.unwrap();
        let declare = DeclareQueue::new("jobs").dead_letter_exchange("").dead_letter_routing_key("dead");
        let jobs = channel.declare_queue(declare).await.unwrap();
        Self { vhost, connection, channel, jobs }
    }

    pub async fn publish(&self, ids: impl IntoIterator<Item = u32>) {
        let publisher = self.jobs.publisher::<Job>();
        for id in ids {
            within("a publish", 10, publisher.publish(&Job { id })).await.unwrap();
        }
    }
}
