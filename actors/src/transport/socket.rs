//! The socket of one connection: a byte stream, with TLS on it or without.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(feature = "tls")]
use tokio::io::BufReader;
#[cfg(feature = "testing")]
use tokio::io::DuplexStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
#[cfg(feature = "tls")]
use tokio_rustls::client::TlsStream;

/// The most bytes that are read below TLS at a time. rustls asks for 4 KiB, with a system call for each.
#[cfg(feature = "tls")]
const TLS_READ: usize = 64 * 1024;

/// A connected byte stream to the broker.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// One half of an in-memory stream: tests need no network, and can pause the clock.
    #[cfg(feature = "testing")]
    Memory(DuplexStream),
}

/// A byte stream to the broker that is ready for AMQP.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(Stream),
    /// Boxed, because it is about 1 KiB large.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<BufReader<Stream>>>),
}

/// Calls the same method on the stream of whichever variant this is.
macro_rules! dispatch {
    ($type:ident, $socket:expr, $stream:ident => $call:expr) => {
        dispatch!(@$type $socket, $stream => $call)
    };
    (@Stream $socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Stream::Tcp($stream) => $call,
            #[cfg(feature = "testing")]
            Stream::Memory($stream) => $call,
        }
    };
    (@Socket $socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Plain($stream) => $call,
            #[cfg(feature = "tls")]
            Socket::Tls($stream) => $call,
        }
    };
}

impl Stream {
    /// Returns the stream as TLS uses it: reads are buffered, writes are not.
    #[cfg(feature = "tls")]
    pub(super) fn below_tls(self) -> BufReader<Self> {
        BufReader::with_capacity(TLS_READ, self)
    }

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

impl Socket {
    /// Returns the stream below TLS.
    pub(crate) fn stream(&self) -> &Stream {
        match self {
            Self::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().0.get_ref(),
        }
    }

    /// Tells the peer that nothing follows: the `close_notify` of TLS, without which it cannot know whether
    /// something was cut off. Plain AMQP has `connection.close` alone.
    pub(crate) fn poll_close_notify(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(_) => {
                let _ = cx;
                Poll::Ready(())
            }
            #[cfg(feature = "tls")]
            // Whoever is gone needs no notice.
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx).map(drop),
        }
    }
}

#[cfg(feature = "testing")]
const MEMORY_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        dispatch!(Stream, self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => match Pin::new(stream).poll_read(cx, buf) {
                // An end without `close_notify`. It is one like any other: `connection.close` tells what is
                // missing.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                read => read,
            },
        }
    }
}

macro_rules! byte_writer {
    ($type:ident) => {
        impl AsyncWrite for $type {
            #[inline]
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                dispatch!($type, self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
            }

            #[inline]
            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                dispatch!($type, self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
            }

            #[inline]
            fn is_write_vectored(&self) -> bool {
                dispatch!($type, self, stream => stream.is_write_vectored())
            }

            #[inline]
            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                dispatch!($type, self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
            }

            #[inline]
            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                dispatch!($type, self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
            }
        }
    };
}

byte_writer!(Stream);
byte_writer!(Socket);

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
            (Socket::Plain(Stream::Tcp(client.unwrap())), Socket::Plain(Stream::Tcp(server.unwrap().0))),
            (Socket::Plain(Stream::Memory(left)), Socket::Plain(Stream::Memory(right))),
        ];
        for (mut client, mut server) in pairs {
            assert!(client.is_write_vectored());
            let slices = [IoSlice::new(b"one"), IoSlice::new(b"two")];
            assert_eq!(client.write_vectored(&slices).await.unwrap(), 6);
            let mut read = [0; 6];
            server.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"onetwo");
            assert_eq!(client.stream().peer_addr().unwrap(), server.stream().local_addr().unwrap());
        }
    }

    /// TLS-16: what is read below TLS before it is asked for is bounded, and comes before the end.
    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn a_bounded_number_of_bytes_is_read_below_tls() {
        let sent: Vec<_> = (0..=250).cycle().take(3 * TLS_READ).collect();
        let (left, mut right) = tokio::io::duplex(sent.len());
        right.write_all(&sent).await.unwrap();
        drop(right);
        let mut stream = Stream::Memory(left).below_tls();
        let mut read = vec![0; 5];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(stream.buffer().len(), TLS_READ - 5);
        stream.read_to_end(&mut read).await.unwrap();
        assert!(read == sent);
    }
}
