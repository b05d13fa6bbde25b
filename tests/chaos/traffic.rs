//! Publishers and consumers at work while things break.
//!
//! The consumers are single active ones: what an old connection holds must come before anything newer, also when the
//! broker does not know yet that it is gone.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use actix_pika::{
    Connector, Consume, DeclareQueue, DeliveryStream, ErrorKind, Exchange, OpenChannel, Recovery,
    testing::{GetRecordCounts, RecordCounts},
};
use actix_rt::task::JoinHandle;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;

use crate::{checker::Checker, leaks::Leaks, report::Row, story::Told, support::within};

const WINDOW: usize = 256;
const PREFETCH: u16 = 200;
const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Clone, Debug)]
pub struct Terms {
    pub messages: u64,
    pub publishers_per_queue: usize,
    pub queues: Vec<DeclareQueue>,
    pub seed: u64,
}

impl Terms {
    /// A durable classic and a quorum queue with two publishers each.
    pub fn new(messages: u64, seed: u64) -> Self {
        let queues = vec![DeclareQueue::new("classic"), DeclareQueue::new("quorum").quorum()];
        Self { messages, publishers_per_queue: 2, queues, seed }
    }
}

/// What all tasks write to.
#[derive(Debug)]
struct Books {
    checker: RefCell<Checker>,
    errors: RefCell<Vec<String>>,
    /// How many messages each publisher may have sent by now.
    allowed: watch::Sender<u64>,
    /// Deliveries of each queue.
    consumed: Vec<watch::Sender<u64>>,
    stale: Cell<u64>,
    closing: Cell<bool>,
}

impl Books {
    fn error(&self, error: String) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < 100 {
            errors.push(error);
        }
    }
}

#[derive(Debug)]
pub struct Traffic {
    pub publishing: Told,
    pub consuming: Told,
    books: Rc<Books>,
    publishers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
    each: u64,
    records: Vec<RecordCounts>,
    leaks: Leaks,
    began: Instant,
    slowest: Duration,
}

/// The back-off of all parts.
pub fn recovery() -> Recovery {
    Recovery::exponential(Duration::from_millis(100), Duration::from_secs(2))
}

impl Traffic {
    /// Declares and consumes; nothing is published before [`allow`](Self::allow).
    pub async fn start(leaks: Leaks, connector: impl Fn() -> Connector, terms: Terms) -> Self {
        let publishing = Told::connect(connector().recovery(recovery()).name("publishing")).await;
        let consuming = Told::connect(connector().recovery(recovery()).name("consuming")).await;
        let publishers = terms.queues.len() * terms.publishers_per_queue;
        let each = terms.messages.div_ceil(publishers as u64);
        let books = Rc::new(Books {
            checker: RefCell::new(Checker::new(publishers)),
            errors: RefCell::default(),
            allowed: watch::Sender::new(0),
            consumed: terms.queues.iter().map(|_| watch::Sender::new(0)).collect(),
            stale: Cell::default(),
            closing: Cell::default(),
        });
        let mut traffic = Self {
            publishing,
            consuming,
            books: books.clone(),
            publishers: Vec::new(),
            consumers: Vec::new(),
            each,
            records: Vec::new(),
            leaks,
            began: Instant::now(),
            slowest: Duration::ZERO,
        };
        let options = OpenChannel::new().window(WINDOW).deadline(DEADLINE);
        for (at, queue) in terms.queues.into_iter().enumerate() {
            let queue = queue.argument("x-single-active-consumer", true);
            let channel =
                traffic.consuming.connection.channel_with(options.clone()).await.expect("a channel");
            let queue = within("a queue", 30, channel.declare_queue(queue)).await.expect("a queue");
            let consume = Consume::new().prefetch(PREFETCH);
            let deliveries = within("consume", 30, queue.deliveries_with(consume)).await.expect("a consumer");
            traffic.consumers.push(actix_rt::spawn(take(deliveries, at, books.clone())));
            for of_queue in 0..terms.publishers_per_queue {
                let publisher = at * terms.publishers_per_queue + of_queue;
                let channel =
                    traffic.publishing.connection.channel_with(options.clone()).await.expect("a channel");
                let random = fastrand::Rng::with_seed(terms.seed ^ publisher as u64);
                let publisher = Publisher { number: publisher, each, random, books: books.clone() };
                let to = channel.default_exchange();
                let key = queue.name().to_owned();
                traffic.publishers.push(actix_rt::spawn(publisher.run(to, key)));
            }
        }
        traffic.records = traffic.count_records().await;
        traffic
    }

    async fn count_records(&self) -> Vec<RecordCounts> {
        let [one, two] =
            [&self.publishing, &self.consuming].map(|told| told.connection.actor().send(GetRecordCounts));
        vec![one.await.expect("records"), two.await.expect("records")]
    }

    /// Lets the publishers go on until this share of everything is sent.
    pub fn allow(&self, done: u64, of: u64) {
        let allowed = if done >= of { self.each } else { self.each * done / of };
        self.books.allowed.send_if_modified(|now| std::mem::replace(now, allowed.max(*now)) < allowed);
    }

    /// How often each connection was lost so far.
    pub fn lost(&self) -> u64 {
        self.publishing.now().lost + self.consuming.now().lost
    }

    /// Waits until connections were lost more often than that.
    pub async fn is_lost(&self, before: u64) {
        if self.lost() > before {
            return;
        }
        let (one, other) = (self.publishing.now().lost, self.consuming.now().lost);
        tokio::select! {
            _ = self.publishing.until("a loss", 60, |story| story.lost > one) => {}
            _ = self.consuming.until("a loss", 60, |story| story.lost > other) => {}
        }
    }

    /// Waits until both connections are restored, lets the publishers go on until this share of everything is sent, and
    /// waits until some of it has come out of each queue; notes how long that took since the broker could be reached.
    pub async fn flows(&mut self, since: Instant, done: u64, of: u64) {
        loop {
            let lost = self.lost();
            self.publishing.up().await;
            self.consuming.up().await;
            if self.lost() == lost {
                break;
            }
        }
        let mut queues: Vec<_> = self.books.consumed.iter().map(watch::Sender::subscribe).collect();
        let before: Vec<u64> = queues.iter_mut().map(|consumed| *consumed.borrow_and_update()).collect();
        self.allow(done, of);
        for (consumed, before) in queues.iter_mut().zip(before) {
            let more = consumed.wait_for(|now| *now > before);
            within("a delivery", 60, more).await.expect("consumers");
        }
        self.slowest = self.slowest.max(since.elapsed());
    }

    /// Waits until everything is published, confirmed and consumed; judges.
    pub async fn finish(mut self, row: &mut Row) {
        self.allow(1, 1);
        for publisher in std::mem::take(&mut self.publishers) {
            within("the publishers", 900, publisher).await.expect("a publisher that does not panic");
        }
        let mut before = 0;
        loop {
            let now: u64 = self.books.consumed.iter().map(|consumed| *consumed.borrow()).sum();
            let (lost, _) = self.books.checker.borrow().lost();
            if lost == 0 || now == before {
                break;
            }
            before = now;
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if self.books.checker.borrow().lost().0 == 0 {
                    break;
                }
            }
        }
        self.publishing.up().await;
        self.consuming.up().await;
        let records = self.count_records().await;
        if records != self.records {
            row.fail(format!("records: {:?} before, {records:?} after", self.records));
        }
        let stories = [self.publishing.now(), self.consuming.now()];
        self.books.closing.set(true);
        for told in [&self.publishing, &self.consuming] {
            if let Err(error) = within("close", 60, told.connection.close()).await {
                row.fail(format!("close: {error}"));
            }
        }
        for consumer in std::mem::take(&mut self.consumers) {
            within("the consumers", 30, consumer).await.expect("a consumer that does not panic");
        }
        for story in &stories {
            story.faults.iter().for_each(|fault| row.fail(fault.clone()));
        }
        {
            let checker = self.books.checker.borrow();
            let (lost, one) = checker.lost();
            row.confirmed = checker.count_confirmed();
            row.lost = lost;
            row.duplicates = checker.duplicates;
            let of_publishers = stories[0].lost * (checker.publishers() * WINDOW) as u64;
            let of_consumers = stories[1].lost * self.books.consumed.len() as u64 * u64::from(PREFETCH);
            row.allowed = of_publishers + of_consumers;
            row.disordered = checker.disordered;
            if let Some(one) = one {
                row.fail(format!("{lost} confirmed messages are lost, among them {one}"));
            }
            if let Some(one) = &checker.first_disorder {
                row.fail(format!("{} first deliveries out of order: {one}", checker.disordered));
            }
        }
        row.lives = stories.iter().map(|story| story.lost).sum();
        row.blocked = stories[0].blocked;
        row.errors = self.books.errors.borrow().len() as u64;
        if let Some(error) = self.books.errors.borrow().first() {
            row.fail(format!("{} errors, the first: {error}", row.errors));
        }
        row.slowest = self.slowest;
        row.took = self.began.elapsed();
        row.growth = self.leaks.growth();
        let Self { publishing, consuming, leaks, .. } = self;
        drop((publishing, consuming));
        row.leaks = Some(leaks);
    }
}

struct Publisher {
    number: usize,
    each: u64,
    random: fastrand::Rng,
    books: Rc<Books>,
}

impl Publisher {
    async fn run(mut self, to: Exchange, key: String) {
        let mut allowed = self.books.allowed.subscribe();
        let mut confirms = VecDeque::new();
        for n in 0..self.each {
            if *allowed.borrow() <= n {
                allowed.wait_for(|allowed| *allowed > n).await.expect("the books");
            }
            match to.publish_deferred(self.body(n), &key).await {
                Ok(confirm) => confirms.push_back((n, confirm)),
                Err(error) => self.books.error(format!("publish of {n} by {}: {error}", self.number)),
            }
            while let Some((n, answer)) =
                confirms.front_mut().and_then(|(n, confirm)| Some((*n, confirm.now_or_never()?)))
            {
                self.answered(n, answer.map(drop));
                confirms.pop_front();
            }
        }
        for (n, confirm) in confirms {
            self.answered(n, confirm.await.map(drop));
        }
    }

    fn answered(&self, n: u64, answer: actix_pika::Result<()>) {
        match answer {
            Ok(()) => self.books.checker.borrow_mut().confirmed(self.number, n),
            Err(error) => self.books.error(format!("confirm of {n} of {}: {error}", self.number)),
        }
    }

    /// Who and which, and something behind it: mostly little, now and then so much that it is not copied, is more than
    /// a read, or more than is handed over at once.
    fn body(&mut self, n: u64) -> Vec<u8> {
        let padding = match self.random.u32(0..1000) {
            0 => 250_000,
            1 => 40_000,
            2..10 => 5_000,
            _ => self.random.usize(0..200),
        };
        let mut body = Vec::with_capacity(16 + padding);
        body.extend_from_slice(&(self.number as u64).to_be_bytes());
        body.extend_from_slice(&n.to_be_bytes());
        body.resize(16 + padding, n as u8);
        body
    }
}

async fn take(mut deliveries: DeliveryStream, queue: usize, books: Rc<Books>) {
    while let Some(delivery) = deliveries.next().await {
        match read(delivery.body()) {
            Some((publisher, n)) => books.checker.borrow_mut().seen(publisher, n),
            None => books.error("a body was changed on its way".into()),
        }
        match delivery.ack() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StaleDelivery => books.stale.set(books.stale.get() + 1),
            Err(error) => books.error(format!("ack: {error}")),
        }
        books.consumed[queue].send_modify(|consumed| *consumed += 1);
    }
    if !books.closing.get() {
        books.error(format!("a consumer ended: {:?}", deliveries.end()));
    }
}

fn read(body: &[u8]) -> Option<(usize, u64)> {
    let (head, padding) = body.split_at_checked(16)?;
    let publisher = u64::from_be_bytes(head[..8].try_into().ok()?);
    let n = u64::from_be_bytes(head[8..].try_into().ok()?);
    padding.iter().all(|byte| *byte == n as u8).then_some((publisher as usize, n))
}
