//! The broker under test, seen from outside: its management API and `rabbitmqctl`.
//!
//! Which broker that is: `AMQP_URL` when it is set, else the project's own node (what
//! `make broker` recorded in `.broker/env`), else the default address. Its management
//! API is at the own node's recorded address, at `MANAGEMENT_URL`, or at port 15672 of
//! the same host. With `TEST_BROKER=four` (`make test-4`) the project's own nodes are those of
//! RabbitMQ 4.0, under `.broker/four`.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};
use url::Url;

use super::unique;

const DEFAULT_URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

/// Percent-encodes one segment of a path: a vhost `/` becomes `%2F`.
pub fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, NON_ALPHANUMERIC).to_string()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Where one part of the broker answers, and as whom to go there.
#[derive(Debug, Clone)]
struct Place {
    host: String,
    port: u16,
    user: String,
    password: String,
}

impl Place {
    fn of(url: &str, default_port: u16) -> Self {
        let url = Url::parse(url).unwrap_or_else(|e| panic!("not a URL ({e}): {url}"));
        let or_guest = |text: &str| match text {
            "" => "guest".to_owned(),
            text => decode(text),
        };
        Self {
            host: url.host_str().unwrap_or("localhost").to_owned(),
            port: url.port().unwrap_or(default_port),
            user: or_guest(url.username()),
            password: or_guest(url.password().unwrap_or_default()),
        }
    }
}

/// A RabbitMQ node.
#[derive(Debug, Clone)]
pub struct Broker {
    amqp: Place,
    management: Place,
    node: Option<Node>,
}

/// One of the project's own nodes, which `rabbitmqctl` can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    First,
    Second,
    /// 1 to 3.
    OfCluster(u8),
}

/// Which of the project's own nodes are meant: nothing for the machine's RabbitMQ, or the first word of
/// scripts/broker.sh for another one.
fn line() -> Option<&'static str> {
    match std::env::var("TEST_BROKER").as_deref() {
        Err(_) | Ok("") => None,
        Ok("four") => Some("four"),
        Ok(other) => panic!("TEST_BROKER is {other:?}: only \"four\" is known"),
    }
}

fn script_of(name: &str, line: Option<&str>) -> Command {
    let mut command = Command::new("bash");
    command.arg(root().join("scripts").join(name)).args(line);
    command
}

/// Where the records of a node are, by the names of scripts/broker.sh.
fn folder(node: Node) -> String {
    match (line().is_some(), node) {
        (false, Node::First) => ".broker".into(),
        (false, Node::Second) => ".broker/second".into(),
        (true, Node::First) => ".broker/four".into(),
        (true, Node::Second) => ".broker/four/second".into(),
        (_, Node::OfCluster(number)) => format!(".broker/cluster/{number}"),
    }
}

/// An answer of the management API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|e| panic!("the management API did not answer JSON ({e}): {self:?}"))
    }
}

impl Broker {
    /// The broker that the tests are to use.
    pub fn under_test() -> &'static Self {
        static BROKER: OnceLock<Broker> = OnceLock::new();
        BROKER.get_or_init(Self::find)
    }

    fn find() -> Self {
        let own = recorded(&folder(Node::First));
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let amqp_url = set("AMQP_URL");
        let amqp = Place::of(
            amqp_url.as_deref().or(own.as_ref().map(|own| own.amqp_url.as_str())).unwrap_or(DEFAULT_URL),
            5672,
        );
        // `make test` sets AMQP_URL to the own node's: that is still the own node.
        if let Some(own) = own {
            let own_amqp = Place::of(&own.amqp_url, 5672);
            if own_amqp.port == amqp.port && is_loopback(&amqp.host) {
                return Self {
                    amqp,
                    management: Place::of(&own.management_url, 15672),
                    node: Some(Node::First),
                };
            }
        }
        let management = match set("MANAGEMENT_URL") {
            Some(url) => Place::of(&url, 15672),
            None => Place { port: 15672, ..amqp.clone() },
        };
        Self { amqp, management, node: None }
    }

    fn of_node(folder: &str, node: Node) -> Self {
        let own = recorded(folder).unwrap_or_else(|| panic!("{folder} has nothing of a node"));
        Self {
            amqp: Place::of(&own.amqp_url, 5672),
            management: Place::of(&own.management_url, 15672),
            node: Some(node),
        }
    }

    /// Is it the project's own node, so that `rabbitmqctl` reaches it?
    pub fn is_own(&self) -> bool {
        self.node.is_some()
    }

    /// `host:port` of its AMQP listener.
    pub fn address(&self) -> String {
        format!("{}:{}", self.amqp.host, self.amqp.port)
    }

    /// The URL of a virtual host, as the tests' user.
    pub fn url(&self, vhost: &str) -> String {
        self.url_as(vhost, &self.amqp.user, &self.amqp.password)
    }

    /// The URL of a virtual host, as another user.
    pub fn url_as(&self, vhost: &str, user: &str, password: &str) -> String {
        format!("amqp://{}:{}@{}/{}", encode(user), encode(password), self.address(), encode(vhost))
    }

    /// The user that the tests connect as.
    pub fn user(&self) -> &str {
        &self.amqp.user
    }

    /// Its version, for what is not the same in all: 4.0 is `(4, 0)`.
    pub async fn version(&self) -> (u32, u32) {
        let overview = self.api("/api/overview").await;
        let version = overview["rabbitmq_version"].as_str().expect("a version").to_owned();
        let mut numbers = version.split('.').map(|part| part.parse().expect("a number"));
        (numbers.next().expect("a major version"), numbers.next().expect("a minor version"))
    }

    /// The largest body that it takes unless told otherwise: 128 MiB before 4.0, which has 16.
    pub async fn largest_body(&self) -> usize {
        if self.version().await < (4, 0) { 128 << 20 } else { 16 << 20 }
    }

    /// One request to the management API; `path` begins with `/api/`.
    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let (broker, method, path) = (self.clone(), method.to_owned(), path.to_owned());
        // A thread, so that the same small client serves `Drop` and the tests.
        tokio::task::spawn_blocking(move || broker.request_blocking(&method, &path, &[], body))
            .await
            .expect("the thread of a management request panicked")
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// A GET that must succeed.
    pub async fn api(&self, path: &str) -> Value {
        let answer = self.request("GET", path, None).await;
        assert_eq!(answer.status, 200, "GET {path}: {answer:?}");
        answer.json()
    }

    /// A request that changes something, and must succeed.
    pub async fn change(&self, method: &str, path: &str, body: Option<Value>) {
        let answer = self.request(method, path, body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    }

    fn request_blocking(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Answer, String> {
        let Place { host, port, user, password } = &self.management;
        let unreachable = |e: &dyn std::fmt::Display| {
            format!(
                "the management API of the broker does not answer at {host}:{port} ({e}). \
                 Run the tests with `make test`, which starts a broker that has it; or enable \
                 the plugin rabbitmq_management and set MANAGEMENT_URL."
            )
        };
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\
             Authorization: Basic {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            base64(format!("{user}:{password}").as_bytes()),
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(&body);

        let exchange = || -> std::io::Result<Vec<u8>> {
            let limit = Some(Duration::from_secs(20));
            let mut stream = connect(host, *port)?;
            stream.set_read_timeout(limit)?;
            stream.set_write_timeout(limit)?;
            stream.write_all(request.as_bytes())?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        // A cluster that has just come together may leave one unanswered; what is not a POST can be said twice.
        let silent = |e: &std::io::Error| e.kind() == std::io::ErrorKind::WouldBlock && method != "POST";
        let bytes = match exchange() {
            Err(error) if silent(&error) => exchange(),
            answer => answer,
        };
        let bytes = bytes.map_err(|e| unreachable(&e))?;
        let answer = parse_http(&bytes).ok_or_else(|| unreachable(&"not HTTP"))?;
        if answer.status == 401 {
            return Err(unreachable(&format!("it refuses the user {user}")));
        }
        Ok(answer)
    }

    /// `rabbitmqctl` against the node; its output. Only for the project's own nodes.
    pub async fn rabbitmqctl(&self, args: &[&str]) -> String {
        let line = line().filter(|_| !matches!(self.node, Some(Node::OfCluster(_))));
        let mut command = script_of("ctl.sh", line);
        match self.node {
            Some(Node::First) => {}
            Some(Node::Second) => {
                command.arg("second");
            }
            Some(Node::OfCluster(number)) => {
                command.arg(format!("cluster{number}"));
            }
            None => panic!("rabbitmqctl reaches the project's own node only: unset AMQP_URL"),
        }
        command.args(args);
        run(command).await
    }
}

/// The second node, for tests that stop, kill or alarm a broker. One test has it at a
/// time; it is left running for the next one, and `make broker-stop` ends it.
#[derive(Debug)]
pub struct SecondNode {
    broker: Broker,
    _one_at_a_time: tokio::sync::MutexGuard<'static, ()>,
}

impl SecondNode {
    /// Waits for its turn, starts the node unless it runs, and waits until it answers.
    pub async fn start() -> Self {
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let turn = TURN.lock().await;
        script(&["second", "start"]).await;
        Self { broker: Broker::of_node(&folder(Node::Second), Node::Second), _one_at_a_time: turn }
    }

    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Stops it in order, as an operator would.
    pub async fn stop(&self) {
        script(&["second", "stop"]).await;
    }

    /// Stops its process where it is: its sockets stay, and nothing answers.
    pub async fn pause(&self) {
        script(&["second", "pause"]).await;
    }

    pub async fn resume(&self) {
        script(&["second", "resume"]).await;
    }

    /// Writes to disk what was declared. The node does so by itself, but only after about
    /// two seconds: killed before that, it has forgotten a durable queue that it confirmed.
    pub async fn sync(&self) {
        self.broker.rabbitmqctl(&["-q", "eval", "mnesia:sync_log()."]).await;
    }

    /// Kills it, as a crash would; see [`sync`](Self::sync).
    pub async fn kill9(&self) {
        script(&["second", "kill9"]).await;
    }

    /// Starts it again after `stop` or `kill9`, on the same ports with the same data.
    pub async fn start_again(&self) {
        script(&["second", "start"]).await;
        let now = recorded(&folder(Node::Second)).map(|own| Place::of(&own.amqp_url, 5672).port);
        assert_eq!(now, Some(self.broker.amqp.port), "its port was taken");
    }
}

/// Three nodes of one cluster. One test has them at a time; they are left running for the next one, and
/// `make broker-stop` ends them.
#[derive(Debug)]
pub struct Cluster {
    nodes: [Broker; 3],
    _one_at_a_time: tokio::sync::MutexGuard<'static, ()>,
}

impl Cluster {
    /// Waits for its turn, and starts what does not run.
    pub async fn start() -> Self {
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let turn = TURN.lock().await;
        script(&["cluster", "start"]).await;
        let nodes = [1, 2, 3].map(|n| Broker::of_node(&folder(Node::OfCluster(n)), Node::OfCluster(n)));
        Self { nodes, _one_at_a_time: turn }
    }

    /// The node of this number, from 1.
    pub fn node(&self, number: usize) -> &Broker {
        &self.nodes[number - 1]
    }

    /// The number of the node that RabbitMQ calls `name`.
    pub fn number(&self, name: &str) -> usize {
        let names = ["pikac1@localhost", "pikac2@localhost", "pikac3@localhost"];
        1 + names.iter().position(|known| *known == name).unwrap_or_else(|| panic!("no node of ours: {name}"))
    }

    /// Kills a node, as a crash would.
    pub async fn kill(&self, number: usize) {
        script(&["cluster", "kill-node", &number.to_string()]).await;
    }

    /// Starts it again, on the same ports with the same data.
    pub async fn start_again(&self, number: usize) {
        script(&["cluster", "start-node", &number.to_string()]).await;
        let folder = format!(".broker/cluster/{number}");
        let now = recorded(&folder).map(|own| Place::of(&own.amqp_url, 5672).port);
        assert_eq!(now, Some(self.node(number).amqp.port), "its port was taken");
    }
}

async fn script(args: &[&str]) {
    // There is one cluster, of the machine's RabbitMQ, whichever version is under test.
    let line = line().filter(|_| args.first() != Some(&"cluster"));
    let mut command = script_of("broker.sh", line);
    command.args(args);
    run(command).await;
}

async fn run(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || (command.output(), command))
        .await
        .expect("the thread of a command panicked");
    let (Ok(output), command) = output else {
        panic!("cannot run {output:?}");
    };
    assert!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A virtual host of the test's own, gone when dropped, with its users.
#[derive(Debug)]
pub struct Vhost {
    name: String,
    broker: Broker,
    users: Mutex<Vec<String>>,
}

impl Vhost {
    /// A new one at the broker under test.
    pub async fn fresh() -> Self {
        Self::fresh_on(Broker::under_test()).await
    }

    /// A new one at another broker.
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

    /// Deletes it, with all that is in it: connections to it are closed.
    pub async fn delete(&self) {
        self.broker.change("DELETE", &format!("/api/vhosts/{}", encode(&self.name)), None).await;
    }

    /// Creates it again, empty.
    pub async fn create(&self) {
        self.broker.change("PUT", &format!("/api/vhosts/{}", encode(&self.name)), None).await;
        self.permit(self.broker.user(), ".*", ".*", ".*").await;
    }

    /// The URL to connect with.
    pub fn url(&self) -> String {
        self.broker.url(&self.name)
    }

    /// The URL to connect with as another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.broker.url_as(&self.name, user, password)
    }

    /// A new user without any permission; its name. See [`permit`](Self::permit).
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

    /// The users that were made here so far.
    pub fn users(&self) -> Vec<String> {
        self.users.lock().expect("not poisoned").clone()
    }

    /// Gives `user` access to this virtual host, to the names that match each pattern.
    pub async fn permit(&self, user: &str, configure: &str, write: &str, read: &str) {
        let path = format!("/api/permissions/{}/{}", encode(&self.name), encode(user));
        let body = json!({ "configure": configure, "write": write, "read": read });
        self.broker.change("PUT", &path, Some(body)).await;
    }

    /// A policy on all queues or exchanges that match `pattern`.
    pub async fn set_policy(&self, pattern: &str, apply_to: &str, definition: Value) {
        let path = format!("/api/policies/{}/{}", encode(&self.name), unique("policy"));
        let body = json!({ "pattern": pattern, "apply-to": apply_to, "definition": definition });
        self.broker.change("PUT", &path, Some(body)).await;
    }

    /// What the management API says of a queue, unless it is not there. Its counts lag
    /// behind by about a second: `Oracle::count` is exact.
    pub async fn queue(&self, queue: &str) -> Option<Value> {
        let path = format!("/api/queues/{}/{}", encode(&self.name), encode(queue));
        let answer = self.broker.request("GET", &path, None).await;
        (answer.status == 200).then(|| answer.json())
    }

    /// The messages of a queue, ready and unacknowledged, once the API knows them.
    pub async fn queue_depth(&self, queue: &str) -> Option<u64> {
        self.queue(queue).await?["messages"].as_u64()
    }

    /// The consumers of a queue now; no lag here.
    pub async fn consumers(&self, queue: &str) -> Vec<Value> {
        let all = self.all_consumers().await;
        all.into_iter().filter(|consumer| consumer["queue"]["name"] == queue).collect()
    }

    /// The consumers of all queues now.
    pub async fn all_consumers(&self) -> Vec<Value> {
        self.list("/api/consumers/{}").await
    }

    /// The open connections; one counts as soon as it was opened, but closes show late.
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
            other => panic!("GET {path} is no list: {other}"),
        }
    }

    /// Closes a connection as an operator does, by the `name` that
    /// [`connections`](Self::connections) shows: the client sees 320 with the reason.
    pub async fn delete_connection(&self, name: &str, reason: &str) {
        assert!(self.try_delete_connection(name, reason).await, "no connection {name}");
    }

    /// Like [`delete_connection`](Self::delete_connection); `false` when there is none of this
    /// name any more.
    pub async fn try_delete_connection(&self, name: &str, reason: &str) -> bool {
        let path = format!("/api/connections/{}", encode(name));
        let (broker, reason) = (self.broker.clone(), reason.to_owned());
        let answer = tokio::task::spawn_blocking(move || {
            broker.request_blocking("DELETE", &path, &[("X-Reason", &reason)], None)
        })
        .await
        .expect("the thread of a management request panicked")
        .unwrap_or_else(|e| panic!("{e}"));
        assert!(matches!(answer.status, 204 | 404), "delete connection: {answer:?}");
        answer.status == 204
    }

    /// Closes all connections of this virtual host; their number.
    pub async fn delete_connections(&self, reason: &str) -> usize {
        let connections = self.connections().await;
        for connection in &connections {
            let name = connection["name"].as_str().expect("a connection's name");
            self.delete_connection(name, reason).await;
        }
        connections.len()
    }

    /// `rabbitmqctl` against the node; its output. Only for the project's own nodes.
    pub async fn rabbitmqctl(&self, args: &[&str]) -> String {
        self.broker.rabbitmqctl(args).await
    }
}

impl Drop for Vhost {
    // Blocks, and says nothing of a failure: the test may have stopped the broker.
    fn drop(&mut self) {
        let mut paths = vec![format!("/api/vhosts/{}", encode(&self.name))];
        if let Ok(users) = self.users.get_mut() {
            paths.extend(users.iter().map(|user| format!("/api/users/{}", encode(user))));
        }
        for path in paths {
            let _ = self.broker.request_blocking("DELETE", &path, &[], None);
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

struct Recorded {
    amqp_url: String,
    management_url: String,
}

/// What scripts/broker.sh recorded of a node that it started and did not stop: lines of
/// `NAME='value'`.
fn recorded(folder: &str) -> Option<Recorded> {
    let folder = root().join(folder);
    if !folder.join("process").exists() {
        return None;
    }
    let text = std::fs::read_to_string(folder.join("env")).ok()?;
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('\'').to_owned())
    };
    Some(Recorded { amqp_url: value("AMQP_URL")?, management_url: value("MANAGEMENT_URL")? })
}

fn is_loopback(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]" | "::1")
}

fn connect(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = None;
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into()))
}

/// A whole HTTP/1.1 answer, read to the end of the connection.
fn parse_http(bytes: &[u8]) -> Option<Answer> {
    let split = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..split]).to_ascii_lowercase();
    let rest = &bytes[split + 4..];
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    let body = if head.contains("transfer-encoding: chunked") { unchunk(rest)? } else { rest.to_vec() };
    Some(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        rest = rest.get(end + 2..)?;
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// Base64, for basic authentication.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            if digit <= three.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}
