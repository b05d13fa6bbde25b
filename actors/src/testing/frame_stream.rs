//! The stream to the client: writes bytes, and decodes frames from the bytes that it reads. No time limits
//! here.

use std::{fmt, io, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::{Disconnect, RawFrame, protocol::constants};

/// A frame that announces more than this is malformed.
const LARGEST_FRAME: usize = 256 << 20;

/// A stream, and the bytes that were read from it and not decoded yet.
pub(super) struct FrameStream {
    io: Io,
    input: BytesMut,
}

/// What was received.
pub(super) enum Received {
    Frame(RawFrame),
    End(Disconnect),
}

/// Why nothing was received.
pub(super) enum ReadError {
    Io(io::Error),
    Malformed(String),
}

enum Io {
    Tcp(TcpStream),
    Other(Box<dyn Stream>),
}

/// Any stream that is not TCP.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl FrameStream {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self { io: Io::Tcp(stream), input: BytesMut::new() }
    }

    pub(super) fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { io: Io::Other(Box::new(stream)), input: BytesMut::new() }
    }

    /// Receives the next eight bytes. Like [`frame`](Self::frame), it loses nothing if its future is dropped.
    pub(super) async fn header(&mut self) -> Result<Result<[u8; 8], Disconnect>, ReadError> {
        if let Some(disconnect) = self.fill(8).await? {
            return Ok(Err(disconnect));
        }
        let mut header = [0; 8];
        self.input.copy_to_slice(&mut header);
        Ok(Ok(header))
    }

    /// Receives the next frame.
    pub(super) async fn frame(&mut self) -> Result<Received, ReadError> {
        if let Some(disconnect) = self.fill(7).await? {
            return self.end(disconnect);
        }
        let kind = self.input[0];
        let channel = u16::from_be_bytes([self.input[1], self.input[2]]);
        let size = u32::from_be_bytes([self.input[3], self.input[4], self.input[5], self.input[6]]) as usize;
        if size > LARGEST_FRAME {
            return Err(ReadError::Malformed(format!("a frame of kind {kind} announcing {size} bytes")));
        }
        if let Some(disconnect) = self.fill(size + 8).await? {
            return self.end(disconnect);
        }
        let frame = RawFrame::new(kind, channel, &self.input[7..size + 7]);
        let end = self.input[size + 7];
        self.input.advance(size + 8);
        if end != constants::FRAME_END {
            return Err(ReadError::Malformed(format!("{frame}, with {end:#04x} as its end octet,")));
        }
        Ok(Received::Frame(frame))
    }

    /// Returns whether no part of a frame was read.
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.io {
            Io::Tcp(stream) => stream.write_all(bytes).await,
            Io::Other(stream) => {
                stream.write_all(bytes).await?;
                // TLS holds records back.
                stream.flush().await
            }
        }
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match &mut self.io {
            Io::Tcp(stream) => stream.shutdown().await,
            Io::Other(stream) => stream.shutdown().await,
        }
    }

    pub(super) fn reset(self) -> io::Result<()> {
        match self.io {
            // Deprecated because it blocks for other durations than zero. Its successor is missing in the
            // minimum version of tokio.
            #[allow(deprecated)]
            Io::Tcp(stream) => stream.set_linger(Some(Duration::ZERO)),
            Io::Other(_) => Ok(()),
        }
    }

    /// Reads until so many bytes are there, or the client closes the connection.
    async fn fill(&mut self, wanted: usize) -> Result<Option<Disconnect>, ReadError> {
        while self.input.len() < wanted {
            let read = match &mut self.io {
                Io::Tcp(stream) => stream.read_buf(&mut self.input).await,
                Io::Other(stream) => stream.read_buf(&mut self.input).await,
            };
            match read {
                Ok(0) => return Ok(Some(Disconnect::Closed)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Some(Disconnect::Reset));
                }
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
        Ok(None)
    }

    fn end(&self, disconnect: Disconnect) -> Result<Received, ReadError> {
        if disconnect == Disconnect::Closed && !self.input.is_empty() {
            return Err(ReadError::Malformed(format!(
                "{} bytes of a frame and then its end",
                self.input.len()
            )));
        }
        Ok(Received::End(disconnect))
    }
}

impl fmt::Debug for FrameStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = match &self.io {
            Io::Tcp(stream) => stream.peer_addr().ok(),
            Io::Other(_) => None,
        };
        f.debug_struct("FrameStream").field("peer", &peer).field("unread", &self.input.len()).finish()
    }
}
