//! How the runner settles: what becomes of the message of a task that ended, of one that was not answered, and of all at
//! the end.

use std::{sync::Arc, time::Duration};

use actix_pika_actors::facade;
use tokio::time::Instant;

use super::{
    Undecodable, Verdict,
    blame::{Blame, blame, blame_of_ended},
    front::{Front, Ran},
    hooking::tell,
    outcomes::Outcome,
    runner::{Runner, Source, Then},
    schedule::Slot,
    token::{Progress, Progressing},
    verdict::{Next, publish_again},
};
use crate::{
    ConsumerEnd, Delivery, Error, ErrorKind, Requeue, Result,
    codec::Codec,
    hook,
    retry::{self, Retried},
};

/// How long unanswered tasks are looked at together: an actor that panics drops one after the other, maybe on another
/// thread.
const UNWINDING: Duration = Duration::from_millis(10);

/// A task that others have cut off this often counts as failed.
const ACCIDENTS: u32 = 3;

const UNANSWERED: &str = "the actor panicked, or dropped the task without an answer";

impl<T: 'static, C: Codec<T>, F: Front<T>> Runner<T, C, F> {
    /// Handles the end of a handler.
    pub(super) fn ended(&mut self, slot: Slot, ran: Ran) {
        if !self.settings.hooks.is_empty() {
            self.note_handled(slot, &ran);
        }
        match ran {
            Ran::Done(Ok(())) => self.settle(slot, Outcome::Ack),
            Ran::Done(Err(failure)) => {
                let verdict = failure.verdict();
                self.failed(slot, verdict, &failure.into_text());
            }
            Ran::Panicked => self.failed(slot, Verdict::Retry, "the handler panicked"),
            Ran::TimedOut => self.failed(slot, Verdict::Retry, "the handler exceeded its time-out"),
            Ran::Unanswered => {
                self.unanswered.push(slot);
                self.judge_at.get_or_insert_with(|| Instant::now() + UNWINDING);
            }
            Ran::WorkerEnded => {
                let progress = self.schedule.get(slot).and_then(|held| held.progress.as_ref());
                let blame = blame_of_ended(progress.map_or(Progress::Waiting, Progressing::get));
                if !self.is_put_back(slot, blame) {
                    self.failed(slot, Verdict::Retry, UNANSWERED);
                }
            }
        }
    }

    /// Finds out which of the unanswered tasks have failed.
    pub(super) fn judge(&mut self) {
        self.judge_at = None;
        let slots = std::mem::take(&mut self.unanswered);
        let progress = |slot: &Slot| {
            let progress = self.schedule.get(*slot).and_then(|held| held.progress.as_ref());
            progress.map_or((Progress::Waiting, None), |progress| (progress.get(), progress.panic_order()))
        };
        let alive = self.front.is_alive();
        let blamed = blame(&slots.iter().map(progress).collect::<Vec<_>>(), alive);
        let mut failed = Vec::new();
        for (slot, blame) in slots.into_iter().zip(blamed) {
            if !self.is_put_back(slot, blame) {
                failed.push(slot);
            }
        }
        for slot in failed {
            self.failed(slot, Verdict::Retry, UNANSWERED);
        }
        if self.front.is_gone() {
            self.close(ConsumerEnd::TargetGone);
        }
    }

    /// Lets an unanswered task start again, unless it has failed: returns `false` then.
    fn is_put_back(&mut self, slot: Slot, blame: Blame) -> bool {
        let again = match blame {
            Blame::Guilty | Blame::Suspect => false,
            Blame::NotBegun => true,
            Blame::CutOff => self.schedule.get_mut(slot).is_some_and(|held| {
                held.accidents += 1;
                !held.accidents.is_multiple_of(ACCIDENTS)
            }),
        };
        if again {
            self.put_back(slot);
        }
        again
    }

    /// Lets a task start again that has not failed; if the consumer ends, its message returns to the queue.
    fn put_back(&mut self, slot: Slot) {
        if matches!(self.source, Source::Consuming(_)) {
            if let Some(held) = self.schedule.get_mut(slot) {
                held.hooked = None;
            }
            self.schedule.put_back(slot);
        } else if let Some(held) = self.schedule.finish(slot) {
            self.report.given_back += 1;
            self.leave_over(held.delivery, false);
        }
    }

    /// Decides what becomes of a message whose task has failed.
    pub(super) fn failed(&mut self, slot: Slot, verdict: Verdict, cause: &str) {
        let (stops, generation) = (!matches!(self.source, Source::Consuming(_)), self.generation);
        let Some(held) = self.schedule.get_mut(slot) else { return };
        if verdict != Verdict::Requeue {
            held.failures = held.failures.saturating_add(1);
        }
        let is_stale = held.generation < generation || held.delivery.is_stale();
        let next = self.settings.means.after(verdict, held.failures, fastrand::f64());
        if let Some(hooked) = &mut held.hooked {
            hooked.explain(cause);
        }
        log::debug!("queue {:?}: a task has failed ({cause}): {next:?}", self.queue);
        match next {
            // The broker delivers it again anyway.
            Next::RunAgain(_) | Next::Hold(_) | Next::Requeue if is_stale => self.drop_stale(slot),
            Next::Step(_) | Next::DeadLetter if is_stale => self.leave_to_copy(slot, next, cause),
            Next::RunAgain(_) | Next::Hold(_) if stops => self.return_later(slot),
            Next::RunAgain(pause) => {
                held.then = Then::RunAgain;
                tell(&mut held.hooked, hook::Outcome::Retried);
                self.schedule.pause(slot, Instant::now() + pause);
            }
            Next::Hold(pause) => {
                held.then = Then::Return;
                tell(&mut held.hooked, hook::Outcome::Requeued);
                self.warn_once("has no known dead-letter exchange: messages whose tasks fail return to it");
                self.schedule.pause(slot, Instant::now() + pause);
            }
            Next::Requeue if stops => self.return_later(slot),
            Next::Requeue => self.settle(slot, Outcome::Requeue),
            Next::Reject => {
                if !self.settings.means.dead_letters {
                    self.warn_once("has no known dead-letter exchange: the broker drops what is rejected");
                }
                self.settle(slot, Outcome::Reject);
            }
            Next::Step(_) | Next::DeadLetter => self.publish(slot, next, cause.into()),
        }
    }

    /// Publishes a copy of a message to the ladder. The message is done when that is confirmed.
    pub(super) fn publish(&mut self, slot: Slot, next: Next, cause: Arc<str>) {
        let Some(ladder) = self.settings.ladder.clone() else { return self.settle(slot, Outcome::Reject) };
        let Some(held) = self.schedule.get_mut(slot) else { return };
        held.then = Then::Publish(next, cause.clone());
        let content = facade::content_of(&held.delivery);
        let attempt = retry::attempts(&content).saturating_add(held.failures.max(1));
        self.publishing.push(Box::pin(async move {
            let published = match next {
                Next::Step(at_least) => {
                    ladder.retry(&content, attempt, at_least, &cause).await.inspect(|to| {
                        let name = content.queue();
                        match to {
                            Retried::Step(delay) => {
                                log::debug!("queue {name:?}: a task runs again in {delay:?}")
                            }
                            Retried::DeadLettered => {
                                log::warn!("queue {name:?}: a task has failed for the last time: {cause}")
                            }
                        }
                    })
                }
                _ => ladder.dead_letter(&content, &cause).await.map(|()| Retried::DeadLettered),
            };
            (slot, published)
        }));
    }

    /// Handles the outcome of a publish to the ladder. One that failed is repeated for a while: until the message is in
    /// the ladder, it is not acknowledged.
    pub(super) fn published(&mut self, slot: Slot, result: Result<Retried>) {
        let error = match result {
            Ok(to) => {
                self.note_copied(slot, to);
                return self.settle(slot, Outcome::Ack);
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Limit {
            log::warn!("queue {:?}: a message has no room for the headers of a retry: {error}", self.queue);
            return self.settle(slot, Outcome::Reject);
        }
        let stops = !matches!(self.source, Source::Consuming(_));
        let Some(held) = self.schedule.get_mut(slot) else { return };
        if held.delivery.is_stale()
            && let Then::Publish(next, cause) = held.then.clone()
        {
            return self.leave_to_copy(slot, next, &cause);
        }
        held.refusals = held.refusals.saturating_add(1);
        let again = publish_again(held.refusals).filter(|_| !stops);
        if held.refusals == 1 {
            log::warn!(
                "queue {:?}: a copy of a message cannot be published to its ladder: {error}",
                self.queue
            );
        }
        match again {
            Some(pause) => self.schedule.pause(slot, Instant::now() + pause),
            None if stops => self.return_later(slot),
            None => self.settle(slot, Outcome::Return),
        }
    }

    /// Goes on with a task whose pause has ended.
    pub(super) fn go_on(&mut self, slot: Slot) {
        let held = self.schedule.get(slot);
        let is_stale = held.is_some_and(|held| held.delivery.is_stale());
        match held.map(|held| held.then.clone()) {
            Some(Then::Return) => self.settle(slot, Outcome::Return),
            Some(Then::Publish(next, cause)) if is_stale => self.leave_to_copy(slot, next, &cause),
            Some(Then::Publish(next, cause)) => self.publish(slot, next, cause),
            // It is the next one to start, when the front is ready.
            Some(Then::RunAgain) => self.put_back(slot),
            None => {}
        }
    }

    pub(super) fn cannot_be_decoded(&mut self, slot: Slot, error: &Error) {
        self.note_undecodable(slot, error);
        match self.settings.undecodable {
            Undecodable::DeadLetter if self.settings.ladder.is_some() => {
                self.publish(slot, Next::DeadLetter, error.to_string().into());
            }
            Undecodable::DeadLetter => {
                log::warn!("queue {:?}: a message cannot be decoded and is rejected: {error}", self.queue);
                self.settle(slot, Outcome::Reject);
            }
            Undecodable::Drop => {
                log::warn!("queue {:?}: a message cannot be decoded and is dropped: {error}", self.queue);
                self.settle(slot, Outcome::Ack);
            }
        }
    }

    /// Settles the delivery of a task. If that comes too late, the outcome is kept for its copy.
    pub(super) fn settle(&mut self, slot: Slot, outcome: Outcome) {
        let Some(mut held) = self.schedule.finish(slot) else { return };
        self.count_finished();
        let delivery = held.delivery;
        if outcome.is_final() && delivery.is_stale() {
            let identity = self.outcomes.identify(&facade::content_of(&delivery));
            self.outcomes.remember(identity, outcome);
            facade::discard(delivery);
            return tell(&mut held.hooked, hook::Outcome::Stale);
        }
        let settled = match outcome {
            Outcome::Ack => delivery.ack(),
            Outcome::Reject => delivery.reject(false),
            // Without a pause, a message that nobody takes would go in a circle.
            Outcome::Requeue => {
                drop(delivery.process(Requeue::Yes));
                Ok(())
            }
            Outcome::Return => delivery.reject(true),
        };
        if let Err(error) = settled
            && error.kind() != ErrorKind::StaleDelivery
        {
            log::debug!("queue {:?}: a task was not settled: {error}", self.queue);
        }
        let told = match outcome {
            Outcome::Ack => hook::Outcome::Acked,
            Outcome::Reject => hook::Outcome::Rejected,
            Outcome::Requeue | Outcome::Return => hook::Outcome::Requeued,
        };
        tell(&mut held.hooked, told);
    }

    /// Drops what the broker delivers again.
    pub(super) fn drop_stale(&mut self, slot: Slot) {
        if let Some(mut held) = self.schedule.finish(slot) {
            self.count_finished();
            facade::discard(held.delivery);
            tell(&mut held.hooked, hook::Outcome::Stale);
        }
    }

    /// Drops a message whose task has failed too late, without a copy in the ladder: the broker delivers it again, maybe
    /// to another consumer. If to this one, that goes to the ladder without a run.
    fn leave_to_copy(&mut self, slot: Slot, next: Next, cause: &str) {
        if let Some(held) = self.schedule.get(slot) {
            let identity = self.outcomes.identify(&facade::content_of(&held.delivery));
            self.outcomes.remember_failure(identity, next, cause);
        }
        self.drop_stale(slot);
    }

    fn count_finished(&mut self) {
        if !matches!(self.source, Source::Consuming(_)) {
            self.report.finished += 1;
        }
    }

    /// Returns the message of a failed task to its queue when the consumer is cancelled, so that it is not delivered
    /// here.
    fn return_later(&mut self, slot: Slot) {
        if let Some(held) = self.schedule.finish(slot) {
            self.report.finished += 1;
            self.leave_over(held.delivery, true);
        }
    }

    fn leave_over(&mut self, delivery: Delivery, failed: bool) {
        self.leftover.push((delivery, failed));
        if matches!(self.source, Source::Ended(_)) {
            self.return_leftover();
        }
    }

    pub(super) fn return_leftover(&mut self) {
        for (delivery, failed) in self.leftover.drain(..) {
            if failed {
                // An error means that it returns anyway.
                let _ = delivery.reject(true);
            } else {
                facade::hand_back(delivery);
            }
        }
    }

    /// Cancels the consumer. What has not begun returns to the queue; what has begun goes on.
    pub(super) fn close(&mut self, end: ConsumerEnd) {
        let source = std::mem::replace(&mut self.source, Source::Ended(end.clone()));
        let Source::Consuming(mut stream) = source else {
            self.source = source;
            let waiting = self.schedule.take_waiting().into_iter().map(|held| (held.delivery, false));
            let mut unbegun: Vec<_> = waiting.collect();
            unbegun.extend(self.schedule.take_paused().into_iter().map(|held| (held.delivery, true)));
            self.report.given_back += unbegun.len();
            unbegun.into_iter().for_each(|(delivery, failed)| self.leave_over(delivery, failed));
            return;
        };
        let waiting = self.schedule.take_waiting();
        let paused = self.schedule.take_paused();
        self.report.given_back = waiting.len() + stream.waiting() + paused.len();
        self.leftover.extend(paused.into_iter().map(|held| (held.delivery, true)));
        let unseen = waiting.into_iter().map(|held| held.delivery).collect();
        let cancel = async move {
            if let Err(error) = stream.end_now(unseen).await {
                log::debug!("a consumer of tasks was not cancelled: {error}");
            }
        };
        self.source = Source::Closing(Box::pin(cancel), end);
    }

    /// The consumer has ended without being cancelled here. What runs goes on; what pauses returns.
    pub(super) fn ended_by_others(&mut self, end: ConsumerEnd) {
        if matches!(end, ConsumerEnd::Closed(_)) {
            self.schedule.take_waiting().into_iter().for_each(|held| facade::discard(held.delivery));
        }
        self.source = Source::Ended(end);
        while let Some(due) = self.schedule.next_due() {
            let paused = self.schedule.resume(due).and_then(|slot| self.schedule.finish(slot));
            if let Some(held) = paused {
                self.leave_over(held.delivery, true);
            }
        }
    }

    fn warn_once(&mut self, what: &str) {
        if !std::mem::replace(&mut self.warned, true) {
            log::warn!("queue {:?} {what}", self.queue);
        }
    }
}
