//! Reading in blocks: 64 KiB, or 256 KiB where bodies are large, so that payloads can be views of them.

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
/// A frame of this size makes the next block a large one.
const LARGE_FRAME: usize = 16 * 1024;
/// A block with less room than this is left for the next.
const ROOM: usize = 4 * 1024;

/// The bytes that were read and not cut yet.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) buffer: BytesMut,
    wanted: usize,
}

/// What one read came to.
#[derive(Debug)]
pub(crate) enum ReadProgress {
    Read(usize),
    /// The peer has finished sending.
    End,
}

impl Reader {
    /// Notes how many bytes are missing for the frame at the front.
    pub(crate) fn want(&mut self, wanted: usize) {
        self.wanted = wanted;
    }

    pub(crate) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<ReadProgress>> {
        let room = self.buffer.capacity() - self.buffer.len();
        if room < ROOM.max(self.wanted) {
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
