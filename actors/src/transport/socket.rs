//! The socket of one connection. TLS belongs here, as another variant.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(feature = "testing")]
use tokio::io::DuplexStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connected byte stream to the broker.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    /// One half of an in-memory stream: tests need no network, and can pause the clock.
    #[cfg(feature = "testing")]
    Memory(DuplexStream),
}

/// Calls the same method on the stream of whichever variant this is.
macro_rules! dispatch {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            #[cfg(feature = "testing")]
            Socket::Memory($stream) => $call,
        }
    };
}

impl Socket {
    /// Returns the address of this end; port 0 for an in-memory stream.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr(),
            #[cfg(feature = "testing")]
            Self::Memory(_) => Ok(MEMORY_ADDR),
        }
    }

    /// Returns the address of the peer; port 0 for an in-memory stream.
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr(),
            #[cfg(feature = "testing")]
            Self::Memory(_) => Ok(MEMORY_ADDR),
        }
    }
}

#[cfg(feature = "testing")]
const MEMORY_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        dispatch!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        dispatch!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        dispatch!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        dispatch!(self, stream => stream.is_write_vectored())
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        dispatch!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        dispatch!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A vectored write passes all slices to the stream below, so that many frames leave in one system call.
    #[tokio::test]
    async fn both_kinds_write_vectored_and_read_what_was_written() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, server) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (left, right) = tokio::io::duplex(64);
        let pairs = [
            (Socket::Tcp(client.unwrap()), Socket::Tcp(server.unwrap().0)),
            (Socket::Memory(left), Socket::Memory(right)),
        ];
        for (mut client, mut server) in pairs {
            assert!(client.is_write_vectored());
            let slices = [IoSlice::new(b"one"), IoSlice::new(b"two")];
            assert_eq!(client.write_vectored(&slices).await.unwrap(), 6);
            let mut read = [0; 6];
            server.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"onetwo");
            assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
        }
    }
}
