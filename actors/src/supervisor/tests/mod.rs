//! Tests of the machine: inputs with a made-up time, and the effects that follow.

mod closing;
mod missing;
mod reconnect;
mod recovery;
mod schedules;
mod topology;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{effect::Effect, supervision::Supervision};
use crate::{
    error::{CloseReason, Error},
    internal::{Change, ChannelMessage, ConnectionCommand, Entity},
    message::{
        CloseConnection, ConnectionEvent, ConnectionState, DeclareQueue, OpenChannel, Opened, QueueName,
    },
    options::{Address, ConnectionOptions, Recovery},
    wire::{Negotiated, Table},
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct Machine {
    supervision: Supervision,
    now: Instant,
}

impl Machine {
    fn with(set: impl FnOnce(&mut ConnectionOptions)) -> Self {
        let mut options = ConnectionOptions { recovery: Recovery::fixed(SECOND), ..Default::default() };
        set(&mut options);
        let mut machine = Self { supervision: Supervision::new(Arc::new(options)), now: Instant::now() };
        assert_eq!(machine.effects(), ["dial"]);
        machine
    }

    /// A machine whose first connection is open.
    fn open() -> Self {
        let mut machine = Self::with(|_| {});
        machine.connect();
        machine.effects();
        machine
    }

    fn connect(&mut self) {
        self.connect_with_channels(10);
    }

    fn connect_with_channels(&mut self, channel_max: u16) {
        let negotiated =
            Negotiated { channel_max, frame_max: 4096, heartbeat: 10, server_properties: Table::new() };
        let addr = ([127, 0, 0, 1], 5672).into();
        let opened = Opened {
            negotiated: negotiated.into(),
            address: Address::new("127.0.0.1", 5672),
            local_addr: addr,
            peer_addr: addr,
            blocked: None,
        };
        assert!(self.supervision.connection_opened(opened, self.now));
    }

    fn lose(&mut self) {
        self.supervision.connection_ended(Error::stopped("test"), self.now);
    }

    /// Loses the connection and opens the next one.
    fn reconnect(&mut self) {
        self.lose();
        self.pass(SECOND);
        self.effects();
        self.connect();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.supervision.time_passed(self.now);
    }

    fn open_channel(&mut self) -> u16 {
        let number = self.supervision.open_channel(&OpenChannel::new().confirms(false)).unwrap();
        self.supervision.channel_opened(number);
        number
    }

    fn declare(&mut self, declare: DeclareQueue, name: &str) {
        self.record(Entity::Queue { declare, name: QueueName::new(name) });
    }

    fn record(&mut self, entity: Entity) {
        self.supervision.topology_changed(Change::Record(entity), self.now);
    }

    fn effects(&mut self) -> Vec<String> {
        let effects = std::iter::from_fn(|| self.supervision.next_effect());
        effects
            .filter(|effect| !matches!(effect, Effect::DropUtility))
            .map(|effect| describe(&effect))
            .collect()
    }
}

fn refusal(code: u16) -> Error {
    Error::refused("queue.declare", CloseReason::new(code, "refused", 50, 10))
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::Dial => "dial".into(),
        Effect::DropConnection => "drop connection".into(),
        Effect::Command(ConnectionCommand::Close { .. }) => "close connection".into(),
        Effect::Command(ConnectionCommand::DetachChannel { channel }) => format!("detach {channel}"),
        Effect::Command(command) => format!("{command:?}"),
        Effect::SetState(ConnectionState::Open(_)) => "state open".into(),
        Effect::SetState(ConnectionState::Reconnecting(_)) => "state reconnecting".into(),
        Effect::SetState(state) => format!("state {state:?}"),
        Effect::Notify(ConnectionEvent::Connected) => "event connected".into(),
        Effect::Notify(ConnectionEvent::Lost(_)) => "event lost".into(),
        Effect::Notify(ConnectionEvent::Retrying { attempt, .. }) => format!("event retrying {attempt}"),
        Effect::Notify(ConnectionEvent::Recovered { epoch, skipped }) => {
            format!("event recovered {epoch}, {} skipped", skipped.len())
        }
        Effect::Notify(ConnectionEvent::Health(health)) if health.is_up() => "event up".into(),
        Effect::Notify(ConnectionEvent::Health(_)) => "event degraded".into(),
        Effect::Notify(ConnectionEvent::GivenUp(given_up)) => format!("event gave up {}", given_up.name),
        Effect::Notify(event) => format!("event {event:?}"),
        Effect::Attach(channel) => format!("attach {channel}"),
        Effect::SendToChannel(channel, message) => format!("{channel}: {}", describe_message(message)),
        Effect::StartUtility { number, steps } => {
            let names: Vec<_> = steps.iter().map(|step| step.name()).collect();
            format!("utility {number}: {}", names.join(", "))
        }
        Effect::StartTrial { number, steps } => {
            let names: Vec<_> = steps.iter().map(|step| step.name()).collect();
            format!("trial {number}: {}", names.join(", "))
        }
        Effect::StopTrial => "stop trial".into(),
        Effect::BlockUtility(reason) => format!("utility blocked: {}", reason.is_some()),
        Effect::DropUtility => "drop utility".into(),
        Effect::StopUtility(_) => "stop utility".into(),
        Effect::FailSecrets(_) => "fail secrets".into(),
        Effect::CountUnconfirmed => "count unconfirmed".into(),
        Effect::CloseForGood { cause: Some(_), .. } => "closed with an error".into(),
        Effect::CloseForGood { cause: None, .. } => "closed".into(),
        Effect::Stop => "stop".into(),
    }
}

fn describe_message(message: &ChannelMessage) -> String {
    match message {
        ChannelMessage::Detached { epoch, .. } => format!("detached {epoch}"),
        ChannelMessage::ConnectionClosed { .. } => "connection closed".into(),
        ChannelMessage::Drain => "drain".into(),
        ChannelMessage::ConnectFailed { .. } => "connect failed".into(),
        ChannelMessage::Blocked(reason) => format!("blocked {}", reason.is_some()),
        ChannelMessage::QueueRenamed { old, new } => format!("renamed {old} {new}"),
        ChannelMessage::StartConsumer { consumer, declare } => {
            format!("start {consumer}, {} steps", declare.len())
        }
        ChannelMessage::ForgetConsumer { tag } => format!("forget {tag}"),
        ChannelMessage::EntityFound { name, .. } => format!("found {name}"),
        ChannelMessage::ConsumerRepaired { consumer, result: Ok(()) } => format!("repaired {consumer}"),
        ChannelMessage::ConsumerRepaired { consumer, result: Err(_) } => format!("lost {consumer}"),
        ChannelMessage::ConsumerNotAtFault { tag } => format!("not at fault {tag}"),
        other => format!("{other:?}"),
    }
}
