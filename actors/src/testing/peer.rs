//! The listener: a loopback port that hands out sockets one by one.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::TcpListener, time};

use super::{PeerSocket, TIME_LIMIT, TestError};

/// Listens on a loopback port in place of a broker, and hands over one [`PeerSocket`] per client connection.
///
/// Between two calls of [`accept`](Self::accept) the operating system takes connections on its behalf, so a client
/// that dials again finds the port open; drop the peer to have clients refused, and come back on the same port with
/// [`listen_at`](Self::listen_at).
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
    /// [`Io`](super::TestErrorKind::Io) when the system has no port for it.
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

    /// Listens at this address, for a client that is to find its server again.
    ///
    /// # Errors
    /// [`Io`](super::TestErrorKind::Io) when the address is taken.
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

    /// Sets the limit of every wait, for this peer and for the sockets it accepts from now on.
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

    /// Tells the address it listens at.
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

    /// Makes the URL to give to the client: `amqp://guest:guest@127.0.0.1:PORT/`.
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

    /// Takes the next client connection.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](super::TestErrorKind::TimedOut) when no client comes.
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
