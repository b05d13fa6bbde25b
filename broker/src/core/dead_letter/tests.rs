//! broker.md section 10.

use std::sync::Arc;

use actix_pika_actors::{Properties, wire::property_codec::put_properties};
use bytes::{Bytes, BytesMut};

use super::*;
use crate::core::{
    Line, Time,
    queue::{Reason, Stored},
};

const LINES: [Line; 4] = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];

/// A message that goes from queue to queue.
struct Traveller {
    line: Line,
    message: Message,
    time: u64,
}

impl Traveller {
    fn new(line: Line, properties: &Properties) -> Self {
        let mut encoded = BytesMut::new();
        put_properties(&mut encoded, properties);
        let body = Bytes::from_static(b"body");
        let message = Message::new("ex".into(), "key".into(), encoded.freeze(), body).unwrap();
        Self { line, message, time: 1000 }
    }

    fn plain(line: Line) -> Self {
        Self::new(line, &Properties::new())
    }

    fn die_with_key(&mut self, queue: &str, reason: Reason, key: Option<&str>) {
        let stored = Stored {
            message: Arc::new(self.message.copy()),
            place: 0,
            expires_at: None,
            arrived: Time::ZERO,
            delivery_count: 0,
            losses: 0,
            acquired_count: 0,
            redelivered: false,
        };
        let key = key.map(Name::from);
        let dead = Dead { stored, reason };
        self.message = next_message(self.line.rules(), &dead, queue, &"dlx".into(), key.as_ref(), self.time);
        self.time += 1;
    }

    fn die(&mut self, queue: &str, reason: Reason) {
        self.die_with_key(queue, reason, None);
    }

    fn header(&self, key: &str) -> Option<&Value> {
        self.message.headers()?.get(key)
    }

    fn deaths(&self) -> Vec<&Table> {
        let deaths = self.header("x-death").and_then(Value::as_array).unwrap_or_default();
        deaths.iter().filter_map(Value::as_table).collect()
    }

    /// The deaths as `queue:reason:count`.
    fn told(&self) -> String {
        let field =
            |death: &Table, key: &str| death.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        let tell = |death: &Table| {
            let count = death.get("count").and_then(Value::as_i64).unwrap_or(-1);
            format!("{}:{}:{count}", field(death, "queue"), field(death, "reason"))
        };
        self.deaths().into_iter().map(tell).collect::<Vec<_>>().join(" ")
    }

    fn sides(&self, prefix: &str) -> Option<[&str; 3]> {
        let side = |name: &str| self.header(&format!("{prefix}-{name}")).and_then(Value::as_str);
        Some([side("queue")?, side("reason")?, side("exchange")?])
    }
}

use Reason::{Expired, MaxLength, Rejected};

/// An entry, the exchange and the key, the expiration.
#[test]
fn a_death_is_noted() {
    for line in LINES {
        let properties = Properties::new()
            .with_content_type("text/plain")
            .with_expiration(std::time::Duration::from_millis(500))
            .with_header("own", 1);
        let mut traveller = Traveller::new(line, &properties);
        traveller.die("q1", Expired);
        let expected = Table::new()
            .with("count", 1i64)
            .with("reason", "expired")
            .with("queue", "q1")
            .with("time", Value::Timestamp(1000))
            .with("exchange", "ex")
            .with("routing-keys", vec![Value::from("key")])
            .with("original-expiration", "500");
        assert_eq!(traveller.deaths(), [&expected]);
        assert_eq!(traveller.sides("x-first-death"), Some(["q1", "expired", "ex"]));
        assert_eq!((&*traveller.message.exchange, &*traveller.message.routing_key), ("dlx", "key"));
        let properties = traveller.message.decoded_properties();
        assert_eq!((properties.content_type(), properties.expiration()), (Some("text/plain"), None));
        assert_eq!((traveller.message.expiration(), &traveller.message.body[..]), (None, &b"body"[..]));
        assert_eq!(traveller.header("own"), Some(&1.into()));
        traveller.die_with_key("q2", Rejected, Some("other"));
        assert_eq!((&*traveller.message.exchange, &*traveller.message.routing_key), ("dlx", "other"));
        assert_eq!(traveller.told(), "q2:rejected:1 q1:expired:1");
        assert_eq!(traveller.deaths()[0].get("original-expiration"), None);
        assert_eq!(traveller.deaths()[0].get("exchange"), Some(&"dlx".into()));
    }
}

/// x-first-death is set once, x-last-death at every death from 3.13 on.
#[test]
fn first_and_last_death() {
    for line in LINES {
        let mut traveller = Traveller::plain(line);
        traveller.die("q1", MaxLength);
        traveller.die("q2", Rejected);
        assert_eq!(traveller.sides("x-first-death"), Some(["q1", "maxlen", "ex"]));
        let last = (line > Line::V3_10).then_some(["q2", "rejected", "dlx"]);
        assert_eq!(traveller.sides("x-last-death"), last, "{line:?}");
    }
}

/// A repeated death raises the count and moves the entry to the front. What 3.10 does with the others was asked of 3.10.8.
#[test]
fn a_repeated_death_moves_to_the_front() {
    let deaths = [
        (("d1", Expired), "d1:expired:1", "d1:expired:1"),
        (("d1", Rejected), "d1:rejected:1 d1:expired:1", "d1:rejected:1 d1:expired:1"),
        (
            ("d2", Rejected),
            "d2:rejected:1 d1:expired:1 d1:rejected:1",
            "d2:rejected:1 d1:rejected:1 d1:expired:1",
        ),
        (
            ("d2", Rejected),
            "d2:rejected:2 d1:rejected:1 d1:expired:1",
            "d2:rejected:2 d1:rejected:1 d1:expired:1",
        ),
        (
            ("d2", Rejected),
            "d2:rejected:3 d1:expired:1 d1:rejected:1",
            "d2:rejected:3 d1:rejected:1 d1:expired:1",
        ),
        (
            ("d1", Rejected),
            "d1:rejected:2 d1:expired:1 d2:rejected:3",
            "d1:rejected:2 d2:rejected:3 d1:expired:1",
        ),
        (
            ("d2", Rejected),
            "d2:rejected:4 d1:expired:1 d1:rejected:2",
            "d2:rejected:4 d1:rejected:2 d1:expired:1",
        ),
    ];
    for line in LINES {
        let mut traveller = Traveller::plain(line);
        for ((queue, reason), old, new) in deaths {
            traveller.die(queue, reason);
            assert_eq!(traveller.told(), if line < Line::V4_0 { old } else { new }, "{line:?}");
        }
        // The time is that of the first death.
        assert_eq!(traveller.deaths()[0].get("time"), Some(&Value::Timestamp(1002)));
    }
}

/// A message that a client publishes with an old x-death.
#[test]
fn a_published_death_counts_up_to_3_13() {
    for line in LINES {
        let mut before = Traveller::plain(line);
        before.die("q1", Expired);
        let mut after = Traveller::new(line, &before.message.decoded_properties());
        after.die("q1", Expired);
        if line < Line::V4_0 {
            assert_eq!(after.told(), "q1:expired:2");
        } else {
            assert_eq!(after.told(), "q1:expired:1");
        }
        let mut elsewhere = Traveller::new(line, &before.message.decoded_properties());
        elsewhere.die("q2", Rejected);
        let first = if line < Line::V4_0 { ["q1", "expired", "ex"] } else { ["q2", "rejected", "ex"] };
        assert_eq!(elsewhere.sides("x-first-death"), Some(first), "{line:?}");
    }
}

/// An x-death that is no array is replaced in all versions.
#[test]
fn a_published_death_of_another_type_is_replaced() {
    for line in LINES {
        for forged in [Value::from("forged"), Table::new().into(), vec![Value::from(1)].into()] {
            let mut traveller = Traveller::new(line, &Properties::new().with_header("x-death", forged));
            traveller.die("q1", Expired);
            assert_eq!(traveller.told(), "q1:expired:1", "{line:?}");
        }
    }
}

/// Forged entries of a line that goes on with them.
#[test]
fn a_forged_array_does_not_break_anything() {
    let entry = |count: Value| {
        Value::from(Table::new().with("count", count).with("queue", "q1").with("reason", "expired"))
    };
    for (entries, expected) in [
        (vec![entry(i64::MAX.into())], format!("q1:expired:{}", i64::MAX)),
        (vec![entry("many".into())], "q1:expired:1".to_owned()),
        (vec![entry(5.into()), entry(7.into())], "q1:expired:6".to_owned()),
        (vec![Table::new().into(), 1.into()], "q1:expired:1 -:-:-1".to_owned()),
        (vec![Table::new().into(); 2], "q1:expired:1 -:-:2".to_owned()),
    ] {
        let mut traveller = Traveller::new(Line::V3_10, &Properties::new().with_header("x-death", entries));
        traveller.die("q1", Expired);
        assert_eq!(traveller.told(), expected);
    }
}

/// With a new key the CC header is removed in 3.10, and stays from 3.13 on. Without one, its keys are routed to.
#[test]
fn further_keys_stay_without_a_new_key() {
    for line in LINES {
        let cc = vec![Value::from("c1"), "c2".into()];
        let mut traveller = Traveller::new(line, &Properties::new().with_header("CC", cc.clone()));
        traveller.message.cc = ["c1".into(), "c2".into()].into();
        traveller.message.bcc = ["b".into()].into();
        traveller.die("q1", Rejected);
        let keys =
            |traveller: &Traveller| traveller.message.keys().map(|key| key.to_string()).collect::<Vec<_>>();
        assert_eq!(keys(&traveller), ["key", "c1", "c2", "b"]);
        let noted = vec![Value::from("key"), "c1".into(), "c2".into()];
        assert_eq!(traveller.deaths()[0].get("routing-keys"), Some(&noted.into()));
        traveller.die_with_key("q2", Rejected, Some("new"));
        assert_eq!(keys(&traveller), ["new"]);
        let kept = (line > Line::V3_10).then(|| Value::from(cc));
        assert_eq!(traveller.header("CC"), kept.as_ref(), "{line:?}");
    }
}

/// From 3.13 on each key of BCC hides one that is equal, from the front.
#[test]
fn hidden_keys_are_counted() {
    for line in LINES {
        let mut traveller = Traveller::plain(line);
        traveller.message.cc = ["a".into(), "key".into(), "b".into(), "a".into()].into();
        traveller.message.bcc = ["a".into(), "key".into(), "key".into(), "c".into()].into();
        traveller.die("q1", Rejected);
        let named: &[&str] =
            if line == Line::V3_10 { &["key", "a", "key", "b", "a"] } else { &["b", "a", "a", "key", "key"] };
        let named: Vec<Value> = named.iter().map(|key| Value::from(*key)).collect();
        assert_eq!(traveller.deaths()[0].get("routing-keys"), Some(&named.into()), "{line:?}");
    }
}

/// Cycles.
#[test]
fn a_message_does_not_return_to_a_queue_without_a_rejection() {
    for line in LINES {
        for reason in [Expired, MaxLength, Reason::DeliveryLimit] {
            let mut traveller = Traveller::plain(line);
            assert!(!is_cycle(&traveller.message, "a"));
            traveller.die("a", reason);
            assert!(is_cycle(&traveller.message, "a") && !is_cycle(&traveller.message, "b"));
            traveller.die("b", reason);
            assert!(is_cycle(&traveller.message, "a") && is_cycle(&traveller.message, "b"));
        }
        let mut rejected = Traveller::plain(line);
        for count in 1..5 {
            rejected.die("a", Rejected);
            assert!(!is_cycle(&rejected.message, "a"));
            assert_eq!(rejected.told(), format!("a:rejected:{count}"));
        }
        // One rejection anywhere in the loop keeps the message.
        let mut mixed = Traveller::plain(line);
        mixed.die("a", Rejected);
        mixed.die("b", Expired);
        assert!(!is_cycle(&mixed.message, "a") && is_cycle(&mixed.message, "b"));
    }
}
