//! Writing what was taken, many chunks in one call.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

const SLICES: usize = 64;

/// The bytes that were taken and not written yet.
#[derive(Default)]
pub(crate) struct Writer {
    chunks: VecDeque<Bytes>,
    pending: usize,
    writes: u64,
}

impl Writer {
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.pending += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Writes until nothing is left; tells how many bytes went out in this call, pending or not.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut filled = 0;
            for (chunk, slice) in self.chunks.iter().zip(&mut slices) {
                *slice = IoSlice::new(chunk);
                filled += 1;
            }
            let slices = slices.get(..filled).unwrap_or_default();
            let n = ready!(Pin::new(&mut *socket).poll_write_vectored(cx, slices))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.writes += 1;
            self.advance(n);
        }
        Poll::Ready(Ok(()))
    }

    /// How often the socket took something.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    fn advance(&mut self, mut n: usize) {
        self.pending -= n;
        while n > 0 {
            let Some(front) = self.chunks.front_mut() else { return };
            if front.len() > n {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.chunks.pop_front();
        }
    }
}

/// Without the bytes, which may be secrets.
impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("pending", &self.pending).field("writes", &self.writes).finish()
    }
}
