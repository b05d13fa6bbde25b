//! What the test changes while a client is connected.

use actix_pika_actors::wire::method::{AMQPClass, confirm};

use super::rig::{Client, begin_publish, declare, frames, method, publish, raw};
use crate::core::Line;

/// With confirms, and without the channel's answers up to then.
fn confirms(line: Line) -> Client {
    let client = Client::open(line);
    client.send(&declare("q"));
    client
        .send(&method(1, AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: true }))));
    client.read();
    client
}

fn set_max(client: &Client, octets: u64) {
    client.shared.change(|state| state.core.set_message_max(octets));
}

fn ready(client: &Client) -> usize {
    client.shared.look(|state| state.core.queue("/", "q").unwrap().ready)
}

const ACK_1: &[u8] = b"\0\x3c\0\x50\0\0\0\0\0\0\0\x01\0";

#[test]
fn a_larger_limit_of_messages_is_one_of_connections_that_are_open_too() {
    for line in [Line::V3_10, Line::V4_0, Line::V4_3] {
        let client = confirms(line);
        set_max(&client, 64 << 20);
        client.send(&publish(1, "q", 20 << 20));
        assert_eq!(frames(&client.read()), [(1, 1, ACK_1.to_vec())]);
        let body = client.shared.look(|state| state.core.messages("/", "q")[0].message.body.len());
        assert_eq!(body, 20 << 20);
    }
}

/// A body of which nothing was kept is refused, whatever the limit is when it is complete.
#[test]
fn the_limit_of_messages_is_that_of_the_header() {
    let client = confirms(Line::V4_3);
    set_max(&client, 10);
    client.send(&begin_publish(1, "q", 30));
    set_max(&client, 40);
    client.send(&raw(3, 1, &[7; 30]));
    let frames = frames(&client.read());
    let [(1, 1, close)] = &frames[..] else { panic!("{frames:?}") };
    let text = b"PRECONDITION_FAILED - message size 30 is larger than configured max size 10";
    assert_eq!(close[..6], [0, 20, 0, 40, 1, 150]);
    assert_eq!(&close[7..7 + text.len()], text);
    assert_eq!(ready(&client), 0);
}
