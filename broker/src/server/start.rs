//! Starts what a builder describes.

use std::{
    sync::Arc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use actix::Actor;
use tokio::{net::TcpListener, sync::mpsc::UnboundedReceiver};

#[cfg(feature = "tls")]
use super::tls::TlsSettings;
use super::{
    actors::{Listener, Timekeeper},
    builder::{Builder, Secret, StartError},
    clock::Clock,
    handle::{Broker, Place},
    memory::{Dialled, MemoryListener, dials},
    node::Node,
    shared::Shared,
};
use crate::core::Core;

impl Builder {
    /// Starts the broker on a thread of its own, and returns when it listens.
    ///
    /// # Errors
    /// If the port cannot be listened on, or a thread cannot be started.
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
        let listener = std::net::TcpListener::bind((self.address, self.port)).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let (shared, dialled) = self.shared(Clock::system);
        let mut stopped = shared.stop.subscribe();
        let (node, orders) = Node::new();
        #[cfg(feature = "tls")]
        let (tls, tls_port) = TlsSettings::listen(self.tls.as_ref(), self.address)?;
        let of_thread = Arc::clone(&shared);
        let run = move || {
            actix_rt::System::new().block_on(async move {
                match TcpListener::from_std(listener) {
                    Ok(socket) => {
                        Timekeeper(Arc::clone(&of_thread)).start();
                        MemoryListener::new(Arc::clone(&of_thread), dialled).start();
                        #[cfg(feature = "tls")]
                        tls_port.into_iter().for_each(|port| port.serve(&of_thread));
                        Listener::new(of_thread, socket, orders).start();
                        let _ = stopped.wait_for(|stopped| *stopped).await;
                    }
                    Err(error) => log::error!("cannot listen: {error}"),
                }
            });
        };
        let thread = thread::Builder::new()
            .name("actix-pika-broker".into())
            .spawn(run)
            .map_err(|error| StartError::new("cannot start a thread", error))?;
        let broker = Broker::new(shared, Some(address), Place::Thread(thread), node);
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
        Timekeeper(Arc::clone(&shared)).start();
        MemoryListener::new(Arc::clone(&shared), dialled).start();
        Broker::new(shared, None, Place::Caller, Node::default())
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
