//! The exchanges that the broker has named as missing (404). Publishes to them fail here with that error:
//! each one that the broker refuses would close its channel.
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

use crate::error::Error;

/// The most exchanges to remember. Publishes to those that were named before go to the broker again.
const MOST: usize = 64;

/// The least time between two reports that somebody still publishes to a missing exchange.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct MissingExchanges {
    /// Whether there are any: all that a publish reads as long as none is missing.
    any: AtomicBool,
    /// Oldest first.
    exchanges: Mutex<VecDeque<MissingExchange>>,
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
    /// Returns the error for a publish to this exchange, if it is missing.
    #[inline]
    pub(super) fn refusal(&self, exchange: &str) -> Option<Error> {
        if self.any.load(Ordering::Relaxed) { self.refuse(exchange) } else { None }
    }

    #[cold]
    fn refuse(&self, exchange: &str) -> Option<Error> {
        let mut exchanges = self.lock();
        let missing = exchanges.iter_mut().find(|missing| missing.name == exchange)?;
        missing.wanted = true;
        Some(Error::not_sent_to_missing(&missing.error))
    }

    /// The broker has named an exchange as missing, which is reported now.
    pub(crate) fn insert(&self, name: &str, error: Error, now: Instant) {
        let mut exchanges = self.lock();
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
        self.any.store(true, Ordering::Relaxed);
    }

    /// The exchange exists again, or may exist.
    pub(crate) fn remove(&self, name: &str) {
        self.retain(|missing| missing.name != name);
    }

    /// Nothing is known about the exchanges of a new connection.
    pub(crate) fn clear(&self) {
        self.retain(|_| false);
    }

    /// Takes the exchanges to which somebody publishes, and which were not reported lately.
    pub(crate) fn take_wanted(&self, now: Instant) -> Vec<(String, Error)> {
        if !self.any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut exchanges = self.lock();
        let is_due = |missing: &&mut MissingExchange| {
            missing.wanted && now.saturating_duration_since(missing.reported_at) >= REPORT_INTERVAL
        };
        let due = exchanges.iter_mut().filter(is_due);
        due.map(|missing| {
            (missing.wanted, missing.reported_at) = (false, now);
            (missing.name.clone(), missing.error.clone())
        })
        .collect()
    }

    fn retain(&self, keep: impl Fn(&MissingExchange) -> bool) {
        if self.any.load(Ordering::Relaxed) {
            let mut exchanges = self.lock();
            exchanges.retain(keep);
            self.any.store(!exchanges.is_empty(), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<MissingExchange>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CloseReason, ErrorKind};

    fn gone(name: &str) -> Error {
        let text = format!("NOT_FOUND - no exchange '{name}' in vhost '/'");
        Error::channel_closed("closed", Some(CloseReason::new(404, text, 60, 40)))
    }

    #[test]
    fn publishes_to_a_missing_exchange_get_its_error_until_it_is_found() {
        let (missing, now) = (MissingExchanges::default(), Instant::now());
        assert!(missing.refusal("x").is_none());
        missing.insert("x", gone("x"), now);
        let error = missing.refusal("x").expect("an error");
        assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)));
        assert!(!error.is_retryable() && !error.may_have_arrived(), "{error}");
        assert!(missing.refusal("y").is_none());
        missing.remove("y");
        assert!(missing.refusal("x").is_some());
        missing.remove("x");
        assert!(missing.refusal("x").is_none() && !missing.any.load(Ordering::Relaxed));
    }

    #[test]
    fn what_is_published_to_is_reported_once_a_second() {
        let (missing, now, second) = (MissingExchanges::default(), Instant::now(), Duration::from_secs(1));
        missing.insert("x", gone("x"), now);
        assert!(missing.take_wanted(now + second).is_empty(), "nobody publishes");
        missing.refusal("x");
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
        assert!(missing.refusal("35").is_none() && missing.refusal("36").is_some());
        missing.clear();
        assert!(missing.refusal("99").is_none());
    }
}
