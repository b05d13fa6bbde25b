//! Publishing what was delivered again: `Publishing::from(&delivery)`.

use actix_pika::{
    DeclareQueue, Delivery, ErrorKind, OpenChannel, Publishing,
    message::{Get, Properties, Value},
    testing::{PeerMessage, protocol::basic},
};

use crate::support::{get_message, scripted_peer::connect_with_channel, within};

crate::modes! {
    /// PUB-46: the body is shared, and every property is kept. The exchange and the routing key are those of the publish.
    async fn a_delivery_is_published_again_as_it_came(bench: Bench) {
        let exchange = bench.channel.default_exchange();
        let (from, to) = (
            bench.channel.declare_queue("from").await.unwrap(),
            bench.channel.declare_queue("to").await.unwrap(),
        );
        let properties = Properties::new()
            .with_correlation_id_bytes([0xfe, 0xff])
            .with_reply_to("answers")
            .with_priority(3)
            .with_header("attempt", 1);
        for body in ["small".to_owned(), "x".repeat(10_000), "y".repeat(300_000)] {
            let message = Publishing::new(&*body).properties(properties.clone()).persistent(false);
            exchange.publish(message, "from").await.unwrap();
            let delivery = get_message(&from).await;
            let again = Publishing::from(&delivery);
            assert_eq!(again.body().as_ptr(), delivery.body().as_ptr(), "shared");
            exchange.publish(again, "to").await.unwrap();
            let forwarded = get_message(&to).await;
            assert!(forwarded.body() == body.as_bytes());
            assert_eq!(forwarded.properties().unwrap(), delivery.properties().unwrap());
            assert_eq!((forwarded.routing_key(), forwarded.redelivered()), ("to", false));
            forwarded.ack().unwrap();
            let (content, token) = delivery.split();
            exchange.publish(Publishing::from(&content).header("attempt", 2), "to").await.unwrap();
            token.ack().unwrap();
            let retried = get_message(&to).await;
            assert_eq!(retried.properties().unwrap().header("attempt"), Some(&Value::from(2)));
            retried.ack().unwrap();
        }
    }

    /// PUB-46: `CC` routes again unless it is removed; `x-death` is sent on.
    async fn headers_of_the_broker_go_with_a_delivery(bench: Bench) {
        let exchange = bench.channel.default_exchange();
        let declare = DeclareQueue::new("work").dead_letter_exchange("").dead_letter_routing_key("dead");
        let work = bench.channel.declare_queue(declare).await.unwrap();
        let dead = bench.channel.declare_queue("dead").await.unwrap();
        let copies = bench.channel.declare_queue("copies").await.unwrap();
        let to = bench.channel.declare_queue("to").await.unwrap();
        exchange.publish(Publishing::new("x").header("CC", vec![Value::from("copies")]), "work").await.unwrap();
        get_message(&copies).await.ack().unwrap();
        get_message(&work).await.reject(false).unwrap();
        let delivery = get_message(&dead).await;
        assert_eq!(delivery.deaths().len(), 1);
        // RabbitMQ 3.10 removes the header when a message is dead-lettered with a new routing key.
        let has_copies = delivery.properties().unwrap().header("CC").is_some();
        exchange.publish(Publishing::from(&delivery), "to").await.unwrap();
        let forwarded = get_message(&to).await;
        assert_eq!(forwarded.deaths(), delivery.deaths());
        forwarded.ack().unwrap();
        if has_copies {
            get_message(&copies).await.ack().unwrap();
        }
        let mut properties = delivery.properties().unwrap().clone();
        properties.headers_mut().remove("CC");
        exchange.publish(Publishing::from(&delivery).properties(properties), "to").await.unwrap();
        get_message(&to).await.ack().unwrap();
        assert!(copies.get().await.unwrap().is_none());
        delivery.ack().unwrap();
    }
}

/// PUB-46: what was delivered without a delivery mode stays so, what cannot be decoded is sent as it came, and a list of
/// properties that ends too early is an error of the publish.
#[actix::test]
async fn odd_properties_are_sent_as_they_came() {
    let (mut socket, _connection, channel) = connect_with_channel(OpenChannel::new(), false).await;
    let raws = [
        &b"\0\0"[..],
        b"\x24\x00\0\0\0\x04\x01kZx\x02\xfe\xff",
        b"\x80\0\x09text",
        b"\x01\0\x031.5",
        b"\x01\0\x03007",
    ];
    for (tag, raw) in (1..).zip(raws) {
        let get = actix_rt::spawn({
            let queue = channel.queue("q");
            async move { queue.get_with(Get::new("q").no_ack(true)).await }
        });
        socket.expect::<basic::Get>(1).await.unwrap();
        socket.get_ok(1, tag, 0, PeerMessage::from("body").raw_properties(raw)).await.unwrap();
        let delivery: Delivery = within("a delivery", 10, get).await.unwrap().unwrap().expect("a message");
        let published = channel.exchange("ex").publish(&delivery, "key").await;
        let refused = match tag {
            3 => Some(ErrorKind::Codec),
            // RabbitMQ accepts no such expiration, and would close the channel.
            4 => Some(ErrorKind::Refused),
            _ => None,
        };
        if let Some(kind) = refused {
            assert_eq!(published.unwrap_err().kind(), kind);
            continue;
        }
        published.unwrap();
        socket.expect::<basic::Publish>(1).await.unwrap();
        let header = socket.next_frame_on(1).await.unwrap();
        assert_eq!(&header.payload[12..], raw);
        assert_eq!(socket.next_frame_on(1).await.unwrap().payload[..], b"body"[..]);
    }
}
