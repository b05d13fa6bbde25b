//! Receiving: what a [`PeerSocket`] expects of the client, frame by frame.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{
    Method, PeerSocket, RawFrame, TestError, TestErrorKind, deadline_after, frame_stream::Received,
    protocol::connection,
};

impl PeerSocket {
    /// Waits for the protocol header, the first eight bytes of a client, and returns them without a check.
    ///
    /// # Errors
    /// [`Disconnected`](TestErrorKind::Disconnected) or [`TimedOut`](TestErrorKind::TimedOut) before eight
    /// bytes are there.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// assert_eq!(&socket.expect_header().await?, b"AMQP\0\0\x09\x01");
    /// # Ok(()) }
    /// ```
    pub async fn expect_header(&mut self) -> Result<[u8; 8], TestError> {
        let awaited = "a protocol header";
        let header = match time::timeout(self.limit, self.stream.header()).await {
            Ok(Ok(Ok(header))) => header,
            Ok(Ok(Err(disconnect))) => return Err(self.disconnected(awaited, disconnect)),
            Ok(Err(error)) => return Err(self.read_error(awaited, error)),
            Err(_) => return Err(self.timed_out(awaited)),
        };
        self.record(format!("> protocol header {}", header.escape_ascii()));
        Ok(header)
    }

    /// Waits for the next frame of any channel that is not a heartbeat. Frames that were kept come first.
    ///
    /// # Errors
    /// [`Disconnected`](TestErrorKind::Disconnected), [`TimedOut`](TestErrorKind::TimedOut), or
    /// [`Malformed`](TestErrorKind::Malformed) for bytes that are not a frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// let frame = socket.next_frame().await?;
    /// println!("{frame}");
    /// # Ok(()) }
    /// ```
    pub async fn next_frame(&mut self) -> Result<RawFrame, TestError> {
        let deadline = self.deadline();
        self.any_frame_until(deadline, "a frame").await
    }

    /// Waits for the next frame of a channel. Frames of other channels are kept.
    ///
    /// # Errors
    /// The same as [`next_frame`](Self::next_frame). Besides, [`Unexpected`](TestErrorKind::Unexpected) when
    /// the client sends `connection.close`, since nothing follows it; [`expect_close`](Self::expect_close)
    /// still returns it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, RawFrame};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// assert_eq!(socket.next_frame_on(1).await?.kind, RawFrame::METHOD);
    /// # Ok(()) }
    /// ```
    pub async fn next_frame_on(&mut self, channel: u16) -> Result<RawFrame, TestError> {
        self.frame_on(channel, &format!("a frame on channel {channel}")).await
    }

    /// Waits for the next frame of a channel, which must be the method `M`.
    ///
    /// # Errors
    /// [`Unexpected`](TestErrorKind::Unexpected) for another frame of the channel; otherwise the same as
    /// [`next_frame_on`](Self::next_frame_on).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, protocol::queue};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
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

    /// Waits for the next heartbeat. Frames before it are kept.
    ///
    /// # Errors
    /// The same as [`next_frame`](Self::next_frame).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.expect_heartbeat().await?;
    /// # Ok(()) }
    /// ```
    pub async fn expect_heartbeat(&mut self) -> Result<(), TestError> {
        let awaited = "a heartbeat";
        let (deadline, before) = (self.deadline(), self.heartbeats);
        while self.heartbeats == before {
            match self.receive(deadline, awaited).await? {
                Received::Frame(frame) if frame.is_heartbeat() => {}
                Received::Frame(frame) => self.held.push_back(frame),
                Received::End(disconnect) => return Err(self.disconnected(awaited, disconnect)),
            }
        }
        Ok(())
    }

    /// Waits for a duration in which the client must send nothing, heartbeats included.
    ///
    /// # Errors
    /// [`Unexpected`](TestErrorKind::Unexpected) for a frame, [`Disconnected`](TestErrorKind::Disconnected)
    /// for the end of the connection, [`Malformed`](TestErrorKind::Malformed) for a part of a frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.expect_nothing(std::time::Duration::from_millis(50)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn expect_nothing(&mut self, length: Duration) -> Result<(), TestError> {
        let awaited = format!("nothing for {length:?}");
        if let Some(frame) = self.held.front() {
            return Err(self.unexpected(&awaited, frame));
        }
        match self.receive(deadline_after(length), &awaited).await {
            Ok(Received::Frame(frame)) => Err(self.unexpected(&awaited, &frame)),
            Ok(Received::End(disconnect)) => Err(self.disconnected(&awaited, disconnect)),
            Err(error) if error.kind() != TestErrorKind::TimedOut => Err(error),
            Err(_) if self.stream.is_empty() => Ok(()),
            Err(_) => Err(self.with_transcript(TestError::malformed(awaited, "a part of a frame"))),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        deadline_after(self.limit)
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
        if let Some(frame) = held.and_then(|index| self.held.remove(index)) {
            return Ok(frame);
        }
        // A client sends nothing after connection.close: waiting on would only hide the reason.
        if let Some(close) = self.held.iter().find(|frame| frame.is::<connection::Close>()) {
            return Err(self.unexpected(awaited, close));
        }
        loop {
            let frame = self.read(deadline, awaited).await?;
            if frame.channel == channel {
                return Ok(frame);
            }
            let close = frame.is::<connection::Close>().then(|| self.unexpected(awaited, &frame));
            self.held.push_back(frame);
            close.map_or(Ok(()), Err)?;
        }
    }

    pub(super) fn unexpected(&self, awaited: &str, frame: &RawFrame) -> TestError {
        self.with_transcript(TestError::unexpected(awaited, frame))
    }

    pub(super) fn other_header(&self, header: [u8; 8]) -> TestError {
        let came = format!("the protocol header {}", header.escape_ascii());
        self.with_transcript(TestError::unexpected("the protocol header of AMQP 0-9-1", came))
    }

    /// Receives the next frame that is not a heartbeat.
    async fn read(&mut self, deadline: Instant, awaited: &str) -> Result<RawFrame, TestError> {
        loop {
            match self.receive(deadline, awaited).await? {
                Received::Frame(frame) if frame.is_heartbeat() => {}
                Received::Frame(frame) => return Ok(frame),
                Received::End(disconnect) => return Err(self.disconnected(awaited, disconnect)),
            }
        }
    }

    /// Receives the next frame or the end, counts heartbeats, and records it.
    pub(super) async fn receive(&mut self, deadline: Instant, awaited: &str) -> Result<Received, TestError> {
        let heard = match time::timeout_at(deadline, self.stream.frame()).await {
            Ok(Ok(heard)) => heard,
            Ok(Err(error)) => return Err(self.read_error(awaited, error)),
            Err(_) => return Err(self.timed_out(awaited)),
        };
        match &heard {
            Received::Frame(frame) => {
                self.heartbeats += u64::from(frame.is_heartbeat());
                self.record(format!("> {frame}"));
            }
            Received::End(disconnect) => self.record(format!("> {disconnect:?}")),
        }
        Ok(heard)
    }
}
