//! Accepts connections with TLS.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::server::{
    actors::{ACCEPT_PAUSE, Accepted},
    shared::Shared,
};

/// How long RabbitMQ waits for a handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A port that is bound and not served yet.
pub(in crate::server) struct TlsPort {
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsPort {
    pub(super) fn new(listener: std::net::TcpListener, acceptor: TlsAcceptor) -> Self {
        Self { listener, acceptor }
    }

    /// Serves it on the arbiter of the caller.
    pub(in crate::server) fn serve(self, shared: &Arc<Shared>) {
        match TcpListener::from_std(self.listener) {
            Ok(socket) => {
                let shared = Arc::clone(shared);
                TlsListener { shared, port: Some((socket, self.acceptor)) }.start();
            }
            Err(error) => log::error!("cannot listen for TLS: {error}"),
        }
    }
}

struct TlsListener {
    shared: Arc<Shared>,
    port: Option<(TcpListener, TlsAcceptor)>,
}

impl Actor for TlsListener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some((socket, acceptor)) = self.port.take() else { return };
        let shared = Arc::clone(&self.shared);
        let mut stopped = shared.stop.subscribe();
        let accept = async move {
            loop {
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                    accepted = socket.accept() => match accepted {
                        Ok((stream, _)) => {
                            if let Some(accepted) = Accepted::new(&shared, &stream) {
                                actix_rt::spawn(shake_hands(accepted, acceptor.accept(stream)));
                            }
                        }
                        Err(error) => {
                            log::warn!("cannot accept a connection with TLS: {error}");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    },
                }
            }
        };
        ctx.spawn(accept.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

async fn shake_hands(accepted: Accepted, handshake: tokio_rustls::Accept<tokio::net::TcpStream>) {
    match timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => return accepted.serve(Box::new(stream)),
        Ok(Err(error)) => log::info!("a handshake of TLS failed: {error}"),
        Err(_) => log::info!("a handshake of TLS took longer than {HANDSHAKE:?}"),
    }
    accepted.shared.lost(accepted.id);
}
