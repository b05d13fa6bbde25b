//! A robust connection through a proxy that can cut it.

use super::{broker::Vhost, oracle::Oracle, proxy::*, within};
use actix_pika::{
    Channel, Connection, ConnectionEvent, Connector, Error, Recovery,
    events::{Events, Health, Skipped},
    testing::{GetRecordCounts, RecordCounts},
};
use futures_util::StreamExt;
use std::{sync::Arc, time::Duration};

/// A connection that recovers, its virtual host, the proxy between, and its events.
pub struct RobustConnection {
    pub vhost: Vhost,
    pub proxy: Proxy,
    pub connection: Connection,
    pub events: Events<ConnectionEvent>,
}

impl RobustConnection {
    /// Connects to a new virtual host of the broker under test. Reconnects after 20 to 100 milliseconds.
    pub async fn connect() -> Self {
        Self::connect_with(|connector| connector).await
    }

    /// As [`connect`](Self::connect), over plain TCP: for tests that look at the bytes on the wire.
    pub async fn connect_plain() -> Self {
        Self::connect_to(Vhost::fresh_plain().await, |connector| connector).await
    }

    pub async fn connect_with(settings: impl FnOnce(Connector) -> Connector) -> Self {
        Self::connect_to(Vhost::fresh().await, settings).await
    }

    /// Connects to a virtual host of another broker.
    pub async fn connect_to(vhost: Vhost, settings: impl FnOnce(Connector) -> Connector) -> Self {
        let proxy = Proxy::to(&vhost.broker().address());
        let url = proxy.url(&vhost.url());
        Self::connect_by_url(vhost, proxy, &url, settings).await
    }

    /// Connects without the proxy, which may lose the last frames that a broker sends before it resets the connection.
    pub async fn connect_without_proxy(vhost: Vhost, settings: impl FnOnce(Connector) -> Connector) -> Self {
        let proxy = Proxy::to(&vhost.broker().address());
        let url = vhost.url();
        Self::connect_by_url(vhost, proxy, &url, settings).await
    }

    async fn connect_by_url(
        vhost: Vhost,
        proxy: Proxy,
        url: &str,
        settings: impl FnOnce(Connector) -> Connector,
    ) -> Self {
        let recovery = Recovery::exponential(Duration::from_millis(20), Duration::from_millis(100));
        let connector = Connector::new(url).unwrap().recovery(recovery);
        let connection = within("connect", 10, settings(connector).connect()).await.unwrap();
        let events = connection.events();
        Self { vhost, proxy, connection, events }
    }

    pub async fn channel(&self) -> Channel {
        within("a channel", 10, self.connection.channel()).await.unwrap()
    }

    /// Connects the other client to the same virtual host, without the proxy.
    pub async fn oracle(&self) -> Oracle {
        Oracle::connect(&self.vhost.url()).await
    }

    /// Returns how many entities a recovery would declare again.
    pub async fn records(&self) -> RecordCounts {
        self.connection.actor().send(GetRecordCounts).await.unwrap()
    }

    /// Waits for a health that satisfies `test`.
    pub async fn wait_for_health(&mut self, test: impl Fn(&Health) -> bool) {
        while !test(&self.connection.health().await.unwrap()) {
            within("another health", 30, self.events.next()).await.expect("the connection is not closed");
        }
    }

    /// Returns the next event other than `Health` and `Retrying`.
    pub async fn next_event(&mut self) -> ConnectionEvent {
        loop {
            match within("an event", 30, self.events.next()).await.expect("the connection is not closed") {
                ConnectionEvent::Health(_) | ConnectionEvent::Retrying { .. } => {}
                event => return event,
            }
        }
    }

    /// Waits until the connection is lost, and returns the cause.
    pub async fn wait_for_loss(&mut self) -> Error {
        match self.next_event().await {
            ConnectionEvent::Lost(error) => error,
            event => panic!("{event:?}"),
        }
    }

    /// Waits until the connection has recovered, and returns what was skipped.
    pub async fn wait_for_recovery(&mut self) -> Arc<[Skipped]> {
        loop {
            match self.next_event().await {
                // The connection may be lost again before it has recovered.
                ConnectionEvent::Connected | ConnectionEvent::Lost(_) => {}
                ConnectionEvent::Recovered { skipped, .. } => return skipped,
                event => panic!("{event:?}"),
            }
        }
    }

    /// Resets the connection and refuses new ones until `proxy.accept_new()`.
    pub async fn disconnect(&mut self) {
        self.proxy.refuse_new().await;
        self.proxy.cut_all(Cut::Rst);
        self.wait_for_loss().await;
    }

    /// Resets the connection and waits until it has recovered completely.
    pub async fn cut_and_recover(&mut self) {
        self.proxy.cut_all(Cut::Rst);
        self.wait_for_loss().await;
        let skipped = self.wait_for_recovery().await;
        assert!(skipped.is_empty(), "{skipped:?}");
    }
}
