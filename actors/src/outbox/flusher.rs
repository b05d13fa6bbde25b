//! The connection that takes bytes from an outbox.

use std::sync::Arc;

use actix::Recipient;

use super::{effects::DeferredEffects, signals::Flush};

/// The connection that takes bytes, and whether it was asked to.
#[derive(Clone)]
pub(super) struct Flusher {
    pub(super) epoch: u64,
    pub(super) connection: Arc<Recipient<Flush>>,
    /// A flush is requested; unset once the connection has taken everything.
    pub(super) requested: bool,
    /// The connection has not run for so long that it counts as lost.
    pub(super) stands_still: bool,
}

impl Flusher {
    #[inline]
    pub(super) fn request(&mut self, channel: u16, effects: &mut DeferredEffects) {
        if !self.requested {
            self.send_request(channel, effects);
        }
    }

    #[inline(never)]
    fn send_request(&mut self, channel: u16, effects: &mut DeferredEffects) {
        self.requested = true;
        effects.flush = Some((self.connection.clone(), Flush { channel, epoch: self.epoch }));
    }
}
