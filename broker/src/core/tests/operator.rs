//! What an operator sets: limits, permits, types of queues, and what a restart leaves.

use super::rig::Rig;
use crate::core::{ConnectionInfo, CoreConfig, Keep, Line, Permits, Time};

const LINES: [Line; 4] = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];

fn connect(rig: &mut Rig, user: &str) -> Result<(), String> {
    let info = ConnectionInfo {
        user: user.into(),
        vhost: "/".into(),
        cancel_notify: true,
        channel_max: 2047,
        name: "one more".into(),
    };
    rig.core.open_connection(Time::ZERO, info).map(drop).map_err(|close| close.to_string())
}

/// CON-26: asked of 3.10.8, 4.0.5 and 4.3.6.
#[test]
fn limits_of_connections() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&["a1 declare q"]);
        rig.core.limit_connections_of_vhost("/", Some(1));
        let refused =
            "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached";
        assert_eq!(connect(&mut rig, "guest"), Err(refused.into()));
        rig.core.limit_connections_of_vhost("/", None);
        rig.core.limit_connections_of_user("guest", Some(0));
        let refused =
            "NOT_ALLOWED - connection refused for user 'guest': user connection limit (0) is reached";
        assert_eq!(connect(&mut rig, "guest"), Err(refused.into()));
        rig.core.limit_connections_of_user("guest", None);
        assert_eq!(connect(&mut rig, "guest"), Ok(()));
    }
}

/// Asked of 3.10.8, 4.0.5 and 4.3.6: what is there may be declared again, and 4.x checks the arguments first, but not
/// what a kind of queue checks itself.
#[test]
fn limits_of_queues() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&["a1 declare q durable"]);
        rig.limit_queues(Some(1));
        let closed = |text: &str| format!("a1 close 406 PRECONDITION_FAILED - {text} at 50 10");
        let full = closed("cannot declare queue 'b': queue limit in vhost '/' (1) is reached");
        let sooner = |text: &str| if line < Line::V4_0 { full.clone() } else { closed(text) };
        for (operation, answer) in [
            ("declare b durable", full.clone()),
            ("declare b exclusive", full.clone()),
            (
                "declare b durable x-message-ttl=Sx",
                sooner(
                    "invalid arg 'x-message-ttl' for queue 'b' in vhost '/': \"expected integer, got longstr\"",
                ),
            ),
            (
                "declare b durable x-dead-letter-exchange=I1",
                sooner("invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'b' in vhost '/'"),
            ),
            (
                "declare b durable x-queue-type=Squorum x-max-priority=I5",
                sooner(
                    "invalid arg 'x-max-priority' for queue 'b' in vhost '/' of queue type rabbit_quorum_queue",
                ),
            ),
            ("declare b x-queue-type=Squorum", full.clone()),
            ("declare b durable exclusive x-queue-type=Squorum", full.clone()),
            ("declare b durable x-queue-type=Squorum x-overflow=Sreject-publish-dlx", full.clone()),
            ("declare b durable x-queue-master-locator=Szz", full.clone()),
            (
                "declare - durable x-queue-type=Squorum",
                closed("Cannot declare a server-named queue for type rabbit_quorum_queue"),
            ),
            (
                "declare q",
                closed(
                    "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but \
              current is 'true'",
                ),
            ),
        ] {
            rig.check(&[(&*format!("a1 {operation}"), &[&*answer]), ("a1 close_ok", &[])]);
        }
        rig.check(&[("a1 declare q durable", &["a1 declared q 0 0"])]);
        rig.limit_queues(Some(0));
        let full = "a1 close 406 PRECONDITION_FAILED - cannot declare queue 'b': queue limit in vhost '/' (0) is \
                    reached at 50 10";
        rig.check(&[("a1 declare b", &[full]), ("a1 close_ok", &[])]);
        rig.limit_queues(None);
        rig.check(&[("a1 declare b durable", &["a1 declared b 0 0"])]);
    }
}

/// REC-61, asked of 3.10.8, 4.0.5 and 4.3.6: the text is that of each line; 4.0.5 names its node.
#[test]
fn limits_of_channels() {
    for (line, who, limit) in [
        (Line::V3_10, "u", "(1)"),
        (Line::V3_13, "u", "(1)"),
        (Line::V4_0, "actix-pika-broker@localhost", "(1)"),
        (Line::V4_3, "u", "1"),
    ] {
        let mut rig = Rig::new(line);
        rig.prepare(&["user u .* .* .*", "u1 declare q"]);
        rig.limit_channels_of('u', Some(1));
        let closed = format!(
            "u0 close 530 NOT_ALLOWED - number of channels opened for user '{who}' has reached the maximum allowed \
             user limit of {limit} at 0 0"
        );
        rig.check(&[("u2 open", &[&*closed])]);
    }
}

/// QOS-05: from 3.13 on, the operator decides whether consumers share a prefetch.
#[test]
fn permits_of_a_shared_prefetch() {
    for (line, permit, shares) in [
        (Line::V3_10, Some(false), true),
        (Line::V3_13, Some(false), false),
        (Line::V4_0, None, true),
        (Line::V4_3, Some(true), true),
        (Line::V4_3, None, false),
    ] {
        let permits = Permits { global_qos: permit, ..Permits::default() };
        let mut rig = Rig::with(CoreConfig { line, permits, ..CoreConfig::default() });
        rig.prepare(&["a1 declare q", "b1 qos 1 global", "b1 consume q c", "b1 consume q d"]);
        let second: &[&str] = if shares { &[] } else { &["b1 deliver d 2 1"] };
        rig.check(&[("a1 publish - q 0", &["b1 deliver c 1 0"]), ("a1 publish - q 1", second)]);
    }
}

/// QOS-05: where consumers share a prefetch, each queue is served when there is room again.
#[test]
fn a_shared_prefetch_starves_no_queue() {
    let mut rig = Rig::new(Line::V4_0);
    rig.prepare(&["a1 declare p", "a1 declare q"]);
    for n in 0..4 {
        rig.prepare(&[&format!("a1 publish - p {n}"), &format!("a1 publish - q {n}")]);
    }
    rig.prepare(&["b1 qos 1 global", "b1 consume p c", "b1 consume q d"]);
    let mut served = Vec::new();
    for tag in 1..8 {
        let answers = rig.say(&format!("b1 ack {tag}"));
        served.extend(answers.iter().map(|answer| answer.split(' ').nth(2).unwrap_or_default().to_owned()));
    }
    assert_eq!(served, ["d", "c", "d", "c", "d", "c", "d"]);
}

/// CON-29: a declaration that is not permitted closes the connection with 541 and the method.
#[test]
fn permits_of_transient_queues() {
    for line in LINES {
        let permits = Permits { transient_queues: Some(false), ..Permits::default() };
        let mut rig = Rig::with(CoreConfig { line, permits, ..CoreConfig::default() });
        rig.prepare(&["a1 declare d durable", "a1 declare e exclusive"]);
        let answers = rig.say("a1 declare q");
        if line == Line::V3_10 {
            assert_eq!(answers, ["a1 declared q 0 0"]);
        } else {
            let start = "a0 close 541 INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.";
            assert!(answers[0].starts_with(start) && answers[0].ends_with(" at 50 10"), "{answers:?}");
        }
    }
}

/// Asked of 4.0.5 and 4.3.6: a queue without a type has that of its virtual host, also in its arguments.
#[test]
fn the_type_of_queues_without_one() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&["a1 declare q"]);
        let added = rig.core.queue("/", "q").unwrap().arguments.contains_key("x-queue-type");
        assert_eq!(added, line >= Line::V4_0, "{line:?}");
        rig.check(&[("a1 declare q x-queue-type=Sclassic", &["a1 declared q 0 0"])]);
    }
}

/// BRK-04: the metadata store of 4.3 keeps exchanges that are not durable, and their bindings to durable queues.
#[test]
fn a_restart_and_transient_exchanges() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&["a1 declare q durable", "a1 xdeclare x fanout", "a1 bind q x -"]);
        rig.core.restart(Time::ZERO, Keep::Durable);
        let is_kept = line >= Line::V4_3;
        let is_bound = rig.core.bindings("/").iter().any(|binding| &*binding.source == "x");
        assert_eq!((rig.core.has_exchange("/", "x"), is_bound), (is_kept, is_kept), "{line:?}");
    }
}

/// PUB-34, asked of all three nodes: from 4.0 on headers are sorted; before, those that the broker has changed.
#[test]
fn the_order_of_headers() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare q x-dead-letter-exchange=S x-dead-letter-routing-key=Sdead",
            "a1 declare dead",
            "a1 publish - q m z=I1 B=I2 a=I3",
        ]);
        let names = |rig: &Rig, queue: &str| {
            let message = rig.core.messages("/", queue).remove(0).message;
            let headers = message.headers().unwrap();
            headers.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        let expected = if line >= Line::V4_0 { ["B", "a", "z"] } else { ["z", "B", "a"] };
        assert_eq!(names(&rig, "q"), expected, "{line:?}");
        rig.prepare(&["a1 get q", "a1 reject 1"]);
        let dead = names(&rig, "dead");
        assert!(dead.is_sorted() && dead.len() > 3, "{line:?} {dead:?}");
    }
}

/// RPC-13, asked of all three nodes: what they fail to read as an address closes the connection, other names are not found.
#[test]
fn forged_reply_addresses() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&["a1 consume amq.rabbitmq.reply-to c no_ack", "a1 declare q"]);
        rig.prepare(&["a1 publish - q m p.reply_to=amq.rabbitmq.reply-to"]);
        let request = rig.core.messages("/", "q").remove(0).message;
        let address = request.decoded_properties().reply_to().unwrap().to_owned();
        let (process, _) = address.rsplit_once('.').unwrap();
        let (crash, missing) = ("b0 close 541 INTERNAL_ERROR", "b1 close 404 NOT_FOUND - no queue");
        for (name, expected) in [
            (address.clone(), "b1 declared"),
            (format!("{address}x"), missing),
            ("amq.rabbitmq.reply-to.x.y".into(), crash),
            (process.to_owned(), if line < Line::V4_3 { missing } else { crash }),
        ] {
            let answers = rig.say(&format!("b1 declare {name} passive"));
            assert!(answers.len() == 1 && answers[0].starts_with(expected), "{line:?} {answers:?}");
            rig.prepare(&["drop b"]);
        }
    }
}
