//! What a connection is to be: where, as whom, and within which limits.

use std::time::Duration;

use crate::{secret::Secret, wire::Table};

/// What happens when a connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// Nothing: the connection is closed, with its cause.
    Never,
}

/// One host to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// Name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Address {
    /// Names a host and its port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

/// All that a supervisor must know to make connections.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionOptions {
    /// Where the broker is.
    pub address: Address,
    /// The login.
    pub user: String,
    /// Its password; never shown.
    pub password: Secret,
    /// The virtual host.
    pub vhost: String,
    /// Seconds between signs of life; `None` takes the broker's offer, 0 turns them off.
    pub heartbeat: Option<u16>,
    /// Channels at most; the broker may say less.
    pub channel_max: u16,
    /// Bytes of a frame at most, from 4,096 on; the broker may say less.
    pub frame_max: u32,
    /// How long dialling and shaking hands may take together.
    pub connect_timeout: Duration,
    /// How long closing may take, confirms under way included.
    pub close_timeout: Duration,
    /// Bytes of a body at most; a larger one closes the connection.
    pub body_max: u64,
    /// Bytes that may wait for the application in `no_ack` consumers before the socket is not read any more.
    pub read_ahead: usize,
    /// How long the socket may stay unread because of that before the consumer that holds most is cancelled; a warning
    /// is logged after a quarter of it. The broker gives up after 30 seconds.
    pub stall_limit: Duration,
    /// What the broker shows of this client, beside what the library says of itself.
    pub client_properties: Table,
    /// What happens when the connection is lost.
    pub recovery: Recovery,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            address: Address::new("localhost", 5672),
            user: "guest".into(),
            password: "guest".into(),
            vhost: "/".into(),
            heartbeat: None,
            channel_max: u16::MAX,
            frame_max: 128 * 1024,
            connect_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(30),
            body_max: 128 << 20,
            read_ahead: 8 << 20,
            stall_limit: Duration::from_secs(20),
            client_properties: Table::default(),
            recovery: Recovery::Never,
        }
    }
}
