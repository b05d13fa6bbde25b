//! A cluster, whose nodes a test may kill.

use super::{
    Broker,
    choice::{Choice, leave_out},
    nodes::{Node, broker_script},
    turn::{Left, Turn},
};

/// A cluster of three nodes.
#[derive(Debug)]
pub struct Cluster {
    nodes: [Broker; 3],
    _turn: Turn,
}

impl Cluster {
    /// Waits until no other test uses the cluster, starts it unless it runs, and waits until it is ready. If a node is
    /// not running, or the last user failed, the cluster is created again without data.
    ///
    /// Returns `None` for the test broker, which has no cluster; the test is to be left out then.
    pub async fn start() -> Option<Self> {
        if Choice::is_embedded() {
            leave_out("the test broker is one node: it has no cluster");
            return None;
        }
        let (turn, left) = Turn::take("cluster").await;
        if left == Left::InAnyState {
            broker_script(&["cluster", "stop"]).await;
        }
        broker_script(&["cluster", "start"]).await;
        let nodes = [1, 2, 3].map(|number| Node::OfCluster(number).broker());
        Some(Self { nodes, _turn: turn })
    }

    /// Returns the node with this number, from 1.
    pub fn node(&self, number: usize) -> &Broker {
        &self.nodes[number - 1]
    }

    /// Returns the number of the node that RabbitMQ calls `name`.
    pub fn number(&self, name: &str) -> usize {
        let names = ["pikac1@localhost", "pikac2@localhost", "pikac3@localhost"];
        1 + names.iter().position(|known| *known == name).unwrap_or_else(|| panic!("unknown node {name}"))
    }

    /// Kills a node with SIGKILL.
    pub async fn kill(&self, number: usize) {
        broker_script(&["cluster", "kill-node", &number.to_string()]).await;
    }

    /// Starts a node again, on the same ports with the same data, and waits until it is ready and sees a leader for
    /// each quorum queue.
    pub async fn start_again(&self, number: usize) {
        broker_script(&["cluster", "start-node", &number.to_string()]).await;
        self.node(number).assert_same_port();
        self.node(number).wait_for_leaders().await;
    }
}
