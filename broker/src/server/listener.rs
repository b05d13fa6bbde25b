//! The part that accepts connections, and follows the orders of the handle.

use std::{future::poll_fn, io, sync::Arc, task::Poll, time::Duration};

use actix::prelude::*;
use tokio::{
    net::TcpStream,
    sync::mpsc::UnboundedReceiver,
    time::{Instant, sleep_until},
};

use super::{memory::Dialled, node::Order, parts::watched, port::Port, shared::Shared};

/// The pause after an accept that failed, as it does while there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// From where connections and orders come.
pub(super) struct Sources {
    pub(super) ports: Vec<Port>,
    pub(super) orders: UnboundedReceiver<Order>,
    pub(super) dialled: UnboundedReceiver<Dialled>,
}

/// Accepts connections.
pub(super) struct Listener {
    shared: Arc<Shared>,
    sources: Option<Sources>,
}

impl Listener {
    pub(super) fn new(shared: Arc<Shared>, sources: Sources) -> Self {
        Self { shared, sources: Some(sources) }
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(sources) = self.sources.take() else { return };
        let shared = Arc::clone(&self.shared);
        let work = watched(Arc::clone(&shared), "the listener", listen(shared, sources));
        ctx.spawn(work.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

async fn listen(shared: Arc<Shared>, mut sources: Sources) {
    let mut stopped = shared.stop.subscribe();
    let mut rests_until = None;
    loop {
        let Sources { ports, orders, dialled } = &mut sources;
        tokio::select! {
            biased; // Runs of a paused clock are repeatable.
            _ = stopped.wait_for(|stopped| *stopped) => break,
            Some(order) = orders.recv() => follow(ports, order),
            Some(Dialled { accepted, stream }) = dialled.recv() => accepted.serve(stream),
            (port, accepted) = accept(ports, rests_until), if !ports.is_empty() => match accepted {
                Ok(stream) => port.serve(&shared, stream),
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    rests_until = Some(Instant::now() + ACCEPT_PAUSE);
                }
            },
        }
    }
}

/// Waits for the next connection, and returns at which port it is.
async fn accept(ports: &[Port], rests_until: Option<Instant>) -> (&Port, io::Result<TcpStream>) {
    if let Some(rests_until) = rests_until {
        sleep_until(rests_until).await;
    }
    poll_fn(|cx| {
        for port in ports {
            if let Poll::Ready(accepted) = port.poll_accept(cx) {
                return Poll::Ready((port, accepted));
            }
        }
        Poll::Pending
    })
    .await
}

fn follow(ports: &mut [Port], order: Order) {
    // Who gave the order may have gone.
    let _ = match order {
        Order::Close(done) => {
            ports.iter_mut().for_each(Port::close);
            done.send(Ok(()))
        }
        Order::Listen(done) => done.send(ports.iter_mut().try_for_each(Port::listen)),
        Order::Pause(begun, until) => {
            let begins = begun.send(Ok(()));
            let _ = until.recv();
            begins
        }
    };
}
