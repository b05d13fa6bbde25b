//! What the client asks for in the handshake.

use super::{mechanism::Mechanism, table::Table};
use crate::secret::Secret;

/// What the client asks for in the handshake.
#[derive(Clone, Debug)]
pub struct HandshakeOptions {
    /// The login mechanisms in order of preference. The first one that the server offers is used.
    pub mechanisms: Vec<Mechanism>,
    /// The user name.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// The virtual host to open.
    pub vhost: String,
    /// The language of texts, such as `en_US`.
    pub locale: String,
    /// The highest channel number, 0 for the limit of the server.
    pub channel_max: u16,
    /// The largest frame in bytes, 0 for [`FRAME_MAX`](super::tune::FRAME_MAX).
    pub frame_max: u32,
    /// Seconds between heartbeats, `None` for the interval of the server, `Some(0)` for no heartbeats.
    pub heartbeat: Option<u16>,
    /// Entries added to the client properties. An equal key replaces the default value.
    pub client_properties: Table,
}
