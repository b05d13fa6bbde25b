//! How a connection stands, and what is known of an open one.

use std::{net::SocketAddr, ops::Deref, sync::Arc};

use crate::{error::Error, options::Address, wire::Negotiated};

/// How a connection stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Dialling or shaking hands.
    Connecting,
    /// Open, with what both sides agreed on.
    Open(Arc<Opened>),
    /// Over: closed by the user (`None`), or lost.
    Closed(Option<Error>),
}

/// What is known of an open connection; dereferences to what both sides agreed on.
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
