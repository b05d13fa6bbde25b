//! Tasks with a ladder of delays.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use actix_pika::{
    Channel, DeclareQueue, ErrorKind, Queue,
    retry::Retry,
    tasks::{Failure, Task, Undecodable},
};

use super::{Job, publish, reports};
use crate::support::{
    broker::Vhost, oracle::Oracle, proxy::Cut, robust_connection::RobustConnection, until_unsettled, within,
};

fn ladder() -> Retry {
    Retry::ladder(&[Duration::from_millis(200), Duration::from_millis(500)])
}

async fn declare(channel: &Channel) -> Queue {
    within("the queues", 20, channel.declare_jobs(DeclareQueue::new("jobs").quorum(), &ladder()))
        .await
        .unwrap()
}

/// TSK-40: a task that fails runs again after each delay, and others run meanwhile; then its message is a dead letter with
/// the cause. So is one that is rejected, or cannot be decoded.
#[actix::test]
async fn failed_tasks_climb_the_ladder() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, actix_pika::connect(&vhost.url())).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = declare(&channel).await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send((job.id, job.attempt(), Instant::now())).unwrap();
        std::future::ready(match job.id {
            1 => Err(Failure::retry("busy")),
            2 => Err(Failure::reject("no such customer")),
            _ => Ok(()),
        })
    };
    let tasks = queue.tasks::<Job>().retry(ladder()).undecodable(Undecodable::DeadLetter);
    let _consumer = within("the consumer", 20, tasks.for_each(handle)).await.unwrap();
    publish(&channel, 1..=3).await;
    channel.default_exchange().publish("no job", "jobs").await.unwrap();
    let runs = reports.take(5).await;
    let numbers: Vec<(u32, u32)> = runs.iter().map(|run| (run.0, run.1)).collect();
    assert_eq!(numbers, [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3)]);
    assert!(runs[3].2 - runs[0].2 >= Duration::from_millis(190));
    assert!(runs[4].2 - runs[3].2 >= Duration::from_millis(490));
    until_unsettled(&channel, 0).await;
    let oracle = Oracle::connect(&vhost.url()).await;
    oracle.wait_for_count("jobs.dead", 3).await;
    let dead = channel.queue("jobs.dead");
    let mut causes = Vec::new();
    while let Some(letter) = dead.get().await.unwrap() {
        let text = |header: &str| {
            let headers = letter.properties().unwrap().headers().unwrap();
            headers.get(header).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
        };
        causes.push((String::from_utf8_lossy(letter.body()).into_owned(), text("retry-cause")));
        letter.ack().unwrap();
    }
    causes.sort();
    let causes: Vec<(&str, &str)> =
        causes.iter().map(|(body, cause)| (body.as_str(), cause.as_str())).collect();
    assert_eq!(causes[0], ("no job", "the body is wrong: expected ident at line 1 column 2"));
    assert_eq!(causes[1..], [("{\"id\":1}", "busy"), ("{\"id\":2}", "no such customer")]);
    assert!(reports.is_empty());
    assert_eq!(oracle.queue_counts("jobs").await.unwrap().0, 0);
}

/// TSK-41: a ladder is refused for an order, unless overtaking is allowed.
#[actix::test]
async fn a_ladder_is_refused_for_an_order() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, actix_pika::connect(&vhost.url())).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = declare(&channel).await;
    let done = |_: Task<Job>| std::future::ready(Ok(()));
    let lanes = || queue.tasks::<Job>().lanes(|job, _| job.id).retry(ladder());
    for tasks in [queue.tasks::<Job>().ordered().retry(ladder()), lanes()] {
        let error = within("a refusal", 10, tasks.for_each(done)).await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason()), (ErrorKind::Refused, None));
    }
    within("a consumer", 20, lanes().overtaking().for_each(done)).await.unwrap();
    let plain = channel.declare_queue("plain").await.unwrap();
    let error =
        within("a refusal", 10, plain.tasks::<Job>().retry(ladder()).for_each(done)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

/// TSK-42: while copies are published to the ladder, the connection is cut again and again: none is lost, and all come to
/// their end.
#[actix::test]
async fn cuts_in_the_middle_of_retries_lose_nothing() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = declare(&channel).await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send((job.id, job.attempt())).unwrap();
        std::future::ready(if job.attempt() == 3 { Ok(()) } else { Err(Failure::retry("busy")) })
    };
    let tasks = queue.tasks::<Job>().at_once(8).retry(ladder());
    let _consumer = within("the consumer", 20, tasks.for_each(handle)).await.unwrap();
    publish(&channel, 1..=60).await;
    let mut missing: BTreeSet<u32> = (1..=60).collect();
    let mut runs = 0;
    while !missing.is_empty() {
        let (id, attempt) = reports.next().await;
        if attempt == 3 {
            missing.remove(&id);
        }
        runs += 1;
        if runs % 20 == 0 {
            robust.proxy.cut_all(Cut::Rst);
        }
    }
    assert!(robust.proxy.accepted_count() > 3, "{} connections", robust.proxy.accepted_count());
    let oracle = robust.oracle().await;
    crate::support::eventually("empty queues", 20, async || {
        let counts = oracle.queue_counts("jobs").await.unwrap().0
            + oracle.count("jobs.retry.200").await
            + oracle.count("jobs.retry.500").await;
        (counts == 0 && channel.load().unsettled == 0).then_some(())
    })
    .await;
    assert_eq!(oracle.count("jobs.dead").await, 0);
    robust.connection.close().await.unwrap();
    assert_eq!(oracle.count("jobs").await, 0);
}
