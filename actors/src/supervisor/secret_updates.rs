//! The secret of the login, and the `connection.update-secret` that have no reply of the broker yet.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{channel::Responder, secret::Secret};

/// How many updates may be unanswered.
pub(super) const MAX_PENDING: usize = 32;

#[derive(Debug, Default)]
pub(super) struct SecretUpdates {
    /// The secret that the broker accepted last, for later logins.
    current: Option<Secret>,
    pending: VecDeque<PendingUpdate>,
}

#[derive(Debug)]
struct PendingUpdate {
    secret: Secret,
    deadline: Instant,
    /// `None` once the deadline has passed: the entry stays for the late reply.
    waiter: Option<Waiter>,
}

/// Who waits for the reply of the broker.
#[derive(Debug)]
pub(super) enum Waiter {
    Caller(Responder<()>),
    /// A refresh with credentials that are valid for this long.
    Refresh(Duration),
}

impl SecretUpdates {
    pub(super) fn current(&self) -> Option<Secret> {
        self.current.clone()
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= MAX_PENDING
    }

    pub(super) fn push(&mut self, secret: Secret, deadline: Instant, waiter: Waiter) {
        self.pending.push_back(PendingUpdate { secret, deadline, waiter: Some(waiter) });
    }

    /// The broker has accepted the oldest update. Returns `None` if there is none, otherwise who still waits
    /// for it.
    pub(super) fn accepted(&mut self) -> Option<Option<Waiter>> {
        let update = self.pending.pop_front()?;
        self.current = Some(update.secret);
        Some(update.waiter)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.iter().filter(|update| update.waiter.is_some()).map(|update| update.deadline).min()
    }

    /// Takes those who have waited until their deadline.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Waiter> {
        let expired = |update: &mut PendingUpdate| update.waiter.take_if(|_| update.deadline <= now);
        self.pending.iter_mut().filter_map(expired).collect()
    }

    /// Takes all who wait; the connection is lost.
    pub(super) fn take_all(&mut self) -> Vec<Waiter> {
        self.pending.drain(..).filter_map(|update| update.waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refresh(waiter: &Waiter) -> Duration {
        match waiter {
            Waiter::Refresh(lifetime) => *lifetime,
            Waiter::Caller(_) => unreachable!("not in these tests"),
        }
    }

    #[test]
    fn a_secret_is_used_once_the_broker_has_accepted_it() {
        let (mut updates, now) = (SecretUpdates::default(), Instant::now());
        updates.push("first".into(), now + SECOND, Waiter::Refresh(SECOND));
        updates.push("second".into(), now + SECOND, Waiter::Refresh(SECOND));
        assert!(updates.current().is_none());
        assert!(updates.accepted().is_some_and(|waiter| waiter.is_some()));
        assert_eq!(updates.current().map(|secret| secret.expose().to_owned()), Some("first".into()));
        assert_eq!(updates.take_all().len(), 1);
        assert!(updates.accepted().is_none());
        assert_eq!(updates.current().map(|secret| secret.expose().to_owned()), Some("first".into()));
    }

    #[test]
    fn an_expired_update_keeps_its_place_for_the_late_answer() {
        let (mut updates, now) = (SecretUpdates::default(), Instant::now());
        updates.push("late".into(), now + SECOND, Waiter::Refresh(SECOND));
        updates.push("in time".into(), now + 3 * SECOND, Waiter::Refresh(2 * SECOND));
        assert_eq!(updates.deadline(), Some(now + SECOND));
        assert!(updates.take_expired(now).is_empty());
        let expired = updates.take_expired(now + SECOND);
        assert_eq!(expired.iter().map(refresh).collect::<Vec<_>>(), [SECOND]);
        assert_eq!(updates.deadline(), Some(now + 3 * SECOND));
        assert!(updates.accepted().is_some_and(|waiter| waiter.is_none()));
        let waiter = updates.accepted().flatten();
        assert_eq!(waiter.as_ref().map(refresh), Some(2 * SECOND));
    }

    #[test]
    fn at_most_32_updates_are_unanswered() {
        let mut updates = SecretUpdates::default();
        for _ in 0..MAX_PENDING {
            assert!(!updates.is_full());
            updates.push("secret".into(), Instant::now(), Waiter::Refresh(SECOND));
        }
        assert!(updates.is_full());
    }
}
