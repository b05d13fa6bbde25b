//! The methods with a content that a broker sends.

use actix_pika_actors::wire::basic_encode::put_body;
use bytes::{BufMut, BytesMut};

use super::frames::{BASIC, END, HEADER, HEADER_FIXED, METHOD};
use crate::core::{Message, octets_of};

/// The octets around a payload.
const AROUND: usize = 8;

pub(super) fn put_deliver(
    out: &mut BytesMut,
    channel: u16,
    consumer_tag: &str,
    delivery_tag: u64,
    redelivered: bool,
    message: &Message,
) {
    let size = 4 + 1 + consumer_tag.len() + 9 + names_len(message);
    out.reserve(size + AROUND);
    put_head(out, METHOD, channel, size);
    out.put_u16(BASIC);
    out.put_u16(60);
    put_short(out, consumer_tag);
    out.put_u64(delivery_tag);
    out.put_u8(redelivered.into());
    put_names(out, message);
    out.put_u8(END);
}

pub(super) fn put_get_ok(
    out: &mut BytesMut,
    channel: u16,
    delivery_tag: u64,
    redelivered: bool,
    message_count: u32,
    message: &Message,
) {
    put_head(out, METHOD, channel, 4 + 9 + names_len(message) + 4);
    out.put_u16(BASIC);
    out.put_u16(71);
    out.put_u64(delivery_tag);
    out.put_u8(redelivered.into());
    put_names(out, message);
    out.put_u32(message_count);
    out.put_u8(END);
}

pub(super) fn put_return(out: &mut BytesMut, channel: u16, code: u16, text: &str, message: &Message) {
    put_head(out, METHOD, channel, 4 + 2 + 1 + text.len() + names_len(message));
    out.put_u16(BASIC);
    out.put_u16(50);
    out.put_u16(code);
    put_short(out, text);
    put_names(out, message);
    out.put_u8(END);
}

/// Appends header and body frames. `frame_max` is 0 or at least 4096.
pub(super) fn put_content(
    out: &mut BytesMut,
    channel: u16,
    properties: &[u8],
    body: &[u8],
    frame_max: usize,
) {
    let size = HEADER_FIXED + properties.len();
    out.reserve(size + AROUND + body.len() + AROUND);
    put_head(out, HEADER, channel, size);
    out.put_u16(BASIC);
    out.put_u16(0);
    out.put_u64(body.len() as u64);
    out.put_slice(properties);
    out.put_u8(END);
    let most = if frame_max == 0 { body.len().max(1) } else { frame_max - AROUND };
    for part in body.chunks(most) {
        put_body(out, channel, part);
    }
}

fn names_len(message: &Message) -> usize {
    2 + short(&message.exchange).len() + key_len(&message.routing_key)
}

fn put_names(out: &mut BytesMut, message: &Message) {
    put_short(out, &message.exchange);
    let key = octets_of(&message.routing_key);
    out.put_u8(key_len(&message.routing_key) as u8);
    out.put_slice(&key[..key_len(&message.routing_key)]);
}

fn put_short(out: &mut BytesMut, text: &str) {
    let text = short(text);
    out.put_u8(text.len() as u8);
    out.put_slice(text);
}

/// How many octets of a routing key are sent. A key of dead letters is an argument of a queue, and may be longer than a
/// short string.
fn key_len(key: &str) -> usize {
    octets_of(key).len().min(255)
}

fn short(text: &str) -> &[u8] {
    let text = text.as_bytes();
    text.get(..255).unwrap_or(text)
}

fn put_head(out: &mut BytesMut, kind: u8, channel: u16, size: usize) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(size as u32);
}
