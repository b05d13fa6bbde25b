//! The broker under test: its addresses and its operator.
//!
//! - [`Broker`]: a node of RabbitMQ, or the project's test broker;
//! - [`Vhost`]: a virtual host for each test;
//! - [`Administration`]: what tests ask the operator for, by the management API or of the test broker;
//! - [`SecondNode`], [`Cluster`]: nodes that a test may stop or kill;
//! - [`Line`]: what differs between the lines of RabbitMQ;
//! - [`tls`]: certificates and listeners.
//!
//! The broker under test is the one at `AMQP_URL`, else the project's own node (recorded by `make broker` in
//! `.broker/env`), else the one at the default address. The management API is at the recorded address of the own node,
//! at `MANAGEMENT_URL`, or at port 15672 of the same host. With `TEST_BROKER=4.3` (`make test-43`) the project's own
//! nodes are those of RabbitMQ 4.3, under `.broker/4.3`. With `TEST_BROKER=embedded` (`make test-embedded`) it is the test
//! broker, and no RabbitMQ is needed; `embedded-3.10`, `embedded-3.13` and `embedded-4.0` are its other lines. With
//! `TEST_TLS=1` (`make test-tls`) all tests connect over TLS, except those that read the frames on the wire.

mod administration;
mod choice;
mod cluster;
mod embedded;
mod line;
mod management;
mod nodes;
mod second_node;
#[allow(dead_code)]
pub mod tls;
mod turn;
mod vhost;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use choice::Choice;
use embedded::Embedded;
use management::{Endpoint, Management};
use nodes::{Node, Recorded};
use tls::Clients;

// Not every test binary uses all of them.
#[allow(unused_imports)]
pub use administration::{Administration, ConsumerInfo, normal};
#[allow(unused_imports)]
pub use choice::leave_out;
#[allow(unused_imports)]
pub use cluster::Cluster;
#[allow(unused_imports)]
pub use line::Line;
#[allow(unused_imports)]
pub use management::{base64, encode};
#[allow(unused_imports)]
pub use second_node::{Alarm, SecondNode, Setting};
pub use vhost::Vhost;

const DEFAULT_URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

/// A broker.
#[derive(Debug, Clone)]
pub struct Broker {
    amqp: Endpoint,
    operator: Operator,
    /// The port to connect to over TLS.
    tls: Option<u16>,
}

/// Who does what tests ask of the operator.
#[derive(Debug, Clone)]
enum Operator {
    /// One of the project's own nodes, which `rabbitmqctl` can reach, too.
    OwnNode(Management, Node),
    Management(Management),
    Embedded(Embedded),
}

impl Broker {
    /// Returns the broker under test.
    pub fn under_test() -> &'static Self {
        static BROKER: OnceLock<Broker> = OnceLock::new();
        BROKER.get_or_init(Self::find)
    }

    fn find() -> Self {
        if let Choice::Embedded(line) = Choice::get() {
            return Self::embedded(Embedded::of_process(*line));
        }
        let own = Node::First.recorded();
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let amqp = match (set("AMQP_URL"), &own) {
            (Some(url), _) => Endpoint::parse(&url, 5672),
            (None, Some(own)) => own.amqp.clone(),
            (None, None) => Endpoint::parse(DEFAULT_URL, 5672),
        };
        // `make test` sets AMQP_URL to the URL of the own node.
        if let Some(own) = own
            && own.amqp.port == amqp.port
            && amqp.is_loopback()
        {
            return Self::of_node(Node::First, Recorded { amqp, ..own });
        }
        assert!(!tls::is_everywhere(), "TEST_TLS needs the project's own node: unset AMQP_URL");
        let management = match set("MANAGEMENT_URL") {
            Some(url) => Endpoint::parse(&url, 15672),
            None => Endpoint { port: 15672, ..amqp.clone() },
        };
        Self { amqp, operator: Operator::Management(Management(management)), tls: None }
    }

    fn of_node(node: Node, Recorded { amqp, management }: Recorded) -> Self {
        let broker = Self { amqp, operator: Operator::OwnNode(management, node), tls: None };
        if tls::is_everywhere() { broker.over_tls() } else { broker }
    }

    fn embedded(broker: Embedded) -> Self {
        assert!(!tls::is_everywhere(), "TEST_TLS needs a node of RabbitMQ: unset TEST_BROKER");
        let amqp = Endpoint::parse(&broker.0.url(), 5672);
        Self { amqp, operator: Operator::Embedded(broker), tls: None }
    }

    /// Returns the broker with URLs and address of TLS. Blocks while it starts the listener, if it does not run. Only
    /// for the project's own nodes.
    pub fn over_tls(&self) -> Self {
        self.listening_for(Clients::MayHaveCertificate)
    }

    /// As [`over_tls`](Self::over_tls), with a listener at which clients need a certificate, and can log in with it.
    pub fn over_tls_with_certificates(&self) -> Self {
        self.listening_for(Clients::NeedCertificate)
    }

    /// Returns the broker with URLs and address of plain TCP, for tests that look at the bytes on the wire.
    pub fn without_tls(&self) -> Self {
        Self { tls: None, ..self.clone() }
    }

    fn listening_for(&self, clients: Clients) -> Self {
        Self { tls: Some(tls::listen(self.own_node(), self.amqp.port, clients)), ..self.clone() }
    }

    /// Returns whether it is one of the project's own nodes, which `rabbitmqctl` can reach.
    pub fn is_own(&self) -> bool {
        matches!(self.operator, Operator::OwnNode(..))
    }

    /// Returns whether it is the project's test broker.
    pub fn is_embedded(&self) -> bool {
        matches!(self.operator, Operator::Embedded(_))
    }

    /// Returns `host:port` of its AMQP listener.
    pub fn address(&self) -> String {
        format!("{}:{}", self.amqp.host, self.tls.unwrap_or(self.amqp.port))
    }

    /// Returns the URL of a virtual host, for the user of the tests.
    pub fn url(&self, vhost: &str) -> String {
        self.url_as(vhost, &self.amqp.user, &self.amqp.password)
    }

    /// Returns the URL of a virtual host, for another user.
    pub fn url_as(&self, vhost: &str, user: &str, password: &str) -> String {
        let scheme = if self.tls.is_some() { "amqps" } else { "amqp" };
        let (user, password) = (encode(user), encode(password));
        format!("{scheme}://{user}:{password}@{}/{}", self.address(), encode(vhost))
    }

    /// Returns the user of the tests.
    pub fn user(&self) -> &str {
        &self.amqp.user
    }

    fn administration(&self) -> &dyn Administration {
        match &self.operator {
            Operator::OwnNode(management, _) | Operator::Management(management) => management,
            Operator::Embedded(broker) => broker,
        }
    }

    /// Asks the operator for something.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Administration) -> T + Send + 'static,
    ) -> T {
        let broker = self.clone();
        let answer = tokio::task::spawn_blocking(move || question(broker.administration())).await;
        answer.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Returns the version that the operator names.
    pub async fn full_version(&self) -> String {
        self.ask(|administration| administration.version()).await
    }

    pub async fn has_vhost(&self, name: &str) -> bool {
        let name = name.to_owned();
        self.ask(move |administration| administration.has_vhost(&name)).await
    }

    pub async fn has_user(&self, name: &str) -> bool {
        let name = name.to_owned();
        self.ask(move |administration| administration.has_user(&name)).await
    }

    /// Returns the management API, `None` for the test broker, which has none.
    fn management(&self) -> Option<&Management> {
        match &self.operator {
            Operator::OwnNode(management, _) | Operator::Management(management) => Some(management),
            Operator::Embedded(_) => None,
        }
    }

    /// Returns `host:port` of the management API, a server of HTTP. `None` for the test broker, which has none.
    pub fn http_address(&self) -> Option<String> {
        self.management().map(|Management(endpoint)| format!("{}:{}", endpoint.host, endpoint.port))
    }

    /// Returns whether a virtual host runs on each node of a cluster of three, as far as this node knows.
    pub async fn vhost_runs_on_three_nodes(&self, vhost: &str) -> bool {
        let management = self.management().expect("a cluster is one of RabbitMQ").clone();
        let path = format!("/api/vhosts/{}", encode(vhost));
        let request = move || {
            let response = management.request("GET", &path, None);
            response.status == 200
                && response.json()["cluster_state"]
                    .as_object()
                    .is_some_and(|nodes| nodes.len() == 3 && nodes.values().all(|state| state == "running"))
        };
        tokio::task::spawn_blocking(request).await.expect("the thread of a management request panicked")
    }

    /// Runs `rabbitmqctl` against the node and returns its output. Only for the project's own nodes.
    pub async fn rabbitmqctl(&self, args: &[&str]) -> String {
        self.own_node().rabbitmqctl(args).await.unwrap_or_else(|e| panic!("{e}"))
    }

    /// Evaluates an Erlang expression on the node and returns its value. Tries again while the node is not ready, for
    /// two minutes at most. Only for the project's own nodes.
    pub async fn eval(&self, expression: &str) -> String {
        const NOT_READY: [&str; 5] = [
            "no_exists",
            "node_not_running",
            "no_leader",
            "noproc",
            "unable to perform an operation on node",
        ];
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            match self.own_node().rabbitmqctl(&["-q", "eval", expression]).await {
                Ok(value) => return value,
                Err(error) => {
                    let not_ready = NOT_READY.iter().any(|sign| error.contains(sign));
                    assert!(not_ready && Instant::now() < until, "{error}");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    /// Waits until the node sees a running leader for each quorum queue.
    pub async fn wait_for_leaders(&self) {
        self.eval(&leaders("ok")).await;
    }

    /// Elects a leader for each quorum queue of a single node. RabbitMQ 3.10.8 omits the election after a start if
    /// `basic.consume` comes before it: the queue has no leader and its consumers get nothing until it is started again.
    pub async fn elect_leaders(&self) {
        self.eval(&leaders("ra:trigger_election(Server)")).await;
    }

    fn assert_same_port(&self) {
        let now = self.own_node().recorded().map(|recorded| recorded.amqp.port);
        assert_eq!(now, Some(self.amqp.port), "the node has another port");
    }

    fn own_node(&self) -> Node {
        match self.operator {
            Operator::OwnNode(_, node) => node,
            _ => panic!("rabbitmqctl reaches the project's own nodes only: unset AMQP_URL and TEST_BROKER"),
        }
    }
}

/// Returns an Erlang expression that evaluates `first` for the member of each quorum queue on the node, as `Server`, and
/// waits up to half a minute for its leader.
fn leaders(first: &str) -> String {
    format!(
        "Wait = fun Wait(_, 0) -> exit(no_leader); Wait(Server, N) -> \
             case ra:members(Server, 1000) of \
                 {{ok, _, {{_, Node}}}} -> \
                     case net_adm:ping(Node) of pong -> ok; _ -> timer:sleep(100), Wait(Server, N - 1) end; \
                 _ -> timer:sleep(100), Wait(Server, N - 1) \
             end \
         end, \
         Servers = [{{element(1, amqqueue:get_pid(Q)), node()}} || Q <- rabbit_amqqueue:list(), \
             amqqueue:get_type(Q) =:= rabbit_quorum_queue], \
         [{first} || Server <- Servers], [Wait(Server, 300) || Server <- Servers], ok."
    )
}
