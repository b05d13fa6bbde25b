//! Reads in blocks of 64 KiB, or 256 KiB where bodies are large, so that payloads can be views of the blocks.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::blocks::HeldBlocks;

const BLOCK: usize = 64 * 1024;
const LARGE_BLOCK: usize = 256 * 1024;
/// While a frame of this size or more is awaited, the next block is a large one.
const LARGE_FRAME: usize = 16 * 1024;
/// A block with less free space than this is replaced by a new one.
const MIN_FREE: usize = 4 * 1024;

/// The bytes that were read and not decoded yet.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) buffer: BytesMut,
    wanted: usize,
    /// The size of the block that is read into.
    block: usize,
    held: HeldBlocks,
}

/// The result of one read.
#[derive(Debug)]
pub(crate) enum ReadProgress {
    /// The number of bytes read.
    Read(usize),
    /// The peer has closed its side.
    End,
}

impl Reader {
    /// Sets how many bytes the frame at the front of the buffer still misses.
    pub(crate) fn want(&mut self, wanted: usize) {
        self.wanted = wanted;
    }

    /// Returns the bytes of blocks that were read before and are still referred to.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Makes room for a block of this size, in another one if the current one is referred to.
    fn next_block(&mut self, size: usize) {
        let free = self.buffer.capacity() - self.buffer.len();
        // The second succeeds for a block that nothing refers to, and which is too small.
        if !self.buffer.try_reclaim(size) && !self.buffer.try_reclaim(free + 1) {
            let handle = self.buffer.split_to(0).freeze();
            self.held.add(handle, self.block);
        }
        self.buffer.reserve(size);
        self.block = self.buffer.capacity();
    }

    /// Reads once into the buffer.
    pub(crate) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<ReadProgress>> {
        let free = self.buffer.capacity() - self.buffer.len();
        if free < MIN_FREE.max(self.wanted) {
            let block = if self.wanted >= LARGE_FRAME { LARGE_BLOCK } else { BLOCK };
            self.next_block(block.max(self.wanted));
        }
        match poll_read_buf(Pin::new(socket), cx, &mut self.buffer) {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(ReadProgress::End)),
            Poll::Ready(Ok(n)) => Poll::Ready(Ok(ReadProgress::Read(n))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::wire::{FRAME_MIN_SIZE, FRAME_OVERHEAD, FrameDecoder};

    /// Reads `bytes` from a socket that gives `step` of them at a time, as the I/O loop does.
    fn read(bytes: &[u8], step: usize, frame_max: u32) -> (Reader, FrameDecoder) {
        let (mut reader, mut decoder) = (Reader::default(), FrameDecoder::new(frame_max));
        for mut piece in bytes.chunks(step) {
            while !piece.is_empty() {
                let read = reader.poll_read(&mut piece, &mut Context::from_waker(Waker::noop()));
                assert!(matches!(read, Poll::Ready(Ok(ReadProgress::Read(_)))));
            }
            while let Ok(Some(_)) = decoder.next_batch(&mut reader.buffer) {}
            reader.want(decoder.missing_bytes());
        }
        (reader, decoder)
    }

    #[test]
    fn no_more_is_reserved_for_a_large_header_than_for_a_body() {
        let size: u32 = (1 << 20) - FRAME_OVERHEAD as u32;
        let head = [&[2, 0, 1][..], &size.to_be_bytes(), &[0]].concat();
        for frame_max in [FRAME_MIN_SIZE, 131_072] {
            let (mut reader, _) = read(&head, 8, frame_max);
            // Whatever arrives next makes the reader reserve.
            let read = reader.poll_read(&mut &[0][..], &mut Context::from_waker(Waker::noop()));
            assert!(matches!(read, Poll::Ready(Ok(ReadProgress::Read(1)))));
            assert!(reader.buffer.capacity() <= LARGE_BLOCK + BLOCK, "{}", reader.buffer.capacity());
        }
    }

    #[test]
    fn a_block_counts_while_something_of_it_is_kept() {
        let mut reader = Reader::default();
        let mut kept = Vec::new();
        for n in 1..=100_000 {
            let read = reader.poll_read(&mut &[7; 1000][..], &mut Context::from_waker(Waker::noop()));
            assert!(matches!(read, Poll::Ready(Ok(ReadProgress::Read(1000)))));
            let bytes = reader.buffer.split().freeze();
            if n % 100 == 0 && kept.len() < 40 {
                kept.push(bytes);
            }
        }
        // No two of those are in one block.
        assert!((40 * BLOCK..60 * BLOCK).contains(&reader.held_bytes()), "{}", reader.held_bytes());
        kept.clear();
        for _ in 0..500 {
            let _ = reader.poll_read(&mut &[7; 1000][..], &mut Context::from_waker(Waker::noop()));
            kept.push(reader.buffer.split().freeze());
        }
        assert!(reader.held_bytes() <= 10 * BLOCK, "{}", reader.held_bytes());
    }

    #[test]
    fn a_header_of_the_largest_size_is_read_in_pieces_of_any_size() {
        let size: u32 = (1 << 20) - FRAME_OVERHEAD as u32;
        let frame = [&[2, 0, 1][..], &size.to_be_bytes(), &vec![7; size as usize], &[0xCE]].concat();
        for step in [1000, 65_536, 1 << 20] {
            let (reader, decoder) = read(&frame, step, 131_072);
            assert_eq!((reader.buffer.len(), decoder.missing_bytes()), (0, 0), "in steps of {step}");
            let (reader, _) = read(&frame[..frame.len() - 1], step, 131_072);
            assert_eq!(reader.buffer.len(), frame.len() - 1, "one octet is missing");
        }
    }
}
