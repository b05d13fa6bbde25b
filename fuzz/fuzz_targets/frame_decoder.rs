//! Decodes a random stream, whole and in pieces. The frames are the same, and frames before a fault are not lost.
#![no_main]

use actix_pika_actors::wire::{
    fault::Fault,
    frame::{FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame},
    frame_decoder::{FrameDecoder, METHOD_MAX},
    other_protocol::other_protocol_detected,
};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<Fault>, usize) {
    let (mut decoder, mut buf) = (FrameDecoder::new(FRAME_MIN_SIZE), BytesMut::new());
    let mut frames = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decoder.next_batch(&mut buf) {
                Ok(Some(batch)) => {
                    let before = frames.len();
                    frames.extend(batch.iter());
                    assert_eq!(frames.len() - before, batch.frames);
                    assert!(frames[before..].iter().all(|frame| frame.channel == batch.channel));
                }
                Ok(None) => break,
                Err(fault) => return (frames, Some(fault), 0),
            }
        }
        assert!(decoder.missing_bytes() <= FRAME_MIN_SIZE as usize);
        let longest = if buf.first() == Some(&3) { FRAME_MIN_SIZE as usize } else { METHOD_MAX };
        assert!(buf.len() + decoder.missing_bytes() <= longest);
    }
    (frames, None, buf.len())
}

fuzz_target!(|data: &[u8]| {
    let Some((&step, stream)) = data.split_first() else { return };
    let _ = other_protocol_detected(stream);
    let (whole, fault, left) = decode([stream].into_iter());
    let (pieces, same_fault, same_left) = decode(stream.chunks(usize::from(step) + 1));
    assert_eq!(whole.len(), pieces.len());
    for (one, other) in whole.iter().zip(&pieces) {
        assert_eq!((one.kind, one.channel, &one.payload), (other.kind, other.channel, &other.payload));
    }
    assert_eq!(fault.is_some(), same_fault.is_some());
    if fault.is_none() {
        let taken: usize = whole.iter().map(|frame| frame.payload.len() + FRAME_OVERHEAD).sum();
        assert_eq!((taken + left, left), (stream.len(), same_left));
    }
});
