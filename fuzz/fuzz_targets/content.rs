//! Frames of one channel in any order: whatever is assembled has the size that was announced, within the limit.
#![no_main]

use actix_pika_actors::wire::{
    content::{Assembler, Content, ContentMethod},
    frame::{FrameDecoder, FRAME_MIN_SIZE, FrameKind},
    basic_frames::{Inbound, parse_method},
    properties::Properties,
};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 10_000;

fn whole(content: Content) {
    assert_eq!(content.body.len() as u64, content.header.body_size);
    assert!(content.header.body_size <= LIMIT);
    let _ = Properties::decode(&content.header.properties);
    match content.method {
        ContentMethod::Deliver(deliver) => drop(deliver.routing_key.of(&content.payload).to_vec()),
        ContentMethod::GetOk(get_ok) => drop(get_ok.routing_key.of(&content.payload).to_vec()),
        ContentMethod::Return(head) => drop(head.text.of(&content.payload).to_vec()),
    }
}

fuzz_target!(|data: &[u8]| {
    let (mut cutter, mut assembler) = (FrameDecoder::new(FRAME_MIN_SIZE), Assembler::new(LIMIT));
    let mut buf = BytesMut::from(data);
    while let Ok(Some(run)) = cutter.next_run(&mut buf) {
        for frame in run {
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
                    whole(content);
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
