//! Our client and a scripted peer, past the steps that a test is not about.

use actix_pika::testing::{ClientTerms, Handshake, Mismatch, Peer, Socket};
use actix_pika::{Channel, Connection, Connector, Error, OpenChannel, Result};

/// A connection of ours to a scripted peer, open on both sides.
pub async fn meet(connector: impl FnOnce(Connector) -> Connector) -> (Connection, Socket) {
    let (result, socket, _) = try_meet(connector, &Handshake::new()).await;
    (result.expect("the peer agreed to everything"), socket)
}

/// Both sides of a handshake by this script, and what the client said in it.
pub async fn try_meet(
    connector: impl FnOnce(Connector) -> Connector,
    script: &Handshake,
) -> (Result<Connection>, Socket, ClientTerms) {
    let peer = Peer::listen().await.unwrap();
    let client = connector(Connector::new(&peer.url()).unwrap()).connect();
    let server = async {
        let mut socket = peer.accept().await?;
        let terms = socket.handshake_with(script).await?;
        Ok::<_, Mismatch>((socket, terms))
    };
    let (client, server) = tokio::join!(client, server);
    let (socket, terms) = server.unwrap();
    (client, socket, terms)
}

/// How a connect by this script fails, and what the peer has seen by then.
pub async fn turned_away(
    connector: impl FnOnce(Connector) -> Connector,
    script: &Handshake,
) -> (Error, Socket, ClientTerms) {
    let (result, socket, terms) = try_meet(connector, script).await;
    (result.expect_err("a connect that must fail"), socket, terms)
}

/// Opens channel `number` on both sides.
pub async fn open(
    connection: &Connection,
    socket: &mut Socket,
    number: u16,
    options: OpenChannel,
) -> Channel {
    use actix_pika::testing::protocol::confirm;
    let confirms = format!("{options:?}").contains("confirms: true");
    let server = async {
        socket.open_channel(number).await?;
        if confirms {
            socket.answer(number, |_: confirm::Select| confirm::SelectOk {}).await?;
        }
        Ok::<_, Mismatch>(())
    };
    let (channel, server) = tokio::join!(connection.channel_with(options), server);
    server.unwrap();
    channel.unwrap()
}
