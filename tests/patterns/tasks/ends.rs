//! Consumers of tasks that others end, and channels that others close.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use actix_pika::{
    ConsumerEnd, DeclareQueue,
    events::ChannelEvent,
    message::Content,
    tasks::{Failure, Task},
};
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::{Job, Jobs, publish, reports};
use crate::support::{robust_connection::RobustConnection, until_unsettled, within};

static NEVER: Semaphore = Semaphore::const_new(0);

/// TSK-84: a consumer whose queue was deleted while tasks run is drained: what waits in lanes does not begin, and what runs
/// ends at the limit.
#[actix::test]
async fn a_drain_after_the_queue_was_deleted_ends_at_its_limit() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        let report = report.clone();
        async move {
            report.send(job.id)?;
            let _permit = NEVER.acquire().await?;
            Ok(())
        }
    };
    let mut events = jobs.channel.events();
    jobs.publish(1..=3).await;
    let consumer = jobs.queue.tasks::<Job>().lanes(|job, _| job.id).for_each(handle).await.unwrap();
    assert_eq!(reports.next().await, 1);
    jobs.until_unsettled(3).await;
    jobs.channel.queue("jobs").delete().await.unwrap();
    let lost = async { while !matches!(events.next().await.unwrap(), ChannelEvent::ConsumerLost { .. }) {} };
    within("the end of the consumer", 10, lost).await;
    let drained = within("a drain", 10, consumer.drain(Duration::from_millis(200))).await;
    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (0, 2, 1));
    assert!(matches!(consumer.end(), Some(ConsumerEnd::CancelledByBroker)), "{:?}", consumer.end());
    assert!(reports.is_empty());
}

/// TSK-85: a runner on another thread that a function of the user has kept busy over a reconnect loses none of the
/// messages that were delivered again meanwhile.
#[actix::test]
async fn a_busy_runner_keeps_what_is_delivered_again() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    publish(&channel, 1..=3).await;
    let (report, mut reports) = reports();
    let (busy, mut is_busy) = super::reports();
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let lane = move |job: &Job, content: &Content| {
        if job.id == 1 && !content.redelivered() {
            busy.send(()).unwrap();
            let _ = gate.lock().unwrap().recv_timeout(Duration::from_secs(20));
        }
        job.id
    };
    let handle = move |job: Task<Job>| {
        report.send((job.id, job.redelivered())).unwrap();
        std::future::ready(Ok(()))
    };
    let runner = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(queue.tasks::<Job>().lanes(lane).run(handle))
    });
    is_busy.next().await;
    robust.cut_and_recover().await;
    until_unsettled(&channel, 3).await;
    go.send(()).unwrap();
    assert_eq!(reports.take(3).await, [(1, false), (2, true), (3, true)]);
    until_unsettled(&channel, 0).await;
    assert!(reports.is_empty());
    robust.connection.close().await.unwrap();
    let end = within("the end", 10, actix_rt::task::spawn_blocking(|| runner.join().unwrap())).await.unwrap();
    assert!(matches!(end.unwrap(), ConsumerEnd::Closed(_)));
    let oracle = robust.oracle().await;
    assert_eq!(oracle.count("jobs").await, 0);
}

/// TSK-86: a call that closes the channel while tasks run costs no task: each runs once, and its late outcome is that of
/// the message which is delivered again.
#[actix::test]
async fn tasks_outlast_a_channel_that_is_closed_and_reopened() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    publish(&channel, 1..=6).await;
    let (report, mut reports) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let handlers_gate = gate.clone();
    let handle = move |job: Task<Job>| {
        let (report, gate) = (report.clone(), handlers_gate.clone());
        async move {
            report.send(job.id)?;
            let _permit = gate.acquire().await?;
            Ok(())
        }
    };
    let tasks = queue.tasks::<Job>().at_once(4).lanes(|job, _| job.id % 3);
    let consumer = tasks.for_each(handle).await.unwrap();
    assert_eq!(reports.take(3).await, [1, 2, 3]);
    until_unsettled(&channel, 6).await;
    let mut events = channel.events();
    let passive = DeclareQueue::new("missing").passive(true);
    assert_eq!(channel.declare_queue(passive).await.unwrap_err().code(), Some(404));
    let reopened = async { while !matches!(events.next().await.unwrap(), ChannelEvent::Reopened(_)) {} };
    within("the channel, open again", 10, reopened).await;
    until_unsettled(&channel, 6).await;
    gate.add_permits(6);
    let mut rest = reports.take(3).await;
    rest.sort_unstable();
    assert_eq!(rest, [4, 5, 6]);
    until_unsettled(&channel, 0).await;
    assert!(reports.is_empty() && consumer.end().is_none());
    drop(channel);
    robust.connection.close().await.unwrap();
    assert_eq!(robust.oracle().await.count("jobs").await, 0);
}

/// TSK-90: a consumer whose connection is closed, or whose queue is deleted, has ended, though a task has a long pause.
#[actix::test]
async fn a_pause_does_not_outlast_its_consumer() {
    for close in [true, false] {
        let jobs = Jobs::new().await;
        let (report, mut reports) = reports();
        let handle = move |job: Task<Job>| {
            report.send(job.id).unwrap();
            std::future::ready(Err(Failure::retry_in(Duration::from_secs(3600), "busy")))
        };
        jobs.publish([1, 2]).await;
        let tasks = jobs.queue.tasks::<Job>().at_once(4).lanes(|_, _| 0);
        let consumer = tasks.for_each(handle).await.unwrap();
        assert_eq!(reports.next().await, 1);
        jobs.until_unsettled(2).await;
        if close {
            jobs.connection.close().await.unwrap();
            assert!(matches!(within("the end", 10, consumer.ended()).await, ConsumerEnd::Closed(_)));
        } else {
            jobs.channel.queue("jobs").delete().await.unwrap();
            // The next one of the lane begins, and its pause cannot wait either.
            assert_eq!(reports.next().await, 2);
            assert!(matches!(within("the end", 10, consumer.ended()).await, ConsumerEnd::CancelledByBroker));
        }
        assert!(reports.is_empty());
    }
}
