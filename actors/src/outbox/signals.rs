//! The messages by which an outbox wakes actors.

use actix::Message;

/// Asks the connection to take what a channel has to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flush {
    pub(crate) channel: u16,
    pub(crate) epoch: u64,
}

impl Message for Flush {
    type Result = ();
}

/// Asks the Channel actor to tick: deadlines run again, or the channel may be idle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick;

impl Message for Tick {
    type Result = ();
}
