//! What a connection told of itself so far, so that it can be waited for.

use std::time::Instant;

use actix_pika::{Connection, ConnectionEvent, Connector};
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::support::within;

#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Everything is as before.
    pub up: bool,
    /// There is a connection, though channels may not go on yet.
    connected: bool,
    pub lost: u64,
    pub lost_at: Option<Instant>,
    pub restored: u64,
    pub blocked: u64,
    pub unblocked: u64,
    /// What was not as it should be.
    pub faults: Vec<String>,
}

/// A connection that recovers, and its story.
#[derive(Debug)]
pub struct Told {
    pub connection: Connection,
    story: watch::Receiver<Story>,
}

impl Told {
    pub async fn connect(connector: Connector) -> Self {
        let connection = within("connect", 30, connector.connect()).await.expect("a connection");
        let (tell, story) = watch::channel(Story { up: true, connected: true, ..Story::default() });
        let mut events = connection.events();
        actix_rt::spawn(async move {
            while let Some(event) = events.next().await {
                tell.send_modify(|story| story.take(event));
            }
        });
        Self { connection, story }
    }

    pub fn now(&self) -> Story {
        self.story.borrow().clone()
    }

    pub async fn until(&self, what: &str, secs: u64, mut is: impl FnMut(&Story) -> bool) -> Story {
        let mut story = self.story.clone();
        let now = within(what, secs, story.wait_for(|story| is(story))).await;
        now.expect("a connection that goes on").clone()
    }

    pub async fn up(&self) {
        self.until("a connection that is restored", 60, |story| story.up).await;
    }
}

impl Story {
    fn take(&mut self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Lost(_) => {
                if !std::mem::take(&mut self.connected) {
                    self.faults.push("lost twice".into());
                }
                self.up = false;
                self.lost += 1;
                self.lost_at = Some(Instant::now());
            }
            ConnectionEvent::Connected => self.connected = true,
            ConnectionEvent::Recovered { skipped, .. } => {
                if self.up || !self.connected {
                    self.faults.push("restored without a loss".into());
                }
                self.up = true;
                self.restored += 1;
                self.faults.extend(skipped.iter().map(|one| format!("skipped: {one:?}")));
            }
            ConnectionEvent::Blocked(_) => self.blocked += 1,
            ConnectionEvent::Unblocked => self.unblocked += 1,
            ConnectionEvent::Closed(Some(error)) => self.faults.push(format!("closed: {error}")),
            _ => {}
        }
    }
}
