//! Publishing to a broker: what is confirmed, refused, returned.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[macro_use]
mod support;

use std::time::Duration;

use actix_pika::{
    Confirmation, DeclareExchange, DeclareQueue, DeliveryMode, Error, ErrorKind, OpenChannel, Properties,
    Publish, Publishing, connect,
};
use futures_util::{
    FutureExt,
    future::{join_all, poll_immediate},
};
use support::{eventually, modes::Bench, oracle::Oracle, within};

fn bodies(from: usize, to: usize) -> Vec<Vec<u8>> {
    (from..to).map(|n| n.to_string().into_bytes()).collect()
}

modes! {
    /// PUB-01, PUB-02, TOP-11: what is published to a bound exchange is in the queue; a confirmation has its number.
    async fn a_publish_reaches_the_queue_that_is_bound(bench: Bench) {
        let channel = &bench.channel;
        let exchange = channel.declare_exchange(DeclareExchange::direct("ex")).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        queue.bind("ex", "key").await.unwrap();
        let confirmation = exchange.publish("body", "key").await.unwrap();
        assert_eq!(confirmation.is_confirmed(), bench.confirms);
        assert_eq!(confirmation.sequence(), bench.confirms.then_some(1));
        let message = queue.get().await.unwrap().expect("the message");
        assert_eq!((&message.body()[..], message.redelivered()), (&b"body"[..], false));
        message.ack().unwrap();
        queue.unbind("ex", "key").await.unwrap();
    }

    /// PUB-03: a publish without a delivery mode, and without any property, is fine.
    async fn properties_may_all_be_absent(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let bare = Publishing::new("body").properties(Properties::new());
        bench.channel.default_exchange().publish(bare, "q").await.unwrap();
        let message = queue.get().await.unwrap().unwrap();
        assert_eq!(message.properties().unwrap(), &Properties::new());
        assert_eq!(message.raw_properties()[..], [0, 0]);
    }

    /// PUB-04, PUB-13: publishing on a channel or a connection that was closed is an error at once, in every way.
    async fn a_publish_after_closing_is_an_error_at_once(bench: Bench) {
        let exchange = bench.channel.default_exchange();
        bench.channel.close().await.unwrap();
        let gone = |error: Error, kind| assert_eq!((error.kind(), error.may_have_arrived()), (kind, false), "{error}");
        gone(exchange.publish("body", "q").await.unwrap_err(), ErrorKind::ChannelClosed);
        gone(exchange.publish_deferred("body", "q").await.unwrap_err(), ErrorKind::ChannelClosed);
        gone(exchange.try_publish("body", "q").unwrap_err(), ErrorKind::ChannelClosed);
        let other = bench.another_channel().await;
        bench.connection.close().await.unwrap();
        gone(other.default_exchange().publish("body", "q").await.unwrap_err(), ErrorKind::ConnectionClosed);
        gone(other.default_exchange().try_publish("body", "q").unwrap_err(), ErrorKind::ConnectionClosed);
    }

    /// PUB-04: a publish to an exchange that does not exist closes the channel with 404; with confirms, every publish
    /// without an answer hears of it.
    async fn a_missing_exchange_fails_all_that_is_unconfirmed(bench: Bench) {
        let channel = &bench.channel;
        channel.declare_queue("q").await.unwrap();
        let missing = channel.exchange("never");
        let mut confirms = Vec::new();
        for n in 0..10 {
            confirms.push(missing.publish_deferred(format!("{n}"), "key").await.unwrap());
        }
        let answers = within("an answer to each", 10, join_all(confirms)).await;
        for answer in answers {
            if !bench.confirms {
                assert_eq!(answer.unwrap().sequence(), None);
                continue;
            }
            let error = answer.unwrap_err();
            assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, true));
            let reason = error.close_reason().expect("the broker's reason");
            assert_eq!((reason.code, reason.method), (404, "basic.publish"));
            assert!(reason.text.contains("never"), "{error}");
        }
        eventually("the channel closes", 10, || async { channel.is_closed().then_some(()) }).await;
        let error = channel.default_exchange().publish("body", "q").await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
        assert!(!error.may_have_arrived());
        assert_eq!(channel.close_cause().unwrap().close_reason().unwrap().code, 404);
        // The connection and its other channels do not notice.
        bench.another_channel().await.default_exchange().publish("body", "q").await.unwrap();
    }

    /// PUB-26: what the broker checks of the properties: a foreign user, a senseless delivery mode.
    async fn the_broker_checks_user_and_delivery_mode(bench: Bench) {
        for properties in [
            Properties::new().with_user_id("somebody else"),
            Properties::new().with_delivery_mode(DeliveryMode::Other(3)),
            Properties::new().with_delivery_mode(DeliveryMode::Other(0)),
        ] {
            let channel = bench.another_channel().await;
            channel.declare_queue("q").await.unwrap();
            let publish = Publishing::new("body").properties(properties);
            let answer = channel.default_exchange().publish(publish, "q").await;
            let error = match answer {
                Err(error) if bench.confirms => error,
                Ok(_) if !bench.confirms => channel.declare_queue("q").await.unwrap_err(),
                other => panic!("{other:?}"),
            };
            assert_eq!(error.kind(), ErrorKind::ChannelClosed);
            assert_eq!(error.close_reason().unwrap().code, 406, "{error}");
        }
        assert!(!bench.connection.is_closed());
    }

    /// PUB-22, PUB-33: many bodies of random bytes between two connections, all as they were and in order.
    async fn bodies_of_all_sizes_pass_unchanged(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let other = connect(bench.vhost.url()).await.unwrap();
        let from = other.channel_with(Bench::options(bench.confirms)).await.unwrap().default_exchange();
        let bodies: Vec<Vec<u8>> = (0..1024).map(|n| (0..7 * n).map(|_| fastrand::u8(..)).collect()).collect();
        let sent = bodies.clone();
        let publisher = actix_rt::spawn(async move {
            let mut confirms = Vec::new();
            for body in sent {
                confirms.push(from.publish_deferred(body, "q").await.unwrap());
            }
            for confirm in confirms {
                confirm.await.unwrap();
            }
        });
        let mut deliveries = queue.deliveries().await.unwrap();
        for body in &bodies {
            use futures_util::StreamExt;
            let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
            assert!(delivery.body()[..] == body[..], "{} is not {} bytes", delivery.body().len(), body.len());
            delivery.ack().unwrap();
        }
        publisher.await.unwrap();
    }

    /// PUB-19: a publish that is dropped before it was polled sends nothing and takes no number.
    async fn a_publish_that_was_never_polled_sends_nothing(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        drop(exchange.publish("dropped", "q"));
        drop(exchange.publish_deferred("dropped", "q"));
        let confirmation = exchange.publish("sent", "q").await.unwrap();
        assert_eq!(confirmation.sequence(), bench.confirms.then_some(1));
        // The broker has handled what came before.
        bench.channel.declare_queue("q").await.unwrap();
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.drain_bodies("q").await, [b"sent"]);
    }

    /// PUB-18: a publish that is dropped after its first poll goes on, and so does one whose Confirm is dropped.
    async fn dropping_a_confirm_cancels_nothing(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        for n in 0..100 {
            drop(exchange.publish_deferred(n.to_string(), "q").await.unwrap());
        }
        let polled = poll_immediate(Box::pin(exchange.publish("100", "q"))).await;
        assert_eq!(polled.is_some(), !bench.confirms, "{polled:?}");
        let last = exchange.publish("101", "q").await.unwrap();
        assert_eq!(last.sequence(), bench.confirms.then_some(102));
        bench.channel.declare_queue("q").await.unwrap();
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.drain_bodies("q").await, bodies(0, 102));
        let load = bench.channel.load();
        assert_eq!((load.unconfirmed, load.bytes, load.waiting), (0, 0, 0));
    }

    /// PUB-01: the same by messages to the Channel actor.
    async fn publishing_by_message_is_the_same(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let actor = bench.channel.actor();
        let publishes = (0..20).map(|n| actor.send(Publish::new("", "q", n.to_string())));
        let answers = join_all(publishes).await;
        for (n, answer) in answers.into_iter().enumerate() {
            let sequence = answer.unwrap().unwrap().sequence();
            assert_eq!(sequence, bench.confirms.then_some(n as u64 + 1));
        }
        bench.channel.declare_queue("q").await.unwrap();
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.drain_bodies("q").await, bodies(0, 20));
        let refused = actor.send(Publish::new("", "k".repeat(256), "body")).await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Limit);
    }
}

/// PUB-05, PUB-06, MSG-02: a publish without a queue comes back as `Unroutable`, with key, body and properties, a
/// hundred times over; mandatory is the default.
#[actix::test]
async fn what_reaches_no_queue_comes_back_as_it_was() {
    let bench = Bench::open(true).await;
    let exchange = bench.channel.default_exchange();
    for n in 0..100 {
        let publish =
            Publishing::new(format!("body {n}")).priority(42).header("n", n).message_id(n.to_string());
        let key = format!("nowhere {}", n % 3);
        let error = exchange.publish(publish, &key).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unroutable, false));
        let returned = error.returned().expect("what came back");
        assert_eq!((returned.code, &*returned.text), (312, "NO_ROUTE"));
        assert_eq!((&*returned.exchange, &*returned.routing_key), ("", &*key));
        assert_eq!(returned.body, format!("body {n}"));
        let properties = returned.properties.as_ref().unwrap();
        assert_eq!((properties.priority(), properties.message_id()), (Some(42), Some(&*n.to_string())));
        assert_eq!(properties.header("n"), Some(&n.into()));
    }
    assert!(!bench.channel.is_closed());
    let unasked = Publishing::new("body").mandatory(false);
    assert_eq!(exchange.publish(unasked, "nowhere").await.unwrap().sequence(), Some(101));
    assert_eq!(bench.channel.load().bytes, 0);
}

/// PUB-06: returns find their publish when routable and unroutable ones, with equal and different bodies, follow each
/// other.
#[actix::test]
async fn every_return_finds_its_publish() {
    let bench = Bench::open(true).await;
    bench.channel.declare_queue("q").await.unwrap();
    let exchange = bench.channel.default_exchange();
    let mut publishes = Vec::new();
    for n in 0..300 {
        let key = if n % 3 == 0 { "nowhere" } else { "q" };
        let body = if n % 2 == 0 { "same".to_owned() } else { format!("{n}").repeat(n) };
        publishes.push((n, key, body.clone(), exchange.publish_deferred(body, key).await.unwrap()));
    }
    for (n, key, body, confirm) in publishes {
        match within("an answer", 10, confirm).await {
            Ok(confirmation) => assert!(key == "q" && confirmation.sequence() == Some(n as u64 + 1), "{n}"),
            Err(error) => {
                assert_eq!(error.returned().expect("what came back").body, body, "{n}");
                assert_eq!(key, "nowhere");
            }
        }
    }
}

/// PUB-06: where headers decide, key and body may be the same for what is routed and for what is not: the return still
/// finds its own publish.
#[actix::test]
async fn a_return_is_told_apart_by_its_headers() {
    let bench = Bench::open(true).await;
    let exchange = bench.channel.declare_exchange(DeclareExchange::headers("ex")).await.unwrap();
    let queue = bench.channel.declare_queue("q").await.unwrap();
    let red = actix_pika::BindQueue::new("q", "ex", "").argument("x-match", "all").argument("color", "red");
    queue.bind_with(red).await.unwrap();
    let mut confirms = Vec::new();
    for n in 0..60 {
        let color = if n % 2 == 0 { "red" } else { "blue" };
        let publish = Publishing::new("").header("color", color).header("n", n);
        confirms.push(exchange.publish_deferred(publish, "").await.unwrap());
    }
    for (n, confirm) in confirms.into_iter().enumerate() {
        match within("an answer", 10, confirm).await {
            Ok(_) => assert_eq!(n % 2, 0, "{n} reached no queue"),
            Err(error) => {
                let returned = error.returned().expect("what came back");
                let properties = returned.properties.as_ref().unwrap();
                assert_eq!(properties.header("n"), Some(&(n as i32).into()));
            }
        }
    }
}

/// PUB-08, TOP-35: a full queue that rejects publishes makes the broker nack; the channel goes on.
#[actix::test]
async fn a_full_queue_that_rejects_publishes_is_a_nack() {
    let bench = Bench::open(true).await;
    let full = DeclareQueue::new("q").argument("x-max-length", 1).argument("x-overflow", "reject-publish");
    let queue = bench.channel.declare_queue(full).await.unwrap();
    let exchange = bench.channel.default_exchange();
    exchange.publish("first", "q").await.unwrap();
    let error = within("a nack", 10, async {
        for _ in 0..10 {
            if let Err(error) = exchange.publish("more", "q").await {
                return error;
            }
        }
        panic!("ten publishes into a queue for one");
    })
    .await;
    assert_eq!(
        (error.kind(), error.is_retryable(), error.may_have_arrived()),
        (ErrorKind::Nacked, true, false)
    );
    assert!(!bench.channel.is_closed());
    queue.purge().await.unwrap();
    exchange.publish("again", "q").await.unwrap();
}

/// PUB-11: publishes at one time to one routable and nine unroutable keys: each has its answer.
#[actix::test]
async fn simultaneous_publishes_have_an_answer_each() {
    let bench = Bench::open(true).await;
    let exchange = bench.channel.declare_exchange(DeclareExchange::topic("ex")).await.unwrap();
    bench.channel.declare_queue("q").await.unwrap().bind("ex", "test.5").await.unwrap();
    for _ in 0..10 {
        let publishes = (0..10).map(|n| {
            let exchange = exchange.clone();
            async move { exchange.publish(format!("body {n}"), &format!("test.{n}")).await }
        });
        for (n, answer) in within("ten answers", 10, join_all(publishes)).await.into_iter().enumerate() {
            assert_eq!(
                answer.map(|c: Confirmation| c.is_confirmed()).map_err(|e| e.kind()),
                match n {
                    5 => Ok(true),
                    _ => Err(ErrorKind::Unroutable),
                }
            );
        }
    }
}

/// PUB-14: the numbers of a channel begin at 1 and have no gaps, for any number of tasks; another channel has its own.
#[actix::test]
async fn sequence_numbers_have_no_gaps() {
    let bench = Bench::open(true).await;
    bench.channel.declare_queue("q").await.unwrap();
    let exchange = bench.channel.default_exchange();
    assert_eq!(exchange.publish("1", "q").await.unwrap().sequence(), Some(1));
    let tasks = (0..20).map(|_| {
        let exchange = exchange.clone();
        actix_rt::spawn(async move {
            let mut numbers = Vec::new();
            for _ in 0..10 {
                numbers.push(exchange.publish("body", "q").await.unwrap().sequence().unwrap());
            }
            numbers
        })
    });
    let mut numbers: Vec<u64> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=201).collect::<Vec<_>>());
    let other = bench.another_channel().await.default_exchange();
    assert_eq!(other.publish("1", "q").await.unwrap().sequence(), Some(1));
}

/// PUB-15, PUB-16: thousands of publishes, persistent or not, mandatory or not, to queues that are purged, expire or
/// are deleted meanwhile: each is confirmed, and nothing stays behind.
#[actix::test]
async fn every_publish_is_confirmed_whatever_becomes_of_it() {
    let bench = Bench::open(true).await;
    let channel = &bench.channel;
    let transient = DeclareQueue::new("transient").durable(false);
    let fleeting = DeclareQueue::new("fleeting").argument("x-message-ttl", 0);
    let mut queues = Vec::new();
    for declare in [transient, fleeting, DeclareQueue::new("purged"), DeclareQueue::new("deleted")] {
        queues.push(channel.declare_queue(declare).await.unwrap());
    }
    let exchange = channel.default_exchange();
    let mut confirms = Vec::new();
    for n in 0..1000 {
        for name in ["transient", "fleeting", "purged", "deleted", "unknown"] {
            let mut publish = Publishing::new(name).mandatory(n % 2 == 0 && name != "unknown");
            if n % 3 == 0 {
                publish = publish.transient();
            }
            confirms.push(exchange.publish_deferred(publish, name).await.unwrap());
        }
        if n % 100 == 0 {
            queues[2].purge().await.unwrap();
        }
    }
    for confirm in confirms {
        within("a confirm", 20, confirm).await.unwrap();
    }
    queues[3].delete().await.unwrap();
    let load = channel.load();
    assert_eq!((load.unconfirmed, load.bytes, load.waiting, load.drained), (0, 0, 0, true));
}

/// PUB-15: the close of a channel awaits the confirms that are under way.
#[actix::test]
async fn close_awaits_the_confirms_under_way() {
    let bench = Bench::open(true).await;
    bench.channel.declare_queue("q").await.unwrap();
    let exchange = bench.channel.default_exchange();
    let mut confirms = Vec::new();
    for _ in 0..500 {
        confirms.push(exchange.publish_deferred("body", "q").await.unwrap());
    }
    bench.channel.close().await.unwrap();
    for confirm in confirms {
        // Answered already.
        confirm.now_or_never().expect("an answer").unwrap();
    }
}

/// PUB-30: without confirms, what is unroutable is returned and costs nothing; the channel goes on.
#[actix::test]
async fn without_confirms_returns_do_no_harm() {
    let bench = Bench::open(false).await;
    bench.channel.declare_queue("q").await.unwrap();
    let exchange = bench.channel.default_exchange();
    let frame_max = bench.connection.frame_max().unwrap() as usize;
    for len in [0, 5, frame_max + 10] {
        exchange.publish(vec![7; len], "nowhere").await.unwrap();
        exchange.publish(vec![7; len], "q").await.unwrap();
    }
    bench.channel.declare_queue("q").await.unwrap();
    let lengths: Vec<usize> =
        Oracle::connect(&bench.vhost.url()).await.drain("q").await.iter().map(|m| m.data.len()).collect();
    assert_eq!(lengths, [0, 5, frame_max + 10]);
}

/// PUB-13: when the connection goes, every confirm that is outstanding has an answer.
#[actix::test]
async fn the_end_of_the_connection_answers_every_confirm() {
    let bench = Bench::open(true).await;
    bench.channel.declare_queue("q").await.unwrap();
    let proxy = support::proxy::Proxy::to(&bench.vhost.broker().address());
    let connection = connect(proxy.url(&bench.vhost.url())).await.unwrap();
    let channel = connection
        .channel_with(OpenChannel::new().window(10).deadline(Duration::from_secs(60)))
        .await
        .unwrap();
    let exchange = channel.default_exchange();
    proxy.stall(support::proxy::Way::Down);
    let mut confirms = Vec::new();
    for _ in 0..10 {
        confirms.push(exchange.publish_deferred("body", "q").await.unwrap());
    }
    // The eleventh waits for the window.
    let waits = actix_rt::spawn({
        let exchange = exchange.clone();
        async move { exchange.publish("body", "q").await }
    });
    eventually("it waits", 10, || async { (channel.load().waiting == 1).then_some(()) }).await;
    eventually("all is written", 10, || async { channel.load().drained.then_some(()) }).await;
    proxy.cut_all(support::proxy::Cut::Rst);
    for answer in within("an answer to each", 10, join_all(confirms)).await {
        let error = answer.unwrap_err();
        assert_eq!(
            (error.kind(), error.may_have_arrived(), error.is_retryable()),
            (ErrorKind::ConnectionClosed, true, true)
        );
    }
    let error = within("an answer to who waited", 10, waits).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, false));
}
