//! Stop, drain and drop: what was not begun returns to the queue, in order.

use std::{future::pending, time::Duration};

use actix_pika::tasks::Task;
use tokio::sync::Semaphore;

use super::{Job, Jobs, reports};
use crate::support::{eventually, within};

static NEVER: Semaphore = Semaphore::const_new(0);

/// TSK-10: dropping the future of `run` returns all messages to the queue, in order, those that were handled too.
#[actix::test]
async fn a_runner_that_is_dropped_gives_all_back() {
    let jobs = Jobs::new().await;
    jobs.publish(1..=20).await;
    let (report, mut reports) = reports();
    let tasks = jobs.queue.tasks::<Job>().at_once(4);
    let running = actix_rt::spawn(tasks.run(move |job: Task<Job>| {
        report.send(job.id).unwrap();
        pending()
    }));
    assert_eq!(reports.take(4).await, [1, 2, 3, 4]);
    jobs.until_unsettled(16).await;
    running.abort();
    jobs.oracle.wait_for_count("jobs", 20).await;
    assert_eq!(jobs.ids("jobs").await, Vec::from_iter(1..=20));
    assert!(reports.is_empty());
}

/// TSK-11: a drain gives back what has not begun, and waits for what has.
#[actix::test]
async fn a_drain_waits_for_what_has_begun() {
    let jobs = Jobs::new().await;
    jobs.publish(1..=20).await;
    let (report, mut reports) = reports();
    let go = std::sync::Arc::new(Semaphore::new(0));
    let gate = go.clone();
    let handle = move |job: Task<Job>| {
        let (report, gate) = (report.clone(), gate.clone());
        async move {
            report.send(job.id)?;
            let _permit = gate.acquire().await?;
            Ok(())
        }
    };
    let consumer = jobs.queue.for_each(4, handle).await.unwrap();
    assert_eq!(reports.take(4).await, [1, 2, 3, 4]);
    jobs.until_unsettled(16).await;
    within("a stop", 10, consumer.stop()).await;
    assert!(consumer.end().is_none());
    jobs.oracle.wait_for_count("jobs", 16).await;
    let drain = actix_rt::spawn({
        let consumer = consumer.clone();
        async move { consumer.drain(Duration::from_secs(10)).await }
    });
    go.add_permits(4);
    let drained = within("a drain", 10, drain).await.unwrap();
    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (4, 12, 0));
    assert_eq!(jobs.ids("jobs").await, Vec::from_iter(5..=20));
    assert!(reports.is_empty());
}

/// TSK-12: at its limit, a drain gives back what still runs; a quorum queue does not count that as a delivery failed.
#[actix::test]
async fn a_drain_gives_back_what_does_not_end() {
    let jobs = Jobs::new().await;
    jobs.publish(1..=6).await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        let report = report.clone();
        async move {
            report.send(job.id)?;
            if job.id > 1 {
                let _permit = NEVER.acquire().await?;
            }
            Ok(())
        }
    };
    let consumer = jobs.queue.for_each(2, handle).await.unwrap();
    assert_eq!(reports.take(3).await, [1, 2, 3]);
    jobs.until_unsettled(5).await;
    let drained = within("a drain", 10, consumer.drain(Duration::from_millis(300))).await;
    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (0, 3, 2));
    jobs.oracle.wait_for_count("jobs", 5).await;
    assert_eq!(jobs.ids("jobs").await, [2, 3, 4, 5, 6]);
    let again = within("a second drain", 5, consumer.drain(Duration::ZERO)).await;
    assert_eq!(again, drained);
}

/// TSK-13: what waits for another try returns to the queue at a drain.
#[actix::test]
async fn a_drain_does_not_wait_for_another_try() {
    let jobs = Jobs::new().await;
    jobs.publish([1]).await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send(job.id).unwrap();
        async { Err(actix_pika::tasks::Failure::retry_in(Duration::from_secs(3600), "busy")) }
    };
    let consumer = jobs.queue.for_each(1, handle).await.unwrap();
    assert_eq!(reports.next().await, 1);
    let drained = within("a drain", 10, consumer.drain(Duration::from_secs(60))).await;
    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (0, 1, 0));
    eventually("the message", 10, async || (jobs.oracle.count("jobs").await == 1).then_some(())).await;
}
