//! RabbitMQ's management API.

mod http;

use actix_pika::message::{Table, Value as Argument};
use serde_json::{Value, json};

use super::administration::*;
pub(super) use http::{Endpoint, Response};
pub use http::{base64, encode};

/// The management API of a node.
#[derive(Debug, Clone)]
pub(super) struct Management(pub(super) Endpoint);

impl Management {
    /// Sends one request; `path` begins with `/api/`.
    pub(super) fn request(&self, method: &str, path: &str, body: Option<Value>) -> Response {
        self.0.request(method, path, &[], body).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Sends a request that must succeed.
    fn change(&self, method: &str, path: &str, body: Option<Value>) {
        let response = self.request(method, path, body);
        assert!((200..300).contains(&response.status), "{method} {path}: {response:?}");
    }

    fn exists(&self, path: &str) -> bool {
        let response = self.request("GET", path, None);
        assert!(matches!(response.status, 200 | 404), "GET {path}: {response:?}");
        response.status == 200
    }

    /// Returns whether there was something to delete.
    fn delete(&self, path: &str) -> bool {
        let response = self.request("DELETE", path, None);
        assert!(matches!(response.status, 204 | 404), "DELETE {path}: {response:?}");
        response.status == 204
    }

    fn list(&self, path: &str) -> Vec<Value> {
        let response = self.request("GET", path, None);
        assert_eq!(response.status, 200, "GET {path}: {response:?}");
        match response.json() {
            Value::Array(list) => list,
            other => panic!("GET {path} returned no list: {other}"),
        }
    }
}

impl Administration for Management {
    fn version(&self) -> String {
        text(&self.request("GET", "/api/overview", None).json(), "rabbitmq_version")
    }

    fn has_vhost(&self, name: &str) -> bool {
        self.exists(&format!("/api/vhosts/{}", encode(name)))
    }

    fn create_vhost(&self, name: &str) {
        self.change("PUT", &format!("/api/vhosts/{}", encode(name)), None);
    }

    fn delete_vhost(&self, name: &str) -> bool {
        self.delete(&format!("/api/vhosts/{}", encode(name)))
    }

    fn has_user(&self, name: &str) -> bool {
        self.exists(&format!("/api/users/{}", encode(name)))
    }

    fn set_password(&self, user: &str, password: &str) {
        let body = json!({ "password": password, "tags": "" });
        self.change("PUT", &format!("/api/users/{}", encode(user)), Some(body));
    }

    fn delete_user(&self, name: &str) -> bool {
        self.delete(&format!("/api/users/{}", encode(name)))
    }

    fn clean_up(&self, vhost: &str, users: &[String]) {
        let vhost = format!("/api/vhosts/{}", encode(vhost));
        let users = users.iter().map(|user| format!("/api/users/{}", encode(user)));
        for path in std::iter::once(vhost).chain(users) {
            let _ = self.0.request("DELETE", &path, &[], None);
        }
    }

    fn permit(&self, vhost: &str, user: &str, Names { configure, write, read }: Names<'_>) {
        let path = format!("/api/permissions/{}/{}", encode(vhost), encode(user));
        let body = json!({ "configure": configure, "write": write, "read": read });
        self.change("PUT", &path, Some(body));
    }

    fn permit_topics(&self, vhost: &str, user: &str, Topics { exchange, write, read }: Topics<'_>) {
        let path = format!("/api/topic-permissions/{}/{}", encode(vhost), encode(user));
        let body = json!({ "exchange": exchange, "write": write, "read": read });
        self.change("PUT", &path, Some(body));
    }

    fn limit(&self, what: Limit<'_>, value: Option<u32>) {
        let path = match what {
            Limit::ConnectionsOfVhost(name) => format!("/api/vhost-limits/{}/max-connections", encode(name)),
            Limit::ConnectionsOfUser(name) => format!("/api/user-limits/{}/max-connections", encode(name)),
            Limit::ChannelsOfUser(name) => format!("/api/user-limits/{}/max-channels", encode(name)),
        };
        match value {
            Some(value) => self.change("PUT", &path, Some(json!({ "value": value }))),
            None => self.change("DELETE", &path, None),
        }
    }

    fn queues(&self, vhost: &str) -> Vec<QueueInfo> {
        self.list(&format!("/api/queues/{}", encode(vhost))).iter().map(queue).collect()
    }

    fn queue(&self, vhost: &str, name: &str) -> Option<QueueInfo> {
        let path = format!("/api/queues/{}/{}", encode(vhost), encode(name));
        let response = self.request("GET", &path, None);
        (response.status == 200).then(|| queue(&response.json()))
    }

    fn delete_queue(&self, vhost: &str, name: &str) {
        self.change("DELETE", &format!("/api/queues/{}/{}", encode(vhost), encode(name)), None);
    }

    fn exchanges(&self, vhost: &str) -> Vec<ExchangeInfo> {
        let exchange = |one: &Value| ExchangeInfo {
            name: text(one, "name"),
            kind: text(one, "type"),
            durable: flag(one, "durable"),
            auto_delete: flag(one, "auto_delete"),
            internal: flag(one, "internal"),
            arguments: arguments(one),
        };
        self.list(&format!("/api/exchanges/{}", encode(vhost))).iter().map(exchange).collect()
    }

    fn delete_exchange(&self, vhost: &str, name: &str) {
        self.change("DELETE", &format!("/api/exchanges/{}/{}", encode(vhost), encode(name)), None);
    }

    fn bindings(&self, vhost: &str) -> Vec<BindingInfo> {
        let binding = |one: &Value| BindingInfo {
            source: text(one, "source"),
            destination: text(one, "destination"),
            destination_is_queue: one["destination_type"] == "queue",
            routing_key: text(one, "routing_key"),
            arguments: arguments(one),
        };
        self.list(&format!("/api/bindings/{}", encode(vhost))).iter().map(binding).collect()
    }

    fn consumers(&self, vhost: &str) -> Vec<ConsumerInfo> {
        let consumer = |one: &Value| ConsumerInfo {
            tag: text(one, "consumer_tag"),
            queue: text(&one["queue"], "name"),
            prefetch: one["prefetch_count"].as_u64().unwrap_or_default(),
            needs_ack: flag(one, "ack_required"),
            exclusive: flag(one, "exclusive"),
            arguments: arguments(one),
        };
        let all = self.list(&format!("/api/consumers/{}", encode(vhost)));
        all.iter().filter(|one| has_channel(one)).map(consumer).collect()
    }

    fn connections(&self, vhost: &str) -> Vec<ConnectionInfo> {
        let text_or_none = |one: &Value, field: &str| one[field].as_str().map(str::to_owned);
        let connection = |one: &Value| ConnectionInfo {
            name: text(one, "name"),
            client_name: text_or_none(one, "user_provided_name"),
            user: text_or_none(one, "user"),
            mechanism: text_or_none(one, "auth_mechanism"),
            client_port: one["peer_port"].as_u64(),
            broker_port: one["port"].as_u64(),
            channels: one["channels"].as_u64(),
        };
        self.list(&format!("/api/vhosts/{}/connections", encode(vhost))).iter().map(connection).collect()
    }

    fn channels(&self, vhost: &str) -> Vec<ChannelInfo> {
        let all = self.list(&format!("/api/vhosts/{}/channels", encode(vhost)));
        all.iter().filter_map(|one| one["number"].as_u64()).map(|number| ChannelInfo { number }).collect()
    }

    fn close_connection(&self, name: &str, reason: &str) -> bool {
        let path = format!("/api/connections/{}", encode(name));
        let answer = self.0.request("DELETE", &path, &[("X-Reason", reason)], None);
        let answer = answer.unwrap_or_else(|e| panic!("{e}"));
        assert!(matches!(answer.status, 204 | 404), "delete connection: {answer:?}");
        answer.status == 204
    }
}

fn queue(one: &Value) -> QueueInfo {
    let members = one["members"].as_array().into_iter().flatten();
    QueueInfo {
        name: text(one, "name"),
        kind: text(one, "type"),
        durable: flag(one, "durable"),
        auto_delete: flag(one, "auto_delete"),
        exclusive: flag(one, "exclusive"),
        arguments: arguments(one),
        messages: one["messages"].as_u64(),
        members: members.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        leader: one["leader"].as_str().map(str::to_owned),
    }
}

fn text(one: &Value, field: &str) -> String {
    one[field].as_str().unwrap_or_else(|| panic!("no {field} in {one}")).to_owned()
}

fn flag(one: &Value, field: &str) -> bool {
    one[field].as_bool().unwrap_or_default()
}

/// An empty table of Erlang is an empty array of JSON.
fn arguments(one: &Value) -> Table {
    one["arguments"].as_object().map(table).unwrap_or_default()
}

fn table(object: &serde_json::Map<String, Value>) -> Table {
    normal(&object.iter().map(|(name, value)| (name.as_str(), argument(value))).collect())
}

fn argument(value: &Value) -> Argument {
    match value {
        Value::Null => Argument::Void,
        Value::Bool(value) => Argument::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Argument::from(integer),
            None => Argument::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Argument::from(text.as_str()),
        Value::Array(values) => Argument::Array(values.iter().map(argument).collect()),
        Value::Object(object) => Argument::Table(table(object)),
    }
}

/// Returns whether the channel of a consumer is in the management API, too. The API keeps consumers for good whose start it
/// has counted after the end of their channel.
fn has_channel(consumer: &Value) -> bool {
    consumer["channel_details"]["name"].is_string()
}

#[test]
fn consumers_of_channels_that_are_gone_are_told_from_others() {
    let consumer = |details| json!({ "consumer_tag": "c", "channel_details": details });
    assert!(has_channel(&consumer(json!({ "name": "127.0.0.1:1 -> 127.0.0.1:2 (1)", "number": 1 }))));
    assert!(!has_channel(&consumer(json!([]))));
}
