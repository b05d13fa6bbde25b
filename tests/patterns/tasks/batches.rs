//! Tasks in batches.

use std::time::Duration;

use actix_pika::{
    ErrorKind,
    tasks::{Done, Failure, Task},
};

use super::{Job, Jobs, reports};
use crate::support::within;

const LONG: Duration = Duration::from_secs(600);

fn ids(batch: &[Task<Job>]) -> Vec<u32> {
    batch.iter().map(|job| job.id).collect()
}

/// TSK-70: a batch begins when it is full, or after its wait; each task is settled by its own outcome, or all by one.
#[actix::test]
async fn batches_are_full_or_late() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let batches = jobs.queue.tasks::<Job>().batches(4, Duration::from_secs(2));
    let handle = move |batch: Vec<Task<Job>>| {
        report.send(ids(&batch)).unwrap();
        let done = |job: &Task<Job>| if job.id == 3 { Err(Failure::reject("no")) } else { Ok(()) };
        std::future::ready(batch.iter().map(done).collect::<Vec<Done>>())
    };
    jobs.publish(1..=6).await;
    let consumer = batches.for_each(handle).await.unwrap();
    assert_eq!(reports.take(2).await, [vec![1, 2, 3, 4], vec![5, 6]]);
    jobs.until_empty().await;
    assert_eq!(jobs.ids("dead").await, [3]);
    within("a stop", 10, consumer.stop()).await;

    let (report, mut reports) = super::reports();
    let batches = jobs.queue.tasks::<Job>().batches(2, LONG);
    let handle = move |batch: Vec<Task<Job>>| {
        report.send(ids(&batch)).unwrap();
        std::future::ready(if batch[0].id == 7 { Err(Failure::reject("all")) } else { Ok(()) })
    };
    let _consumer = batches.for_each(handle).await.unwrap();
    jobs.publish(7..=10).await;
    assert_eq!(reports.take(2).await, [[7, 8], [9, 10]]);
    jobs.until_empty().await;
    let mut dead = jobs.ids("dead").await;
    dead.sort_unstable();
    assert_eq!(dead, [7, 8]);
}

/// TSK-71: a panic costs its batch only, whose tasks are tried again; so does an outcome that is missing.
#[actix::test]
async fn a_batch_that_panics_is_tried_again() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let batches = jobs.queue.tasks::<Job>().batches(2, Duration::from_secs(2));
    let handle = move |batch: Vec<Task<Job>>| {
        batch.iter().for_each(|job| report.send((job.id, job.attempt())).unwrap());
        let first = batch[0].attempt() == 1;
        assert!(!first || batch[0].id != 1, "the closure panics in this test");
        async move {
            assert!(!first || batch[0].id != 3, "the future panics in this test");
            let outcomes = if first && batch[0].id == 5 { 1 } else { batch.len() };
            (0..outcomes).map(|_| Ok(())).collect::<Vec<Done>>()
        }
    };
    jobs.publish(1..=8).await;
    let _consumer = batches.for_each(handle).await.unwrap();
    let mut runs = reports.take(13).await;
    runs.sort_unstable();
    let expected = [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
        (3, 1),
        (3, 2),
        (4, 1),
        (4, 2),
        (5, 1),
        (6, 1),
        (6, 2),
        (7, 1),
        (8, 1),
    ];
    assert_eq!(runs, expected);
    jobs.until_empty().await;
    assert!(jobs.ids("dead").await.is_empty());
}

/// TSK-72: no more batches run side by side than allowed; what is collected at a drain is handled, or given back.
#[actix::test]
async fn batches_are_limited_and_drained() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let batches = jobs.queue.tasks::<Job>().at_once(2).batches(3, Duration::from_secs(2));
    let handle = move |batch: Vec<Task<Job>>| {
        report.send(ids(&batch)).unwrap();
        std::future::pending::<Done>()
    };
    let consumer = batches.for_each(handle).await.unwrap();
    jobs.publish(1..=2).await;
    assert_eq!(reports.next().await, [1, 2]);
    jobs.publish(3..=5).await;
    assert_eq!(reports.next().await, [3, 4, 5]);
    jobs.publish(6..=9).await;
    jobs.until_unsettled(9).await;
    let drained = within("a drain", 10, consumer.drain(Duration::from_millis(400))).await;
    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (0, 4, 5));
    assert!(reports.is_empty());
    jobs.oracle.wait_for_count("jobs", 9).await;
    let ordered = jobs.queue.tasks::<Job>().ordered().batches(2, LONG);
    let error = within("a refusal", 10, ordered.run(|_| async { Done::Ok(()) })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

/// TSK-73: a batch that is not full begins when its consumer stops; what lanes hold back returns.
#[actix::test]
async fn a_batch_begins_when_its_consumer_stops() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let batches = jobs.queue.tasks::<Job>().lanes(|job, _| job.id % 3).batches(8, LONG);
    let handle = move |batch: Vec<Task<Job>>| {
        report.send(ids(&batch)).unwrap();
        std::future::ready(Done::Ok(()))
    };
    let consumer = batches.for_each(handle).await.unwrap();
    jobs.publish(1..=4).await;
    jobs.until_unsettled(4).await;
    let drained = within("a drain", 10, consumer.drain(LONG)).await;
    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (3, 1, 0));
    assert_eq!(reports.next().await, [1, 2, 3]);
    jobs.oracle.wait_for_count("jobs", 1).await;
    assert_eq!(jobs.ids("jobs").await, [4]);
}

/// TSK-74: batches that are not full begin when others have ended the consumer, and go on with what lanes held back.
#[actix::test]
async fn a_batch_begins_when_its_consumer_is_lost() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let batches = jobs.queue.tasks::<Job>().lanes(|job, _| job.id % 3).batches(8, LONG);
    let handle = move |batch: Vec<Task<Job>>| {
        report.send(ids(&batch)).unwrap();
        std::future::ready(Done::Ok(()))
    };
    let consumer = batches.for_each(handle).await.unwrap();
    jobs.publish(1..=4).await;
    jobs.until_unsettled(4).await;
    within("a delete", 10, jobs.channel.delete_queue(actix_pika::message::DeleteQueue::new("jobs")))
        .await
        .unwrap();
    assert_eq!(reports.take(2).await, [vec![1, 2, 3], vec![4]]);
    within("the end", 10, consumer.ended()).await;
}
