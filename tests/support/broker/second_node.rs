//! The second node, for tests that stop, kill, alarm or configure a broker.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use actix_pika_broker::Permits;

use super::{
    Broker,
    choice::Choice,
    embedded::Embedded,
    nodes::{Node, broker_script, try_broker_script},
    turn::{Left, Turn},
};

/// The second node: one of RabbitMQ, which one test at a time uses and leaves running for the next one (`make
/// broker-stop` stops it); or a test broker of the test's own.
#[derive(Debug)]
pub struct SecondNode {
    broker: Broker,
    is: Is,
}

#[derive(Debug)]
enum Is {
    RabbitMq(Turn),
    Embedded { node: Embedded, alarms: Mutex<BTreeSet<Alarm>> },
}

/// What a broker is short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    Memory,
    Disk,
}

/// What an operator configures, and RabbitMQ reads when it starts.
#[derive(Debug, Clone, Copy)]
pub enum Setting {
    FrameMax(u32),
    /// Whether consumers of a channel may share a prefetch.
    PermitGlobalQos(bool),
    /// Whether queues may be neither durable nor exclusive.
    PermitTransientQueues(bool),
}

impl Setting {
    /// Returns the line of rabbitmq.conf.
    fn line(self) -> String {
        match self {
            Self::FrameMax(octets) => format!("frame_max = {octets}"),
            Self::PermitGlobalQos(permitted) => {
                format!("deprecated_features.permit.global_qos = {permitted}")
            }
            Self::PermitTransientQueues(permitted) => {
                format!("deprecated_features.permit.transient_nonexcl_queues = {permitted}")
            }
        }
    }
}

impl SecondNode {
    /// Waits until no other test uses the node, starts it unless it runs, and waits until it is ready. If its last user
    /// failed, the node is started again without data, so that no alarm, limit or queue is left.
    pub async fn start() -> Self {
        if let Choice::Embedded(line) = Choice::get() {
            return Self::embedded(Embedded::start(*line));
        }
        let name = Choice::version().map_or_else(|| "second".into(), |version| format!("{version}-second"));
        let (turn, left) = Turn::take(&name).await;
        if left == Left::InAnyState || try_broker_script(&["second", "start"]).await.is_err() {
            broker_script(&["second", "renew"]).await;
        }
        Self { broker: Node::Second.broker(), is: Is::RabbitMq(turn) }
    }

    fn embedded(node: Embedded) -> Self {
        Self { broker: Broker::embedded(node.clone()), is: Is::Embedded { node, alarms: Mutex::default() } }
    }

    /// Starts it again without data, with these settings. The next user gets it without them.
    pub async fn configure(&mut self, settings: &[Setting]) {
        match &mut self.is {
            Is::RabbitMq(turn) => {
                turn.leave_in_any_state();
                let lines: Vec<_> = settings.iter().map(|setting| setting.line()).collect();
                let command: Vec<_> =
                    ["second", "renew"].into_iter().chain(lines.iter().map(String::as_str)).collect();
                broker_script(&command).await;
                self.broker = Node::Second.broker();
            }
            Is::Embedded { node, .. } => {
                let (mut permits, mut frame_max) = (Permits::default(), None);
                for setting in settings {
                    match *setting {
                        Setting::FrameMax(octets) => frame_max = Some(octets),
                        Setting::PermitGlobalQos(permitted) => permits.global_qos = Some(permitted),
                        Setting::PermitTransientQueues(permitted) => {
                            permits.transient_queues = Some(permitted);
                        }
                    }
                }
                let line = node.0.line();
                *self = Self::embedded(Embedded::start_with(line, |builder| {
                    let builder = builder.permits(permits);
                    match frame_max {
                        Some(octets) => builder.frame_max(octets),
                        None => builder,
                    }
                }));
            }
        }
    }

    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Stops it in an orderly way.
    pub async fn stop(&self) {
        match &self.is {
            Is::RabbitMq(_) => broker_script(&["second", "stop"]).await,
            Is::Embedded { node, .. } => node.0.stop_node(),
        }
    }

    /// Pauses its process: its sockets stay open, and it answers nothing.
    pub async fn pause(&self) {
        match &self.is {
            Is::RabbitMq(_) => broker_script(&["second", "pause"]).await,
            Is::Embedded { node, .. } => node.0.pause_node(),
        }
    }

    /// Resumes its process and waits until it is ready.
    pub async fn resume(&self) {
        match &self.is {
            Is::RabbitMq(_) => broker_script(&["second", "resume"]).await,
            Is::Embedded { node, .. } => node.0.resume_node(),
        }
    }

    /// Writes declarations to disk. RabbitMQ does so by itself only after about two seconds, and a node that is killed
    /// before that has lost durable queues that it confirmed.
    pub async fn sync(&self) {
        if let Is::RabbitMq(_) = self.is {
            self.broker.eval("mnesia:sync_log().").await;
        }
    }

    /// Kills it with SIGKILL; see [`sync`](Self::sync).
    pub async fn kill9(&self) {
        match &self.is {
            Is::RabbitMq(_) => broker_script(&["second", "kill9"]).await,
            Is::Embedded { node, .. } => node.0.kill_node(),
        }
    }

    /// Starts it again after `stop` or `kill9`, on the same ports with the same data, and waits until it is ready and
    /// its quorum queues have leaders.
    pub async fn start_again(&self) {
        match &self.is {
            Is::RabbitMq(_) => {
                broker_script(&["second", "start"]).await;
                self.broker.assert_same_port();
                self.broker.elect_leaders().await;
            }
            Is::Embedded { node, .. } => node.0.start_node().expect("the same port"),
        }
    }

    /// Begins an alarm.
    pub async fn alarm(&self, alarm: Alarm) {
        match (&self.is, alarm) {
            (Is::RabbitMq(_), Alarm::Memory) => self.ctl(&["set_vm_memory_high_watermark", "0"]).await,
            (Is::RabbitMq(_), Alarm::Disk) => self.ctl(&["set_disk_free_limit", "1000000GB"]).await,
            (Is::Embedded { node, alarms }, _) => {
                change_alarms(node, alarms, |alarms| _ = alarms.insert(alarm));
            }
        }
    }

    /// Ends an alarm.
    pub async fn end_alarm(&self, alarm: Alarm) {
        match (&self.is, alarm) {
            (Is::RabbitMq(_), Alarm::Memory) => self.ctl(&["set_vm_memory_high_watermark", "0.6"]).await,
            (Is::RabbitMq(_), Alarm::Disk) => self.ctl(&["set_disk_free_limit", "50MB"]).await,
            (Is::Embedded { node, alarms }, _) => {
                change_alarms(node, alarms, |alarms| _ = alarms.remove(&alarm));
            }
        }
    }

    async fn ctl(&self, args: &[&str]) {
        self.broker.rabbitmqctl(&[&["-q"], args].concat()).await;
    }

    /// Sets how long deliveries of channels that are opened from now on may stay unsettled. RabbitMQ looks every 200 ms.
    pub async fn set_consumer_timeout(&self, timeout: Duration) {
        match &self.is {
            Is::RabbitMq(_) => {
                self.set_env("channel_tick_interval", 200).await;
                self.set_env("consumer_timeout", timeout.as_millis()).await;
            }
            Is::Embedded { node, .. } => node.0.set_consumer_timeout(Some(timeout)),
        }
    }

    /// Resets what [`set_consumer_timeout`](Self::set_consumer_timeout) has set.
    pub async fn reset_consumer_timeout(&self) {
        if let Is::RabbitMq(_) = self.is {
            self.set_env("channel_tick_interval", 60_000).await;
            self.set_env("consumer_timeout", 1_800_000).await;
        }
    }

    /// Limits bodies. A channel of RabbitMQ before 4.0 keeps the limit from when it was opened.
    pub async fn limit_bodies(&self, bytes: usize) {
        match &self.is {
            // Since 4.0 the current limit counts, kept elsewhere.
            Is::RabbitMq(_) if self.broker.version().await >= (4, 0) => {
                let command = format!("persistent_term:put(max_message_size, {bytes}).");
                self.broker.eval(&command).await;
            }
            Is::RabbitMq(_) => self.set_env("max_message_size", bytes as u128).await,
            Is::Embedded { node, .. } => node.0.set_max_message_size(bytes as u64),
        }
    }

    async fn set_env(&self, name: &str, value: u128) {
        self.broker.eval(&format!("application:set_env(rabbit, {name}, {value}).")).await;
    }
}

fn change_alarms(
    node: &Embedded,
    alarms: &Mutex<BTreeSet<Alarm>>,
    change: impl FnOnce(&mut BTreeSet<Alarm>),
) {
    let mut alarms = alarms.lock().expect("no panic");
    change(&mut alarms);
    let reasons = alarms.iter().map(|alarm| match alarm {
        Alarm::Memory => "memory",
        Alarm::Disk => "disk",
    });
    match reasons.collect::<Vec<_>>().as_slice() {
        [] => node.0.unblock(),
        reasons => node.0.block(&format!("low on {}", reasons.join(" & "))),
    }
}
