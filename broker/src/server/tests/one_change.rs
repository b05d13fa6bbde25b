//! What comes of much that happens at once.

use std::sync::Arc;

use actix_pika_actors::wire::method::{AMQPClass, connection::AMQPMethod as Method};
use bytes::BytesMut;

use super::rig::{Client, broker, declare, frames, get, handshake, method, publish, raw};
use crate::core::{CoreConfig, Line};

/// How many frames begin with the ids of a method.
fn count(read: &[u8], ids: [u8; 4]) -> usize {
    frames(read).iter().filter(|(kind, _, payload)| *kind == 1 && payload.starts_with(&ids)).count()
}

/// Deliveries that are written give back what made the memory low.
#[test]
fn a_publisher_that_was_blocked_for_a_moment_goes_on() {
    for consumers in [1, 2] {
        let config = CoreConfig { memory_limit: Some(100_000), ..CoreConfig::default() };
        let client = Client::open_at(&broker(config));
        client.send(&declare("q"));
        for tag in 0..consumers {
            let mut consume = *b"\0\x3c\0\x14\0\0\x01q\x01c\x02\0\0\0\0";
            consume[9] += tag;
            client.send(&raw(1, 1, &consume));
        }
        client.read();
        let mut publishes = BytesMut::new();
        (0..300).for_each(|_| publishes.extend_from_slice(&publish(1, "q", 40)));
        assert!(publishes.len() < 64 * 1024, "one read");
        client.send(&publishes);
        assert!(client.shared.reads(client.id));
        let read = client.read();
        let (blocked, unblocked) = (count(&read, [0, 10, 0, 60]), count(&read, [0, 10, 0, 61]));
        assert!(blocked > 0);
        assert_eq!((blocked, count(&read, [0, 60, 0, 60])), (unblocked, 300));
    }
}

#[test]
fn a_connection_that_opens_and_ends_in_one_read_is_answered() {
    let close = method(0, AMQPClass::Connection(Method::Close(Default::default())));
    let client = Client::connect(Line::V4_3);
    client.send(&[&handshake()[..], &close].concat());
    let methods: Vec<Vec<u8>> = frames(&client.read()).iter().map(|frame| frame.2[..4].to_vec()).collect();
    assert_eq!(methods, [[0, 10, 0, 10], [0, 10, 0, 30], [0, 10, 0, 41], [0, 10, 0, 51]]);
    let client = Client::connect(Line::V4_3);
    client.send(&[&handshake()[..], &raw(1, 1, b"")[..7], b"\0"].concat());
    let text = "501 FRAME_ERROR - type 1, all octets = <<>>: {invalid_frame_end_marker,0}";
    assert_eq!(Client::closes(&client.read()), [text]);
    client.shared.lost(client.id);
    assert!(client.shared.look(|state| state.peers.is_empty()));
}

/// Each goes on until its own answers are too many, not those of another one.
#[test]
fn all_that_have_room_again_go_on() {
    let shared = broker(CoreConfig::default());
    let publisher = Client::open_at(&shared);
    publisher.send(&declare("q"));
    (0..30).for_each(|_| publisher.send(&publish(1, "q", 300_000)));
    let clients = [(); 3].map(|()| Client::open_at(&shared));
    let output = |client: &Client| shared.look(|state| state.peers[&client.id].peer.output_len());
    for client in &clients {
        let mut gets = BytesMut::new();
        (0..8).for_each(|_| gets.extend_from_slice(&get(true)));
        client.send(&gets);
        assert!((300_000..301_000).contains(&output(client)) && !shared.reads(client.id));
    }
    for round in 1..8 {
        clients.iter().for_each(|client| assert!(!shared.take_output(client.id).bytes.is_empty()));
        shared.change(|state| state.touched.extend(clients.iter().map(|client| client.id)));
        let outputs = clients.each_ref().map(output);
        assert!(outputs.iter().all(|len| (300_000..301_000).contains(len)), "{round} {outputs:?}");
    }
    clients.iter().for_each(|client| drop(client.read()));
    assert!(clients.iter().all(|client| shared.reads(client.id)));
    assert_eq!(Arc::strong_count(&shared), 5);
}
