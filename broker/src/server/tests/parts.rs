//! The parts that run: who is told when one of them panics, and that none is left behind.

use std::{
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use crate::Broker;

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it takes less than 10 s")
}

fn text(panic: Box<dyn std::any::Any + Send>) -> String {
    *panic.downcast::<String>().unwrap()
}

/// What is read of a stream.
#[derive(Clone, Copy)]
enum Read {
    Panic,
    /// What is no protocol header.
    Wrong,
    Nothing,
}

/// A stream that never shuts down.
struct Stream {
    read: Read,
    _dropped: oneshot::Sender<()>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match std::mem::replace(&mut self.read, Read::Nothing) {
            Read::Panic => panic!("no such read"),
            Read::Wrong => {
                buf.put_slice(b"HTTP/1.1");
                Poll::Ready(Ok(()))
            }
            Read::Nothing => Poll::Pending,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[actix_rt::test]
async fn a_panic_of_a_part_is_told_to_who_waits() {
    for broker in [Broker::start().unwrap(), Broker::builder().start_here()] {
        let (sender, dropped) = oneshot::channel();
        let dial = broker.dialer();
        broker.serve(Stream { read: Read::Panic, _dropped: sender });
        let waits = AssertUnwindSafe(broker.until(|_| false)).catch_unwind();
        let told = "a connection of the test broker panicked: no such read";
        assert_eq!(text(within(waits).await.unwrap_err()), told);
        assert_eq!(within(broker.broken()).await, told);
        assert_eq!(dial().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let stops = catch_unwind(AssertUnwindSafe(|| broker.stop_node()));
        assert_eq!(text(stops.unwrap_err()), format!("cannot close the ports: {told}"));
        assert!(broker.start_node().unwrap_err().to_string().ends_with(told));
        // What holds is not waited for.
        within(broker.until(|_| true)).await;
        let port = broker.port();
        drop(broker);
        assert!(within(dropped).await.is_err());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}

/// With TLS the end of a stream is written, too: the client may not read it.
#[actix_rt::test]
async fn a_stream_that_does_not_shut_down_is_given_up() {
    let broker = Broker::builder().manual_clock().start_here();
    let (sender, dropped) = oneshot::channel();
    broker.serve(Stream { read: Read::Wrong, _dropped: sender });
    let peers = || broker.shared.look(|state| state.peers.len());
    let ends = || broker.shared.look(|state| state.peers.values().any(|entry| entry.peer.end().is_some()));
    within(async {
        while !ends() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(peers(), 1);
    broker.advance_connections(Duration::from_secs(3));
    assert!(within(dropped).await.is_err());
    assert_eq!(peers(), 0);
}
