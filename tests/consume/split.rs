//! The parts of a delivery: what was delivered, its queue, and the right to settle it.

use std::time::Duration;

use actix_pika::{
    Consume, DeclareQueue, Delivery, ErrorKind, Publishing, Requeue,
    message::{Settle, Token},
    testing::{
        HandshakeScript, PeerMessage, Probe,
        protocol::{AMQPClass, basic},
    },
};
use futures_util::StreamExt;

use crate::support::{
    get_message,
    robust_connection::RobustConnection,
    scripted_peer::{connect_with_script, open_channel},
    take, within,
};

crate::modes! {
    /// ACK-15: the content can be read after its token has settled the delivery, and does not hold up the consumer. A
    /// token that is dropped requeues.
    async fn a_split_delivery_is_settled_by_its_token(bench: Bench) {
        let large = "x".repeat(200_000);
        let queue = bench.channel.declare_queue("jobs").await.unwrap();
        for body in ["one", "two", "three", &large] {
            let message = Publishing::new(body).message_id("m").header("attempt", 1);
            bench.channel.default_exchange().publish(message, "jobs").await.unwrap();
        }
        let mut probe = Probe::<Delivery>::start();
        let consumer = queue.consume_with(Consume::new().tag("worker"), probe.recipient()).await.unwrap();
        let mut parts: Vec<_> = take(&mut probe, 4).await.into_iter().map(Delivery::split).collect();
        for ((content, token), body) in parts.iter().zip(["one", "two", "three", &large]) {
            assert_eq!((content.queue(), content.consumer_tag(), content.routing_key()), ("jobs", "worker", "jobs"));
            assert!(content.body() == body.as_bytes() && content.body_bytes() == body.as_bytes());
            assert_eq!((content.exchange(), content.redelivered(), content.message_count()), ("", false, None));
            let properties = content.properties().unwrap();
            assert_eq!((properties.message_id(), content.deaths().len()), (Some("m"), 0));
            assert!(!token.is_stale() && !token.is_no_ack() && token.delivery_tag() > 0);
        }
        let (last, token) = parts.pop().unwrap();
        token.reject(false).unwrap();
        let (three, token) = parts.pop().unwrap();
        token.nack(false).unwrap();
        let (one, token) = parts.remove(0);
        token.ack().unwrap();
        let (two, token) = parts.remove(0);
        within("cancel", 10, consumer.cancel()).await.unwrap();
        drop(token);
        assert_eq!((one.body(), two.body(), three.into_body().as_ref()), (&b"one"[..], &b"two"[..], &b"three"[..]));
        assert_eq!(last.into_body().len(), large.len());
        let again = get_message(&queue).await;
        assert_eq!((again.body(), again.redelivered(), again.queue()), (&b"two"[..], true, "jobs"));
        let (content, token) = again.split();
        assert_eq!((content.queue(), content.consumer_tag(), content.message_count()), ("jobs", "", Some(0)));
        token.ack().unwrap();
        assert_eq!(queue.delete().await.unwrap(), 0);
    }

    /// ACK-17: tokens settle many deliveries at once, are processed under a guard, and go to the Channel actor as
    /// deliveries do.
    async fn a_token_settles_in_every_way_of_a_delivery(bench: Bench) {
        let oracle = bench.fill_queue("jobs", (0..8).map(|n| n.to_string())).await;
        let mut deliveries = bench.channel.queue("jobs").deliveries().await.unwrap();
        let mut tokens = Vec::new();
        for _ in 0..8 {
            let (_, token) = within("a delivery", 10, deliveries.next()).await.unwrap().split();
            assert_eq!((token.consumer_tag(), token.queue()), (deliveries.tag(), "jobs"));
            tokens.push(token);
        }
        let settled = tokens.remove(0);
        bench.channel.actor().send(Settle::ack(settled)).await.unwrap().unwrap();
        Token::ack_many(tokens.drain(..2)).unwrap();
        Token::nack_many(tokens.drain(..2), false).unwrap();
        let done = tokens.remove(0).process(Requeue::No);
        assert_eq!(done.body(), b"5");
        done.done().unwrap();
        drop(tokens.remove(0).process(Requeue::No));
        let failed = tokens.remove(0).process(Requeue::OnceThenDrop);
        drop(failed);
        let again = within("a delivery", 10, deliveries.next()).await.unwrap();
        assert_eq!((again.body(), again.redelivered()), (&b"7"[..], true));
        drop(Token::from(again).process(Requeue::OnceThenDrop));
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// ACK-16: `ack_all` of a message that was got covers those of its own queue, and nothing else. What it covers is
    /// stale.
    async fn ack_all_of_a_get_covers_its_own_queue(bench: Bench) {
        let oracle = bench.fill_queue("a", ["a1", "a2", "a3"].map(str::to_owned)).await;
        bench.fill_queue("b", ["b1", "b2"].map(str::to_owned)).await;
        bench.fill_queue("c", ["c1"].map(str::to_owned)).await;
        let [a, b, c] = ["a", "b", "c"].map(|queue| bench.channel.queue(queue));
        let mut consumed = c.deliveries().await.unwrap();
        let a1 = get_message(&a).await;
        let b1 = get_message(&b).await;
        let c1 = within("a delivery", 10, consumed.next()).await.unwrap();
        let a2 = get_message(&a).await;
        let b2 = get_message(&b).await;
        let a3 = get_message(&a).await;
        assert_eq!((a1.queue(), b1.queue(), c1.queue()), ("a", "b", "c"));
        a2.ack_all().unwrap();
        let stale = [&a1, &b1, &c1, &b2, &a3].map(Delivery::is_stale);
        assert_eq!(stale, [true, false, false, false, false]);
        assert_eq!(a1.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
        b2.nack_all(false).unwrap();
        assert!(b1.is_stale() && !a3.is_stale() && !c1.is_stale());
        drop(b1);
        bench.channel.close().await.unwrap();
        assert!(a3.is_stale() && c1.is_stale());
        // What was not settled is in its queue again.
        for (queue, messages) in [("a", 1), ("b", 0), ("c", 1)] {
            oracle.wait_for_count(queue, messages).await;
        }
    }

    /// ACK-16: of a consumer.
    async fn what_ack_all_covers_is_stale(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["1", "2", "3"].map(str::to_owned)).await;
        let mut deliveries = bench.channel.queue("jobs").deliveries().await.unwrap();
        let mut next = async || within("a delivery", 10, deliveries.next()).await.unwrap();
        let (first, second, third) = (next().await, next().await, next().await);
        assert!(!first.is_stale() && !second.is_stale());
        second.ack_all().unwrap();
        assert!(first.is_stale() && !third.is_stale());
        third.reject(false).unwrap();
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }
}

/// REC-12: a delivery tells the name that its queue has now, an earlier delivery too.
#[actix::test]
async fn a_delivery_follows_the_name_of_its_queue() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume(probe.recipient()).await.unwrap();
    let mut earlier = Vec::new();
    for round in 0..3 {
        channel.default_exchange().publish("body", queue.name()).await.unwrap();
        let delivery = take(&mut probe, 1).await.remove(0);
        assert_eq!(delivery.queue(), queue.name(), "round {round}");
        let name = queue.name().to_owned();
        earlier.push(delivery.split());
        robust.cut_and_recover().await;
        assert_ne!(queue.name(), name);
        for (content, token) in &earlier {
            assert_eq!(content.queue(), queue.name(), "round {round}");
            assert!(token.is_stale());
        }
    }
}

/// ACK-15: without a body in the first frame, with a header of its own; nothing is sent for a `no_ack` delivery.
#[actix::test]
async fn parts_of_a_delivery_in_many_frames_and_without_ack() {
    let script = HandshakeScript::new().tune(10, 4096, 60);
    let (client, mut socket, _) = within("connect", 10, connect_with_script(|it| it, &script)).await;
    let channel = open_channel(&client, &mut socket, 1, actix_pika::OpenChannel::new().confirms(false)).await;
    let consume = actix_rt::spawn({
        let queue = channel.queue("prices");
        async move { queue.deliveries_with(Consume::new().no_ack(true)).await }
    });
    let consume_ok = |consume: basic::Consume| basic::ConsumeOk { consumer_tag: consume.consumer_tag };
    loop {
        let frame = socket.next_frame_on(1).await.unwrap();
        if let Some(AMQPClass::Basic(basic::AMQPMethod::Consume(consume))) = frame.class() {
            socket.send(1, consume_ok(consume)).await.unwrap();
            break;
        }
        socket.send(1, basic::QosOk {}).await.unwrap();
    }
    let mut deliveries = within("consume", 10, consume).await.unwrap().unwrap();
    let tag = deliveries.tag().to_owned();
    socket.deliver(1, &tag, 1, PeerMessage::from("some words").body_frame_size(3)).await.unwrap();
    let (content, token) = within("a delivery", 10, deliveries.next()).await.unwrap().split();
    assert_eq!((content.body(), content.queue(), token.is_no_ack()), (&b"some words"[..], "prices", true));
    token.ack().unwrap();
    assert_eq!(content.into_body(), "some words");
    socket.expect_nothing(Duration::from_millis(50)).await.unwrap();
}
