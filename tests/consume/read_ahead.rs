//! Consumers without a prefetch limit: the read-ahead budget, pauses of reading, and the cancel of a slow consumer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::modes::Bench;
use crate::support::oracle::Oracle;
use crate::support::proxy::{Direction, Proxy};
use crate::support::{eventually, within};
use actix::{Actor, Context, Handler, Message};
use actix_pika::{
    Connection, Connector, Consume, ConsumerEnd, Delivery, DeliveryStream, ErrorKind, OpenChannel,
    Publishing, testing::Probe,
};
use futures_util::StreamExt;

const BODY: usize = 4096;
const AHEAD: usize = 512 * 1024;
/// What may exceed the budget: the read that used it up, and another one in the mailbox.
const SLACK: usize = 2 * 64 * 1024;

fn body(n: usize) -> Vec<u8> {
    let mut body = n.to_string().into_bytes();
    body.resize(BODY, b'.');
    body
}

fn number(delivery: &Delivery) -> usize {
    let text = std::str::from_utf8(delivery.body()).unwrap();
    text.trim_end_matches('.').parse().unwrap()
}

/// Fills a queue with `messages` messages of 4 KiB.
async fn fill_with_large(bench: &Bench, queue: &str, messages: usize) -> Oracle {
    let oracle = bench.fill_queue(queue, []).await;
    let channel = bench.connection.channel_with(OpenChannel::new().confirms(true)).await.unwrap();
    let exchange = channel.default_exchange();
    let mut last = None;
    for n in 0..messages {
        last =
            Some(exchange.publish_deferred(Publishing::new(body(n)).persistent(false), queue).await.unwrap());
    }
    within("confirms", 30, last.unwrap()).await.unwrap();
    channel.close().await.unwrap();
    oracle
}

async fn connect(bench: &Bench, proxy: &Proxy, options: impl FnOnce(Connector) -> Connector) -> Connection {
    let url = bench.vhost.broker().without_tls().url(bench.vhost.name());
    let connector = Connector::new(&proxy.url(&url)).unwrap().read_ahead(AHEAD);
    options(connector).connect().await.unwrap()
}

fn proxy(bench: &Bench) -> Proxy {
    Proxy::to(&bench.vhost.broker().without_tls().address())
}

/// Waits until `count` is above `least` and stops growing.
async fn stable_count(least: usize, count: impl Fn() -> usize) -> usize {
    let mut before = 0;
    let stable = async {
        loop {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let now = count();
            if now == before && now > least {
                return now;
            }
            before = now;
        }
    };
    within("a stable count", 20, stable).await
}

/// Waits until a stream that is not read receives no more, and returns how many deliveries wait in it.
async fn wait_until_full(stream: &DeliveryStream) -> usize {
    stable_count(0, || stream.waiting()).await
}

/// An actor that keeps its deliveries until it gets `Open`.
struct Gate {
    shut: Arc<AtomicBool>,
    held: Vec<Delivery>,
    seen: Arc<AtomicUsize>,
}

impl Actor for Gate {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Gate {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        assert_eq!(self.seen.fetch_add(1, Ordering::SeqCst), number(&delivery));
        if self.shut.load(Ordering::SeqCst) {
            self.held.push(delivery);
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Open;

impl Handler<Open> for Gate {
    type Result = ();

    fn handle(&mut self, _: Open, _: &mut Self::Context) {
        self.shut.store(false, Ordering::SeqCst);
        self.held.clear();
    }
}

/// Design 7.5, design 13.7: a `no_ack` stream that is not read receives no more than the budget; once it is read, all
/// messages arrive in order.
#[actix::test]
async fn an_unread_stream_stays_within_the_budget() {
    let bench = Bench::open(true).await;
    let oracle = fill_with_large(&bench, "flood", 8000).await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c).await;
    let channel = connection.channel().await.unwrap();
    let mut stream = channel.queue("flood").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
    let waiting = wait_until_full(&stream).await;
    assert!(waiting * BODY <= AHEAD + SLACK, "{waiting} messages were read");
    assert!((waiting + 1) * (BODY + 512) > AHEAD, "only {waiting} messages were read");
    for n in 0..8000 {
        let delivery = within("a delivery", 10, stream.next()).await.unwrap();
        assert_eq!(number(&delivery), n);
        assert!(stream.waiting() * BODY <= AHEAD + SLACK);
    }
    stream.close().await.unwrap();
    assert_eq!(oracle.queue_counts("flood").await, Some((0, 0)));
}

/// Design 13.7: a slow `no_ack` actor gets no more deliveries than its prefetch; once it continues, all arrive in
/// order.
#[actix::test]
async fn a_slow_actor_gets_no_more_than_its_prefetch() {
    let bench = Bench::open(true).await;
    let oracle = fill_with_large(&bench, "flood", 8000).await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c).await;
    let channel = connection.channel().await.unwrap();
    let (shut, seen) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let gate = Gate { shut: shut.clone(), held: Vec::new(), seen: seen.clone() }.start();
    let options = Consume::new().no_ack(true).prefetch(40);
    channel.queue("flood").consume_with(options, gate.clone().recipient()).await.unwrap();
    // This includes the bytes in the socket buffers.
    let moved = stable_count(AHEAD, || proxy.byte_count(Direction::ToClient) as usize).await;
    assert!(moved < 24 << 20, "{moved} bytes");
    assert_eq!(seen.load(Ordering::SeqCst), 40);
    gate.send(Open).await.unwrap();
    eventually("all were handled", 20, async || (seen.load(Ordering::SeqCst) == 8000).then_some(())).await;
    assert_eq!(oracle.count("flood").await, 0);
    assert!(!connection.is_closed());
}

/// HB-05, design 13.7: while reading is paused, heartbeats are sent, the connection is not taken for dead, and reading
/// then resumes where it paused.
#[actix::test]
async fn heartbeats_are_sent_while_reading_is_paused() {
    let bench = Bench::open(true).await;
    let _oracle = fill_with_large(&bench, "flood", 4000).await;
    let proxy = proxy(&bench);
    proxy.record();
    let connection = connect(&bench, &proxy, |c| c.heartbeat(Duration::from_secs(1))).await;
    let channel = connection.channel().await.unwrap();
    let mut stream = channel.queue("flood").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
    let waiting = wait_until_full(&stream).await;
    let heartbeats = |recording: &crate::support::proxy::Recording| {
        recording.frames(Direction::ToBroker).filter(|frame| frame.kind == 8).count()
    };
    let so_far = proxy.recordings().iter().map(heartbeats).sum::<usize>();
    // With a heartbeat each half second or more often, ten take longer than the broker's timeout.
    let ten_more = proxy.wait_for_recording(|recording| heartbeats(recording) >= so_far + 10);
    let started = std::time::Instant::now();
    within("heartbeats", 20, ten_more).await;
    assert!(started.elapsed() > Duration::from_secs(2), "too many heartbeats: 10 in {:?}", started.elapsed());
    assert_eq!(stream.waiting(), waiting);
    assert!(!connection.is_closed());
    for n in 0..4000 {
        assert_eq!(number(&within("a delivery", 10, stream.next()).await.unwrap()), n);
    }
    assert!(!connection.is_closed());
}

/// Design 13.7: closing or dropping the stream for which reading is paused ends its consumer: its deliveries do not
/// block the reply to `basic.cancel`.
#[actix::test]
async fn a_stream_that_paused_reading_can_be_closed() {
    let bench = Bench::open(true).await;
    let oracle = fill_with_large(&bench, "flood", 6000).await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c).await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.queue("flood");
    let stream = queue.deliveries_with(Consume::new().prefetch(0)).await.unwrap();
    wait_until_full(&stream).await;
    within("close", 15, stream.close()).await.unwrap();
    // The broker takes seconds to requeue thousands one by one.
    oracle.wait_for_requeue("flood", 6000).await;
    assert_eq!(channel.load().unsettled, 0);

    let stream = queue.deliveries_with(Consume::new().no_ack(true)).await.unwrap();
    wait_until_full(&stream).await;
    drop(stream);
    eventually("no consumer", 15, async || {
        (oracle.queue_counts("flood").await.unwrap().1 == 0).then_some(())
    })
    .await;
    within("a call", 10, channel.declare_queue("other")).await.unwrap();
    let mut stream = queue.deliveries_with(Consume::new().prefetch(0)).await.unwrap();
    bench.channel.default_exchange().publish(body(6000), "flood").await.unwrap();
    within("a delivery", 10, stream.next()).await.unwrap().ack().unwrap();
}

/// Design 13.7, 13.8: when the target for which reading is paused stops, its consumer is cancelled.
#[actix::test]
async fn a_consumer_is_cancelled_if_its_target_stops_while_reading_is_paused() {
    let bench = Bench::open(true).await;
    let oracle = fill_with_large(&bench, "flood", 6000).await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c).await;
    let channel = connection.channel().await.unwrap();
    let mut ends = Probe::<ConsumerEnd>::start().time_limit(Duration::from_secs(15));
    let arbiter = actix::Arbiter::new();
    let seen = Arc::new(AtomicUsize::new(0));
    let gate = Gate::start_in_arbiter(&arbiter.handle(), {
        let (shut, seen) = (Arc::new(AtomicBool::new(true)), seen.clone());
        move |_| Gate { shut, held: Vec::new(), seen }
    });
    let options = Consume::new().no_ack(true).prefetch(40).watch(ends.recipient());
    channel.queue("flood").consume_with(options, gate.recipient()).await.unwrap();
    eventually("forty deliveries are handled", 10, async || {
        (seen.load(Ordering::SeqCst) == 40).then_some(())
    })
    .await;
    arbiter.stop();
    assert!(matches!(ends.next().await.unwrap(), ConsumerEnd::TargetGone));
    within("a call", 10, channel.declare_queue("other")).await.unwrap();
    assert_eq!(oracle.queue_counts("flood").await.unwrap().1, 0);
}

/// NET-14, design 13.7: when reading is paused for longer than the stall limit, the consumer with the most waiting
/// bytes is cancelled; other consumers and the connection are not affected.
#[actix::test]
async fn the_slowest_consumer_is_cancelled_after_a_long_pause() {
    let bench = Bench::open(true).await;
    let oracle = fill_with_large(&bench, "flood", 6000).await;
    oracle.declare_queue("quiet").await;
    oracle.declare_queue("acked").await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c.stall_limit(Duration::from_millis(800))).await;
    let channel = connection.channel().await.unwrap();
    let mut quiet = channel.queue("quiet").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
    let mut acked = channel.queue("acked").deliveries().await.unwrap();
    oracle.publish("", "quiet", "first").await;
    eventually("the first message", 5, async || (quiet.waiting() == 1).then_some(())).await;
    let other = connection.channel().await.unwrap();
    let mut ends = Probe::<ConsumerEnd>::start();
    let options = Consume::new().no_ack(true).watch(ends.recipient());
    let mut slow = other.queue("flood").deliveries_with(options).await.unwrap();
    wait_until_full(&slow).await;
    oracle.publish("", "quiet", "second").await;
    oracle.publish("", "acked", "third").await;
    assert!(matches!(ends.next().await.unwrap(), ConsumerEnd::TooSlow));
    assert!(within("the end", 10, slow.next()).await.is_none());
    assert!(matches!(slow.end(), Some(ConsumerEnd::TooSlow)));
    for body in ["first", "second"] {
        assert_eq!(within("a delivery", 10, quiet.next()).await.unwrap().body(), body.as_bytes());
    }
    let third = within("a delivery", 10, acked.next()).await.unwrap();
    third.ack().unwrap();
    within("a call", 10, other.declare_queue("later")).await.unwrap();
    assert_eq!(oracle.queue_counts("flood").await.unwrap().1, 0);
    assert!(!connection.is_closed());
    connection.close().await.unwrap();
}

/// Design 13.7: an acknowledging consumer without a prefetch limit is cancelled in the same way: deliveries that it did
/// not receive are requeued, and those that it holds can be settled.
#[actix::test]
async fn cancelling_a_slow_unlimited_consumer_loses_nothing() {
    let bench = Bench::open(true).await;
    let oracle = fill_with_large(&bench, "flood", 6000).await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c.stall_limit(Duration::from_millis(800))).await;
    let channel = connection.channel().await.unwrap();
    let mut stream = channel.queue("flood").deliveries_with(Consume::new().prefetch(0)).await.unwrap();
    let first = stream.next().await.unwrap();
    // The stream still hands out the deliveries that it already has.
    let mut taken = Vec::new();
    while let Some(delivery) = within("the rest", 20, stream.next()).await {
        taken.push(delivery);
    }
    assert!(matches!(stream.end(), Some(ConsumerEnd::TooSlow)));
    first.ack().unwrap();
    let held = taken.len() as u32;
    assert!(held > 0 && held < 5999);
    for delivery in taken {
        delivery.nack(true).unwrap();
    }
    oracle.wait_for_requeue("flood", 5999).await;
    assert_eq!(channel.load().unsettled, 0);
    assert!(channel.close_cause().is_none());
    channel.close().await.unwrap();
    assert_eq!(channel.close_cause().unwrap().kind(), ErrorKind::ChannelClosed);
}
