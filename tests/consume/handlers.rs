//! Every kind of `Handler<Delivery>` result, and consumer tags.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use crate::support::{broker::Vhost, eventually, until_unsettled, within};
use actix::prelude::*;
use actix_pika::{Connector, Consume, DeclareQueue, Delivery, ErrorKind, testing::Probe};

/// The bodies that were handled, in order.
type Log = Arc<Mutex<Vec<Vec<u8>>>>;

fn handle(log: &Log, delivery: Delivery) {
    log.lock().unwrap().push(delivery.body().to_vec());
    delivery.ack().unwrap();
}

/// Defines an actor whose handler has the given context and result.
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

worker!(Immediate: Context<Self>, (), |this, delivery| handle(&this.0, delivery));
worker!(InFuture: Context<Self>, ResponseFuture<()>, |this, delivery| {
    let log = this.0.clone();
    Box::pin(async move {
        tokio::task::yield_now().await;
        handle(&log, delivery);
    })
});
worker!(InActorFuture: Context<Self>, ResponseActFuture<Self, ()>, |_this, delivery| {
    let wait = tokio::task::yield_now().into_actor(_this);
    Box::pin(wait.map(move |(), this, _| handle(&this.0, delivery)))
});
worker!(Atomic: Context<Self>, AtomicResponse<Self, ()>, |_this, delivery| {
    let wait = tokio::task::yield_now().into_actor(_this);
    AtomicResponse::new(Box::pin(wait.map(move |(), this: &mut Self, _| handle(&this.0, delivery))))
});
worker!(OnSyncArbiter: SyncContext<Self>, (), |this, delivery| handle(&this.0, delivery));

crate::modes! {
    /// CNS-02: handlers that return at once, that return a future, an actor future or an atomic response, and those of
    /// a `SyncArbiter` each receive every message once.
    async fn every_kind_of_handler_receives_each_message_once(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let queue = bench.channel.queue("jobs");
        let log = Log::default();
        let recipients: [(Recipient<Delivery>, bool); 5] = [
            (Immediate(log.clone()).start().recipient(), true),
            (InFuture(log.clone()).start().recipient(), false),
            (InActorFuture(log.clone()).start().recipient(), false),
            (Atomic(log.clone()).start().recipient(), true),
            (SyncArbiter::start(2, { let log = log.clone(); move || OnSyncArbiter(log.clone()) }).recipient(), false),
        ];
        let sent: Vec<_> = (0..50).map(|n| format!("{n:02}").into_bytes()).collect();
        for (at, (recipient, in_order)) in recipients.into_iter().enumerate() {
            for body in &sent {
                oracle.publish("", "jobs", body).await;
            }
            let consumer = queue.consume_with(Consume::new().prefetch(10), recipient).await.unwrap();
            let all_handled = async || (log.lock().unwrap().len() == 50).then_some(());
            eventually("all were handled", 20, all_handled).await;
            let mut handled = std::mem::take(&mut *log.lock().unwrap());
            if !in_order {
                handled.sort();
            }
            assert_eq!(handled, sent, "kind {at}");
            // Another thread may still be about to send its last ack.
            until_unsettled(&bench.channel, 0).await;
            consumer.cancel().await.unwrap();
        }
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
    }
}

/// CNS-15: generated tags are unique over channels and connections, and at most 255 bytes long with a connection name
/// of any length.
#[actix::test]
async fn generated_tags_are_unique_and_short() {
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
    let shown = shown.await.into_iter().map(|one| one.tag).collect();
    assert_eq!(tags, shown);
}

crate::modes! {
    /// CNS-15, FT-06: a given tag may have 255 bytes; a longer one is refused locally, and the channel stays open.
    async fn a_tag_may_have_255_bytes(bench: Bench) {
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
