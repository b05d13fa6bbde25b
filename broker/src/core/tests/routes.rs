//! Routing as a whole: broker.md 4, and exchanges that delay.

use actix_pika_actors::{Table, Value};
use bytes::Bytes;

use super::rig::{Rig, check_all};
use crate::core::{CoreConfig, Keep, Line, Publish, Time, properties::Summary};

/// broker.md 4: one copy for each queue, however many ways lead to it.
#[test]
fn one_copy_for_each_queue() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 declare p", &["a1 declared p 0 0"]),
        ("a1 xdeclare x fanout", &["a1 ok"]),
        ("a1 bind q amq.topic k.#", &["a1 ok"]),
        ("a1 bind q amq.topic #", &["a1 ok"]),
        ("a1 xbind x amq.topic k.x", &["a1 ok"]),
        ("a1 bind q x -", &["a1 ok"]),
        ("a1 bind p x -", &["a1 ok"]),
        ("a1 publish amq.topic k.x m", &[]),
        ("a1 get q", &["a1 got 1 m via amq.topic k.x, 0 left"]),
        ("a1 get p", &["a1 got 2 m via amq.topic k.x, 0 left"]),
    ]);
}

/// broker.md 4: CC and BCC.
#[test]
fn copies() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 declare p", &["a1 declared p 0 0"]),
        ("a1 declare r", &["a1 declared r 0 0"]),
        ("a1 publish - q m CC=ASp,Sq BCC=ASr h=I1", &[]),
        ("a1 get q", &["a1 got 1 m [CC:(p q) h:1], 0 left"]),
        ("a1 get p", &["a1 got 2 m [CC:(p q) h:1], 0 left"]),
        ("a1 get r", &["a1 got 3 m [CC:(p q) h:1], 0 left"]),
        ("a1 publish - no m CC=ASno BCC=ASno mandatory", &["a1 return 312 m [CC:(no)]"]),
        ("a1 publish - no m CC=AI1,Sq", &[]),
        ("a1 get q", &["a1 got 4 m [CC:(1 q)], 0 left"]),
    ]);
}

/// broker.md 4: mandatory looks at the end of routing; an alternate exchange keeps the first exchange's name.
#[test]
fn alternate_exchanges() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 xdeclare ae fanout", &["a1 ok"]),
        ("a1 xdeclare x direct alternate-exchange=Sae", &["a1 ok"]),
        ("a1 publish x k m mandatory", &["a1 return 312 m via x k"]),
        ("a1 bind q ae -", &["a1 ok"]),
        ("a1 publish x k m mandatory", &[]),
        ("a1 get q", &["a1 got 1 m via x k, 0 left"]),
        // A way to an exchange that leads nowhere is a way.
        ("a1 xdeclare y fanout", &["a1 ok"]),
        ("a1 xbind y x k", &["a1 ok"]),
        ("a1 publish x k m mandatory", &["a1 return 312 m via x k"]),
        ("a1 xdelete ae", &["a1 ok"]),
        ("a1 publish x other m mandatory", &["a1 return 312 m via x other"]),
        // In a circle, each is asked once.
        ("a1 xbind x y -", &["a1 ok"]),
        ("a1 bind q x back", &["a1 ok"]),
        ("a1 publish y back m", &[]),
        ("a1 get q", &["a1 got 2 m via y back, 0 left"]),
        ("a1 get q", &["a1 empty"]),
    ]);
}

/// Messages with `x-delay` wait, and are delivered with the delay negated, as by the plug-in.
#[test]
fn delayed_messages() {
    let mut rig = Rig::with(crate::core::CoreConfig { line: Line::V4_3, ..Default::default() });
    rig.prepare(&[
        "a1 declare q",
        "a1 xdeclare x x-delayed-message x-delayed-type=Stopic",
        "a1 bind q x k.*",
        "a1 confirm",
    ]);
    rig.check(&[
        ("a1 publish x k.a late x-delay=I500", &["a1 ack 1"]),
        ("a1 publish x k.a soon x-delay=I100", &["a1 ack 2"]),
        ("a1 publish x k.a now", &["a1 ack 3"]),
        ("a1 get q", &["a1 got 1 now via x k.a, 0 left"]),
        ("advance 100", &[]),
        ("a1 get q", &["a1 got 2 soon [x-delay:-100] via x k.a, 0 left"]),
        ("advance 399", &[]),
        ("a1 get q", &["a1 empty"]),
        ("advance 1", &[]),
        ("a1 get q", &["a1 got 3 late [x-delay:-500] via x k.a, 0 left"]),
        (
            "a1 xdeclare y x-delayed-message",
            &["a1 close 406 PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange \
               type at 40 10"],
        ),
    ]);
}

/// As the plug-in keeps them over a restart. Those of an exchange that is gone take nothing.
#[test]
fn delayed_messages_stay_with_their_exchange() {
    let mut rig = Rig::with(CoreConfig { line: Line::V4_3, publish_log: 0, ..Default::default() });
    rig.prepare(&[
        "a1 declare q durable",
        "a1 xdeclare x x-delayed-message durable x-delayed-type=Sfanout",
        "a1 xdeclare y x-delayed-message durable x-delayed-type=Sfanout",
        "a1 bind q x -",
        "a1 publish x k m x-delay=I500",
        "a1 publish y k m x-delay=I400",
    ]);
    let taken = rig.core.memory().taken();
    rig.prepare(&["a1 xdelete y"]);
    assert_eq!(rig.core.memory().taken(), taken / 2);
    rig.core.restart(Time::ZERO, Keep::Durable);
    rig.answers();
    rig.core.check_invariants();
    rig.check(&[
        ("advance 499", &[]),
        ("b1 get q", &["b1 empty"]),
        ("advance 1", &[]),
        ("b1 get q", &["b1 got 1 m [x-delay:-500] via x k, 0 left"]),
        ("b1 ack 1", &[]),
        ("b1 publish x k m x-delay=I500", &[]),
    ]);
    rig.core.restart(Time::from_millis(500), Keep::Nothing);
    assert_eq!(rig.core.memory().taken(), 0);
}

/// Nodes keep headers that a client may not send: a timestamp of 1 << 63, and tables that nest 40 deep.
#[test]
fn odd_headers_take_no_others_with_them() {
    let deep = (0..40).fold(Value::Void, |inner, _| Value::Array(vec![inner]));
    for (odd, line) in [Value::Timestamp(1 << 63), deep]
        .into_iter()
        .flat_map(|odd| [Line::V3_10, Line::V4_0, Line::V4_3].map(|line| (odd.clone(), line)))
    {
        let mut rig = Rig::with(CoreConfig { line, ..Default::default() });
        rig.prepare(&[
            "a1 declare dead",
            "a1 declare p",
            "a1 declare q durable x-queue-type=Squorum x-dead-letter-exchange=S x-dead-letter-routing-key=Sdead",
        ]);
        let keys = |key: &str| Value::from(vec![Value::from(key)]);
        let headers = Table::new().with("odd", odd.clone()).with("CC", keys("p")).with("BCC", keys("q"));
        let properties = Summary::read(&[0, 0]).unwrap().rewrite(&[0, 0], &headers, false);
        let connection = rig.connection('a');
        let publish = Publish { exchange: "", routing_key: "none", mandatory: true, immediate: false };
        rig.core.publish(Time::ZERO, connection, 1, publish, properties, Bytes::new());
        for queue in ["p", "q"] {
            let shown = rig.core.messages("/", queue);
            let headers = shown[0].message.headers().unwrap();
            assert_eq!(headers.get("odd"), Some(&odd), "{queue}");
            assert!(headers.len() == 2 && headers.get("CC") == Some(&keys("p")));
        }
        rig.prepare(&["a1 get q", "a1 reject 1"]);
        let dead = rig.core.messages("/", "dead");
        let headers = dead[0].message.headers().unwrap();
        assert!(headers.get("odd") == Some(&odd) && headers.contains_key("x-death"));
    }
}

/// What delays is of a type that the line has.
#[test]
fn delayed_types_by_line() {
    for (line, kind, is_there) in [
        (Line::V3_10, "x-local-random", false),
        (Line::V4_0, "x-local-random", true),
        (Line::V4_0, "x-modulus-hash", false),
        (Line::V4_3, "x-modulus-hash", true),
    ] {
        let mut rig = Rig::with(CoreConfig { line, ..Default::default() });
        let refused = "a1 close 406 PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing \
                       exchange type at 40 10";
        rig.check(&[(
            &format!("a1 xdeclare x x-delayed-message x-delayed-type=S{kind}"),
            &[if is_there { "a1 ok" } else { refused }],
        )]);
    }
}

/// A chain of auto-delete exchanges goes with the last binding of its last one, however long it is.
#[test]
fn a_long_chain_of_exchanges_that_delete_themselves() {
    const LENGTH: usize = 1000;
    let chain = || {
        let mut rig = Rig::with(CoreConfig::default());
        for at in 0..LENGTH {
            rig.check(&[(&format!("a1 xdeclare x{at} fanout auto_delete"), &["a1 ok"])]);
        }
        for at in 1..LENGTH {
            rig.check(&[(&format!("a1 xbind x{at} x{} -", at - 1), &["a1 ok"])]);
        }
        rig.check(&[("a1 declare q", &["a1 declared q 0 0"])]);
        rig.check(&[(&format!("a1 bind q x{} -", LENGTH - 1), &["a1 ok"])]);
        rig.check(&[("a1 delete q", &["a1 deleted 0"])]);
        rig.check(&[(
            "a2 xdeclare x0 no passive",
            &["a2 close 404 NOT_FOUND - no exchange 'x0' in vhost '/' at 40 10"],
        )]);
    };
    // A small stack, so that the chain can be short.
    std::thread::Builder::new().stack_size(256 * 1024).spawn(chain).unwrap().join().unwrap();
}
