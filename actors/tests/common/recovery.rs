//! A client that reconnects, and the peers that accept its connections one after the other.

use std::{mem, time::Duration};

use actix_pika_actors::{
    Confirmation, ConnectionEvent, ConnectionOptions, Error, Load, OpenChannel, OpenedChannel, Publish,
    Recovery, WatchConnection, facade,
    testing::{
        HandshakeScript, PeerSocket, Probe, Published,
        protocol::{channel as methods, confirm, queue},
    },
};

use super::{Bench, Call, ask, at_once};

/// Returns the load of a channel without publishes and deliveries.
pub fn idle() -> Load {
    let mut load = Load::default();
    load.drained = true;
    load
}

/// A bench whose client reconnects after a millisecond, and the events of its connection.
pub struct RecoveryBench {
    pub bench: Bench,
    pub events: Probe<ConnectionEvent>,
}

impl RecoveryBench {
    pub async fn start() -> Self {
        Self::start_with(&HandshakeScript::new(), |_| {}).await
    }

    /// Starts with an open channel, which has number 1 and the default options.
    pub async fn with_channel() -> (Self, OpenedChannel) {
        let mut test = Self::start().await;
        let channel = test.bench.channel(1, OpenChannel::new()).await;
        (test, channel)
    }

    pub async fn start_with(script: &HandshakeScript, set: impl FnOnce(&mut ConnectionOptions)) -> Self {
        let recovers = |options: &mut ConnectionOptions| {
            options.recovery = Recovery::fixed(Duration::from_millis(1));
            set(options);
        };
        let bench = Bench::open_with(script, recovers).await;
        let events = Probe::start();
        bench.client.supervisor.send(WatchConnection(events.recipient())).await.unwrap();
        Self { bench, events }
    }

    /// Takes the socket of the connection and leaves a dead one in its place.
    pub fn take_socket(&mut self) -> PeerSocket {
        mem::replace(&mut self.bench.socket, PeerSocket::over(tokio::io::duplex(1).0))
    }

    /// Resets the connection and waits until the client has noticed. It stays down until
    /// [`reconnect`](Self::reconnect).
    pub async fn disconnect(&mut self) -> Error {
        self.take_socket().reset().unwrap();
        self.lost().await
    }

    /// Closes the connection as a broker does, with this code, and waits until the client has noticed.
    pub async fn close_by_broker(&mut self, code: u16) -> Error {
        self.bench.socket.close_connection(code, "so").await.unwrap();
        drop(self.take_socket());
        self.lost().await
    }

    /// Waits until the client has noticed that its connection is gone.
    pub async fn lost(&mut self) -> Error {
        loop {
            if let ConnectionEvent::Lost(error) = self.events.next().await.unwrap() {
                return error;
            }
        }
    }

    /// Accepts the next connection and does its handshake.
    pub async fn reconnect(&mut self) {
        self.reconnect_with(&HandshakeScript::new()).await;
    }

    pub async fn reconnect_with(&mut self, script: &HandshakeScript) {
        self.bench.socket = self.bench.peer.accept().await.unwrap();
        self.bench.socket.handshake_with(script).await.unwrap();
    }

    /// Answers for channel `number` as it opens again, with confirms and without consumers.
    pub async fn reopen_channel(&mut self, number: u16) {
        self.bench.socket.open_channel(number).await.unwrap();
        self.bench.socket.answer(number, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    }

    /// Answers as the client closes channel 1 and opens it again.
    pub async fn close_and_reopen(&mut self) {
        self.bench.socket.answer(1, |_: methods::Close| methods::CloseOk {}).await.unwrap();
        self.reopen_channel(1).await;
    }

    /// Accepts the next connection and reopens channel 1.
    pub async fn reconnect_and_reopen(&mut self) {
        self.reconnect().await;
        self.reopen_channel(1).await;
    }

    /// Resets the connection, accepts the next one and reopens channel 1.
    pub async fn disconnect_and_recover(&mut self) {
        self.disconnect().await;
        self.reconnect_and_reopen().await;
    }

    /// Waits for `Recovered`, with nothing skipped.
    pub async fn recovered(&mut self) {
        loop {
            if let ConnectionEvent::Recovered { skipped, .. } = self.events.next().await.unwrap() {
                return assert!(skipped.is_empty(), "{skipped:?}");
            }
        }
    }

    /// Reads the next publish on channel 1.
    pub async fn next_publish(&mut self) -> Published {
        self.bench.socket.expect_publish(1).await.unwrap()
    }

    /// Reads publishes with these bodies, in this order, on channel 1.
    #[track_caller]
    pub fn expect_publishes<'a>(&'a mut self, bodies: &'a [&'a str]) -> impl Future<Output = ()> + 'a {
        let at = std::panic::Location::caller();
        async move {
            for body in bodies {
                let published = self.next_publish().await;
                assert_eq!(String::from_utf8_lossy(&published.body), *body, "at {at}");
            }
        }
    }
}

/// Publishes, and returns once the publish is in the outbox.
pub async fn publish(channel: &OpenedChannel, body: &'static str) -> Call<Confirmation> {
    publish_as(channel, Publish::new("", "jobs", body)).await
}

pub async fn publish_as(channel: &OpenedChannel, publish: Publish) -> Call<Confirmation> {
    let busy =
        |channel: &OpenedChannel| channel.outbox.load().waiting + facade::published(&channel.outbox) as usize;
    let before = busy(channel);
    let call = ask(&channel.actor, publish);
    until("the publish is in the outbox", || busy(channel) > before || call.is_answered()).await;
    call
}

/// Waits until a condition holds.
#[track_caller]
pub fn until(what: &str, mut is: impl FnMut() -> bool) -> impl Future<Output = ()> {
    at_once(what, async move {
        while !is() {
            tokio::task::yield_now().await;
        }
    })
}

/// Answers a `queue.declare` of this queue on a channel.
pub async fn declare_ok(socket: &mut PeerSocket, channel: u16, name: &str) {
    let declared = socket
        .answer(channel, |declare: queue::Declare| queue::DeclareOk {
            queue: declare.queue,
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(declared.queue.as_str(), name);
}
