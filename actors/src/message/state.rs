//! How a connection stands, and what is known of an open one.

use std::{net::SocketAddr, ops::Deref, sync::Arc};

use crate::{error::Error, options::Address, wire::Negotiated};

/// Tells how a connection stands.
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
    /// Dialling or shaking hands.
    Connecting,
    /// Open, with what both sides agreed on.
    Open(Arc<Opened>),
    /// Lost, and to be tried again.
    Reconnecting(Error),
    /// Over: closed by the user (`None`), or lost.
    Closed(Option<Error>),
}

/// Holds what is known of an open connection; dereferences to what both sides agreed on.
///
/// **Over a reconnect**: it is another one, of the new socket.
///
/// # Examples
/// ```
/// # use actix_pika_actors::Opened;
/// fn describe(opened: &Opened) -> String {
///     let version = opened.server_properties.get("version").and_then(|value| value.as_str());
///     format!("{} at {}, RabbitMQ {version:?}", opened.channel_max, opened.peer_addr)
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened {
    /// Limits, and what the broker says of itself.
    pub negotiated: Arc<Negotiated>,
    /// Which of the addresses to connect to it was.
    pub address: Address,
    /// Our end of the socket.
    pub local_addr: SocketAddr,
    /// The broker's end of the socket.
    pub peer_addr: SocketAddr,
    /// The reason for which the broker takes no publishes now (`connection.blocked`).
    pub blocked: Option<String>,
}

impl Deref for Opened {
    type Target = Negotiated;

    fn deref(&self) -> &Negotiated {
        &self.negotiated
    }
}
