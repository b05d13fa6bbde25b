//! The texts of broker.md sections 2 and 3.

use actix_pika_actors::{Table, Value};

use super::*;
use crate::core::{Close, Overflow, QueueKind, topology::DeadLetterTo};

const LINES: [Line; 4] = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];
const RESOURCE: &str = "queue 'q' in vhost 'v'";
const DURABLE: QueueFlags = QueueFlags { durable: true, exclusive: false, auto_delete: false };

fn closes_channel(failure: Failure) -> String {
    match failure {
        Failure::Channel(Close { code: 406, text, .. }) => text.into_owned(),
        other => panic!("{other:?}"),
    }
}

fn declare(line: Line, arguments: &Table) -> Result<CheckedQueue, Failure> {
    declare_with(line, arguments, DURABLE, RESOURCE)
}

fn declare_with(
    line: Line,
    arguments: &Table,
    flags: QueueFlags,
    resource: &str,
) -> Result<CheckedQueue, Failure> {
    let checked = queue(arguments, line, resource)?;
    check_kind(checked.fixed.kind, arguments, line, flags, resource)?;
    Ok(checked)
}

fn declared(arguments: &Table) -> CheckedQueue {
    declare(Line::V4_3, arguments).unwrap()
}

/// What a queue does without a policy.
fn settings_of(line: Line, checked: &CheckedQueue) -> QueueSettings {
    checked.terms(line, &QueueOptions::default()).settings
}

fn refusal(line: Line, arguments: &Table) -> String {
    closes_channel(declare(line, arguments).unwrap_err())
}

fn one(key: &str, value: impl Into<Value>) -> Table {
    Table::new().with(key, value.into())
}

fn of_type(kind: &str) -> Table {
    one("x-queue-type", kind)
}

/// Section 2: the reasons.
#[test]
fn an_invalid_argument_is_named_with_its_reason() {
    for (key, value, reason) in [
        ("x-expires", Value::from(-1), "{value_negative,-1}"),
        ("x-expires", 0.into(), "{value_zero,0}"),
        ("x-expires", 315_360_000_001i64.into(), "{value_too_large,315360000001}"),
        ("x-expires", "5".into(), "\"expected integer, got longstr\""),
        ("x-message-ttl", (-1i64).into(), "{value_negative,-1}"),
        ("x-message-ttl", true.into(), "\"expected integer, got bool\""),
        ("x-message-ttl", 1.0.into(), "\"expected integer, got double\""),
        ("x-message-ttl", Value::Timestamp(5), "\"expected integer, got timestamp\""),
        ("x-message-ttl", Value::Void, "\"expected integer, got void\""),
        ("x-max-priority", 256.into(), "{max_value_exceeded,256}"),
        ("x-max-priority", (-1).into(), "{value_negative,-1}"),
        ("x-max-length", (-7).into(), "{value_negative,-7}"),
        ("x-overflow", 1.into(), "{unacceptable_type,signedint}"),
        ("x-overflow", "no".into(), "invalid_overflow"),
        ("x-dead-letter-routing-key", "k".into(), "routing_key_but_no_dlx_defined"),
        ("x-queue-type", "no".into(), "\"unsupported queue type 'no'\""),
        ("x-queue-type", 1.into(), "{unacceptable_type,signedint}"),
        ("x-single-active-consumer", 1.into(), "{unacceptable_type,signedint}"),
        ("x-queue-version", 3.into(), "\"unsupported queue version '3'\""),
    ] {
        for line in LINES {
            let expected = format!("invalid arg '{key}' for {RESOURCE}: {reason}");
            assert_eq!(refusal(line, &one(key, value.clone())), expected);
        }
    }
    let age = of_type("stream").with("x-max-age", "5x");
    assert_eq!(refusal(Line::V4_3, &age), format!("invalid arg 'x-max-age' for {RESOURCE}: invalid_max_age"));
}

/// Section 3: every integer type is accepted for a new queue, but a timestamp.
#[test]
fn integers_of_all_types_are_accepted() {
    for value in
        [Value::from(5i8), 5u8.into(), 5i16.into(), 5u16.into(), 5i32.into(), 5u32.into(), 5i64.into()]
    {
        assert_eq!(settings_of(Line::V4_3, &declared(&one("x-message-ttl", value))).message_ttl, Some(5));
    }
    assert_eq!(settings_of(Line::V4_3, &declared(&one("x-message-ttl", 0))).message_ttl, Some(0));
    let longest = one("x-expires", 315_360_000_000i64);
    assert_eq!(declared(&longest).options.expires, Some(315_360_000_000));
}

/// Section 2: a known argument that this type does not take; unknown ones are never an error.
#[test]
fn an_argument_of_another_type_is_refused() {
    for (kind, key, value, module) in [
        ("classic", "x-delivery-limit", Value::from(5), "rabbit_classic_queue"),
        ("classic", "x-max-age", "1h".into(), "rabbit_classic_queue"),
        ("quorum", "x-max-priority", 5.into(), "rabbit_quorum_queue"),
        ("quorum", "x-max-priority", "senseless".into(), "rabbit_quorum_queue"),
        ("stream", "x-message-ttl", 5.into(), "rabbit_stream_queue"),
        ("stream", "x-max-length", 5.into(), "rabbit_stream_queue"),
    ] {
        for line in LINES {
            let expected = format!("invalid arg '{key}' for {RESOURCE} of queue type {module}");
            assert_eq!(refusal(line, &of_type(kind).with(key, value.clone())), expected);
        }
    }
    for kind in ["classic", "quorum", "stream"] {
        let unknown = of_type(kind).with("x-unknown", "a").with("plain", 1);
        assert!(LINES.iter().all(|line| declare(*line, &unknown).is_ok()));
    }
    // A value of an argument of its own is looked at first.
    let both = of_type("quorum").with("x-max-priority", 5).with("x-message-ttl", -1);
    assert!(refusal(Line::V4_0, &both).ends_with("{value_negative,-1}"));
}

/// Section 2: quorum and stream. Exclusive wins over non-durable.
#[test]
fn quorum_queues_and_streams_are_durable() {
    let refusal = |kind: &str, durable, exclusive, auto_delete| {
        let flags = QueueFlags { durable, exclusive, auto_delete };
        declare_with(Line::V4_3, &of_type(kind), flags, RESOURCE).map(drop).map_err(closes_channel)
    };
    for kind in ["quorum", "stream"] {
        let text = |property: &str| Err(format!("invalid property '{property}' for {RESOURCE}"));
        assert_eq!(refusal(kind, false, false, false), text("non-durable"));
        assert_eq!(refusal(kind, true, false, true), text("auto-delete"));
        assert_eq!(refusal(kind, true, true, false), text("exclusive-owner"));
        assert_eq!(refusal(kind, false, true, false), text("exclusive-owner"));
        assert_eq!(refusal(kind, true, false, false), Ok(()));
    }
    assert_eq!(refusal("classic", false, true, true), Ok(()));
}

/// Section 16: x-queue-version 1.
#[test]
fn version_1_of_classic_queues_is_refused_in_4_3() {
    let version = one("x-queue-version", 1);
    for line in [Line::V3_10, Line::V3_13, Line::V4_0] {
        assert!(declare(line, &version).is_ok());
    }
    let expected = format!("invalid arg 'x-queue-version' for {RESOURCE}: \"unsupported queue version '1'\"");
    assert_eq!(refusal(Line::V4_3, &version), expected);
    assert!(LINES.iter().all(|line| declare(*line, &one("x-queue-version", 2)).is_ok()));
}

/// Section 11: the default limit of deliveries is 20 from 4.0 on, and -1 means none.
#[test]
fn delivery_limits() {
    let limit = |line, arguments: &Table| match settings_of(line, &declare(line, arguments).unwrap()).kind {
        QueueKind::Quorum { delivery_limit } => delivery_limit,
        other => panic!("{other:?}"),
    };
    let quorum = of_type("quorum");
    assert_eq!(LINES.map(|line| limit(line, &quorum)), [None, None, Some(20), Some(20)]);
    let with = |value: i64| quorum.clone().with("x-delivery-limit", value);
    assert_eq!(LINES.map(|line| limit(line, &with(3))), [Some(3); 4]);
    // Until 3.13, a negative one allows no redelivery.
    assert_eq!(LINES.map(|line| limit(line, &with(-1))), [Some(0), Some(0), None, None]);
}

#[test]
fn arguments_become_settings() {
    let arguments = Table::new()
        .with("x-max-priority", 9)
        .with("x-max-length", 10)
        .with("x-max-length-bytes", 100)
        .with("x-overflow", "reject-publish-dlx")
        .with("x-single-active-consumer", true)
        .with("x-dead-letter-exchange", "dlx")
        .with("x-dead-letter-routing-key", "k");
    let checked = declared(&arguments);
    let settings = QueueSettings {
        line: Line::V4_3,
        kind: QueueKind::Classic { max_priority: Some(9) },
        message_ttl: None,
        max_length: Some(10),
        max_bytes: Some(100),
        overflow: Overflow::RejectPublishDeadLetter,
        single_active: true,
        consumer_timeout: None,
        delayed_retry: None,
        at_least_once: false,
    };
    let terms = checked.terms(Line::V4_3, &QueueOptions::default());
    assert_eq!((terms.settings, terms.expires), (settings, None));
    assert_eq!(terms.dead_letter, Some(DeadLetterTo { exchange: "dlx".into(), key: Some("k".into()) }));
    let stream = of_type("stream").with("x-max-age", "2h").with("x-stream-max-segment-size-bytes", 1000);
    let kind = QueueKind::Stream { max_age: Some(7_200_000), segment_bytes: 1000 };
    assert_eq!(settings_of(Line::V4_3, &declared(&stream)).kind, kind);
    let large = of_type("stream").with("x-stream-max-segment-size-bytes", 3_000_000_001i64);
    assert_eq!(refusal(Line::V4_3, &large), "Exceeded max value for x-stream-max-segment-size-bytes");
}

fn difference(current: &Table, received: &Table) -> Result<(), String> {
    let settings = settings_of(Line::V4_0, &declare(Line::V4_0, &Table::new()).unwrap());
    same_queue(current, received, &settings, RESOURCE).map_err(closes_channel)
}

/// Section 2: the texts of a difference.
#[test]
fn a_difference_is_named() {
    let text = |key: &str, received: &str, current: &str| {
        Err(format!("inequivalent arg '{key}' for {RESOURCE}: received {received} but current is {current}"))
    };
    let ttl = |value: Value| one("x-message-ttl", value);
    for (current, received, expected) in [
        (ttl(5.into()), ttl(6.into()), text("x-message-ttl", "'6'", "'5'")),
        (
            Table::new(),
            ttl(1000.into()),
            text("x-message-ttl", "the value '1000' of type 'signedint'", "none"),
        ),
        (ttl(1000i64.into()), Table::new(), text("x-message-ttl", "none", "the value '1000' of type 'long'")),
        (
            Table::new(),
            one("x-dead-letter-exchange", "p.ae"),
            text("x-dead-letter-exchange", "the value 'p.ae' of type 'longstr'", "none"),
        ),
        (ttl(5.into()), ttl("5".into()), text("x-message-ttl", "'5'", "'5'")),
        (ttl(1.into()), ttl(1.0.into()), text("x-message-ttl", "'1.0'", "'1'")),
        (ttl(1.into()), ttl(true.into()), text("x-message-ttl", "'true'", "'1'")),
        (ttl(1.into()), ttl(Table::new().into()), text("x-message-ttl", "'[]'", "'1'")),
        (ttl(1.into()), ttl(Value::Void), text("x-message-ttl", "none", "'1'")),
        (
            Table::new(),
            of_type("quorum"),
            text("x-queue-type", "the value 'quorum' of type 'longstr'", "none"),
        ),
        (of_type("classic"), of_type("quorum"), text("x-queue-type", "'quorum'", "'classic'")),
        (of_type("classic"), Table::new(), Ok(())),
        (Table::new(), of_type("classic"), Ok(())),
        (ttl(5.into()), ttl(5u8.into()), Ok(())),
        (ttl(5.into()), ttl(Value::Timestamp(5)), Ok(())),
        (Table::new(), one("x-unknown", 1), Ok(())),
        (one("x-max-age", "1h"), one("x-max-age", "2h"), Ok(())),
    ] {
        assert_eq!(difference(&current, &received), expected);
    }
}

/// Section 3: a decimal in a redeclaration breaks the server.
#[test]
fn a_decimal_is_an_internal_error() {
    let decimal = one("x-message-ttl", Value::Decimal { scale: 0, value: 5 });
    let settings = settings_of(Line::V4_3, &declared(&Table::new()));
    let failure = same_queue(&one("x-message-ttl", 5), &decimal, &settings, RESOURCE);
    assert_eq!(failure, Err(Failure::connection(541, "")));
}

/// Section 3: of exchanges, `alternate-exchange` alone is compared.
#[test]
fn exchanges_compare_their_alternate() {
    let resource = "exchange 'x' in vhost 'v'";
    let same = |current: &Table, received: &Table| {
        same_arguments(current, received, &["alternate-exchange"], resource).map_err(closes_channel)
    };
    let ae = one("alternate-exchange", "p.ae");
    let expected = "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost 'v': received the value 'p.ae' of type \
                    'longstr' but current is none";
    assert_eq!(same(&Table::new(), &ae), Err(expected.to_owned()));
    assert_eq!(same(&ae, &ae.clone().with("other", 1)), Ok(()));
}

fn consume(line: Line, kind: &str, arguments: &Table) -> Result<ConsumerArguments, Failure> {
    consumer(arguments, &settings_of(line, &declare(line, &of_type(kind)).unwrap()), RESOURCE)
}

/// Sections 2, 6 and 13.
#[test]
fn arguments_of_consumers() {
    let priority = one("x-priority", "5");
    for line in LINES {
        for kind in ["classic", "quorum"] {
            assert_eq!(consume(line, kind, &one("x-priority", -5i64)).unwrap().priority, -5);
            assert_eq!(
                consume(line, kind, &priority).map_err(closes_channel),
                Err(format!("invalid arg 'x-priority' for {RESOURCE}: \"expected integer, got longstr\""))
            );
            assert_eq!(
                consume(line, kind, &one("x-stream-offset", "first")).map_err(closes_channel),
                Err(format!(
                    "invalid arg 'x-stream-offset' for {RESOURCE} of queue type rabbit_{kind}_queue"
                ))
            );
        }
        assert!(consume(line, "stream", &one("x-unknown", 5)).is_ok());
    }
}

/// Section 13: x-stream-offset.
#[test]
fn stream_offsets() {
    use OffsetSpec::{Age, First, Last, Next, Number, Timestamp};
    let offset = |line, value: Value| {
        consume(line, "stream", &one("x-stream-offset", value)).map(|found| found.offset)
    };
    for line in LINES {
        assert_eq!(consume(line, "stream", &Table::new()).unwrap().offset, Next);
        for (value, expected) in [
            (Value::from("first"), First),
            ("last".into(), Last),
            ("next".into(), Next),
            (5u8.into(), Number(5)),
            (5i64.into(), Number(5)),
            (Value::Timestamp(1_700_000_000), Timestamp(1_700_000_000)),
            ("1h".into(), Age(3_600_000)),
            ("2m".into(), Age(120_000)),
            ("3s".into(), Age(3000)),
            ("1D".into(), Age(86_400_000)),
            ("1M".into(), Age(30 * 86_400_000)),
            ("1Y".into(), Age(365 * 86_400_000)),
            (Value::from(&b"first"[..]), First),
            ((-1).into(), Number(0)),
        ] {
            assert_eq!(offset(line, value), Ok(expected));
        }
        let text = format!(
            "invalid arg 'x-stream-offset' for {RESOURCE}: {{invalid_stream_offset_arg,{{longstr,<<\"5\">>}}}}"
        );
        assert_eq!(offset(line, "5".into()).map_err(closes_channel), Err(text));
        for (senseless, told) in [
            (Value::from("no"), "{longstr,<<\"no\">>}}"),
            ("".into(), "{longstr,<<>>}}"),
            (true.into(), ""),
            (Value::Void, ""),
            (vec![Value::from(1)].into(), ""),
        ] {
            let refused = offset(line, senseless);
            if line < Line::V4_3 || !told.starts_with("{longstr") {
                assert_eq!(refused, Err(Failure::connection(541, "")));
            } else {
                assert!(closes_channel(refused.unwrap_err()).ends_with(told));
            }
        }
    }
}

/// What 3.10.8 answered to declarations with one argument: the kind of queue, the argument, its type and value, the answer.
/// `Q` is the queue.
#[test]
fn odd_arguments_are_answered_as_by_a_node() {
    let asked = include_str!("asked_of_3_10.txt");
    let mut rows = 0;
    for row in asked.lines() {
        let [kind, key, value, expected] = row.splitn(4, " | ").collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let (type_of, text) = value.split_once(' ').unwrap_or((value, ""));
        let value = match type_of {
            "int" => text.parse::<i32>().unwrap().into(),
            "long" => text.parse::<i64>().unwrap().into(),
            "text" => text.into(),
            "bool" => true.into(),
            "bytes" => Value::from(text.as_bytes()),
            "time" => Value::Timestamp(5),
            "void" => Value::Void,
            "table" => Table::new().into(),
            "array" => vec![Value::from(1)].into(),
            "decimal" => Value::Decimal { scale: 0, value: 5 },
            other => panic!("{other}"),
        };
        let arguments = of_type(kind).with(key, value);
        let answer = match declare_with(Line::V3_10, &arguments, DURABLE, "Q") {
            Ok(_) => "ok".to_owned(),
            Err(Failure::Channel(close)) => format!("{} {}", close.code, close.text),
            Err(Failure::Connection(close)) => close.code.to_string(),
        };
        assert_eq!(answer, expected, "{row}");
        rows += 1;
    }
    assert!(rows > 300, "{rows}");
}
