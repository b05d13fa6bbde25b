//! How the runner takes deliveries and starts their tasks.

use actix_pika_actors::facade;
use tokio::time::Instant;

use super::{
    Task, TaskToken,
    front::{Front, Ran, Running},
    outcomes::Late,
    runner::{Early, Held, Runner, Then},
    schedule::Slot,
};
use crate::{
    Delivery, Error, Result,
    caught::caught,
    codec::{Codec, decode_checked},
    hook::{HookedTask, TaskScope},
    message::Content,
    retry,
};

impl<T: 'static, C: Codec<T>, F: Front<T>> Runner<T, C, F> {
    pub(super) fn arrive(&mut self, delivery: Delivery, generation: u64) {
        let mut held = Held {
            delivery,
            decoded: Early(None),
            generation,
            failures: 0,
            accidents: 0,
            then: Then::RunAgain,
            refusals: 0,
            progress: None,
            hooked: None,
        };
        let mut lane = None;
        if let Some(lane_of) = &self.settings.lane_of {
            let content = facade::content_of(&held.delivery);
            let decoded = decode(&self.codec, &content).and_then(|value| {
                lane = caught(|| lane_of(&value, &content));
                if lane.is_some() {
                    return Ok(value);
                }
                caught(|| drop(value));
                Err(Error::codec("the function of its lane panicked"))
            });
            held.decoded = Early(Some(decoded.map(|value| (value, content))));
        }
        let copy_of = if held.delivery.redelivered() { self.original_of(&held) } else { None };
        self.schedule.arrive(held, lane, copy_of);
    }

    /// Returns the stale task that still runs, of whose message this is a copy.
    fn original_of(&self, copy: &Held<T>) -> Option<Slot> {
        // Without a reconnect, too: RabbitMQ 4.3 takes back what a consumer of a quorum queue has that it cancels.
        let is_stale = |held: &Held<T>| held.generation < copy.generation || held.delivery.is_stale();
        let stale = || self.schedule.begun().filter(|(_, held)| is_stale(held));
        stale().next()?;
        let identify = |held: &Held<T>| self.outcomes.identify(&facade::content_of(&held.delivery));
        let identity = identify(copy);
        stale().find(|(_, held)| identify(held) == identity).map(|(slot, _)| slot)
    }

    /// Starts a task that has a permit.
    pub(super) fn begin(&mut self, slot: Slot) {
        let generation = self.generation;
        let Some(held) = self.schedule.get_mut(slot) else { return };
        if held.generation < generation {
            return self.drop_stale(slot);
        }
        let redelivered = held.delivery.redelivered();
        let mut early = Early(held.decoded.0.take());
        let content = match &early.0 {
            Some(Ok((_, content))) => Some(content),
            _ => None,
        };
        if redelivered && !self.outcomes.is_empty() {
            let identity = match content {
                Some(content) => self.outcomes.identify(content),
                None => self.outcomes.identify(&facade::content_of(&held.delivery)),
            };
            match self.outcomes.recall(identity) {
                Some(Late::Outcome(outcome)) => return self.settle(slot, outcome),
                Some(Late::Failed(next, cause)) => return self.publish(slot, next, cause),
                None => {}
            }
        }
        if !self.settings.hooks.is_empty() {
            let content = facade::content_of(&held.delivery);
            let attempt = attempt(&content, held.failures);
            held.hooked = Some(HookedTask::begin(&self.settings.hooks, content, attempt, F::IN_BATCHES));
        }
        let decoded = early.0.take().unwrap_or_else(|| {
            let content = facade::content_of(&held.delivery);
            decode(&self.codec, &content).map(|value| (value, content))
        });
        let (value, content) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return self.cannot_be_decoded(slot, &error),
        };
        let attempt = attempt(&content, held.failures);
        let (token, progress) = TaskToken::new();
        held.progress = Some(progress);
        let scope = held.hooked.as_mut().map(HookedTask::call).unwrap_or_default();
        let task = Task::new(value, content, attempt, token, scope.clone());
        // A batch has no span of its own.
        let scope = if F::IN_BATCHES { TaskScope::default() } else { scope };
        match scope.enter(|| self.front.start(task)) {
            None => self.ended(slot, Ran::Panicked),
            Some(run) => {
                let deadline = self.settings.timeout.map(|timeout| Instant::now() + timeout);
                self.running.push(Running::new(run, slot, deadline, F::ENDS_WHEN_DROPPED, scope));
            }
        }
    }
}

/// Returns which try of a message is next.
fn attempt(content: &Content, failures: u32) -> u32 {
    retry::attempts(content).saturating_add(failures).saturating_add(1)
}

/// Decodes a message. A codec that panics makes it undecodable.
fn decode<T: 'static>(codec: &impl Codec<T>, content: &Content) -> Result<T> {
    caught(|| decode_checked(codec, content)).unwrap_or_else(|| Err(Error::codec("the codec panicked")))
}
