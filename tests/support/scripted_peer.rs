//! A client connected to a scripted peer: the handshake and the opening of channels, for tests that are about something else.

use std::{
    net::{SocketAddr, TcpListener},
    pin::pin,
};

use actix_pika::testing::{
    ClientHandshake, HandshakeScript, Peer, PeerSocket, Published,
    protocol::{confirm, queue},
};
use actix_pika::{Channel, Confirm, Connection, Connector, Error, OpenChannel, Publishing, Result};

use super::within;

/// Connects to a peer with the default script. Returns both ends.
pub async fn connect_to_peer(connector: impl FnOnce(Connector) -> Connector) -> (Connection, PeerSocket) {
    let (connection, socket, _) = connect_with_script(connector, &HandshakeScript::new()).await;
    (connection, socket)
}

/// Connects to a peer that follows `script`. Returns both ends, and what the client sent in the handshake.
pub async fn connect_with_script(
    connector: impl FnOnce(Connector) -> Connector,
    script: &HandshakeScript,
) -> (Connection, PeerSocket, ClientHandshake) {
    let (result, socket, handshake) = try_connect_with_script(connector, script).await;
    (result.expect("the client connects"), socket, handshake)
}

/// Like [`connect_with_script`], for a connect that must fail. Returns its error.
pub async fn failed_connect(
    connector: impl FnOnce(Connector) -> Connector,
    script: &HandshakeScript,
) -> (Error, PeerSocket, ClientHandshake) {
    let (result, socket, handshake) = try_connect_with_script(connector, script).await;
    (result.expect_err("the connect fails"), socket, handshake)
}

/// Like [`connect_with_script`], for a connect that may fail.
pub async fn try_connect_with_script(
    connector: impl FnOnce(Connector) -> Connector,
    script: &HandshakeScript,
) -> (Result<Connection>, PeerSocket, ClientHandshake) {
    let peer = Peer::listen().await.unwrap();
    let client = connector(Connector::new(&peer.url()).unwrap()).connect();
    let (client, (socket, handshake)) = tokio::join!(client, accept_with_script(&peer, script));
    (client, socket, handshake)
}

/// Accepts the next client and performs the handshake by `script`.
pub async fn accept_with_script(peer: &Peer, script: &HandshakeScript) -> (PeerSocket, ClientHandshake) {
    let mut socket = peer.accept().await.unwrap();
    let handshake = socket.handshake_with(script).await.unwrap();
    (socket, handshake)
}

/// Opens channel `number` on both ends.
pub async fn open_channel(
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
            // Only a channel with confirms sends a second method.
            answered = socket.answer(number, |_: confirm::Select| confirm::SelectOk {}) => answered.map(drop).unwrap(),
        }
        client.await
    };
    channel.await.unwrap()
}

/// Connects to a peer with a `frame_max` of 4096, and opens channel 1.
pub async fn connect_with_channel(options: OpenChannel, confirms: bool) -> (PeerSocket, Connection, Channel) {
    let script = HandshakeScript::new().tune(10, 4096, 60);
    let connect = connect_with_script(|connector| connector, &script);
    let (connection, mut socket, _) = within("a handshake", 10, connect).await;
    let channel = open_channel(&connection, &mut socket, 1, options.confirms(confirms));
    let channel = within("a channel", 10, channel).await;
    (socket, connection, channel)
}

/// Publishes to the exchange "ex".
pub async fn publish(channel: &Channel, key: &str, body: impl Into<Publishing>) -> Confirm {
    within("room in the window", 5, channel.exchange("ex").publish_deferred(body, key)).await.unwrap()
}

/// Waits for a confirm and returns its sequence number, or the error.
pub async fn confirm_result(confirm: Confirm) -> Result<u64, Error> {
    within("a confirm", 5, confirm).await.map(|confirmation| confirmation.sequence().unwrap())
}

/// Returns a publish to the client as unroutable.
pub async fn return_message(socket: &mut PeerSocket, published: Published) {
    socket.return_message(1, 312, "NO_ROUTE", published).await.unwrap();
}

/// Makes a call on channel 1 and answers it. When it returns, the client has read everything sent before.
pub async fn round_trip(socket: &mut PeerSocket, channel: &Channel) {
    let call = actix_rt::spawn({
        let queue = channel.queue("sync");
        async move { queue.purge().await }
    });
    socket.answer(1, |_: queue::Purge| queue::PurgeOk { message_count: 7 }).await.unwrap();
    assert_eq!(within("an answer", 5, call).await.unwrap().unwrap(), 7);
}

/// Returns an address at which nothing listens: the port was free a moment ago.
pub fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Returns a listener whose connections get no bytes. It is non-blocking: `accept` shows whether a client connected.
pub fn silent_listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}
