//! Where the broker permits no publish (403). Publishes there fail here with that error for a pause that grows:
//! each one that the broker refuses would close its channel. Then one goes to the broker, because a permission
//! may be granted meanwhile.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::error::Error;

/// The most places to remember. Publishes to those that were refused before go to the broker again.
const MOST: usize = 64;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How long the broker has to refuse the publish that went to see.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a place is remembered to which nobody publishes.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// A publish that went to the broker to see: its channel and its sequence number there.
pub(super) type Asking = (u16, u64);

#[derive(Debug)]
pub(super) enum Permission {
    /// Nothing is known against the publish.
    Unknown,
    /// The publish goes to the broker, to see.
    Ask,
    /// The publish fails. If the publish that went to see is answered, all is permitted.
    Refused(Error, Option<Asking>),
}

/// The places that are forbidden, oldest first.
#[derive(Debug, Default)]
pub(super) struct Forbidden(VecDeque<ForbiddenPlace>);

/// An exchange, or a routing key of one.
#[derive(Debug)]
struct ForbiddenPlace {
    exchange: String,
    routing_key: Option<String>,
    error: Error,
    pause: Duration,
    state: PlaceState,
}

#[derive(Debug, PartialEq, Eq)]
enum PlaceState {
    Refusing {
        until: Instant,
    },
    /// One publish is on its way. Without a refusal until then, all is permitted.
    Asking {
        until: Instant,
        publish: Option<Asking>,
    },
}

impl ForbiddenPlace {
    fn covers(&self, exchange: &str, routing_key: &str) -> bool {
        self.exchange == exchange && self.routing_key.as_deref().is_none_or(|key| key == routing_key)
    }
}

impl Forbidden {
    /// The broker has refused a publish there.
    pub(super) fn insert(&mut self, exchange: &str, routing_key: Option<&str>, error: Error, now: Instant) {
        let is_same = |place: &ForbiddenPlace| {
            place.exchange == exchange && place.routing_key.as_deref() == routing_key
        };
        let known = self.0.iter().position(is_same).and_then(|at| self.0.remove(at));
        let (pause, until) = match known {
            // One that was on its way already, on another channel.
            Some(ForbiddenPlace { pause, state: PlaceState::Refusing { until }, .. }) if until > now => {
                (pause, until)
            }
            Some(place) => {
                let pause = (place.pause * 2).min(MAX_PAUSE);
                (pause, now + pause)
            }
            None => (FIRST_PAUSE, now + FIRST_PAUSE),
        };
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(ForbiddenPlace {
            exchange: exchange.to_owned(),
            routing_key: routing_key.map(str::to_owned),
            error,
            pause,
            state: PlaceState::Refusing { until },
        });
    }

    /// Decides on a publish. One that is to ask has to be followed by [`Forbidden::asked`].
    pub(super) fn check(&mut self, exchange: &str, routing_key: &str, now: Instant) -> Permission {
        self.0.retain(|place| match place.state {
            PlaceState::Asking { until, .. } => until > now || !place.covers(exchange, routing_key),
            PlaceState::Refusing { .. } => true,
        });
        let mut permission = Permission::Unknown;
        for place in self.0.iter_mut().filter(|place| place.covers(exchange, routing_key)) {
            match place.state {
                PlaceState::Refusing { until } if until <= now => permission = Permission::Ask,
                PlaceState::Refusing { .. } => return Permission::Refused(place.error.clone(), None),
                PlaceState::Asking { publish, .. } => {
                    return Permission::Refused(place.error.clone(), publish);
                }
            }
        }
        if matches!(permission, Permission::Ask) {
            for place in self.0.iter_mut().filter(|place| place.covers(exchange, routing_key)) {
                place.state = PlaceState::Asking { until: now + ANSWER_WITHIN, publish: None };
            }
        }
        permission
    }

    /// The publish that was to ask is queued, on a channel with confirms as this one; or it is not.
    pub(super) fn asked(&mut self, exchange: &str, routing_key: &str, is_queued: bool, by: Option<Asking>) {
        for place in self.0.iter_mut().filter(|place| place.covers(exchange, routing_key)) {
            if let PlaceState::Asking { until, publish } = &mut place.state {
                if is_queued {
                    *publish = by;
                } else {
                    // The next one asks.
                    place.state = PlaceState::Refusing { until: *until - ANSWER_WITHIN };
                }
            }
        }
    }

    /// The broker has answered the publish that went to see. Returns `false` if it was refused meanwhile.
    pub(super) fn answered(&mut self, by: Asking) -> bool {
        let before = self.0.len();
        self.0.retain(
            |place| !matches!(place.state, PlaceState::Asking { publish: Some(publish), .. } if publish == by),
        );
        self.0.len() < before
    }

    /// Returns the error for a publish that is sent again.
    pub(super) fn refusal(&self, exchange: &str, routing_key: &str, now: Instant) -> Option<&Error> {
        let refuses = |place: &&ForbiddenPlace| {
            place.covers(exchange, routing_key)
                && matches!(place.state, PlaceState::Refusing { until } if until > now)
        };
        self.0.iter().find(refuses).map(|place| &place.error)
    }

    /// The exchange is declared, which tells that it is not internal, and nothing of the permission to write.
    pub(super) fn declared(&mut self, exchange: &str) {
        let is_internal = |place: &ForbiddenPlace| {
            place.error.close_reason().is_some_and(|reason| reason.text.contains("internal exchange"))
        };
        self.0.retain(|place| place.exchange != exchange || !is_internal(place));
    }

    /// Forgets the places to which nobody publishes.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.0.retain(|place| {
            let (PlaceState::Refusing { until } | PlaceState::Asking { until, .. }) = place.state;
            now.saturating_duration_since(until) < FORGET_AFTER
        });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CloseReason;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused() -> Error {
        let text =
            "ACCESS_REFUSED - write access to exchange 'x' in vhost '/' refused for user 'u'".to_owned();
        Error::channel_closed("closed", Some(CloseReason::new(403, text, 60, 40)))
    }

    /// What becomes of a publish to `x` with this key.
    fn of(forbidden: &mut Forbidden, key: &str, now: Instant) -> &'static str {
        match forbidden.check("x", key, now) {
            Permission::Unknown => "unknown",
            Permission::Ask => "ask",
            Permission::Refused(_, None) => "refused",
            Permission::Refused(_, Some(_)) => "refused, another asks",
        }
    }

    #[test]
    fn one_publish_asks_after_each_pause_and_the_pauses_double_to_a_limit() {
        let (mut forbidden, mut now) = (Forbidden::default(), Instant::now());
        assert_eq!(of(&mut forbidden, "k", now), "unknown");
        forbidden.insert("x", None, refused(), now);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            now += pause * SECOND - Duration::from_millis(1);
            assert_eq!(of(&mut forbidden, "k", now), "refused", "{pause}");
            // One that another channel had sent before.
            forbidden.insert("x", None, refused(), now);
            now += Duration::from_millis(1);
            assert!(forbidden.refusal("x", "k", now).is_none());
            assert_eq!(of(&mut forbidden, "k", now), "ask", "{pause}");
            forbidden.asked("x", "k", true, Some((1, 5)));
            assert_eq!(of(&mut forbidden, "other", now), "refused, another asks");
            assert!(forbidden.refusal("x", "k", now).is_none(), "the one that asks may be sent again");
            forbidden.insert("x", None, refused(), now);
            assert!(!forbidden.answered((1, 5)) && forbidden.refusal("x", "k", now).is_some());
        }
    }

    #[test]
    fn a_publish_that_succeeds_ends_the_refusals() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        forbidden.insert("x", None, refused(), now);
        assert_eq!(of(&mut forbidden, "k", now + SECOND), "ask");
        forbidden.asked("x", "k", true, Some((1, 5)));
        assert!(!forbidden.answered((1, 4)) && forbidden.answered((1, 5)));
        assert_eq!(of(&mut forbidden, "k", now + SECOND), "unknown");
        // Without a confirm it is permitted when no refusal has come.
        forbidden.insert("x", None, refused(), now);
        assert_eq!(of(&mut forbidden, "k", now + SECOND), "ask");
        forbidden.asked("x", "k", true, None);
        assert_eq!(of(&mut forbidden, "k", now + SECOND), "refused");
        assert_eq!(of(&mut forbidden, "k", now + SECOND + ANSWER_WITHIN), "unknown");
        assert!(forbidden.is_empty());
    }

    #[test]
    fn a_publish_without_room_leaves_it_to_the_next_one_to_ask() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        forbidden.insert("x", None, refused(), now);
        for _ in 0..3 {
            assert_eq!(of(&mut forbidden, "k", now + SECOND), "ask");
            forbidden.asked("x", "k", false, None);
        }
    }

    #[test]
    fn a_forbidden_topic_leaves_the_other_routing_keys_alone() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        forbidden.insert("x", Some("a.b"), refused(), now);
        assert_eq!(of(&mut forbidden, "a.b", now), "refused");
        assert_eq!(of(&mut forbidden, "a.c", now), "unknown");
        assert!(matches!(forbidden.check("y", "a.b", now), Permission::Unknown));
    }

    #[test]
    fn a_declare_tells_that_an_exchange_is_not_internal_and_nothing_else() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        forbidden.insert("x", None, refused(), now);
        forbidden.declared("x");
        assert_eq!(of(&mut forbidden, "k", now), "refused");
        let text = "ACCESS_REFUSED - cannot publish to internal exchange 'y' in vhost '/'".to_owned();
        let error = Error::channel_closed("closed", Some(CloseReason::new(403, text, 60, 40)));
        forbidden.insert("y", None, error, now);
        forbidden.declared("y");
        assert!(matches!(forbidden.check("y", "k", now), Permission::Unknown));
    }

    #[test]
    fn a_bounded_number_of_places_is_remembered_for_a_while() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        for n in 0..100 {
            forbidden.insert("x", Some(&n.to_string()), refused(), now);
        }
        assert_eq!((of(&mut forbidden, "35", now), of(&mut forbidden, "36", now)), ("unknown", "refused"));
        forbidden.forget_old(now + SECOND);
        assert!(!forbidden.is_empty());
        forbidden.forget_old(now + SECOND + FORGET_AFTER);
        assert!(forbidden.is_empty());
    }
}
