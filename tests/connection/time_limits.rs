//! Time limits of `Duration::ZERO` and `Duration::MAX`.

use std::time::Duration;

use crate::support::scripted_peer::{accept_with_script, connect_to_peer, open_channel, silent_listener};
use crate::support::{broker::Vhost, within};
use actix_pika::testing::{
    HandshakeScript, Peer,
    protocol::{channel, connection, queue},
};
use actix_pika::{Connector, Consume, DeclareQueue, ErrorKind, OpenChannel, message::UpdateSecret};
use futures_util::StreamExt;

const FOREVER: Duration = Duration::MAX;

/// CON-24: for connects and for calls. The connection stays usable.
#[actix::test]
async fn a_limit_of_zero_times_out_at_once() {
    let silent = silent_listener();
    let connector = Connector::new(&format!("amqp://{}/", silent.local_addr().unwrap())).unwrap();
    let connect = connector.connect_timeout(Duration::ZERO).connect();
    assert_eq!(within("the timeout", 5, connect).await.unwrap_err().kind(), ErrorKind::Timeout);

    let settings = |connector: Connector| connector.close_timeout(Duration::ZERO);
    let (connection, mut socket) = within("connect", 10, connect_to_peer(settings)).await;
    let options = OpenChannel::new().confirms(false).deadline(Duration::ZERO);
    let error = within("the timeout", 5, connection.channel_with(options)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    socket.open_channel(1).await.unwrap();
    // The channel has no handle, so the client closes it.
    socket.answer(1, |_: channel::Close| channel::CloseOk {}).await.unwrap();
    let channel =
        open_channel(&connection, &mut socket, 2, OpenChannel::new().confirms(false).number(2)).await;
    let update = connection.update_secret_with(UpdateSecret::new("new", "").deadline(Duration::ZERO));
    assert_eq!(within("the timeout", 5, update).await.unwrap_err().kind(), ErrorKind::Timeout);
    let _: connection::UpdateSecret = socket.expect(0).await.unwrap();
    let declare = socket
        .answer(2, |declare: queue::Declare| queue::DeclareOk { queue: declare.queue, ..Default::default() });
    let (queue, _) = tokio::join!(channel.declare_queue("q"), declare);
    assert_eq!(queue.unwrap().name(), "q");
    let peer = async { socket.expect_close().await.unwrap() };
    let (closed, sent) = within("close", 10, async { tokio::join!(connection.close(), peer) }).await;
    // Whether close-ok arrives in time depends on the load of the machine.
    assert!(closed.as_ref().map_or_else(|error| error.kind() == ErrorKind::Timeout, |()| true), "{closed:?}");
    assert_eq!(sent.0, 200);
}

/// CON-24: every operation works with it.
#[actix::test]
async fn a_limit_of_duration_max_is_no_limit() {
    let vhost = Vhost::fresh().await;
    let connector = Connector::new(&vhost.url()).unwrap();
    let connector = connector
        .connect_timeout(FOREVER)
        .close_timeout(FOREVER)
        .stall_limit(FOREVER)
        .heartbeat(FOREVER)
        .happy_eyeballs(FOREVER);
    let test = async {
        let connection = connector.connect().await.unwrap();
        assert_eq!(connection.heartbeat(), Some(Duration::from_secs(60)));
        let mut channels = Vec::new();
        for confirms in [true, false] {
            let channel = connection.channel_with(OpenChannel::new().deadline(FOREVER).confirms(confirms));
            channels.push(channel.await.unwrap());
        }
        connection.update_secret_with(UpdateSecret::new("guest", "").deadline(FOREVER)).await.unwrap();
        let queue = channels[0].declare_queue(DeclareQueue::new("q")).await.unwrap();
        for channel in &channels {
            channel.default_exchange().publish("x", "q").await.unwrap();
        }
        channels[1].declare_queue(DeclareQueue::new("q")).await.unwrap();
        let deliveries = queue.deliveries_with(Consume::new().no_ack(true)).await.unwrap();
        let mut batches = deliveries.batches(2, FOREVER);
        assert_eq!(batches.next().await.unwrap().len(), 2);
        batches.close().await.unwrap();
        // Longer than the interval in which a channel checks its deadlines.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        channels[0].default_exchange().publish("y", "q").await.unwrap();
        channels[0].close().await.unwrap();
        // Drops the last handle of the other channel.
        channels.clear();
        connection.close().await.unwrap();
    };
    within("a connection without limits", 30, test).await;
}

/// CON-24
#[actix::test]
async fn a_reset_ends_pending_calls_without_limits() {
    let peer = Peer::listen().await.unwrap();
    let connector = Connector::new(&peer.url()).unwrap().connect_timeout(FOREVER).close_timeout(FOREVER);
    let script = HandshakeScript::new();
    let both = async { tokio::join!(connector.connect(), accept_with_script(&peer, &script)) };
    let (connection, (mut socket, _)) = within("connect", 10, both).await;
    let connection = connection.unwrap();
    let options = OpenChannel::new().confirms(false).deadline(FOREVER);
    let channel = open_channel(&connection, &mut socket, 1, options).await;
    let call = actix_rt::spawn(async move { channel.declare_queue("q").await.map(drop) });
    let _: queue::Declare = socket.expect(1).await.unwrap();
    socket.reset().unwrap();
    let error = within("the call", 5, call).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
    assert_eq!(within("the end", 5, connection.closed()).await.unwrap_err().kind(), ErrorKind::Io);
}
