//! The number of allocations for a typed publish and for a task, without hooks and with one. One test only, because they
//! are counted for the whole process.

#![allow(missing_docs, unreachable_pub, dead_code)]

use std::{
    alloc::System,
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use actix_pika::{
    Channel, Connection, Connector, Consume, ConsumerEnd, Result,
    hook::Hook,
    message::Confirmation,
    publisher::{PublishValueFuture, Publisher},
    tasks::Task,
    testing::{
        HandshakeScript, MemoryPeer, PeerMessage, PeerSocket, RawFrame,
        protocol::{BasicProperties, basic, confirm},
    },
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BURST: u64 = 400;
const TAG: &str = "ctag";

#[derive(serde::Serialize, serde::Deserialize)]
struct Job {
    id: u32,
}

/// A client and the peer that it is connected to, on one thread.
struct Bench {
    socket: PeerSocket,
    channel: Channel,
    connection: Connection,
    published: u64,
    delivered: u64,
}

impl Bench {
    async fn open(hooks: impl FnOnce(Connector) -> Connector) -> Self {
        let mut peer = MemoryPeer::new().buffer(1 << 20);
        let connect = hooks(Connector::host("memory", 0).memory(peer.dialer())).connect();
        let serve = async {
            let mut socket = peer.accept().await.unwrap();
            socket.handshake_with(&HandshakeScript::new()).await.unwrap();
            socket
        };
        let (connection, mut socket) = tokio::join!(connect, serve);
        let connection = connection.unwrap();
        let serve = async {
            socket.open_channel(1).await.unwrap();
            socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
        };
        let (channel, ()) = tokio::join!(connection.channel(), serve);
        Self { socket, channel: channel.unwrap(), connection, published: 0, delivered: 0 }
    }

    /// Publishes a burst, and has it confirmed. `publish` is what is counted.
    async fn publish(
        &mut self,
        publisher: &Publisher<Job>,
        publish: impl FnOnce(&Publisher<Job>, &mut Vec<PublishValueFuture>),
    ) {
        let mut futures = Vec::with_capacity(BURST as usize);
        publish(publisher, &mut futures);
        for _ in 0..BURST {
            self.socket.expect_publish(1).await.unwrap();
        }
        self.published += BURST;
        let ack = basic::Ack { delivery_tag: self.published, multiple: true };
        self.socket.send(1, ack).await.unwrap();
        for future in futures {
            assert!(future.await.unwrap().is_confirmed());
        }
    }

    /// Starts a consumer of tasks, and returns how many it has handled.
    async fn consume(
        &mut self,
        wrap: impl FnOnce(Runner) -> Pin<Box<dyn Future<Output = ()>>>,
    ) -> Arc<AtomicU64> {
        let handled = Arc::new(AtomicU64::new(0));
        let count = handled.clone();
        let tasks = self
            .channel
            .queue("jobs")
            .tasks::<Job>()
            .at_once(4)
            .prefetch(1_000)
            .consume(Consume::new().tag(TAG));
        let run = tasks.run(move |job: Task<Job>| {
            let count = count.clone();
            async move {
                count.fetch_add(u64::from(job.id > 0), Relaxed);
                Ok(())
            }
        });
        actix_rt::spawn(wrap(Box::pin(run)));
        self.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
        let consume_ok = |_: basic::Consume| basic::ConsumeOk { consumer_tag: TAG.into() };
        self.socket.answer(1, consume_ok).await.unwrap();
        handled
    }

    /// Delivers a burst. `count` gets what is done until all of it is handled.
    async fn deliver(&mut self, handled: &AtomicU64, count: impl FnOnce() -> Box<dyn FnOnce()>) {
        let properties =
            BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
        let first = self.delivered + 1;
        self.delivered += BURST;
        let delivery = |delivery_tag| {
            let names = basic::Deliver { consumer_tag: TAG.into(), delivery_tag, ..Default::default() };
            let content = PeerMessage::from(r#"{"id":7}"#).properties(&properties);
            std::iter::once(RawFrame::method(1, names)).chain(content.frames(1, 4096))
        };
        let frames: Vec<RawFrame> = (first..=self.delivered).flat_map(delivery).collect();
        self.socket.send_frames(&frames).await.unwrap();
        let done = count();
        while handled.load(Relaxed) < self.delivered {
            tokio::task::yield_now().await;
        }
        done();
        while self.socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag < self.delivered {}
    }
}

type Runner = Pin<Box<dyn Future<Output = Result<ConsumerEnd>>>>;

/// Publishes a value as far as that goes without the broker.
fn publish(publisher: &Publisher<Job>, futures: &mut Vec<PublishValueFuture>) {
    let mut future = publisher.publish(&Job { id: 7 });
    let polled: Poll<Result<Confirmation>> =
        Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    futures.push(future);
}

/// Returns the allocations of a publish and of a task, reallocations included; the least of some bursts, because buffers
/// grow.
async fn allocations(hooks: impl FnOnce(Connector) -> Connector) -> (f64, f64) {
    let mut bench = Bench::open(hooks).await;
    let publisher = bench.channel.default_exchange().publisher::<Job>().key("jobs");
    let (mut publishing, mut handling) = (usize::MAX, usize::MAX);
    for _ in 0..5 {
        let counted = |publisher: &Publisher<Job>, futures: &mut Vec<_>| {
            let region = Region::new(ALLOCATOR);
            (0..BURST).for_each(|_| publish(publisher, futures));
            publishing = publishing.min(count(&region));
        };
        bench.publish(&publisher, counted).await;
    }
    let handled = bench.consume(|run| Box::pin(async move { drop(run.await) })).await;
    let least = Rc::new(Cell::new(usize::MAX));
    for _ in 0..10 {
        let found = least.clone();
        let region = || -> Box<dyn FnOnce()> {
            let region = Region::new(ALLOCATOR);
            Box::new(move || found.set(found.get().min(count(&region))))
        };
        bench.deliver(&handled, region).await;
    }
    handling = handling.min(least.get());
    drop(bench.connection);
    (publishing as f64 / BURST as f64, handling as f64 / BURST as f64)
}

fn count(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.allocations + change.reallocations
}

/// A hook that does nothing, but is there.
struct Idle;

impl Hook for Idle {}

/// HOK-40: without a hook, a publish and a task have the allocations that they had before there were hooks, also with all
/// features on. Of a part of one each, buffers that grow are the cause.
#[actix::test]
async fn nothing_is_allocated_for_hooks_that_are_not_set() {
    let (publishing, handling) = allocations(|connector| connector).await;
    assert!((4.0..4.1).contains(&publishing), "{publishing} for a publish");
    assert!((7.0..7.2).contains(&handling), "{handling} for a task");
    // What is counted is what a hook costs, too.
    let (publishing, handling) = allocations(|connector| connector.hook(Idle)).await;
    assert!((7.0..7.1).contains(&publishing), "{publishing} for a publish with a hook");
    assert!((12.0..12.2).contains(&handling), "{handling} for a task with a hook");
}
