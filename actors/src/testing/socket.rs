//! [`PeerSocket`]: one client connection, seen from the server. Sending is here; what is expected of the
//! client is in `expect`.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};

use super::{
    Disconnect, Method, RawFrame, TIME_LIMIT, TestError, TestErrorKind,
    frame_stream::{FrameStream, ReadError},
};

/// The number of sent and received frames that an error lists.
const TRANSCRIPT_LINES: usize = 16;

/// The server's side of one client connection. A test sends frames and waits for those it expects, one after
/// the other; no reply is sent automatically.
///
/// Frames of other channels than the awaited one are kept until they are asked for. Heartbeats are counted
/// and skipped. Dropping the socket closes it.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, PeerSocket};
/// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
/// socket.handshake().await?;
/// socket.open_channel(1).await?;
/// let publish = socket.expect_publish(1).await?;
/// socket.confirm(1, 1, false).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PeerSocket {
    pub(super) stream: FrameStream,
    /// Frames that were received and not asked for yet.
    pub(super) held: VecDeque<RawFrame>,
    pub(super) heartbeats: u64,
    /// The last frames in both directions, for errors.
    transcript: VecDeque<String>,
    pub(super) limit: Duration,
    /// The limit for body frames; the handshake sets it to the negotiated one.
    pub(super) frame_max: u32,
}

impl PeerSocket {
    /// Creates a socket over any stream, such as one half of [`tokio::io::duplex`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerSocket;
    /// let (server, client) = tokio::io::duplex(4096);
    /// let socket = PeerSocket::over(server);
    /// ```
    pub fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::with_limit(stream, TIME_LIMIT)
    }

    pub(super) fn with_limit(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        limit: Duration,
    ) -> Self {
        Self::new(FrameStream::over(stream), limit)
    }

    pub(super) fn from_tcp(stream: TcpStream, limit: Duration) -> Result<Self, TestError> {
        stream.set_nodelay(true).map_err(|error| TestError::io("to set TCP_NODELAY", &error))?;
        Ok(Self::new(FrameStream::tcp(stream), limit))
    }

    fn new(stream: FrameStream, limit: Duration) -> Self {
        Self {
            stream,
            held: VecDeque::new(),
            heartbeats: 0,
            transcript: VecDeque::with_capacity(TRANSCRIPT_LINES),
            limit,
            frame_max: 131_072,
        }
    }

    /// Sets the limit of every wait from now on. The default is [`TIME_LIMIT`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerSocket;
    /// # let mut socket = PeerSocket::over(tokio::io::duplex(64).0);
    /// socket.set_time_limit(std::time::Duration::from_millis(100));
    /// ```
    pub fn set_time_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Returns the number of heartbeats received so far.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerSocket;
    /// # let socket = PeerSocket::over(tokio::io::duplex(64).0);
    /// assert_eq!(socket.heartbeats(), 0);
    /// ```
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats
    }

    /// Sends bytes unchanged.
    ///
    /// # Errors
    /// [`Disconnected`](TestErrorKind::Disconnected) when the client has closed the connection,
    /// [`TimedOut`](TestErrorKind::TimedOut) when it does not read. All methods that send fail like this.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
    /// # Ok(()) }
    /// ```
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), TestError> {
        self.record(format!("< {} raw bytes", bytes.len()));
        self.write(bytes).await
    }

    /// Sends a frame of any kind, with correct length and end octet.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.send_frame(99, 1, b"unknown kind").await?;
    /// # Ok(()) }
    /// ```
    pub async fn send_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<(), TestError> {
        self.send_frames(&[RawFrame::new(kind, channel, payload)]).await
    }

    /// Sends frames in one write.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, RawFrame};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.send_frames(&[RawFrame::heartbeat(), RawFrame::body(1, *b"out of place")]).await?;
    /// # Ok(()) }
    /// ```
    pub async fn send_frames(&mut self, frames: &[RawFrame]) -> Result<(), TestError> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(frame.to_bytes());
            self.record(format!("< {frame}"));
        }
        self.write(&bytes).await
    }

    /// Sends a heartbeat.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.send_heartbeat().await?;
    /// # Ok(()) }
    /// ```
    pub async fn send_heartbeat(&mut self) -> Result<(), TestError> {
        self.send_frames(&[RawFrame::heartbeat()]).await
    }

    /// Sends a method.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, protocol::queue};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.send(1, queue::PurgeOk { message_count: 7 }).await?;
    /// # Ok(()) }
    /// ```
    pub async fn send<M: Method>(&mut self, channel: u16, method: M) -> Result<(), TestError> {
        self.send_frames(&[RawFrame::method(channel, method)]).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), TestError> {
        let awaited = "the client to read";
        match time::timeout(self.limit, self.stream.write(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.with_transcript(TestError::io(awaited, &error))),
            Err(_) => Err(self.timed_out(awaited)),
        }
    }

    pub(super) fn record(&mut self, entry: String) {
        if self.transcript.len() == TRANSCRIPT_LINES {
            self.transcript.pop_front();
        }
        self.transcript.push_back(entry);
    }

    pub(super) fn timed_out(&self, awaited: &str) -> TestError {
        self.with_transcript(TestError::timed_out(awaited, self.limit))
    }

    pub(super) fn disconnected(&self, awaited: &str, disconnect: Disconnect) -> TestError {
        let how = match disconnect {
            Disconnect::Closed => "the client closed the socket",
            Disconnect::Reset => "the client reset the connection",
        };
        self.with_transcript(TestError::new(TestErrorKind::Disconnected, awaited, how))
    }

    pub(super) fn read_error(&self, awaited: &str, error: ReadError) -> TestError {
        self.with_transcript(match error {
            ReadError::Io(error) => TestError::io(awaited, &error),
            ReadError::Malformed(what) => TestError::malformed(awaited, what),
        })
    }

    /// Adds the transcript and the frames that were not asked for to an error.
    pub(super) fn with_transcript(&self, error: TestError) -> TestError {
        let held: Vec<String> =
            self.held.iter().map(|frame| format!("? not asked for yet: {frame}")).collect();
        error.after(self.transcript.iter().chain(&held))
    }
}
