//! One client connection seen from the server: what the test says and what it expects.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{self, Instant},
};

use super::{
    Disconnect, Method, RawFrame, TIME_LIMIT, TestError, TestErrorKind,
    line::{Heard, Line, Noise},
    protocol::connection,
};

/// Lines of the dialogue that an error repeats.
const REMEMBERED: usize = 16;

/// Plays the server's side of one client connection. The test says and expects, in order; nothing is answered by
/// itself.
///
/// What is awaited on one channel is not disturbed by frames of other channels: they are held back until they
/// are asked for. Heartbeats are counted and skipped. Dropping the socket closes it.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, PeerSocket};
/// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
/// socket.handshake().await?;
/// socket.open_channel(1).await?;
/// let publish = socket.expect_publish(1).await?;
/// socket.confirm(1, 1, false).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PeerSocket {
    pub(super) line: Line,
    pub(super) held: VecDeque<RawFrame>,
    heartbeats: u64,
    said: VecDeque<String>,
    limit: Duration,
    /// Bodies are cut to it; the handshake sets it to what the client agreed to.
    pub(super) frame_max: u32,
}

impl PeerSocket {
    /// Speaks over any stream, such as one half of [`tokio::io::duplex`], with which a test can pause the clock.
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
        Self::new(Line::over(stream), limit)
    }

    pub(super) fn from_tcp(stream: TcpStream, limit: Duration) -> Result<Self, TestError> {
        stream.set_nodelay(true).map_err(|error| TestError::io("to set TCP_NODELAY", &error))?;
        Ok(Self::new(Line::tcp(stream), limit))
    }

    fn new(line: Line, limit: Duration) -> Self {
        Self {
            line,
            held: VecDeque::new(),
            heartbeats: 0,
            said: VecDeque::with_capacity(REMEMBERED),
            limit,
            frame_max: 131_072,
        }
    }

    /// Sets the limit of every wait from now on.
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

    /// Counts the heartbeats that were seen so far, on the way to other frames or
    /// [awaited](Self::expect_heartbeat).
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

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of [`deliver`](Self::deliver), as for everything that is sent.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
    /// # Ok(()) }
    /// ```
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), TestError> {
        self.note(format!("< {} raw bytes", bytes.len()));
        self.write(bytes).await
    }

    /// Sends a frame of any kind, with the length and end octet it should have.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.send_frame(99, 1, b"a frame of a kind that is none").await?;
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
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.send_frames(&[RawFrame::heartbeat(), RawFrame::body(1, *b"out of place")]).await?;
    /// # Ok(()) }
    /// ```
    pub async fn send_frames(&mut self, frames: &[RawFrame]) -> Result<(), TestError> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(frame.to_bytes());
            self.note(format!("< {frame}"));
        }
        self.write(&bytes).await
    }

    /// Sends a heartbeat.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
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
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.send(1, queue::PurgeOk { message_count: 7 }).await?;
    /// # Ok(()) }
    /// ```
    pub async fn send<M: Method>(&mut self, channel: u16, method: M) -> Result<(), TestError> {
        self.send_frames(&[RawFrame::method(channel, method)]).await
    }

    /// Awaits the eight bytes with which a client begins, and returns them unjudged.
    ///
    /// # Errors
    /// [`Disconnected`](TestErrorKind::Disconnected) or [`TimedOut`](TestErrorKind::TimedOut) before there are eight.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// assert_eq!(&socket.expect_header().await?, b"AMQP\0\0\x09\x01");
    /// # Ok(()) }
    /// ```
    pub async fn expect_header(&mut self) -> Result<[u8; 8], TestError> {
        let awaited = "a protocol header";
        let header = match time::timeout(self.limit, self.line.header()).await {
            Ok(Ok(Ok(header))) => header,
            Ok(Ok(Err(hangup))) => return Err(self.hung_up(awaited, hangup)),
            Ok(Err(noise)) => return Err(self.noise(awaited, noise)),
            Err(_) => return Err(self.timed_out(awaited)),
        };
        self.note(format!("> protocol header {}", header.escape_ascii()));
        Ok(header)
    }

    /// Awaits the next frame of any channel, other than a heartbeat. Frames that were held back come first.
    ///
    /// # Errors
    /// [`Disconnected`](TestErrorKind::Disconnected), [`TimedOut`](TestErrorKind::TimedOut), or
    /// [`Malformed`](TestErrorKind::Malformed) for what is no frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// let frame = socket.next_frame().await?;
    /// println!("{frame}");
    /// # Ok(()) }
    /// ```
    pub async fn next_frame(&mut self) -> Result<RawFrame, TestError> {
        let deadline = self.deadline();
        self.any_frame_until(deadline, "a frame").await
    }

    /// Awaits the next frame of this channel, and holds back those of others.
    ///
    /// # Errors
    ///
    /// A `connection.close` ends the wait, because nothing follows it; it can still be
    /// [expected](Self::expect_close).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, RawFrame};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// assert_eq!(socket.next_frame_on(1).await?.kind, RawFrame::METHOD);
    /// # Ok(()) }
    /// ```
    pub async fn next_frame_on(&mut self, channel: u16) -> Result<RawFrame, TestError> {
        self.frame_on(channel, &format!("a frame on channel {channel}")).await
    }

    /// Awaits the next frame of this channel, which has to be this method.
    ///
    /// # Errors
    /// [`Unexpected`](TestErrorKind::Unexpected) for another frame of this channel, and those of
    /// [`next_frame_on`](Self::next_frame_on).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, protocol::queue};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// let declare: queue::Declare = socket.expect(1).await?;
    /// assert!(declare.durable);
    /// # Ok(()) }
    /// ```
    pub async fn expect<M: Method>(&mut self, channel: u16) -> Result<M, TestError> {
        let awaited = format!("{} on channel {channel}", M::NAME);
        let frame = self.frame_on(channel, &awaited).await?;
        match frame.class().map(M::from_class) {
            Some(Ok(method)) => Ok(method),
            _ => Err(self.unexpected(&awaited, &frame)),
        }
    }

    /// Awaits one more heartbeat, and holds back what comes before it.
    ///
    /// # Errors
    /// Those of [`next_frame`](Self::next_frame).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.expect_heartbeat().await?;
    /// # Ok(()) }
    /// ```
    pub async fn expect_heartbeat(&mut self) -> Result<(), TestError> {
        let awaited = "a heartbeat";
        let (deadline, before) = (self.deadline(), self.heartbeats);
        while self.heartbeats == before {
            match self.hear(deadline, awaited).await? {
                Heard::Frame(frame) if frame.is_heartbeat() => {}
                Heard::Frame(frame) => self.held.push_back(frame),
                Heard::End(hangup) => return Err(self.hung_up(awaited, hangup)),
            }
        }
        Ok(())
    }

    /// Listens for this long, and fails as soon as anything comes: a frame, a heartbeat, an end.
    ///
    /// # Errors
    /// [`Unexpected`](TestErrorKind::Unexpected) for a frame, [`Disconnected`](TestErrorKind::Disconnected) for an end,
    /// [`Malformed`](TestErrorKind::Malformed) for a part of a frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.expect_nothing(std::time::Duration::from_millis(50)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn expect_nothing(&mut self, length: Duration) -> Result<(), TestError> {
        let awaited = format!("{length:?} of quiet");
        if let Some(frame) = self.held.front() {
            return Err(self.unexpected(&awaited, frame));
        }
        match self.hear(Instant::now() + length, &awaited).await {
            Ok(Heard::Frame(frame)) => Err(self.unexpected(&awaited, &frame)),
            Ok(Heard::End(hangup)) => Err(self.hung_up(&awaited, hangup)),
            Err(mismatch) if mismatch.kind() != TestErrorKind::TimedOut => Err(mismatch),
            Err(_) if self.line.is_empty() => Ok(()),
            Err(_) => Err(self.wrap(TestError::malformed(awaited, "a part of a frame"))),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.limit
    }

    /// The next frame of any channel, held back or read.
    pub(super) async fn any_frame_until(
        &mut self,
        deadline: Instant,
        awaited: &str,
    ) -> Result<RawFrame, TestError> {
        match self.held.pop_front() {
            Some(frame) => Ok(frame),
            None => self.read(deadline, awaited).await,
        }
    }

    /// The next frame of this channel, held back or read.
    pub(super) async fn frame_on(&mut self, channel: u16, awaited: &str) -> Result<RawFrame, TestError> {
        let deadline = self.deadline();
        self.frame_on_until(channel, deadline, awaited).await
    }

    pub(super) async fn frame_on_until(
        &mut self,
        channel: u16,
        deadline: Instant,
        awaited: &str,
    ) -> Result<RawFrame, TestError> {
        let held = self.held.iter().position(|frame| frame.channel == channel);
        if let Some(frame) = held.and_then(|place| self.held.remove(place)) {
            return Ok(frame);
        }
        loop {
            // A client that closes says nothing after it: to wait on would only hide the reason.
            if let Some(close) = self.held.iter().find(|frame| frame.is::<connection::Close>()) {
                return Err(self.unexpected(awaited, close));
            }
            let frame = self.read(deadline, awaited).await?;
            if frame.channel == channel {
                return Ok(frame);
            }
            self.held.push_back(frame);
        }
    }

    pub(super) fn unexpected(&self, awaited: &str, frame: &RawFrame) -> TestError {
        self.wrap(TestError::unexpected(awaited, frame))
    }

    pub(super) fn other_header(&self, header: [u8; 8]) -> TestError {
        let came = format!("the protocol header {}", header.escape_ascii());
        self.wrap(TestError::unexpected("the protocol header of AMQP 0-9-1", came))
    }

    /// The next frame from the line that is no heartbeat.
    async fn read(&mut self, deadline: Instant, awaited: &str) -> Result<RawFrame, TestError> {
        loop {
            match self.hear(deadline, awaited).await? {
                Heard::Frame(frame) if frame.is_heartbeat() => {}
                Heard::Frame(frame) => return Ok(frame),
                Heard::End(hangup) => return Err(self.hung_up(awaited, hangup)),
            }
        }
    }

    /// Every reading of frames goes through here, where heartbeats are counted and all is noted.
    pub(super) async fn hear(&mut self, deadline: Instant, awaited: &str) -> Result<Heard, TestError> {
        let heard = match time::timeout_at(deadline, self.line.frame()).await {
            Ok(Ok(heard)) => heard,
            Ok(Err(noise)) => return Err(self.noise(awaited, noise)),
            Err(_) => return Err(self.timed_out(awaited)),
        };
        match &heard {
            Heard::Frame(frame) => {
                self.heartbeats += u64::from(frame.is_heartbeat());
                self.note(format!("> {frame}"));
            }
            Heard::End(hangup) => self.note(format!("> {hangup:?}")),
        }
        Ok(heard)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), TestError> {
        let awaited = "the client to take bytes";
        match time::timeout(self.limit, self.line.write(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.wrap(TestError::io(awaited, &error))),
            Err(_) => Err(self.timed_out(awaited)),
        }
    }

    pub(super) fn note(&mut self, line: String) {
        if self.said.len() == REMEMBERED {
            self.said.pop_front();
        }
        self.said.push_back(line);
    }

    fn timed_out(&self, awaited: &str) -> TestError {
        self.wrap(TestError::timed_out(awaited, self.limit))
    }

    fn hung_up(&self, awaited: &str, hangup: Disconnect) -> TestError {
        let how = match hangup {
            Disconnect::Closed => "the client closed the socket",
            Disconnect::Reset => "the client reset the connection",
        };
        self.wrap(TestError::new(TestErrorKind::Disconnected, awaited, how))
    }

    fn noise(&self, awaited: &str, noise: Noise) -> TestError {
        self.wrap(match noise {
            Noise::Io(error) => TestError::io(awaited, &error),
            Noise::Malformed(what) => TestError::malformed(awaited, what),
        })
    }

    /// Completes an error with what was said before and what is held back.
    pub(super) fn wrap(&self, mismatch: TestError) -> TestError {
        let held: Vec<String> =
            self.held.iter().map(|frame| format!("? not asked for yet: {frame}")).collect();
        mismatch.after(self.said.iter().chain(&held))
    }
}
