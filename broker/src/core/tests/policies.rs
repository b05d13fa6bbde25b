//! What policies do: asked of nodes of 3.10.8, 4.0.5 and 4.3.6.

use actix_pika_actors::Value;

use super::rig::Rig;
use crate::core::{ApplyTo, By, Core, CoreConfig, InvalidPolicy, Keep, Line, Policy, Time};

const LINES: [Line; 4] = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];
const KINDS: [&str; 2] = ["", " x-queue-type=Squorum"];

/// The headers of the first `basic.get` of a message.
fn first(rig: &Rig, kind: &str) -> &'static str {
    if rig.core.config().line == Line::V3_10 && !kind.is_empty() { " [..]" } else { "" }
}

fn for_each(mut check: impl FnMut(Rig, &str)) {
    for line in LINES {
        for kind in KINDS {
            check(Rig::new(line), kind);
        }
    }
}

/// What is too much goes when the policy comes, and dead letters take its way; without it there is no limit again.
#[test]
fn a_limit_holds_at_once_and_until_it_is_removed() {
    for_each(|mut rig, kind| {
        rig.prepare(&["a1 declare dead", &format!("a1 declare q durable{kind}")]);
        rig.prepare(&["a1 publish - q 1", "a1 publish - q 2", "a1 publish - q 3"]);
        rig.prepare(&[
            "policy p ^q queues max-length=I1 dead-letter-exchange=S dead-letter-routing-key=Sdead",
        ]);
        // A quorum queue dead-letters the last one first, up to 4.0.
        let is_reversed = rig.core.config().line < Line::V4_3 && !kind.is_empty();
        let (first, second) = if is_reversed { (2, 1) } else { (1, 2) };
        let (one, two) =
            (format!("a1 got 1 {first} [..], 1 left"), format!("a1 got 2 {second} [..], 0 left"));
        rig.check(&[
            ("a1 declare q passive", &["a1 declared q 1 0"]),
            ("a1 get dead", &[&one]),
            ("a1 get dead", &[&two]),
        ]);
        rig.prepare(&["a1 publish - q 4"]);
        rig.check(&[("a1 declare q passive", &["a1 declared q 1 0"])]);
        rig.prepare(&["policy p", "a1 publish - q 5", "a1 publish - q 6"]);
        rig.check(&[("a1 declare q passive", &["a1 declared q 3 0"])]);
    });
}

/// Of two numbers the smaller one holds, whoever says it.
#[test]
fn the_smaller_limit_holds() {
    for_each(|mut rig, kind| {
        for (name, argument, policy) in [("q1", 1, 2), ("q2", 2, 1)] {
            rig.prepare(&[
                &format!("a1 declare {name} durable x-max-length=I{argument}{kind}"),
                &format!("policy p ^q queues max-length=I{policy}"),
                &format!("a1 publish - {name} 1"),
                &format!("a1 publish - {name} 2"),
                &format!("a1 publish - {name} 3"),
            ]);
            let declared = format!("a1 declared {name} 1 0");
            rig.check(&[(&format!("a1 declare {name} passive"), &[&declared])]);
        }
    });
}

/// Of anything else the argument holds; a policy may add the key to the exchange of an argument.
#[test]
fn an_argument_wins_over_a_policy() {
    for_each(|mut rig, kind| {
        let again = if rig.core.config().line == Line::V4_3 { " again" } else { "" };
        rig.prepare(&[
            "a1 declare d1",
            "a1 declare d2",
            &format!("a1 declare q1 durable x-dead-letter-exchange=S x-dead-letter-routing-key=Sd1{kind}"),
            &format!("a1 declare q2 durable x-dead-letter-exchange=S{kind}"),
            &format!("a1 declare r durable{kind}"),
            "policy p ^q queues dead-letter-exchange=Sgone dead-letter-routing-key=Sd2",
            "policy r ^r queues dead-letter-routing-key=Sd2",
        ]);
        let mut tag = 0;
        for (queue, target) in [("q1", Some("d1")), ("q2", Some("d2")), ("r", None)] {
            tag += 1;
            let got = format!("a1 got {tag} m{}, 0 left", first(&rig, kind));
            rig.prepare(&[&format!("a1 publish - {queue} m")]);
            rig.check(&[(&format!("a1 get {queue}"), &[&got]), (&format!("a1 reject {tag}"), &[])]);
            if let Some(target) = target {
                tag += 1;
                let dead = format!("a1 got {tag} m [..]{again}, 0 left");
                rig.check(&[(&format!("a1 get {target}"), &[&dead])]);
            }
        }
        rig.check(&[("a1 get d1", &["a1 empty"]), ("a1 get d2", &["a1 empty"])]);
    });
}

/// A delivery that is out goes the way of the policy at its end.
#[test]
fn the_policy_at_the_death_counts() {
    for_each(|mut rig, kind| {
        let again = if rig.core.config().line == Line::V4_3 { " again" } else { "" };
        rig.prepare(&["a1 declare dead", &format!("a1 declare q durable{kind}"), "a1 publish - q m"]);
        let got = format!("a1 got 1 m{}, 0 left", first(&rig, kind));
        rig.check(&[("a1 get q", &[&got])]);
        rig.prepare(&["policy p ^q all dead-letter-exchange=S dead-letter-routing-key=Sdead", "a1 reject 1"]);
        let dead = format!("a1 got 2 m [..]{again}, 0 left");
        rig.check(&[("a1 get dead", &[&dead])]);
    });
}

/// Messages that are there keep what they had, and those without a deadline stand before those with one.
#[test]
fn a_time_to_live_is_for_messages_that_come() {
    for_each(|mut rig, kind| {
        rig.prepare(&[
            &format!("a1 declare q durable{kind}"),
            "a1 publish - q 1",
            "policy p ^q queues message-ttl=I200",
            "a1 publish - q 2",
            "advance 500",
        ]);
        rig.check(&[("a1 declare q passive", &["a1 declared q 2 0"])]);
        let headers = first(&rig, kind);
        let got = [(1, 1), (2, 3)].map(|(tag, body)| format!("a1 got {tag} {body}{headers}, 0 left"));
        rig.check(&[("a1 get q no_ack", &[&got[0]])]);
        rig.prepare(&["policy p", "a1 publish - q 3", "advance 500"]);
        rig.check(&[("a1 get q no_ack", &[&got[1]])]);
    });
}

/// The time without use begins when the policy comes, and use begins it anew.
#[test]
fn a_queue_expires_by_a_policy() {
    for line in LINES {
        for argument in ["", " x-expires=I60000"] {
            let mut rig = Rig::new(line);
            rig.prepare(&[
                &format!("a1 declare q durable{argument}"),
                "advance 700",
                "policy p ^q queues expires=I1200",
                "advance 500",
            ]);
            rig.check(&[("a1 declare q passive", &["a1 declared q 0 0"])]);
            rig.prepare(&["advance 800"]);
            rig.check(&[("a1 declare q passive", &["a1 declared q 0 0"])]);
            rig.prepare(&["advance 1500"]);
            rig.check(&[(
                "a1 declare q passive",
                &["a1 close 404 NOT_FOUND - no queue 'q' in vhost '/' at 50 10"],
            )]);
        }
    }
}

#[test]
fn without_its_policy_a_queue_stays() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&["a1 declare q durable", "policy p ^q queues expires=I500", "policy p", "advance 900"]);
        rig.check(&[("a1 declare q passive", &["a1 declared q 0 0"])]);
    }
}

#[test]
fn overflow_by_a_policy() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare q durable",
            "policy p ^q queues max-length=I1 overflow=Sreject-publish",
            "a1 confirm",
        ]);
        rig.check(&[("a1 publish - q m", &["a1 ack 1"]), ("a1 publish - q m", &["a1 nack 2 multiple"])]);
        rig.prepare(&["policy p ^q queues max-length=I1"]);
        rig.check(&[("a1 publish - q n", &["a1 ack 3"]), ("a1 get q", &["a1 got 1 n, 0 left"])]);
    }
}

/// The smaller limit; a negative one is none, against which the other one holds.
#[test]
fn delivery_limits() {
    for line in LINES {
        for (argument, policy, deliveries) in [
            (Some(2), Some(1), 2),
            (Some(1), Some(2), 2),
            (None, Some(1), 2),
            (Some(1), Some(-1), 2),
            (Some(-1), Some(1), 2),
        ] {
            if line < Line::V4_0 && [argument, policy].contains(&Some(-1)) {
                continue;
            }
            let mut rig = Rig::new(line);
            let argument = argument.map(|limit| format!(" x-delivery-limit=I{limit}")).unwrap_or_default();
            rig.prepare(&[&format!("a1 declare q durable x-queue-type=Squorum{argument}")]);
            if let Some(limit) = policy {
                rig.prepare(&[&format!("policy p ^q queues delivery-limit=I{limit}")]);
            }
            rig.prepare(&["a1 publish - q m"]);
            for tag in 1..=deliveries {
                let headers = if tag == 1 && line > Line::V3_10 { "" } else { " [..]" };
                let again = if tag == 1 { "" } else { " again" };
                rig.check(&[("a1 get q", &[&format!("a1 got {tag} m{headers}{again}, 0 left")])]);
                rig.prepare(&[&format!("a1 reject {tag} requeue")]);
            }
            rig.check(&[("a1 get q", &["a1 empty"])]);
        }
    }
}

/// A limit that drops a message lays bare another one that has expired behind it long ago. It dies now.
#[test]
fn what_a_new_limit_lays_bare_expires_now() {
    for line in LINES {
        for kind in ["classic", "quorum"] {
            let mut rig = Rig::with(CoreConfig { line, ..CoreConfig::default() });
            rig.prepare(&[
                "a1 declare d x-message-ttl=I60000",
                &format!(
                    "a1 declare q durable x-queue-type=S{kind} x-dead-letter-exchange=S \
                     x-dead-letter-routing-key=Sd"
                ),
                "a1 publish - q a",
                "a1 publish - q b p.expiration=10",
                "a1 publish - q c",
                "advance 3600000",
                "policy p ^q$ queues max-length=I2",
            ]);
            rig.check(&[
                ("a1 declare d passive", &["a1 declared d 2 0"]),
                ("a1 declare q passive", &["a1 declared q 1 0"]),
                ("advance 59999", &[]),
                ("a1 declare d passive", &["a1 declared d 2 0"]),
                ("advance 1", &[]),
                ("a1 declare d passive", &["a1 declared d 0 0"]),
            ]);
        }
    }
}

#[test]
fn an_alternate_exchange_by_a_policy() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare q",
            "a1 xdeclare unrouted fanout",
            "a1 bind q unrouted -",
            "a1 xdeclare x direct",
            "a1 xdeclare y direct alternate-exchange=Sgone",
            "policy p ^[xy] exchanges alternate-exchange=Sunrouted",
            "policy amq ^amq exchanges alternate-exchange=Sunrouted",
            "policy later ^z all alternate-exchange=Sunrouted",
            "a1 xdeclare z direct",
            "a1 publish x none 1",
            "a1 publish y none 2",
            "a1 publish amq.direct none 3",
            "a1 publish z none 4",
            "policy p",
            "a1 publish x none 5",
        ]);
        rig.check(&[
            ("a1 get q", &["a1 got 1 1 via x none, 2 left"]),
            ("a1 get q", &["a1 got 2 3 via amq.direct none, 1 left"]),
            ("a1 get q", &["a1 got 3 4 via z none, 0 left"]),
        ]);
    }
}

fn applied(line: Line, policies: &[(&str, Policy)], queue: &str) -> (Option<String>, Option<u64>) {
    let mut rig = Rig::with(CoreConfig { line, ..CoreConfig::default() });
    for (name, policy) in policies {
        let (by, name) = match name.strip_prefix("operator-") {
            Some(name) => (By::Operator, name),
            None => (By::User, &**name),
        };
        rig.core.set_policy(Time::ZERO, by, "/", name, policy).unwrap();
    }
    rig.prepare(&[&format!("a1 declare q durable{queue}")]);
    let view = rig.core.queue("/", "q").unwrap();
    (view.policy.map(|name| name.to_string()), view.settings.max_length)
}

/// The highest priority; one that has a setting for other kinds of queues does not apply at all.
#[test]
fn one_policy_applies() {
    let limit = |priority: i32, limit: i32| Policy::new("^q").set("max-length", limit).priority(priority);
    for line in LINES {
        let found = |policies: &[(&str, Policy)], queue| applied(line, policies, queue);
        let one = |name: &str, limit| (Some(name.to_owned()), Some(limit));
        assert_eq!(found(&[("a", limit(1, 5)), ("b", limit(2, 9))], ""), one("b", 9));
        assert_eq!(found(&[("b", limit(0, 9)), ("a", limit(0, 5))], ""), one("a", 5));
        let of_quorum = limit(5, 7).set("delivery-limit", 3);
        let both = [("a", limit(1, 5)), ("b", of_quorum)];
        assert_eq!(found(&both, ""), one("a", 5));
        assert_eq!(found(&both, " x-queue-type=Squorum"), one("b", 7));
        assert_eq!(found(&both, " x-queue-type=Sstream"), (None, None));
        let exchanges = [("a", limit(0, 5).apply_to(ApplyTo::Exchanges))];
        assert_eq!(found(&exchanges, ""), (None, None));
        let operator = [("a", limit(0, 5)), ("operator-o", limit(0, 3)), ("operator-p", limit(-1, 1))];
        assert_eq!(found(&operator, ""), one("a", 3));
        assert_eq!(found(&[("operator-o", limit(0, 3))], ""), (None, Some(3)));
        if line > Line::V3_10 {
            let classic = [("a", limit(0, 5).apply_to(ApplyTo::ClassicQueues))];
            assert_eq!(found(&classic, ""), one("a", 5));
            assert_eq!(found(&classic, " x-queue-type=Squorum"), (None, None));
        }
    }
}

/// An operator limits, and from 3.13 on chooses the overflow.
#[test]
fn operators_and_overflow() {
    for line in [Line::V4_0, Line::V4_3] {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare q durable",
            "policy p ^q queues max-length=I5 overflow=Sreject-publish",
            "operator o ^q queues max-length=I1 overflow=Sdrop-head",
            "a1 confirm",
        ]);
        rig.check(&[
            ("a1 publish - q 1", &["a1 ack 1"]),
            ("a1 publish - q 2", &["a1 ack 2"]),
            ("a1 get q", &["a1 got 1 2, 0 left"]),
        ]);
    }
}

fn refusal(line: Line, policy: Policy) -> String {
    let mut core = Core::new(CoreConfig { line, ..CoreConfig::default() });
    core.set_policy(Time::ZERO, By::User, "/", "p", &policy).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_is_named_as_rabbitmq_does() {
    let of = |setting, value: Value| Policy::new("").set(setting, value);
    for (setting, value, reason) in [
        ("message-ttl", Value::from("b"), "<<\"b\">> is not a valid message TTL"),
        ("expires", 0.into(), "0 is not a valid queue expiry"),
        ("max-length", (-1).into(), "-1 is not a valid maximum length"),
        ("max-length-bytes", true.into(), "true is not a valid maximum length in bytes"),
        ("overflow", "no".into(), "<<\"no\">> is not a valid overflow value"),
        ("dead-letter-exchange", 1.into(), "1 is not a valid dead letter exchange name"),
        ("delivery-limit", 1.5.into(), "1.5 is not a valid delivery limit"),
        ("no-such", 1.into(), "[{<<\"no-such\">>,1}] are not recognised policy settings"),
    ] {
        for line in LINES {
            assert_eq!(refusal(line, of(setting, value.clone())), reason, "{line:?}");
        }
    }
    assert_eq!(refusal(Line::V3_10, of("delivery-limit", (-1).into())), "-1 is not a valid delivery limit");
    assert_eq!(
        refusal(Line::V3_10, of("consumer-timeout", 5.into())),
        "[{<<\"consumer-timeout\">>,5}] are not recognised policy settings"
    );
    assert_eq!(
        refusal(Line::V4_0, of("ha-mode", "all".into())),
        "[{<<\"ha-mode\">>,<<\"all\">>}] are not recognised policy settings"
    );
    assert_eq!(refusal(Line::V4_3, Policy::new("")), "no policy provided");
    assert!(refusal(Line::V4_3, of("max-age", "x".into())).contains("is not a valid max age"));
    let mut core = Core::new(CoreConfig::default());
    let policy = of("expires", 5.into());
    assert_eq!(
        core.set_policy(Time::ZERO, By::User, "no", "p", &policy),
        Err(InvalidPolicy::NoVirtualHost("no".to_owned()))
    );
    let operator =
        core.set_policy(Time::ZERO, By::Operator, "/", "p", &of("dead-letter-exchange", "x".into()));
    assert!(operator.unwrap_err().to_string().ends_with("are not recognised policy settings"));
    let broken = core.set_policy(Time::ZERO, By::User, "/", "p", &Policy::new("(").set("expires", 5));
    assert!(matches!(broken, Err(InvalidPolicy::Pattern(_))));
}

#[test]
fn policies_outlive_a_restart_but_not_the_loss_of_the_disk() {
    let mut rig = Rig::with(CoreConfig::default());
    rig.prepare(&["policy p ^q queues max-length=I1"]);
    for (keep, limit) in [(Keep::Durable, Some(1)), (Keep::Nothing, None)] {
        rig.core.restart(Time::ZERO, keep);
        rig.answers();
        rig.connect_as('b', "guest");
        rig.prepare(&["b1 open", "b1 declare q durable"]);
        assert_eq!(rig.core.queue("/", "q").unwrap().settings.max_length, limit);
    }
}
