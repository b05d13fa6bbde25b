//! Routing over several exchanges, and with several keys.

use std::collections::{BTreeMap, BTreeSet};

use actix_pika_actors::{Properties, Table, Value, wire::property_codec::put_properties};
use bytes::{Bytes, BytesMut};

use super::*;
use crate::core::{Line, Message};

type To = Destination<u32, u32>;

fn message(properties: &Properties) -> Message {
    let mut encoded = BytesMut::new();
    put_properties(&mut encoded, properties);
    Message::new("x".into(), "k".into(), encoded.freeze(), Bytes::new()).unwrap()
}

fn plain() -> Message {
    message(&Properties::new())
}

#[derive(Default)]
struct Exchanges {
    routers: BTreeMap<u32, Router<To>>,
    alternates: BTreeMap<u32, u32>,
}

impl Graph for Exchanges {
    type Exchange = u32;
    type Queue = u32;

    fn router(&self, exchange: u32) -> Option<&Router<To>> {
        self.routers.get(&exchange)
    }

    fn alternate(&self, exchange: u32) -> Option<u32> {
        self.alternates.get(&exchange).copied()
    }
}

impl Exchanges {
    fn with(mut self, exchange: u32, kind: ExchangeType, bindings: &[(&str, To)]) -> Self {
        let mut router = Router::new(kind, Line::V3_10.rules(), &Table::new());
        for &(key, destination) in bindings {
            assert!(router.bind(Binding {
                destination,
                key: key.into(),
                arguments: Table::new(),
                _counted: None
            }));
        }
        self.routers.insert(exchange, router);
        self
    }

    fn alternate_of(mut self, exchange: u32, alternate: u32) -> Self {
        self.alternates.insert(exchange, alternate);
        self
    }

    fn queues(&self, start: u32, keys: &[&str]) -> Vec<u32> {
        let mut queues = vec![99];
        Walk::default().route(self, start, keys.iter().copied(), &plain(), &mut queues);
        queues
    }
}

use Destination::{Exchange, Queue};
use ExchangeType::{ConsistentHash, Direct, Fanout, Headers, LocalRandom, ModulusHash, Topic};

/// broker.md section 4: one copy per publish however many bindings, keys or paths lead to a queue.
#[test]
fn a_queue_is_reached_once() {
    let graph = Exchanges::default()
        .with(1, Topic, &[("a.#", Queue(2)), ("a.*", Queue(2)), ("*.b", Queue(1)), ("#", Exchange(2))])
        .with(2, Fanout, &[("", Queue(2)), ("other", Queue(2)), ("", Queue(3))]);
    assert_eq!(graph.queues(1, &["a.b"]), [1, 2, 3]);
    assert_eq!(graph.queues(1, &["x", "a.c", "a.d"]), [2, 3]);
}

/// broker.md section 4: CC and BCC apply inside exchange-to-exchange, too.
#[test]
fn further_keys_apply_in_every_exchange() {
    let graph = Exchanges::default().with(1, Direct, &[("k", Exchange(2))]).with(
        2,
        Direct,
        &[("k", Queue(1)), ("cc", Queue(2))],
    );
    assert_eq!(graph.queues(1, &["k"]), [1]);
    assert_eq!(graph.queues(1, &["k", "cc"]), [1, 2]);
    assert_eq!(graph.queues(1, &["cc"]), [0; 0]);
}

/// broker.md section 4: cycles are walked once.
#[test]
fn a_cycle_is_walked_once() {
    let graph = Exchanges::default()
        .with(1, Fanout, &[("", Exchange(2)), ("", Queue(1))])
        .with(2, Fanout, &[("", Exchange(1)), ("", Exchange(2)), ("", Queue(2))])
        .alternate_of(2, 1);
    assert_eq!(graph.queues(1, &[""]), [1, 2]);
    assert_eq!(graph.queues(2, &[""]), [1, 2]);
    let alternates = Exchanges::default().with(1, Direct, &[]).with(2, Direct, &[]);
    assert_eq!(alternates.alternate_of(1, 2).alternate_of(2, 1).queues(1, &["k"]), [0; 0]);
}

/// broker.md section 4: the alternate exchange is used when this exchange found nothing here.
#[test]
fn an_alternate_is_asked_if_no_binding_matches() {
    let graph = Exchanges::default()
        .with(1, Direct, &[("known", Queue(1)), ("nowhere", Exchange(3))])
        .with(2, Fanout, &[("", Queue(2))])
        .with(3, Direct, &[])
        .alternate_of(1, 2);
    assert_eq!(graph.queues(1, &["known"]), [1]);
    assert_eq!(graph.queues(1, &["unknown"]), [2]);
    assert_eq!(graph.queues(1, &["unknown", "known"]), [1]);
    // It found an exchange, which leads nowhere.
    assert_eq!(graph.queues(1, &["nowhere"]), [0; 0]);
    // A missing alternate is ignored.
    let missing = Exchanges::default().with(1, Direct, &[]).alternate_of(1, 7);
    assert_eq!(missing.queues(1, &["unknown"]), [0; 0]);
}

/// broker.md section 3: bindings differing only in arguments are different bindings, on every exchange type.
#[test]
fn arguments_are_part_of_a_binding() {
    for kind in [Direct, Fanout, Topic, Headers, ConsistentHash] {
        let mut router = Router::new(kind, Line::V4_3.rules(), &Table::new());
        let binding = |arguments: &Table| Binding {
            destination: 1,
            key: "5".into(),
            arguments: arguments.clone(),
            _counted: None,
        };
        let (one, two) = (Table::from([("a", 1), ("b", 2)]), Table::from([("a", 2)]));
        assert!(
            router.bind(binding(&one)) && router.bind(binding(&two)) && router.bind(binding(&Table::new()))
        );
        assert!(!router.bind(binding(&Table::from([("b", 2), ("a", 1)]))), "{kind:?}");
        assert_eq!(router.bindings().count(), 3);
        assert!(!router.unbind(1, "5", &Table::from([("a", 3)])) && !router.unbind(1, "6", &one));
        assert!(router.unbind(1, "5", &one) && !router.unbind(1, "5", &one));
        assert_eq!((router.unbind_all(2), router.unbind_all(1), router.is_empty()), (0, 2, true));
        let mut found = Vec::new();
        router.route(["5"].into_iter(), &plain(), &mut found);
        assert_eq!(found, [0; 0], "{kind:?}");
    }
}

/// Each exchange is asked once, however many there are, and what that took is given back.
#[test]
fn a_walk_through_many_exchanges() {
    const MANY: u32 = 20_000;
    let all: Vec<(&str, To)> = (0..MANY).map(|exchange| ("", Exchange(exchange))).collect();
    let mut graph = Exchanges::default().with(0, Fanout, &all);
    for exchange in 1..MANY {
        graph = graph.with(exchange, Fanout, &[("", Queue(exchange % 7)), ("", Exchange(MANY - exchange))]);
    }
    let mut walk = Walk::default();
    let mut queues = Vec::new();
    walk.route(&graph, 0, ["k"].into_iter(), &plain(), &mut queues);
    assert_eq!(queues, [0, 1, 2, 3, 4, 5, 6]);
    assert!(walk.is_small());
    walk.route(&graph, 8, ["k"].into_iter(), &plain(), &mut queues);
    assert_eq!(queues, [(MANY - 8) % 7, 1]);
}

/// A header of 128 kB may name 26,000 keys.
#[test]
fn many_keys_find_each_binding_once() {
    let same = vec![""; 26_000];
    let different: Vec<String> = (0..26_000).map(|n| n.to_string()).collect();
    let different: Vec<&str> = std::iter::once("").chain(different.iter().map(|key| &**key)).collect();
    for (kind, pattern) in [(Direct, ""), (Fanout, ""), (Topic, "#"), (Headers, "")] {
        let mut router = Router::new(kind, Line::V4_3.rules(), &Table::new());
        for destination in 0..1000 {
            for arguments in [Table::new(), Table::from([("a", 1)])] {
                let arguments = if kind == Headers { Table::new() } else { arguments };
                router.bind(Binding { destination, key: pattern.into(), arguments, _counted: None });
            }
        }
        for keys in [&same, &different] {
            let mut found = Vec::new();
            router.route(keys.iter().copied(), &plain(), &mut found);
            found.sort_unstable();
            assert!(found.into_iter().eq(0..1000), "{kind:?}");
        }
    }
}

/// The hash is that of the routing key, whatever `CC` says.
#[test]
fn what_chooses_one_destination_does_so_once() {
    for (kind, key) in [(ConsistentHash, "1"), (LocalRandom, ""), (ModulusHash, "")] {
        let mut router = Router::new(kind, Line::V4_3.rules(), &Table::new());
        for destination in 0..7 {
            router.bind(Binding { destination, key: key.into(), arguments: Table::new(), _counted: None });
        }
        let route = |keys: &[&str]| {
            let mut found = Vec::new();
            router.route(keys.iter().copied(), &plain(), &mut found);
            found
        };
        let alone = route(&["k"]);
        let expected = if kind == LocalRandom { vec![1] } else { alone };
        assert_eq!(route(&["k", "a", "b", "c", "d", "e"]), expected, "{kind:?}");
    }
}

/// Each in turn, also when some are gone.
#[test]
fn a_local_random_exchange_takes_turns() {
    let mut router = Router::new(LocalRandom, Line::V4_3.rules(), &Table::new());
    for destination in 1..=3 {
        router.bind(Binding { destination, key: "".into(), arguments: Table::new(), _counted: None });
    }
    let turns = |router: &Router<u32>, count: usize| {
        let mut found = Vec::new();
        (0..count).for_each(|_| router.route([""].into_iter(), &plain(), &mut found));
        found
    };
    assert_eq!(turns(&router, 4), [1, 2, 3, 1]);
    router.unbind_all(2);
    assert_eq!(turns(&router, 3), [3, 1, 3]);
    router.unbind_all(1);
    router.unbind_all(3);
    assert_eq!(turns(&router, 1), [0; 0]);
}

/// Two zeros are equal, and the order of the arguments does not matter.
#[test]
fn equal_arguments_are_one_binding() {
    let mut router = Router::new(Fanout, Line::V4_3.rules(), &Table::new());
    let inner =
        |zero: f64| Table::from([("t", Value::Table(Table::from([("z", zero)]))), ("b", true.into())]);
    let binding = |arguments| Binding { destination: 1, key: "".into(), arguments, _counted: None };
    assert!(router.bind(binding(inner(0.0))));
    let turned = Table::from([("b", true.into()), ("t", Value::Table(Table::from([("z", -0.0)])))]);
    assert!(!router.bind(binding(turned.clone())));
    assert!(router.bind(binding(inner(1.0))) && router.bind(binding(Table::from([("b", false)]))));
    assert!(router.leads_to(1) && !router.leads_to(0) && router.destinations().eq([1]));
    assert!(router.unbind(1, "", &turned) && !router.contains(1, "", &inner(0.0)));
    assert_eq!(router.bindings().count(), 2);
}

/// Quadratic work would take minutes.
#[test]
fn many_bindings_come_and_go() {
    const MANY: u32 = 10_000;
    for (kind, key) in [(Direct, "k"), (Fanout, ""), (Topic, "#"), (Headers, ""), (ConsistentHash, "1")] {
        let mut router = Router::new(kind, Line::V4_3.rules(), &Table::new());
        let numbered = |number: u32| Table::from([("number", number)]);
        for number in 0..MANY {
            for (destination, arguments) in [(number, Table::new()), (MANY, numbered(number))] {
                assert!(router.bind(Binding { destination, key: key.into(), arguments, _counted: None }));
            }
        }
        for number in 0..MANY {
            assert_eq!(router.unbind_all(number), 1);
            assert!(router.unbind(MANY, key, &numbered(number)));
        }
        assert!(router.is_empty(), "{kind:?}");
    }
}

#[test]
fn headers_bindings_stay_with_their_patterns() {
    let mut router = Router::new(Headers, Line::V4_0.rules(), &Table::new());
    for (destination, value) in [(1, "pdf"), (2, "png"), (3, "pdf")] {
        router.bind(Binding {
            destination,
            key: "".into(),
            arguments: Table::from([("format", value)]),
            _counted: None,
        });
    }
    let to = |router: &Router<u32>, format: &str| {
        let mut found = Vec::new();
        router.route(
            [""].into_iter(),
            &message(&Properties::new().with_header("format", format)),
            &mut found,
        );
        found
    };
    assert_eq!((to(&router, "pdf"), to(&router, "png")), (vec![1, 3], vec![2]));
    router.unbind_all(1);
    assert_eq!((to(&router, "pdf"), to(&router, "png"), to(&router, "txt")), (vec![3], vec![2], vec![]));
}

#[test]
fn a_hash_chooses_one_destination_by_weight() {
    let mut router = Router::new(ConsistentHash, Line::V3_10.rules(), &Table::new());
    for (destination, weight) in [(1, "1"), (2, "3")] {
        router.bind(Binding { destination, key: weight.into(), arguments: Table::new(), _counted: None });
    }
    let chosen = |router: &Router<u32>, key: &str| {
        let mut found = Vec::new();
        router.route([key].into_iter(), &plain(), &mut found);
        assert_eq!(found.len(), 1);
        found[0]
    };
    let to_one = (0..4000).filter(|n| chosen(&router, &n.to_string()) == 1).count();
    assert!((900..1100).contains(&to_one), "{to_one}");
    // A second binding of the same queue changes nothing, and its removal takes all buckets.
    router.bind(Binding { destination: 1, key: "50".into(), arguments: Table::new(), _counted: None });
    assert_eq!((0..4000).filter(|n| chosen(&router, &n.to_string()) == 1).count(), to_one);
    assert!(router.unbind(1, "50", &Table::new()));
    assert!((0..100).all(|n| chosen(&router, &n.to_string()) == 2));
}

#[test]
fn a_hash_may_be_of_a_header_or_a_property() {
    let hashed = |arguments: Table, properties: &dyn Fn(usize) -> Properties| {
        let mut router = Router::new(ConsistentHash, Line::V3_10.rules(), &arguments);
        for destination in 0..8 {
            router.bind(Binding { destination, key: "1".into(), arguments: Table::new(), _counted: None });
        }
        let mut found = Vec::new();
        (0..100).for_each(|n| router.route(["the same"].into_iter(), &message(&properties(n)), &mut found));
        found.into_iter().collect::<BTreeSet<u32>>().len()
    };
    let of = |key: &str, value: &str| Table::from([(key, value)]);
    let id = |n: usize| Properties::new().with_correlation_id(n.to_string()).with_header("id", n.to_string());
    assert_eq!(hashed(Table::new(), &id), 1);
    assert_eq!(hashed(of("hash-header", "id"), &id), 8);
    assert_eq!(hashed(of("hash-header", "other"), &id), 1);
    assert_eq!(hashed(of("hash-property", "correlation_id"), &id), 8);
    assert_eq!(hashed(of("hash-property", "message_id"), &id), 1);
    let time = |n: usize| Properties::new().with_timestamp_seconds(n as u64);
    assert_eq!(hashed(of("hash-property", "timestamp"), &time), 8);
}

/// The texts are those of the plug-in of 3.10.
#[test]
fn what_a_hash_exchange_refuses() {
    let check = |arguments: Table| ConsistentHash.check(&arguments);
    assert_eq!(
        check(Table::from([("hash-property", "app_id")])),
        Err("Unsupported property: app_id".to_owned())
    );
    let both = Table::from([("hash-property", "message_id"), ("hash-header", "id")]);
    assert_eq!(check(both), Err("hash-header and hash-property are mutually exclusive".to_owned()));
    assert_eq!(check(Table::from([("hash-header", "id")])), Ok(()));
    assert_eq!(Direct.check(&Table::from([("hash-property", Value::from(1))])), Ok(()));
    let router: Router<u32> = Router::new(ConsistentHash, Line::V3_10.rules(), &Table::new());
    let key = |key: &str| router.check(key, &Table::new()).unwrap_err();
    assert_eq!(key("a"), "The binding key must be an integer: <<\"a\">>");
    assert_eq!(key(""), "The binding key must be an integer: <<>>");
    assert_eq!(key("0"), "The binding key must be greater than 0");
    assert_eq!(key("-5"), "The binding key must be greater than 0");
    assert_eq!(router.check("99999999999999999999999", &Table::new()), Ok(()));
}

#[test]
fn types_have_names() {
    for kind in [Direct, Fanout, Topic, Headers, ConsistentHash] {
        assert_eq!(ExchangeType::of(kind.name()), Some(kind));
    }
    assert_eq!(ExchangeType::of("Direct"), None);
}
