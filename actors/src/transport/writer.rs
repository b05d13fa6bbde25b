//! Writes queued chunks, many in one call.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// The most chunks in one vectored write.
const MAX_SLICES: usize = 64;

/// The chunks that are queued and not written yet.
#[derive(Default)]
pub(crate) struct Writer {
    chunks: VecDeque<Bytes>,
    /// The bytes in the chunks.
    queued: usize,
    /// The bytes that the socket has accepted since it was flushed last. TLS holds records back.
    unflushed: usize,
    writes: u64,
}

impl Writer {
    /// Appends a chunk.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.queued += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Returns the number of bytes that are not written yet.
    pub(crate) fn pending(&self) -> usize {
        self.queued + self.unflushed
    }

    /// Returns whether everything is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending() == 0
    }

    /// Writes until nothing is left, nor held back by TLS, or the socket takes no more.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut filled = 0;
            for (chunk, slice) in self.chunks.iter().zip(&mut slices) {
                *slice = IoSlice::new(chunk);
                filled += 1;
            }
            let slices = slices.get(..filled).unwrap_or_default();
            let Poll::Ready(written) = Pin::new(&mut *socket).poll_write_vectored(cx, slices) else {
                ready!(self.poll_flush(socket, cx))?;
                return Poll::Pending;
            };
            let n = written?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.writes += 1;
            self.unflushed += n;
            self.advance(n);
        }
        self.poll_flush(socket, cx)
    }

    /// Flushes what the socket has accepted. TCP has nothing to flush.
    fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed > 0 {
            ready!(Pin::new(socket).poll_flush(cx))?;
            self.unflushed = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the number of writes so far that the socket accepted.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    fn advance(&mut self, mut n: usize) {
        self.queued -= n;
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

/// Omits the bytes, which may hold secrets.
impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("pending", &self.pending()).field("writes", &self.writes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts `limits.pop()` bytes in each call; 0 stands for `Pending`.
    #[derive(Default)]
    struct Sink {
        written: Vec<u8>,
        calls: u64,
        limits: Vec<usize>,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.calls += 1;
            let most = match self.limits.pop() {
                Some(0) => return Poll::Pending,
                Some(limit) => limit,
                None => usize::MAX,
            };
            let n = buf.len().min(most);
            self.written.extend(buf.iter().take(n));
            Poll::Ready(Ok(n))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            self.as_mut().poll_write(cx, &all)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Holds back what it accepts until it is flushed, as TLS does; `flushes.pop()` tells whether a flush is done.
    #[derive(Default)]
    struct HoldsBack {
        held: usize,
        flushes: Vec<bool>,
    }

    impl AsyncWrite for HoldsBack {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            if self.held > 0 {
                return Poll::Pending;
            }
            self.held = buf.len();
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.flushes.pop() == Some(true) {
                self.held = 0;
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_the_socket_holds_back_is_not_written() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut writer, mut socket) = (Writer::default(), HoldsBack::default());
        writer.push(Bytes::from_static(b"one"));
        assert!(writer.poll_write(&mut socket, &mut cx).is_pending());
        assert_eq!((writer.pending(), writer.is_empty()), (3, false));
        writer.push(Bytes::from_static(b"more"));
        assert!(writer.poll_write(&mut socket, &mut cx).is_pending());
        assert_eq!(writer.pending(), 7);
        // The flush is done, but the socket has said that it takes no more: it wakes the task.
        socket.flushes = vec![true];
        assert!(writer.poll_write(&mut socket, &mut cx).is_pending());
        assert_eq!(writer.pending(), 4);
        socket.flushes = vec![true];
        assert!(writer.poll_write(&mut socket, &mut cx).is_ready());
        assert_eq!((writer.pending(), writer.is_empty(), writer.writes()), (0, true, 2));
        // Nothing is flushed twice.
        assert!(writer.poll_write(&mut socket, &mut cx).is_ready());
    }

    fn write_out(writer: &mut Writer, sink: &mut Sink) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while writer.poll_write(sink, &mut cx).map(Result::unwrap).is_pending() {}
    }

    /// PRO-11
    #[test]
    fn partial_writes_lose_nothing() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut sink = Sink { limits: (0..500).map(|_| random.usize(0..600)).collect(), ..Sink::default() };
        let (mut writer, mut all) = (Writer::default(), Vec::<u8>::new());
        for _ in 0..100 {
            let frame: Vec<u8> = (0..random.usize(1..=2000)).map(|_| random.u8(..)).collect();
            all.extend(&frame);
            writer.push(frame.into());
            if random.bool() {
                write_out(&mut writer, &mut sink);
            }
        }
        write_out(&mut writer, &mut sink);
        assert_eq!(sink.written, all);
        assert!(writer.is_empty());
        assert_eq!(writer.pending(), 0);
    }

    #[test]
    fn many_chunks_are_written_in_one_call() {
        let (mut sink, mut writer) = (Sink::default(), Writer::default());
        (0..MAX_SLICES).for_each(|_| writer.push(Bytes::from_static(b"chunk")));
        write_out(&mut writer, &mut sink);
        assert_eq!((sink.calls, writer.writes(), sink.written.len()), (1, 1, 5 * MAX_SLICES));
    }
}
