//! Lanes: tasks of one key in order, of several side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use actix_pika::tasks::{Failure, Task};
use tokio::sync::Semaphore;

use super::{Job, Jobs, publish, reports};
use crate::support::{robust_connection::RobustConnection, until_unsettled};

/// TSK-50: the tasks of one key run in order and one at a time; those of other keys run beside them.
#[actix::test]
async fn lanes_run_side_by_side_and_in_order() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let running = Arc::new(Mutex::new(BTreeSet::new()));
    let most = Arc::new(Mutex::new(0));
    let (in_handlers, counted) = (running.clone(), most.clone());
    let handle = move |job: Task<Job>| {
        let (report, running, most) = (report.clone(), in_handlers.clone(), counted.clone());
        async move {
            {
                let mut running = running.lock().unwrap();
                assert!(running.insert(job.id % 5), "two tasks of one lane run");
                let mut most = most.lock().unwrap();
                *most = running.len().max(*most);
            }
            for _ in 0..job.id % 7 {
                tokio::task::yield_now().await;
            }
            report.send(job.id)?;
            running.lock().unwrap().remove(&(job.id % 5));
            Ok(())
        }
    };
    jobs.publish(0..200).await;
    let _consumer =
        jobs.queue.tasks::<Job>().at_once(4).lanes(|job, _| job.id % 5).for_each(handle).await.unwrap();
    let ids = reports.take(200).await;
    let mut lanes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    ids.iter().for_each(|id| lanes.entry(id % 5).or_default().push(*id));
    for (lane, ids) in &lanes {
        assert_eq!(*ids, Vec::from_iter((*lane..200).step_by(5)));
    }
    assert_eq!(*most.lock().unwrap(), 4);
    jobs.until_empty().await;
}

/// TSK-51: a task that is retried holds its lane, and no other; after its last try the lane goes on.
#[actix::test]
async fn a_retry_holds_its_lane_only() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send((job.id, job.attempt())).unwrap();
        let fails = job.id == 1 || (job.id == 11 && job.attempt() == 1);
        std::future::ready(if fails { Err(Failure::retry("busy")) } else { Ok(()) })
    };
    let tasks = jobs
        .queue
        .tasks::<Job>()
        .at_once(2)
        .lanes(|_, content| content.routing_key().len() + content.body().len() % 2);
    // Bodies of one digit are in one lane, those of two in the other.
    let _consumer = tasks.for_each(handle).await.unwrap();
    jobs.publish([1, 2, 10, 11, 12]).await;
    let runs = reports.take(9).await;
    let of = |digits: u32| runs.iter().filter(move |(id, _)| id / 10 == digits).copied().collect::<Vec<_>>();
    assert_eq!(of(0), [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]);
    assert_eq!(of(1), [(10, 1), (11, 1), (11, 2), (12, 1)]);
    assert_eq!(runs.last(), Some(&(2, 1)));
    jobs.until_empty().await;
    assert_eq!(jobs.ids("dead").await, [1]);
}

/// TSK-52: one at a time in the order of the queue, retries too.
#[actix::test]
async fn an_ordered_consumer_waits_for_its_retries() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send((job.id, job.attempt())).unwrap();
        let fails = job.id % 2 == 1 && job.attempt() == 1;
        std::future::ready(if fails { Err(Failure::retry("busy")) } else { Ok(()) })
    };
    let _consumer = jobs.queue.tasks::<Job>().at_once(8).ordered().for_each(handle).await.unwrap();
    jobs.publish(1..=4).await;
    assert_eq!(reports.take(6).await, [(1, 1), (1, 2), (2, 1), (3, 1), (3, 2), (4, 1)]);
    jobs.until_empty().await;
}

/// TSK-53: over a reconnect, lanes stay in order: a task that still runs holds its lane, what waited comes again.
#[actix::test]
async fn lanes_stay_in_order_over_a_reconnect() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let (report, mut reports) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let handlers_gate = gate.clone();
    let handle = move |job: Task<Job>| {
        let (report, gate) = (report.clone(), handlers_gate.clone());
        async move {
            report.send(job.id)?;
            if job.id < 2 {
                let _permit = gate.acquire().await?;
            }
            Ok(())
        }
    };
    publish(&channel, 0..20).await;
    let _consumer =
        queue.tasks::<Job>().at_once(3).lanes(|job, _| job.id % 2).for_each(handle).await.unwrap();
    assert_eq!(reports.take(2).await, [0, 1]);
    until_unsettled(&channel, 20).await;
    for _ in 0..3 {
        robust.cut_and_recover().await;
        until_unsettled(&channel, 20).await;
    }
    assert!(reports.is_empty());
    gate.add_permits(2);
    let ids = reports.take(18).await;
    let lane = |of: u32| ids.iter().copied().filter(|id| id % 2 == of).collect::<Vec<_>>();
    assert_eq!((lane(0), lane(1)), (Vec::from_iter((2..20).step_by(2)), Vec::from_iter((3..20).step_by(2))));
    until_unsettled(&channel, 0).await;
    assert!(reports.is_empty());
}

/// TSK-54: what waits in lanes goes back to the queue in order, and a panic in the function of a lane costs its message.
#[actix::test]
async fn lanes_give_back_in_order() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send(job.id).unwrap();
        std::future::pending()
    };
    let tasks = jobs.queue.tasks::<Job>().at_once(2).lanes(|job, _| {
        assert_ne!(job.id, 3, "the function of a lane panics in this test");
        job.id % 2
    });
    let consumer = tasks.for_each(handle).await.unwrap();
    jobs.publish(1..=10).await;
    assert_eq!(reports.take(2).await, [1, 2]);
    // All but those that run, and the one that has no lane, which waits for a permit.
    jobs.until_unsettled(10).await;
    let drained = consumer.drain(std::time::Duration::from_millis(100)).await;
    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (0, 8, 2));
    jobs.oracle.wait_for_count("jobs", 10).await;
    assert_eq!(jobs.ids("jobs").await, Vec::from_iter(1..=10));
}
