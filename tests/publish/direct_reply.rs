//! Replies to a client that waits on `amq.rabbitmq.reply-to`.

use actix_pika::testing::Probe;
use actix_pika::{Consume, Delivery, OpenChannel, Publishing, connect};

use crate::support::{
    broker::Vhost,
    scripted_peer::{connect_to_peer, open_channel},
    take, within,
};

/// PUB-42: a reply by direct reply-to, published with the default options, succeeds. It is not mandatory unless set, while
/// any other publish is.
#[actix::test]
async fn a_direct_reply_is_not_mandatory_by_default() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let server = connection.channel().await.unwrap();
    let queue = server.declare_queue("requests").await.unwrap();
    let mut requests = Probe::<Delivery>::start();
    queue.consume(requests.recipient()).await.unwrap();
    let client = connection.channel().await.unwrap();
    let mut replies = Probe::<Delivery>::start();
    let reply_to = client.queue("amq.rabbitmq.reply-to");
    reply_to.consume_with(Consume::new().no_ack(true), replies.recipient()).await.unwrap();
    let request = Publishing::new("question").reply_to("amq.rabbitmq.reply-to").correlation_id("7");
    within("the request", 10, client.default_exchange().publish(request, "requests")).await.unwrap();
    let request = within("the request", 10, take(&mut requests, 1)).await.remove(0);
    let address = request.properties().unwrap().reply_to().unwrap().to_owned();
    let reply = Publishing::new("answer").correlation_id("7");
    let published = within("the reply", 10, server.default_exchange().publish(reply, &address)).await;
    request.ack().unwrap();
    let reply = within("the reply", 10, take(&mut replies, 1)).await.remove(0);
    assert_eq!(reply.body(), b"answer");
    published.unwrap();
}

/// PUB-42: on the wire, only a publish through the default exchange to the address of a direct reply is not mandatory.
#[actix::test]
async fn only_direct_replies_are_not_mandatory_by_default() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    let address = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAx";
    let reply = || Publishing::new("answer");
    for (exchange, key, publish, mandatory) in [
        ("", address, reply(), false),
        ("", address, reply().mandatory(true), true),
        ("", address, reply().mandatory(false), false),
        ("other", address, reply(), true),
        ("", "amq.rabbitmq.reply-to", reply(), true),
        ("", "jobs", reply(), true),
        ("", "jobs", reply().mandatory(false), false),
    ] {
        drop(channel.exchange(exchange).publish_deferred(publish, key).await.unwrap());
        assert_eq!(socket.expect_publish(1).await.unwrap().mandatory, mandatory, "{exchange:?} {key}");
    }
}
