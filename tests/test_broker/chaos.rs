//! The robust client through random faults: nothing is lost, and the order is kept where it is promised.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use actix_pika::{Connection, Consume, DeliveryStream, ErrorKind, Exchange, OpenChannel};
use actix_pika_broker::{Broker, Fault, FaultKind};
use futures_util::{StreamExt, future::join_all};
use tokio::time::{pause, sleep};

use super::{robust, soon};

const MESSAGES: usize = 3_000;

/// What keeps the order: all but what refuses single publishes.
const IN_ORDER: [FaultKind; 8] = [
    FaultKind::Cut,
    FaultKind::Close,
    FaultKind::StopReading,
    FaultKind::Delay,
    FaultKind::RefuseConnects,
    FaultKind::CancelConsumers,
    FaultKind::Block,
    FaultKind::Restart,
];

struct Bench {
    publishing: Exchange,
    connections: [Connection; 2],
    deliveries: DeliveryStream,
}

impl Bench {
    async fn open(broker: &Broker) -> Self {
        let (publishing, consuming) = (robust(broker).await, robust(broker).await);
        // What is sent again after each loss: less than comes between two faults.
        let window = OpenChannel::new().window(10);
        let publishing_channel = soon(publishing.channel_with(window)).await.unwrap();
        let channel = soon(consuming.channel()).await.unwrap();
        let queue = soon(channel.declare_queue("jobs")).await.unwrap();
        let deliveries = soon(queue.deliveries_with(Consume::new().prefetch(20))).await.unwrap();
        Self {
            publishing: publishing_channel.default_exchange(),
            connections: [publishing, consuming],
            deliveries,
        }
    }

    /// Settles deliveries until all numbers have come, and returns them in the order in which they came first.
    async fn consume_all(&mut self) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let mut first = Vec::new();
        while seen.len() < MESSAGES {
            let delivery = soon(self.deliveries.next()).await.unwrap();
            let number: usize = String::from_utf8_lossy(delivery.body()).parse().unwrap();
            if seen.insert(number) {
                first.push(number);
            }
            // Fails if the connection was lost meanwhile: it comes again.
            delivery.ack().ok();
        }
        first
    }
}

/// Publishes in order, each before the confirms of those before it.
async fn publish_in_order(exchange: Exchange) {
    let mut confirms = Vec::new();
    for number in 0..MESSAGES {
        confirms.push(soon(exchange.publish_deferred(number.to_string(), "jobs")).await.unwrap());
    }
    for confirm in confirms {
        soon(confirm).await.unwrap();
    }
}

/// Publishes a message again until it is confirmed. Returns how often it was refused.
async fn publish_until_confirmed(exchange: &Exchange, number: usize) -> usize {
    let mut refused = 0;
    loop {
        match soon(exchange.publish(number.to_string(), "jobs")).await {
            Ok(_) => return refused,
            Err(error) if matches!(error.kind(), ErrorKind::Nacked | ErrorKind::Unroutable) => refused += 1,
            Err(error) => panic!("{number}: {error}"),
        }
    }
}

async fn run_in_order(seed: u64) -> Vec<Fault> {
    // The jitter of reconnects, and the part of a millisecond in which it begins.
    fastrand::seed(seed);
    sleep(Duration::from_millis(1)).await;
    let broker = Broker::builder().start_here();
    let mut bench = Bench::open(&broker).await;
    let chaos = broker.chaos(seed).only(IN_ORDER).every(100).start();
    let publish = actix_rt::spawn(publish_in_order(bench.publishing.clone()));
    let order = bench.consume_all().await;
    soon(publish).await.unwrap();
    assert!(order.iter().copied().eq(0..MESSAGES), "the order is not kept");
    let faults = chaos.stop();
    for connection in bench.connections {
        soon(connection.close()).await.unwrap();
    }
    faults
}

#[actix::test]
async fn confirmed_messages_come_in_order_through_faults() {
    pause();
    for seed in 1..=3 {
        let faults = run_in_order(seed).await;
        let kinds: BTreeSet<FaultKind> = faults.iter().map(|fault| fault.kind).collect();
        assert!(faults.len() > 50 && kinds.len() == IN_ORDER.len(), "{kinds:?}");
    }
}

/// The clock is paused and everything is on one thread, so that the same frames come in the same order.
#[actix::test]
async fn the_same_seed_gives_the_same_faults() {
    pause();
    let text = |faults: Vec<Fault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let (once, again) = (run_in_order(5).await, run_in_order(5).await);
    assert_eq!(text(once), text(again));
}

#[actix::test]
async fn nothing_is_lost_through_faults_of_every_kind() {
    pause();
    let broker = Broker::builder().start_here();
    let mut bench = Bench::open(&broker).await;
    let chaos = broker.chaos(11).every(100).start();
    let refused = Rc::new(RefCell::new(0));
    let publishers = (0..10).map(|of| {
        let (exchange, refused) = (bench.publishing.clone(), Rc::clone(&refused));
        actix_rt::spawn(async move {
            for number in (of..MESSAGES).step_by(10) {
                *refused.borrow_mut() += publish_until_confirmed(&exchange, number).await;
            }
        })
    });
    let publishers = join_all(publishers);
    let (order, publishers) = futures_util::join!(bench.consume_all(), publishers);
    publishers.into_iter().for_each(|publisher| publisher.unwrap());
    assert_eq!(order.len(), MESSAGES);
    let faults = chaos.stop();
    let kinds: BTreeSet<FaultKind> = faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, BTreeSet::from(FaultKind::USUAL), "{faults:?}");
    assert!(*refused.borrow() > 0);
}

/// The same over TCP, on a clock that runs.
#[actix::test]
async fn nothing_is_lost_over_sockets() {
    let broker = Broker::start().unwrap();
    let mut bench = Bench::open(&broker).await;
    let chaos = broker.chaos(3).only([FaultKind::Cut, FaultKind::Restart]).every(300).at_most(20).start();
    let publish = actix_rt::spawn(publish_in_order(bench.publishing.clone()));
    let order = bench.consume_all().await;
    soon(publish).await.unwrap();
    assert!(order.iter().copied().eq(0..MESSAGES), "the order is not kept");
    drop(chaos);
}

#[actix::test]
async fn a_failed_assertion_shows_the_seed_and_the_faults() {
    let broker = Broker::builder().start_here();
    // A restart in the handshake would end the first connect, which is not tried again.
    let connection = robust(&broker).await;
    let chaos = broker.chaos(7).only([FaultKind::Restart]).every(1).at_most(1).start();
    soon(connection.channel()).await.unwrap();
    let shown = format!("{chaos:?}");
    assert!(shown.starts_with("chaos with the seed 7: 1 faults\n  1. at "), "{shown}");
    assert!(shown.ends_with(": a restart with what is durable"), "{shown}");
    drop(chaos);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        broker.assert_messages("jobs", 1, 0);
    }));
    let text = *caught.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(text, format!("there is no queue 'jobs'; there are: []\n{shown}"));
}
