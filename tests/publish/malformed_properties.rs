//! Malformed properties that a broker may relay.

use crate::support::{get_message, scripted_peer::connect_with_channel, take, within};
use actix_pika::{
    Delivery, ErrorKind, OpenChannel, Publishing, connect,
    message::{DeliveryMode, Get, Properties, Value},
    testing::{
        Peer, PeerMessage, Probe,
        protocol::{basic, confirm},
    },
};

/// Returns the property bytes of a content header: the flag of headers, then `table`.
fn headers(table: &[u8]) -> Vec<u8> {
    [&[0x20, 0][..], table].concat()
}

/// Like `headers`, with the table's length before its entries.
fn table(entries: &[u8]) -> Vec<u8> {
    headers(&[&(entries.len() as u32).to_be_bytes()[..], entries].concat())
}

/// How much of the properties can be read.
#[derive(Clone, Copy, PartialEq)]
enum Readable {
    All,
    /// All but one field.
    Others,
    /// The list ends too early.
    Nothing,
}

/// FT-03, MSG-06, MSG-07: malformed properties affect nothing else: the rest of the delivery can be read, it can be acknowledged,
/// and the connection stays open. A field that cannot be decoded hides no other. Octets after the last property are
/// ignored.
#[actix::test]
async fn malformed_properties_do_not_affect_the_delivery() {
    let mut deep = vec![b'V'];
    for _ in 0..10_000 {
        let len = (deep.len() as u32).to_be_bytes();
        deep = [&b"A"[..], &len, &deep].concat();
    }
    let cases = [
        (table(b"\x01kZx"), Readable::Others),
        (table(b"\x01kU\0\x01"), Readable::All),
        (table(b"\x01kS\x7f\xff\xff\xffx"), Readable::Others),
        (table(b"\x01kx\xff\xff\xff\xffx"), Readable::Others),
        (table(b"\x01kA\xff\xff\xff\xf0"), Readable::Others),
        (table(b"\x01kF\x80\0\0\0"), Readable::Others),
        (table(b"\x09k"), Readable::Others),
        (headers(b"\xff\xff\xff\xff"), Readable::Nothing),
        (headers(b""), Readable::Nothing),
        (table(&[&b"\x01k"[..], &deep].concat()), Readable::Others),
        (vec![0x04, 0, 2, 0xc3, 0x28], Readable::Others),
        (vec![0x01, 0, 3, b'a', b'b', b'c'], Readable::Others),
        (vec![0x10, 0, 2, 1, 2, 3], Readable::All),
        (table(b"\x02\xc3\x28S\0\0\0\x02\xc3\x28"), Readable::All),
        (table(b"\x01kd\x7f\xf0\0\0\0\0\0\0"), Readable::All),
    ];
    let peer = Peer::listen().await.unwrap();
    let url = peer.url();
    let count = cases.len();
    let expected: Vec<Readable> = cases.iter().map(|(_, readable)| *readable).collect();
    let client = actix_rt::spawn(async move {
        let connection = connect(url).await.unwrap();
        let queue = connection.channel().await.unwrap().queue("q");
        for (n, readable) in expected.into_iter().enumerate() {
            let delivery = queue.get_with(Get::new("q")).await.unwrap().expect("a delivery");
            assert_eq!((delivery.body(), delivery.routing_key()), (&b"body"[..], "key"));
            match delivery.properties() {
                Ok(properties) => {
                    assert_ne!(*properties, Properties::new(), "{n}");
                    let others = properties.headers_error().is_some()
                        || properties.invalid_expiration().is_some()
                        || properties.correlation_id_bytes().is_some();
                    assert!(readable == if others { Readable::Others } else { Readable::All }, "{n}");
                }
                Err(error) => {
                    assert!(
                        readable == Readable::Nothing && error.kind() == ErrorKind::Codec,
                        "{n}: {error}"
                    );
                }
            }
            delivery.ack().unwrap();
        }
        connection
    });
    let mut socket = peer.accept().await.unwrap();
    socket.handshake().await.unwrap();
    socket.open_channel(1).await.unwrap();
    socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    for (n, (properties, _)) in (1..).zip(cases) {
        socket.expect::<basic::Get>(1).await.unwrap();
        let content = PeerMessage::from("body").published_to("ex", "key").raw_properties(properties);
        socket.get_ok(1, n, 0, content).await.unwrap();
        assert_eq!(socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag, n);
    }
    assert_eq!(count, 15);
    assert!(!within("the client", 10, client).await.unwrap().is_closed());
}

/// MSG-07: a correlation id that is not UTF-8 hides no other property.
#[actix::test]
async fn a_binary_correlation_id_hides_no_other_property() {
    let (mut socket, _connection, channel) = connect_with_channel(OpenChannel::new(), false).await;
    let mut probe = Probe::<Delivery>::start();
    let consume = actix_rt::spawn({
        let (queue, to) = (channel.queue("rpc"), probe.recipient());
        async move { queue.consume(to).await }
    });
    socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    let consume_ok = |consume: basic::Consume| basic::ConsumeOk { consumer_tag: consume.consumer_tag };
    socket.answer(1, consume_ok).await.unwrap();
    let consumer = within("the consumer", 10, consume).await.unwrap().unwrap();
    // Content type, headers, correlation id, reply-to.
    let mut raw = vec![0xa6, 0x00];
    raw.extend(b"\x0atext/plain");
    raw.extend(b"\0\0\0\x0d\x07retriesI\0\0\0\x03");
    raw.extend(b"\x04\xfe\x00\x01\xff");
    raw.extend(b"\x05reply");
    socket.deliver(1, consumer.tag(), 1, PeerMessage::from("ask").raw_properties(raw)).await.unwrap();
    let delivery = within("the delivery", 10, take(&mut probe, 1)).await.remove(0);
    let properties = delivery.properties().unwrap();
    assert_eq!(properties.content_type(), Some("text/plain"));
    assert_eq!(properties.reply_to(), Some("reply"));
    assert_eq!(properties.headers().and_then(|headers| headers.get("retries")), Some(&Value::from(3_i32)));
}

crate::modes! {
    /// MSG-07: the broker relays texts that are not UTF-8, and headers with such keys and values. A reply copies the
    /// correlation id as it is.
    async fn texts_that_are_not_utf8_arrive_and_are_sent_back(bench: Bench) {
        let raw = [0xfe, 0x00, 0xff];
        let properties = Properties::new()
            .with_content_type_bytes(raw)
            .with_content_encoding_bytes(raw)
            .with_correlation_id_bytes(raw)
            .with_reply_to("requests")
            .with_message_id_bytes(raw)
            .with_message_type_bytes(raw)
            .with_app_id_bytes(raw)
            .with_cluster_id_bytes(raw)
            // In the order in which RabbitMQ 4 sorts them.
            .with_header("plain", "text")
            .with_header(raw.to_vec(), Value::LongString(raw.to_vec().into()))
            .with_delivery_mode(DeliveryMode::Persistent);
        let queue = bench.channel.declare_queue("requests").await.unwrap();
        let exchange = bench.channel.default_exchange();
        exchange.publish(Publishing::new("ask").properties(properties.clone()), "requests").await.unwrap();
        let request = get_message(&queue).await;
        let received = request.properties().unwrap();
        assert_eq!(*received, properties);
        assert_eq!((received.correlation_id(), received.header("plain")), (None, Some(&Value::from("text"))));
        let id = received.correlation_id_bytes().unwrap();
        let reply = Publishing::new("answer").properties(Properties::new().with_correlation_id_bytes(id));
        exchange.publish(reply, received.reply_to().unwrap()).await.unwrap();
        request.ack().unwrap();
        let reply = get_message(&queue).await;
        assert_eq!(reply.properties().unwrap().correlation_id_bytes(), Some(&raw[..]));
        reply.ack().unwrap();
    }
}
