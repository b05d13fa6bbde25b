//! A virtual host for each test, and what the broker shows of it.

use std::sync::Mutex;

use super::{super::unique, Broker, administration::*};

/// A virtual host for one test. Dropping it deletes it and its users.
#[derive(Debug)]
pub struct Vhost {
    name: String,
    broker: Broker,
    users: Mutex<Vec<String>>,
}

impl Vhost {
    /// Creates one at the broker under test.
    pub async fn fresh() -> Self {
        Self::fresh_on(Broker::under_test()).await
    }

    /// Creates one whose URLs are those of plain TCP, for tests that look at the bytes on the wire.
    pub async fn fresh_plain() -> Self {
        Self::fresh_on(&Broker::under_test().without_tls()).await
    }

    /// Creates one at another broker.
    pub async fn fresh_on(broker: &Broker) -> Self {
        Self::named(broker, unique("pika")).await
    }

    /// Creates one with this name, which nobody else uses.
    pub async fn named(broker: &Broker, name: String) -> Self {
        let vhost = Self { name, broker: broker.clone(), users: Mutex::default() };
        vhost.create().await;
        vhost
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Asks the operator about this virtual host.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Administration, &str) -> T + Send + 'static,
    ) -> T {
        let name = self.name.clone();
        self.broker.ask(move |administration| question(administration, &name)).await
    }

    /// Deletes it with everything in it. The broker closes its connections.
    pub async fn delete(&self) {
        assert!(self.ask(|administration, name| administration.delete_vhost(name)).await, "{}", self.name);
    }

    /// Creates it again, empty.
    pub async fn create(&self) {
        self.ask(|administration, name| administration.create_vhost(name)).await;
        self.permit(self.broker.user(), ".*", ".*", ".*").await;
    }

    /// Returns the URL to connect with.
    pub fn url(&self) -> String {
        self.broker.url(&self.name)
    }

    /// Returns the URL to connect with as another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.broker.url_as(&self.name, user, password)
    }

    /// Creates a user without any permission and returns its name. See [`permit`](Self::permit).
    pub async fn create_user(&self, password: &str) -> String {
        let user = unique("user");
        self.users.lock().expect("not poisoned").push(user.clone());
        self.set_password(&user, password).await;
        user
    }

    pub async fn set_password(&self, user: &str, password: &str) {
        let (user, password) = (user.to_owned(), password.to_owned());
        self.broker.ask(move |administration| administration.set_password(&user, &password)).await;
    }

    pub async fn delete_user(&self, user: &str) {
        let name = user.to_owned();
        assert!(self.broker.ask(move |administration| administration.delete_user(&name)).await, "{user}");
    }

    /// Returns the users created by [`create_user`](Self::create_user).
    pub fn users(&self) -> Vec<String> {
        self.users.lock().expect("not poisoned").clone()
    }

    /// Gives `user` access to the names in this virtual host that match the patterns.
    pub async fn permit(&self, user: &str, configure: &str, write: &str, read: &str) {
        let [user, configure, write, read] = [user, configure, write, read].map(str::to_owned);
        self.ask(move |administration, vhost| {
            let names = Names { configure: &configure, write: &write, read: &read };
            administration.permit(vhost, &user, names);
        })
        .await;
    }

    /// Gives `user` access to the routing keys of an exchange that match the patterns: to publish with, and to bind with.
    pub async fn permit_topics(&self, user: &str, exchange: &str, write: &str, read: &str) {
        let [user, exchange, write, read] = [user, exchange, write, read].map(str::to_owned);
        self.ask(move |administration, vhost| {
            let topics = Topics { exchange: &exchange, write: &write, read: &read };
            administration.permit_topics(vhost, &user, topics);
        })
        .await;
    }

    /// Limits the connections of this virtual host, or ends the limit.
    pub async fn limit_connections(&self, value: Option<u32>) {
        self.ask(move |administration, name| {
            administration.limit(Limit::ConnectionsOfVhost(name), value);
        })
        .await;
    }

    /// Limits the connections of a user, or ends the limit.
    pub async fn limit_connections_of(&self, user: &str, value: Option<u32>) {
        let user = user.to_owned();
        self.ask(move |administration, _| administration.limit(Limit::ConnectionsOfUser(&user), value)).await;
    }

    /// Limits the channels of a user.
    pub async fn limit_channels_of(&self, user: &str, value: u32) {
        let user = user.to_owned();
        self.ask(move |administration, _| administration.limit(Limit::ChannelsOfUser(&user), Some(value)))
            .await;
    }

    /// Returns a queue, `None` if it does not exist. Its counts may be about a second behind; `Oracle::count` is exact.
    pub async fn queue(&self, queue: &str) -> Option<QueueInfo> {
        let queue = queue.to_owned();
        self.ask(move |administration, vhost| administration.queue(vhost, &queue)).await
    }

    /// Returns the number of ready and unacknowledged messages, `None` until the broker has counted them.
    pub async fn queue_depth(&self, queue: &str) -> Option<u64> {
        self.queue(queue).await?.messages
    }

    pub async fn delete_queue(&self, queue: &str) {
        let queue = queue.to_owned();
        self.ask(move |administration, vhost| administration.delete_queue(vhost, &queue)).await;
    }

    pub async fn delete_exchange(&self, exchange: &str) {
        let exchange = exchange.to_owned();
        self.ask(move |administration, vhost| administration.delete_exchange(vhost, &exchange)).await;
    }

    /// Returns the current consumers of a queue, without delay.
    pub async fn consumers(&self, queue: &str) -> Vec<ConsumerInfo> {
        let mut consumers = self.all_consumers().await;
        consumers.retain(|consumer| consumer.queue == queue);
        consumers
    }

    /// Returns the current consumers of all queues.
    pub async fn all_consumers(&self) -> Vec<ConsumerInfo> {
        self.ask(|administration, name| administration.consumers(name)).await
    }

    /// Returns the open connections. A new one is in the list at once, a closed one may stay for a while.
    pub async fn connections(&self) -> Vec<ConnectionInfo> {
        self.ask(|administration, name| administration.connections(name)).await
    }

    pub async fn channels(&self) -> Vec<ChannelInfo> {
        self.ask(|administration, name| administration.channels(name)).await
    }

    pub async fn queues(&self) -> Vec<QueueInfo> {
        self.ask(|administration, name| administration.queues(name)).await
    }

    pub async fn exchanges(&self) -> Vec<ExchangeInfo> {
        self.ask(|administration, name| administration.exchanges(name)).await
    }

    pub async fn bindings(&self) -> Vec<BindingInfo> {
        self.ask(|administration, name| administration.bindings(name)).await
    }

    /// Closes a connection by its `name` in [`connections`](Self::connections). The client receives reply code 320 with
    /// the reason.
    pub async fn delete_connection(&self, name: &str, reason: &str) {
        assert!(self.try_delete_connection(name, reason).await, "no connection {name}");
    }

    /// Like [`delete_connection`](Self::delete_connection), but returns `false` if the connection is gone.
    pub async fn try_delete_connection(&self, name: &str, reason: &str) -> bool {
        let (name, reason) = (name.to_owned(), reason.to_owned());
        self.broker.ask(move |administration| administration.close_connection(&name, &reason)).await
    }

    /// Closes all connections of this virtual host and returns their number.
    pub async fn delete_connections(&self, reason: &str) -> usize {
        let connections = self.connections().await;
        for connection in &connections {
            self.delete_connection(&connection.name, reason).await;
        }
        connections.len()
    }

    /// Runs `rabbitmqctl` against the node and returns its output. Only for the project's own nodes.
    pub async fn rabbitmqctl(&self, args: &[&str]) -> String {
        self.broker.rabbitmqctl(args).await
    }
}

impl Drop for Vhost {
    // Blocks. Errors are ignored, because the test may have stopped the broker.
    fn drop(&mut self) {
        let users = self.users.get_mut().map(std::mem::take).unwrap_or_default();
        self.broker.administration().clean_up(&self.name, &users);
    }
}
