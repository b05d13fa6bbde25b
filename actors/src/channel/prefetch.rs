//! The prefetch of a channel: which `basic.qos` are sent, and when again.
//!
//! RabbitMQ has one bound for each consumer that starts afterwards, and one that all consumers of the channel
//! share. It forgets the shared one when it gets another one for each consumer. From 4.3 on it ignores a
//! shared one unless its operator permits it, and takes it for one of each new consumer.

use crate::{
    broker_rules::{BrokerRules, Permission},
    error::{Error, Result},
    message::Qos,
};

/// How many deliveries a consumer may have unsettled unless set.
const DEFAULT: u16 = 250;

pub(super) const SHARED_PREFETCH_UNKEPT: &str = "this RabbitMQ ignores a prefetch that the consumers of a channel \
    share (Qos::global) unless its operator permits it (deprecated_features.permit.global_qos = true)";

#[derive(Debug)]
pub(super) struct Prefetch {
    /// Of consumers that start from now on, unless they have their own.
    next: u16,
    /// The broker's, for consumers that start from now on.
    sent: Option<u16>,
    /// The bound that all consumers share.
    shared: Option<Shared>,
    /// The broker ignores a shared bound that its operator has not permitted.
    needs_permission: bool,
}

#[derive(Clone, Copy, Debug)]
struct Shared {
    count: u16,
    /// The application knows that the operator of the broker permits it.
    permitted: bool,
}

impl Default for Prefetch {
    fn default() -> Self {
        Self { next: DEFAULT, sent: None, shared: None, needs_permission: false }
    }
}

impl Prefetch {
    /// There is a connection to a broker with these rules.
    pub(super) fn connected(&mut self, rules: Option<BrokerRules>) {
        self.needs_permission = rules.is_some_and(|rules| rules.shared_prefetch == Permission::IfPermitted);
    }

    /// Returns the bound of a consumer that has none of its own.
    pub(super) fn next(&self) -> u16 {
        self.next
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared().is_some()
    }

    /// Returns whether to send the bound. It is not sent to remove a shared one that the broker never had:
    /// that would be a bound of 0, which is none, for each new consumer.
    ///
    /// # Errors
    /// `Refused` for a shared bound that the broker would ignore.
    pub(super) fn is_kept(&self, qos: Qos) -> Result<bool> {
        match qos {
            Qos { global: true, permitted: false, prefetch_count } if self.needs_permission => {
                if prefetch_count == 0 {
                    Ok(self.is_shared())
                } else {
                    Err(Error::refused_here(SHARED_PREFETCH_UNKEPT))
                }
            }
            _ => Ok(true),
        }
    }

    /// The application has set a bound; returns what to send behind it.
    pub(super) fn set(&mut self, qos: Qos) -> Option<Qos> {
        let count = qos.prefetch_count;
        if qos.global {
            self.shared = (count > 0).then_some(Shared { count, permitted: qos.permitted });
            return None;
        }
        self.next = count;
        self.sent = Some(count);
        self.shared()
    }

    /// Returns what to send before a consumer with this bound starts.
    pub(super) fn before_consumer(&mut self, count: u16) -> impl Iterator<Item = Qos> + use<> {
        let count = match self.withheld() {
            Some(shared) if count == 0 => shared,
            Some(shared) => count.min(shared),
            None => count,
        };
        // Sending the same bound again would lift the shared one for a moment.
        let known = self.is_shared() && self.sent == Some(count);
        self.sent = Some(count);
        let all = [Some(Qos::new(count)), self.shared()];
        all.into_iter().flatten().filter(move |_| !known)
    }

    /// Returns how many deliveries all consumers together may have unsettled, where this broker keeps that.
    pub(super) fn shared_count(&self) -> Option<u16> {
        self.shared().map(|shared| shared.prefetch_count)
    }

    /// Returns the shared bound, which is sent again behind recovered consumers.
    pub(super) fn shared(&self) -> Option<Qos> {
        let Shared { count, permitted } = self.shared.filter(|shared| self.keeps(*shared))?;
        Some(Qos::new(count).global(true).permitted(permitted))
    }

    /// Returns the shared bound if this broker would ignore it. An earlier one kept it.
    pub(super) fn withheld(&self) -> Option<u16> {
        self.shared.filter(|shared| !self.keeps(*shared)).map(|shared| shared.count)
    }

    fn keeps(&self, shared: Shared) -> bool {
        shared.permitted || !self.needs_permission
    }

    /// The broker has forgotten all bounds.
    pub(super) fn reset(&mut self) {
        self.sent = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn pairs(qos: impl IntoIterator<Item = Qos>) -> Vec<(u16, bool)> {
        qos.into_iter().map(|qos| (qos.prefetch_count, qos.global)).collect()
    }

    #[test]
    fn each_consumer_sends_its_bound() {
        let mut prefetch = Prefetch::default();
        assert_eq!(prefetch.next(), DEFAULT);
        assert_eq!(pairs(prefetch.before_consumer(10)), [(10, false)]);
        assert_eq!(pairs(prefetch.before_consumer(10)), [(10, false)]);
    }

    #[test]
    fn the_shared_bound_is_sent_behind_each_new_one() {
        let mut prefetch = Prefetch::default();
        assert_eq!(pairs(prefetch.set(Qos::new(7).global(true))), []);
        assert_eq!(pairs(prefetch.set(Qos::new(3))), [(7, true)]);
        assert_eq!(prefetch.next(), 3);
        assert_eq!(pairs(prefetch.before_consumer(3)), [], "the broker has both");
        assert_eq!(pairs(prefetch.before_consumer(4)), [(4, false), (7, true)]);
        prefetch.reset();
        assert_eq!(pairs(prefetch.before_consumer(4)), [(4, false), (7, true)]);
        prefetch.set(Qos::new(0).global(true));
        assert!(!prefetch.is_shared());
    }

    fn connected_to(version: &str) -> Prefetch {
        let mut prefetch = Prefetch::default();
        prefetch.connected(BrokerRules::of("RabbitMQ", version));
        prefetch
    }

    #[test]
    fn a_shared_bound_that_the_broker_would_ignore_is_refused() {
        let shared = Qos::new(7).global(true);
        for older in ["3.10.8", "3.13.7", "4.2.1"] {
            assert!(connected_to(older).is_kept(shared).unwrap());
        }
        assert!(Prefetch::default().is_kept(shared).unwrap(), "another broker has no rules");
        let mut newer = connected_to("4.3.6");
        let error = newer.is_kept(shared).unwrap_err();
        assert!(error.to_string().contains("deprecated_features.permit.global_qos = true"), "{error}");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, None));
        assert!(newer.is_kept(Qos::new(7)).unwrap());
        assert!(newer.is_kept(shared.permitted(true)).unwrap());
        // Removes nothing, and must not become a bound of 0 for each consumer.
        assert!(!newer.is_kept(Qos::new(0).global(true)).unwrap());
        newer.set(shared.permitted(true));
        assert_eq!(pairs(newer.before_consumer(4)), [(4, false), (7, true)]);
        assert!(newer.is_kept(Qos::new(0).global(true)).unwrap());
    }

    #[test]
    fn a_shared_bound_becomes_one_of_each_consumer_on_a_broker_that_would_ignore_it() {
        let mut prefetch = connected_to("4.2.1");
        prefetch.set(Qos::new(7).global(true));
        prefetch.reset();
        prefetch.connected(BrokerRules::of("RabbitMQ", "4.3.6"));
        assert!(!prefetch.is_shared());
        assert_eq!((prefetch.withheld(), pairs(prefetch.shared())), (Some(7), vec![]));
        for (own, sent) in [(250, 7), (4, 4), (0, 7)] {
            assert_eq!(pairs(prefetch.before_consumer(own)), [(sent, false)]);
        }
        prefetch.reset();
        prefetch.connected(BrokerRules::of("RabbitMQ", "4.2.1"));
        assert_eq!(pairs(prefetch.before_consumer(4)), [(4, false), (7, true)]);
    }
}
