//! Encodes publishes and decodes deliveries. `make bench` runs it.

#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

mod common;

use std::hint::black_box;

use actix_pika_actors::{
    Properties,
    wire::{
        basic_decode::{parse_header, parse_method},
        basic_encode::{put_body, put_header, put_publish},
        frame::FrameKind,
        frame_decoder::FrameDecoder,
        single_frame::single_frame_delivery,
    },
};
use bytes::{BufMut, BytesMut};

use self::common::measure;

const BATCH: u32 = 1000;
const FRAME_MAX: u32 = 131_072;

fn properties() -> Properties {
    Properties::new().with_content_type("text/plain").with_message_id("0123456789abcdef")
}

fn put_message(buf: &mut BytesMut, properties: &Properties, body: &[u8]) {
    put_publish(buf, 1, "", "jobs", true);
    put_header(buf, 1, body.len() as u64, properties);
    put_body(buf, 1, body);
}

/// Encodes `basic.deliver` with its content.
fn put_delivery(buf: &mut BytesMut, tag: u64, properties: &Properties, body: &[u8]) {
    let mut payload = BytesMut::new();
    payload.put_slice(&[0, 60, 0, 60]);
    payload.put_slice(b"\x08consumer");
    payload.put_u64(tag);
    payload.put_u8(0);
    payload.put_slice(b"\x00\x04jobs");
    buf.put_slice(&[1, 0, 1]);
    buf.put_u32(payload.len() as u32);
    buf.put_slice(&payload);
    buf.put_u8(0xCE);
    put_header(buf, 1, body.len() as u64, properties);
    put_body(buf, 1, body);
}

fn encode(name: &str, properties: &Properties, body: &[u8]) {
    let mut buf = BytesMut::new();
    measure(name, BATCH, || {
        buf.clear();
        for _ in 0..BATCH {
            put_message(black_box(&mut buf), black_box(properties), black_box(body));
        }
    });
}

/// Decodes deliveries by frames, as those with a body of several frames.
fn decode(name: &str, properties: &Properties, body: &[u8]) {
    let mut stream = BytesMut::new();
    for tag in 1..=BATCH {
        put_delivery(&mut stream, tag.into(), properties, body);
    }
    let stream = stream.freeze();
    measure(name, BATCH, || {
        let (mut decoder, mut buf) = (FrameDecoder::new(FRAME_MAX), BytesMut::from(&stream[..]));
        while let Some(batch) = decoder.next_batch(&mut buf).expect("valid frames") {
            for frame in batch {
                match frame.kind {
                    FrameKind::Method => drop(black_box(parse_method(&frame.payload).expect("a method"))),
                    FrameKind::Header => drop(black_box(parse_header(&frame.payload).expect("a header"))),
                    FrameKind::Body | FrameKind::Heartbeat => drop(black_box(frame.payload)),
                }
            }
        }
    });
}

/// Decodes a delivery whose body is in one frame, in one step.
fn decode_single_frame(name: &str, properties: &Properties, body: &[u8]) {
    let mut bytes = BytesMut::new();
    put_delivery(&mut bytes, 1, properties, body);
    measure(name, BATCH, || {
        for _ in 0..BATCH {
            black_box(single_frame_delivery(black_box(&bytes), 1 << 20)).expect("a delivery");
        }
    });
}

fn main() {
    let (plain, some) = (Properties::new(), properties());
    let (small, large) = (vec![b'x'; 16], vec![b'x'; 1024]);
    encode("encode a publish, 16 B", &plain, &small);
    encode("encode a publish, 16 B, two properties", &some, &small);
    encode("encode a publish, 1 KiB", &plain, &large);
    decode("decode a delivery by frames, 16 B", &plain, &small);
    decode("decode a delivery by frames, 1 KiB", &plain, &large);
    decode_single_frame("decode a single-frame delivery, 16 B", &plain, &small);
    decode_single_frame("decode a single-frame delivery, 1 KiB", &plain, &large);
}
