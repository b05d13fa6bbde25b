//! Publishers and consumers that run while faults happen.
//!
//! The queues have a single active consumer, so that a message that an old connection holds is delivered before newer
//! ones, even if the broker has not noticed yet that this connection is gone.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use actix_pika::{
    Channel, Connector, Consume, DeclareQueue, OpenChannel, Recovery,
    testing::{GetRecordCounts, RecordCounts},
};
use actix_rt::task::JoinHandle;
use tokio::sync::watch;

use crate::{
    history::{History, WatchedConnection},
    leaks::Leaks,
    report::Row,
    support::within,
    workers::{Ledger, Publisher, consume},
};

pub const WINDOW: usize = 256;
const PREFETCH: u16 = 200;
const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Clone, Debug)]
pub struct TrafficConfig {
    pub messages: u64,
    pub publishers_per_queue: usize,
    pub queues: Vec<DeclareQueue>,
    pub seed: u64,
}

impl TrafficConfig {
    /// A durable classic queue and a quorum queue, with two publishers each.
    pub fn new(messages: u64, seed: u64) -> Self {
        let queues = vec![DeclareQueue::new("classic"), DeclareQueue::new("quorum").quorum()];
        Self { messages, publishers_per_queue: 2, queues, seed }
    }
}

#[derive(Debug)]
pub struct Traffic {
    pub publishing: WatchedConnection,
    pub consuming: WatchedConnection,
    /// The channels of the publishers.
    pub publishing_channels: Vec<Channel>,
    ledger: Rc<Ledger>,
    workers: Workers,
    messages_per_publisher: u64,
    records: Vec<RecordCounts>,
    leaks: Leaks,
    started: Instant,
    slowest: Duration,
}

/// The tasks of all workers. Dropping it aborts them, so that a part that failed leaves none behind.
#[derive(Debug, Default)]
struct Workers {
    publishers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.publishers.iter().chain(&self.consumers).for_each(JoinHandle::abort);
    }
}

/// The back-off of all connections.
pub fn recovery() -> Recovery {
    Recovery::exponential(Duration::from_millis(100), Duration::from_secs(2))
}

impl Traffic {
    /// Connects, declares and consumes. Publishes nothing before [`allow_share`](Self::allow_share).
    pub async fn start(leaks: Leaks, connector: impl Fn() -> Connector, config: TrafficConfig) -> Self {
        let connect = |name: &str| WatchedConnection::connect(connector().recovery(recovery()).name(name));
        let publishing = connect("publishing").await;
        let consuming = connect("consuming").await;
        let publishers = config.queues.len() * config.publishers_per_queue;
        let mut traffic = Self {
            publishing,
            consuming,
            publishing_channels: Vec::new(),
            ledger: Rc::new(Ledger::new(publishers, config.queues.len())),
            workers: Workers::default(),
            messages_per_publisher: config.messages.div_ceil(publishers as u64),
            records: Vec::new(),
            leaks,
            started: Instant::now(),
            slowest: Duration::ZERO,
        };
        for (at, queue) in config.queues.iter().enumerate() {
            traffic.start_queue(at, queue.clone(), &config).await;
        }
        traffic.records = traffic.count_records().await;
        traffic
    }

    async fn start_queue(&mut self, at: usize, queue: DeclareQueue, config: &TrafficConfig) {
        let options = OpenChannel::new().window(WINDOW).deadline(DEADLINE);
        let channel = self.consuming.connection.channel_with(options.clone()).await.expect("a channel");
        let queue = queue.argument("x-single-active-consumer", true);
        let queue = within("a queue", 60, channel.declare_queue(queue)).await.expect("a queue");
        let deliveries = queue.deliveries_with(Consume::new().prefetch(PREFETCH));
        let deliveries = within("consume", 60, deliveries).await.expect("a consumer");
        self.workers.consumers.push(actix_rt::spawn(consume(deliveries, at, self.ledger.clone())));
        for of_queue in 0..config.publishers_per_queue {
            let number = at * config.publishers_per_queue + of_queue;
            let channel = self.publishing.connection.channel_with(options.clone()).await.expect("a channel");
            self.publishing_channels.push(channel.clone());
            let publisher = Publisher {
                number,
                messages: self.messages_per_publisher,
                random: fastrand::Rng::with_seed(config.seed ^ number as u64),
                ledger: self.ledger.clone(),
            };
            let (exchange, routing_key) = (channel.default_exchange(), queue.name().to_owned());
            self.workers.publishers.push(actix_rt::spawn(publisher.run(exchange, routing_key)));
        }
    }

    async fn count_records(&self) -> Vec<RecordCounts> {
        let [publishing, consuming] = [&self.publishing, &self.consuming]
            .map(|watched| watched.connection.actor().send(GetRecordCounts));
        vec![publishing.await.expect("records"), consuming.await.expect("records")]
    }

    /// Notes that more was declared over the connections: the records are the same at the end as now.
    pub async fn records_have_changed(&mut self) {
        self.records = self.count_records().await;
    }

    /// Lets the publishers send until `share` of `total` parts of their messages are sent.
    pub fn allow_share(&self, share: u64, total: u64) {
        let each = self.messages_per_publisher;
        let allowed = if share >= total { each } else { each * share / total };
        self.ledger.allowed.send_if_modified(|now| std::mem::replace(now, allowed.max(*now)) < allowed);
    }

    /// Returns how many times the two connections were lost.
    pub fn losses(&self) -> u64 {
        self.publishing.history().losses + self.consuming.history().losses
    }

    /// Waits until the two connections were lost more than `before` times.
    pub async fn wait_for_loss(&self, before: u64) {
        if self.losses() > before {
            return;
        }
        let (publishing, consuming) = (self.publishing.history().losses, self.consuming.history().losses);
        tokio::select! {
            () = self.publishing.wait_for_loss(publishing) => {}
            () = self.consuming.wait_for_loss(consuming) => {}
        }
    }

    /// Waits until both connections are up, lets the publishers send `share` of `total`, and waits for a new delivery
    /// from each queue. `since` is when the broker could be reached again; the time from then on is recorded.
    pub async fn wait_for_flow(&mut self, since: Instant, share: u64, total: u64) {
        loop {
            let losses = self.losses();
            self.publishing.wait_until_up().await;
            self.consuming.wait_until_up().await;
            if self.losses() == losses {
                break;
            }
        }
        let mut queues: Vec<_> = self.ledger.consumed.iter().map(watch::Sender::subscribe).collect();
        let before: Vec<u64> = queues.iter_mut().map(|consumed| *consumed.borrow_and_update()).collect();
        self.allow_share(share, total);
        for (consumed, before) in queues.iter_mut().zip(before) {
            let more = consumed.wait_for(|now| *now > before);
            within("a delivery", 120, more).await.expect("the ledger");
        }
        self.slowest = self.slowest.max(since.elapsed());
    }

    /// Publishes the rest, waits until everything is confirmed and consumed, closes the connections, and fills in `row`.
    pub async fn finish(mut self, row: &mut Row) {
        self.allow_share(1, 1);
        for publisher in std::mem::take(&mut self.workers.publishers) {
            within("the publishers", 900, publisher).await.expect("a publisher that does not panic");
        }
        self.drain().await;
        self.publishing.wait_until_up().await;
        self.consuming.wait_until_up().await;
        let records = self.count_records().await;
        if records != self.records {
            row.fail(format!("records: {:?} before, {records:?} after", self.records));
        }
        let histories = [self.publishing.history(), self.consuming.history()];
        self.ledger.closing.set(true);
        for watched in [&self.publishing, &self.consuming] {
            if let Err(error) = within("close", 60, watched.connection.close()).await {
                row.fail(format!("close: {error}"));
            }
        }
        for consumer in std::mem::take(&mut self.workers.consumers) {
            within("the consumers", 60, consumer).await.expect("a consumer that does not panic");
        }
        self.fill_in(row, &histories);
        let Self { publishing, consuming, publishing_channels, leaks, .. } = self;
        drop((publishing, consuming, publishing_channels));
        row.leaks = Some(leaks);
    }

    /// Waits until every confirmed message was delivered, or no delivery came for ten seconds.
    async fn drain(&self) {
        let mut before = None;
        while self.ledger.checker.borrow().lost().0 > 0 {
            let consumed: u64 = self.ledger.consumed.iter().map(|consumed| *consumed.borrow()).sum();
            if before.replace(consumed) == Some(consumed) {
                return;
            }
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if self.ledger.checker.borrow().lost().0 == 0 {
                    return;
                }
            }
        }
    }

    fn fill_in(&self, row: &mut Row, [publishing, consuming]: &[History; 2]) {
        for fault in publishing.faults.iter().chain(&consuming.faults) {
            row.fail(fault.clone());
        }
        let checker = self.ledger.checker.borrow();
        let (lost, example) = checker.lost();
        row.confirmed = checker.count_confirmed();
        row.lost = lost;
        row.duplicates = checker.duplicates;
        // A lost connection may duplicate what was unconfirmed or unacknowledged on it.
        let of_publishers = publishing.losses * (checker.publishers() * WINDOW) as u64;
        let of_consumers = consuming.losses * self.ledger.consumed.len() as u64 * u64::from(PREFETCH);
        row.allowed_duplicates = of_publishers + of_consumers;
        row.out_of_order = checker.out_of_order;
        if let Some(example) = example {
            row.fail(format!("{lost} confirmed messages are lost, for example {example}"));
        }
        if let Some(first) = &checker.first_out_of_order {
            row.fail(format!("{} first deliveries out of order: {first}", checker.out_of_order));
        }
        row.losses = publishing.losses + consuming.losses;
        row.blocked = publishing.blocked;
        row.errors = self.ledger.errors.borrow().len() as u64;
        if let Some(error) = self.ledger.errors.borrow().first() {
            row.fail(format!("{} errors, the first: {error}", row.errors));
        }
        row.slowest = self.slowest;
        row.took = self.started.elapsed();
        row.growth = self.leaks.growth();
    }
}
