//! Frames come out the same whether a stream arrives whole or in pieces, and nothing is lost before a fault.
#![no_main]

use actix_pika_actors::wire::{
    fault::Fault,
    frame::{FrameDecoder, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, other_protocol_detected},
};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<Fault>, usize) {
    let (mut cutter, mut buf) = (FrameDecoder::new(FRAME_MIN_SIZE), BytesMut::new());
    let mut frames = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match cutter.next_run(&mut buf) {
                Ok(Some(run)) => {
                    let before = frames.len();
                    frames.extend(run.iter());
                    assert_eq!(frames.len() - before, run.frames);
                    assert!(frames[before..].iter().all(|frame| frame.channel == run.channel));
                }
                Ok(None) => break,
                Err(fault) => return (frames, Some(fault), 0),
            }
        }
        assert!(buf.len() + cutter.wanted() <= FRAME_MIN_SIZE as usize);
    }
    (frames, None, buf.len())
}

fuzz_target!(|data: &[u8]| {
    let Some((&step, stream)) = data.split_first() else { return };
    let _ = other_protocol_detected(stream);
    let (whole, fault, left) = cut([stream].into_iter());
    let (pieces, same_fault, same_left) = cut(stream.chunks(usize::from(step) + 1));
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
