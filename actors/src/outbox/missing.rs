//! The exchanges that the broker has named as missing (404), and what else it refuses (403, 406). Such publishes
//! fail here with that error: each one that the broker refuses would close its channel.
//!
//! All channels of a connection share them, so that a declare on one channel counts for all of them before its
//! caller has the reply.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    forbidden::{Forbidden, Permission},
    forbidden_place::{Candidate, ForbiddenPlace},
    refusing::Asking,
};
use crate::error::Error;

/// The most exchanges to remember. Publishes to those that were named before go to the broker again.
const MOST: usize = 64;

/// The least time between two reports that somebody still publishes to a missing exchange.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct MissingExchanges {
    /// Whether there are any: all that a publish reads as long as none is missing or forbidden.
    any: AtomicBool,
    refused: Mutex<Refused>,
}

#[derive(Debug, Default)]
struct Refused {
    /// Oldest first.
    exchanges: VecDeque<MissingExchange>,
    forbidden: Forbidden,
}

#[derive(Debug)]
struct MissingExchange {
    name: String,
    error: Error,
    reported_at: Instant,
    /// A publish was refused since then.
    wanted: bool,
}

impl MissingExchanges {
    /// Returns whether publishes have to be checked.
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Decides on a publish. One that is to ask has to be followed by [`MissingExchanges::asked`].
    #[cold]
    pub(super) fn check(&self, publish: &Candidate<'_>, now: Instant) -> Permission {
        let mut refused = self.lock();
        if let Some(error) = refused.missing(publish.exchange) {
            return Permission::Refused(error, None);
        }
        let permission = refused.forbidden.check(publish, now);
        self.note(&refused);
        match permission {
            Permission::Refused(error, by) => Permission::Refused(Error::not_sent_to_forbidden(&error), by),
            other => other,
        }
    }

    /// The publish that was to ask is queued, or it is not.
    pub(super) fn asked(&self, publish: &Candidate<'_>, is_queued: bool, by: Option<Asking>) {
        self.lock().forbidden.asked(publish, is_queued, by);
    }

    /// The broker has answered a publish that went to see. Returns `false` if it was refused meanwhile.
    pub(super) fn answered(&self, by: Asking) -> bool {
        let mut refused = self.lock();
        let is_permitted = refused.forbidden.answered(by);
        self.note(&refused);
        is_permitted
    }

    /// Returns the error for a publish that is sent again, if the exchange is missing or it is forbidden.
    pub(super) fn refusal(&self, publish: &Candidate<'_>, now: Instant) -> Option<Error> {
        let mut refused = self.lock();
        let missing = refused.missing(publish.exchange);
        let forbidden = || refused.forbidden.refusal(publish, now);
        missing.or_else(|| forbidden().map(Error::not_sent_to_forbidden))
    }

    /// The broker has refused publishes of this kind.
    pub(crate) fn forbid(&self, place: ForbiddenPlace, error: Error, now: Instant) {
        let mut refused = self.lock();
        refused.forbidden.insert(place, error, now);
        self.note(&refused);
    }

    /// The channel begins to consume direct replies, so that it may ask for them.
    pub(crate) fn reply_consumer(&self, channel: u16) {
        self.change(|refused| refused.forbidden.reply_consumer(channel));
    }

    /// The broker has named an exchange as missing, which is reported now.
    pub(crate) fn insert(&self, name: &str, error: Error, now: Instant) {
        let mut refused = self.lock();
        let exchanges = &mut refused.exchanges;
        exchanges.retain(|missing| missing.name != name);
        if exchanges.len() == MOST {
            exchanges.pop_front();
        }
        exchanges.push_back(MissingExchange {
            name: name.to_owned(),
            error,
            reported_at: now,
            wanted: false,
        });
        self.note(&refused);
    }

    /// Returns whether the broker has named the exchange as missing.
    pub(crate) fn is_missing(&self, name: &str) -> bool {
        self.is_any() && self.lock().exchanges.iter().any(|missing| missing.name == name)
    }

    /// The exchange exists again, or may exist.
    pub(crate) fn remove(&self, name: &str) {
        self.change(|refused| {
            refused.exchanges.retain(|missing| missing.name != name);
            refused.forbidden.declared(name);
        });
    }

    /// Nothing is known about the exchanges of a new connection.
    pub(crate) fn clear(&self) {
        self.change(|refused| {
            refused.exchanges.clear();
            refused.forbidden.clear();
        });
    }

    /// Takes the exchanges to which somebody publishes, and which were not reported lately.
    pub(crate) fn take_wanted(&self, now: Instant) -> Vec<(String, Error)> {
        if !self.is_any() {
            return Vec::new();
        }
        let mut refused = self.lock();
        refused.forbidden.forget_old(now);
        self.note(&refused);
        let is_due = |missing: &&mut MissingExchange| {
            missing.wanted && now.saturating_duration_since(missing.reported_at) >= REPORT_INTERVAL
        };
        let due = refused.exchanges.iter_mut().filter(is_due);
        due.map(|missing| {
            (missing.wanted, missing.reported_at) = (false, now);
            (missing.name.clone(), missing.error.clone())
        })
        .collect()
    }

    fn change(&self, change: impl FnOnce(&mut Refused)) {
        if self.is_any() {
            let mut refused = self.lock();
            change(&mut refused);
            self.note(&refused);
        }
    }

    /// Notes whether there are any, while the lock is held.
    fn note(&self, refused: &Refused) {
        let is_any = !refused.exchanges.is_empty() || !refused.forbidden.is_empty();
        self.any.store(is_any, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    /// Returns the error for a publish to this exchange, if it is missing.
    fn missing(&mut self, exchange: &str) -> Option<Error> {
        let missing = self.exchanges.iter_mut().find(|missing| missing.name == exchange)?;
        missing.wanted = true;
        Some(Error::not_sent_to_missing(&missing.error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::{CloseReason, ErrorKind},
        wire::Properties,
    };

    fn refusal(missing: &MissingExchanges, exchange: &str, now: Instant) -> Option<Error> {
        let (channel, routing_key, body_len, properties) = (1, "k", 0, &Properties::new());
        missing.refusal(&Candidate { channel, exchange, routing_key, body_len, properties }, now)
    }

    fn gone(name: &str) -> Error {
        let text = format!("NOT_FOUND - no exchange '{name}' in vhost '/'");
        Error::channel_closed("closed", Some(CloseReason::new(404, text, 60, 40)))
    }

    #[test]
    fn publishes_to_a_missing_exchange_get_its_error_until_it_is_found() {
        let (missing, now) = (MissingExchanges::default(), Instant::now());
        assert!(refusal(&missing, "x", now).is_none());
        missing.insert("x", gone("x"), now);
        let error = refusal(&missing, "x", now).expect("an error");
        assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)));
        assert!(!error.is_retryable() && !error.may_have_arrived(), "{error}");
        assert!(refusal(&missing, "y", now).is_none());
        missing.remove("y");
        assert!(refusal(&missing, "x", now).is_some());
        missing.remove("x");
        assert!(refusal(&missing, "x", now).is_none() && !missing.is_any());
    }

    #[test]
    fn what_is_published_to_is_reported_once_a_second() {
        let (missing, now, second) = (MissingExchanges::default(), Instant::now(), Duration::from_secs(1));
        missing.insert("x", gone("x"), now);
        assert!(missing.take_wanted(now + second).is_empty(), "nobody publishes");
        refusal(&missing, "x", now);
        assert!(missing.take_wanted(now + second / 2).is_empty());
        let reported: Vec<String> =
            missing.take_wanted(now + second).into_iter().map(|(name, _)| name).collect();
        assert_eq!(reported, ["x"]);
        assert!(missing.take_wanted(now + 3 * second).is_empty(), "nobody published since");
    }

    #[test]
    fn a_bounded_number_is_remembered() {
        let (missing, now) = (MissingExchanges::default(), Instant::now());
        for n in 0..100 {
            missing.insert(&n.to_string(), gone("x"), now);
        }
        assert!(refusal(&missing, "35", now).is_none() && refusal(&missing, "36", now).is_some());
        missing.clear();
        assert!(refusal(&missing, "99", now).is_none());
    }
}
