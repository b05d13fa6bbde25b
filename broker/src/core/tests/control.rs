//! Permissions, delivery timeouts, restarts, faults and inspection.

use super::rig::Rig;
use crate::core::{CoreConfig, Keep, Line, StoredState, Time};

fn rig(line: Line) -> Rig {
    Rig::with(CoreConfig { line, ..CoreConfig::default() })
}

/// AUTH-09: what is outside the patterns is refused.
#[test]
fn permissions() {
    for (line, what) in [(Line::V3_10, ""), (Line::V4_3, "configure ")] {
        let mut rig = rig(line);
        rig.prepare(&["a1 declare q", "a1 xdeclare x fanout"]);
        rig.core.add_user("u", "p");
        rig.core.set_permissions("u", "/", ["^c", "^q$", "^x$"]).unwrap();
        rig.connect_as('u', "u");
        let refused = |access: &str, resource: &str, at: &str| {
            let access = if what.is_empty() { String::new() } else { format!("{access} ") };
            let resource = format!("{resource} in vhost '/'");
            format!("u1 close 403 ACCESS_REFUSED - {access}access to {resource} refused for user 'u' at {at}")
        };
        for (operation, expected) in [
            ("u1 declare d", refused("configure", "queue 'd'", "50 10")),
            ("u1 xdeclare d fanout", refused("configure", "exchange 'd'", "40 10")),
            ("u1 delete q", refused("configure", "queue 'q'", "50 40")),
            ("u1 publish - q x", refused("write", "exchange 'amq.default'", "60 40")),
            ("u1 publish x k x", refused("write", "exchange 'x'", "60 40")),
            ("u1 consume q c", refused("read", "queue 'q'", "60 20")),
            ("u1 get q", refused("read", "queue 'q'", "60 70")),
            ("u1 purge q", refused("read", "queue 'q'", "50 30")),
            ("u1 bind q amq.fanout k", refused("read", "exchange 'amq.fanout'", "50 20")),
            ("u1 bind c x k", refused("write", "queue 'c'", "50 20")),
        ] {
            rig.check(&[(operation, &[&*expected]), ("u1 close_ok", &[])]);
        }
        rig.check(&[("u1 bind q x k", &["u1 ok"]), ("u1 declare c", &["u1 declared c 0 0"])]);
    }
}

/// AUTH-10, broker.md 1: topic permissions.
#[test]
fn topic_permissions() {
    let mut rig = rig(Line::V3_10);
    rig.core.set_topic_permissions("guest", "/", "amq.topic", ["^a\\.", "^a\\."]).unwrap();
    rig.check(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 bind q amq.topic a.#", &["a1 ok"]),
        ("a1 publish amq.topic a.x m", &[]),
        ("a1 publish amq.direct b.x m", &[]),
        (
            "a1 publish amq.topic b.x m",
            &["a1 close 403 ACCESS_REFUSED - access to topic 'b.x' in exchange 'amq.topic' in vhost '/' refused \
               for user 'guest' at 60 40"],
        ),
    ]);
}

/// Asked of nodes: up to 3.10 the routing key is looked at, from 4.0 on each key, in their order.
#[test]
fn topic_permissions_of_further_keys() {
    for line in [Line::V3_10, Line::V4_0, Line::V4_3] {
        let mut rig = rig(line);
        rig.core.set_topic_permissions("guest", "/", "amq.topic", ["^a", "^a"]).unwrap();
        for (channel, keys, refused) in [
            (1, "a.x CC=ASa.1 BCC=ASa.2", None),
            (2, "a.x CC=ASb.1", Some("b.1")),
            (3, "a.x BCC=ASb.1", Some("b.1")),
            (4, "a.x CC=ASa.1,Sb.1 BCC=ASb.2", Some("b.1")),
        ] {
            let text = refused.filter(|_| line >= Line::V4_0).map(|key| {
                format!(
                    "a{channel} close 403 ACCESS_REFUSED - write access to topic '{key}' in exchange 'amq.topic' in vhost '/' \
                     refused for user 'guest' at 60 40"
                )
            });
            let (key, further) = keys.split_once(' ').unwrap();
            let expected: Vec<&str> = text.iter().map(|text| &**text).collect();
            rig.check(&[(&format!("a{channel} publish amq.topic {key} m {further}"), &expected)]);
        }
    }
}

/// broker.md 15: the oldest delivery that is not acked in time closes its channel, until 4.2.
#[test]
fn a_delivery_that_is_not_acked_in_time() {
    let timed_out = timed_out("1800000");
    let mut old = rig(Line::V4_0);
    old.check(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 publish - q x", &[]),
        ("b1 get q", &["b1 got 1 x, 0 left"]),
        ("b1 publish - q y", &[]),
        ("advance 1000000", &[]),
        ("b1 get q", &["b1 got 2 y, 0 left"]),
        ("b1 ack 1", &[]),
        ("advance 1000000", &[]),
        ("advance 799999", &[]),
        ("advance 1", &[&format!("b1 {timed_out}")]),
        ("b1 close_ok", &[]),
        ("a1 get q", &["a1 got 1 y again, 0 left"]),
    ]);
}

/// Asked of 4.3.6: quorum queues take late messages back and cancel the consumer; classic queues do not.
#[test]
fn a_quorum_queue_takes_late_messages_back() {
    let mut rig = rig(Line::V4_3);
    rig.check(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 declare u durable x-queue-type=Squorum", &["a1 declared u 0 0"]),
        ("a1 publish - q x", &[]),
        ("a1 publish - u y", &[]),
        ("b1 get q", &["b1 got 1 x, 0 left"]),
        ("b1 consume u c", &["b1 consuming c", "b1 deliver c 2 y"]),
        ("advance 1799999", &[]),
        ("advance 1", &["b1 cancel c"]),
        ("a1 get q", &["a1 empty"]),
        ("a1 declare u passive", &["a1 declared u 1 0"]),
        // The tags stay known.
        ("b1 ack 2 multiple", &[]),
        ("a1 declare u passive", &["a1 declared u 1 0"]),
    ]);
}

/// Asked of 4.3.6: an ack that waits for a commit is none for the queue.
#[test]
fn a_late_message_of_a_transaction_comes_back() {
    let mut rig = rig(Line::V4_3);
    rig.prepare(&["a1 declare u durable x-queue-type=Squorum", "a1 publish - u y", "b1 tx"]);
    rig.check(&[
        ("b1 consume u c", &["b1 consuming c", "b1 deliver c 1 y"]),
        ("b1 ack 1", &[]),
        ("advance 1800000", &["b1 cancel c"]),
        ("b1 commit", &["b1 ok"]),
        ("a1 get u", &["a1 got 1 y [x-acquired-count:1] again, 0 left"]),
    ]);
}

/// Asked of 4.3.6: without a consumer that can be cancelled, the channel is closed. The value is not told.
#[test]
fn a_late_message_without_a_consumer_closes_the_channel() {
    let timed_out = timed_out("-1");
    for (at, taken) in
        [("b1", vec!["get u"]), ("b1", vec!["consume u c", "cancel c"]), ("z1", vec!["consume u c"])]
    {
        let mut rig = rig(Line::V4_3);
        rig.prepare(&["a1 declare u durable x-queue-type=Squorum", "a1 publish - u y"]);
        for operation in taken {
            rig.prepare(&[&format!("{at} {operation}")]);
        }
        rig.check(&[
            ("advance 1800000", &[&format!("{at} {timed_out}")]),
            ("a1 get u", &["a1 got 1 y [x-acquired-count:1] again, 0 left"]),
            (&format!("{at} close_ok"), &[]),
            ("a1 get u", &["a1 empty"]),
        ]);
        rig.core.check_invariants();
    }
}

/// Asked of 4.3.6: what a consumer has asked for holds for its deliveries when it is cancelled, too.
#[test]
fn a_cancelled_consumer_keeps_its_timeout() {
    let mut rig = rig(Line::V4_3);
    rig.prepare(&[
        "a1 declare u durable x-queue-type=Squorum x-consumer-timeout=I600000",
        "a1 publish - u y",
    ]);
    rig.prepare(&["b1 consume u c x-consumer-timeout=I60000", "b1 cancel c", "advance 59999"]);
    rig.check(&[
        ("a1 get u", &["a1 empty"]),
        ("advance 1", &[&format!("b1 {}", timed_out("-1"))]),
        ("a1 get u", &["a1 got 1 y [x-acquired-count:1] again, 0 left"]),
    ]);
}

/// Up to 4.0, what a rollback makes unacked again may be too old already, when its timer is gone.
#[test]
fn a_rollback_brings_the_timeout_back() {
    let timed_out = timed_out("1800000");
    for (wait, then) in [("advance 1800000", &[][..]), ("advance 1000000", &["advance 799999"][..])] {
        let mut rig = rig(Line::V4_0);
        rig.prepare(&["a1 declare q", "a1 publish - q x", "b1 tx"]);
        rig.check(&[("b1 get q", &["b1 got 1 x, 0 left"]), ("b1 ack 1", &[]), (wait, &[])]);
        let closed = format!("b1 {timed_out}");
        if then.is_empty() {
            rig.check(&[("b1 rollback", &["b1 ok", &closed])]);
        } else {
            rig.check(&[("b1 rollback", &["b1 ok"]), (then[0], &[]), ("advance 1", &[&closed])]);
        }
    }
}

fn timed_out(value: &str) -> String {
    format!(
        "close 406 PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: {value} ms. \
         This timeout value can be configured, see consumers doc guide to learn more at 0 0"
    )
}

/// A restart keeps durable entities and persistent messages; what was unacked comes back as redelivered.
#[test]
fn restarts() {
    let mut rig = rig(Line::V4_3);
    rig.prepare(&[
        "a1 declare q durable",
        "a1 declare t",
        "a1 xdeclare x fanout durable",
        "a1 xdeclare y fanout",
        "a1 bind q x -",
        "a1 bind t x -",
        "a1 bind q y -",
        "a1 publish - q 0 p.mode=2",
        "a1 publish - q 1",
        "a1 publish - q 2 p.mode=2",
        "a1 get q",
    ]);
    rig.core.restart(Time::ZERO, Keep::Durable);
    let closed =
        "a0 close 320 CONNECTION_FORCED - broker forced connection closure with reason 'shutdown' at 0 0";
    assert_eq!(rig.answers(), [closed]);
    rig.check(&[("drop a", &[])]);
    rig.check(&[
        ("a1 declare q durable", &["a1 declared q 2 0"]),
        ("a1 get q", &["a1 got 1 0 again, 1 left"]),
        ("a1 get q", &["a1 got 2 2, 0 left"]),
        ("a1 publish x k 3", &[]),
        ("a1 get q", &["a1 got 3 3 via x k, 0 left"]),
        ("a1 declare t passive", &["a1 close 404 NOT_FOUND - no queue 't' in vhost '/' at 50 10"]),
    ]);
    // From 4.3 on, the metadata store keeps exchanges that are not durable.
    assert!(rig.core.has_exchange("/", "x") && rig.core.has_exchange("/", "y"));
    rig.core.restart(Time::ZERO, Keep::Nothing);
    assert!(rig.core.queues("/").is_empty() && !rig.core.has_exchange("/", "x"));
    assert!(rig.core.has_exchange("/", "amq.topic"));
}

#[test]
fn faults_on_order() {
    let mut rig = rig(Line::V4_3);
    rig.prepare(&["a1 declare q", "b1 consume q c", "a1 confirm"]);
    rig.core.nack_next(1);
    rig.core.return_next(1);
    rig.check(&[
        ("a1 publish - q x", &["a1 nack 1 multiple"]),
        ("a1 publish - q x", &["a1 return 312 x", "a1 ack 2"]),
        ("a1 publish - q x", &["a1 ack 3", "b1 deliver c 1 x"]),
    ]);
    assert_eq!(rig.core.cancel_consumers(Time::ZERO, "/", "q"), 1);
    assert_eq!(rig.answers(), ["b1 cancel c"]);
    let connection = rig.connection('b');
    assert!(rig.core.kill_connection(Time::ZERO, connection, "Closed via management plugin"));
    assert_eq!(rig.answers(), ["b0 close 320 CONNECTION_FORCED - Closed via management plugin at 0 0"]);
    rig.check(&[("a1 get q", &["a1 got 1 x again, 0 left"])]);
}

#[test]
fn deleted_users_and_virtual_hosts_lose_their_connections() {
    let mut rig = rig(Line::V4_3);
    rig.core.add_user("u", "p");
    rig.core.set_permissions("u", "/", [".*"; 3]).unwrap();
    rig.connect_as('u', "u");
    rig.prepare(&["u1 declare q"]);
    assert!(rig.core.remove_user(Time::ZERO, "u"));
    assert_eq!(rig.answers(), ["u0 close 320 CONNECTION_FORCED - user 'u' is deleted at 0 0"]);
    rig.prepare(&["a1 declare q"]);
    assert!(rig.core.remove_vhost(Time::ZERO, "/"));
    assert_eq!(rig.answers(), ["a0 close 320 CONNECTION_FORCED - vhost '/' is deleted at 0 0"]);
    assert!(rig.core.add_vhost("/") && rig.core.queues("/").is_empty());
}

#[test]
fn what_is_there_can_be_looked_at() {
    let mut rig = rig(Line::V4_3);
    rig.prepare(&[
        "a1 declare q durable",
        "a1 bind q amq.topic orders.*",
        "a1 publish amq.topic orders.new 0",
        "a1 publish - q 1",
        "a1 publish amq.topic other 2",
        "b1 qos 1",
        "b1 consume q c",
    ]);
    let connection = rig.connection('b');
    let queue = rig.core.queue("/", "q").unwrap();
    assert_eq!((queue.ready, queue.unacked, queue.consumers, queue.durable), (1, 1, 1, true));
    let messages = rig.core.messages("/", "q");
    let unacked = StoredState::Unacked { connection, channel: 1, delivery_tag: 1 };
    let shown: Vec<_> = messages.iter().map(|view| (&view.message.body[..], view.state.clone())).collect();
    assert_eq!(shown, [(&b"0"[..], unacked), (b"1", StoredState::Ready)]);
    let consumers = rig.core.consumers("/");
    assert_eq!(
        (&*consumers[0].tag, consumers[0].prefetch, consumers[0].unacked, consumers[0].active),
        ("c", 1, 1, true)
    );
    let bindings: Vec<_> = rig
        .core
        .bindings("/")
        .iter()
        .map(|binding| (binding.source.to_string(), binding.key.to_string()))
        .collect();
    assert_eq!(bindings, [(String::new(), "q".into()), ("amq.topic".into(), "orders.*".into())]);
    assert_eq!(rig.core.published("orders.#").count(), 1);
    assert_eq!(rig.core.published("#").count(), 3);
}

/// The log of publishes is bounded by number, and by size.
#[test]
fn the_log_of_publishes_is_bounded() {
    let mut rig = Rig::with(CoreConfig { publish_log: 2, ..CoreConfig::default() });
    rig.prepare(&["a1 publish - q 1", "a1 publish - q 2", "a1 publish - q 3"]);
    let bodies: Vec<_> = rig.core.published("q").map(|entry| entry.message.body.clone()).collect();
    assert_eq!(bodies, [&b"2"[..], b"3"]);
}

/// broker.md 15: channel_max counts channels, and does not limit their numbers.
#[test]
fn channel_max_counts_channels() {
    let mut rig = Rig::with(CoreConfig::default());
    rig.limit_channels('a', 2);
    rig.prepare(&["a7 declare q", "a2048 declare p"]);
    let expected = "a0 close 530 NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max \
                    (2) at 0 0";
    rig.check(&[("a1 open", &[expected])]);
}

/// A connection whose socket is full gets nothing until it is writable again.
#[test]
fn a_full_socket_pauses_its_consumers() {
    let mut rig = rig(Line::V4_3);
    rig.prepare(&["a1 declare q", "b1 consume q c no_ack"]);
    let connection = rig.connection('b');
    rig.core.set_writable(Time::ZERO, connection, false);
    rig.check(&[("a1 publish - q x", &[]), ("a1 declare q passive", &["a1 declared q 1 1"])]);
    rig.core.set_writable(Time::ZERO, connection, true);
    assert_eq!(rig.answers(), ["b1 deliver c 1 x"]);
}

/// What waits as an output is bounded, also for a consumer without a limit of its own.
#[test]
fn a_long_queue_is_delivered_in_parts() {
    let mut rig = rig(Line::V4_3);
    rig.prepare(&["a1 declare q"]);
    for _ in 0..5000 {
        rig.batch(&["a1 publish - q x"]);
    }
    rig.batch(&["b1 consume q c no_ack"]);
    assert_eq!(rig.core.queue("/", "q").unwrap().ready, 5000 - 1024);
    assert_eq!(rig.answers().len(), 1 + 5000);
    rig.core.check_invariants();
}
