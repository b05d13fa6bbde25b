//! Tasks over a reconnect: no task runs beside its copy, and outcomes that came too late are remembered.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix_pika::tasks::{Failure, Task};
use tokio::sync::Semaphore;

use super::{Job, publish, reports};
use crate::support::{eventually, proxy::Cut, robust_connection::RobustConnection};

/// TSK-20: a handler that runs while the connection is lost ends; the copy of its message waits for that, gets its
/// outcome, and does not run.
#[actix::test]
async fn a_copy_waits_for_its_original_and_gets_its_outcome() {
    for at_once in [1, 4] {
        let mut robust = RobustConnection::connect().await;
        let channel = robust.channel().await;
        let queue = channel.declare_queue("jobs").await.unwrap();
        publish(&channel, 1..=3).await;
        let (report, mut reports) = reports();
        let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (handlers_gate, handlers_running) = (gate.clone(), running.clone());
        let handle = move |job: Task<Job>| {
            let (report, gate, running) = (report.clone(), handlers_gate.clone(), handlers_running.clone());
            async move {
                running.fetch_add(1, Ordering::Relaxed);
                report.send((job.id, job.redelivered()))?;
                if job.id == 1 {
                    let _permit = gate.acquire().await?;
                }
                running.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            }
        };
        let _consumer = queue.for_each(at_once, handle).await.unwrap();
        assert_eq!(reports.next().await, (1, false));
        if at_once == 4 {
            assert_eq!(reports.take(2).await, [(2, false), (3, false)]);
            // Acknowledged before the connection is lost.
            crate::support::until_unsettled(&channel, 1).await;
            robust.oracle().await.wait_for_count("jobs", 0).await;
        }
        robust.cut_and_recover().await;
        // The copy has arrived, and waits.
        crate::support::until_unsettled(&channel, if at_once == 4 { 1 } else { 3 }).await;
        publish(&channel, [4]).await;
        if at_once == 4 {
            assert_eq!(reports.next().await, (4, false));
        }
        assert_eq!(running.load(Ordering::Relaxed), 1);
        gate.add_permits(1);
        if at_once == 1 {
            assert_eq!(reports.take(3).await, [(2, true), (3, true), (4, false)]);
        }
        crate::support::until_unsettled(&channel, 0).await;
        assert!(reports.is_empty());
        drop(channel);
        robust.connection.close().await.unwrap();
        assert_eq!(robust.oracle().await.count("jobs").await, 0);
    }
}

/// TSK-21: a message without an id runs again after the connection was lost, and not beside its original.
#[actix::test]
async fn without_an_id_the_copy_runs_after_its_original() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    channel.default_exchange().publish("{\"id\":1}", "jobs").await.unwrap();
    let (report, mut reports) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let handlers_gate = gate.clone();
    let handle = move |job: Task<Job>| {
        let (report, gate) = (report.clone(), handlers_gate.clone());
        async move {
            report.send((job.redelivered(), "begins"))?;
            let _permit = gate.acquire().await?;
            report.send((job.redelivered(), "ends"))?;
            Ok(())
        }
    };
    let _consumer = queue.for_each(4, handle).await.unwrap();
    assert_eq!(reports.next().await, (false, "begins"));
    robust.cut_and_recover().await;
    crate::support::until_unsettled(&channel, 1).await;
    gate.add_permits(1);
    let runs = reports.take(3).await;
    assert_eq!(runs, [(false, "ends"), (true, "begins"), (true, "ends")]);
    crate::support::until_unsettled(&channel, 0).await;
    assert!(reports.is_empty());
}

/// TSK-22: a failure that came too late is not remembered: the copy is the next try. A rejection is.
#[actix::test]
async fn a_late_failure_runs_again_and_a_late_rejection_does_not() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_queue("dead").await.unwrap();
    let declare =
        actix_pika::DeclareQueue::new("jobs").dead_letter_exchange("").dead_letter_routing_key("dead");
    let queue = channel.declare_queue(declare).await.unwrap();
    publish(&channel, 1..=2).await;
    let (report, mut reports) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let handlers_gate = gate.clone();
    let handle = move |job: Task<Job>| {
        let (report, gate) = (report.clone(), handlers_gate.clone());
        async move {
            report.send((job.id, job.redelivered()))?;
            if job.redelivered() {
                return Ok(());
            }
            let _permit = gate.acquire().await?;
            Err(if job.id == 1 { Failure::retry("busy") } else { Failure::reject("never") })
        }
    };
    let _consumer = queue.for_each(2, handle).await.unwrap();
    assert_eq!(reports.take(2).await, [(1, false), (2, false)]);
    robust.cut_and_recover().await;
    crate::support::until_unsettled(&channel, 2).await;
    gate.add_permits(2);
    assert_eq!(reports.next().await, (1, true));
    crate::support::until_unsettled(&channel, 0).await;
    let oracle = robust.oracle().await;
    oracle.wait_for_count("dead", 1).await;
    assert_eq!(oracle.drain_bodies("dead").await, [b"{\"id\":2}"]);
    assert!(reports.is_empty());
}

/// TSK-23: with cuts in the middle of handlers, no message runs beside its copy, none is lost, and the queue is empty at the
/// end.
#[actix::test]
async fn cuts_in_the_middle_of_handlers_lose_nothing() {
    for lanes in [false, true] {
        // Over TLS, RabbitMQ 4.3 may notice a reset only by a heartbeat that does not come, and holds the messages until then.
        let heartbeat = std::time::Duration::from_secs(2);
        let robust = RobustConnection::connect_with(|connector| connector.heartbeat(heartbeat)).await;
        let channel = robust.channel().await;
        let queue = channel.declare_queue("jobs").await.unwrap();
        publish(&channel, 0..300).await;
        let (report, mut reports) = reports();
        let running = Arc::new(Mutex::new(BTreeSet::new()));
        let in_handlers = running.clone();
        let handle = move |job: Task<Job>| {
            let (report, running) = (report.clone(), in_handlers.clone());
            async move {
                assert!(running.lock().unwrap().insert(job.id), "{} runs beside its copy", job.id);
                tokio::time::sleep(std::time::Duration::from_millis(u64::from(job.id % 5) * 4)).await;
                running.lock().unwrap().remove(&job.id);
                report.send((job.id, job.attempt()))?;
                Ok(())
            }
        };
        let tasks = queue.tasks::<Job>().at_once(8);
        let tasks = if lanes { tasks.lanes(|job, _| job.id % 11) } else { tasks };
        let consumer = tasks.for_each(handle).await.unwrap();
        let mut missing: BTreeSet<u32> = (0..300).collect();
        let mut runs = 0;
        while !missing.is_empty() {
            let (id, attempt) = reports.next().await;
            assert_eq!(attempt, 1);
            missing.remove(&id);
            runs += 1;
            if runs % 40 == 0 {
                robust.proxy.cut_all(Cut::Rst);
            }
        }
        assert!(robust.proxy.accepted_count() > 3, "{} connections", robust.proxy.accepted_count());
        let oracle = robust.oracle().await;
        eventually("an empty queue", 20, async || {
            let counts = oracle.queue_counts("jobs").await.unwrap();
            (counts.0 == 0 && channel.load().unsettled == 0).then_some(())
        })
        .await;
        let drained = consumer.drain(std::time::Duration::from_secs(5)).await;
        assert_eq!((drained.given_back, drained.abandoned), (0, 0));
        robust.connection.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }
}
