//! What works without any connection: made deliveries and tasks, and probes.

use std::time::Duration;

use actix::prelude::*;

use crate::{
    Delivery,
    message::{Confirmation, Publish},
    tasks::{Done, Failure, Task, Verdict},
    testing::{Probe, Settlement, TestDelivery, TestErrorKind, TestTask},
};

struct Even;

impl Actor for Even {
    type Context = Context<Self>;
}

impl Handler<Task<u32>> for Even {
    type Result = Done;

    fn handle(&mut self, number: Task<u32>, _: &mut Self::Context) -> Done {
        match (*number % 2, number.attempt()) {
            (0, _) => Ok(()),
            (_, 1) => Err(Failure::retry("odd")),
            _ => panic!("odd again"),
        }
    }
}

#[actix::test]
async fn a_task_returns_its_verdict() {
    let even = Even.start();
    assert!(TestTask::new(2).handled_by(even.clone()).await.unwrap().is_ok());
    let failure = TestTask::new(3).handled_by(even.clone()).await.unwrap().unwrap_err();
    assert_eq!(failure.verdict(), Verdict::Retry);
    let panicked = TestTask::new(3).attempt(2).handled_by(even).await.unwrap_err();
    assert_eq!(panicked.kind(), TestErrorKind::Disconnected);
}

#[actix::test]
async fn an_actor_that_publishes_by_messages_gets_an_answer() {
    let mut publishes = Probe::<Publish>::answering(|_| Ok(Confirmation::for_test(1)));
    let channel: Recipient<Publish> = publishes.recipient();
    assert!(channel.send(Publish::new("e", "k", "1")).await.unwrap().unwrap().is_confirmed());
    let publish = publishes.next().await.unwrap();
    assert_eq!((publish.exchange(), publish.routing_key()), ("e", "k"));
    assert_eq!(publish.message().body(), "1");
    assert!(publish.is_mandatory());
}

#[test]
fn a_made_delivery_is_settled_without_a_runtime() {
    let build = || TestDelivery::new("1").queue("jobs").build();
    let settled = |settle: fn(Delivery)| {
        let (delivery, probe) = build();
        settle(delivery);
        probe.now()
    };
    assert_eq!(settled(|delivery| delivery.ack().unwrap()), Some(Settlement::Acked));
    assert_eq!(settled(|delivery| delivery.ack_all().unwrap()), Some(Settlement::Acked));
    let requeued = Settlement::Nacked { requeue: true };
    assert_eq!(settled(|delivery| delivery.nack(true).unwrap()), Some(requeued));
    assert_eq!(settled(|delivery| delivery.nack_all(true).unwrap()), Some(requeued));
    let rejected = Settlement::Rejected { requeue: false };
    assert_eq!(settled(|delivery| delivery.reject(false).unwrap()), Some(rejected));
    assert_eq!(settled(drop), Some(Settlement::Dropped));
    assert_eq!(settled(|delivery| drop(delivery.split())), Some(Settlement::Dropped));
    assert_eq!(settled(|delivery| delivery.split().1.ack().unwrap()), Some(Settlement::Acked));
}

#[actix::test]
async fn a_handler_that_does_not_end_is_an_error_in_time() {
    tokio::time::pause();
    struct Slow;
    impl Actor for Slow {
        type Context = Context<Self>;
    }
    impl Handler<Task<u32>> for Slow {
        type Result = ResponseFuture<Done>;
        fn handle(&mut self, _: Task<u32>, _: &mut Self::Context) -> Self::Result {
            Box::pin(std::future::pending())
        }
    }
    let task = TestTask::new(7).time_limit(Duration::from_secs(3600));
    let error = task.handled_by(Slow.start()).await.unwrap_err();
    assert_eq!(error.kind(), TestErrorKind::TimedOut);
    assert_eq!(error.to_string(), "awaited the end of a task, but nothing came within 3600s");
}

#[actix::test]
async fn what_a_probe_waits_for_ends_in_time() {
    tokio::time::pause();
    let mut numbers = Probe::<Task<u32>>::answering(|_| panic!("no number"));
    let error = numbers.expect_none_until(std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(error.kind(), TestErrorKind::TimedOut);
    assert!(numbers.recipient().send(TestTask::new(7).build()).await.is_err());
    let error = numbers.next().await.unwrap_err();
    assert_eq!(error.kind(), TestErrorKind::Disconnected);
    assert!(error.to_string().contains("its function has panicked"), "{error}");
    assert_eq!(numbers.count().await, 1);
}
