//! The nodes that a test may stop, kill or alarm: the second node and the cluster.
//!
//! One test at a time uses each of them. It leaves them running for the next one; `make broker-stop` stops them.

use std::{
    fs::{File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use super::{Broker, management::Endpoint};

/// One of the project's own nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    First,
    Second,
    /// 1 to 3.
    OfCluster(u8),
}

impl Node {
    /// The folder of the node, as in scripts/broker.sh.
    pub(super) fn folder(self) -> PathBuf {
        let all = root().join(".broker");
        let own = || version().map_or_else(|| all.clone(), |version| all.join(version));
        match self {
            Self::First => own(),
            Self::Second => own().join("second"),
            Self::OfCluster(number) => all.join(format!("cluster/{number}")),
        }
    }

    /// Reads what scripts/broker.sh recorded of the node: lines of `NAME='value'`. `None` if it was not started.
    pub(super) fn recorded(self) -> Option<Recorded> {
        let folder = self.folder();
        if !folder.join("process").exists() {
            return None;
        }
        let text = std::fs::read_to_string(folder.join("env")).ok()?;
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('\'').to_owned())
        };
        Some(Recorded {
            amqp: Endpoint::parse(&value("AMQP_URL")?, 5672),
            management: Endpoint::parse(&value("MANAGEMENT_URL")?, 15672),
        })
    }

    fn broker(self) -> Broker {
        let Recorded { amqp, management } =
            self.recorded().unwrap_or_else(|| panic!("{self:?} is not running"));
        Broker { amqp, management, node: Some(self), tls: None }.over_tls_if_all_are()
    }

    /// Runs `rabbitmqctl` against the node. An error has the command and its output.
    pub(super) async fn rabbitmqctl(self, args: &[&str]) -> Result<String, String> {
        run(self.rabbitmqctl_command(args)).await
    }

    pub(super) fn blocking_rabbitmqctl(self, args: &[&str]) -> Result<String, String> {
        let mut command = self.rabbitmqctl_command(args);
        result(command.output(), &command)
    }

    fn rabbitmqctl_command(self, args: &[&str]) -> Command {
        let version = version().filter(|_| !matches!(self, Self::OfCluster(_)));
        let mut command = script("ctl.sh", version);
        match self {
            Self::First => {}
            Self::Second => {
                command.arg("second");
            }
            Self::OfCluster(number) => {
                command.arg(format!("cluster{number}"));
            }
        }
        command.args(args);
        command
    }
}

pub(super) struct Recorded {
    pub(super) amqp: Endpoint,
    pub(super) management: Endpoint,
}

/// Exclusive use of the second node or the cluster, across threads and processes.
///
/// Holds the lock of a file under `.broker/`. The file has content while the node is in use. If the next user finds
/// content, the last one panicked or was killed, and the node may be in any state.
#[derive(Debug)]
struct Turn {
    file: File,
    /// The next user can use the node as it is.
    is_clean: bool,
}

impl Turn {
    /// Waits until nobody uses the node. Also returns whether the last user ended normally.
    async fn take(name: &str) -> (Self, bool) {
        let folder = root().join(".broker");
        std::fs::create_dir_all(&folder).expect("the folder .broker");
        let path = folder.join(format!("{name}.in-use"));
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .expect("the lock file opens");
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(TryLockError::Error(error)) => panic!("cannot lock {path:?}: {error}"),
            }
        }
        let clean = file.metadata().expect("metadata").len() == 0;
        file.write_all(b"in use\n").expect("the lock file takes content");
        (Self { file, is_clean: true }, clean)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_clean && !std::thread::panicking() {
            let _ = self.file.set_len(0);
        }
    }
}

/// The second node, for tests that stop, kill or alarm a broker.
#[derive(Debug)]
pub struct SecondNode {
    broker: Broker,
    turn: Turn,
}

impl SecondNode {
    /// Waits until no other test uses the node, starts it unless it runs, and waits until it is ready. If its last user
    /// failed, the node is started again without data, so that no alarm, limit or queue is left.
    pub async fn start() -> Self {
        let name = version().map_or_else(|| "second".into(), |version| format!("{version}-second"));
        let (turn, clean) = Turn::take(&name).await;
        if !clean || try_broker_script(&["second", "start"]).await.is_err() {
            broker_script(&["second", "renew"]).await;
        }
        Self { broker: Node::Second.broker(), turn }
    }

    /// Starts it again without data, with these lines added to its configuration. The next user gets it without them.
    pub async fn configure(&mut self, lines: &[&str]) {
        self.turn.is_clean = false;
        let command: Vec<_> = ["second", "renew"].iter().chain(lines).copied().collect();
        broker_script(&command).await;
        self.broker = Node::Second.broker();
    }

    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Stops it in an orderly way.
    pub async fn stop(&self) {
        broker_script(&["second", "stop"]).await;
    }

    /// Pauses its process: its sockets stay open, and it answers nothing.
    pub async fn pause(&self) {
        broker_script(&["second", "pause"]).await;
    }

    /// Resumes its process and waits until it is ready.
    pub async fn resume(&self) {
        broker_script(&["second", "resume"]).await;
    }

    /// Writes declarations to disk. The node does so by itself only after about two seconds, and a node that is killed
    /// before that has lost durable queues that it confirmed.
    pub async fn sync(&self) {
        self.broker.eval("mnesia:sync_log().").await;
    }

    /// Kills it with SIGKILL; see [`sync`](Self::sync).
    pub async fn kill9(&self) {
        broker_script(&["second", "kill9"]).await;
    }

    /// Starts it again after `stop` or `kill9`, on the same ports with the same data, and waits until it is ready and
    /// its quorum queues have leaders.
    pub async fn start_again(&self) {
        broker_script(&["second", "start"]).await;
        self.broker.assert_same_port();
        self.broker.elect_leaders().await;
    }
}

/// A cluster of three nodes.
#[derive(Debug)]
pub struct Cluster {
    nodes: [Broker; 3],
    _turn: Turn,
}

impl Cluster {
    /// Waits until no other test uses the cluster, starts it unless it runs, and waits until it is ready. If a node is
    /// not running, or the last user failed, the cluster is created again without data.
    pub async fn start() -> Self {
        let (turn, clean) = Turn::take("cluster").await;
        if !clean {
            broker_script(&["cluster", "stop"]).await;
        }
        broker_script(&["cluster", "start"]).await;
        let nodes = [1, 2, 3].map(|number| Node::OfCluster(number).broker());
        Self { nodes, _turn: turn }
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

impl Broker {
    fn assert_same_port(&self) {
        let now = self.node.and_then(Node::recorded).map(|recorded| recorded.amqp.port);
        assert_eq!(now, Some(self.amqp.port), "the node has another port");
    }
}

/// Returns which of the project's own nodes to use: `None` for those of the installed RabbitMQ, or a version that is the
/// first argument of scripts/broker.sh.
fn version() -> Option<String> {
    let version = std::env::var("TEST_BROKER").ok().filter(|version| !version.is_empty())?;
    let known = version.starts_with(|first: char| first.is_ascii_digit());
    assert!(known, "TEST_BROKER is {version:?}, which is no version of scripts/broker.sh");
    Some(version)
}

fn script(name: &str, version: Option<String>) -> Command {
    let mut command = Command::new("bash");
    command.arg(root().join("scripts").join(name)).args(version);
    command
}

async fn broker_script(args: &[&str]) {
    try_broker_script(args).await.unwrap_or_else(|e| panic!("{e}"));
}

async fn try_broker_script(args: &[&str]) -> Result<(), String> {
    // The cluster is always one of the installed RabbitMQ.
    let version = version().filter(|_| args.first() != Some(&"cluster"));
    let mut command = script("broker.sh", version);
    command.args(args);
    run(command).await.map(drop)
}

/// Runs a command and returns its standard output.
async fn run(mut command: Command) -> Result<String, String> {
    let output = tokio::task::spawn_blocking(move || (command.output(), command))
        .await
        .expect("the thread of a command panicked");
    let (output, command) = output;
    result(output, &command)
}

fn result(output: std::io::Result<Output>, command: &Command) -> Result<String, String> {
    let output = output.map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if output.status.success() { Ok(stdout) } else { Err(format!("{command:?} failed: {stdout}{stderr}")) }
}

pub(super) fn root() -> &'static Path {
    // The package of an example is in a folder below it.
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    folders.find(|folder| folder.join("scripts/broker.sh").exists()).expect("the root of the project")
}
