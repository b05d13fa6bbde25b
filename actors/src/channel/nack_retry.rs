//! Publishes that are nacked soon after the connection came back, and sent again.
//!
//! The channel is opened again for that, so only one that nobody consumes on does it.

use std::time::Duration;

use actix::{AsyncContext, Context};
use tokio::time::Instant;

use super::{Channel, ChannelState};
use crate::error::Error;

/// How long after the connection came back a nack is not told.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// What a channel does about nacks.
#[derive(Debug, Default)]
pub(super) struct NackRetry {
    patience: Option<Instant>,
    /// There are some that were not told.
    pub(super) put_off: bool,
    /// They are looked at again later.
    looking: bool,
    tries: u32,
}

impl Channel {
    /// The connection is back: leaders may still be elected.
    pub(super) fn be_patient(&mut self) {
        let patience = (!self.fails_in_outage).then(|| Instant::now() + PATIENCE);
        self.nacks = NackRetry { patience, ..NackRetry::default() };
    }

    /// Until when the life that begins now may put nacks off.
    pub(super) fn patience(&mut self) -> Option<Instant> {
        self.nacks.put_off = false;
        self.nacks.looking = false;
        self.nacks.patience.filter(|&until| Instant::now() < until && self.is_for_publishing())
    }

    fn is_for_publishing(&self) -> bool {
        self.consumers.is_empty() && self.outbox.load().unsettled == 0 && !self.draining
    }

    /// Has what was nacked sent again, after a pause.
    pub(super) fn look_after_nacks(&mut self, ctx: &mut Context<Self>) {
        if self.nacks.put_off && !self.nacks.looking && matches!(self.phase, ChannelState::Open) {
            self.nacks.looking = true;
            let (life, pause) = (self.channel_epoch, LAST_PAUSE.min(FIRST_PAUSE * (self.nacks.tries + 1)));
            ctx.run_later(pause, move |channel, ctx| channel.publish_again(life, ctx));
        }
    }

    fn publish_again(&mut self, life: u32, ctx: &mut Context<Self>) {
        if life != self.channel_epoch || !matches!(self.phase, ChannelState::Open) {
            return;
        }
        self.nacks.looking = false;
        let patient = self.nacks.patience.is_some_and(|until| Instant::now() < until);
        if !patient || !self.is_for_publishing() {
            self.nacks.put_off = false;
            self.outbox.lose_patience();
            return self.look_after_drain();
        }
        if self.replies.is_empty() && self.outbox.awaits_only_nacked() {
            self.nacks.tries += 1;
            let error = Error::channel_closed(
                "opened again: the broker took no publishes when the connection was back",
                None,
            );
            log::info!("channel {}: {error}", self.number());
            self.close_and_open(200, "publishes were not taken", error);
            self.keep_ticking(ctx);
        } else {
            self.look_after_nacks(ctx);
        }
    }
}
