//! A client and the scripted peer that it talks to.

use actix_pika::{
    Channel, Confirm, Connection, Error, OpenChannel, Publishing, connect,
    testing::{
        HandshakeScript, Peer, PeerSocket, Published,
        protocol::{confirm, queue},
    },
};

use super::within;

/// A client with a channel (number 1) and the peer that it talks to.
pub async fn talk(options: OpenChannel, confirms: bool) -> (PeerSocket, Connection, Channel) {
    let peer = Peer::listen().await.unwrap();
    let url = peer.url();
    let client = actix_rt::spawn(async move {
        let connection = connect(url).await.unwrap();
        let channel = connection.channel_with(options.confirms(confirms)).await.unwrap();
        (connection, channel)
    });
    let mut socket = peer.accept().await.unwrap();
    socket.handshake_with(&HandshakeScript::new().tune(10, 4096, 60)).await.unwrap();
    socket.open_channel(1).await.unwrap();
    if confirms {
        socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    }
    let (connection, channel) = within("the client", 10, client).await.unwrap();
    (socket, connection, channel)
}

/// Publishes to the exchange "ex".
pub async fn publish(channel: &Channel, key: &str, body: impl Into<Publishing>) -> Confirm {
    within("room in the window", 5, channel.exchange("ex").publish_deferred(body, key)).await.unwrap()
}

/// What becomes of a publish: its number, or the error.
pub async fn answer(confirm: Confirm) -> Result<u64, Error> {
    within("an answer", 5, confirm).await.map(|confirmation| confirmation.sequence().unwrap())
}

/// Returns a publish as it came.
pub async fn send_back(socket: &mut PeerSocket, published: Published) {
    socket.return_message(1, 312, "NO_ROUTE", published).await.unwrap();
}

/// Every confirm that came before an answered call has been read.
pub async fn sync(socket: &mut PeerSocket, channel: &Channel) {
    let call = actix_rt::spawn({
        let queue = channel.queue("sync");
        async move { queue.purge().await }
    });
    socket.answer(1, |_: queue::Purge| queue::PurgeOk { message_count: 7 }).await.unwrap();
    assert_eq!(within("an answer", 5, call).await.unwrap().unwrap(), 7);
}
