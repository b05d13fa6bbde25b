//! What tests ask the operator of a broker for, apart from AMQP.

use std::fmt::Debug;

use actix_pika::message::{Table, Value};

/// The operator of a broker: RabbitMQ's management API, or the test broker itself. Its methods block; tests call them by
/// [`Broker::ask`](super::Broker::ask) or [`Vhost`](super::Vhost).
pub trait Administration: Debug + Send + Sync {
    /// Returns the version of RabbitMQ that it is.
    fn version(&self) -> String;

    fn has_vhost(&self, name: &str) -> bool;
    fn create_vhost(&self, name: &str);
    /// Deletes a virtual host with everything in it. The broker closes its connections. Returns whether there was one.
    fn delete_vhost(&self, name: &str) -> bool;

    fn has_user(&self, name: &str) -> bool;
    /// Creates a user without permissions, or sets the password of one.
    fn set_password(&self, user: &str, password: &str);
    /// Deletes a user. The broker closes the user's connections. Returns whether there was one.
    fn delete_user(&self, name: &str) -> bool;

    /// Deletes what a test leaves, unless the broker is gone.
    fn clean_up(&self, vhost: &str, users: &[String]);

    /// Allows a user the names in a virtual host that match the patterns.
    fn permit(&self, vhost: &str, user: &str, names: Names<'_>);
    /// Allows a user the routing keys of an exchange that match the patterns.
    fn permit_topics(&self, vhost: &str, user: &str, topics: Topics<'_>);
    /// Sets a limit, or ends it.
    fn limit(&self, what: Limit<'_>, value: Option<u32>);

    /// Returns the queues of a virtual host. Their counts are about a second behind with the management API.
    fn queues(&self, vhost: &str) -> Vec<QueueInfo>;
    fn queue(&self, vhost: &str, name: &str) -> Option<QueueInfo>;
    fn delete_queue(&self, vhost: &str, name: &str);
    fn exchanges(&self, vhost: &str) -> Vec<ExchangeInfo>;
    fn delete_exchange(&self, vhost: &str, name: &str);
    /// Returns the bindings, those of the default exchange included.
    fn bindings(&self, vhost: &str) -> Vec<BindingInfo>;
    /// Returns the consumers of open channels.
    fn consumers(&self, vhost: &str) -> Vec<ConsumerInfo>;
    /// Returns the open connections. With the management API a new one is in the list at once, and a closed one stays for a
    /// while.
    fn connections(&self, vhost: &str) -> Vec<ConnectionInfo>;
    fn channels(&self, vhost: &str) -> Vec<ChannelInfo>;
    /// Closes a connection by its name, with 320 and a reason. Returns false if it is gone.
    fn close_connection(&self, name: &str, reason: &str) -> bool;
}

/// Patterns of names that a user may configure, write and read.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    pub configure: &'a str,
    pub write: &'a str,
    pub read: &'a str,
}

/// Patterns of routing keys of one exchange: to publish with, and to bind with.
#[derive(Debug, Clone, Copy)]
pub struct Topics<'a> {
    pub exchange: &'a str,
    pub write: &'a str,
    pub read: &'a str,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy)]
pub enum Limit<'a> {
    ConnectionsOfVhost(&'a str),
    ConnectionsOfUser(&'a str),
    ChannelsOfUser(&'a str),
}

#[derive(Debug, Clone)]
pub struct QueueInfo {
    pub name: String,
    /// Its type.
    pub kind: String,
    pub durable: bool,
    pub auto_delete: bool,
    pub exclusive: bool,
    /// In the form of [`normal`].
    pub arguments: Table,
    /// The ready and unsettled messages; `None` until they are counted.
    pub messages: Option<u64>,
    /// The nodes of a quorum queue.
    pub members: Vec<String>,
    pub leader: Option<String>,
}

impl QueueInfo {
    /// Returns it without what changes while it is used.
    pub fn declared(self) -> Self {
        Self { messages: None, members: Vec::new(), leader: None, ..self }
    }
}

#[derive(Debug, Clone)]
pub struct ExchangeInfo {
    pub name: String,
    /// Its type.
    pub kind: String,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: Table,
}

#[derive(Debug, Clone)]
pub struct BindingInfo {
    pub source: String,
    pub destination: String,
    pub destination_is_queue: bool,
    pub routing_key: String,
    pub arguments: Table,
}

#[derive(Debug, Clone)]
pub struct ConsumerInfo {
    pub tag: String,
    pub queue: String,
    pub prefetch: u64,
    pub needs_ack: bool,
    pub exclusive: bool,
    pub arguments: Table,
}

/// A connection. What the broker does not show at once is `None` until then.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Its addresses, `client -> broker`.
    pub name: String,
    /// The name that the client has given.
    pub client_name: Option<String>,
    pub user: Option<String>,
    /// The mechanism of its login.
    pub mechanism: Option<String>,
    pub client_port: Option<u64>,
    pub broker_port: Option<u64>,
    /// The number of its channels.
    pub channels: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct ChannelInfo {
    pub number: u64,
}

/// Returns arguments in the form in which tests compare them: by name, and each integer as an `i64`, since JSON does not
/// tell their types.
pub fn normal(arguments: &Table) -> Table {
    let mut sorted: Vec<_> =
        arguments.iter().map(|(name, value)| (name.clone(), normal_value(value))).collect();
    sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
    sorted.into_iter().collect()
}

fn normal_value(value: &Value) -> Value {
    match value {
        Value::Table(table) => Value::Table(normal(table)),
        Value::Array(values) => Value::Array(values.iter().map(normal_value).collect()),
        value => value.as_i64().map_or_else(|| value.clone(), Value::from),
    }
}

#[test]
fn equal_arguments_have_one_normal_form() {
    let one = Table::new().with("b", vec![Value::from(7u8), "x".into()]).with("a", Table::new().with("n", 1));
    let other =
        Table::new().with("a", Table::new().with("n", 1i64)).with("b", vec![Value::from(7), "x".into()]);
    assert_ne!(one, other);
    assert_eq!(normal(&one), normal(&other));
}
