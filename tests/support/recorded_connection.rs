//! A connection through a recording proxy, and the frames that it sent to settle deliveries.

use actix_pika::{Channel, Connection, Connector, DeclareQueue};

use super::modes::Bench;
use super::proxy::{Direction, Frame, Proxy};

/// A second connection to the virtual host of a bench, through a recording proxy, with one channel.
pub struct RecordedConnection {
    pub proxy: Proxy,
    pub connection: Connection,
    pub channel: Channel,
}

/// A method that settles deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleFrame {
    Ack { tag: u64, multiple: bool },
    Nack { tag: u64, multiple: bool, requeue: bool },
    Reject { tag: u64, requeue: bool },
}

impl RecordedConnection {
    pub async fn open(bench: &Bench) -> Self {
        Self::open_with(bench, |connector| connector).await
    }

    pub async fn open_with(bench: &Bench, options: impl FnOnce(Connector) -> Connector) -> Self {
        let broker = bench.vhost.broker().without_tls();
        let proxy = Proxy::to(&broker.address());
        proxy.record();
        let connector = Connector::new(&proxy.url(&broker.url(bench.vhost.name()))).expect("a valid URI");
        let connection = options(connector).connect().await.expect("connect");
        let channel = connection.channel_with(Bench::options(bench.confirms)).await.expect("channel");
        Self { proxy, connection, channel }
    }

    /// Returns the settle frames of the channel so far, in order.
    pub fn settle_frames(&self) -> Vec<SettleFrame> {
        self.settle_frames_on(self.channel.number())
    }

    /// Returns the settle frames of the channel with this number so far, in order.
    pub fn settle_frames_on(&self, channel: u16) -> Vec<SettleFrame> {
        self.sent_frames(channel, |frame| SettleFrame::parse(frame.payload))
    }

    /// Counts the frames of one method, `(class, method)`, that the client sent on the channel so far.
    pub fn count_sent(&self, method: (u16, u16)) -> usize {
        self.sent_frames(self.channel.number(), |frame| (frame.method() == Some(method)).then_some(())).len()
    }

    /// Returns when everything sent before on the channel has passed the proxy.
    pub async fn flush(&self) {
        self.channel.declare_queue(DeclareQueue::server_named()).await.expect("a round trip");
    }

    fn sent_frames<T>(&self, channel: u16, select: impl Fn(Frame<'_>) -> Option<T>) -> Vec<T> {
        let recordings = self.proxy.recordings();
        let frames = recordings.iter().flat_map(|recording| recording.frames(Direction::ToBroker));
        frames.filter(|frame| frame.channel == channel).filter_map(select).collect()
    }
}

impl SettleFrame {
    fn parse(payload: &[u8]) -> Option<Self> {
        let [0, 60, 0, method, rest @ ..] = payload else { return None };
        let tag = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
        let bits = *rest.get(8)?;
        match method {
            80 => Some(Self::Ack { tag, multiple: bits & 1 != 0 }),
            90 => Some(Self::Reject { tag, requeue: bits & 1 != 0 }),
            120 => Some(Self::Nack { tag, multiple: bits & 1 != 0, requeue: bits & 2 != 0 }),
            _ => None,
        }
    }
}
