//! The letters between actors. Every one carries the epoch of the connection that it speaks of; a letter of another
//! epoch is dropped.

use std::{sync::Arc, time::Duration};

use actix::{Message, Recipient};

use crate::{
    error::Error,
    outbox::{Credit, Flush, Outbox},
    wire::{Fault, FrameRun, Negotiated},
};

/// To a channel.
#[derive(Debug)]
pub(crate) enum Down {
    /// Frames of this channel that arrived next to one another.
    Frames { epoch: u64, run: FrameRun },
    /// There is a connection; the channel may open.
    Attached { epoch: u64, flush: Arc<Recipient<Flush>>, frame_max: u32, credit: Arc<Credit> },
    /// The connection is gone.
    Detached { epoch: u64, error: Error },
    /// Reading has paused for too long, and this consumer has the most to answer for.
    Choked { consumer: u32 },
    /// The broker does, or does not, accept publishes.
    Blocked(bool),
    /// The connection is about to be closed: say [`Up::Drained`] when every publish is answered.
    Drain,
}

impl Message for Down {
    type Result = ();
}

/// To the supervisor.
#[derive(Debug)]
pub(crate) enum Up {
    /// From a connection: the handshake is done.
    Online { epoch: u64, negotiated: Negotiated },
    /// From a connection, exactly once: its socket is gone, or never was.
    Ended { epoch: u64, error: Error },
    /// From a connection: `connection.blocked` with its reason, or `connection.unblocked`.
    Blocked { epoch: u64, reason: Option<String> },
    /// From a channel: open, or not to be.
    Joined { channel: u16, result: Result<(), Error> },
    /// From a channel: it has ended; its number is free if the broker knows that, too.
    Left { channel: u16, free: bool },
    /// From a channel: it has nothing under way.
    Drained { channel: u16 },
    /// From a channel: its frames break the protocol, so the connection cannot go on.
    Faulted { epoch: u64, fault: Fault },
}

impl Message for Up {
    type Result = ();
}

/// From the supervisor to a connection.
#[derive(Debug)]
pub(crate) enum Order {
    /// Read for this channel, and take its bytes.
    Route { channel: u16, down: Recipient<Down>, outbox: Arc<Outbox> },
    /// The channel has ended.
    Unroute { channel: u16 },
    /// Say `connection.close`, and end when it is answered, or after this time.
    Close { code: u16, text: String, within: Duration },
    /// Say `connection.close` because the peer broke the protocol, and end.
    Fail { fault: Fault },
}

impl Message for Order {
    type Result = ();
}
