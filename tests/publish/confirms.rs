//! The results of a publish: confirmed, nacked, returned as unroutable.

use std::time::Duration;

use crate::support::{
    eventually,
    modes::Bench,
    oracle::Oracle,
    proxy::{Cut, Direction, Proxy},
    within,
};
use actix_pika::{
    DeclareExchange, DeclareQueue, ErrorKind, OpenChannel, Publishing, connect,
    message::{BindQueue, Confirmation},
};
use futures_util::{FutureExt, future::join_all};

/// PUB-05, PUB-06, MSG-02: an unroutable publish fails with `Unroutable`, which has code 312, key, body and properties;
/// the channel stays open over a hundred of them. Mandatory is the default.
#[actix::test]
async fn an_unroutable_publish_returns_312() {
    let bench = Bench::open(true).await;
    let exchange = bench.channel.default_exchange();
    for n in 0..100 {
        let publish =
            Publishing::new(format!("body {n}")).priority(42).header("n", n).message_id(n.to_string());
        let key = format!("nowhere {}", n % 3);
        let error = exchange.publish(publish, &key).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unroutable, false));
        let returned = error.returned().expect("the returned message");
        assert_eq!((returned.code, &*returned.text), (312, "NO_ROUTE"));
        assert_eq!((&*returned.exchange, &*returned.routing_key), ("", &*key));
        assert_eq!(returned.body, format!("body {n}"));
        let properties = returned.properties.as_ref().unwrap();
        assert_eq!((properties.priority(), properties.message_id()), (Some(42), Some(&*n.to_string())));
        assert_eq!(properties.header("n"), Some(&n.into()));
    }
    assert!(!bench.channel.is_closed());
    let optional = Publishing::new("body").mandatory(false);
    assert_eq!(exchange.publish(optional, "nowhere").await.unwrap().sequence(), Some(101));
    assert_eq!(bench.channel.load().bytes, 0);
}

/// PUB-06: each return is matched to its publish, among routable and unroutable ones with equal and different bodies.
#[actix::test]
async fn every_return_is_matched_to_its_publish() {
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
        match within("a result", 10, confirm).await {
            Ok(confirmation) => assert!(key == "q" && confirmation.sequence() == Some(n as u64 + 1), "{n}"),
            Err(error) => {
                assert_eq!(error.returned().expect("the returned message").body, body, "{n}");
                assert_eq!(key, "nowhere");
            }
        }
    }
}

/// PUB-06: with a headers exchange, routed and unroutable publishes may have the same key and body: a return is still
/// matched to its own publish.
#[actix::test]
async fn a_return_is_matched_by_its_headers() {
    let bench = Bench::open(true).await;
    let exchange = bench.channel.declare_exchange(DeclareExchange::headers("ex")).await.unwrap();
    let queue = bench.channel.declare_queue("q").await.unwrap();
    let red = BindQueue::new("q", "ex", "").argument("x-match", "all").argument("color", "red");
    queue.bind_with(red).await.unwrap();
    let mut confirms = Vec::new();
    for n in 0..60 {
        let color = if n % 2 == 0 { "red" } else { "blue" };
        let publish = Publishing::new("").header("color", color).header("n", n);
        confirms.push(exchange.publish_deferred(publish, "").await.unwrap());
    }
    for (n, confirm) in confirms.into_iter().enumerate() {
        match within("a result", 10, confirm).await {
            Ok(_) => assert_eq!(n % 2, 0, "{n} reached no queue"),
            Err(error) => {
                let returned = error.returned().expect("the returned message");
                let properties = returned.properties.as_ref().unwrap();
                assert_eq!(properties.header("n"), Some(&(n as i32).into()));
            }
        }
    }
}

/// PUB-08, TOP-35: a publish to a full queue with `reject-publish` is nacked; the channel stays open.
#[actix::test]
async fn a_full_queue_that_rejects_publishes_nacks() {
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
        panic!("ten publishes into a queue of length one");
    })
    .await;
    assert_eq!(
        (error.kind(), error.is_retryable(), error.may_have_arrived()),
        (ErrorKind::Nacked, true, true)
    );
    assert!(!bench.channel.is_closed());
    queue.purge().await.unwrap();
    exchange.publish("again", "q").await.unwrap();
}

/// PUB-11: of ten simultaneous publishes to one routable and nine unroutable keys, each gets its own result.
#[actix::test]
async fn simultaneous_publishes_each_get_their_own_result() {
    let bench = Bench::open(true).await;
    let exchange = bench.channel.declare_exchange(DeclareExchange::topic("ex")).await.unwrap();
    bench.channel.declare_queue("q").await.unwrap().bind("ex", "test.5").await.unwrap();
    for _ in 0..10 {
        let publishes = (0..10).map(|n| {
            let exchange = exchange.clone();
            async move { exchange.publish(format!("body {n}"), &format!("test.{n}")).await }
        });
        for (n, result) in within("ten results", 10, join_all(publishes)).await.into_iter().enumerate() {
            assert_eq!(
                result.map(|c: Confirmation| c.is_confirmed()).map_err(|e| e.kind()),
                match n {
                    5 => Ok(true),
                    _ => Err(ErrorKind::Unroutable),
                }
            );
        }
    }
}

/// PUB-14: the sequence numbers of a channel start at 1 and have no gaps, with many tasks; each channel has its own.
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

/// PUB-15, PUB-16: thousands of publishes, persistent or not, mandatory or not, to a queue that is purged meanwhile,
/// one whose messages expire at once, and others: each is confirmed, and no load is left.
#[actix::test]
async fn every_publish_is_confirmed_whatever_happens_to_its_message() {
    let bench = Bench::open(true).await;
    let channel = &bench.channel;
    let transient = DeclareQueue::new("transient").durable(false);
    let expiring = DeclareQueue::new("expiring").argument("x-message-ttl", 0);
    let mut queues = Vec::new();
    for declare in [transient, expiring, DeclareQueue::new("purged"), DeclareQueue::new("deleted")] {
        queues.push(channel.declare_queue(declare).await.unwrap());
    }
    let exchange = channel.default_exchange();
    let mut confirms = Vec::new();
    for n in 0..1000 {
        for name in ["transient", "expiring", "purged", "deleted", "unknown"] {
            let mut publish = Publishing::new(name).mandatory(n % 2 == 0 && name != "unknown");
            if n % 3 == 0 {
                publish = publish.persistent(false);
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

/// PUB-15: closing a channel waits for outstanding confirms.
#[actix::test]
async fn close_waits_for_outstanding_confirms() {
    let bench = Bench::open(true).await;
    bench.channel.declare_queue("q").await.unwrap();
    let exchange = bench.channel.default_exchange();
    let mut confirms = Vec::new();
    for _ in 0..500 {
        confirms.push(exchange.publish_deferred("body", "q").await.unwrap());
    }
    bench.channel.close().await.unwrap();
    for confirm in confirms {
        confirm.now_or_never().expect("a result without waiting").unwrap();
    }
}

/// PUB-30: without confirms, returned messages of any size are accepted; the channel stays open.
#[actix::test]
async fn returns_without_confirms_leave_the_channel_open() {
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

/// PUB-13: when the connection is lost, each outstanding confirm and each waiting publish fails.
#[actix::test]
async fn a_lost_connection_fails_every_confirm() {
    let bench = Bench::open(true).await;
    bench.channel.declare_queue("q").await.unwrap();
    let proxy = Proxy::to(&bench.vhost.broker().address());
    let connection = connect(proxy.url(&bench.vhost.url())).await.unwrap();
    let channel = connection
        .channel_with(OpenChannel::new().window(10).deadline(Duration::from_secs(60)))
        .await
        .unwrap();
    let exchange = channel.default_exchange();
    proxy.stall(Direction::ToClient);
    let mut confirms = Vec::new();
    for _ in 0..10 {
        confirms.push(exchange.publish_deferred("body", "q").await.unwrap());
    }
    // The eleventh waits for room in the window.
    let waiting = actix_rt::spawn({
        let exchange = exchange.clone();
        async move { exchange.publish("body", "q").await }
    });
    eventually("a waiting publish", 10, || async { (channel.load().waiting == 1).then_some(()) }).await;
    eventually("everything is written", 10, || async { channel.load().drained.then_some(()) }).await;
    proxy.cut_all(Cut::Rst);
    for result in within("a result of each", 10, join_all(confirms)).await {
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind(), error.may_have_arrived(), error.is_retryable()),
            (ErrorKind::ConnectionClosed, true, true)
        );
    }
    let error = within("a result of the waiting publish", 10, waiting).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, false));
}
