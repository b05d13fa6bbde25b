//! What a chaos does, and what it has done.

use std::{fmt, time::Duration};

/// A kind of fault that [`Broker::chaos`](crate::Broker::chaos) chooses from.
///
/// # Examples
/// ```
/// use actix_pika_broker::FaultKind;
/// assert!(FaultKind::USUAL.contains(&FaultKind::Cut) && !FaultKind::USUAL.contains(&FaultKind::RestartEmpty));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A connection is cut by a reset, up to 256 octets later: of what it is sent, or of what it sends.
    Cut,
    /// A connection is closed with 320, as by an operator.
    Close,
    /// A connection is not read for up to half a second.
    StopReading,
    /// For up to a second, what a connection is sent is up to 50 milliseconds late.
    Delay,
    /// The next connects, up to 3, are refused.
    RefuseConnects,
    /// The next publishes, up to 3, are nacked, where there are confirms. They are in no queue.
    Nack,
    /// The next publishes, up to 3, are returned with 312. They are in no queue.
    Return,
    /// The consumers of a queue are cancelled.
    CancelConsumers,
    /// Connections that publish are blocked for up to half a second.
    Block,
    /// The broker restarts with what is durable.
    Restart,
    /// A connection is closed with 541, as after a crash in the broker. Only where it is asked for: a client may blame what
    /// it has just sent.
    InternalError,
    /// The broker restarts without what was declared and published. Only where it is asked for: it loses messages.
    RestartEmpty,
}

impl FaultKind {
    /// Those of a chaos for which none are chosen: none loses a confirmed message that is persistent and in a durable
    /// queue.
    pub const USUAL: [Self; 10] = [
        Self::Cut,
        Self::Close,
        Self::StopReading,
        Self::Delay,
        Self::RefuseConnects,
        Self::Nack,
        Self::Return,
        Self::CancelConsumers,
        Self::Block,
        Self::Restart,
    ];
}

/// A fault that a chaos has caused.
///
/// # Examples
/// ```
/// use actix_pika_broker::Fault;
/// fn lines(faults: &[Fault]) -> Vec<String> {
///     faults.iter().map(ToString::to_string).collect()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// Its number, from 1 on.
    pub number: u64,
    /// Its kind.
    pub kind: FaultKind,
    /// How many frames of clients, heartbeats aside, came between the start of the chaos and the fault.
    pub frames: u64,
    /// The time of connections since the start of the broker.
    pub at: Duration,
    /// What was done, to whom.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}. at {:.3} s, after {} frames: {}",
            self.number,
            self.at.as_secs_f64(),
            self.frames,
            self.what
        )
    }
}
