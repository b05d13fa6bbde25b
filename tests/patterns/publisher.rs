//! Typed publishers.

use crate::support::{
    eventually, get_message, modes::Bench, oracle::Oracle, proxy::*, robust_connection::RobustConnection,
    within,
};
use actix::{MailboxError, Message, Recipient, dev::SendError};
use actix_pika::{
    Channel, DeclareQueue, ErrorKind, OpenChannel, Queue, Result,
    codec::{Codec, Raw},
    message::{Confirmation, Properties},
    publisher::Publisher,
};
use std::time::{Duration, Instant};

#[derive(Debug, Message, PartialEq, serde::Serialize, serde::Deserialize)]
#[rtype(result = "Result<Confirmation>")]
struct Order {
    id: u32,
    country: String,
}

fn order(id: u32, country: &str) -> Order {
    Order { id, country: country.to_owned() }
}

#[derive(Message, serde::Serialize, serde::Deserialize)]
#[rtype(result = "()")]
struct Tick(u32);

/// Declares the queues "at" and "de", bound to amq.topic by "order.at" and "order.de".
async fn countries(channel: &Channel) -> [Queue; 2] {
    let mut queues = Vec::new();
    for country in ["at", "de"] {
        let queue = channel.declare_queue(country).await.unwrap();
        queue.bind("amq.topic", &format!("order.{country}")).await.unwrap();
        queues.push(queue);
    }
    queues.try_into().unwrap()
}

/// Takes the next message of a queue, and returns its body.
async fn next(queue: &Queue) -> String {
    let delivery = get_message(queue).await;
    let body = String::from_utf8_lossy(delivery.body()).into_owned();
    delivery.ack().unwrap();
    body
}

fn by_country(channel: &Channel) -> Publisher<Order> {
    channel.exchange("amq.topic").publisher::<Order>().key_by(|order| format!("order.{}", order.country))
}

/// PBL-01: a value is published under its key with the content type of the codec, the properties of the publisher, and
/// options of its own.
#[actix::test]
async fn a_value_has_the_codec_and_the_properties_of_its_publisher() {
    let bench = Bench::open(true).await;
    let [at, de] = countries(&bench.channel).await;
    let properties = Properties::new().with_app_id("shop").with_header("version", 2);
    let orders = by_country(&bench.channel).properties(properties).message_type("order").message_ids(true);
    let confirmation = within("a confirm", 10, orders.publish(&order(1, "at"))).await.unwrap();
    assert!(confirmation.is_confirmed());
    let with_options = orders.publish_with(&order(2, "de"), |message| message.priority(5).message_id("mine"));
    within("a confirm", 10, with_options).await.unwrap();

    let first = get_message(&at).await;
    assert_eq!((first.body(), first.routing_key()), (&br#"{"id":1,"country":"at"}"#[..], "order.at"));
    let properties = first.properties().unwrap();
    assert_eq!(properties.content_type(), Some("application/json"));
    assert_eq!((properties.app_id(), properties.message_type()), (Some("shop"), Some("order")));
    assert_eq!(properties.header("version").and_then(|value| value.as_i64()), Some(2));
    assert_eq!(properties.message_id().map(str::len), Some(36));
    let second = get_message(&de).await;
    let properties = second.properties().unwrap();
    assert_eq!((properties.priority(), properties.message_id()), (Some(5), Some("mine")));
    first.ack().unwrap();
    second.ack().unwrap();
}

/// PBL-02: `publish_all` publishes every value that can be, and returns the result of each in their order.
#[actix::test]
async fn publish_all_tells_which_failed() {
    struct NoSeven;
    impl Codec<Order> for NoSeven {
        fn content_type(&self) -> &str {
            "text/plain"
        }
        fn encode(&self, order: &Order) -> Result<bytes::Bytes> {
            if order.id == 7 {
                return Err(actix_pika::Error::codec("seven"));
            }
            Ok(order.id.to_string().into())
        }
        fn decode(&self, _: &actix_pika::message::Content) -> Result<Order> {
            Err(actix_pika::Error::codec("it only encodes"))
        }
    }
    let bench = Bench::open(true).await;
    let [at, _de] = countries(&bench.channel).await;
    let orders = by_country(&bench.channel).codec(NoSeven);
    let long = "x".repeat(250);
    let values = [order(6, "at"), order(7, "at"), order(8, "nowhere"), order(9, &long), order(10, "at")];
    let results = within("the results", 10, orders.publish_all(&values)).await;
    let kinds: Vec<_> =
        results.iter().map(|result| result.as_ref().map_err(|error| error.kind()).err()).collect();
    let failed = [None, Some(ErrorKind::Codec), Some(ErrorKind::Unroutable), Some(ErrorKind::Limit), None];
    assert_eq!(kinds, failed);
    assert_eq!((next(&at).await, next(&at).await), ("6".to_owned(), "10".to_owned()));
    assert!(at.get().await.unwrap().is_none());
}

/// PBL-03: a publisher of a queue follows the queue when it gets another name, and what it publishes during an outage
/// arrives.
#[actix::test]
async fn a_publisher_follows_its_queue_over_a_reconnect() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    let before = queue.name().to_owned();
    let texts = queue.publisher::<String>().codec(Raw);
    robust.proxy.refuse_new().await;
    robust.proxy.cut_all(Cut::Rst);
    robust.wait_for_loss().await;
    let publish = tokio::spawn(texts.publish(&"meanwhile".to_owned()));
    robust.proxy.accept_new().await;
    robust.wait_for_recovery().await;
    within("the confirm", 20, publish).await.unwrap().unwrap();
    assert_ne!(queue.name(), before);
    within("a confirm", 10, texts.publish(&"after".to_owned())).await.unwrap();
    for body in ["meanwhile", "after"] {
        assert_eq!(next(&queue).await, body);
    }
}

/// PBL-04: a recipient replies with the outcome of the publish, if the message has a result.
#[actix::test]
async fn a_recipient_replies_with_the_outcome() {
    let bench = Bench::open(true).await;
    let [at, _de] = countries(&bench.channel).await;
    let orders: Recipient<Order> = by_country(&bench.channel).recipient().unwrap();
    let confirmed = within("a reply", 10, orders.send(order(1, "at"))).await.unwrap();
    assert!(confirmed.unwrap().is_confirmed());
    let unroutable = within("a reply", 10, orders.send(order(2, "nowhere"))).await.unwrap();
    assert_eq!(unroutable.unwrap_err().kind(), ErrorKind::Unroutable);
    assert_eq!(next(&at).await, r#"{"id":1,"country":"at"}"#);
}

/// PBL-04: a recipient of messages without a result publishes what is sent by `do_send`, also after its last address is
/// dropped; `send` tells a failure as a closed mailbox.
#[actix::test]
async fn a_recipient_of_messages_without_a_result_publishes() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue("ticks").await.unwrap();
    let ticks: Recipient<Tick> = queue.publisher::<Tick>().recipient().unwrap();
    for n in 0..100 {
        ticks.do_send(Tick(n));
    }
    assert_eq!(within("a reply", 10, ticks.send(Tick(100))).await, Ok(()));
    ticks.do_send(Tick(101));
    drop(ticks);
    for n in 0..102 {
        assert_eq!(next(&queue).await, n.to_string());
    }
    let nowhere = bench.channel.queue("nowhere").publisher::<Tick>().recipient().unwrap();
    assert_eq!(within("a reply", 10, nowhere.send(Tick(1))).await, Err(MailboxError::Closed));
    assert_eq!(within("a reply", 10, nowhere.send(Tick(2))).await, Err(MailboxError::Closed), "it lives on");
}

/// PBL-09: a function for the routing key that panics costs its own message; the recipient lives on.
#[actix::test]
async fn a_recipient_outlives_a_key_that_panics() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue("ticks").await.unwrap();
    let key = |tick: &Tick| {
        assert!(tick.0 != 1, "the function of the key panics in this test");
        "ticks".to_owned()
    };
    let ticks = bench.channel.default_exchange().publisher::<Tick>().key_by(key).recipient().unwrap();
    assert_eq!(within("a reply", 10, ticks.send(Tick(1))).await, Err(MailboxError::Closed));
    assert_eq!(within("a reply", 10, ticks.send(Tick(2))).await, Ok(()));
    assert_eq!(next(&queue).await, "2");
}

/// PBL-05: while the publish window is full, `try_send` fails, and what was taken is published afterwards.
#[actix::test]
async fn a_full_window_fills_the_mailbox() {
    let robust = RobustConnection::connect().await;
    let open = OpenChannel::new().window(4);
    let channel = robust.connection.channel_with(open).await.unwrap();
    let queue = channel.declare_queue("ticks").await.unwrap();
    let ticks = queue.publisher::<Tick>().recipient().unwrap();
    robust.proxy.stall(Direction::ToClient);
    let mut sent = 0;
    let full = eventually("a full mailbox", 10, || {
        let result = ticks.try_send(Tick(sent));
        sent += u32::from(result.is_ok());
        assert!(sent < 1_000, "it takes everything");
        std::future::ready(result.err().filter(|error| matches!(error, SendError::Full(_))))
    });
    full.await;
    assert_eq!(channel.load().unconfirmed, 4);
    robust.proxy.resume(Direction::ToClient);
    for n in 0..sent {
        assert_eq!(next(&queue).await, n.to_string());
    }
}

/// PBL-06: without an arbiter there is no recipient.
#[test]
fn a_recipient_needs_an_arbiter() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bench = Bench::open(true).await;
        let refused = bench.channel.queue("ticks").publisher::<Tick>().recipient().unwrap_err();
        assert_eq!((refused.kind(), refused.code()), (ErrorKind::Refused, None));
    });
}

/// PBL-07: a delayed message arrives under its own key after its delay, also through the default exchange.
#[actix::test]
async fn a_delayed_message_arrives_later() {
    let bench = Bench::open(true).await;
    let [at, de] = countries(&bench.channel).await;
    let orders = by_country(&bench.channel);
    let delay = Duration::from_millis(400);
    let begin = Instant::now();
    for (id, country) in [(1, "at"), (2, "de")] {
        let later = orders.clone().publish_in(&order(id, country), Duration::from_millis(301));
        within("a confirm", 20, later).await.unwrap();
    }
    let direct = at.publisher::<Order>().publish_in(&order(3, "at"), delay);
    within("a confirm", 20, direct).await.unwrap();
    within("a confirm", 10, orders.publish_in(&order(4, "at"), Duration::ZERO)).await.unwrap();
    for (id, queue, key) in [(4, &at, "order.at"), (1, &at, "order.at"), (2, &de, "order.de"), (3, &at, "at")]
    {
        let delivery = get_message(queue).await;
        assert_eq!(delivery.routing_key(), key);
        assert!(String::from_utf8_lossy(delivery.body()).contains(&format!("\"id\":{id},")), "{delivery:?}");
        assert!(id == 4 || begin.elapsed() >= delay, "{:?}", begin.elapsed());
        delivery.ack().unwrap();
    }
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    assert_eq!((oracle.count("later.400").await, oracle.count("later.amq.topic.400").await), (0, 0));
    let too_long = orders.publish_in(&order(5, "at"), Duration::MAX);
    assert_eq!(too_long.await.unwrap_err().kind(), ErrorKind::Limit);
}

/// PBL-08: delayed messages are not lost when the connection is, nor their exchange and queue.
#[actix::test]
async fn delayed_messages_outlast_a_reconnect() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let jobs = queue.publisher::<u32>();
    within("a confirm", 20, jobs.publish_in(&1, Duration::from_millis(500))).await.unwrap();
    robust.proxy.cut_all(Cut::Rst);
    robust.wait_for_loss().await;
    let second = tokio::spawn(jobs.publish_in(&2, Duration::from_millis(500)));
    robust.wait_for_recovery().await;
    within("a confirm", 20, second).await.unwrap().unwrap();
    for body in ["1", "2"] {
        assert_eq!(next(&queue).await, body);
    }
}

/// PBL-10: a delay is refused for a queue that the broker names, because its name changes; no delay is none.
#[actix::test]
async fn a_queue_that_the_broker_names_has_no_delayed_messages() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    let by_key = bench.channel.default_exchange().publisher::<u32>().key(queue.name());
    for publisher in [queue.publisher::<u32>(), by_key] {
        let later = publisher.publish_in(&1, Duration::from_secs(1));
        let error = within("a refusal", 10, later).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, None));
        assert!(error.to_string().contains("another name after a reconnect"), "{error}");
        within("a confirm", 10, publisher.publish_in(&2, Duration::ZERO)).await.unwrap();
        assert_eq!(next(&queue).await, "2");
    }
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    assert!(oracle.queue_counts("later.1000").await.is_none());
}
