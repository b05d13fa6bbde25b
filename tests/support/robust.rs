//! A robust connection through a proxy that can cut it.

use super::{broker::Vhost, oracle::Oracle, proxy::*, within};
use actix_pika::{
    Channel, Connection, ConnectionEvent, Connector, Error, Recovery,
    events::{Events, Health, Skipped},
    testing::{GetRecordCounts, RecordCounts},
};
use futures_util::StreamExt;
use std::{sync::Arc, time::Duration};

/// A virtual host, a proxy in front of it, a connection that recovers, and what it says of itself.
pub struct Robust {
    pub vhost: Vhost,
    pub proxy: Proxy,
    pub connection: Connection,
    pub events: Events<ConnectionEvent>,
}

impl Robust {
    /// Recovers after 10 to 100 milliseconds.
    pub async fn connect() -> Self {
        Self::connect_with(|connector| connector).await
    }

    pub async fn connect_with(settings: impl FnOnce(Connector) -> Connector) -> Self {
        Self::connect_to(Vhost::fresh().await, settings).await
    }

    /// Connects to a virtual host of another broker.
    pub async fn connect_to(vhost: Vhost, settings: impl FnOnce(Connector) -> Connector) -> Self {
        let proxy = Proxy::to(&vhost.broker().address());
        let url = proxy.url(&vhost.url());
        Self::through(vhost, proxy, &url, settings).await
    }

    /// Connects past the proxy, which would lose what a broker says right before it resets the connection.
    pub async fn direct(vhost: Vhost, settings: impl FnOnce(Connector) -> Connector) -> Self {
        let proxy = Proxy::to(&vhost.broker().address());
        let url = vhost.url();
        Self::through(vhost, proxy, &url, settings).await
    }

    async fn through(
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

    /// Another client in the same virtual host, past the proxy.
    pub async fn oracle(&self) -> Oracle {
        Oracle::connect(&self.vhost.url()).await
    }

    /// What would be declared again.
    pub async fn records(&self) -> RecordCounts {
        self.connection.actor().send(GetRecordCounts).await.unwrap()
    }

    /// Waits until the health is one that satisfies `test`.
    pub async fn healthy(&mut self, test: impl Fn(&Health) -> bool) {
        while !test(&self.connection.health().await.unwrap()) {
            within("another health", 30, self.events.next()).await.expect("a connection that goes on");
        }
    }

    /// The next event that is neither of the health nor of a try.
    pub async fn event(&mut self) -> ConnectionEvent {
        loop {
            match within("an event", 30, self.events.next()).await.expect("a connection that goes on") {
                ConnectionEvent::Health(_) | ConnectionEvent::Retrying { .. } => {}
                event => return event,
            }
        }
    }

    /// Waits until the connection is lost.
    pub async fn lost(&mut self) -> Error {
        match self.event().await {
            ConnectionEvent::Lost(error) => error,
            event => panic!("{event:?}"),
        }
    }

    /// Waits until everything is as before; tells what is not.
    pub async fn restored(&mut self) -> Arc<[Skipped]> {
        loop {
            match self.event().await {
                // Lost once more on the way.
                ConnectionEvent::Connected | ConnectionEvent::Lost(_) => {}
                ConnectionEvent::Recovered { skipped, .. } => return skipped,
                event => panic!("{event:?}"),
            }
        }
    }

    /// Takes the connection away, until the proxy lets in others.
    pub async fn lose(&mut self) {
        self.proxy.refuse().await;
        self.proxy.cut_all(Cut::Rst);
        self.lost().await;
    }

    /// Cuts the connection and waits until everything is as before.
    pub async fn cut(&mut self) {
        self.proxy.cut_all(Cut::Rst);
        self.lost().await;
        let skipped = self.restored().await;
        assert!(skipped.is_empty(), "{skipped:?}");
    }
}
