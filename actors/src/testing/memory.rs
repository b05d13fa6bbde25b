//! A peer without a network: it accepts in-memory streams, so a test can pause the clock.

use std::{io, time::Duration};

use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time,
};

use super::{PeerSocket, TIME_LIMIT, TestError};
pub use crate::options::MemoryDialer;

/// The bytes that a stream buffers in each direction, as a TCP socket would.
const BUFFER: usize = 64 * 1024;

/// Plays a broker without a network: returns one [`PeerSocket`] per client connection, over an in-memory
/// stream.
///
/// Nothing waits for the operating system, so tests can pause the clock with `tokio::time::pause`: timeouts
/// and heartbeats then take no real time. A client connects through [`dialer`](Self::dialer). Dropping the
/// peer refuses further connects. [`PeerSocket::reset`] only closes an in-memory stream: the client reads its
/// end, not a reset.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{
/// #     ConnectionOptions, ConnectionSupervisor,
/// #     testing::{MemoryPeer, TestError},
/// # };
/// # actix::System::new().block_on(async {
/// let mut peer = MemoryPeer::new();
/// let mut options = ConnectionOptions::default();
/// options.memory = Some(peer.dialer());
/// let (connection, state) = ConnectionSupervisor::launch(options, None);
///
/// let mut socket = peer.accept().await?;
/// socket.handshake().await?;
/// # Ok::<(), TestError>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct MemoryPeer {
    streams: UnboundedReceiver<DuplexStream>,
    sender: UnboundedSender<DuplexStream>,
    buffer: usize,
    limit: Duration,
}

impl MemoryPeer {
    /// Creates a peer whose streams buffer 64 KiB in each direction.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::MemoryPeer;
    /// let peer = MemoryPeer::new();
    /// ```
    pub fn new() -> Self {
        let (sender, streams) = mpsc::unbounded_channel();
        Self { streams, sender, buffer: BUFFER, limit: TIME_LIMIT }
    }

    /// Sets how many bytes each stream made by later [`dialer`](Self::dialer)s buffers in each direction. A
    /// stream with a full buffer takes no more writes until the other side reads.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::MemoryPeer;
    /// let narrow = MemoryPeer::new().buffer(1024);
    /// ```
    #[must_use]
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    /// Sets the limit of every wait, for this peer and for the sockets it accepts from now on. The default is
    /// [`TIME_LIMIT`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::MemoryPeer;
    /// let patient = MemoryPeer::new().time_limit(std::time::Duration::from_secs(3600));
    /// ```
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns what the options of a client need to connect to this peer.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionOptions, testing::MemoryPeer};
    /// let peer = MemoryPeer::new();
    /// let mut options = ConnectionOptions::default();
    /// options.memory = Some(peer.dialer());
    /// ```
    pub fn dialer(&self) -> MemoryDialer {
        let (streams, buffer) = (self.sender.clone(), self.buffer);
        MemoryDialer::from(move || {
            let (client, server) = duplex(buffer);
            streams.send(server).map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(client)
        })
    }

    /// Accepts the next client connection.
    ///
    /// # Errors
    /// [`TimedOut`](super::TestErrorKind::TimedOut) when no client connects within the limit.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{MemoryPeer, TestError, TestErrorKind};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut peer = MemoryPeer::new().time_limit(std::time::Duration::from_millis(10));
    /// assert_eq!(peer.accept().await.unwrap_err().kind(), TestErrorKind::TimedOut);
    /// # });
    /// ```
    pub async fn accept(&mut self) -> Result<PeerSocket, TestError> {
        let limit = self.limit;
        self.accept_stream().await.map(|stream| PeerSocket::with_limit(stream, limit))
    }

    /// Accepts the next client connection as a stream of bytes, for a test that puts TLS on it.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{MemoryPeer, PeerSocket, TestError};
    /// # async fn wrapped(stream: tokio::io::DuplexStream) -> tokio::io::DuplexStream { stream }
    /// # async fn example(mut peer: MemoryPeer) -> Result<(), TestError> {
    /// let stream = peer.accept_stream().await?;
    /// let socket = PeerSocket::over(wrapped(stream).await);
    /// # Ok(()) }
    /// ```
    pub async fn accept_stream(&mut self) -> Result<DuplexStream, TestError> {
        // Not None: this peer holds a sender.
        match time::timeout(self.limit, self.streams.recv()).await {
            Ok(Some(stream)) => Ok(stream),
            Ok(None) | Err(_) => Err(TestError::timed_out("a client in memory", self.limit)),
        }
    }
}

impl Default for MemoryPeer {
    fn default() -> Self {
        Self::new()
    }
}
