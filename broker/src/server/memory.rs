//! Clients that connect in memory.

use std::{io, sync::Arc};

use actix::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{
    actors::serve_stream,
    handle::Broker,
    shared::{PeerId, Shared, Wakers},
};

/// What a stream in memory buffers in each direction, as a socket does.
const BUFFER: usize = 64 * 1024;
/// What the address of such a connection is.
const ADDRESS: &str = "in memory";

/// A stream whose other end a client has.
#[derive(Debug)]
pub(super) struct Dialled {
    id: PeerId,
    wakers: Wakers,
    stream: DuplexStream,
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

    /// Serves a client on a stream of any kind, on the arbiter of the caller.
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
        if let Some((id, wakers)) = self.shared.accept(ADDRESS.into()) {
            serve_stream(&self.shared, id, wakers, Box::new(stream));
        }
    }
}

fn dial(shared: &Shared) -> io::Result<DuplexStream> {
    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
    if *shared.stop.borrow() {
        return Err(refused());
    }
    let (id, wakers) = shared.accept(ADDRESS.into()).ok_or_else(refused)?;
    let (client, stream) = duplex(BUFFER);
    match shared.dials.send(Dialled { id, wakers, stream }) {
        Ok(()) => Ok(client),
        Err(_) => {
            shared.lost(id);
            Err(refused())
        }
    }
}

/// Starts to serve what was dialled.
#[derive(Debug)]
pub(super) struct MemoryListener {
    shared: Arc<Shared>,
    dialled: Option<UnboundedReceiver<Dialled>>,
}

impl MemoryListener {
    pub(super) fn new(shared: Arc<Shared>, dialled: UnboundedReceiver<Dialled>) -> Self {
        Self { shared, dialled: Some(dialled) }
    }
}

impl Actor for MemoryListener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(mut dialled) = self.dialled.take() else { return };
        let shared = Arc::clone(&self.shared);
        let mut stopped = shared.stop.subscribe();
        let accept = async move {
            loop {
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                    Some(Dialled { id, wakers, stream }) = dialled.recv() => {
                        serve_stream(&shared, id, wakers, Box::new(stream));
                    }
                }
            }
        };
        ctx.spawn(accept.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}
