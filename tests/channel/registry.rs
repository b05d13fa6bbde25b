//! The channels of a connection at the client and at the broker, up to `channel_max`.

use std::collections::BTreeSet;

use crate::support::{
    broker::Vhost, eventually, modes::Bench, recorded_connection::RecordedConnection, within,
};
use actix_pika::{Channel, ErrorKind, OpenChannel, connect};
use futures_util::future::join_all;

/// Returns the numbers of the channels that are open at the broker.
async fn numbers_at_broker(vhost: &Vhost) -> BTreeSet<u64> {
    vhost.channels().await.iter().map(|channel| channel.number).collect()
}

async fn expect_at_broker(vhost: &Vhost, numbers: &[u64]) {
    let reached = async || (numbers_at_broker(vhost).await.iter().eq(numbers)).then_some(());
    eventually(&format!("the broker has channels {numbers:?}"), 15, reached).await;
}

crate::modes! {
    /// CH-37: the number of an open channel is in use at the client and at the broker; the number of a closed one is free.
    async fn client_and_broker_list_the_open_channels_only(bench: Bench) {
        let numbered = |number| bench.connection.channel_with(Bench::options(bench.confirms).number(number));
        let (second, third) = (bench.another_channel().await, bench.another_channel().await);
        assert_eq!((second.number(), third.number()), (2, 3));
        expect_at_broker(&bench.vhost, &[1, 2, 3]).await;
        assert_eq!(numbered(2).await.unwrap_err().kind(), ErrorKind::Limit);
        second.close().await.unwrap();
        let error = third.queue("missing").purge().await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Refused, 404));
        expect_at_broker(&bench.vhost, &[1]).await;
        let again = numbered(2).await.unwrap();
        expect_at_broker(&bench.vhost, &[1, 2]).await;
        // The old handles do not refer to the new channel.
        assert!(second.is_closed() && third.is_closed() && !again.is_closed());
        again.set_qos(1).await.unwrap();
    }

    /// CH-35: on a channel with confirms, and not at all on one without.
    async fn confirm_select_is_sent_once(bench: Bench) {
        let recorded = RecordedConnection::open(&bench).await;
        recorded.channel.declare_queue("q").await.unwrap();
        for _ in 0..3 {
            recorded.channel.clone().default_exchange().publish("x", "q").await.unwrap();
        }
        // The client refuses a transaction on a channel with confirms.
        assert_eq!(recorded.channel.transaction().await.is_err(), bench.confirms);
        recorded.flush().await;
        assert_eq!(recorded.count_sent((85, 10)), usize::from(bench.confirms));
    }
}

/// CH-09, CH-14: RabbitMQ's default is 2,047. The client refuses one more, until a channel is closed.
#[actix::test]
async fn channel_max_channels_can_be_open() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let max = connection.channel_max().unwrap();
    if vhost.broker().is_own() {
        assert_eq!(max, 2047);
    }
    let open = || connection.channel_with(OpenChannel::new().confirms(false));
    let mut channels: Vec<Channel> = Vec::new();
    while channels.len() < usize::from(max) {
        let batch = (max as usize - channels.len()).min(100);
        let opened = within("a hundred channels", 30, join_all((0..batch).map(|_| open()))).await;
        channels.extend(opened.into_iter().map(Result::unwrap));
    }
    let numbers: BTreeSet<u16> = channels.iter().map(Channel::number).collect();
    assert_eq!(numbers, (1..=max).collect());

    let at_broker = async |expected: u64| {
        let counted = async || {
            let connections = vhost.connections().await;
            (connections.first()?.channels == Some(expected)).then_some(())
        };
        eventually(&format!("{expected} channels at the broker"), 30, counted).await;
    };
    at_broker(max.into()).await;
    for _ in 0..2 {
        let error = within("the error", 5, open()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.close_reason(), error.is_retryable()),
            (ErrorKind::Limit, None, false)
        );
    }
    let (first, last) = (channels.first().unwrap(), channels.last().unwrap());
    let queue = within("a declare", 10, first.declare_queue("q")).await.unwrap();
    within("a publish", 10, last.default_exchange().publish("x", "q")).await.unwrap();
    within("a round trip", 10, last.set_qos(1)).await.unwrap();

    let closed = channels.remove(999);
    within("close", 10, closed.close()).await.unwrap();
    at_broker(u64::from(max) - 1).await;
    let again = within("one more", 10, open()).await.unwrap();
    assert_eq!(again.number(), closed.number());
    within("a round trip", 10, again.set_qos(1)).await.unwrap();
    assert_eq!(open().await.unwrap_err().kind(), ErrorKind::Limit);
    at_broker(max.into()).await;
    assert_eq!(queue.purge().await.unwrap(), 1);
    within("close", 30, connection.close()).await.unwrap();
    assert!(channels.iter().all(Channel::is_closed));
}
