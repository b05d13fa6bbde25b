//! What messages take is given back when no queue, channel or output has them.

use super::rig::Rig;
use crate::core::{CoreConfig, Time};

#[test]
fn what_messages_take_is_given_back() {
    for end in [
        &["a1 purge q"][..],
        &["a1 delete q"],
        &["a1 get q no_ack"],
        &["a1 consume q t no_ack"],
        &["b1 get q", "b1 ack 1"],
        &["b1 get q", "drop b", "a1 purge q"],
        &["b1 get q", "b1 reject 1", "a1 purge dead"],
        &["advance 1000", "a1 purge dead"],
    ] {
        let mut rig = Rig::with(CoreConfig { publish_log: 0, ..CoreConfig::default() });
        rig.prepare(&[
            "a1 declare dead",
            "a1 declare q durable x-queue-type=Squorum x-message-ttl=I1000 x-dead-letter-exchange=S \
             x-dead-letter-routing-key=Sdead",
        ]);
        assert_eq!(rig.core.memory().taken(), 0);
        rig.prepare(&["a1 publish - q m"]);
        // The body, two octets of flags, the message and its place.
        assert_eq!(rig.core.memory().taken(), 1 + 2 + 512 + 128);
        rig.prepare(end);
        assert_eq!(rig.core.memory().taken(), 0, "{end:?}");
    }
}

/// From the limit on, until a fifth of it is free.
#[test]
fn the_alarm_is_over_when_a_fifth_is_free() {
    let mut rig = Rig::with(CoreConfig { memory_limit: Some(5 * 643), ..CoreConfig::default() });
    rig.prepare(&["a1 declare q"]);
    for _ in 0..4 {
        rig.prepare(&["a1 publish - q m"]);
        assert!(!rig.core.is_low_on_memory());
    }
    rig.prepare(&["a1 publish - q m"]);
    // The log of publishes is given up first, but the queue has the messages.
    assert!(rig.core.is_low_on_memory());
    assert_eq!(rig.core.published("#").count(), 0);
    rig.prepare(&["a1 get q no_ack"]);
    assert!(!rig.core.is_low_on_memory());
    rig.prepare(&["a1 publish - q m"]);
    assert!(rig.core.is_low_on_memory());
    rig.core.advance(Time::from_millis(1));
    assert!(rig.core.is_low_on_memory());
}
