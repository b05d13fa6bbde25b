//! Malformed properties that a broker may relay.

use crate::support::within;
use actix_pika::{
    ErrorKind, connect,
    message::{Get, Properties},
    testing::{
        Peer, PeerMessage,
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

/// FT-03, MSG-06: malformed properties are an error of `properties()` only: the rest of the delivery can be read, it
/// can be acknowledged, and the connection stays open. Octets after the last property are ignored.
#[actix::test]
async fn malformed_properties_do_not_affect_the_delivery() {
    let mut deep = vec![b'V'];
    for _ in 0..10_000 {
        let len = (deep.len() as u32).to_be_bytes();
        deep = [&b"A"[..], &len, &deep].concat();
    }
    let cases = [
        (table(b"\x01kZx"), false),
        (table(b"\x01kU\0\x01"), true),
        (table(b"\x01kS\x7f\xff\xff\xffx"), false),
        (table(b"\x01kx\xff\xff\xff\xffx"), false),
        (table(b"\x01kA\xff\xff\xff\xf0"), false),
        (table(b"\x01kF\x80\0\0\0"), false),
        (table(b"\x09k"), false),
        (headers(b"\xff\xff\xff\xff"), false),
        (headers(b""), false),
        (table(&[&b"\x01k"[..], &deep].concat()), false),
        (vec![0x04, 0, 2, 0xc3, 0x28], false),
        (vec![0x01, 0, 3, b'a', b'b', b'c'], false),
        (vec![0x10, 0, 2, 1, 2, 3], true),
        (table(b"\x02\xc3\x28S\0\0\0\x02\xc3\x28"), true),
        (table(b"\x01kd\x7f\xf0\0\0\0\0\0\0"), true),
    ];
    let peer = Peer::listen().await.unwrap();
    let url = peer.url();
    let count = cases.len();
    let expected: Vec<bool> = cases.iter().map(|(_, readable)| *readable).collect();
    let client = actix_rt::spawn(async move {
        let connection = connect(url).await.unwrap();
        let queue = connection.channel().await.unwrap().queue("q");
        for (n, readable) in expected.into_iter().enumerate() {
            let delivery = queue.get_with(Get::new("q")).await.unwrap().expect("a delivery");
            assert_eq!((delivery.body(), delivery.routing_key()), (&b"body"[..], "key"));
            match delivery.properties() {
                Ok(properties) => assert!(readable && *properties != Properties::new(), "{n}"),
                Err(error) => assert!(!readable && error.kind() == ErrorKind::Codec, "{n}: {error}"),
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
