//! What handlers return, and what becomes of the messages.

use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_pika::{
    ConsumerEnd, DeclareQueue, ErrorKind, Publishing,
    codec::Raw,
    tasks::{Done, Failure, OrReject, Task, Undecodable},
};
use bytes::Bytes;

use super::{Job, Jobs, reports};
use crate::support::within;

/// TSK-01: `Ok` acknowledges, a rejection dead-letters, a requeue returns the message to its queue.
#[actix::test]
async fn what_a_handler_returns_settles_the_message() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send((job.id, job.redelivered(), job.attempt())).unwrap();
        std::future::ready(match (job.id, job.redelivered()) {
            (2, _) => Err(Failure::reject("no such customer")),
            (3, _) => "x".parse::<u32>().or_reject().map(|_| ()),
            (4, false) => Err(Failure::requeue("another one")),
            _ => Ok(()),
        })
    };
    let consumer = jobs.queue.for_each(1, handle).await.unwrap();
    jobs.publish(1..=4).await;
    let runs = reports.take(5).await;
    assert_eq!(runs, [(1, false, 1), (2, false, 1), (3, false, 1), (4, false, 1), (4, true, 1)]);
    jobs.until_empty().await;
    let report = within("a drain", 10, consumer.drain(Duration::from_secs(5))).await;
    assert_eq!((report.finished, report.given_back, report.abandoned), (0, 0, 0));
    assert!(matches!(consumer.ended().await, ConsumerEnd::Cancelled));
    assert_eq!(jobs.ids("dead").await, [2, 3]);
    assert!(jobs.ids("jobs").await.is_empty());
}

/// TSK-02: an error is tried again in place, three times, with the number of the attempt; then the message is dead-lettered.
#[actix::test]
async fn an_error_is_tried_again_in_place() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send((job.id, job.attempt(), job.redelivered(), Instant::now())).unwrap();
        let fails = job.id == 1 || job.attempt() == 1;
        async move { if fails { Err(std::io::Error::other("busy"))? } else { Ok(()) } }
    };
    let _consumer = jobs.queue.for_each(2, handle).await.unwrap();
    jobs.publish(1..=2).await;
    let mut runs = reports.take(6).await;
    runs.sort_by_key(|run| (run.0, run.1));
    let numbers: Vec<(u32, u32, bool)> = runs.iter().map(|run| (run.0, run.1, run.2)).collect();
    assert_eq!(
        numbers,
        [(1, 1, false), (1, 2, false), (1, 3, false), (1, 4, false), (2, 1, false), (2, 2, false)]
    );
    for (run, least) in [(1, 160), (2, 800), (3, 4000)] {
        assert!(runs[run].3 - runs[run - 1].3 >= Duration::from_millis(least));
    }
    jobs.until_empty().await;
    assert_eq!(jobs.ids("dead").await, [1]);
}

/// TSK-03: a task that returns to its queue for the lack of a dead-letter exchange is held before, and counted by a quorum
/// queue.
#[actix::test]
async fn without_dead_letters_a_failed_message_returns_to_its_queue() {
    let jobs = Jobs::of(DeclareQueue::new("jobs").quorum()).await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send((job.attempt(), job.content().delivery_count().unwrap_or_default())).unwrap();
        let done = job.redelivered();
        async move { if done { Ok(()) } else { Err(Failure::retry("busy")) } }
    };
    let _consumer = jobs.queue.for_each(1, handle).await.unwrap();
    jobs.publish([1]).await;
    assert_eq!(reports.take(5).await, [(1, 0), (2, 0), (3, 0), (4, 0), (1, 1)]);
    jobs.until_empty().await;
}

/// TSK-04: a failure may ask for a longer pause.
#[actix::test]
async fn a_retry_waits_as_long_as_its_failure_asks() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send(Instant::now()).unwrap();
        let first = job.attempt() == 1;
        async move { if first { Err(Failure::retry_in(Duration::from_millis(1500), "429")) } else { Ok(()) } }
    };
    let _consumer = jobs.queue.for_each(1, handle).await.unwrap();
    jobs.publish([1]).await;
    let runs = reports.take(2).await;
    assert!(runs[1] - runs[0] >= Duration::from_millis(1500));
    jobs.until_empty().await;
}

/// TSK-05: messages that cannot be decoded are dead-lettered or dropped, and none is delivered again.
#[actix::test]
async fn undecodable_messages_go_by_their_policy() {
    for (policy, dead) in [(Undecodable::DeadLetter, 3), (Undecodable::Drop, 0)] {
        let jobs = Jobs::new().await;
        let (report, mut reports) = reports();
        let tasks = jobs.queue.tasks::<Job>().undecodable(policy);
        let handle = move |job: Task<Job>| std::future::ready(report.send(job.id).map_err(Failure::retry));
        let _consumer = tasks.for_each(handle).await.unwrap();
        let exchange = jobs.channel.default_exchange();
        let wrong = [
            Publishing::new("{").content_type("application/json"),
            Publishing::new("{\"id\":1}").content_type("text/plain"),
            Publishing::new(""),
            Publishing::new("{\"id\":7}"),
        ];
        for message in wrong {
            exchange.publish(message, "jobs").await.unwrap();
        }
        jobs.publish([8]).await;
        assert_eq!(reports.take(2).await, [7, 8]);
        jobs.until_empty().await;
        let bodies = jobs.oracle.drain_bodies("dead").await;
        assert_eq!(bodies.len(), dead);
    }
}

/// TSK-06: a codec that panics makes its message undecodable, and no other.
#[actix::test]
async fn a_codec_that_panics_costs_one_message() {
    struct Panicking;

    impl actix_pika::codec::Codec<Bytes> for Panicking {
        fn content_type(&self) -> &str {
            "application/octet-stream"
        }

        fn encode(&self, value: &Bytes) -> actix_pika::Result<Bytes> {
            Ok(value.clone())
        }

        fn decode(&self, content: &actix_pika::message::Content) -> actix_pika::Result<Bytes> {
            assert_ne!(content.body(), b"bad", "this test panics");
            Ok(content.body_bytes())
        }
    }

    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle =
        move |job: Task<Bytes>| std::future::ready(report.send((*job).clone()).map_err(Failure::retry));
    let _consumer = jobs.queue.tasks::<Bytes>().codec(Panicking).for_each(handle).await.unwrap();
    for body in ["bad", "good"] {
        jobs.channel.default_exchange().publish(body, "jobs").await.unwrap();
    }
    assert_eq!(reports.next().await, "good");
    jobs.until_empty().await;
    assert_eq!(jobs.oracle.drain_bodies("dead").await, [b"bad"]);
}

/// TSK-07: a handler that takes too long has failed: the future of a closure is dropped, that of an actor goes on.
#[actix::test]
async fn a_handler_that_takes_too_long_has_failed() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let tasks = jobs.queue.tasks::<Job>().timeout(Duration::from_millis(100));
    let handle = move |job: Task<Job>| {
        let report = report.clone();
        async move {
            report.send(job.attempt()).unwrap();
            if job.attempt() == 1 { std::future::pending().await } else { Ok(()) }
        }
    };
    let consumer = tasks.for_each(handle).await.unwrap();
    jobs.publish([1]).await;
    assert_eq!(reports.take(2).await, [1, 2]);
    jobs.until_empty().await;
    consumer.stop().await;

    struct Slow(tokio::sync::mpsc::UnboundedSender<(u32, &'static str)>);

    impl Actor for Slow {
        type Context = Context<Self>;
    }

    impl Handler<Task<Job>> for Slow {
        type Result = ResponseFuture<Done>;

        fn handle(&mut self, job: Task<Job>, _: &mut Context<Self>) -> Self::Result {
            let report = self.0.clone();
            Box::pin(async move {
                report.send((job.attempt(), "begins")).unwrap();
                if job.attempt() == 1 {
                    tokio::time::sleep(Duration::from_millis(400)).await;
                }
                report.send((job.attempt(), "ends")).unwrap();
                Ok(())
            })
        }
    }

    let (report, mut reports) = super::reports();
    let tasks = jobs.queue.tasks::<Job>().timeout(Duration::from_millis(100));
    let _consumer = tasks.to(Slow(report).start()).await.unwrap();
    jobs.publish([2]).await;
    assert_eq!(reports.take(4).await, [(1, "begins"), (1, "ends"), (2, "begins"), (2, "ends")]);
    jobs.until_empty().await;
}

/// TSK-08: `run` lives in the task of its caller, also on a multi-threaded runtime without an arbiter, where `for_each` is
/// refused.
#[test]
fn tasks_run_without_an_arbiter() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let jobs = Jobs::new().await;
        let error = jobs.queue.for_each(1, async |_: Task<Job>| Ok(())).await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason()), (ErrorKind::Refused, None));
        let (report, mut reports) = reports();
        let tasks = jobs.queue.tasks::<Bytes>().codec(Raw).at_once(4);
        let running = tokio::spawn(tasks.run(move |job: Task<Bytes>| {
            let report = report.clone();
            async move { Ok(report.send(job.len())?) }
        }));
        jobs.publish(1..=9).await;
        assert_eq!(reports.take(9).await, [8; 9]);
        jobs.until_empty().await;
        jobs.queue.delete().await.unwrap();
        let end = within("the end", 10, running).await.unwrap().unwrap();
        assert!(matches!(end, ConsumerEnd::CancelledByBroker), "{end:?}");
    });
}
