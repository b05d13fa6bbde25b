//! The handshake of TLS of a connection that was accepted.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::Accept;

use crate::server::{parts::watched, shared::Shared, socket::Accepted};

/// How long RabbitMQ waits for a handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Shakes hands on the arbiter of the caller, and serves the connection then.
pub(in crate::server) fn shake_hands(shared: Arc<Shared>, accepted: Accepted, handshake: Accept<TcpStream>) {
    let mut stopped = shared.stop.subscribe();
    let work = async move {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => {}
            shaken = timeout(HANDSHAKE, handshake) => match shaken {
                Ok(Ok(stream)) => accepted.serve(stream),
                Ok(Err(error)) => log::info!("a handshake of TLS failed: {error}"),
                Err(_) => log::info!("a handshake of TLS took longer than {HANDSHAKE:?}"),
            },
        }
    };
    actix_rt::spawn(watched(shared, "a handshake of TLS", work));
}
