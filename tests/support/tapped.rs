//! A connection through a proxy that listens in, and what was said on it of deliveries.

use actix_pika::{Channel, Connection, Connector};

use super::modes::Bench;
use super::proxy::{Proxy, Way};

/// A connection of its own through a tapped proxy, with one channel, in the vhost of a bench.
pub struct Tapped {
    pub proxy: Proxy,
    pub connection: Connection,
    pub channel: Channel,
}

/// What a client says of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Ack { tag: u64, multiple: bool },
    Nack { tag: u64, multiple: bool, requeue: bool },
    Reject { tag: u64, requeue: bool },
}

impl Tapped {
    pub async fn open(bench: &Bench) -> Self {
        Self::open_with(bench, |connector| connector).await
    }

    pub async fn open_with(bench: &Bench, options: impl FnOnce(Connector) -> Connector) -> Self {
        let proxy = Proxy::to(&bench.vhost.broker().address());
        proxy.tap();
        let connector = Connector::new(&proxy.url(&bench.vhost.url())).expect("a good URI");
        let connection = options(connector).connect().await.expect("connect");
        let channel = connection.channel_with(Bench::options(bench.confirms)).await.expect("channel");
        Self { proxy, connection, channel }
    }

    /// Settles on the channel so far, in order.
    pub fn said(&self) -> Vec<Said> {
        self.said_on(self.channel.number())
    }

    /// Settles on the channel of this number so far, in order.
    pub fn said_on(&self, channel: u16) -> Vec<Said> {
        let tapes = self.proxy.tapes();
        let frames = tapes.iter().flat_map(|tape| tape.frames(Way::Up));
        frames.filter(|frame| frame.channel == channel).filter_map(|frame| settle(frame.payload)).collect()
    }

    /// Counts the frames of one method that went up on the channel so far.
    pub fn methods_up(&self, method: (u16, u16)) -> usize {
        let tapes = self.proxy.tapes();
        let frames = tapes.iter().flat_map(|tape| tape.frames(Way::Up));
        let channel = self.channel.number();
        frames.filter(|frame| frame.channel == channel && frame.method() == Some(method)).count()
    }

    /// Returns when all that was said before has passed the tap.
    pub async fn flush(&self) {
        self.channel.declare_queue(actix_pika::DeclareQueue::server_named()).await.expect("a round trip");
    }
}

fn settle(payload: &[u8]) -> Option<Said> {
    let [0, 60, 0, method, rest @ ..] = payload else { return None };
    let tag = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
    let bits = *rest.get(8)?;
    match method {
        80 => Some(Said::Ack { tag, multiple: bits & 1 != 0 }),
        90 => Some(Said::Reject { tag, requeue: bits & 1 != 0 }),
        120 => Some(Said::Nack { tag, multiple: bits & 1 != 0, requeue: bits & 2 != 0 }),
        _ => None,
    }
}
