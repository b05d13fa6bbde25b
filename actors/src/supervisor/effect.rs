//! The effects of the machine: what the actor has to do, in this order, after the machine has handled an
//! input.

use std::sync::Arc;

use super::{close_end::CloseEnd, redeclare_steps::RecoveryStep};
use crate::{
    error::Error,
    internal::{ChannelMessage, ConnectionCommand},
    message::{ConnectionEvent, ConnectionState},
};

#[derive(Debug)]
pub(super) enum Effect {
    /// Start a `Connection` actor for the current epoch.
    Dial,
    /// Forget the `Connection` actor, which has ended.
    DropConnection,
    /// Send a command to the `Connection` actor.
    Command(ConnectionCommand),
    /// Publish the state of the connection.
    SetState(ConnectionState),
    /// Send an event to the watchers.
    Notify(ConnectionEvent),
    /// Give the open connection to a channel.
    Attach(u16),
    /// Send a message to a channel.
    SendToChannel(u16, ChannelMessage),
    /// Start the utility channel under this number; it reports the results of its steps.
    StartUtility { number: u16, steps: Vec<RecoveryStep> },
    /// Open a connection for the trial with this number; it reports the results of its steps.
    StartTrial { number: u64, steps: Vec<RecoveryStep> },
    /// End the trial, whose result is not awaited any more.
    StopTrial,
    /// Report an alarm, or its end, to the utility channel.
    BlockUtility(Option<Arc<str>>),
    /// Forget the utility channel, which has ended.
    DropUtility,
    /// End the utility channel with its connection.
    StopUtility(Error),
    /// Fail unanswered secret updates and stop refreshing credentials.
    FailSecrets(Error),
    /// Note how many publishes are unconfirmed, for the callers that close the connection.
    CountUnconfirmed,
    /// Close channels, streams and callers; the connection is closed for good.
    CloseForGood { error: Error, cause: Option<Error>, end: CloseEnd },
    /// End the actor.
    Stop,
}
