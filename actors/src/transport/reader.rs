//! Reads in blocks of 64 KiB, or 256 KiB where bodies are large, so that payloads can be views of the blocks.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

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

    /// Reads once into the buffer.
    pub(crate) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<ReadProgress>> {
        let free = self.buffer.capacity() - self.buffer.len();
        if free < MIN_FREE.max(self.wanted) {
            let block = if self.wanted >= LARGE_FRAME { LARGE_BLOCK } else { BLOCK };
            self.buffer.reserve(block.max(self.wanted));
        }
        match poll_read_buf(Pin::new(socket), cx, &mut self.buffer) {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(ReadProgress::End)),
            Poll::Ready(Ok(n)) => Poll::Ready(Ok(ReadProgress::Read(n))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}
