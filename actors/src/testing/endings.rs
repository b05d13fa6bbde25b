//! Every way in which a connection ends, from either side.

use std::mem;

use super::{PeerSocket, RawFrame, TestError, line::Heard};

/// Tells how a client left.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, PeerSocket, Disconnect};
/// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
/// assert_eq!(socket.expect_eof().await?, Disconnect::Closed);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// It closed its side in order (FIN).
    Closed,
    /// It threw the connection away (RST), as dropping a socket with unread bytes in it does.
    Reset,
}

impl PeerSocket {
    /// Awaits the end of the client's side. A frame before it is a mismatch, a heartbeat is not.
    ///
    /// # Errors
    /// [`Unexpected`](super::TestErrorKind::Unexpected) for a frame,
    /// [`TimedOut`](super::TestErrorKind::TimedOut) when the client stays.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.expect_close().await?;
    /// socket.expect_eof().await?;
    /// # Ok(()) }
    /// ```
    pub async fn expect_eof(&mut self) -> Result<Disconnect, TestError> {
        let awaited = "the client to hang up";
        if let Some(frame) = self.held.front() {
            return Err(self.unexpected(awaited, frame));
        }
        let deadline = self.deadline();
        loop {
            match self.hear(deadline, awaited).await? {
                Heard::Frame(frame) if frame.is_heartbeat() => {}
                Heard::Frame(frame) => return Err(self.unexpected(awaited, &frame)),
                Heard::End(hangup) => return Ok(hangup),
            }
        }
    }

    /// Falls silent: reads on without an answer until the client hangs up, and returns what it said until then,
    /// heartbeats left out.
    ///
    /// A peer that does not even read is a socket that is kept and not called.
    ///
    /// # Errors
    /// [`TimedOut`](super::TestErrorKind::TimedOut) when the client does not give up within the limit.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// let said = socket.read_to_end().await?;
    /// assert!(said.is_empty(), "the client says nothing but heartbeats");
    /// # Ok(()) }
    /// ```
    pub async fn read_to_end(&mut self) -> Result<Vec<RawFrame>, TestError> {
        let deadline = self.deadline();
        let mut said = Vec::from(mem::take(&mut self.held));
        loop {
            match self.hear(deadline, "the client to give up").await? {
                Heard::Frame(frame) if frame.is_heartbeat() => {}
                Heard::Frame(frame) => said.push(frame),
                Heard::End(_) => return Ok(said),
            }
        }
    }

    /// Closes the peer's side in order (FIN); what the client still says can be read.
    ///
    /// # Errors
    /// Those of the operating system.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.shutdown().await?;
    /// socket.expect_eof().await?;
    /// # Ok(()) }
    /// ```
    pub async fn shutdown(&mut self) -> Result<(), TestError> {
        self.note("< FIN".to_owned());
        let ended = self.line.shutdown().await;
        ended.map_err(|error| self.wrap(TestError::io("to shut the socket down", &error)))
    }

    /// Throws the connection away (RST): the client's next read or write fails with "connection reset".
    ///
    /// A stream that is not TCP is only dropped.
    ///
    /// # Errors
    /// Those of the operating system.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// fn cut(socket: PeerSocket) -> Result<(), TestError> {
    ///     socket.reset()
    /// }
    /// ```
    pub fn reset(self) -> Result<(), TestError> {
        self.line.reset().map_err(|error| TestError::io("to reset the connection", &error))
    }
}
