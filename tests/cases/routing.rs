//! Replies to a client that waits on `amq.rabbitmq.reply-to`.

use actix_pika::testing::Probe;
use actix_pika::{Consume, Delivery, Publishing, connect};

use crate::support::{broker::Vhost, take, within};

/// A reply by direct reply-to, published with the default options, succeeds.
#[actix::test]
#[ignore = "known fault: a reply that the client got fails as `Unroutable`, since it is published as mandatory"]
async fn reply_by_direct_reply_to_succeeds() {
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
