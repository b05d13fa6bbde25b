//! Properties and headers through a real broker: the round trip keeps every bit, and another client reads the same
//! values.

use std::time::{Duration, SystemTime};

use crate::support::oracle::Oracle;
use actix_pika::{
    Error, ErrorKind, Publishing,
    message::{DeliveryMode, Get, Properties, Table, Value},
};
use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, DecimalValue, FieldArray, FieldTable},
};

const TIME: u64 = 1_700_000_123;

fn time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(TIME)
}

fn all_properties() -> Properties {
    Properties::new()
        .with_content_type("text/plain")
        .with_content_encoding("gzip")
        .with_headers(every_type())
        .with_delivery_mode(DeliveryMode::Persistent)
        .with_priority(0)
        .with_correlation_id("1")
        .with_reply_to("answers")
        .with_expiration(Duration::from_millis(91_500))
        .with_message_id("")
        .with_timestamp(time())
        .with_message_type("a type")
        .with_user_id("guest")
        .with_app_id("Grüße \u{1F980}")
        .with_cluster_id("c".repeat(255))
}

/// Returns headers with every type of field value, at the ends of its range.
fn every_type() -> Table {
    let inner = Table::new().with("again", Table::new().with("void", Value::Void)).with("n", -1i64);
    let array = Value::Array(vec![
        Value::Boolean(false),
        Value::Array(vec![]),
        Value::Table(Table::new()),
        Value::ByteArray(Bytes::from_static(b"\0\xff")),
    ]);
    Table::new()
        .with("t", true)
        .with("b", i8::MIN)
        .with("B", u8::MAX)
        .with("s", i16::MIN)
        .with("u", u16::MAX)
        .with("I", i32::MIN)
        .with("i", u32::MAX)
        .with("l", i64::MIN)
        .with("f", 1.5f32)
        .with("f-denormal", f32::from_bits(1))
        .with("d", -0.0f64)
        .with("d-denormal", f64::from_bits(1))
        .with("D", Value::Decimal { scale: 3, value: 56 })
        .with("D-least", Value::Decimal { scale: 255, value: i32::MIN })
        .with("S", "text")
        .with("S-empty", "")
        .with("S-bytes", Value::LongString(vec![0xc3, 0x28, 0].into()))
        .with("S-long", "s".repeat(256))
        .with("A", array)
        .with("T", Value::Timestamp(u64::MAX))
        .with("F", inner)
        .with("x", Value::ByteArray(Bytes::from_static(b"\0\x01\xff")))
        .with("V", Value::Void)
        .with("k".repeat(255), 42)
        .with("", "an empty key")
}

/// Returns the same values in the types of the other client.
fn every_type_in_lapin() -> Vec<(String, AMQPValue)> {
    let long = |bytes: &[u8]| AMQPValue::LongString(bytes.to_vec().into());
    let table = |entries: Vec<(&str, AMQPValue)>| {
        let mut table = FieldTable::default();
        for (key, value) in entries {
            table.insert(key.into(), value);
        }
        AMQPValue::FieldTable(table)
    };
    let again = table(vec![("void", AMQPValue::Void)]);
    let array = FieldArray::from(vec![
        AMQPValue::Boolean(false),
        AMQPValue::FieldArray(FieldArray::default()),
        table(vec![]),
        AMQPValue::ByteArray(vec![0, 0xff].into()),
    ]);
    let entries = [
        ("t", AMQPValue::Boolean(true)),
        ("b", AMQPValue::ShortShortInt(i8::MIN)),
        ("B", AMQPValue::ShortShortUInt(u8::MAX)),
        ("s", AMQPValue::ShortInt(i16::MIN)),
        ("u", AMQPValue::ShortUInt(u16::MAX)),
        ("I", AMQPValue::LongInt(i32::MIN)),
        ("i", AMQPValue::LongUInt(u32::MAX)),
        ("l", AMQPValue::LongLongInt(i64::MIN)),
        ("f", AMQPValue::Float(1.5)),
        ("f-denormal", AMQPValue::Float(f32::from_bits(1))),
        ("d", AMQPValue::Double(-0.0)),
        ("d-denormal", AMQPValue::Double(f64::from_bits(1))),
        ("D", AMQPValue::DecimalValue(DecimalValue { scale: 3, value: 56 })),
        ("S", long(b"text")),
        ("S-empty", long(b"")),
        ("S-bytes", long(&[0xc3, 0x28, 0])),
        ("S-long", long(&[b's'; 256])),
        ("A", AMQPValue::FieldArray(array)),
        ("T", AMQPValue::Timestamp(u64::MAX)),
        ("F", table(vec![("again", again), ("n", AMQPValue::LongLongInt(-1))])),
        ("x", AMQPValue::ByteArray(vec![0, 1, 0xff].into())),
        ("V", AMQPValue::Void),
        ("", long(b"an empty key")),
    ];
    let mut entries: Vec<_> = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    entries.push(("k".repeat(255), AMQPValue::LongInt(42)));
    entries
}

/// Returns `properties` as the broker sends them: since 4.0 it decodes headers and writes them sorted by key.
async fn as_sent_by_the_broker(properties: Properties, bench: &crate::support::modes::Bench) -> Properties {
    let Some(headers) = properties.headers().cloned() else { return properties };
    if bench.vhost.broker().version().await < (4, 0) {
        return properties;
    }
    let mut sorted: Vec<_> = headers.iter().collect();
    sorted.sort_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
    let mut headers = Table::new();
    for (key, value) in sorted {
        headers.insert(key.as_str().unwrap(), value.clone());
    }
    properties.with_headers(headers)
}

crate::modes! {
    /// PUB-34, MSG-02, MSG-03, FT-05, FT-08, FT-09: all fourteen properties and every type of header are received
    /// unchanged; exchange, routing key and message count are those of the `get`.
    async fn all_properties_are_received_unchanged(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        let publish = Publishing::new("body").properties(all_properties());
        exchange.publish(publish, "q").await.unwrap();
        exchange.publish("other", "q").await.unwrap();
        let message = queue.get().await.unwrap().unwrap();
        let expected = as_sent_by_the_broker(all_properties(), &bench).await;
        assert_eq!(message.raw_properties()[..2], [0xff, 0xfc]);
        let properties = message.properties().unwrap();
        assert_eq!(properties, &expected);
        assert_eq!(properties.expiration(), Some(Duration::from_millis(91_500)));
        assert_eq!((properties.timestamp(), properties.priority()), (Some(time()), Some(0)));
        assert_eq!((properties.message_id(), properties.user_id()), (Some(""), Some("guest")));
        // 0.0 equals -0.0: the sign needs its own check.
        let double = properties.header("d").and_then(Value::as_f64).unwrap();
        assert!(double.is_sign_negative());
        assert_eq!((message.exchange(), message.routing_key(), message.redelivered()), ("", "q", false));
        assert_eq!((message.message_count(), message.delivery_tag()), (Some(1), 1));
        message.ack().unwrap();
    }

    /// PUB-34, MSG-04, MSG-05: another client reads each property and each header with its type and value.
    async fn another_client_reads_the_properties(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        // Its decoder accepts only decimals with an unsigned value.
        let mut headers = every_type();
        headers.remove("D-least");
        let publish = Publishing::new("body").properties(all_properties().with_headers(headers));
        bench.channel.default_exchange().publish(publish, "q").await.unwrap();
        bench.channel.declare_queue("q").await.unwrap();
        let message = Oracle::connect(&bench.vhost.url()).await.get("q").await.unwrap();
        let read = &message.properties;
        let text = |field: &Option<lapin::types::ShortString>| field.as_ref().map(|text| text.as_str().to_owned());
        assert_eq!(text(read.content_type()).as_deref(), Some("text/plain"));
        assert_eq!(text(read.content_encoding()).as_deref(), Some("gzip"));
        assert_eq!((*read.delivery_mode(), *read.priority()), (Some(2), Some(0)));
        assert_eq!(text(read.correlation_id()).as_deref(), Some("1"));
        assert_eq!(text(read.reply_to()).as_deref(), Some("answers"));
        assert_eq!(text(read.expiration()).as_deref(), Some("91500"));
        assert_eq!(text(read.message_id()).as_deref(), Some(""));
        assert_eq!(*read.timestamp(), Some(TIME));
        assert_eq!(text(read.kind()).as_deref(), Some("a type"));
        assert_eq!(text(read.user_id()).as_deref(), Some("guest"));
        assert_eq!(text(read.app_id()).as_deref(), Some("Grüße \u{1F980}"));
        assert_eq!(text(read.cluster_id()), Some("c".repeat(255)));
        let read = read.headers().as_ref().unwrap().inner();
        let expected = every_type_in_lapin();
        for (key, value) in &expected {
            assert_eq!(read.get(key.as_str()), Some(value), "{key}");
        }
        assert_eq!(read.len(), expected.len());
    }

    /// FT-09, PUB-34: the properties and headers that another client sent are read with their types and values.
    async fn properties_of_another_client_are_read(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let mut headers = FieldTable::default();
        for (key, value) in every_type_in_lapin() {
            headers.insert(key.into(), value);
        }
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_expiration("91500".into())
            .with_timestamp(TIME)
            .with_type("a type".into());
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        oracle.publish_with("", "q", "body", properties).await;
        let message = queue.get_with(Get::new("q").no_ack(true)).await.unwrap().unwrap();
        let read = message.properties().unwrap();
        let mut expected = every_type();
        expected.remove("D-least");
        for (key, value) in expected.iter() {
            assert_eq!(read.header(key.as_str().unwrap()), Some(value), "{key}");
        }
        assert_eq!(read.headers().unwrap().len(), expected.len());
        assert_eq!(read.expiration(), Some(Duration::from_millis(91_500)));
        assert_eq!((read.timestamp(), read.message_type()), (Some(time()), Some("a type")));
        assert_eq!((read.content_type(), read.delivery_mode()), (None, None));
    }

    /// MSG-01, PUB-33: random properties and bodies are received unchanged; a clone is the same message.
    async fn random_properties_are_received_unchanged(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        for seed in 0..100 {
            let publish = random_publishing(seed);
            exchange.publish(publish.clone(), "q").await.unwrap();
            let message = queue.get().await.unwrap().expect("the message");
            let body = publish.body();
            assert_eq!(message.body(), body, "seed {seed}");
            let expected = as_sent_by_the_broker(random_properties(seed), &bench).await;
            let properties = message.properties().unwrap();
            assert_eq!(properties, &expected, "seed {seed}");
            // Encoding the decoded properties gives the same bytes.
            exchange.publish(Publishing::new("again").properties(properties.clone()), "q").await.unwrap();
            let again = queue.get().await.unwrap().expect("the message");
            assert_eq!(again.raw_properties(), message.raw_properties(), "seed {seed}");
            again.ack().unwrap();
            message.ack().unwrap();
        }
    }

    /// MSG-04, FT-06, FT-07: values that the broker would refuse are a `Codec` error before anything is sent: NaN and
    /// infinite floats, long keys and properties, deep nesting, expirations over 32 bits.
    async fn invalid_properties_are_refused_locally(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        let mut deep = Value::Void;
        for _ in 0..40 {
            deep = Value::Array(vec![deep]);
        }
        for properties in [
            Properties::new().with_header("k", f64::NAN),
            Properties::new().with_header("k", f32::NAN),
            Properties::new().with_header("k", f32::INFINITY),
            Properties::new().with_header("k", f32::NEG_INFINITY),
            Properties::new().with_header("k", f64::INFINITY),
            Properties::new().with_header("k", f64::NEG_INFINITY),
            Properties::new().with_header("k", vec![Value::Float(f32::NAN)]),
            Properties::new().with_header("k", Table::new().with("k", f64::INFINITY)),
            Properties::new().with_header("k".repeat(256), 1),
            Properties::new().with_header("k", deep),
            Properties::new().with_message_id("m".repeat(256)),
            Properties::new().with_expiration(Duration::from_millis(1 << 32)),
        ] {
            let publish = Publishing::new("body").properties(properties);
            let refused: [Error; 3] = [
                exchange.publish(publish.clone(), "q").await.unwrap_err(),
                exchange.publish_deferred(publish.clone(), "q").await.unwrap_err(),
                exchange.try_publish(publish, "q").unwrap_err(),
            ];
            for error in refused {
                assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Codec, false), "{error}");
                assert_eq!(error.entity(), Some("q"));
            }
        }
        let unpriced = Table::new().with("prices", Table::new().with("eur", f64::NAN));
        let error = exchange.publish(Publishing::new("body").headers(unpriced), "q").await.unwrap_err();
        assert!(error.to_string().contains("header \"prices.eur\": a float that is NaN or infinite"), "{error}");
        // The largest allowed values.
        let largest = Publishing::new("body").expiration(Duration::from_millis(u32::MAX.into())).message_id("m".repeat(255));
        exchange.publish(largest, "q").await.unwrap();
        let message = queue.get().await.unwrap().unwrap();
        assert_eq!(message.properties().unwrap().expiration(), Some(Duration::from_millis(u32::MAX.into())));
        message.ack().unwrap();
        assert!(queue.get().await.unwrap().is_none());
    }

    /// MSG-04: an expiration of zero is sent as such: without a consumer, the message expires at once.
    async fn an_expiration_of_zero_removes_the_message(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let publish = Publishing::new("body").expiration(Duration::ZERO);
        bench.channel.default_exchange().publish(publish, "q").await.unwrap();
        assert!(queue.get().await.unwrap().is_none());
    }
}

fn random_properties(seed: u64) -> Properties {
    let mut random = fastrand::Rng::with_seed(seed);
    // A message is persistent unless its properties say otherwise.
    let mut properties = Properties::new().with_delivery_mode(DeliveryMode::Persistent);
    let text = |random: &mut fastrand::Rng| -> String {
        let len = random.usize(..64);
        (0..len)
            .map(|_| random.char(..))
            .take_while({
                let mut left = 255usize;
                move |c| {
                    let fits = left >= c.len_utf8();
                    left = left.saturating_sub(c.len_utf8());
                    fits
                }
            })
            .collect()
    };
    let mut chosen = random.u16(..);
    while chosen > 0 {
        let value = text(&mut random);
        properties = match chosen.trailing_zeros() {
            0 => properties.with_content_type(value),
            1 => properties.with_content_encoding(value),
            2 => properties.with_correlation_id(value),
            3 => properties.with_reply_to(value),
            4 => properties.with_message_id(value),
            5 => properties.with_message_type(value),
            6 => properties.with_app_id(value),
            7 => properties.with_cluster_id(value),
            8 => properties.with_priority(random.u8(..)),
            9 => properties.with_delivery_mode(DeliveryMode::Transient),
            10 => {
                properties.with_timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(random.u32(..).into()))
            }
            11 => properties.with_expiration(Duration::from_millis(random.u64(1 << 20..1 << 32))),
            12 => properties.with_header(value, random.i64(..)),
            13 => properties.with_header(format!("text {value}"), value),
            14 => properties.with_header("array", vec![Value::from(value), Value::Void, random.f64().into()]),
            _ => properties.with_headers(Table::new()),
        };
        chosen &= chosen - 1;
    }
    properties
}

fn random_publishing(seed: u64) -> Publishing {
    let mut random = fastrand::Rng::with_seed(!seed);
    let body: Vec<u8> = (0..random.usize(..6000)).map(|_| random.u8(..)).collect();
    Publishing::new(body).properties(random_properties(seed))
}
