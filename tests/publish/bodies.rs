//! Bodies of every size that matters, and how they are cut into frames.

use crate::support::{
    broker::Vhost,
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

fn noise(len: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(len as u64);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes.into()
}

/// The sizes at which something changes: nothing, one, copied or chained, one frame or two, many.
fn sizes(frame_max: usize) -> Vec<usize> {
    let payload = frame_max - 8;
    let mut sizes =
        vec![0, 1, 4087, 4088, 4089, 4095, 4096, 4097, payload - 1, payload, payload + 1, 2 * payload];
    sizes.extend([2 * payload + 1, 1 << 20]);
    sizes
}

/// What the client published according to the tape: for each publish its announced size and the sizes of its body
/// frames. Panics for a frame over `frame_max`, and for content that is not publish, header, body in this order.
fn published(tape: &Recording, frame_max: usize) -> Vec<(u64, Vec<usize>)> {
    let mut all: Vec<(u64, Vec<usize>)> = Vec::new();
    let mut missing = 0;
    let mut header_due = false;
    for frame in tape.frames(Direction::ToBroker) {
        assert!(frame.payload.len() + 8 <= frame_max, "a frame of {} bytes", frame.payload.len() + 8);
        match frame.kind {
            1 => {
                assert!(missing == 0 && !header_due, "a method within content");
                header_due = frame.method() == Some((60, 40));
            }
            2 => {
                assert!(std::mem::take(&mut header_due), "a header without its method");
                let size = u64::from_be_bytes(frame.payload[4..12].try_into().unwrap());
                missing = size as usize;
                all.push((size, Vec::new()));
            }
            3 => {
                assert!(!frame.payload.is_empty() && frame.payload.len() <= missing, "a body frame too many");
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
    /// PUB-30, GET-02: bodies around every limit arrive as they were, here and at another client.
    async fn bodies_around_every_limit_are_intact(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        let sizes = sizes(bench.connection.frame_max().unwrap() as usize);
        for &size in &sizes {
            exchange.publish(noise(size), "q").await.unwrap();
            exchange.publish(noise(size), "q").await.unwrap();
        }
        bench.channel.declare_queue("q").await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        for &size in &sizes {
            let message = queue.get().await.unwrap().expect("a message");
            assert!(*message.body() == noise(size), "{size} bytes became {}", message.body().len());
            message.ack().unwrap();
            let message = oracle.get("q").await.expect("a message");
            assert!(message.data == noise(size), "{size} bytes became {}", message.data.len());
        }
        assert!(queue.get().await.unwrap().is_none());
    }

    /// PUB-30: 20 MiB, or what the broker takes at most, go out and come back, by `get` and by a stream, between small ones.
    async fn twenty_mebibytes_are_intact(bench: Bench) {
        use futures_util::StreamExt;
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let exchange = bench.channel.default_exchange();
        let body = noise(bench.vhost.broker().largest_body().await.min(20 << 20));
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

    /// PUB-04, PUB-30: a channel that the broker closes while a large body is on its way costs that channel only.
    async fn a_channel_may_be_closed_within_a_large_body(bench: Bench) {
        let other = bench.another_channel().await;
        other.declare_queue("q").await.unwrap();
        for _ in 0..3 {
            let channel = bench.another_channel().await;
            let body = noise(8 << 20);
            let mut confirms = vec![channel.exchange("never").publish_deferred("body", "q").await.unwrap()];
            for _ in 0..3 {
                match channel.default_exchange().publish_deferred(&body, "q").await {
                    Ok(confirm) => confirms.push(confirm),
                    Err(error) => assert_eq!(error.close_reason().unwrap().code, 404),
                }
            }
            for confirm in confirms {
                match within("an answer", 20, confirm).await {
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

    /// PUB-30: five thousand small and five thousand empty ones, in order.
    async fn thousands_of_small_and_empty_bodies(bench: Bench) {
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

/// PUB-30: no frame is longer than agreed by a byte, none is empty, and there are no more than need be: seen on the wire,
/// since the broker is too forgiving to tell.
#[actix::test]
async fn frames_are_cut_to_the_byte() {
    for frame_max in [4096, 8192, 131_072] {
        for confirms in [true, false] {
            let vhost = Vhost::fresh().await;
            let proxy = Proxy::to(&vhost.broker().address());
            proxy.record();
            let url = proxy.url(&vhost.url());
            let connection = Connector::new(&url).unwrap().frame_max(frame_max).connect().await.unwrap();
            assert_eq!(connection.frame_max(), Some(frame_max));
            let channel = connection.channel_with(Bench::options(confirms)).await.unwrap();
            channel.declare_queue("q").await.unwrap();
            let frame_max = frame_max as usize;
            let sizes = sizes(frame_max);
            for &size in &sizes {
                channel.default_exchange().publish(noise(size), "q").await.unwrap();
            }
            channel.declare_queue("q").await.unwrap();
            let tapes = proxy.recordings();
            let published = published(&tapes[0], frame_max);
            let expected: Vec<(u64, Vec<usize>)> = sizes
                .iter()
                .map(|&size| (size as u64, noise(size).chunks(frame_max - 8).map(<[u8]>::len).collect()))
                .collect();
            assert_eq!(published, expected);
            let oracle = Oracle::connect(&vhost.url()).await;
            for message in oracle.drain("q").await {
                assert!(message.data == noise(message.data.len()));
            }
            connection.close().await.unwrap();
        }
    }
}

/// A table that makes a content header frame of `frame` bytes, of a persistent message without other properties.
fn headers(frame: usize) -> Table {
    // Frame 8, class to size 12, flags 2, delivery mode 1, table length 4, key 2, type 1, length 4.
    Table::new().with("k", Value::LongString("v".repeat(frame - 34).into()))
}

crate::modes! {
    /// FT-06: headers must fit one frame: to the byte they pass, one more is refused here, before anything is sent.
    async fn headers_over_the_frame_size_are_refused_here(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        let frame_max = bench.connection.frame_max().unwrap() as usize;
        let fits = Publishing::new("body").headers(headers(frame_max));
        exchange.publish(fits.clone(), "q").await.unwrap();
        let message = queue.get().await.unwrap().unwrap();
        // Class, weight and size are not among them.
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

    /// TOP-27: and so must the arguments of a method; a consumer that was not started leaves its tag free.
    async fn arguments_over_the_frame_size_are_refused_here(bench: Bench) {
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

/// PUB-30: small frames and a small window at once: large bodies from many tasks do not mix.
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
            let body = noise(1 + (n * 20 + m) * 3_000);
            tasks.push(actix_rt::spawn(async move { exchange.publish(body, "q").await }));
        }
    }
    for task in tasks {
        within("a confirm", 20, task).await.unwrap().unwrap();
    }
    let mut lengths = Vec::new();
    for message in Oracle::connect(&vhost.url()).await.drain("q").await {
        assert!(message.data == noise(message.data.len()));
        lengths.push(message.data.len());
    }
    lengths.sort_unstable();
    assert_eq!(lengths, (0..40).map(|n| 1 + n * 3_000).collect::<Vec<_>>());
}
