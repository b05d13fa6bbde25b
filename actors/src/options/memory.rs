//! In-memory connections for tests: the dialler that connection options hold.

use std::{fmt, io, sync::Arc};

use tokio::io::DuplexStream;

/// Connects without a network, for tests: to a [`MemoryPeer`](crate::testing::MemoryPeer), whose
/// [`dialer`](crate::testing::MemoryPeer::dialer) method returns one, or to whatever else answers on the other end
/// of a [`tokio::io::duplex`].
///
/// It goes into [`ConnectionOptions::memory`](crate::ConnectionOptions::memory). Each connect takes a new
/// stream, as it would a new TCP connection, those of a recovery too. The addresses of the options are not used,
/// except to name the connection in errors. An error is that of a connect which failed.
///
/// # Examples
/// ```
/// use actix_pika_actors::{ConnectionOptions, testing::{MemoryDialer, PeerSocket}};
///
/// let mut options = ConnectionOptions::default();
/// options.memory = Some(MemoryDialer::from(|| {
///     let (client, server) = tokio::io::duplex(64 * 1024);
///     let peer = PeerSocket::over(server); // passed to who plays it
///     Ok(client)
/// }));
/// ```
#[derive(Clone)]
pub struct MemoryDialer(Arc<dyn Fn() -> io::Result<DuplexStream> + Send + Sync>);

impl MemoryDialer {
    /// Returns a stream whose other end is served.
    pub(crate) fn dial(&self) -> io::Result<DuplexStream> {
        (self.0)()
    }
}

impl<F> From<F> for MemoryDialer
where
    F: Fn() -> io::Result<DuplexStream> + Send + Sync + 'static,
{
    fn from(dial: F) -> Self {
        Self(Arc::new(dial))
    }
}

impl fmt::Debug for MemoryDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryDialer")
    }
}
