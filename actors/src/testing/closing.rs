//! The end of a connection below AMQP, from either side: FIN, RST, and reading to the end.

use std::mem;

use super::{PeerSocket, RawFrame, TestError, frame_stream::Received};

/// How a client closed its connection.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, PeerSocket, Disconnect};
/// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
/// assert_eq!(socket.expect_eof().await?, Disconnect::Closed);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// With FIN: it closed its side.
    Closed,
    /// With RST, as the system does for a socket that is dropped with unread bytes.
    Reset,
}

impl PeerSocket {
    /// Waits until the client closes its connection. Heartbeats before that are skipped.
    ///
    /// # Errors
    /// [`Unexpected`](super::TestErrorKind::Unexpected) for a frame,
    /// [`TimedOut`](super::TestErrorKind::TimedOut) when the client keeps the connection open.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.expect_close().await?;
    /// socket.expect_eof().await?;
    /// # Ok(()) }
    /// ```
    pub async fn expect_eof(&mut self) -> Result<Disconnect, TestError> {
        let awaited = "the client to close the socket";
        if let Some(frame) = self.held.front() {
            return Err(self.unexpected(awaited, frame));
        }
        let deadline = self.deadline();
        loop {
            match self.receive(deadline, awaited).await? {
                Received::Frame(frame) if frame.is_heartbeat() => {}
                Received::Frame(frame) => return Err(self.unexpected(awaited, &frame)),
                Received::End(disconnect) => return Ok(disconnect),
            }
        }
    }

    /// Reads without replying until the client closes its connection, and returns the frames it sent, except
    /// heartbeats.
    ///
    /// For a peer that does not even read, keep the socket and call nothing.
    ///
    /// # Errors
    /// [`TimedOut`](super::TestErrorKind::TimedOut) when the client keeps the connection open.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// let frames = socket.read_to_end().await?;
    /// assert!(frames.is_empty(), "the client sends nothing but heartbeats");
    /// # Ok(()) }
    /// ```
    pub async fn read_to_end(&mut self) -> Result<Vec<RawFrame>, TestError> {
        let deadline = self.deadline();
        let mut frames = Vec::from(mem::take(&mut self.held));
        loop {
            match self.receive(deadline, "the client to close the socket").await? {
                Received::Frame(frame) if frame.is_heartbeat() => {}
                Received::Frame(frame) => frames.push(frame),
                Received::End(_) => return Ok(frames),
            }
        }
    }

    /// Closes the peer's side (FIN). Frames of the client can still be read.
    ///
    /// # Errors
    /// An error of the operating system.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.shutdown().await?;
    /// socket.expect_eof().await?;
    /// # Ok(()) }
    /// ```
    pub async fn shutdown(&mut self) -> Result<(), TestError> {
        self.record("< FIN".to_owned());
        let ended = self.stream.shutdown().await;
        ended.map_err(|error| self.with_transcript(TestError::io("to shut the socket down", &error)))
    }

    /// Resets the connection (RST): the next read or write of the client fails with "connection reset".
    ///
    /// A stream that is not TCP is only dropped: the client reads its end.
    ///
    /// # Errors
    /// An error of the operating system.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// fn reset(socket: PeerSocket) -> Result<(), TestError> {
    ///     socket.reset()
    /// }
    /// ```
    pub fn reset(self) -> Result<(), TestError> {
        self.stream.reset().map_err(|error| TestError::io("to reset the connection", &error))
    }
}
