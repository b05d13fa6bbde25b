//! Somebody else deletes exchanges and queues that are in use, while other publishes go on beside them on the same channel.
//!
//! What the connection has declared must come back by itself. What somebody else had declared must work again when they
//! declare it again. Publishes to an exchange that is missing may fail, with 404 or as unroutable; no other publish may.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::{Duration, Instant},
};

use actix_pika::{
    Channel, ChannelEvent, Connector, DeclareExchange, DeclareQueue, DeliveryStream, ErrorKind, Exchange,
    testing::Probe,
};
use actix_rt::task::JoinHandle;
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::{broker::Vhost, eventually, within},
    traffic::{Traffic, TrafficConfig, WINDOW},
};

/// The pauses between two tries grow to 5 s; the management API is a second behind.
const WHOLE_LIMIT: Duration = Duration::from_secs(10);
/// Declared over the connection, with a queue that is bound to it and consumed.
const OWN: &str = "own";
/// Declared by somebody else, with a queue that is bound to it.
const FOREIGN: &str = "foreign";

pub async fn run(row: &mut Row, plan: &Plan) {
    let leaks = Leaks::snapshot();
    let vhost = Vhost::fresh().await;
    row.messages = plan.pick(200_000, 3_000);
    row.faults = plan.pick(100, 6);
    let mut random = plan.random(row.part);
    let config = TrafficConfig::new(row.messages, random.u64(..));
    let connector = || Connector::new(&vhost.url()).expect("a URL");
    let mut traffic = Traffic::start(leaks, connector, config).await;
    let mut beside = Beside::start(&vhost, &mut traffic).await;
    let (mut disappearances, mut slowest) = (0, Duration::ZERO);
    for n in 0..row.faults {
        traffic.allow_share(2 * n + 1, 2 * row.faults);
        let (own, foreign, queue) = match random.u8(..5) {
            0 => (true, false, false),
            1 => (false, true, false),
            2 => (false, false, true),
            3 => (true, false, true),
            _ => (true, true, true),
        };
        disappearances += u64::from(own) + u64::from(foreign);
        if own {
            vhost.delete_exchange(OWN).await;
        }
        if queue {
            vhost.delete_queue(OWN).await;
        }
        if foreign {
            vhost.delete_exchange(FOREIGN).await;
            let pause = random.u64(..3_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            declare_foreign(&vhost).await;
        }
        let since = Instant::now();
        beside.wait_until_whole(&vhost, &format!("fault {n}")).await;
        slowest = slowest.max(since.elapsed());
        traffic.wait_for_flow(Instant::now(), 2 * n + 2, 2 * row.faults).await;
    }
    let reopened = beside.check(row, disappearances).await;
    traffic.finish(row).await;
    (row.slowest, row.slowest_limit) = (row.slowest.max(slowest), WHOLE_LIMIT);
    // A channel that is opened again sends its unconfirmed publishes again.
    row.allowed_duplicates += reopened * WINDOW as u64;
    if row.losses > 0 {
        row.fail(format!("{} connections lost", row.losses));
    }
}

/// Declares it on a connection of its own.
async fn declare_foreign(vhost: &Vhost) {
    let connector = Connector::new(&vhost.url()).expect("a URL");
    let declared = async {
        let other = connector.connect().await?;
        let channel = other.channel().await?;
        channel.declare_exchange(DeclareExchange::fanout(FOREIGN)).await?;
        let queue = channel.declare_queue(DeclareQueue::new(FOREIGN).max_length(10)).await?;
        queue.bind(FOREIGN, "").await?;
        other.close().await
    };
    within("what somebody else declares", 60, declared).await.expect("a declaration");
}

/// What is deleted, and the tasks that use it.
struct Beside {
    traffic: actix_pika::Connection,
    channel: Channel,
    reopened: Probe<ChannelEvent>,
    topology: BTreeSet<String>,
    /// Publishes that succeeded, by exchange.
    published: [watch::Receiver<u64>; 2],
    delivered: watch::Receiver<u64>,
    errors: Rc<RefCell<BTreeMap<String, u64>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Beside {
    /// Declares exchanges and queues, and publishes to them on a channel that other publishers use, too.
    async fn start(vhost: &Vhost, traffic: &mut Traffic) -> Self {
        let connection = traffic.publishing.connection.clone();
        let channel = traffic.publishing_channels[0].clone();
        let consuming = within("a channel", 60, connection.channel()).await.expect("a channel");
        let own = within("an exchange", 60, channel.declare_exchange(DeclareExchange::fanout(OWN)))
            .await
            .expect("one");
        let queue = within("a queue", 60, consuming.declare_queue(OWN)).await.expect("a queue");
        within("a binding", 60, queue.bind(OWN, "")).await.expect("a binding");
        let deliveries = within("a consumer", 60, queue.deliveries()).await.expect("a consumer");
        declare_foreign(vhost).await;
        let foreign = channel.exchange(FOREIGN);
        traffic.records_have_changed().await;
        let reopened = Probe::<ChannelEvent>::start();
        channel.watch(reopened.recipient());
        let errors = Rc::new(RefCell::new(BTreeMap::new()));
        let (delivered, of_consumer) = watch::channel(0);
        let mut tasks = vec![actix_rt::spawn(acknowledge(deliveries, consuming, delivered))];
        let published = [own, foreign].map(|exchange| {
            let (sender, published) = watch::channel(0);
            tasks.push(actix_rt::spawn(publish(exchange, sender, errors.clone())));
            published
        });
        let topology = eventually("all consumers in the management API", 60, async || {
            let list = list(vhost).await;
            (list.iter().filter(|line| line.starts_with("ConsumerInfo")).count() == 3).then_some(list)
        });
        let topology = topology.await;
        let delivered = of_consumer;
        Self { traffic: connection, channel, reopened, topology, published, delivered, errors, tasks }
    }

    /// Waits until everything exists again, publishes to both exchanges succeed, and the consumer gets deliveries.
    async fn wait_until_whole(&mut self, vhost: &Vhost, after: &str) {
        let what = format!("the topology after {after}");
        eventually(&what, 60, async || (list(vhost).await == self.topology).then_some(())).await;
        for counter in self.published.iter_mut().chain([&mut self.delivered]) {
            let before = *counter.borrow_and_update();
            within(&what, 60, counter.wait_for(|now| *now > before)).await.expect("a running task");
        }
        eventually("a healthy connection", 60, async || {
            self.traffic.health().await.expect("a health").is_up().then_some(())
        })
        .await;
    }

    /// Checks the errors, and returns how often the channel was opened again.
    async fn check(&mut self, row: &mut Row, disappearances: u64) -> u64 {
        for (error, count) in self.errors.borrow().iter() {
            row.fail(format!("{count} publishes beside: {error}"));
        }
        let events = self.reopened.drain().await;
        let reopened =
            events.iter().filter(|event| matches!(event, ChannelEvent::Reopened(_))).count() as u64;
        if reopened > disappearances {
            row.fail(format!("the channel was opened again {reopened} times, for {disappearances} deletes"));
        }
        if self.channel.is_closed() {
            row.fail("the channel is closed");
        }
        reopened
    }
}

/// Publishes every few milliseconds. Counts the errors that must not happen.
async fn publish(
    exchange: Exchange,
    succeeded: watch::Sender<u64>,
    errors: Rc<RefCell<BTreeMap<String, u64>>>,
) {
    let mut pause = tokio::time::interval(Duration::from_millis(5));
    loop {
        pause.tick().await;
        match exchange.publish("beside", "").await {
            Ok(_) => succeeded.send_modify(|count| *count += 1),
            Err(error) if error.code() == Some(404) && !error.is_retryable() => {}
            // Declared again, and not bound yet.
            Err(error) if error.kind() == ErrorKind::Unroutable => {}
            Err(error) => *errors.borrow_mut().entry(error.to_string()).or_default() += 1,
        }
    }
}

async fn acknowledge(mut deliveries: DeliveryStream, _channel: Channel, delivered: watch::Sender<u64>) {
    while let Some(delivery) = deliveries.next().await {
        // Its queue may be gone.
        let _ = delivery.ack();
        delivered.send_modify(|count| *count += 1);
    }
}

/// Returns one line for each exchange, queue, binding and consumer.
async fn list(vhost: &Vhost) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    lines.extend(vhost.exchanges().await.iter().map(|one| format!("{one:?}")));
    lines.extend(vhost.queues().await.into_iter().map(|one| format!("{:?}", one.declared())));
    lines.extend(vhost.bindings().await.iter().map(|one| format!("{one:?}")));
    lines.extend(vhost.all_consumers().await.iter().map(|one| format!("{one:?}")));
    lines
}
