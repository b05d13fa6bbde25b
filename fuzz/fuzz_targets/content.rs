//! Decodes random frames of one channel. Every assembled content has the announced size, or is skipped if that is over
//! the limit.
#![no_main]

use actix_pika_actors::wire::{
    basic_decode::{Inbound, parse_method},
    content::{AssembledContent, Assembler, ContentMethod},
    frame::{FRAME_MIN_SIZE, FrameKind},
    frame_decoder::FrameDecoder,
    property_codec::decode_properties,
};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 10_000;

fn check(content: AssembledContent) {
    match &content.body {
        Ok(body) => {
            assert_eq!(body.len() as u64, content.header.body_size);
            assert!(content.header.body_size <= LIMIT);
        }
        Err(skipped) => assert_eq!(skipped.size(), content.header.body_size),
    }
    let _ = decode_properties(&content.header.properties);
    let _ = match content.method {
        ContentMethod::Deliver(deliver) => deliver.routing_key.of(&content.payload).to_vec(),
        ContentMethod::GetOk(get_ok) => get_ok.routing_key.of(&content.payload).to_vec(),
        ContentMethod::Return(head) => head.text.of(&content.payload).to_vec(),
    };
}

fuzz_target!(|data: &[u8]| {
    let (mut decoder, mut assembler) = (FrameDecoder::new(FRAME_MIN_SIZE), Assembler::new(LIMIT));
    let mut buf = BytesMut::from(data);
    while let Ok(Some(batch)) = decoder.next_batch(&mut buf) {
        for frame in batch {
            let content = match frame.kind {
                FrameKind::Heartbeat => Ok(None),
                FrameKind::Header => assembler.header(&frame.payload),
                FrameKind::Body => assembler.body(frame.payload),
                FrameKind::Method => {
                    let method = match parse_method(&frame.payload) {
                        Ok(Inbound::Deliver(deliver)) => ContentMethod::Deliver(deliver),
                        Ok(Inbound::GetOk(get_ok)) => ContentMethod::GetOk(get_ok),
                        Ok(Inbound::Return(head)) => ContentMethod::Return(head),
                        _ => continue,
                    };
                    assembler.begin(method, frame.payload).map(|()| None)
                }
            };
            match content {
                Ok(Some(content)) => {
                    assert!(assembler.idle());
                    check(content);
                }
                Ok(None) => {}
                Err(fault) => {
                    assert!((501..=506).contains(&fault.code));
                    assembler.reset();
                }
            }
        }
    }
});
