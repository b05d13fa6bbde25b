//! Clients that connect in memory.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{handle::Broker, shared::Shared, socket::Accepted};

/// What a stream in memory buffers in each direction, as a socket does.
const BUFFER: usize = 64 * 1024;
/// What the address of such a connection is.
const ADDRESS: &str = "in memory";

/// A stream whose other end a client has.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) accepted: Accepted,
    pub(super) stream: DuplexStream,
}

/// Where streams are passed to the arbiter of the broker.
pub(super) type Dials = UnboundedSender<Dialled>;

pub(super) fn dials() -> (Dials, UnboundedReceiver<Dialled>) {
    unbounded_channel()
}

impl Broker {
    /// Returns a function that connects a client in memory: each call makes a stream, and the broker serves its other
    /// end on its own arbiter. `Connector::memory` of actix-pika takes it, and reconnects by it.
    ///
    /// # Errors
    /// The function fails with `ConnectionRefused` where a connect is refused on order, and once the broker has ended.
    ///
    /// # Examples
    /// ```
    /// use actix_pika_broker::Broker;
    ///
    /// # actix_rt::System::new().block_on(async {
    /// let broker = Broker::builder().start_here();
    /// let dial = broker.dialer();
    /// let stream: tokio::io::DuplexStream = dial().unwrap();
    /// drop(broker);
    /// assert_eq!(dial().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    /// # });
    /// ```
    pub fn dialer(&self) -> impl Fn() -> io::Result<DuplexStream> + Clone + Send + Sync + 'static + use<> {
        let shared = Arc::clone(&self.shared);
        move || dial(&shared)
    }

    /// Serves a client on a stream of any kind, on the arbiter of the caller. One that is refused, as while the node is
    /// stopped, is dropped: its other end is closed.
    ///
    /// # Panics
    /// Without an actix `System`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// # actix_rt::System::new().block_on(async {
    /// let broker = Broker::builder().start_here();
    /// let (client, server) = tokio::io::duplex(64 * 1024);
    /// broker.serve(server);
    /// # drop(client);
    /// # });
    /// ```
    pub fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        if let Some(accepted) = Accepted::in_memory(&self.shared, ADDRESS) {
            accepted.serve(stream);
        }
    }
}

fn dial(shared: &Arc<Shared>) -> io::Result<DuplexStream> {
    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
    if *shared.stop.borrow() {
        return Err(refused());
    }
    let accepted = Accepted::in_memory(shared, ADDRESS).ok_or_else(refused)?;
    let (client, stream) = duplex(BUFFER);
    shared.dials.send(Dialled { accepted, stream }).map_err(|_| refused())?;
    Ok(client)
}
