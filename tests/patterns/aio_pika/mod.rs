//! The formats of aio-pika, against aio-pika itself and among Rust programs.

mod calls;
mod figures;
mod master;
mod python;
mod wire;

use actix_pika::{Channel, Connection, Connector};

use crate::support::{broker::Vhost, within};

/// A virtual host with a channel in it, over plain TCP for Python.
pub struct Rig {
    pub vhost: Vhost,
    pub connection: Connection,
    pub channel: Channel,
}

impl Rig {
    pub async fn new() -> Self {
        let vhost = Vhost::fresh_plain().await;
        let connector = Connector::new(&vhost.url()).unwrap();
        let connection = within("connect", 10, connector.connect()).await.unwrap();
        let channel = within("a channel", 10, connection.channel()).await.unwrap();
        Self { vhost, connection, channel }
    }
}
