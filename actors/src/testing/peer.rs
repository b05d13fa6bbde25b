//! [`Peer`]: a loopback port that accepts client connections.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::TcpListener, time};

use super::{PeerSocket, TIME_LIMIT, TestError};

/// Listens on a loopback port in place of a broker, and returns one [`PeerSocket`] per client connection.
///
/// Between two calls of [`accept`](Self::accept) the operating system accepts connections for it, so a client
/// that reconnects finds the port open. Drop the peer to have clients refused; [`listen_at`](Self::listen_at)
/// opens the same port again. For a peer without a network see [`MemoryPeer`](super::MemoryPeer).
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, Peer};
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let peer = Peer::listen().await?;
/// let mut client = tokio::net::TcpStream::connect(peer.addr()).await.unwrap();
/// let socket = peer.accept().await?;
/// # Ok::<(), TestError>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Peer {
    listener: TcpListener,
    addr: SocketAddr,
    limit: Duration,
}

impl Peer {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// [`Io`](super::TestErrorKind::Io) when the system has no free port.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, Peer};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let peer = Peer::listen().await?;
    /// assert!(peer.addr().ip().is_loopback());
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn listen() -> Result<Self, TestError> {
        Self::listen_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Listens at an address, for a client that reconnects.
    ///
    /// # Errors
    /// [`Io`](super::TestErrorKind::Io) when the address is in use.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, Peer};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let peer = Peer::listen().await?;
    /// let address = peer.addr();
    /// drop(peer); // clients are refused now
    /// let again = Peer::listen_at(address).await?;
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn listen_at(addr: SocketAddr) -> Result<Self, TestError> {
        let failed = |error| TestError::io(format!("to listen at {addr}"), &error);
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, addr, limit: TIME_LIMIT })
    }

    /// Sets the limit of every wait, for this peer and for the sockets it accepts from now on. The default is
    /// [`TIME_LIMIT`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, Peer};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let peer = Peer::listen().await?.time_limit(std::time::Duration::from_millis(10));
    /// assert!(peer.accept().await.is_err());
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the address it listens at.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, Peer};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// assert_ne!(Peer::listen().await?.addr().port(), 0);
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the URL for the client: `amqp://guest:guest@127.0.0.1:PORT/`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, Peer};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// assert!(Peer::listen().await?.url().starts_with("amqp://guest:guest@127.0.0.1:"));
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/", self.addr)
    }

    /// Accepts the next client connection.
    ///
    /// # Errors
    /// [`TimedOut`](super::TestErrorKind::TimedOut) when no client connects within the limit.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, Peer};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let peer = Peer::listen().await?;
    /// let client = tokio::net::TcpStream::connect(peer.addr()).await;
    /// let mut socket = peer.accept().await?;
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn accept(&self) -> Result<PeerSocket, TestError> {
        let awaited = || format!("a client at {}", self.addr);
        match time::timeout(self.limit, self.listener.accept()).await {
            Ok(Ok((stream, _))) => PeerSocket::from_tcp(stream, self.limit),
            Ok(Err(error)) => Err(TestError::io(awaited(), &error)),
            Err(_) => Err(TestError::timed_out(awaited(), self.limit)),
        }
    }
}
