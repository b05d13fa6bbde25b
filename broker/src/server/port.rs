//! A port of a broker: what is spoken there, and whether anybody listens.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

#[cfg(feature = "tls")]
use super::tls::shake_hands;
use super::{shared::Shared, socket::Accepted};

/// How many connects wait to be accepted.
const BACKLOG: i32 = 1024;

/// What is spoken at a port.
pub(super) enum Security {
    Plain,
    #[cfg(feature = "tls")]
    Tls(tokio_rustls::TlsAcceptor),
}

/// A port that is bound, and that nobody accepts at yet.
pub(super) struct BoundPort {
    listener: std::net::TcpListener,
    address: SocketAddr,
    security: Security,
}

impl BoundPort {
    pub(super) fn bind(address: impl std::net::ToSocketAddrs, security: Security) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, security })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers it with the runtime of the caller.
    pub(super) fn register(self) -> io::Result<Port> {
        let Self { listener, address, security } = self;
        Ok(Port { address, is: Listening::Open(TcpListener::from_std(listener)?), security })
    }
}

/// A port of a broker that runs.
pub(super) struct Port {
    address: SocketAddr,
    is: Listening,
    security: Security,
}

enum Listening {
    Open(TcpListener),
    /// Bound, so that nobody else gets it, and without a listener, so that connects are refused.
    Closed(Option<Socket>),
}

impl Port {
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        match &self.is {
            Listening::Open(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| stream),
            Listening::Closed(_) => Poll::Pending,
        }
    }

    /// Serves a socket that was accepted here.
    pub(super) fn serve(&self, shared: &Arc<Shared>, stream: TcpStream) {
        let Some(accepted) = Accepted::tcp(shared, &stream) else { return };
        match &self.security {
            Security::Plain => accepted.serve(stream),
            #[cfg(feature = "tls")]
            Security::Tls(acceptor) => shake_hands(Arc::clone(shared), accepted, acceptor.accept(stream)),
        }
    }

    pub(super) fn close(&mut self) {
        self.is = Listening::Closed(None);
        self.is = Listening::Closed(self.bind().ok());
    }

    pub(super) fn listen(&mut self) -> io::Result<()> {
        let Listening::Closed(held) = &mut self.is else { return Ok(()) };
        let socket = match held.take() {
            Some(socket) => socket,
            None => self.bind()?,
        };
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        self.is = Listening::Open(TcpListener::from_std(socket.into())?);
        Ok(())
    }

    fn bind(&self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        // Connections to the port may still wait for their end.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&self.address.into())?;
        Ok(socket)
    }
}
