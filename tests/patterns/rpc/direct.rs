//! What RabbitMQ does with direct replies, on which the client relies.

use actix_pika::{Consume, DeclareQueue, ErrorKind, OpenChannel, Publishing};
use futures_util::StreamExt;

use super::*;

const PSEUDO: &str = "amq.rabbitmq.reply-to";

/// RPC-13: one consumer without acks, before the first request; its address can be looked up while it is there.
#[actix::test]
async fn direct_replies_have_one_consumer_without_acks() {
    let (_vhost, connection) = fresh().await;
    let channel = async || within("a channel", 10, connection.channel()).await.unwrap();
    let mut server = RawServer::on(&connection, "requests").await;

    let acks = channel().await.queue(PSEUDO).deliveries_with(Consume::new()).await.unwrap_err();
    assert_eq!((acks.kind(), acks.code()), (ErrorKind::Refused, Some(406)));

    let request = || Publishing::new("q").reply_to(PSEUDO).correlation_id("1");
    let without = channel().await.default_exchange().publish(request(), "requests").await.unwrap_err();
    assert_eq!(without.code(), Some(406), "{without}");

    let client = channel().await;
    let no_ack = || Consume::new().no_ack(true);
    let mut replies = client.queue(PSEUDO).deliveries_with(no_ack().tag("first")).await.unwrap();
    client.default_exchange().publish(request(), "requests").await.unwrap();
    let asked = server.next().await;
    let address = asked.properties().unwrap().reply_to().unwrap().to_owned();
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    let other = channel().await;
    other.declare_queue(DeclareQueue::existing(&*address)).await.unwrap();
    let forged = other.declare_queue(DeclareQueue::existing(format!("{address}x"))).await.unwrap_err();
    assert_eq!(forged.code(), Some(404), "{forged}");
    server.reply(&asked, Publishing::new("a")).await;
    asked.ack().unwrap();
    assert_eq!(within("the reply", 10, replies.next()).await.unwrap().body(), b"a");

    replies.close().await.unwrap();
    let again = client.queue(PSEUDO).deliveries_with(no_ack().tag("second")).await.unwrap();
    let second = client.queue(PSEUDO).deliveries_with(no_ack().tag("third")).await.unwrap_err();
    assert_eq!(second.code(), Some(406), "{second}");
    drop(again);
}

/// RPC-14: a mandatory reply to a direct address is delivered, and returned as well (312) up to RabbitMQ 4.1. The library
/// sends none: see PUB-42.
#[actix::test]
async fn a_mandatory_direct_reply_is_delivered_and_may_be_returned() {
    let (_vhost, connection) = fresh().await;
    let mut server = RawServer::on(&connection, "requests").await;
    let client = connection.channel_with(OpenChannel::new()).await.unwrap();
    let consume = Consume::new().no_ack(true);
    let mut replies = client.queue(PSEUDO).deliveries_with(consume).await.unwrap();
    let request = Publishing::new("q").reply_to(PSEUDO).correlation_id("1");
    client.default_exchange().publish(request, "requests").await.unwrap();
    let request = server.next().await;
    let address = request.properties().unwrap().reply_to().unwrap();
    let reply = Publishing::new("a").mandatory(true);
    let published = server.channel.default_exchange().publish(reply, address).await;
    let returned =
        published.err().map(|error| (error.kind(), error.returned().map(|returned| returned.code)));
    assert!(matches!(returned, None | Some((ErrorKind::Unroutable, Some(312)))), "{returned:?}");
    assert_eq!(within("the reply", 10, replies.next()).await.unwrap().body(), b"a");
    request.ack().unwrap();
}
