//! Properties that hold for any value: decoding is the inverse of encoding, however the bytes are split, and
//! `amq-protocol` agrees.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use actix_pika_actors::{
    DeliveryMode, Properties, Table, Text, Value,
    wire::{
        basic_decode::{Inbound, ReturnHead, parse_header, parse_method},
        basic_encode::{
            header_len, put_ack, put_body, put_header, put_heartbeat, put_nack, put_publish, put_reject,
        },
        content::{Assembler, ContentMethod},
        field::{decode_table, encode_table, table_len},
        field_table::{from_field_table, to_field_table},
        frame::{FRAME_MIN_SIZE, FrameKind},
        frame_decoder::FrameDecoder,
        method::{AMQPClass, put_method, read_method},
        property_codec::{check_properties, decode_properties, properties_len, put_properties},
        scan::scan,
        span::Span,
        table::MAX_DEPTH,
    },
};
use amq_protocol::{
    frame::{AMQPFrame, gen_frame, parse_frame},
    protocol::{basic, parse_class},
    types::parsing::parse_field_table,
};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z.]{0,20}", "\\PC{0,60}", "x{255}"]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u8>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::num::f32::NORMAL.prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        any::<(u8, i32)>().prop_map(|(scale, value)| Value::Decimal { scale, value }),
        ".{0,300}".prop_map(Value::from),
        any::<Vec<u8>>().prop_map(|bytes| Value::LongString(bytes.into())),
        any::<u64>().prop_map(Value::Timestamp),
        any::<Vec<u8>>().prop_map(Value::from),
        Just(Value::Void),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            table_of(inner).prop_map(Value::from),
        ]
    })
}

fn table_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Table> {
    prop::collection::vec((name(), value), 0..6).prop_map(Table::from_iter)
}

fn table() -> impl Strategy<Value = Table> {
    table_of(value())
}

fn properties() -> impl Strategy<Value = Properties> {
    let texts = prop::array::uniform9(prop::option::of(name()));
    let numbers = any::<(Option<u8>, Option<u8>, Option<u32>, Option<u32>)>();
    (texts, numbers, prop::option::of(table())).prop_map(|(texts, numbers, headers)| {
        let mut properties = Properties::new();
        let with: [fn(Properties, String) -> Properties; 9] = [
            Properties::with_content_type,
            Properties::with_content_encoding,
            Properties::with_correlation_id,
            Properties::with_reply_to,
            Properties::with_message_id,
            Properties::with_message_type,
            Properties::with_user_id,
            Properties::with_app_id,
            Properties::with_cluster_id,
        ];
        for (with, text) in with.into_iter().zip(texts) {
            if let Some(text) = text {
                properties = with(properties, text);
            }
        }
        let (mode, priority, expiration, timestamp) = numbers;
        if let Some(mode) = mode {
            properties = properties.with_delivery_mode(mode.into());
        }
        if let Some(priority) = priority {
            properties = properties.with_priority(priority);
        }
        if let Some(after) = expiration {
            properties = properties.with_expiration(Duration::from_millis(after.into()));
        }
        if let Some(seconds) = timestamp {
            properties =
                properties.with_timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into()));
        }
        if let Some(headers) = headers {
            properties = properties.with_headers(headers);
        }
        properties
    })
}

/// An encoded table with a few octets changed.
fn nearly_a_table() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (table(), changes).prop_map(|(table, changes)| {
        let mut bytes = encoded(&table).to_vec();
        for (at, octet) in changes {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        bytes
    })
}

fn encoded(table: &Table) -> BytesMut {
    let mut buf = BytesMut::new();
    encode_table(&mut buf, table).unwrap();
    buf
}

/// Returns the entries by key, like `amq-protocol`: of equal keys the last one counts.
fn by_key(table: &Table) -> BTreeMap<Vec<u8>, String> {
    table.iter().map(|(key, value)| (key.as_bytes().to_vec(), comparable(value))).collect()
}

fn comparable(value: &Value) -> String {
    match value {
        Value::Table(table) => format!("{:?}", by_key(table)),
        Value::Array(values) => format!("{:?}", values.iter().map(comparable).collect::<Vec<_>>()),
        value => format!("{value:?}"),
    }
}

/// A stream of valid frames on several channels.
fn stream() -> impl Strategy<Value = Vec<(u8, u16, Vec<u8>)>> {
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    let frame = prop_oneof![
        6 => (1u8..=3, 0u16..3, payload),
        1 => Just((8u8, 0u16, Vec::new())),
    ];
    prop::collection::vec(frame, 0..12)
}

fn bytes_of(stream: &[(u8, u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, channel, payload) in stream {
        bytes.push(*kind);
        bytes.extend(channel.to_be_bytes());
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes.push(0xCE);
    }
    bytes
}

/// Returns the frames that are decoded from `pieces`.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(u8, u16, Vec<u8>)> {
    let (mut decoder, mut buf) = (FrameDecoder::new(FRAME_MIN_SIZE), BytesMut::new());
    let mut frames = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        while let Some(batch) = decoder.next_batch(&mut buf).unwrap() {
            assert_eq!((batch.frames, batch.frames), (batch.iter().count(), batch.views().count()));
            for (frame, view) in batch.iter().zip(batch.views()) {
                assert_eq!(
                    (frame.kind, frame.channel, &frame.payload[..]),
                    (view.kind, view.channel, view.payload)
                );
                assert_eq!(frame.channel, batch.channel);
                assert!(frame.kind != FrameKind::Heartbeat || batch.frames == 1);
                let kind = match frame.kind {
                    FrameKind::Method => 1,
                    FrameKind::Header => 2,
                    FrameKind::Body => 3,
                    FrameKind::Heartbeat => 8,
                };
                frames.push((kind, frame.channel, frame.payload.to_vec()));
            }
        }
    }
    assert!(buf.is_empty());
    frames
}

/// Decodes a single frame with `amq-protocol`.
fn parsed(bytes: &[u8]) -> AMQPFrame {
    let (rest, frame) = parse_frame(bytes).unwrap();
    assert!(rest.is_empty());
    frame
}

fn encoded_frame(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(Vec::new().into()).unwrap().into_inner().0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn tables_decode_to_what_was_encoded(table in table()) {
        let bytes = encoded(&table);
        prop_assert_eq!(bytes.len(), table_len(&table));
        prop_assert_eq!(scan(&bytes).unwrap(), bytes.len());
        prop_assert_eq!(decode_table(&bytes).unwrap().0, table);
    }

    #[test]
    fn amq_protocol_decodes_our_tables_and_we_decode_its_tables(table in table()) {
        let bytes = encoded(&table);
        let (rest, fields) = parse_field_table(&bytes[..]).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(by_key(&from_field_table(&fields)), by_key(&table));
        prop_assert_eq!(&to_field_table(&table).unwrap(), &fields);
    }

    #[test]
    fn every_decoder_accepts_what_the_scanner_accepts(bytes in nearly_a_table()) {
        let own = decode_table(&bytes);
        if let Ok(len) = scan(&bytes) {
            let (rest, fields) = parse_field_table(&bytes[..]).unwrap();
            prop_assert_eq!(bytes.len() - rest.len(), len);
            let (table, own_len) = own.unwrap();
            prop_assert_eq!(own_len, len);
            prop_assert_eq!(by_key(&from_field_table(&fields)), by_key(&table));
        } else if let Ok((table, _)) = own {
            // The only input that our decoder accepts and the scanner does not.
            prop_assert!(has_key_not_utf8(&table));
        }
    }

    #[test]
    fn a_decoded_table_encodes_to_the_same_bytes(bytes in nearly_a_table()) {
        if let Ok((table, len)) = decode_table(&bytes) {
            let mut again = BytesMut::new();
            // A changed octet can make a float infinite; some integers have two type octets.
            if encode_table(&mut again, &table).is_ok() {
                prop_assert_eq!(again.len(), len);
                prop_assert_eq!(by_key(&decode_table(&again).unwrap().0), by_key(&table));
            }
        }
    }

    #[test]
    fn properties_decode_to_what_was_encoded(properties in properties(), padding in any::<Vec<u8>>()) {
        prop_assert_eq!(check_properties(&properties), Ok(()));
        let mut bytes = BytesMut::new();
        put_properties(&mut bytes, &properties);
        prop_assert_eq!(bytes.len(), properties_len(&properties));
        bytes.extend(padding);
        prop_assert_eq!(decode_properties(&bytes).unwrap(), properties);
    }

    #[test]
    fn amq_protocol_decodes_our_headers_and_we_decode_its_headers(properties in properties(), channel: u16, body_size: u64) {
        let mut bytes = BytesMut::new();
        put_header(&mut bytes, channel, body_size, &properties);
        prop_assert_eq!(bytes.len(), header_len(&properties));
        let frame = parsed(&bytes);
        let AMQPFrame::Header(their_channel, header) = &frame else { panic!("{frame:?}") };
        prop_assert_eq!((*their_channel, header.class_id, header.body_size), (channel, 60, body_size));
        let id = header.properties.correlation_id().as_ref().map(|id| id.as_str());
        prop_assert_eq!(id, properties.correlation_id());
        let mode = header.properties.delivery_mode().map(DeliveryMode::from);
        prop_assert_eq!(mode, properties.delivery_mode());

        let again = Bytes::from(encoded_frame(&frame)).slice(7..bytes.len() - 1);
        let header = parse_header(&again).unwrap();
        prop_assert_eq!(header.body_size, body_size);
        let ours = decode_properties(&header.properties).unwrap();
        prop_assert_eq!(ours.headers().map(by_key), properties.headers().map(by_key));
        let plain = |properties: Properties| match properties.headers() {
            Some(_) => properties.with_headers(Table::new()),
            None => properties,
        };
        prop_assert_eq!(plain(ours), plain(properties));
    }

    #[test]
    fn decoders_never_panic(bytes: Vec<u8>) {
        let _ = decode_properties(&bytes);
        let _ = decode_table(&bytes);
        let _ = read_method(&bytes);
        let _ = parse_method(&bytes);
        let _ = parse_header(&bytes.into());
    }

    #[test]
    fn amq_protocol_encodes_the_same_publish(channel: u16, exchange in name(), key in name(), mandatory: bool) {
        let mut bytes = BytesMut::new();
        put_publish(&mut bytes, channel, &exchange, &key, mandatory);
        let publish = basic::Publish {
            exchange: exchange.as_str().into(),
            routing_key: key.as_str().into(),
            mandatory,
            immediate: false,
        };
        let frame = AMQPFrame::Method(channel, AMQPClass::Basic(basic::AMQPMethod::Publish(publish)));
        prop_assert_eq!(&encoded_frame(&frame)[..], &bytes[..]);
    }

    #[test]
    fn amq_protocol_encodes_the_same_acks(channel: u16, delivery_tag: u64, multiple: bool, requeue: bool) {
        let mut bytes = BytesMut::new();
        let mut expect = Vec::new();
        put_ack(&mut bytes, channel, delivery_tag, multiple);
        put_nack(&mut bytes, channel, delivery_tag, multiple, requeue);
        put_reject(&mut bytes, channel, delivery_tag, requeue);
        put_heartbeat(&mut bytes);
        put_body(&mut bytes, channel, b"body");
        for method in [
            basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple }),
            basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple, requeue }),
            basic::AMQPMethod::Reject(basic::Reject { delivery_tag, requeue }),
        ] {
            expect.extend(encoded_frame(&AMQPFrame::Method(channel, AMQPClass::Basic(method))));
        }
        expect.extend(encoded_frame(&AMQPFrame::Heartbeat));
        expect.extend(encoded_frame(&AMQPFrame::Body(channel, b"body".to_vec())));
        prop_assert_eq!(&bytes[..], &expect[..]);
    }

    #[test]
    fn we_decode_what_amq_protocol_encodes(
        tag: u64, flag: bool, requeue: bool, count: u32, code: u16,
        consumer in name(), exchange in name(), key in name(), text in name(),
    ) {
        let payload = |method| {
            let mut buf = BytesMut::new();
            put_method(&mut buf, 1, &AMQPClass::Basic(method)).unwrap();
            buf.freeze().slice(7..).to_vec()
        };
        let of = |span: Span, payload: &[u8]| String::from_utf8(span.of(payload).to_vec()).unwrap();

        let bytes = payload(basic::AMQPMethod::Deliver(basic::Deliver {
            consumer_tag: consumer.as_str().into(),
            delivery_tag: tag,
            redelivered: flag,
            exchange: exchange.as_str().into(),
            routing_key: key.as_str().into(),
        }));
        let Inbound::Deliver(deliver) = parse_method(&bytes).unwrap() else { panic!() };
        prop_assert_eq!((deliver.delivery_tag, deliver.redelivered), (tag, flag));
        prop_assert_eq!(of(deliver.consumer_tag, &bytes), consumer);
        prop_assert_eq!(of(deliver.exchange, &bytes), &exchange[..]);
        prop_assert_eq!(of(deliver.routing_key, &bytes), &key[..]);

        let bytes = payload(basic::AMQPMethod::GetOk(basic::GetOk {
            delivery_tag: tag,
            redelivered: flag,
            exchange: exchange.as_str().into(),
            routing_key: key.as_str().into(),
            message_count: count,
        }));
        let Inbound::GetOk(get_ok) = parse_method(&bytes).unwrap() else { panic!() };
        prop_assert_eq!((get_ok.delivery_tag, get_ok.redelivered, get_ok.message_count), (tag, flag, count));
        prop_assert_eq!(of(get_ok.exchange, &bytes), &exchange[..]);
        prop_assert_eq!(of(get_ok.routing_key, &bytes), &key[..]);

        let bytes = payload(basic::AMQPMethod::Return(basic::Return {
            reply_code: code,
            reply_text: text.as_str().into(),
            exchange: exchange.as_str().into(),
            routing_key: key.as_str().into(),
        }));
        let Inbound::Return(head) = parse_method(&bytes).unwrap() else { panic!() };
        prop_assert_eq!(head.code, code);
        prop_assert_eq!(of(head.text, &bytes), text);
        prop_assert_eq!(of(head.exchange, &bytes), exchange);
        prop_assert_eq!(of(head.routing_key, &bytes), key);

        let bytes = payload(basic::AMQPMethod::Ack(basic::Ack { delivery_tag: tag, multiple: flag }));
        prop_assert_eq!(parse_method(&bytes), Ok(Inbound::Ack { tag, multiple: flag }));
        let bytes = payload(basic::AMQPMethod::Nack(basic::Nack { delivery_tag: tag, multiple: flag, requeue }));
        prop_assert_eq!(parse_method(&bytes), Ok(Inbound::Nack { tag, multiple: flag, requeue }));
        let bytes = payload(basic::AMQPMethod::GetEmpty(basic::GetEmpty {}));
        prop_assert_eq!(parse_method(&bytes), Ok(Inbound::GetEmpty));
    }

    #[test]
    fn a_stream_decodes_the_same_at_every_split(stream in stream()) {
        let bytes = bytes_of(&stream);
        prop_assert_eq!(&decode([&bytes[..]]), &stream);
        prop_assert_eq!(&decode(bytes.chunks(1)), &stream);
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            prop_assert_eq!(&decode([first, second]), &stream);
        }
    }

    #[test]
    fn the_decoder_reports_how_many_bytes_are_missing(payload in prop::collection::vec(any::<u8>(), 0..100)) {
        let bytes = bytes_of(&[(3, 1, payload)]);
        let (mut decoder, mut buf) = (FrameDecoder::new(FRAME_MIN_SIZE), BytesMut::new());
        for octet in &bytes[..bytes.len() - 1] {
            buf.extend_from_slice(&[*octet]);
            prop_assert!(decoder.next_batch(&mut buf).unwrap().is_none());
            prop_assert!(buf.len() < 7 || decoder.missing_bytes() == bytes.len() - buf.len());
        }
    }

    #[test]
    fn a_body_is_the_same_however_it_is_split(body: Vec<u8>, at in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let mut cuts: Vec<usize> = at.iter().map(|at| at.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let mut assembler = Assembler::new(u64::MAX);
        let empty = Span::default();
        let head = ReturnHead { code: 312, text: empty, exchange: empty, routing_key: empty };
        assembler.begin(ContentMethod::Return(head), Bytes::new()).unwrap();
        let mut header = BytesMut::new();
        put_header(&mut header, 1, body.len() as u64, &Properties::new());
        let mut content = assembler.header(&header.freeze().slice(7..)).unwrap();
        for piece in cuts.windows(2) {
            if content.is_none() {
                content = assembler.body(Bytes::copy_from_slice(&body[piece[0]..piece[1]])).unwrap();
            }
        }
        prop_assert_eq!(&content.unwrap().body.unwrap()[..], &body[..]);
        prop_assert!(assembler.idle());
    }
}

fn has_key_not_utf8(table: &Table) -> bool {
    table.iter().any(|(key, value)| key.as_str().is_none() || value_has_key_not_utf8(value))
}

fn value_has_key_not_utf8(value: &Value) -> bool {
    match value {
        Value::Table(table) => has_key_not_utf8(table),
        Value::Array(values) => values.iter().any(value_has_key_not_utf8),
        _ => false,
    }
}

/// Deeper than the random tables.
#[test]
fn a_table_nests_as_deep_as_allowed() {
    let mut value = Value::from(1);
    for level in 0..MAX_DEPTH {
        value = if level % 2 == 0 { Value::from(vec![value]) } else { Table::from([("k", value)]).into() };
    }
    let table = Table::from([(Text::from("k"), value)]);
    let bytes = encoded(&table);
    assert_eq!(scan(&bytes), Ok(bytes.len()));
    assert_eq!(decode_table(&bytes).unwrap().0, table);
    assert_eq!(from_field_table(&to_field_table(&table).unwrap()), table);
    assert_eq!(parse_field_table(&bytes[..]).unwrap().1, to_field_table(&table).unwrap());
}

/// Every method as `amq-protocol` encodes it, and every prefix of it.
#[test]
fn every_method_decodes_to_what_was_encoded() {
    let mut known = 0;
    for class_id in 0..100u16 {
        for method_id in 0..130u16 {
            let mut payload = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
            payload.resize(200, 0);
            let Ok((_, method)) = parse_class(&payload[..]) else {
                assert_eq!(read_method(&payload).unwrap_err().code, 503, "{class_id} {method_id}");
                continue;
            };
            known += 1;
            assert_eq!(read_method(&payload).unwrap(), method);
            let mut buf = BytesMut::new();
            put_method(&mut buf, 7, &method).unwrap();
            assert_eq!(encoded_frame(&AMQPFrame::Method(7, method.clone())), buf);
            let payload = &buf[7..buf.len() - 1];
            assert_eq!(read_method(payload).unwrap(), method);
            for end in 4..payload.len() {
                assert_eq!(read_method(&payload[..end]).unwrap_err().code, 502, "{method:?}");
            }
        }
    }
    assert_eq!(known, 66);
}
