//! The machine behind the `ConnectionSupervisor` actor. It decides; the actor carries out.
//!
//! An input is a method that takes values, the time among them, and adds [`Effect`]s for the actor. Each of
//! these files has the inputs of one subject: `reconnect.rs` (dialling, a lost connection), `recovery.rs`
//! (redeclaration, attaching channels, repairs), `attach.rs`, `closing.rs`, `health.rs`. No actix and no
//! clock here.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::{
    backoff::ReconnectBackoff,
    channels::Channels,
    effect::Effect,
    fatal_entities::FatalEntities,
    missing::{EntityKey, Missing},
    phase::{Open, Phase},
    room::Room,
    topology::Topology,
    trials::LostSteps,
    utility_task::UtilityTask,
};
use crate::{
    error::Error,
    internal::{Change, ChannelMessage, Removal},
    log_schedule::LogSchedule,
    message::{ConnectionEvent, EntityKind},
    options::ConnectionOptions,
    wire::PeerText,
};

#[derive(Debug)]
pub(super) struct Supervision {
    pub(super) options: Arc<ConnectionOptions>,
    /// Counts attempts from 1; each `Connection` actor has its own.
    pub(super) epoch: u64,
    /// How often the connection was open again after it was lost.
    pub(super) reconnects: u64,
    pub(super) phase: Phase,
    pub(super) backoff: ReconnectBackoff,
    /// Why the connection is down, or was until its recovery, which is not complete.
    pub(super) outage: Option<Error>,
    pub(super) channels: Channels,
    pub(super) topology: Topology,
    pub(super) missing: Missing,
    /// What has cost a connection.
    pub(super) fatal_entities: FatalEntities,
    /// What the utility channel of the lost connection was doing.
    pub(super) lost_steps: Option<LostSteps>,
    /// Whether the library may open channels of its own.
    pub(super) room: Room,
    /// What the utility channel is doing.
    pub(super) utility: Option<UtilityTask>,
    /// The last handle of the connection was dropped.
    pub(super) released: bool,
    pub(super) health_marks: Vec<String>,
    /// When the blocks of the broker are logged.
    pub(super) blocks_logged: LogSchedule,
    /// Whether the last one was.
    pub(super) block_logged: bool,
    pub(super) effects: VecDeque<Effect>,
}

impl Supervision {
    /// Starts with the first dial.
    pub(super) fn new(options: Arc<ConnectionOptions>) -> Self {
        let missing = Missing::new(options.recovery);
        let mut supervision = Self {
            options,
            epoch: 0,
            reconnects: 0,
            phase: Phase::Dialling(None),
            backoff: ReconnectBackoff::default(),
            outage: None,
            channels: Channels::default(),
            topology: Topology::default(),
            missing,
            fatal_entities: FatalEntities::default(),
            lost_steps: None,
            room: Room::default(),
            utility: None,
            released: false,
            health_marks: Vec::new(),
            blocks_logged: LogSchedule::default(),
            block_logged: false,
            effects: VecDeque::new(),
        };
        supervision.dial(None);
        supervision
    }

    /// Returns whether a message of this epoch is about the present `Connection` actor.
    pub(super) fn is_current(&self, epoch: u64) -> bool {
        epoch == self.epoch && self.phase.has_connection()
    }

    /// Returns the open connection, also while it is being closed.
    pub(super) fn open(&self) -> Option<&Open> {
        self.phase.open()
    }

    /// Returns why the broker blocks the connection.
    pub(super) fn blocked(&self) -> Option<Arc<str>> {
        self.phase.open().and_then(|open| open.opened.blocked.as_deref().map(Arc::from))
    }

    /// The broker sent `connection.blocked` or `connection.unblocked`.
    pub(super) fn set_blocked(&mut self, reason: Option<PeerText>, now: Instant) {
        let epoch = self.epoch;
        if let Some(reason) = &reason {
            let so_far = self.blocks_logged.count(now);
            self.block_logged = so_far.is_some();
            if let Some(so_far) = so_far {
                log::warn!("connection {epoch}: publishes are blocked{so_far}: {reason}");
            }
        } else if std::mem::take(&mut self.block_logged) {
            log::info!("connection {epoch}: publishes are unblocked");
        }
        let blocked: Option<Arc<str>> = reason.as_deref().map(Arc::from);
        if let Some(open) = self.phase.open_mut() {
            Arc::make_mut(&mut open.opened).blocked.clone_from(&reason);
            self.effects.push_back(Effect::SetState(self.phase.state()));
        }
        self.send_to_channels(|| ChannelMessage::Blocked(blocked.clone()));
        self.effects.push_back(Effect::BlockUtility(blocked));
        self.notify(reason.map_or(ConnectionEvent::Unblocked, ConnectionEvent::Blocked));
        self.health_changed();
    }

    /// A channel has changed the topology.
    pub(super) fn topology_changed(&mut self, change: Change, now: Instant) {
        match &change {
            Change::Record(entity) => {
                let key = EntityKey::of_entity(entity);
                self.topology.change(change);
                if let EntityKey::Consumer { tag, .. } = &key
                    && self.missing.replaces_ended(tag)
                {
                    self.health_changed();
                }
                self.declared(&key, now);
            }
            Change::Forget(removal) => {
                if let Removal::Queue(name) = removal {
                    self.missing.forget_ended(EntityKind::Queue, name);
                }
                self.topology.change(change);
                self.forget_unrecorded();
            }
        }
    }

    /// An exchange or queue is about to be deleted, or that was refused. If it is gone nevertheless, it is
    /// declared again.
    pub(super) fn deleting(&mut self, kind: EntityKind, name: &str, is_deleting: bool, now: Instant) {
        let gone =
            EntityKey::declared(kind, name).and_then(|key| self.topology.set_deleting(key, is_deleting));
        if let Some(error) = gone {
            self.entity_gone(kind, name, &error, now);
        }
    }

    /// Returns when [`time_passed`](Self::time_passed) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let retries = self.retry_scope().and_then(|scope| self.missing.deadline(scope));
        let phase = match &self.phase {
            Phase::BackingOff { until, .. } => Some(*until),
            Phase::RedeclaringTopology(_, redeclare) if self.utility.is_none() => redeclare.deadline(),
            Phase::Closing(closing) => closing.deadline(),
            _ => None,
        };
        retries.into_iter().chain(phase).chain(self.trial_deadline()).chain(self.room_deadline()).min()
    }

    /// Does what is due.
    pub(super) fn time_passed(&mut self, now: Instant) {
        self.dial_when_due(now);
        self.redeclare_when_due(now);
        self.check_close_deadline(now);
        self.retry_when_due(now);
        self.start_trial_when_due(now);
        self.look_for_room_when_due(now);
    }

    /// Takes the next effect for the actor.
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(super) fn notify(&mut self, event: ConnectionEvent) {
        self.effects.push_back(Effect::Notify(event));
    }
}
