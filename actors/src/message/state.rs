//! The state of a connection, and the properties of an open one.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    error::Error,
    options::Address,
    wire::{Negotiated, Table},
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
    pub blocked: Option<String>,
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
}
