//! A server that answers anything: the client answers with whole frames, and never shows its password.
#![no_main]

use actix_pika_actors::wire::{
    frame::{FrameDecoder, FRAME_MIN_SIZE},
    handshake::{Handshake, Mechanism, Progress, Terms},
    method::read_method,
    table::Table,
};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut handshake = Handshake::new(Terms {
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
    let (mut cutter, mut buf) = (FrameDecoder::new(FRAME_MIN_SIZE), BytesMut::from(data));
    let mut out = BytesMut::new();
    'frames: while let Ok(Some(run)) = cutter.next_run(&mut buf) {
        for frame in run {
            match handshake.advance(&frame, &mut out) {
                Ok(Progress::More) => {}
                Ok(Progress::Open(negotiated)) => {
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
    let mut cutter = FrameDecoder::new(FRAME_MIN_SIZE);
    while let Some(run) = cutter.next_run(&mut out).expect("frames of ours") {
        assert!(run.iter().all(|frame| read_method(&frame.payload).is_ok()));
    }
    assert!(out.is_empty());
});
