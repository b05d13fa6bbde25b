//! The events of a connection so far, and waiting for them.

use std::time::Instant;

use actix_pika::{Connection, ConnectionEvent, Connector};
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::support::within;

#[derive(Clone, Debug, Default)]
pub struct History {
    /// Connected, and recovery is complete.
    pub up: bool,
    /// Connected, but recovery may not be complete.
    connected: bool,
    pub losses: u64,
    pub lost_at: Option<Instant>,
    pub recoveries: u64,
    pub blocked: u64,
    pub unblocked: u64,
    /// Events that must not happen, or not in this order.
    pub faults: Vec<String>,
}

/// A connection that recovers, and its history.
#[derive(Debug)]
pub struct WatchedConnection {
    pub connection: Connection,
    history: watch::Receiver<History>,
}

impl WatchedConnection {
    pub async fn connect(connector: Connector) -> Self {
        let connection = within("connect", 60, connector.connect()).await.expect("a connection");
        let start = History { up: true, connected: true, ..History::default() };
        let (sender, history) = watch::channel(start);
        let mut events = connection.events();
        actix_rt::spawn(async move {
            while let Some(event) = events.next().await {
                sender.send_modify(|history| history.record(event));
            }
        });
        Self { connection, history }
    }

    pub fn history(&self) -> History {
        self.history.borrow().clone()
    }

    /// Waits until `condition` holds, and panics with `what` after `secs` seconds.
    pub async fn wait_for(
        &self,
        what: &str,
        secs: u64,
        mut condition: impl FnMut(&History) -> bool,
    ) -> History {
        let mut history = self.history.clone();
        let result = within(what, secs, history.wait_for(|history| condition(history))).await;
        result.expect("an open connection").clone()
    }

    /// Waits until the connection was lost more than `before` times.
    pub async fn wait_for_loss(&self, before: u64) {
        self.wait_for("a lost connection", 120, |history| history.losses > before).await;
    }

    pub async fn wait_until_up(&self) {
        self.wait_for("a recovered connection", 120, |history| history.up).await;
    }
}

impl History {
    fn record(&mut self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Lost(_) => {
                if !std::mem::take(&mut self.connected) {
                    self.faults.push("Lost without a connection".into());
                }
                self.up = false;
                self.losses += 1;
                self.lost_at = Some(Instant::now());
            }
            ConnectionEvent::Connected => self.connected = true,
            ConnectionEvent::Recovered { skipped, .. } => {
                if self.up || !self.connected {
                    self.faults.push("Recovered without Lost and Connected".into());
                }
                self.up = true;
                self.recoveries += 1;
                self.faults.extend(skipped.iter().map(|one| format!("skipped: {one:?}")));
            }
            ConnectionEvent::Blocked(_) => self.blocked += 1,
            ConnectionEvent::Unblocked => self.unblocked += 1,
            ConnectionEvent::Closed(Some(error)) => self.faults.push(format!("closed: {error}")),
            _ => {}
        }
    }
}
