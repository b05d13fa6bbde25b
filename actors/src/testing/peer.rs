//! The listener: a loopback port that hands out sockets one by one.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::TcpListener, time};

use super::{Mismatch, Socket, TIME_LIMIT};

/// Listens on a loopback port in place of a broker, and hands over one [`Socket`] per client connection.
///
/// Between two calls of [`accept`](Self::accept) the operating system takes connections on its behalf, so a client
/// that dials again finds the port open; drop the peer to have clients refused, and come back on the same port with
/// [`listen_at`](Self::listen_at).
#[derive(Debug)]
pub struct Peer {
    listener: TcpListener,
    addr: SocketAddr,
    limit: Duration,
}

impl Peer {
    /// Listens on a free port of 127.0.0.1.
    pub async fn listen() -> Result<Self, Mismatch> {
        Self::listen_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Listens at this address, for a client that is to find its server again.
    pub async fn listen_at(addr: SocketAddr) -> Result<Self, Mismatch> {
        let failed = |error| Mismatch::io(format!("to listen at {addr}"), &error);
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, addr, limit: TIME_LIMIT })
    }

    /// Sets the limit of every wait, for this peer and for the sockets it accepts from now on.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The address it listens at.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL to give to the client: `amqp://guest:guest@127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/", self.addr)
    }

    /// Takes the next client connection.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](super::MismatchKind::TimedOut) when no client comes.
    pub async fn accept(&self) -> Result<Socket, Mismatch> {
        let awaited = || format!("a client at {}", self.addr);
        match time::timeout(self.limit, self.listener.accept()).await {
            Ok(Ok((stream, _))) => Socket::from_tcp(stream, self.limit),
            Ok(Err(error)) => Err(Mismatch::io(awaited(), &error)),
            Err(_) => Err(Mismatch::timed_out(awaited(), self.limit)),
        }
    }
}
