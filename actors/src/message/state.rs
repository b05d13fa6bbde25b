//! The state of a connection, and the properties of an open one.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    broker_rules::BrokerRules,
    error::Error,
    options::Address,
    wire::{Negotiated, PeerText, Table, Value},
};

/// Describes the state of a connection.
///
/// # Examples
/// ```
/// # use actix_pika_actors::ConnectionState;
/// fn is_blocked(state: &ConnectionState) -> bool {
///     matches!(state, ConnectionState::Open(opened) if opened.blocked.is_some())
/// }
/// assert!(!is_blocked(&ConnectionState::Connecting));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Connecting for the first time: dialling, or in the handshake.
    Connecting,
    /// Open, with the negotiated limits.
    Open(Arc<Opened>),
    /// Lost, with the cause; the supervisor reconnects.
    Reconnecting(Error),
    /// Closed and not recovered: by the application (`None`), or because it was lost or refused.
    Closed(Option<Error>),
}

/// Describes an open connection: its addresses, and what both sides agreed on.
///
/// **Over a reconnect**: each new connection has its own.
///
/// # Examples
/// ```
/// # use actix_pika_actors::Opened;
/// fn describe(opened: &Opened) -> String {
///     let version = opened.server_properties().get("version").and_then(|value| value.as_str());
///     format!("{} at {}, RabbitMQ {version:?}", opened.channel_max(), opened.peer_addr)
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened {
    /// Limits, and the broker's properties.
    pub(crate) negotiated: Arc<Negotiated>,
    /// Address that was connected to, of those in the options.
    pub address: Address,
    /// Local address of the socket.
    pub local_addr: SocketAddr,
    /// Address of the broker's end of the socket.
    pub peer_addr: SocketAddr,
    /// Reason for which the broker blocks publishing now (`connection.blocked`); `None` if it does not.
    pub blocked: Option<PeerText>,
}

impl Opened {
    /// Returns the highest channel number that both sides agreed on.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Opened;
    /// fn has_room(opened: &Opened, channels: u16) -> bool {
    ///     channels <= opened.channel_max()
    /// }
    /// ```
    pub fn channel_max(&self) -> u16 {
        self.negotiated.channel_max
    }

    /// Returns the largest frame in bytes that both sides agreed on.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Opened;
    /// fn needs_one_frame(opened: &Opened, body: &[u8]) -> bool {
    ///     body.len() + 8 <= opened.frame_max() as usize
    /// }
    /// ```
    pub fn frame_max(&self) -> u32 {
        self.negotiated.frame_max
    }

    /// Returns the heartbeat interval that both sides agreed on, zero for none.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Opened;
    /// fn has_heartbeats(opened: &Opened) -> bool {
    ///     !opened.heartbeat().is_zero()
    /// }
    /// ```
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.negotiated.heartbeat.into())
    }

    /// Returns the broker's properties: product, version, capabilities.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Opened;
    /// fn product(opened: &Opened) -> Option<&str> {
    ///     opened.server_properties().get("product").and_then(|value| value.as_str())
    /// }
    /// ```
    pub fn server_properties(&self) -> &Table {
        &self.negotiated.server_properties
    }

    /// Returns the broker's product, such as `RabbitMQ`; `None` if it does not say.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Opened;
    /// fn is_rabbitmq(opened: &Opened) -> bool {
    ///     opened.product() == Some("RabbitMQ")
    /// }
    /// ```
    pub fn product(&self) -> Option<&str> {
        self.server_properties().get("product").and_then(Value::as_str)
    }

    /// Returns the broker's version, such as `4.3.6`; `None` if it does not say.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Opened;
    /// fn describe(opened: &Opened) -> String {
    ///     format!("{} {}", opened.product().unwrap_or("?"), opened.version().unwrap_or("?"))
    /// }
    /// ```
    pub fn version(&self) -> Option<&str> {
        self.server_properties().get("version").and_then(Value::as_str)
    }

    /// Returns what the broker does that depends on its version; `None` unless it is a RabbitMQ.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Opened, Permission};
    /// fn can_share_a_prefetch(opened: &Opened) -> bool {
    ///     opened.rules().is_none_or(|rules| rules.shared_prefetch != Permission::IfPermitted)
    /// }
    /// ```
    pub fn rules(&self) -> Option<BrokerRules> {
        self.negotiated.rules()
    }
}
