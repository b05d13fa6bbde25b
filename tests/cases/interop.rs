//! Properties that other clients set.

use actix_pika::testing::{PeerMessage, Probe, protocol::basic};
use actix_pika::{Delivery, OpenChannel, message::Value};

use crate::support::{scripted_peer::connect_with_channel, take, within};

/// A correlation id that is not UTF-8 hides no other property.
#[actix::test]
#[ignore = "known fault: with a correlation id that is not UTF-8, all properties are an error"]
async fn binary_correlation_id_hides_no_other_property() {
    let (mut socket, _connection, channel) = connect_with_channel(OpenChannel::new(), false).await;
    let mut probe = Probe::<Delivery>::start();
    let consume = actix_rt::spawn({
        let (queue, to) = (channel.queue("rpc"), probe.recipient());
        async move { queue.consume(to).await }
    });
    socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    let consume_ok = |consume: basic::Consume| basic::ConsumeOk { consumer_tag: consume.consumer_tag };
    socket.answer(1, consume_ok).await.unwrap();
    let consumer = within("the consumer", 10, consume).await.unwrap().unwrap();
    // Content type, headers, correlation id, reply-to.
    let mut raw = vec![0xa6, 0x00];
    raw.extend(b"\x0atext/plain");
    raw.extend(b"\0\0\0\x0d\x07retriesI\0\0\0\x03");
    raw.extend(b"\x04\xfe\x00\x01\xff");
    raw.extend(b"\x05reply");
    socket.deliver(1, consumer.tag(), 1, PeerMessage::from("ask").raw_properties(raw)).await.unwrap();
    let delivery = within("the delivery", 10, take(&mut probe, 1)).await.remove(0);
    let properties = delivery.properties().unwrap();
    assert_eq!(properties.content_type(), Some("text/plain"));
    assert_eq!(properties.reply_to(), Some("reply"));
    assert_eq!(properties.headers().and_then(|headers| headers.get("retries")), Some(&Value::from(3_i32)));
}
