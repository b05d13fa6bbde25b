//! Every way in which an actor can handle a delivery, and the tags of consumers.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use crate::support::{broker::Vhost, eventually, within};
use actix::prelude::*;
use actix_pika::{Connector, Consume, DeclareQueue, Delivery, ErrorKind, testing::Probe};

/// The bodies that were handled, in order.
type Log = Arc<Mutex<Vec<Vec<u8>>>>;

fn handle(log: &Log, delivery: Delivery) {
    log.lock().unwrap().push(delivery.body().to_vec());
    delivery.ack().unwrap();
}

/// An actor whose handler has the given kind of result.
macro_rules! worker {
    ($name:ident: $context:ty, $result:ty, |$this:ident, $delivery:ident| $handle:expr) => {
        struct $name(Log);

        impl Actor for $name {
            type Context = $context;
        }

        impl Handler<Delivery> for $name {
            type Result = $result;

            fn handle(&mut self, $delivery: Delivery, _: &mut Self::Context) -> Self::Result {
                let $this = self;
                $handle
            }
        }
    };
}

worker!(AtOnce: Context<Self>, (), |this, delivery| handle(&this.0, delivery));
worker!(Later: Context<Self>, ResponseFuture<()>, |this, delivery| {
    let log = this.0.clone();
    Box::pin(async move {
        tokio::task::yield_now().await;
        handle(&log, delivery);
    })
});
worker!(LaterWithItself: Context<Self>, ResponseActFuture<Self, ()>, |_this, delivery| {
    let wait = tokio::task::yield_now().into_actor(_this);
    Box::pin(wait.map(move |(), this, _| handle(&this.0, delivery)))
});
worker!(OneByOne: Context<Self>, AtomicResponse<Self, ()>, |_this, delivery| {
    let wait = tokio::task::yield_now().into_actor(_this);
    AtomicResponse::new(Box::pin(wait.map(move |(), this: &mut Self, _| handle(&this.0, delivery))))
});
worker!(OnItsThread: SyncContext<Self>, (), |this, delivery| handle(&this.0, delivery));

crate::modes! {
    /// CNS-02: handlers that answer at once, that work in a future, that let nothing else in meanwhile, and that block a
    /// thread of their own get the same messages, each one time.
    async fn every_kind_of_handler_works_alike(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let queue = bench.channel.queue("jobs");
        let log = Log::default();
        let recipients: [(Recipient<Delivery>, bool); 5] = [
            (AtOnce(log.clone()).start().recipient(), true),
            (Later(log.clone()).start().recipient(), false),
            (LaterWithItself(log.clone()).start().recipient(), false),
            (OneByOne(log.clone()).start().recipient(), true),
            (SyncArbiter::start(2, { let log = log.clone(); move || OnItsThread(log.clone()) }).recipient(), false),
        ];
        let sent: Vec<_> = (0..50).map(|n| format!("{n:02}").into_bytes()).collect();
        for (at, (recipient, in_order)) in recipients.into_iter().enumerate() {
            for body in &sent {
                oracle.publish("", "jobs", body).await;
            }
            let consumer = queue.consume_with(Consume::new().prefetch(10), recipient).await.unwrap();
            let all = async || (log.lock().unwrap().len() == 50).then_some(());
            eventually("all were handled", 20, all).await;
            let mut handled = std::mem::take(&mut *log.lock().unwrap());
            if !in_order {
                handled.sort();
            }
            assert_eq!(handled, sent, "kind {at}");
            // The last ack of another thread may be a moment behind the log.
            eventually("all is settled", 5, async || (bench.channel.load().unsettled == 0).then_some(())).await;
            consumer.cancel().await.unwrap();
        }
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
    }
}

/// CNS-15: tags that the library makes are told apart over channels and connections, and no name of a program makes
/// them too long.
#[actix::test]
async fn tags_are_unique_and_short_whatever_the_name() {
    let vhost = Vhost::fresh().await;
    let probe = Probe::<Delivery>::start();
    let mut tags = BTreeSet::new();
    let mut connections = Vec::new();
    for length in [249, 256, 1024] {
        let connector = Connector::new(&vhost.url()).unwrap().name("n".repeat(length));
        let connection = within("connect", 10, connector.connect()).await.unwrap();
        for _ in 0..2 {
            let channel = connection.channel().await.unwrap();
            let queue = channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
            for _ in 0..50 {
                let consumer = queue.consume(probe.recipient()).await.unwrap();
                assert!((1..=255).contains(&consumer.tag().len()), "{}", consumer.tag());
                assert!(tags.insert(consumer.tag().to_owned()), "{} twice", consumer.tag());
            }
            connections.push((connection.clone(), channel));
        }
    }
    assert_eq!(tags.len(), 300);
    let shown = eventually("the broker shows them", 10, async || {
        let consumers = vhost.consumers("jobs").await;
        (consumers.len() == 300).then_some(consumers)
    });
    let shown = shown.await.iter().map(|one| one["consumer_tag"].as_str().unwrap().to_owned()).collect();
    assert_eq!(tags, shown);
}

crate::modes! {
    /// CNS-15, FT-06: a tag of one's own has 255 bytes at most; a longer one is refused here, and costs nothing.
    async fn a_tag_has_255_bytes_at_most(bench: Bench) {
        let oracle = bench.fill_queue("jobs", ["one".to_owned()]).await;
        let mut probe = Probe::<Delivery>::start();
        let queue = bench.channel.queue("jobs");
        let error = queue.consume_with(Consume::new().tag("t".repeat(256)), probe.recipient()).await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason()), (ErrorKind::Limit, None));
        assert_eq!(oracle.queue_counts("jobs").await, Some((1, 0)));
        let consumer = queue.consume_with(Consume::new().tag("t".repeat(255)), probe.recipient()).await.unwrap();
        assert_eq!(consumer.tag(), "t".repeat(255));
        let delivery = probe.next().await.unwrap();
        assert_eq!(delivery.consumer_tag(), consumer.tag());
        delivery.ack().unwrap();
        consumer.cancel().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
    }
}
