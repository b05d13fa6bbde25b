//! Scripted peers in place of brokers: one that is met, one that is not there, one that says nothing.

use std::net::SocketAddr;

use actix_pika::testing::{ClientTerms, Handshake, Peer, Socket, protocol::confirm};
use actix_pika::{Channel, Connection, Connector, OpenChannel};

/// Takes the next client and shakes hands by this script.
pub async fn serve(peer: &Peer, script: &Handshake) -> (Socket, ClientTerms) {
    let mut socket = peer.accept().await.unwrap();
    let terms = socket.handshake_with(script).await.unwrap();
    (socket, terms)
}

/// A connection to a willing peer, and what was said in opening it.
pub async fn meet(set: impl FnOnce(Connector) -> Connector) -> (Connection, Socket, ClientTerms) {
    meet_by(set, &Handshake::new()).await
}

pub async fn meet_by(
    set: impl FnOnce(Connector) -> Connector,
    script: &Handshake,
) -> (Connection, Socket, ClientTerms) {
    let peer = Peer::listen().await.unwrap();
    let connector = set(Connector::new(&peer.url()).unwrap());
    let (connection, (socket, terms)) = tokio::join!(connector.connect(), serve(&peer, script));
    (connection.unwrap(), socket, terms)
}

/// Opens a channel with confirms on both sides.
pub async fn open(
    connection: &Connection,
    socket: &mut Socket,
    number: u16,
    options: OpenChannel,
) -> Channel {
    let answers = async {
        socket.open_channel(number).await.unwrap();
        socket.answer(number, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    };
    let (channel, ()) = tokio::join!(connection.channel_with(options), answers);
    channel.unwrap()
}

/// An address at which nothing listens: the port was free a moment ago.
pub fn nowhere() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A listener that takes connections and never says a word; `accept` tells at once whether anybody came.
pub fn mute() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}
