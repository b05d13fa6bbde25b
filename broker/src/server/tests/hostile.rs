//! A hostile client and the broker as plain machines: no panic, bounded memory, the right end.

use std::time::Duration;

use actix_pika_actors::wire::method::{AMQPClass, basic, channel, connection};
use bytes::{Bytes, BytesMut};

use super::rig::{Client, begin_publish, declare, frames, get, handshake, method, publish, raw};
use crate::{core::Line, server::peer::End};

/// More than a peer keeps for a client that does not read: its limit, and what one input adds.
const OUTPUT_MAX: usize = 4 << 20;

/// PRO-06
#[test]
fn random_frames_end_a_connection_and_nothing_else() {
    for seed in 0..3_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let line = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3][random.usize(..4)];
        let client = if random.u8(..4) == 0 { Client::connect(line) } else { Client::open(line) };
        let samples = [
            handshake(),
            declare("q"),
            publish(1, "q", 40),
            get(false),
            begin_publish(random.u16(..4), "q", 9),
        ];
        for _ in 0..20 {
            let mut bytes = samples[random.usize(..samples.len())].clone();
            match random.u8(..6) {
                0 => bytes.truncate(random.usize(..bytes.len())),
                1 | 2 => {
                    let at = random.usize(..bytes.len());
                    bytes[at] = random.u8(..);
                }
                3 => {
                    let payload: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
                    bytes = raw(random.u8(..9), random.u16(..3), &payload);
                }
                4 => {
                    let ids = [0, random.u8(1..10) * 10, 0, random.u8(..12) * 10 + random.u8(..2)];
                    let mut payload = ids.to_vec();
                    payload.extend((0..random.usize(..30)).map(|_| random.u8(..3)));
                    bytes = raw(1, random.u16(..3), &payload);
                }
                _ => {}
            }
            client.send(&bytes);
            client.advance(Duration::from_millis(random.u64(..4_000)));
        }
        let _ = frames(&client.read());
        client.shared.lost(client.id);
        assert_eq!(client.shared.look(|state| state.core.connections().count()), 0, "seed {seed}");
        assert!(client.shared.look(|state| state.peers.is_empty()));
    }
}

#[test]
fn who_asks_and_does_not_read_is_not_read_and_gets_all_later() {
    let client = Client::open(Line::V4_3);
    client.send(&declare("q"));
    client.send(&publish(1, "q", 1 << 20));
    let mut asked = BytesMut::new();
    // Gets that put the message back before the next.
    for tag in 1..=500 {
        asked.extend_from_slice(&get(false));
        let nack = basic::Nack { delivery_tag: tag, multiple: false, requeue: true };
        asked.extend_from_slice(&method(1, AMQPClass::Basic(basic::AMQPMethod::Nack(nack))));
    }
    assert!(asked.len() < 64 * 1024);
    client.send(&asked);
    let waits = |client: &Client| {
        client.shared.look(|state| state.peers.values().map(|entry| entry.peer.output_len()).sum::<usize>())
    };
    assert!(waits(&client) < OUTPUT_MAX, "{}", waits(&client));
    assert!(!client.shared.reads(client.id));
    let mut got = 0;
    loop {
        let (bytes, _) = client.take();
        if bytes.is_empty() {
            break;
        }
        got += frames(&bytes).iter().filter(|frame| frame.2.starts_with(&[0, 60, 0, 71])).count();
        assert!(waits(&client) < OUTPUT_MAX, "{}", waits(&client));
    }
    assert_eq!(got, 500);
    assert!(client.shared.reads(client.id));
}

#[test]
fn deliveries_to_who_does_not_read_stay_in_the_queue() {
    let client = Client::open(Line::V3_10);
    client.send(&declare("q"));
    for _ in 0..200 {
        client.send(&publish(1, "q", 100_000));
    }
    let consume = b"\0\x3c\0\x14\0\0\x01q\x01c\x02\0\0\0\0";
    client.send(&raw(1, 1, consume));
    let waits = client.shared.look(|state| state.peers[&client.id].peer.output_len());
    assert!((1 << 20..OUTPUT_MAX).contains(&waits), "{waits}");
    let ready = client.shared.look(|state| state.core.queue("/", "q").unwrap().ready);
    assert!(ready > 150, "{ready}");
    let read = client.read();
    assert_eq!(frames(&read).iter().filter(|frame| frame.2.starts_with(&[0, 60, 0, 60])).count(), 200);
}

/// PRO-06: broker.md 15
#[test]
fn contents_that_are_begun_on_too_many_channels_are_refused() {
    let client = Client::open(Line::V4_3);
    for channel in 1..=2_048 {
        client.send(&begin_publish(channel, "q", 10)[..18]);
    }
    let text =
        "530 NOT_ALLOWED - number of channels opened (2047) has reached the negotiated channel_max (2047)";
    assert_eq!(Client::closes(&client.read()), [text]);
}

#[test]
fn bodies_that_are_begun_have_a_limit_together() {
    let client = Client::open(Line::V4_3);
    let part = raw(3, 0, &[0; 131_000]);
    let mut sent = 0;
    for channel in 1..=200_u16 {
        client.send(&begin_publish(channel, "q", 2 << 20));
        for _ in 0..16 {
            let mut part = part.clone();
            part[1..3].copy_from_slice(&channel.to_be_bytes());
            client.send(&part);
            sent += 131_000;
        }
        if !client.shared.look(|state| state.core.connections().next().is_some()) {
            break;
        }
    }
    assert!((256 << 20..300 << 20).contains(&sent), "{sent}");
    let text = "506 RESOURCE_ERROR - too many octets of contents that are not complete";
    assert_eq!(Client::closes(&client.read()), [text]);
}

#[test]
fn tables_in_tables_are_refused_without_end() {
    for depth in [100, 10_000] {
        let mut table = Vec::new();
        for _ in 0..depth {
            let mut outer = vec![0, b'F'];
            outer.extend((table.len() as u32).to_be_bytes());
            outer.extend(table);
            table = outer;
        }
        let client = Client::open(Line::V4_3);
        let mut payload = b"\0\x32\0\x0a\0\0\x01d\0".to_vec();
        payload.extend((table.len() as u32).to_be_bytes());
        payload.extend(&table);
        client.send(&raw(1, 1, &payload));
        let (read, end) = client.take();
        if depth == 100 {
            let closes = Client::closes(&read);
            assert!(
                closes.len() == 1 && closes[0].starts_with("501 FRAME_ERROR - cannot decode"),
                "{closes:?}"
            );
        } else {
            // As one that nobody can read.
            assert_eq!((Client::closes(&read), end), (vec![], Some(End::Reset)));
        }
        // As headers of a message.
        let client = Client::open(Line::V4_3);
        let mut header = b"\0\x3c\0\0\0\0\0\0\0\0\0\0\x20\0".to_vec();
        header.extend((table.len() as u32).to_be_bytes());
        header.extend(&table);
        let begin = begin_publish(1, "q", 0);
        client.send(&begin[..begin.len() - 22]);
        client.send(&raw(2, 1, &header));
        let closes = Client::closes(&client.read());
        let expected = if depth == 100 { vec![] } else { vec!["541 INTERNAL_ERROR".to_owned()] };
        assert_eq!(closes, expected);
        client.shared.lost(client.id);
    }
}

/// HB-02
#[test]
fn a_handshake_that_stops_ends_after_ten_seconds() {
    let all = handshake();
    for sent in [0, 3, 8, 30, all.len() - 1] {
        let client = Client::connect(Line::V4_3);
        client.send(&all[..sent]);
        client.read();
        client.advance(Duration::from_millis(9_999));
        assert_eq!(client.take().1, None, "{sent}");
        client.advance(Duration::from_millis(1));
        assert_eq!(client.take().1, Some(End::Reset), "{sent}");
    }
}

#[test]
fn what_is_not_read_at_the_end_is_given_up() {
    let client = Client::open(Line::V4_3);
    client.send(&raw(9, 1, b""));
    client.advance(Duration::from_secs(30));
    assert!(!client.shared.look(|state| state.peers[&client.id].peer.is_abandoned()));
    client.advance(Duration::from_secs(3));
    assert!(client.shared.look(|state| state.peers[&client.id].peer.is_abandoned()));
    assert_eq!(client.take(), (Bytes::new(), Some(End::Reset)));
}

#[test]
fn what_was_answered_is_written_after_the_client_has_finished() {
    let client = Client::open(Line::V4_3);
    client.send(&raw(1, 1, b"\0\x14\0\x28\0\xc8\x02ok\0\0\0\0"));
    client.shared.finished(client.id);
    let (bytes, end) = client.take();
    assert_eq!(frames(&bytes), [(1, 1, b"\0\x14\0\x29".to_vec())]);
    assert_eq!(end, Some(End::Close));
    assert_eq!(client.shared.look(|state| state.core.connections().count()), 0);
}

#[test]
fn what_is_delayed_comes_in_order_and_wakes_nobody_before() {
    let client = Client::open(Line::V4_3);
    let set = |millis| {
        client.shared.change(|state| state.with_peer(client.id, |peer, _, _| peer.delay = millis));
    };
    let open = |channel| method(channel, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
    set(100);
    client.send(&open(2));
    set(0);
    client.send(&open(3));
    client.advance(Duration::from_millis(99));
    assert_eq!(client.take(), (Bytes::new(), None));
    client.advance(Duration::from_millis(1));
    // The timekeeper has nothing to do, though nothing is taken.
    assert_eq!(client.shared.look(|state| state.peers[&client.id].peer.next_tick()), None);
    let channels: Vec<u16> = frames(&client.read()).iter().map(|frame| frame.1).collect();
    assert_eq!(channels, [2, 3]);
}

#[test]
fn a_connection_is_cut_after_so_many_octets() {
    for octets in [0, 1, 15, 16, 17] {
        let client = Client::open(Line::V4_3);
        client.shared.change(|state| state.with_peer(client.id, |peer, _, _| peer.cut_after(octets)));
        for channel in 2..4 {
            client.send(&method(channel, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))));
        }
        let (bytes, end) = client.take();
        assert_eq!((bytes.len() as u64, end), (octets, Some(End::Reset)));
    }
}

#[test]
fn who_is_not_read_on_order_misses_no_heartbeat() {
    let client = Client::connect(Line::V4_3);
    let mut bytes = handshake();
    // The heartbeat of tune-ok, in front of its end and of open.
    let open = method(
        0,
        AMQPClass::Connection(connection::AMQPMethod::Open(connection::Open { virtual_host: "/".into() })),
    );
    let at = bytes.len() - open.len() - 2;
    bytes[at] = 1;
    client.send(&bytes);
    let read_paused = |read_paused| {
        client.shared.change(|state| {
            state.with_peer(client.id, |peer, core, now| peer.set_read_paused(core, now, read_paused))
        });
    };
    read_paused(true);
    client.advance(Duration::from_secs(60));
    client.read();
    assert_eq!(client.take().1, None);
    read_paused(false);
    client.advance(Duration::from_millis(2_999));
    assert_eq!(client.take().1, None);
    client.advance(Duration::from_millis(1));
    assert_eq!(client.take().1, Some(End::Reset));
}

/// Whoever has closed a connection: RabbitMQ leaves the end of the socket to the client, for 30 s at most.
#[test]
fn the_client_ends_the_socket_of_a_closed_connection() {
    use connection::AMQPMethod as Method;
    let close = || method(0, AMQPClass::Connection(Method::Close(connection::Close::default())));
    let closed = vec![(1, 0, vec![0, 10, 0, 51])];
    let client = Client::open(Line::V4_3);
    client.send(&close());
    assert_eq!(frames(&client.read()), closed);
    client.send(&declare("q"));
    client.send(&close());
    assert_eq!(frames(&client.read()), closed);
    client.advance(Duration::from_millis(29_999));
    assert_eq!(client.take().1, None);
    client.advance(Duration::from_millis(1));
    assert_eq!(client.take().1, Some(End::Reset));
    let client = Client::open(Line::V4_3);
    client.send(&close());
    client.read();
    client.shared.finished(client.id);
    assert_eq!(client.take().1, Some(End::Close));
}
