//! The phases of a supervised connection, from the first dial to the end.
//!
//! One enum: what a phase needs is in its variant, so that a phase cannot have what belongs to another one.
//! When a phase ends is decided in `supervision.rs` and its neighbours.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::Instant;

use super::redeclare::Redeclare;
use crate::{
    error::Error,
    message::{ConnectionState, Opened},
};

#[derive(Debug)]
pub(super) enum Phase {
    /// A `Connection` actor dials and shakes hands, for the first time (`None`) or again.
    Dialling(Option<Retry>),
    /// No connection; the next attempt starts at this time.
    BackingOff { until: Instant, retry: Retry },
    /// Open again; the recorded topology is redeclared. No channel is attached.
    RedeclaringTopology(Open, Redeclare),
    /// Open again, with its topology; these channels have not recovered yet.
    Attaching(Open, BTreeSet<u16>),
    /// Open, and everything has recovered that can recover now.
    Up(Open),
    /// Being closed by the application; there still is a `Connection` actor.
    Closing(Closing),
    /// Closed for good, by the application (`None`) or because of an error.
    Closed(Option<Error>),
}

/// Why the connection is dialled again.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    pub(super) error: Error,
    pub(super) history: History,
}

/// Whether there is something to recover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum History {
    /// No handshake was ever completed.
    NeverOpen,
    /// There was an open connection.
    WasOpen,
}

/// An open connection.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) opened: Arc<Opened>,
}

/// A close by the application that is under way.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) code: u16,
    pub(super) text: String,
    pub(super) until: Instant,
    pub(super) progress: CloseProgress,
    /// Not everything that was sent before `connection.close` was written.
    pub(super) content_lost: bool,
    pub(super) interrupted: Interrupted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseProgress {
    /// Waits for the confirms of the channels.
    Draining,
    /// `connection.close` was ordered from the `Connection` actor.
    Ordered,
}

/// What the connection was doing when it was closed.
#[derive(Debug)]
pub(super) enum Interrupted {
    Dialling(Option<Retry>),
    Recovery(Open),
    Up(Open),
}

impl Interrupted {
    pub(super) fn open(&self) -> Option<&Open> {
        match self {
            Self::Dialling(_) => None,
            Self::Recovery(open) | Self::Up(open) => Some(open),
        }
    }

    pub(super) fn open_mut(&mut self) -> Option<&mut Open> {
        match self {
            Self::Dialling(_) => None,
            Self::Recovery(open) | Self::Up(open) => Some(open),
        }
    }

    pub(super) fn retry(&self) -> Option<&Retry> {
        match self {
            Self::Dialling(retry) => retry.as_ref(),
            Self::Recovery(_) | Self::Up(_) => None,
        }
    }

    pub(super) fn is_recovery(&self) -> bool {
        matches!(self, Self::Recovery(_))
    }

    pub(super) fn history(&self) -> History {
        match self {
            Self::Dialling(None) => History::NeverOpen,
            Self::Dialling(Some(retry)) => retry.history,
            Self::Recovery(_) | Self::Up(_) => History::WasOpen,
        }
    }
}

impl Closing {
    /// Returns when the close no longer waits for confirms.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.progress == CloseProgress::Draining).then_some(self.until)
    }
}

impl Phase {
    pub(super) fn open(&self) -> Option<&Open> {
        match self {
            Self::RedeclaringTopology(open, _) | Self::Attaching(open, _) | Self::Up(open) => Some(open),
            Self::Closing(closing) => closing.interrupted.open(),
            Self::Dialling(_) | Self::BackingOff { .. } | Self::Closed(_) => None,
        }
    }

    pub(super) fn open_mut(&mut self) -> Option<&mut Open> {
        match self {
            Self::RedeclaringTopology(open, _) | Self::Attaching(open, _) | Self::Up(open) => Some(open),
            Self::Closing(closing) => closing.interrupted.open_mut(),
            Self::Dialling(_) | Self::BackingOff { .. } | Self::Closed(_) => None,
        }
    }

    /// Returns the state that the application sees.
    pub(super) fn state(&self) -> ConnectionState {
        match self {
            Self::Dialling(retry) => dialling(retry.as_ref()),
            Self::BackingOff { retry, .. } => ConnectionState::Reconnecting(retry.error.clone()),
            Self::RedeclaringTopology(open, _) | Self::Attaching(open, _) | Self::Up(open) => {
                ConnectionState::Open(open.opened.clone())
            }
            Self::Closing(closing) => match closing.interrupted.open() {
                Some(open) => ConnectionState::Open(open.opened.clone()),
                None => dialling(closing.interrupted.retry()),
            },
            Self::Closed(cause) => ConnectionState::Closed(cause.clone()),
        }
    }

    /// Returns whether there is a `Connection` actor.
    pub(super) fn has_connection(&self) -> bool {
        !matches!(self, Self::BackingOff { .. } | Self::Closed(_))
    }

    /// Returns whether topology, channels and consumers are being recovered.
    pub(super) fn is_recovering(&self) -> bool {
        match self {
            Self::RedeclaringTopology(..) | Self::Attaching(..) => true,
            Self::Closing(closing) => closing.interrupted.is_recovery(),
            _ => false,
        }
    }

    pub(super) fn history(&self) -> History {
        match self {
            Self::Dialling(None) => History::NeverOpen,
            Self::Dialling(Some(retry)) | Self::BackingOff { retry, .. } => retry.history,
            Self::Closing(closing) => closing.interrupted.history(),
            Self::RedeclaringTopology(..) | Self::Attaching(..) | Self::Up(_) | Self::Closed(_) => {
                History::WasOpen
            }
        }
    }
}

fn dialling(retry: Option<&Retry>) -> ConnectionState {
    retry.map_or(ConnectionState::Connecting, |retry| ConnectionState::Reconnecting(retry.error.clone()))
}
