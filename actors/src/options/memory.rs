//! In-memory connections for tests: the dialler that connection options hold.

use std::io;

use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc::UnboundedSender,
};

/// Connects to a [`MemoryPeer`](crate::testing::MemoryPeer) without a network;
/// [`MemoryPeer::dialer`](crate::testing::MemoryPeer::dialer) returns one.
///
/// It goes into [`ConnectionOptions::memory`](crate::ConnectionOptions::memory). Each connect makes a new
/// stream, as a new TCP connection would. The addresses of the options are not used, except to name the
/// connection in errors.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{ConnectionOptions, testing::MemoryPeer};
/// let peer = MemoryPeer::new();
/// let mut options = ConnectionOptions::default();
/// options.memory = Some(peer.dialer());
/// ```
#[derive(Clone, Debug)]
pub struct MemoryDialer {
    streams: UnboundedSender<DuplexStream>,
    buffer: usize,
}

impl MemoryDialer {
    /// Makes a dialler whose streams buffer `buffer` bytes in each direction.
    pub(crate) fn new(streams: UnboundedSender<DuplexStream>, buffer: usize) -> Self {
        Self { streams, buffer }
    }

    /// Makes a stream and passes its other end to the peer. Fails with `ConnectionRefused` once the peer is
    /// dropped.
    pub(crate) fn dial(&self) -> io::Result<DuplexStream> {
        let (client, server) = duplex(self.buffer);
        self.streams.send(server).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(client)
    }
}
