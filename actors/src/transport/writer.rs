//! Writing what was taken, many chunks in one call.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

const SLICES: usize = 64;

/// The bytes that were taken and not written yet.
#[derive(Debug, Default)]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as much at a time as it is told, and sometimes nothing.
    #[derive(Default)]
    struct Sink {
        taken: Vec<u8>,
        calls: u64,
        grains: Vec<usize>,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.calls += 1;
            let most = match self.grains.pop() {
                Some(0) => return Poll::Pending,
                Some(grain) => grain,
                None => usize::MAX,
            };
            let n = buf.len().min(most);
            self.taken.extend(buf.iter().take(n));
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

    fn write_out(writer: &mut Writer, sink: &mut Sink) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while writer.poll_write(sink, &mut cx).map(Result::unwrap).is_pending() {}
    }

    /// PRO-11
    #[test]
    fn a_sink_that_takes_little_loses_nothing() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut sink = Sink { grains: (0..500).map(|_| random.usize(0..600)).collect(), ..Sink::default() };
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
        assert_eq!(sink.taken, all);
        assert!(writer.is_empty());
        assert_eq!(writer.pending(), 0);
    }

    #[test]
    fn many_chunks_go_out_in_one_call() {
        let (mut sink, mut writer) = (Sink::default(), Writer::default());
        (0..SLICES).for_each(|_| writer.push(Bytes::from_static(b"chunk")));
        write_out(&mut writer, &mut sink);
        assert_eq!((sink.calls, writer.writes(), sink.taken.len()), (1, 1, 5 * SLICES));
    }
}
