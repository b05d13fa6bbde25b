//! Consumers that have ended though the application wants them: the health names them until it gives them up.

use actix::prelude::*;
use actix_pika::{
    Channel, Consume, Consumer, Delivery, ErrorKind, Queue,
    events::{Degradation, EntityKind, Health},
};

use crate::support::{eventually, robust_connection::RobustConnection, within};

/// Acknowledges each delivery; stops or panics when a message asks for it.
struct Worker;

impl Actor for Worker {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Worker {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Delivery> for Worker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, ctx: &mut Self::Context) {
        match delivery.body() {
            b"stop" => ctx.stop(),
            b"panic" => panic!("on purpose"),
            _ => {}
        }
        delivery.ack().unwrap();
    }
}

/// Returns the tag of a missing consumer and the kind of its error.
fn missing(health: &Health) -> Option<(String, ErrorKind)> {
    let Health::Degraded(reasons) = health else { return None };
    reasons.iter().find_map(|reason| match reason {
        Degradation::Missing(missing) if missing.kind == EntityKind::Consumer => {
            Some((missing.name.clone(), missing.error.kind()))
        }
        _ => None,
    })
}

struct Test {
    robust: RobustConnection,
    channel: Channel,
    queue: Queue,
}

impl Test {
    async fn start() -> Self {
        let robust = RobustConnection::connect().await;
        let channel = robust.channel().await;
        let queue = channel.declare_queue("jobs").await.unwrap();
        Self { robust, channel, queue }
    }

    async fn consume(&self) -> Consumer {
        self.queue.consume_with(Consume::new().tag("worker"), Worker.start()).await.unwrap()
    }

    /// Publishes a message and waits until the health names the consumer.
    async fn lose_consumer(&mut self, body: &'static str) {
        within("a publish", 10, self.channel.default_exchange().publish(body, "jobs")).await.unwrap();
        self.wait_until_missing().await;
    }

    async fn wait_until_missing(&mut self) {
        self.robust.wait_for_health(|health| missing(health).is_some()).await;
        let health = self.robust.connection.health().await.unwrap();
        assert_eq!(missing(&health), Some(("worker".to_owned(), ErrorKind::Stopped)));
    }

    async fn wait_until_up(&mut self) {
        self.robust.wait_for_health(Health::is_up).await;
    }
}

/// REC-44: until its handle is used to cancel it.
#[actix::test]
async fn a_consumer_whose_actor_stops_is_missing_until_it_is_cancelled() {
    let mut test = Test::start().await;
    let consumer = test.consume().await;
    test.lose_consumer("stop").await;
    consumer.ended().await;
    within("the cancel", 10, consumer.cancel()).await.unwrap();
    test.wait_until_up().await;
}

/// REC-44: until another one with its tag starts.
#[actix::test]
async fn a_consumer_whose_actor_panics_is_missing_until_it_is_replaced() {
    let mut test = Test::start().await;
    let consumer = test.consume().await;
    test.lose_consumer("panic").await;
    consumer.ended().await;
    // The message has failed once, and another failure would make it wait.
    test.queue.purge().await.unwrap();
    test.consume().await;
    test.wait_until_up().await;
}

/// REC-44: over a reconnect, and until its channel is closed.
#[actix::test]
async fn a_missing_consumer_stays_missing_over_a_reconnect() {
    let mut test = Test::start().await;
    test.consume().await;
    test.lose_consumer("stop").await;
    test.robust.disconnect().await;
    test.robust.proxy.accept_new().await;
    let skipped = test.robust.wait_for_recovery().await;
    assert!(skipped.iter().any(|skipped| skipped.kind == EntityKind::Consumer), "{skipped:?}");
    test.wait_until_missing().await;
    // A change of the topology does not make it wanted less.
    test.channel.declare_queue("others").await.unwrap();
    test.wait_until_missing().await;
    test.channel.close().await.unwrap();
    test.wait_until_up().await;
}

/// REC-44: until it is forgotten.
#[actix::test]
async fn a_missing_consumer_can_be_forgotten() {
    let mut test = Test::start().await;
    test.consume().await;
    test.lose_consumer("stop").await;
    assert!(test.robust.connection.forget(EntityKind::Consumer, "worker").await.unwrap());
    test.wait_until_up().await;
    test.robust.cut_and_recover().await;
    assert!(test.robust.connection.health().await.unwrap().is_up());
}

/// REC-44: the arbiter of the consumer and its actor ends.
#[actix::test]
async fn a_consumer_whose_arbiter_ends_is_missing() {
    let mut test = Test::start().await;
    let arbiter = Arbiter::new();
    let queue = test.queue.clone();
    let (sender, mut consumed) = tokio::sync::mpsc::unbounded_channel();
    arbiter.spawn(async move {
        let consumer = queue.consume_with(Consume::new().tag("worker"), Worker.start()).await;
        sender.send(consumer.map(drop)).unwrap();
    });
    within("the consume", 10, consumed.recv()).await.unwrap().unwrap();
    arbiter.stop();
    arbiter.join().unwrap();
    test.wait_until_missing().await;
}

/// REC-44: a supervised worker that panics is replaced and not missing, unless its factory panics.
#[actix::test]
async fn a_supervised_consumer_is_missing_when_its_factory_panics() {
    let mut test = Test::start().await;
    let mut workers = 0;
    let factory = move || {
        workers += 1;
        assert!(workers < 3, "no more workers");
        Worker
    };
    test.queue.consume_supervised(Consume::new().tag("worker"), factory).await.unwrap();
    let exchange = test.channel.default_exchange();
    exchange.publish("stop", "jobs").await.unwrap();
    // The second worker takes it.
    exchange.publish("work", "jobs").await.unwrap();
    test.robust.oracle().await.wait_for_count("jobs", 0).await;
    eventually("the second worker", 10, async || (test.channel.load().unsettled == 0).then_some(())).await;
    assert!(test.robust.connection.health().await.unwrap().is_up());
    test.lose_consumer("stop").await;
}

/// REC-44: also for an actor that has stopped before the consumer starts.
#[actix::test]
async fn a_consumer_whose_actor_has_stopped_before_is_missing() {
    let mut test = Test::start().await;
    let worker = Worker.start();
    worker.send(Stop).await.unwrap();
    let consumer = test.queue.consume_with(Consume::new().tag("worker"), worker).await.unwrap();
    test.wait_until_missing().await;
    test.robust.disconnect().await;
    test.robust.proxy.accept_new().await;
    test.robust.wait_for_recovery().await;
    test.wait_until_missing().await;
    within("the cancel", 10, consumer.cancel()).await.unwrap();
    test.wait_until_up().await;
}

/// REC-44: the application gives up a stream when it drops it.
#[actix::test]
async fn a_dropped_stream_is_not_missing() {
    let test = Test::start().await;
    let deliveries = test.queue.deliveries_with(Consume::new().tag("worker")).await.unwrap();
    drop(deliveries);
    eventually("the cancel", 10, async || (test.robust.records().await.consumers == 0).then_some(())).await;
    assert!(test.robust.connection.health().await.unwrap().is_up());
}
