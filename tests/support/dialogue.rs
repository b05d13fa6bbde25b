//! Our client and a scripted peer, past the steps that a test is not about.

use std::{net::SocketAddr, pin::pin};

use actix_pika::testing::{ClientHandshake, HandshakeScript, Peer, PeerSocket, protocol::confirm};
use actix_pika::{Channel, Connection, Connector, Error, OpenChannel, Result};

/// A connection of ours to a scripted peer, open on both sides.
pub async fn meet(connector: impl FnOnce(Connector) -> Connector) -> (Connection, PeerSocket) {
    let (connection, socket, _) = meet_by(connector, &HandshakeScript::new()).await;
    (connection, socket)
}

/// Both sides of a handshake by this script, and what the client said in it.
pub async fn try_meet(
    connector: impl FnOnce(Connector) -> Connector,
    script: &HandshakeScript,
) -> (Result<Connection>, PeerSocket, ClientHandshake) {
    let peer = Peer::listen().await.unwrap();
    let client = connector(Connector::new(&peer.url()).unwrap()).connect();
    let (client, (socket, terms)) = tokio::join!(client, serve(&peer, script));
    (client, socket, terms)
}

/// An open connection by this script, and what the client said in opening it.
pub async fn meet_by(
    connector: impl FnOnce(Connector) -> Connector,
    script: &HandshakeScript,
) -> (Connection, PeerSocket, ClientHandshake) {
    let (result, socket, terms) = try_meet(connector, script).await;
    (result.expect("the peer agreed to everything"), socket, terms)
}

/// How a connect by this script fails, and what the peer has seen by then.
pub async fn turned_away(
    connector: impl FnOnce(Connector) -> Connector,
    script: &HandshakeScript,
) -> (Error, PeerSocket, ClientHandshake) {
    let (result, socket, terms) = try_meet(connector, script).await;
    (result.expect_err("a connect that must fail"), socket, terms)
}

/// Opens channel `number` on both sides.
pub async fn open(
    connection: &Connection,
    socket: &mut PeerSocket,
    number: u16,
    options: OpenChannel,
) -> Channel {
    let mut client = pin!(connection.channel_with(options));
    let channel = async {
        tokio::select! {
            biased;
            opened = socket.open_channel(number) => opened.map(drop).unwrap(),
            channel = &mut client => return channel,
        }
        tokio::select! {
            channel = &mut client => return channel,
            // Only a channel with confirms asks for more than to be opened.
            answered = socket.answer(number, |_: confirm::Select| confirm::SelectOk {}) => answered.map(drop).unwrap(),
        }
        client.await
    };
    channel.await.unwrap()
}

/// Takes the next client and shakes hands by this script.
pub async fn serve(peer: &Peer, script: &HandshakeScript) -> (PeerSocket, ClientHandshake) {
    let mut socket = peer.accept().await.unwrap();
    let terms = socket.handshake_with(script).await.unwrap();
    (socket, terms)
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
