//! Starts what a builder describes.

use std::{
    io, iter,
    sync::{Arc, mpsc},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use actix::Actor;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

#[cfg(feature = "tls")]
use super::tls::TlsSettings;
use super::{
    builder::{Builder, Secret, StartError},
    clock::Clock,
    handle::Broker,
    listener::{Listener, Sources},
    memory::{Dialled, dials},
    node::{Node, Order},
    parts::Timekeeper,
    port::{BoundPort, Port, Security},
    shared::Shared,
};
use crate::core::Core;

impl Builder {
    /// Starts the broker on a thread of its own, and returns when it listens.
    ///
    /// # Errors
    /// If the port cannot be listened on, or a thread cannot be started, as without file descriptors.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::builder().start().unwrap();
    /// assert!(broker.url().starts_with("amqp://guest:guest@127.0.0.1:"));
    /// ```
    pub fn start(self) -> Result<Broker, StartError> {
        let name = format!("{}:{}", self.address, self.port);
        let cannot = |error| StartError::new(format!("cannot listen on {name}"), error);
        let port = BoundPort::bind((self.address, self.port), Security::Plain).map_err(cannot)?;
        let address = port.address();
        #[cfg(feature = "tls")]
        let (tls, tls_port) = TlsSettings::listen(self.tls.as_ref(), self.address)?.unzip();
        #[cfg(not(feature = "tls"))]
        let tls_port = None;
        let ports = iter::once(port).chain(tls_port).collect();
        let (shared, dialled) = self.shared(Clock::system);
        let (node, orders) = Node::new();
        let of_thread = Arc::clone(&shared);
        let (served, is_served) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("actix-pika-broker".into())
            .spawn(move || run(of_thread, ports, orders, dialled, &served))
            .map_err(|error| StartError::new("cannot start a thread", error))?;
        is_served.recv().unwrap_or_else(|_| Err(io::Error::other("its thread panicked"))).map_err(cannot)?;
        let broker = Broker::new(shared, Some(address), Some(thread), node);
        #[cfg(feature = "tls")]
        let broker = broker.with_tls(tls);
        Ok(broker)
    }

    /// Starts the broker on the arbiter of the caller, without a socket: clients connect in memory, by
    /// [`Broker::dialer`]. Its clock is that of tokio on this arbiter, unless it is [manual](Self::manual_clock): a test
    /// that pauses it moves the broker and the client together.
    ///
    /// # Panics
    /// Without an actix `System`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// use actix_pika_broker::Broker;
    ///
    /// # actix_rt::System::new().block_on(async {
    /// tokio::time::pause();
    /// let broker = Broker::builder().start_here();
    /// let dialer = broker.dialer(); // for `Connector::memory` of actix-pika
    /// tokio::time::sleep(Duration::from_secs(3600)).await; // takes no time
    /// # });
    /// ```
    pub fn start_here(self) -> Broker {
        let (shared, dialled) = self.shared(Clock::of_runtime);
        // Nobody gives orders to the thread of the caller.
        let orders = unbounded_channel().1;
        start_parts(&shared, Sources { ports: Vec::new(), orders, dialled });
        Broker::new(shared, None, None, Node::default())
    }

    fn shared(&self, running: impl FnOnce() -> Clock) -> (Arc<Shared>, UnboundedReceiver<Dialled>) {
        let mut config = self.config.clone();
        if !self.manual_clock
            && let Ok(since) = SystemTime::now().duration_since(UNIX_EPOCH)
        {
            config.unix_start = since.as_secs();
        }
        let mut core = Core::new(config);
        for vhost in &self.vhosts {
            core.add_vhost(vhost);
        }
        let vhosts: Vec<&str> = self.vhosts.iter().map(String::as_str).chain(["/"]).collect();
        for (name, Secret(password)) in &self.users {
            core.add_user(name, password);
            for vhost in &vhosts {
                // These patterns are always right.
                let _ = core.set_permissions(name, vhost, [".*"; 3]);
            }
        }
        let clock = if self.manual_clock { Clock::manual() } else { running() };
        let (dials, dialled) = dials();
        (Arc::new(Shared::new(core, clock, dials)), dialled)
    }
}

/// What the thread of a broker does. It says when it serves, or why it cannot.
fn run(
    shared: Arc<Shared>,
    ports: Vec<BoundPort>,
    orders: UnboundedReceiver<Order>,
    dialled: UnboundedReceiver<Dialled>,
    served: &mpsc::Sender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(served.send(Err(error))),
    };
    let mut stopped = shared.stop.subscribe();
    actix_rt::System::with_tokio_rt(|| runtime).block_on(async move {
        let ports: io::Result<Vec<Port>> = ports.into_iter().map(BoundPort::register).collect();
        let ports = match ports {
            Ok(ports) => ports,
            Err(error) => return drop(served.send(Err(error))),
        };
        start_parts(&shared, Sources { ports, orders, dialled });
        let _ = served.send(Ok(()));
        let _ = stopped.wait_for(|stopped| *stopped).await;
    });
}

fn start_parts(shared: &Arc<Shared>, sources: Sources) {
    Timekeeper(Arc::clone(shared)).start();
    Listener::new(Arc::clone(shared), sources).start();
}
