//! The line to the client: bytes out, and frames cut from the bytes that come in. No limits, no memory.

use std::{fmt, io, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::{Disconnect, RawFrame, protocol::constants};

/// A larger announcement is no frame but garbage.
const LARGEST_FRAME: usize = 256 << 20;

/// A stream and what was read from it but not yet taken.
pub(super) struct Line {
    io: Io,
    input: BytesMut,
}

/// What one reading yields.
pub(super) enum Heard {
    Frame(RawFrame),
    End(Disconnect),
}

/// Why a reading yields nothing.
pub(super) enum Noise {
    Io(io::Error),
    Malformed(String),
}

enum Io {
    Tcp(TcpStream),
    Other(Box<dyn Stream>),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Line {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self { io: Io::Tcp(stream), input: BytesMut::new() }
    }

    pub(super) fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { io: Io::Other(Box::new(stream)), input: BytesMut::new() }
    }

    /// The next eight bytes. Loses nothing when it is dropped half way, and so does [`frame`](Self::frame).
    pub(super) async fn header(&mut self) -> Result<Result<[u8; 8], Disconnect>, Noise> {
        if let Some(hangup) = self.fill(8).await? {
            return Ok(Err(hangup));
        }
        let mut header = [0; 8];
        self.input.copy_to_slice(&mut header);
        Ok(Ok(header))
    }

    pub(super) async fn frame(&mut self) -> Result<Heard, Noise> {
        if let Some(hangup) = self.fill(7).await? {
            return self.end(hangup);
        }
        let kind = self.input[0];
        let channel = u16::from_be_bytes([self.input[1], self.input[2]]);
        let size = u32::from_be_bytes([self.input[3], self.input[4], self.input[5], self.input[6]]) as usize;
        if size > LARGEST_FRAME {
            return Err(Noise::Malformed(format!("a frame of kind {kind} announcing {size} bytes")));
        }
        if let Some(hangup) = self.fill(size + 8).await? {
            return self.end(hangup);
        }
        let frame = RawFrame::new(kind, channel, &self.input[7..size + 7]);
        let end = self.input[size + 7];
        self.input.advance(size + 8);
        if end != constants::FRAME_END {
            return Err(Noise::Malformed(format!("{frame}, with {end:#04x} as its end octet,")));
        }
        Ok(Heard::Frame(frame))
    }

    /// Whether nothing was read that waits for its rest.
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.io {
            Io::Tcp(stream) => stream.write_all(bytes).await,
            Io::Other(stream) => stream.write_all(bytes).await,
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
            // Deprecated because other lengths than zero block; its successor is too new for our lowest tokio.
            #[allow(deprecated)]
            Io::Tcp(stream) => stream.set_linger(Some(Duration::ZERO)),
            Io::Other(_) => Ok(()),
        }
    }

    /// Reads until so many bytes are there, or the client hangs up.
    async fn fill(&mut self, wanted: usize) -> Result<Option<Disconnect>, Noise> {
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
                Err(error) => return Err(Noise::Io(error)),
            }
        }
        Ok(None)
    }

    fn end(&self, hangup: Disconnect) -> Result<Heard, Noise> {
        if hangup == Disconnect::Closed && !self.input.is_empty() {
            return Err(Noise::Malformed(format!("{} bytes of a frame and then its end", self.input.len())));
        }
        Ok(Heard::End(hangup))
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = match &self.io {
            Io::Tcp(stream) => stream.peer_addr().ok(),
            Io::Other(_) => None,
        };
        f.debug_struct("Line").field("peer", &peer).field("unread", &self.input.len()).finish()
    }
}
