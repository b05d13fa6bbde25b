//! The letters between actors. Every one carries the epoch of the connection that it speaks of; a letter of another
//! epoch is dropped.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use actix::{Message, Recipient};
use bytes::Bytes;

use crate::{
    error::Error,
    options::Address,
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
    Online { epoch: u64, negotiated: Negotiated, link: Link },
    /// From a connection, exactly once: its socket is gone, or never was.
    Ended { epoch: u64, error: Error },
    /// From a connection: `connection.blocked` with its reason, or `connection.unblocked`.
    Blocked { epoch: u64, reason: Option<String> },
    /// From a connection: `connection.update-secret-ok`.
    SecretUpdated { epoch: u64 },
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
    /// Say `connection.update-secret`; the frame wipes itself.
    UpdateSecret { frame: Hidden },
}

/// Bytes that must not be printed.
pub(crate) struct Hidden(pub(crate) Bytes);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a connection knows of its socket, and of the login that opened it.
#[derive(Debug)]
pub(crate) struct Link {
    /// Which of the addresses it was.
    pub(crate) address: Address,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// How long the credentials are good.
    pub(crate) lifetime: Option<Duration>,
}

impl Message for Order {
    type Result = ();
}
