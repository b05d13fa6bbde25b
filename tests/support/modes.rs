//! `modes!` runs a test twice: on a channel with publisher confirms, and on one without.

use actix_pika::{Channel, Connection, OpenChannel, connect};

use super::broker::{Broker, Vhost};
use super::oracle::Oracle;

/// A new virtual host with one connection and one channel.
pub struct Bench {
    pub vhost: Vhost,
    pub connection: Connection,
    pub channel: Channel,
    pub confirms: bool,
}

impl Bench {
    pub async fn open(confirms: bool) -> Self {
        Self::open_on(Broker::under_test(), confirms).await
    }

    /// Opens one on another broker.
    pub async fn open_on(broker: &Broker, confirms: bool) -> Self {
        let vhost = Vhost::fresh_on(broker).await;
        let connection = connect(vhost.url()).await.expect("connect");
        let channel = connection.channel_with(Self::options(confirms)).await.expect("channel");
        Self { vhost, connection, channel, confirms }
    }

    pub fn options(confirms: bool) -> OpenChannel {
        OpenChannel::new().confirms(confirms)
    }

    /// Declares a durable queue and publishes `bodies` to it with the other client, which it returns.
    pub async fn fill_queue(&self, queue: &str, bodies: impl IntoIterator<Item = String>) -> Oracle {
        let oracle = Oracle::connect(&self.vhost.url()).await;
        oracle.declare_queue(queue).await;
        for body in bodies {
            oracle.publish("", queue, body).await;
        }
        oracle
    }

    /// Opens another channel in the same mode.
    pub async fn another_channel(&self) -> Channel {
        self.connection.channel_with(Self::options(self.confirms)).await.expect("channel")
    }
}

/// Defines two tests for each `async fn name(bench: Bench)`: `name::with_confirms` and `name::without_confirms`. Each of
/// them has 60 seconds.
#[macro_export]
macro_rules! modes {
    ($($(#[$meta:meta])* async fn $name:ident($bench:ident: Bench) $body:block)*) => { $(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn run($bench: $crate::support::modes::Bench) $body

            #[actix::test]
            async fn with_confirms() {
                let test = async { run($crate::support::modes::Bench::open(true).await).await };
                $crate::support::within(stringify!($name), 60, test).await;
            }

            #[actix::test]
            async fn without_confirms() {
                let test = async { run($crate::support::modes::Bench::open(false).await).await };
                $crate::support::within(stringify!($name), 60, test).await;
            }
        }
    )* };
}
