//! Virtual hosts of a node, by its management plug-in.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Makes a virtual host anew, or deletes it.
pub(crate) async fn manage(address: &str, verb: &str, vhost: &str) -> io::Result<()> {
    let (host, port) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    // The port of the plug-in is 10000 above that of AMQP.
    let port: u16 = port.parse::<u16>().map_err(io::Error::other)? + 10_000;
    let mut socket = TcpStream::connect((host, port)).await?;
    let request = format!(
        "{verb} /api/vhosts/{vhost} HTTP/1.1\r\nhost: {host}\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
         content-length: 0\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    if answer.starts_with("HTTP/1.1 2") { Ok(()) } else { Err(io::Error::other(answer)) }
}
