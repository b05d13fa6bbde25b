//! Workers on several threads.

use std::{collections::BTreeSet, thread::ThreadId, time::Duration};

use actix::prelude::*;
use actix_pika::{
    Consume,
    tasks::{Done, Task},
    worker::{SupervisedWorker, WorkerEvent},
};
use tokio::sync::mpsc;

use super::{End, WorkerEvents, consumers};
use crate::{
    ends_when_told,
    support::within,
    tasks::{Job, Jobs, reports},
};

struct Threaded(mpsc::UnboundedSender<(u32, ThreadId)>);

impl Actor for Threaded {
    type Context = Context<Self>;
}

impl Handler<Task<Job>> for Threaded {
    type Result = Done;

    fn handle(&mut self, job: Task<Job>, _: &mut Self::Context) -> Done {
        self.0.send((job.id, std::thread::current().id()))?;
        Ok(())
    }
}

ends_when_told!(Threaded);

/// WRK-20: with two threads there are a worker and a consumer of each queue on each. A panic on one of them costs the
/// other nothing, and a drain ends both.
#[actix::test]
async fn each_thread_has_a_worker_and_its_consumers() {
    let jobs = Jobs::new().await;
    let other = jobs.channel.declare_queue("other").await.unwrap();
    let (report, mut runs) = reports();
    let mut events = WorkerEvents::watch();
    // Lanes and tags are shared by the threads.
    let tasks =
        jobs.queue.tasks::<Job>().prefetch(1).lanes(|job, _| job.id).consume(Consume::new().tag("jobs"));
    let worker = SupervisedWorker::new(move || Threaded(report.clone()))
        .feed(tasks)
        .feed(other.tasks::<Job>())
        .threads(2)
        .watch(events.watcher.clone());
    let worker = within("the start", 20, worker.start()).await.unwrap();
    let thread_of = |event| match event {
        WorkerEvent::Started { thread } => thread,
        event => panic!("{event:?}"),
    };
    let started = BTreeSet::from([thread_of(events.next().await), thread_of(events.next().await)]);
    assert_eq!(started, BTreeSet::from([0, 1]));
    assert_eq!((consumers(&jobs, "jobs").await, consumers(&jobs, "other").await), (2, 2));
    assert_eq!(worker.addrs().len(), 2);

    jobs.publish(1..=20).await;
    let all = runs.take(20).await;
    let ids: BTreeSet<u32> = all.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (1..=20).collect());
    let threads: BTreeSet<String> = all.iter().map(|(_, thread)| format!("{thread:?}")).collect();
    assert_eq!(threads.len(), 2, "both consumers take turns");
    assert!(!threads.contains(&format!("{:?}", std::thread::current().id())));

    worker.addr().unwrap().do_send(End::Panic);
    match events.next().await {
        WorkerEvent::Ended { thread: 0, panicked: true, next_in: Some(_) } => {}
        event => panic!("{event:?}"),
    }
    assert_eq!(thread_of(events.next().await), 0);
    jobs.publish(21..=40).await;
    let ids: BTreeSet<u32> = runs.take(20).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, (21..=40).collect());
    jobs.until_empty().await;
    assert_eq!((consumers(&jobs, "jobs").await, consumers(&jobs, "other").await), (2, 2));

    let report = within("the drain", 20, worker.drain(Duration::from_secs(10))).await;
    assert_eq!((report.finished, report.given_back, report.abandoned), (0, 0, 0));
    for _ in 0..2 {
        let event = events.next().await;
        assert!(matches!(event, WorkerEvent::Ended { panicked: false, next_in: None, .. }), "{event:?}");
    }
    events.finished().await;
    assert!(worker.addrs().is_empty());
    assert_eq!((consumers(&jobs, "jobs").await, consumers(&jobs, "other").await), (0, 0));
}
