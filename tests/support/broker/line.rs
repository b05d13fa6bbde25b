//! What differs between the lines of RabbitMQ, for tests that state what each line does.
//!
//! The line is read from the broker's `connection.start`. The facts are stated here a second time, independently of the
//! library's own table.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Broker;
use crate::support::within;

/// The line of a RabbitMQ: its major and minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line(pub u32, pub u32);

impl Line {
    /// Whether consumers of a channel can share a prefetch without a permission of the operator. From 4.3 on the broker
    /// takes a shared one for one of each new consumer.
    pub fn shares_prefetch(self) -> bool {
        self < Self(4, 3)
    }

    /// Whether `deprecated_features.permit.*` can be configured.
    pub fn has_permissions(self) -> bool {
        self >= Self(3, 13)
    }

    /// The smallest `frame_max` that the broker accepts; it resets connections with less.
    pub fn least_frame_max(self) -> u32 {
        if self < Self(4, 1) { 4096 } else { 8192 }
    }

    /// The default limit of a body in bytes.
    pub fn largest_body(self) -> usize {
        if self < Self(4, 0) { 128 << 20 } else { 16 << 20 }
    }

    /// Whether a restart deletes transient exchanges. From 4.3 on the metadata store keeps them.
    pub fn restart_deletes_transient_exchanges(self) -> bool {
        self < Self(4, 3)
    }

    /// Whether a delivery that is unsettled for too long closes its channel (406). From 4.3 on a classic queue has no such
    /// limit, and a quorum queue takes the message back and cancels the consumer.
    pub fn late_settle_closes_channel(self) -> bool {
        self < Self(4, 3)
    }

    /// Whether `basic.nack` with requeue counts toward the delivery limit of a quorum queue.
    pub fn nack_counts(self) -> bool {
        self < Self(4, 3)
    }

    /// Whether a message that was rejected is delivered as redelivered by the queues to which it is dead-lettered.
    pub fn redelivers_dead_letters(self) -> bool {
        self >= Self(4, 0)
    }

    /// The default delivery limit of a quorum queue.
    pub fn delivery_limit(self) -> Option<u32> {
        (self >= Self(4, 0)).then_some(20)
    }
}

impl Broker {
    /// Returns the line that the broker names in `connection.start`.
    pub async fn line(&self) -> Line {
        let start = within("connection.start", 10, async {
            let mut socket =
                TcpStream::connect(self.without_tls().address()).await.expect("the broker accepts");
            socket.write_all(b"AMQP\0\0\x09\x01").await.expect("the protocol header");
            let mut head = [0; 7];
            socket.read_exact(&mut head).await.expect("the head of a frame");
            let len = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            let mut payload = vec![0; len as usize];
            socket.read_exact(&mut payload).await.expect("connection.start");
            payload
        })
        .await;
        // The name as a short string, the type, the value as a long string.
        let version = text_after(&start, b"\x07versionS").expect("a version");
        assert_eq!(text_after(&start, b"\x07productS").as_deref(), Some("RabbitMQ"));
        let mut numbers = version.split('.').map(|part| part.parse().expect("a number"));
        Line(numbers.next().expect("a major version"), numbers.next().expect("a minor version"))
    }

    /// Returns the major and minor version.
    pub async fn version(&self) -> (u32, u32) {
        let Line(major, minor) = self.line().await;
        (major, minor)
    }

    /// Returns the default limit of a body.
    pub async fn largest_body(&self) -> usize {
        self.line().await.largest_body()
    }
}

fn text_after(payload: &[u8], name: &[u8]) -> Option<String> {
    let at = payload.windows(name.len()).position(|window| window == name)? + name.len();
    let (len, text) = payload.get(at..)?.split_first_chunk::<4>()?;
    let text = text.get(..u32::from_be_bytes(*len) as usize)?;
    Some(String::from_utf8_lossy(text).into_owned())
}
