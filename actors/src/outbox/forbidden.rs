//! What the broker does not permit (403), or refuses by a property (406). Such publishes fail here with that
//! error for a pause that grows: each one that the broker refuses would close its channel. Then one goes to the
//! broker, because that may be granted or configured meanwhile.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    forbidden_place::{Candidate, ForbiddenPlace},
    forbidden_topics::Topics,
    refusing::{Asking, Refusing, RefusingState},
};
use crate::error::Error;

/// The most places to remember beside topics. Publishes to those that were refused before go to the broker again.
const MOST: usize = 64;

/// How long the broker has to refuse the publish that went to see.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The least time between two publishes that go to see: each may close the channel.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) enum Permission {
    /// Nothing is known against the publish.
    Unknown,
    /// The publish goes to the broker, to see.
    Ask,
    /// The publish fails. If the publish that went to see is answered, all is permitted.
    Refused(Error, Option<Asking>),
}

/// The places that are forbidden.
#[derive(Debug, Default)]
pub(super) struct Forbidden {
    /// Oldest first.
    places: VecDeque<(ForbiddenPlace, Refusing)>,
    topics: Topics,
    /// No other publish goes to see until then.
    next_ask: Option<Instant>,
}

impl Forbidden {
    /// The broker has refused a publish there.
    pub(super) fn insert(&mut self, place: ForbiddenPlace, error: Error, now: Instant) {
        if let ForbiddenPlace::Topic { exchange, routing_key } = place {
            return self.topics.insert(exchange, routing_key, error, now);
        }
        let known = self.places.iter().position(|(other, _)| other.is_same(&place));
        let known = known.and_then(|at| self.places.remove(at)).map(|(_, refusing)| refusing);
        if self.places.len() == MOST {
            self.places.pop_front();
        }
        self.places.push_back((place, Refusing::new(known, error, now)));
    }

    fn covering<'a>(&'a mut self, publish: &'a Candidate<'_>) -> impl Iterator<Item = &'a mut Refusing> {
        let places = self.places.iter_mut().filter(|(place, _)| place.covers(publish));
        self.topics.get_mut(publish).into_iter().chain(places.map(|(_, refusing)| refusing))
    }

    /// Decides on a publish. One that is to ask has to be followed by [`Forbidden::asked`].
    pub(super) fn check(&mut self, publish: &Candidate<'_>, now: Instant) -> Permission {
        self.places.retain(|(place, refusing)| !refusing.is_over(now) || !place.covers(publish));
        if self.topics.get(publish).is_some_and(|refusing| refusing.is_over(now)) {
            self.topics.retain(|refusing| !refusing.is_over(now));
        }
        let may_ask = self.next_ask.is_none_or(|next| next <= now);
        let mut permission = Permission::Unknown;
        for refusing in self.covering(publish) {
            refusing.used = now;
            match refusing.state {
                RefusingState::Refusing { until } if until <= now && may_ask => permission = Permission::Ask,
                RefusingState::Refusing { .. } => return Permission::Refused(refusing.error.clone(), None),
                RefusingState::Asking { publish, .. } => {
                    return Permission::Refused(refusing.error.clone(), publish);
                }
            }
        }
        if matches!(permission, Permission::Ask) {
            for refusing in self.covering(publish) {
                refusing.state = RefusingState::Asking { until: now + ANSWER_WITHIN, publish: None };
            }
            self.next_ask = Some(now + ASK_INTERVAL);
        }
        permission
    }

    /// The publish that was to ask is queued, on a channel with confirms as this one; or it is not.
    pub(super) fn asked(&mut self, publish: &Candidate<'_>, is_queued: bool, by: Option<Asking>) {
        for refusing in self.covering(publish) {
            if let RefusingState::Asking { until, publish } = &mut refusing.state {
                if is_queued {
                    *publish = by;
                } else {
                    // The next one asks.
                    refusing.state = RefusingState::Refusing { until: *until - ANSWER_WITHIN };
                }
            }
        }
        if !is_queued {
            self.next_ask = None;
        }
    }

    /// The broker has answered the publish that went to see. Returns `false` if it was refused meanwhile.
    pub(super) fn answered(&mut self, by: Asking) -> bool {
        let before = self.places.len() + self.topics.len();
        self.places.retain(|(_, refusing)| !refusing.is_asked_by(by));
        self.topics.retain(|refusing| !refusing.is_asked_by(by));
        self.places.len() + self.topics.len() < before
    }

    /// Returns the error for a publish that is sent again.
    pub(super) fn refusal(&self, publish: &Candidate<'_>, now: Instant) -> Option<&Error> {
        let places = self.places.iter().filter(|(place, _)| place.covers(publish));
        let mut covering = self.topics.get(publish).into_iter().chain(places.map(|(_, refusing)| refusing));
        let refuses =
            |refusing: &&Refusing| matches!(refusing.state, RefusingState::Refusing { until } if until > now);
        covering.find(refuses).map(|refusing| &refusing.error)
    }

    /// The exchange is declared, which tells that it is not internal, and nothing of the permission to write.
    pub(super) fn declared(&mut self, exchange: &str) {
        let is_internal =
            |error: &Error| error.close_reason().is_some_and(|reason| reason.says("internal exchange '"));
        self.places.retain(|(place, refusing)| {
            !matches!(place, ForbiddenPlace::Exchange(name) if name == exchange)
                || !is_internal(&refusing.error)
        });
    }

    /// The channel begins to consume direct replies.
    pub(super) fn reply_consumer(&mut self, channel: u16) {
        self.places.retain(|(place, _)| *place != ForbiddenPlace::ReplyTo { channel });
    }

    /// Forgets the places to which nobody publishes.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.places.retain(|(_, refusing)| refusing.is_used(now));
        self.topics.retain(|refusing| refusing.is_used(now));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.topics.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::CloseReason,
        outbox::{forbidden_topics::MOST_TOPICS, refusing::FORGET_AFTER},
        wire::Properties,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn refused() -> Error {
        let text =
            "ACCESS_REFUSED - write access to exchange 'x' in vhost '/' refused for user 'u'".to_owned();
        Error::channel_closed("closed", Some(CloseReason::new(403, text, 60, 40)))
    }

    fn exchange() -> ForbiddenPlace {
        ForbiddenPlace::Exchange("x".to_owned())
    }

    fn topic(routing_key: &str) -> ForbiddenPlace {
        ForbiddenPlace::Topic { exchange: "x".to_owned(), routing_key: routing_key.to_owned() }
    }

    /// Calls with a publish to the exchange "x".
    fn with<T>(routing_key: &str, call: impl FnOnce(&Candidate<'_>) -> T) -> T {
        let properties = Properties::new();
        let (channel, exchange, properties) = (1, "x", &properties);
        call(&Candidate { channel, exchange, routing_key, body_len: 0, properties })
    }

    fn of(forbidden: &mut Forbidden, routing_key: &str, now: Instant) -> &'static str {
        match with(routing_key, |publish| forbidden.check(publish, now)) {
            Permission::Unknown => "unknown",
            Permission::Ask => "ask",
            Permission::Refused(_, None) => "refused",
            Permission::Refused(_, Some(_)) => "refused, another asks",
        }
    }

    fn asked(forbidden: &mut Forbidden, routing_key: &str, is_queued: bool, by: Option<Asking>) {
        with(routing_key, |publish| forbidden.asked(publish, is_queued, by));
    }

    fn is_refused_again(forbidden: &Forbidden, now: Instant) -> bool {
        with("k", |publish| forbidden.refusal(publish, now).is_some())
    }

    #[test]
    fn one_publish_asks_after_each_pause_and_the_pauses_double_to_a_limit() {
        let (mut forbidden, mut now) = (Forbidden::default(), Instant::now());
        assert_eq!(of(&mut forbidden, "k", now), "unknown");
        forbidden.insert(exchange(), refused(), now);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            now += pause * SECOND - Duration::from_millis(1);
            assert_eq!(of(&mut forbidden, "k", now), "refused", "{pause}");
            // One that another channel had sent before.
            forbidden.insert(exchange(), refused(), now);
            now += Duration::from_millis(1);
            assert!(!is_refused_again(&forbidden, now));
            assert_eq!(of(&mut forbidden, "k", now), "ask", "{pause}");
            asked(&mut forbidden, "k", true, Some((1, 5)));
            assert_eq!(of(&mut forbidden, "other", now), "refused, another asks");
            assert!(!is_refused_again(&forbidden, now), "the one that asks may be sent again");
            forbidden.insert(exchange(), refused(), now);
            assert!(!forbidden.answered((1, 5)) && is_refused_again(&forbidden, now));
        }
    }

    #[test]
    fn all_is_permitted_once_the_publish_that_asks_is_answered() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        forbidden.insert(exchange(), refused(), now);
        assert_eq!(of(&mut forbidden, "k", now + SECOND), "ask");
        asked(&mut forbidden, "k", true, Some((1, 5)));
        assert!(!forbidden.answered((1, 4)) && forbidden.answered((1, 5)));
        let later = now + SECOND;
        assert_eq!(of(&mut forbidden, "k", later), "unknown");
        // Without a confirm it is permitted when no refusal has come.
        forbidden.insert(exchange(), refused(), later);
        assert_eq!(of(&mut forbidden, "k", later + SECOND), "ask");
        asked(&mut forbidden, "k", true, None);
        assert_eq!(of(&mut forbidden, "k", later + SECOND), "refused");
        assert_eq!(of(&mut forbidden, "k", later + SECOND + ANSWER_WITHIN), "unknown");
        assert!(forbidden.is_empty());
    }

    #[test]
    fn a_publish_without_room_leaves_it_to_the_next_one_to_ask() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        forbidden.insert(exchange(), refused(), now);
        for _ in 0..3 {
            assert_eq!(of(&mut forbidden, "k", now + SECOND), "ask");
            asked(&mut forbidden, "k", false, None);
        }
    }

    #[test]
    fn a_forbidden_topic_leaves_the_other_routing_keys_alone() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        forbidden.insert(topic("a.b"), refused(), now);
        assert_eq!(of(&mut forbidden, "a.b", now), "refused");
        assert_eq!(of(&mut forbidden, "a.c", now), "unknown");
        assert_eq!(of(&mut forbidden, "a.b", now + SECOND), "ask");
        asked(&mut forbidden, "a.b", true, Some((1, 5)));
        assert!(forbidden.answered((1, 5)) && forbidden.is_empty());
    }

    #[test]
    fn one_publish_a_second_asks_however_many_places_are_due() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        let keys: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        for key in &keys {
            forbidden.insert(topic(key), refused(), now);
        }
        let mut later = now;
        for _ in 0..100 {
            later += SECOND;
            let answers: Vec<_> = keys.iter().map(|key| of(&mut forbidden, key, later)).collect();
            let asks: Vec<_> = (0..100).filter(|at| answers[*at] == "ask").collect();
            assert_eq!((asks.len(), answers.iter().filter(|answer| **answer == "unknown").count()), (1, 0));
            forbidden.insert(topic(&keys[asks[0]]), refused(), later);
        }
    }

    #[test]
    fn a_declare_tells_that_an_exchange_is_not_internal_and_nothing_else() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        forbidden.insert(exchange(), refused(), now);
        forbidden.declared("x");
        assert_eq!(of(&mut forbidden, "k", now), "refused");
        forbidden.clear();
        let text = "ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/'".to_owned();
        let error = Error::channel_closed("closed", Some(CloseReason::new(403, text, 60, 40)));
        forbidden.insert(exchange(), error, now);
        forbidden.declared("x");
        assert_eq!(of(&mut forbidden, "k", now), "unknown");
        // A name is not taken for a word of the broker.
        let name = "an internal exchange 'x";
        let text =
            format!("ACCESS_REFUSED - write access to exchange '{name}' in vhost '/' refused for user 'u'");
        let error = Error::channel_closed("closed", Some(CloseReason::new(403, text, 60, 40)));
        forbidden.insert(ForbiddenPlace::Exchange(name.to_owned()), error, now);
        forbidden.declared(name);
        assert!(!forbidden.is_empty());
    }

    #[test]
    fn a_bounded_number_of_places_is_remembered_for_a_while() {
        let (mut forbidden, now) = (Forbidden::default(), Instant::now());
        let mut later = now;
        for n in 0..2000 {
            later += Duration::from_micros(1);
            forbidden.insert(topic(&n.to_string()), refused(), later);
            forbidden.insert(ForbiddenPlace::UserId(n.to_string().into_bytes()), refused(), later);
        }
        assert_eq!(forbidden.places.len(), MOST);
        assert_eq!((of(&mut forbidden, "975", now), of(&mut forbidden, "976", now)), ("unknown", "refused"));
        forbidden.forget_old(later + SECOND);
        assert_eq!(forbidden.topics.len(), MOST_TOPICS);
        forbidden.forget_old(later + SECOND + FORGET_AFTER);
        assert!(forbidden.is_empty());
    }
}
