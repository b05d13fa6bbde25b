//! A virtual host for each test, and what the management API shows of it.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::{super::unique, Broker, encode};

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
        let vhost = Self { name: unique("pika"), broker: broker.clone(), users: Mutex::default() };
        vhost.create().await;
        vhost
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Deletes it with everything in it. The broker closes its connections.
    pub async fn delete(&self) {
        self.broker.change("DELETE", &format!("/api/vhosts/{}", encode(&self.name)), None).await;
    }

    /// Creates it again, empty.
    pub async fn create(&self) {
        self.broker.change("PUT", &format!("/api/vhosts/{}", encode(&self.name)), None).await;
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
        let body = json!({ "password": password, "tags": "" });
        self.broker.change("PUT", &format!("/api/users/{}", encode(user)), Some(body)).await;
    }

    /// Returns the users created by [`create_user`](Self::create_user).
    pub fn users(&self) -> Vec<String> {
        self.users.lock().expect("not poisoned").clone()
    }

    /// Gives `user` access to the names in this virtual host that match the patterns.
    pub async fn permit(&self, user: &str, configure: &str, write: &str, read: &str) {
        let path = format!("/api/permissions/{}/{}", encode(&self.name), encode(user));
        let body = json!({ "configure": configure, "write": write, "read": read });
        self.broker.change("PUT", &path, Some(body)).await;
    }

    /// Gives `user` access to the topics of an exchange that match a pattern: to bind with them, and to publish to all.
    pub async fn permit_topics(&self, user: &str, exchange: &str, read: &str) {
        let path = format!("/api/topic-permissions/{}/{}", encode(&self.name), encode(user));
        let body = json!({ "exchange": exchange, "write": ".*", "read": read });
        self.broker.change("PUT", &path, Some(body)).await;
    }

    /// Sets a policy for all queues or exchanges that match `pattern`.
    pub async fn set_policy(&self, pattern: &str, apply_to: &str, definition: Value) {
        let path = format!("/api/policies/{}/{}", encode(&self.name), unique("policy"));
        let body = json!({ "pattern": pattern, "apply-to": apply_to, "definition": definition });
        self.broker.change("PUT", &path, Some(body)).await;
    }

    /// Returns a queue from the management API, `None` if it does not exist. Its counts are about a second behind;
    /// `Oracle::count` is exact.
    pub async fn queue(&self, queue: &str) -> Option<Value> {
        let path = format!("/api/queues/{}/{}", encode(&self.name), encode(queue));
        let answer = self.broker.request("GET", &path, None).await;
        (answer.status == 200).then(|| answer.json())
    }

    /// Returns the number of ready and unacknowledged messages, `None` until the API has it.
    pub async fn queue_depth(&self, queue: &str) -> Option<u64> {
        self.queue(queue).await?["messages"].as_u64()
    }

    /// Returns the current consumers of a queue, without delay.
    pub async fn consumers(&self, queue: &str) -> Vec<Value> {
        let all = self.all_consumers().await;
        all.into_iter().filter(|consumer| consumer["queue"]["name"] == queue).collect()
    }

    /// Returns the current consumers of all queues.
    pub async fn all_consumers(&self) -> Vec<Value> {
        let mut all = self.list("/api/consumers/{}").await;
        all.retain(has_channel);
        all
    }

    /// Returns the open connections. A new one is in the list at once, a closed one stays for a while.
    pub async fn connections(&self) -> Vec<Value> {
        self.list("/api/vhosts/{}/connections").await
    }

    pub async fn channels(&self) -> Vec<Value> {
        self.list("/api/vhosts/{}/channels").await
    }

    pub async fn queues(&self) -> Vec<Value> {
        self.list("/api/queues/{}").await
    }

    pub async fn exchanges(&self) -> Vec<Value> {
        self.list("/api/exchanges/{}").await
    }

    pub async fn bindings(&self) -> Vec<Value> {
        self.list("/api/bindings/{}").await
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let path = path.replace("{}", &encode(&self.name));
        match self.broker.api(&path).await {
            Value::Array(list) => list,
            other => panic!("GET {path} returned no list: {other}"),
        }
    }

    /// Closes a connection through the management API, by its `name` in [`connections`](Self::connections). The
    /// client receives reply code 320 with the reason.
    pub async fn delete_connection(&self, name: &str, reason: &str) {
        assert!(self.try_delete_connection(name, reason).await, "no connection {name}");
    }

    /// Like [`delete_connection`](Self::delete_connection), but returns `false` if the connection is gone.
    pub async fn try_delete_connection(&self, name: &str, reason: &str) -> bool {
        let path = format!("/api/connections/{}", encode(name));
        let (broker, reason) = (self.broker.clone(), reason.to_owned());
        let answer = tokio::task::spawn_blocking(move || {
            broker.management.request("DELETE", &path, &[("X-Reason", &reason)], None)
        })
        .await
        .expect("the thread of a management request panicked")
        .unwrap_or_else(|e| panic!("{e}"));
        assert!(matches!(answer.status, 204 | 404), "delete connection: {answer:?}");
        answer.status == 204
    }

    /// Closes all connections of this virtual host and returns their number.
    pub async fn delete_connections(&self, reason: &str) -> usize {
        let connections = self.connections().await;
        for connection in &connections {
            let name = connection["name"].as_str().expect("a connection's name");
            self.delete_connection(name, reason).await;
        }
        connections.len()
    }

    /// Runs `rabbitmqctl` against the node and returns its output. Only for the project's own nodes.
    pub async fn rabbitmqctl(&self, args: &[&str]) -> String {
        self.broker.rabbitmqctl(args).await
    }
}

/// Returns whether the channel of a consumer is in the management API, too. The API keeps consumers for good whose start it
/// has counted after the end of their channel.
fn has_channel(consumer: &Value) -> bool {
    consumer["channel_details"]["name"].is_string()
}

impl Drop for Vhost {
    // Blocks. Errors are ignored, because the test may have stopped the broker.
    fn drop(&mut self) {
        let mut paths = vec![format!("/api/vhosts/{}", encode(&self.name))];
        if let Ok(users) = self.users.get_mut() {
            paths.extend(users.iter().map(|user| format!("/api/users/{}", encode(user))));
        }
        for path in paths {
            let _ = self.broker.management.request("DELETE", &path, &[], None);
        }
    }
}

#[test]
fn consumers_of_channels_that_are_gone_are_told_from_others() {
    let consumer = |details| json!({ "consumer_tag": "c", "channel_details": details });
    assert!(has_channel(&consumer(json!({ "name": "127.0.0.1:1 -> 127.0.0.1:2 (1)", "number": 1 }))));
    assert!(!has_channel(&consumer(json!([]))));
}
