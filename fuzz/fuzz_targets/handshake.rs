//! Runs the client handshake against random input. The replies are valid frames, and the password is never printed.
#![no_main]

use actix_pika_actors::{
    Mechanism, Table,
    wire::{
        client_handshake::{HandshakeMachine, HandshakeStatus},
        frame::FRAME_MIN_SIZE,
        frame_decoder::FrameDecoder,
        handshake_options::HandshakeOptions,
        method::read_method,
    },
};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut handshake = HandshakeMachine::new(HandshakeOptions {
        mechanisms: vec![Mechanism::Plain],
        user: "guest".into(),
        password: "hunter2-unmistakable".into(),
        vhost: "/".into(),
        locale: "en_US".into(),
        channel_max: 2047,
        frame_max: 131_072,
        heartbeat: Some(60),
        client_properties: Table::from([("connection_name", "fuzz")]),
    });
    let (mut decoder, mut buf) = (FrameDecoder::new(FRAME_MIN_SIZE), BytesMut::from(data));
    let mut out = BytesMut::new();
    'frames: while let Ok(Some(batch)) = decoder.next_batch(&mut buf) {
        for frame in batch {
            match handshake.advance(&frame, &mut out) {
                Ok(HandshakeStatus::Pending) => {}
                Ok(HandshakeStatus::Open(negotiated)) => {
                    assert!(negotiated.channel_max > 0);
                    assert!((FRAME_MIN_SIZE..=131_072).contains(&negotiated.frame_max));
                    assert!(negotiated.heartbeat <= 60);
                    break 'frames;
                }
                Err(error) => {
                    assert!(!format!("{error} {error:?}").contains("unmistakable"));
                    break 'frames;
                }
            }
            assert!(!format!("{handshake:?}").contains("unmistakable"));
        }
    }
    let mut decoder = FrameDecoder::new(FRAME_MIN_SIZE);
    while let Some(batch) = decoder.next_batch(&mut out).expect("valid frames") {
        assert!(batch.iter().all(|frame| read_method(&frame.payload).is_ok()));
    }
    assert!(out.is_empty());
});
