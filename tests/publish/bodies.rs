//! Bodies around the sizes at which the encoding changes, and their split into frames.

use crate::support::{
    broker::{Broker, Vhost},
    eventually,
    modes::Bench,
    oracle::Oracle,
    proxy::{Direction, Proxy, Recording},
    within,
};
use actix_pika::{
    Connector, Consume, DeclareQueue, ErrorKind, OpenChannel, Publishing,
    message::{Get, Table, Value},
};
use bytes::Bytes;

fn random_bytes(len: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(len as u64);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes.into()
}

/// Sizes around each change of the encoding: an empty body, one byte, a body copied or chained, one frame, two, many.
fn sizes(frame_max: usize) -> Vec<usize> {
    let payload = frame_max - 8;
    let mut sizes =
        vec![0, 1, 4087, 4088, 4089, 4095, 4096, 4097, payload - 1, payload, payload + 1, 2 * payload];
    sizes.extend([2 * payload + 1, 1 << 20]);
    sizes
}

/// Returns the recorded publishes: for each the body size of its header and the sizes of its body frames. Panics if a
/// frame is over `frame_max`, or if content frames are not in the order publish, header, body.
fn published(recording: &Recording, frame_max: usize) -> Vec<(u64, Vec<usize>)> {
    let mut all: Vec<(u64, Vec<usize>)> = Vec::new();
    let mut missing = 0;
    let mut expects_header = false;
    for frame in recording.frames(Direction::ToBroker) {
        assert!(frame.payload.len() + 8 <= frame_max, "a frame of {} bytes", frame.payload.len() + 8);
        match frame.kind {
            1 => {
                assert!(missing == 0 && !expects_header, "a method within content");
                expects_header = frame.method() == Some((60, 40));
            }
            2 => {
                assert!(std::mem::take(&mut expects_header), "a header without a publish before it");
                let size = u64::from_be_bytes(frame.payload[4..12].try_into().unwrap());
                missing = size as usize;
                all.push((size, Vec::new()));
            }
            3 => {
                assert!(
                    !frame.payload.is_empty() && frame.payload.len() <= missing,
                    "an empty body frame, or one beyond the announced size"
                );
                missing -= frame.payload.len();
                all.last_mut().unwrap().1.push(frame.payload.len());
            }
            _ => {}
        }
    }
    assert_eq!(missing, 0);
    all
}

crate::modes! {
    /// PUB-30, GET-02: bodies around each size limit arrive unchanged, at this client and at another one.
    async fn bodies_around_every_limit_are_intact(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        let sizes = sizes(bench.connection.frame_max().unwrap() as usize);
        for &size in &sizes {
            exchange.publish(random_bytes(size), "q").await.unwrap();
            exchange.publish(random_bytes(size), "q").await.unwrap();
        }
        bench.channel.declare_queue("q").await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        for &size in &sizes {
            let message = queue.get().await.unwrap().expect("a message");
            assert!(*message.body() == random_bytes(size), "{size} bytes became {}", message.body().len());
            message.ack().unwrap();
            let message = oracle.get("q").await.expect("a message");
            assert!(message.data == random_bytes(size), "{size} bytes became {}", message.data.len());
        }
        assert!(queue.get().await.unwrap().is_none());
    }

    /// PUB-30: a body of 20 MiB, or the broker's maximum, between small ones is received unchanged by `get` and by a
    /// stream.
    async fn a_body_of_twenty_mebibytes_is_intact(bench: Bench) {
        use futures_util::StreamExt;
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let exchange = bench.channel.default_exchange();
        let body = random_bytes(bench.vhost.broker().largest_body().await.min(20 << 20));
        for _ in 0..2 {
            exchange.publish("before", "q").await.unwrap();
            exchange.publish(Publishing::new(&body).persistent(false), "q").await.unwrap();
            exchange.publish("after", "q").await.unwrap();
        }
        let no_ack = || Get::new("q").no_ack(true);
        assert_eq!(queue.get_with(no_ack()).await.unwrap().unwrap().body()[..], *b"before");
        assert!(*queue.get_with(no_ack()).await.unwrap().unwrap().body() == body);
        assert_eq!(queue.get_with(no_ack()).await.unwrap().unwrap().body()[..], *b"after");
        let mut deliveries = queue.deliveries_with(Consume::new().no_ack(true)).await.unwrap();
        let mut got = Vec::new();
        for _ in 0..3 {
            got.push(within("a delivery", 20, deliveries.next()).await.unwrap().body().to_vec());
        }
        assert!(got[0] == b"before" && got[1] == body && got[2] == b"after");
    }

    /// PUB-04, PUB-30: when the broker closes a channel during large publishes, the connection and its other channels
    /// work.
    async fn a_channel_close_during_a_large_body_leaves_the_connection_open(bench: Bench) {
        let other = bench.another_channel().await;
        other.declare_queue("q").await.unwrap();
        for _ in 0..3 {
            let channel = bench.another_channel().await;
            let body = random_bytes(8 << 20);
            let mut confirms = vec![channel.exchange("never").publish_deferred("body", "q").await.unwrap()];
            for _ in 0..3 {
                match channel.default_exchange().publish_deferred(&body, "q").await {
                    Ok(confirm) => confirms.push(confirm),
                    Err(error) => assert_eq!(error.close_reason().unwrap().code, 404),
                }
            }
            for confirm in confirms {
                match within("a result", 20, confirm).await {
                    Ok(confirmation) => assert!(!bench.confirms && !confirmation.is_confirmed()),
                    Err(error) => assert_eq!(error.close_reason().unwrap().code, 404, "{error}"),
                }
            }
            other.default_exchange().publish("alive", "q").await.unwrap();
            eventually("the channel closes", 10, || async { channel.is_closed().then_some(()) }).await;
        }
        assert!(other.queue("q").purge().await.unwrap() >= 3);
        assert!(!bench.connection.is_closed());
    }

    /// PUB-30: 5000 small and 5000 empty bodies arrive in order.
    async fn thousands_of_small_and_empty_bodies_arrive_in_order(bench: Bench) {
        use futures_util::StreamExt;
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        let mut last = None;
        for n in 0..5000u32 {
            drop(exchange.publish_deferred(&n.to_be_bytes(), "q").await.unwrap());
            last = Some(exchange.publish_deferred("", "q").await.unwrap());
        }
        within("the last confirm", 20, last.unwrap()).await.unwrap();
        let mut deliveries = queue.deliveries_with(Consume::new().no_ack(true)).await.unwrap();
        for n in 0..5000u32 {
            let full = within("a delivery", 20, deliveries.next()).await.unwrap();
            assert_eq!(full.body()[..], n.to_be_bytes());
            assert!(deliveries.next().await.unwrap().body().is_empty());
        }
    }
}

/// PUB-30: no frame exceeds the negotiated size, no body frame is empty, and there are as few as possible. Recorded by
/// a proxy, since the broker accepts other splits too.
#[actix::test]
async fn bodies_are_split_into_full_frames() {
    let least = Broker::under_test().line().await.least_frame_max();
    // The smallest that the line accepts replaces a smaller one.
    for (set, frame_max) in [(4096, least), (8192, 8192), (131_072, 131_072)] {
        for confirms in [true, false] {
            let vhost = Vhost::fresh_plain().await;
            let proxy = Proxy::to(&vhost.broker().address());
            proxy.record();
            let url = proxy.url(&vhost.url());
            let connection = Connector::new(&url).unwrap().frame_max(set).connect().await.unwrap();
            assert_eq!(connection.frame_max(), Some(frame_max));
            let channel = connection.channel_with(Bench::options(confirms)).await.unwrap();
            channel.declare_queue("q").await.unwrap();
            let frame_max = frame_max as usize;
            let sizes = sizes(frame_max);
            for &size in &sizes {
                channel.default_exchange().publish(random_bytes(size), "q").await.unwrap();
            }
            channel.declare_queue("q").await.unwrap();
            let recordings = proxy.recordings();
            let published = published(&recordings[0], frame_max);
            let expected: Vec<(u64, Vec<usize>)> = sizes
                .iter()
                .map(|&size| {
                    (size as u64, random_bytes(size).chunks(frame_max - 8).map(<[u8]>::len).collect())
                })
                .collect();
            assert_eq!(published, expected);
            let oracle = Oracle::connect(&vhost.url()).await;
            for message in oracle.drain("q").await {
                assert!(message.data == random_bytes(message.data.len()));
            }
            connection.close().await.unwrap();
        }
    }
}

/// Returns headers with which the content header frame of a persistent message has exactly `frame` bytes.
fn headers(frame: usize) -> Table {
    // Frame 8; class, weight and body size 12; flags 2; delivery mode 1; table length 4; key 2; type 1; string length
    // 4.
    Table::new().with("k", Value::LongString("v".repeat(frame - 34).into()))
}

crate::modes! {
    /// FT-06: headers that fill a frame exactly are sent; one byte more is a `Limit` error before anything is sent.
    async fn headers_over_the_frame_size_are_refused_locally(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        let frame_max = bench.connection.frame_max().unwrap() as usize;
        let fits = Publishing::new("body").headers(headers(frame_max));
        exchange.publish(fits.clone(), "q").await.unwrap();
        let message = queue.get().await.unwrap().unwrap();
        // Class, weight and body size (12) and the frame's own 8 bytes are not included.
        assert_eq!(message.raw_properties().len() + 12 + 8, frame_max);
        message.ack().unwrap();

        let large = Publishing::new("body").headers(headers(frame_max + 1));
        for error in [
            exchange.publish(large.clone(), "q").await.unwrap_err(),
            exchange.publish_deferred(large.clone(), "q").await.unwrap_err(),
            exchange.try_publish(large, "q").unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Limit, false), "{error}");
        }
        exchange.publish(fits, "q").await.unwrap();
        assert_eq!(queue.purge().await.unwrap(), 1);
    }

    /// TOP-27: method arguments over the frame size are a `Limit` error; a consumer that failed so leaves its tag free.
    async fn arguments_over_the_frame_size_are_refused_locally(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let large = "v".repeat(bench.connection.frame_max().unwrap() as usize);
        let error = bench.channel.declare_queue(DeclareQueue::new("p").argument("k", &*large)).await.unwrap_err();
        assert_eq!((error.kind(), error.entity()), (ErrorKind::Limit, Some("p")), "{error}");
        let consume = Consume::new().tag("mine").argument("k", &*large);
        let error = queue.deliveries_with(consume).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
        let stream = queue.deliveries_with(Consume::new().tag("mine")).await.unwrap();
        assert_eq!(stream.tag(), "mine");
        stream.close().await.unwrap();
        assert_eq!(queue.delete().await.unwrap(), 0);
    }
}

/// PUB-30: with small frames and a small window, large bodies from many tasks do not mix.
#[actix::test]
async fn bodies_from_many_tasks_do_not_mix() {
    let vhost = Vhost::fresh().await;
    let connection = Connector::new(&vhost.url()).unwrap().frame_max(4096).connect().await.unwrap();
    let mut tasks = Vec::new();
    for n in 0..2 {
        let channel =
            connection.channel_with(OpenChannel::new().window(3).window_bytes(100_000)).await.unwrap();
        channel.declare_queue("q").await.unwrap();
        for m in 0..20 {
            let exchange = channel.default_exchange();
            let body = random_bytes(1 + (n * 20 + m) * 3_000);
            tasks.push(actix_rt::spawn(async move { exchange.publish(body, "q").await }));
        }
    }
    for task in tasks {
        within("a confirm", 20, task).await.unwrap().unwrap();
    }
    let mut lengths = Vec::new();
    for message in Oracle::connect(&vhost.url()).await.drain("q").await {
        assert!(message.data == random_bytes(message.data.len()));
        lengths.push(message.data.len());
    }
    lengths.sort_unstable();
    assert_eq!(lengths, (0..40).map(|n| 1 + n * 3_000).collect::<Vec<_>>());
}
