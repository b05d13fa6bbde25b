//! Nacks that come soon after the channel was restored: they are not told, but their publishes sent again.
//!
//! A quorum queue whose leader died takes nothing until another one leads. RabbitMQ 3.10 even nacks all that comes by a
//! channel for as long as the channel is open when the first publish came too early. So what is new waits, and when
//! all else is answered, the channel is opened again.

use tokio::time::Instant;

use super::{Answer, DeferredEffects, Outbox};

impl Outbox {
    /// Takes in `basic.nack` from the broker; tells whether publishes are to be sent again. `Err` for a tag that was
    /// never published.
    pub(crate) fn nack(&self, tag: u64, multiple: bool) -> Result<bool, ()> {
        let mut after = DeferredEffects::default();
        let mut freed = Vec::new();
        let mut state = self.lock();
        let patient = state.patience.is_some_and(|until| Instant::now() < until);
        let answer = if patient { Answer::NotYet } else { Answer::Nack };
        let known = state.answered(tag, multiple, answer, &mut after, &mut freed);
        let put_off = state.confirms.put_off() > 0;
        if put_off && state.held.is_none() {
            // What is sent now would come before them.
            state.held = Some(Default::default());
            state.held_from = state.confirms.end();
        }
        drop(state);
        after.run();
        drop(freed);
        known.map(|()| put_off)
    }

    /// Tells whether every publish that was sent is answered or to be sent again.
    pub(crate) fn awaits_only_nacked(&self) -> bool {
        let state = self.lock();
        let held = state.confirms.end().saturating_sub(state.held_from) as usize;
        state.confirms.unconfirmed() == state.confirms.put_off() + held
    }

    /// Tells of the nacks that were not told, and of those to come.
    pub(crate) fn lose_patience(&self) {
        let mut after = DeferredEffects::default();
        let mut freed = Vec::new();
        let mut state = self.lock();
        state.patience = None;
        if state.confirms.put_off() > 0 {
            state.confirms.admit(&mut after.wakers);
            state.forget_answered(&mut after, &mut freed);
            if !state.between
                && let Some(held) = state.held.take()
            {
                state.queue.append(held);
                state.schedule(&self.terms, &mut after);
            }
        }
        drop(state);
        after.run();
        drop(freed);
    }
}
