//! The handle of a connection.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix::{Addr, Recipient};
use actix_pika_actors::{ConnectionState, ConnectionSupervisor, FollowConnection, ReleaseConnection};
use futures_core::Stream;
use tokio::sync::{mpsc, watch};

use crate::{
    Channel, CloseConnection, ConnectionEvent, Error, OpenChannel, Opened, Result, Secret, Table,
    UpdateSecret, WatchConnection,
};

/// A connection to a broker. Clones are the same connection; it closes when the last handle of it, and of its
/// channels, is gone.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    supervisor: Addr<ConnectionSupervisor>,
    state: watch::Receiver<ConnectionState>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.supervisor.do_send(ReleaseConnection);
    }
}

impl Connection {
    pub(crate) fn new(
        supervisor: Addr<ConnectionSupervisor>,
        state: watch::Receiver<ConnectionState>,
    ) -> Self {
        Self { inner: Arc::new(Inner { supervisor, state }) }
    }

    /// Opens a channel with confirms (`channel.open`, `confirm.select`).
    ///
    /// # Errors
    /// `Limit` when all channels are open, `ConnectionClosed` when the connection is, `Refused` without a code where the
    /// broker has no confirms.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// let channel = connection.channel().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn channel(&self) -> Result<Channel> {
        self.channel_with(OpenChannel::new()).await
    }

    /// Opens a channel as the options say.
    ///
    /// # Errors
    /// Those of [`channel`](Self::channel).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// use actix_pika::OpenChannel;
    /// let fast = connection.channel_with(OpenChannel::new().confirms(false)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn channel_with(&self, options: OpenChannel) -> Result<Channel> {
        let ids = options.has_ids();
        let opened = self.inner.supervisor.send(options).await??;
        Ok(Channel::new(self.clone(), opened, ids))
    }

    /// Sends every event from now on to an actor; a connection that is closed already says so at once.
    ///
    /// # Examples
    /// ```no_run
    /// use actix::prelude::*;
    /// use actix_pika::ConnectionEvent;
    ///
    /// struct Watcher;
    /// impl Actor for Watcher {
    ///     type Context = Context<Self>;
    /// }
    /// impl Handler<ConnectionEvent> for Watcher {
    ///     type Result = ();
    ///     fn handle(&mut self, event: ConnectionEvent, _: &mut Self::Context) {
    ///         println!("{event:?}");
    ///     }
    /// }
    /// # fn run(connection: actix_pika::Connection) {
    /// connection.watch(Watcher.start().recipient());
    /// # }
    /// ```
    #[doc(alias = "close_callbacks")]
    pub fn watch(&self, to: impl Into<Recipient<ConnectionEvent>>) {
        self.inner.supervisor.do_send(WatchConnection(to.into()));
    }

    /// Follows every event from now on as a stream; it ends when the connection is closed.
    ///
    /// 256 events may wait for who reads them; more are lost, with a warning in the log.
    pub fn events(&self) -> Events {
        let (to, events) = mpsc::channel(256);
        self.inner.supervisor.do_send(FollowConnection(to));
        Events(events)
    }

    /// Gives the broker a new password or token for the login of this connection (`connection.update-secret`).
    ///
    /// Once the broker has taken it, it is used for later connects as well, unless the connection has a
    /// [`CredentialsProvider`](crate::CredentialsProvider), which is asked at each of them. Dropping the future takes
    /// nothing back. See <https://www.rabbitmq.com/docs/oauth2>.
    ///
    /// # Errors
    /// `Timeout` after 30 seconds, or `Blocked` while the broker blocks the connection; [`UpdateSecret`] sets another
    /// limit with [`update_secret_with`](Self::update_secret_with). `ConnectionClosed` with the reason when the broker
    /// refuses it, which closes the connection (530). `Limit` when the secret does not fit a frame.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection, token: String) -> actix_pika::Result<()> {
    /// connection.update_secret(token, "the old token expires").await
    /// # }
    /// ```
    pub async fn update_secret(&self, secret: impl Into<Secret>, reason: &str) -> Result<()> {
        self.update_secret_with(UpdateSecret::new(secret, reason)).await
    }

    /// Gives the broker a new password or token, as the options say.
    ///
    /// # Errors
    /// Those of [`update_secret`](Self::update_secret).
    pub async fn update_secret_with(&self, update: UpdateSecret) -> Result<()> {
        self.inner.supervisor.send(update).await?
    }

    /// Closes the connection (`connection.close`) after the confirms under way have come, or 30 seconds.
    ///
    /// Closing twice is fine.
    ///
    /// # Errors
    /// `Timeout` when publishes were still unconfirmed; the connection is closed all the same.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// connection.close().await
    /// # }
    /// ```
    pub async fn close(&self) -> Result<()> {
        self.close_with(CloseConnection::new()).await
    }

    /// Closes the connection with a reason for the broker's log.
    ///
    /// # Errors
    /// Those of [`close`](Self::close).
    pub async fn close_with(&self, close: CloseConnection) -> Result<()> {
        match self.inner.supervisor.send(close).await {
            Ok(answer) => answer,
            // The actor ends with its connection.
            Err(_) if self.is_closed() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the connection is closed.
    ///
    /// # Errors
    /// The cause, if it was not closed by this application.
    pub async fn closed(&self) -> Result<()> {
        let mut state = self.inner.state.clone();
        loop {
            if let ConnectionState::Closed(cause) = &*state.borrow_and_update() {
                return cause.clone().map_or(Ok(()), Err);
            }
            if state.changed().await.is_err() {
                return Err(Error::stopped("the arbiter of the connection has ended"));
            }
        }
    }

    /// Tells whether the connection is closed, or its arbiter has ended.
    pub fn is_closed(&self) -> bool {
        matches!(&*self.inner.state.borrow(), ConnectionState::Closed(_))
            || self.inner.state.has_changed().is_err()
    }

    /// Tells how the connection stands.
    pub fn state(&self) -> ConnectionState {
        self.inner.state.borrow().clone()
    }

    /// Tells the highest channel number that both sides agreed on.
    pub fn channel_max(&self) -> Option<u16> {
        self.negotiated(|n| n.channel_max)
    }

    /// Tells the largest frame in bytes that both sides agreed on.
    pub fn frame_max(&self) -> Option<u32> {
        self.negotiated(|n| n.frame_max)
    }

    /// Tells the interval of heartbeats in seconds that both sides agreed on; 0 for none.
    pub fn heartbeat(&self) -> Option<u16> {
        self.negotiated(|n| n.heartbeat)
    }

    /// Shows what the broker says of itself: product, version, capabilities.
    pub fn server_properties(&self) -> Option<Table> {
        self.negotiated(|n| n.server_properties.clone())
    }

    /// Tells our end of the socket, while the connection is open.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.negotiated(|opened| opened.local_addr)
    }

    /// Tells the broker's end of the socket, while the connection is open.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.negotiated(|opened| opened.peer_addr)
    }

    /// Tells whether the broker takes no publishes now (`connection.blocked`).
    ///
    /// Publishes wait in the window meanwhile. RabbitMQ reads nothing at all from a connection that it has blocked, so
    /// calls, acknowledgements and closing wait, too: what reaches its deadline is answered with kind `Blocked`.
    pub fn is_blocked(&self) -> bool {
        self.negotiated(|opened| opened.blocked.is_some()).unwrap_or(false)
    }

    /// Hands out the address of the actor behind the handle.
    pub fn actor(&self) -> &Addr<ConnectionSupervisor> {
        &self.inner.supervisor
    }

    fn negotiated<T>(&self, f: impl FnOnce(&Opened) -> T) -> Option<T> {
        match &*self.inner.state.borrow() {
            ConnectionState::Open(opened) => Some(f(opened)),
            _ => None,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("state", &*self.inner.state.borrow()).finish_non_exhaustive()
    }
}

/// What happens to a connection, as a stream that ends after `Closed`.
pub struct Events(mpsc::Receiver<ConnectionEvent>);

impl Stream for Events {
    type Item = ConnectionEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ConnectionEvent>> {
        self.0.poll_recv(cx)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}
