//! The project's test broker, in the process of the tests.

use std::sync::{Arc, OnceLock};

use actix_pika_broker::{
    Broker as TestBroker, Builder, ConnectionView, ConsumerView, Line, QueueKind, QueueView,
};

use super::administration::*;

/// A test broker. It ends with its last user.
#[derive(Debug, Clone)]
pub(super) struct Embedded(pub(super) Arc<TestBroker>);

impl Embedded {
    /// Returns the broker of this process.
    pub(super) fn of_process(line: Line) -> Self {
        static BROKER: OnceLock<Embedded> = OnceLock::new();
        BROKER.get_or_init(|| Self::start(line)).clone()
    }

    /// Starts another one.
    pub(super) fn start(line: Line) -> Self {
        Self::start_with(line, |builder| builder)
    }

    pub(super) fn start_with(line: Line, settings: impl FnOnce(Builder) -> Builder) -> Self {
        let builder = settings(TestBroker::builder().line(line));
        Self(Arc::new(builder.start().expect("the test broker starts")))
    }

    fn connections_of(&self, vhost: &str) -> Vec<ConnectionView> {
        let mut connections = self.0.connections();
        connections.retain(|connection| connection.vhost == vhost);
        connections
    }
}

impl Administration for Embedded {
    fn version(&self) -> String {
        self.0.line().version().to_owned()
    }

    fn has_vhost(&self, name: &str) -> bool {
        self.0.in_vhost(name).exists()
    }

    fn create_vhost(&self, name: &str) {
        self.0.add_vhost(name);
    }

    fn delete_vhost(&self, name: &str) -> bool {
        self.0.remove_vhost(name)
    }

    fn has_user(&self, name: &str) -> bool {
        self.0.has_user(name)
    }

    fn set_password(&self, user: &str, password: &str) {
        self.0.add_user(user, password);
    }

    fn delete_user(&self, name: &str) -> bool {
        self.0.remove_user(name)
    }

    fn clean_up(&self, vhost: &str, users: &[String]) {
        self.0.remove_vhost(vhost);
        for user in users {
            self.0.remove_user(user);
        }
    }

    fn permit(&self, vhost: &str, user: &str, Names { configure, write, read }: Names<'_>) {
        self.0
            .in_vhost(vhost)
            .set_permissions(user, [configure, write, read])
            .expect("a user, a virtual host and patterns");
    }

    fn permit_topics(&self, vhost: &str, user: &str, Topics { exchange, write, read }: Topics<'_>) {
        self.0
            .in_vhost(vhost)
            .set_topic_permissions(user, exchange, [write, read])
            .expect("a user, a virtual host and patterns");
    }

    fn limit(&self, what: Limit<'_>, value: Option<u32>) {
        let is_there = match what {
            Limit::ConnectionsOfVhost(name) => self.0.limit_connections_of_vhost(name, value),
            Limit::ConnectionsOfUser(name) => self.0.limit_connections_of_user(name, value),
            Limit::ChannelsOfUser(name) => self.0.limit_channels_of_user(name, value),
        };
        assert!(is_there, "there is nothing to limit");
    }

    fn queues(&self, vhost: &str) -> Vec<QueueInfo> {
        self.0.in_vhost(vhost).queues().iter().map(queue).collect()
    }

    fn queue(&self, vhost: &str, name: &str) -> Option<QueueInfo> {
        self.0.in_vhost(vhost).queue(name).as_ref().map(queue)
    }

    fn delete_queue(&self, vhost: &str, name: &str) {
        assert!(self.0.in_vhost(vhost).delete_queue(name), "no queue {name}");
    }

    fn exchanges(&self, vhost: &str) -> Vec<ExchangeInfo> {
        let exchanges = self.0.in_vhost(vhost).exchanges();
        let exchanges = exchanges.into_iter().map(|one| ExchangeInfo {
            name: one.name.to_string(),
            kind: one.kind.to_string(),
            durable: one.durable,
            auto_delete: one.auto_delete,
            internal: one.internal,
            arguments: normal(&one.arguments),
        });
        exchanges.collect()
    }

    fn delete_exchange(&self, vhost: &str, name: &str) {
        assert!(self.0.in_vhost(vhost).delete_exchange(name), "no exchange {name}");
    }

    fn bindings(&self, vhost: &str) -> Vec<BindingInfo> {
        let bindings = self.0.in_vhost(vhost).bindings();
        let bindings = bindings.into_iter().map(|one| BindingInfo {
            source: one.source.to_string(),
            destination: one.destination.to_string(),
            destination_is_queue: one.to_queue,
            routing_key: one.key.to_string(),
            arguments: normal(&one.arguments),
        });
        bindings.collect()
    }

    fn consumers(&self, vhost: &str) -> Vec<ConsumerInfo> {
        self.0.in_vhost(vhost).consumers().iter().map(consumer).collect()
    }

    fn connections(&self, vhost: &str) -> Vec<ConnectionInfo> {
        self.connections_of(vhost).into_iter().map(connection).collect()
    }

    fn channels(&self, vhost: &str) -> Vec<ChannelInfo> {
        let channels = self.connections_of(vhost).into_iter().flat_map(|connection| connection.channels);
        channels.map(|number| ChannelInfo { number: number.into() }).collect()
    }

    fn close_connection(&self, name: &str, reason: &str) -> bool {
        let connections = self.0.connections();
        let found = connections.iter().find(|connection| connection.address == name);
        found.is_some_and(|connection| self.0.close_connection(connection.id, 320, reason))
    }
}

fn queue(view: &QueueView) -> QueueInfo {
    let kind = match &view.settings.kind {
        QueueKind::Classic { .. } => "classic",
        QueueKind::Quorum { .. } => "quorum",
        QueueKind::Stream { .. } => "stream",
        other => panic!("a queue of the kind {other:?}"),
    };
    QueueInfo {
        name: view.name.to_string(),
        kind: kind.to_owned(),
        durable: view.durable,
        auto_delete: view.auto_delete,
        exclusive: view.owner.is_some(),
        arguments: normal(&view.arguments),
        messages: Some((view.ready + view.unacked) as u64),
        members: Vec::new(),
        leader: None,
    }
}

fn consumer(view: &ConsumerView) -> ConsumerInfo {
    ConsumerInfo {
        tag: view.tag.to_string(),
        queue: view.queue.to_string(),
        prefetch: view.prefetch.into(),
        needs_ack: !view.no_ack,
        exclusive: view.exclusive,
        arguments: normal(&view.arguments),
    }
}

fn connection(view: ConnectionView) -> ConnectionInfo {
    let ports: Vec<_> = view.address.split(" -> ").map(|one| one.rsplit(':').next()?.parse().ok()).collect();
    ConnectionInfo {
        client_name: (view.name != view.address).then_some(view.name),
        name: view.address,
        user: Some(view.user),
        mechanism: Some(view.mechanism),
        client_port: ports.first().copied().flatten(),
        broker_port: ports.get(1).copied().flatten(),
        channels: Some(view.channels.len() as u64),
    }
}
