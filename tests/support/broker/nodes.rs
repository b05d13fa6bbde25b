//! The project's own nodes of RabbitMQ, and the scripts that start and stop them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::{
    Broker,
    choice::Choice,
    management::{Endpoint, Management},
};

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
        let own = || Choice::version().map_or_else(|| all.clone(), |version| all.join(version));
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
            management: Management(Endpoint::parse(&value("MANAGEMENT_URL")?, 15672)),
        })
    }

    pub(super) fn broker(self) -> Broker {
        let recorded = self.recorded().unwrap_or_else(|| panic!("{self:?} is not running"));
        Broker::of_node(self, recorded)
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
        let version = Choice::version().filter(|_| !matches!(self, Self::OfCluster(_)));
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
    pub(super) management: Management,
}

fn script(name: &str, version: Option<String>) -> Command {
    let mut command = Command::new("bash");
    command.arg(root().join("scripts").join(name)).args(version);
    command
}

pub(super) async fn broker_script(args: &[&str]) {
    try_broker_script(args).await.unwrap_or_else(|e| panic!("{e}"));
}

pub(super) async fn try_broker_script(args: &[&str]) -> Result<(), String> {
    // The cluster is always one of the installed RabbitMQ.
    let version = Choice::version().filter(|_| args.first() != Some(&"cluster"));
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
