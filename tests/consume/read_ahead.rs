//! Floods that the broker does not bound: what is read ahead, what goes on meanwhile, and who has to go.

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
/// Beside the budget: one read that was cut when it was used up, and another one on its way through the mailbox.
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

/// A queue with that many messages of 4 kB each.
async fn flooded(bench: &Bench, queue: &str, messages: usize) -> Oracle {
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
    let connector = Connector::new(&proxy.url(&bench.vhost.url())).unwrap().read_ahead(AHEAD);
    options(connector).connect().await.unwrap()
}

fn proxy(bench: &Bench) -> Proxy {
    Proxy::to(&bench.vhost.broker().address())
}

/// Waits until a count is more than `least` and grows no more.
async fn still(least: usize, count: impl Fn() -> usize) -> usize {
    let mut before = 0;
    let standstill = async {
        loop {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let now = count();
            if now == before && now > least {
                return now;
            }
            before = now;
        }
    };
    within("a standstill", 20, standstill).await
}

/// Waits until nothing more comes to a stream that nobody reads, and tells how much came.
async fn standstill(stream: &DeliveryStream) -> usize {
    still(0, || stream.waiting()).await
}

/// An actor that holds what it gets while the gate is shut.
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

/// Design 7.5, design 13.7: of a flood without acks a stream that nobody reads holds no more than the budget; read again, all
/// comes, in order.
#[actix::test]
async fn a_flood_is_read_ahead_by_the_budget_only() {
    let bench = Bench::open(true).await;
    let oracle = flooded(&bench, "flood", 8000).await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c).await;
    let channel = connection.channel().await.unwrap();
    let mut stream = channel.queue("flood").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
    let waiting = standstill(&stream).await;
    assert!(waiting * BODY <= AHEAD + SLACK, "{waiting} messages are here");
    assert!((waiting + 1) * (BODY + 512) > AHEAD, "only {waiting} messages are here");
    for n in 0..8000 {
        let delivery = within("a delivery", 10, stream.next()).await.unwrap();
        assert_eq!(number(&delivery), n);
        assert!(stream.waiting() * BODY <= AHEAD + SLACK);
    }
    stream.close().await.unwrap();
    assert_eq!(oracle.queue_counts("flood").await, Some((0, 0)));
}

/// Rule 7: an actor that is slow holds its permits, its Consumer the budget; when it works again, all comes, in order.
#[actix::test]
async fn a_slow_actor_holds_its_permits_only() {
    let bench = Bench::open(true).await;
    let oracle = flooded(&bench, "flood", 8000).await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c).await;
    let channel = connection.channel().await.unwrap();
    let (shut, seen) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let gate = Gate { shut: shut.clone(), held: Vec::new(), seen: seen.clone() }.start();
    let options = Consume::new().no_ack(true).prefetch(40);
    channel.queue("flood").consume_with(options, gate.clone().recipient()).await.unwrap();
    // What the sockets buffer counts here, too.
    let moved = still(AHEAD, || proxy.byte_count(Direction::ToClient) as usize).await;
    assert!(moved < 24 << 20, "{moved} bytes");
    assert_eq!(seen.load(Ordering::SeqCst), 40);
    gate.send(Open).await.unwrap();
    eventually("all were seen", 20, async || (seen.load(Ordering::SeqCst) == 8000).then_some(())).await;
    assert_eq!(oracle.count("flood").await, 0);
    assert!(!connection.is_closed());
}

/// HB-05, design 13.7: while reading pauses, heartbeats go out, the broker's silence is not death, and reading goes on where
/// it paused.
#[actix::test]
async fn heartbeats_go_on_while_reading_pauses() {
    let bench = Bench::open(true).await;
    let _oracle = flooded(&bench, "flood", 4000).await;
    let proxy = proxy(&bench);
    proxy.record();
    let connection = connect(&bench, &proxy, |c| c.heartbeat(Duration::from_secs(1))).await;
    let channel = connection.channel().await.unwrap();
    let mut stream = channel.queue("flood").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
    let waiting = standstill(&stream).await;
    let beats = |tape: &crate::support::proxy::Recording| {
        tape.frames(Direction::ToBroker).filter(|frame| frame.kind == 8).count()
    };
    let so_far = proxy.recordings().iter().map(beats).sum::<usize>();
    // At a beat each half second or quarter of it, this is more than the broker's patience.
    let many = proxy.wait_for_recording(|tape| beats(tape) >= so_far + 10);
    let began = std::time::Instant::now();
    within("heartbeats", 20, many).await;
    assert!(began.elapsed() > Duration::from_secs(2), "too many heartbeats: 10 in {:?}", began.elapsed());
    assert_eq!(stream.waiting(), waiting);
    assert!(!connection.is_closed());
    for n in 0..4000 {
        assert_eq!(number(&within("a delivery", 10, stream.next()).await.unwrap()), n);
    }
    assert!(!connection.is_closed());
}

/// Rule 7: a stream that is closed, or dropped, while reading pauses because of what it holds does not wait for ever
/// for the answer behind that.
#[actix::test]
async fn a_stream_that_paused_the_connection_can_be_ended() {
    let bench = Bench::open(true).await;
    let oracle = flooded(&bench, "flood", 6000).await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c).await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.queue("flood");
    let stream = queue.deliveries_with(Consume::new().prefetch(0)).await.unwrap();
    standstill(&stream).await;
    within("close", 15, stream.close()).await.unwrap();
    // A broker takes seconds to put thousands back one by one.
    eventually("all is back", 30, async || {
        (oracle.queue_counts("flood").await == Some((6000, 0))).then_some(())
    })
    .await;
    assert_eq!(channel.load().unsettled, 0);

    let stream = queue.deliveries_with(Consume::new().no_ack(true)).await.unwrap();
    standstill(&stream).await;
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

/// Rules 7 and 8: a target that dies while reading pauses because of what waits for it is cancelled.
#[actix::test]
async fn a_target_that_dies_while_reading_pauses_is_cancelled() {
    let bench = Bench::open(true).await;
    let oracle = flooded(&bench, "flood", 6000).await;
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
    eventually("it holds forty", 10, async || (seen.load(Ordering::SeqCst) == 40).then_some(())).await;
    arbiter.stop();
    assert!(matches!(ends.next().await.unwrap(), ConsumerEnd::TargetGone));
    within("a call", 10, channel.declare_queue("other")).await.unwrap();
    assert_eq!(oracle.queue_counts("flood").await.unwrap().1, 0);
}

/// NET-14, design 13.7: who pauses the connection for too long is cancelled, the greediest one only; the others go on, and
/// so does the connection.
#[actix::test]
async fn the_greediest_consumer_goes_when_reading_pauses_for_too_long() {
    let bench = Bench::open(true).await;
    let oracle = flooded(&bench, "flood", 6000).await;
    oracle.declare_queue("quiet").await;
    oracle.declare_queue("acked").await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c.stall_limit(Duration::from_millis(800))).await;
    let channel = connection.channel().await.unwrap();
    let mut quiet = channel.queue("quiet").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
    let mut acked = channel.queue("acked").deliveries().await.unwrap();
    oracle.publish("", "quiet", "first").await;
    eventually("it is here", 5, async || (quiet.waiting() == 1).then_some(())).await;
    let other = connection.channel().await.unwrap();
    let mut ends = Probe::<ConsumerEnd>::start();
    let options = Consume::new().no_ack(true).watch(ends.recipient());
    let mut greedy = other.queue("flood").deliveries_with(options).await.unwrap();
    standstill(&greedy).await;
    oracle.publish("", "quiet", "second").await;
    oracle.publish("", "acked", "third").await;
    assert!(matches!(ends.next().await.unwrap(), ConsumerEnd::TooSlow));
    assert!(within("the end", 10, greedy.next()).await.is_none());
    assert!(matches!(greedy.end(), Some(ConsumerEnd::TooSlow)));
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

/// Rule 7: a consumer without a bound that must settle is treated alike; what it did not see goes back, and what it
/// holds can be settled.
#[actix::test]
async fn an_unbounded_consumer_that_is_too_slow_loses_nothing() {
    let bench = Bench::open(true).await;
    let oracle = flooded(&bench, "flood", 6000).await;
    let proxy = proxy(&bench);
    let connection = connect(&bench, &proxy, |c| c.stall_limit(Duration::from_millis(800))).await;
    let channel = connection.channel().await.unwrap();
    let mut stream = channel.queue("flood").deliveries_with(Consume::new().prefetch(0)).await.unwrap();
    let first = stream.next().await.unwrap();
    // All that was taken with it is the stream's to hand out.
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
    eventually("all is back", 30, async || {
        (oracle.queue_counts("flood").await == Some((5999, 0))).then_some(())
    })
    .await;
    assert_eq!(channel.load().unsettled, 0);
    assert!(channel.close_cause().is_none());
    channel.close().await.unwrap();
    assert_eq!(channel.close_cause().unwrap().kind(), ErrorKind::ChannelClosed);
}
