//! One thing that is missing: why, since when, and how it is tried.

use std::time::Duration;

use tokio::time::Instant;

use super::{EntityBackoff, EntityKey};
use crate::{
    error::Error,
    internal::TrialConsume,
    log_schedule::LogSchedule,
    message::{ConsumerEnd, MissingEntity, NextTry},
};

/// The time from the first line of the log about an entry to the next.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(in crate::supervisor) struct Entry {
    /// Why it is missing.
    pub(super) error: Error,
    pub(super) backoff: EntityBackoff,
    pub(super) progress: Progress,
    pub(super) place: Place,
    /// The consumer that is to be started again.
    pub(super) repair: Option<Repair>,
    /// A queue that the broker names is surely gone: another one is declared in its place.
    pub(super) replace: bool,
    /// Channels are told when it is back.
    pub(super) announced: bool,
    pub(super) log: LogSchedule,
}

/// Where an entity is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Place {
    /// On the utility channel, or on the channel of the consumer.
    UtilityChannel,
    /// On a connection of its own at this time, or after all else at the next reconnect: it has cost a
    /// connection.
    OwnConnection { next: Option<Instant> },
    /// A channel: it reopens by itself.
    Channel,
    /// Not here: only the application can bring it back.
    Application,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is tried at this time, unless another entity that it needs is missing.
    Waiting { due: Instant },
    /// It is tried when a channel of the connection has closed, or a probe at this time finds room.
    NoRoom { probe: Option<Instant> },
    /// Its steps are at the broker.
    Trying,
    /// A consumer: its channel starts it.
    Starting,
    /// The connection is lost; the recovery of the next one tries it.
    Detached,
    /// Tries without a reply have cost this connection too many channel numbers, or a channel does not close.
    Unanswered,
    /// The limits of the recovery are reached, or it cannot be tried.
    GivenUp,
    /// It is in place since then. The entry is kept for its back-off.
    Back { since: Instant },
}

/// A consumer that cannot start again on its channel for now.
#[derive(Clone, Debug)]
pub(in crate::supervisor) struct Repair {
    pub(in crate::supervisor) channel: u16,
    pub(in crate::supervisor) consumer: u32,
    pub(in crate::supervisor) trial: TrialConsume,
    /// Why it ended.
    pub(in crate::supervisor) cause: ConsumerEnd,
}

impl Entry {
    pub(super) fn new(error: Error, now: Instant) -> Self {
        Self {
            error,
            backoff: EntityBackoff::new(now),
            progress: Progress::Waiting { due: now },
            place: Place::UtilityChannel,
            repair: None,
            replace: false,
            announced: false,
            log: LogSchedule::from(LOG_INTERVAL),
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        !matches!(self.progress, Progress::Back { .. })
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self.progress {
            Progress::Waiting { due } if self.place == Place::UtilityChannel => Some(due),
            _ => None,
        }
    }

    pub(super) fn to_missing(&self, key: &EntityKey) -> MissingEntity {
        let next_try = match (self.place, self.progress) {
            (Place::Application, _) => NextTry::ByApplication,
            (_, Progress::GivenUp) => NextTry::Never,
            (Place::OwnConnection { next: Some(at) }, _) => NextTry::At(at.into_std()),
            (Place::OwnConnection { next: None }, _) => NextTry::AtReconnect,
            (_, Progress::Waiting { due }) => NextTry::At(due.into_std()),
            (_, Progress::Trying | Progress::Starting | Progress::Back { .. }) => NextTry::Now,
            (_, Progress::NoRoom { probe: Some(at) }) => NextTry::At(at.into_std()),
            (_, Progress::NoRoom { probe: None }) => NextTry::WhenChannelCloses,
            (_, Progress::Detached | Progress::Unanswered) => NextTry::AtReconnect,
        };
        MissingEntity {
            kind: key.kind(),
            name: key.name(),
            error: self.error.clone(),
            since: self.backoff.since().into_std(),
            next_try,
        }
    }
}
