//! The only place that names sockets: finding the peer, and moving bytes.

mod reader;
mod writer;

use std::{io, net::SocketAddr};

use tokio::net::{TcpStream, lookup_host};

pub(crate) use self::{
    reader::{ReadProgress, Reader},
    writer::Writer,
};
use crate::error::{Error, Result};

/// Connects to the first address of `host` that answers.
pub(crate) async fn dial(host: &str, port: u16) -> Result<TcpStream> {
    let named = |error: &io::Error| Error::io(format!("connecting to {host}:{port}"), error);
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(|e| named(&e))?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(|e| named(&e))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(named(&last))
}
