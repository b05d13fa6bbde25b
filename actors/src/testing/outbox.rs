//! An outbox without a channel and a connection, for benches.

use std::{fmt, sync::Arc};

use actix::{Actor, Context, Handler};
use bytes::Bytes;

use crate::{
    Confirm, Outbox, Publishing, Result,
    outbox::{Flush, OutboxConfig},
};

const EPOCH: u64 = 1;

/// An [`Outbox`] in confirm mode whose caller plays the connection: it takes the written bytes and
/// acknowledges them.
pub struct BenchOutbox(Arc<Outbox>);

impl BenchOutbox {
    /// Creates an outbox with a window of `window` messages. Needs an actix `System`.
    pub fn new(window: usize) -> Self {
        let config = OutboxConfig {
            channel: 1,
            confirms: true,
            window,
            window_bytes: usize::MAX,
            deadline: std::time::Duration::from_secs(3600),
        };
        let outbox = Arc::new(Outbox::new(config));
        outbox.attach(EPOCH, Arc::new(Ignore.start().recipient()), 131_072, false);
        Self(outbox)
    }

    /// Publishes to the default exchange. `None` if the window is full.
    ///
    /// # Errors
    /// As [`Outbox::try_publish`].
    pub fn try_publish(&self, routing_key: &str, content: &Publishing) -> Result<Option<Confirm>> {
        self.0.try_publish("", routing_key, content)
    }

    /// Moves the queued frames to `out`, as the connection does before it writes.
    pub fn take(&self, out: &mut Vec<Bytes>) {
        while self.0.take(EPOCH, 1 << 20, out) {}
    }

    /// Handles a `basic.ack` with `multiple` from the broker. Returns `false` for a tag that was not
    /// published.
    pub fn ack_up_to(&self, tag: u64) -> bool {
        self.0.ack(tag, true).is_ok()
    }
}

impl fmt::Debug for BenchOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BenchOutbox").finish()
    }
}

/// Receives the requests to flush and does nothing.
struct Ignore;

impl Actor for Ignore {
    type Context = Context<Self>;
}

impl Handler<Flush> for Ignore {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Self::Context) {}
}
