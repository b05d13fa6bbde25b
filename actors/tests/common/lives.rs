//! A client that recovers, and the peers that it meets one after the other.

use std::{mem, time::Duration};

use actix_pika_actors::{
    Confirmation, ConnectionEvent, ConnectionOptions, Error, OpenedChannel, Publish, Recovery,
    WatchConnection,
    testing::{
        HandshakeScript, PeerSocket, Probe, Published,
        protocol::{channel as methods, confirm},
    },
};

use super::{Bench, Call, ask, at_once};

/// A bench whose client comes back after a millisecond, and what its connection says of itself.
pub struct Lives {
    pub bench: Bench,
    pub events: Probe<ConnectionEvent>,
}

impl Lives {
    pub async fn begin() -> Self {
        Self::begin_with(&HandshakeScript::new(), |_| {}).await
    }

    pub async fn begin_with(script: &HandshakeScript, set: impl FnOnce(&mut ConnectionOptions)) -> Self {
        let recovers = |options: &mut ConnectionOptions| {
            options.recovery = Recovery::fixed(Duration::from_millis(1));
            set(options);
        };
        let bench = Bench::open_with(script, recovers).await;
        let events = Probe::start();
        bench.client.supervisor.send(WatchConnection(events.recipient())).await.unwrap();
        Self { bench, events }
    }

    /// The socket of the life that is over, and a dead one in its place.
    pub fn take_socket(&mut self) -> PeerSocket {
        mem::replace(&mut self.bench.socket, PeerSocket::over(tokio::io::duplex(1).0))
    }

    /// Resets the connection and waits until the client has noticed. It is away until [`back`](Self::back).
    pub async fn lose(&mut self) -> Error {
        self.take_socket().reset().unwrap();
        self.lost().await
    }

    /// Closes the connection as a broker does, with this code.
    pub async fn lose_by(&mut self, code: u16) -> Error {
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

    /// The next life, after its handshake.
    pub async fn back(&mut self) {
        self.back_with(&HandshakeScript::new()).await;
    }

    pub async fn back_with(&mut self, script: &HandshakeScript) {
        self.bench.socket = self.bench.peer.accept().await.unwrap();
        self.bench.socket.handshake_with(script).await.unwrap();
    }

    /// Opens channel `number` again, which has confirms and no consumer.
    pub async fn reopen(&mut self, number: u16) {
        self.bench.socket.open_channel(number).await.unwrap();
        self.bench.socket.answer(number, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    }

    /// Lets the client close channel 1 and open it again.
    pub async fn open_again(&mut self) {
        self.bench.socket.answer(1, |_: methods::Close| methods::CloseOk {}).await.unwrap();
        self.reopen(1).await;
    }

    /// Loses the connection and has it back with channel 1.
    pub async fn cut(&mut self) {
        self.lose().await;
        self.back().await;
        self.reopen(1).await;
    }

    /// Waits until everything is as before.
    pub async fn restored(&mut self) {
        loop {
            if let ConnectionEvent::Recovered { skipped, .. } = self.events.next().await.unwrap() {
                return assert!(skipped.is_empty(), "{skipped:?}");
            }
        }
    }

    pub async fn published(&mut self) -> Published {
        self.bench.socket.expect_publish(1).await.unwrap()
    }

    /// These bodies come on channel 1, in this order.
    #[track_caller]
    pub fn publishes<'a>(&'a mut self, bodies: &'a [&'a str]) -> impl Future<Output = ()> + 'a {
        let at = std::panic::Location::caller();
        async move {
            for body in bodies {
                let published = self.published().await;
                assert_eq!(String::from_utf8_lossy(&published.body), *body, "at {at}");
            }
        }
    }
}

/// Publishes once what was published before is in the outbox.
pub async fn publish(channel: &OpenedChannel, body: &'static str) -> Call<Confirmation> {
    publish_as(channel, Publish::new("", "jobs", body)).await
}

pub async fn publish_as(channel: &OpenedChannel, publish: Publish) -> Call<Confirmation> {
    let busy = |channel: &OpenedChannel| channel.outbox.load().waiting + channel.outbox.published() as usize;
    let before = busy(channel);
    let call = ask(&channel.actor, publish);
    until("the publish is in the outbox", || busy(channel) > before || call.is_answered()).await;
    call
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is: impl FnMut() -> bool) -> impl Future<Output = ()> {
    at_once(what, async move {
        while !is() {
            tokio::task::yield_now().await;
        }
    })
}
