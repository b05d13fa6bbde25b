//! What hooks are told of the end of tasks.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use actix::prelude::*;
use actix_pika::{
    Channel, DeclareQueue,
    retry::Retry,
    tasks::{Done, Failure, Task, Undecodable},
};

use super::{Ends, Hooked, Job, Log};
use crate::support::{robust_connection::RobustConnection, within};

/// HOK-10: each verdict of a handler, a panic, a time-out and what cannot be decoded have their outcome and cause.
#[actix::test]
async fn each_verdict_has_an_outcome() {
    let log = Log::default();
    let hooked = Hooked::open(|connector| connector.hook(Ends(log.clone()))).await;
    let requeued = AtomicU32::new(0);
    let handle = move |job: Task<Job>| {
        let (first, again) = (job.attempt() == 1, job.id == 4 && requeued.fetch_add(1, SeqCst) > 0);
        async move {
            match job.id {
                2 if first => Err(Failure::retry("busy")),
                3 => Err(Failure::reject("no such customer")),
                4 if !again => Err(Failure::requeue("not here")),
                5 if first => panic!("a handler panics in this test"),
                6 if first => pending().await,
                _ => Ok(()),
            }
        }
    };
    let tasks = hooked.jobs.tasks::<Job>().timeout(Duration::from_millis(50));
    let consumer = tasks.for_each(handle).await.unwrap();
    hooked.publish(1..=6).await;
    let lines = log.lines(10).await;
    let of = |id: u32| {
        let body = format!("{{\"id\":{id}}} ");
        lines.iter().filter_map(|line| line.strip_prefix(&body)).collect::<Vec<_>>()
    };
    assert_eq!(of(1), ["1 acked, done (-), called"]);
    assert_eq!(of(2), ["1 retried, failed (busy), called", "2 acked, done (-), called"]);
    assert_eq!(of(3), ["1 rejected, failed (no such customer), called"]);
    assert_eq!(of(4), ["1 requeued, failed (not here), called", "1 acked, done (-), called"]);
    assert_eq!(of(5), ["1 retried, panicked (the handler panicked), called", "2 acked, done (-), called"]);
    let late = "1 retried, timed_out (the handler exceeded its time-out), called";
    assert_eq!(of(6), [late, "2 acked, done (-), called"]);

    log.take();
    within("a publish", 10, hooked.channel.default_exchange().publish("no job", "jobs")).await.unwrap();
    let lines = log.lines(1).await;
    assert!(lines[0].starts_with("no job 1 rejected, undecodable ("), "{lines:?}");
    assert!(lines[0].ends_with("not called"), "{lines:?}");
    consumer.stop().await;
}

fn ladder() -> Retry {
    Retry::ladder(&[Duration::from_millis(100)])
}

async fn declare(channel: &Channel) -> actix_pika::Queue {
    let ladder = ladder();
    let declare = channel.declare_jobs(DeclareQueue::new("mail").quorum(), &ladder);
    within("the queues", 20, declare).await.unwrap()
}

/// HOK-11: with a ladder, a task ends when its copy is confirmed; the last copy is a dead letter.
#[actix::test]
async fn copies_of_a_ladder_have_their_outcome() {
    let log = Log::default();
    let hooked = Hooked::open(|connector| connector.hook(Ends(log.clone()))).await;
    let mail = declare(&hooked.channel).await;
    let tasks = mail.tasks::<Job>().retry(ladder()).undecodable(Undecodable::DeadLetter);
    let handle = |_: Task<Job>| async { Err(Failure::retry("busy")) };
    let consumer = within("the consumer", 20, tasks.for_each(handle)).await.unwrap();
    within("a publish", 10, mail.publisher::<Job>().publish(&Job { id: 1 })).await.unwrap();
    let expected = [
        r#"{"id":1} 1 retried, failed (busy), called"#,
        r#"{"id":1} 2 dead_lettered, failed (busy), called"#,
    ];
    assert_eq!(log.lines(2).await, expected);
    log.take();
    within("a publish", 10, hooked.channel.default_exchange().publish("no job", "mail")).await.unwrap();
    assert!(log.lines(1).await[0].starts_with("no job 1 dead_lettered, undecodable ("));
    consumer.stop().await;
}

/// HOK-12: what runs at the limit of a drain, or when its runner is dropped, is given back; what ends in time is not.
#[actix::test]
async fn what_is_cut_off_is_given_back() {
    let log = Log::default();
    let hooked = Hooked::open(|connector| connector.hook(Ends(log.clone()))).await;
    hooked.publish(1..=3).await;
    let begun = Log::default();
    let said = begun.clone();
    let handle = move |job: Task<Job>| {
        said.add("begun");
        async move { if job.id == 1 { Ok(()) } else { pending().await } }
    };
    let consumer = hooked.jobs.tasks::<Job>().at_once(3).for_each(handle.clone()).await.unwrap();
    begun.lines(3).await;
    log.lines(1).await;
    let report = within("a drain", 20, consumer.drain(Duration::from_millis(50))).await;
    assert_eq!(report.abandoned, 2);
    let mut lines = log.take();
    lines.sort();
    let given_back = |id: u32| format!("{{\"id\":{id}}} 1 given_back, done (-), called");
    assert_eq!(lines, [r#"{"id":1} 1 acked, done (-), called"#.to_owned(), given_back(2), given_back(3)]);

    begun.take();
    let running = actix_rt::spawn(hooked.jobs.tasks::<Job>().at_once(2).run(handle));
    begun.lines(2).await;
    running.abort();
    let mut lines = log.lines(2).await;
    lines.sort();
    assert_eq!(lines, [given_back(2), given_back(3)]);
}

/// HOK-13: a task that ends after its connection is lost is stale; its copy is settled from memory, and has no hook.
#[actix::test]
async fn a_task_that_ends_too_late_is_stale() {
    let log = Log::default();
    let mut robust = RobustConnection::connect_with(|connector| connector.hook(Ends(log.clone()))).await;
    let channel = robust.channel().await;
    let jobs = channel.declare_queue("jobs").await.unwrap();
    let (go, begun) = (Arc::new(tokio::sync::Semaphore::new(0)), Log::default());
    let (gate, said) = (go.clone(), begun.clone());
    let handle = move |_: Task<Job>| {
        said.add("begun");
        let gate = gate.clone();
        async move {
            gate.acquire().await?.forget();
            Ok(())
        }
    };
    let consumer = jobs.for_each(1, handle).await.unwrap();
    let publisher = jobs.publisher::<Job>().message_ids(true);
    within("a publish", 10, publisher.publish(&Job { id: 1 })).await.unwrap();
    begun.lines(1).await;
    robust.cut_and_recover().await;
    go.add_permits(1);
    assert_eq!(log.lines(1).await, [r#"{"id":1} 1 stale, done (-), called"#]);
    // The next one ends after the copy of the first.
    within("a publish", 10, publisher.publish(&Job { id: 2 })).await.unwrap();
    go.add_permits(1);
    let lines = log.lines(2).await;
    assert_eq!(lines[1..], [r#"{"id":2} 1 acked, done (-), called"#]);
    assert_eq!(begun.lines(2).await.len(), 2);
    consumer.stop().await;
}

struct Worker;

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Task<Job>> for Worker {
    type Result = ResponseActFuture<Self, Done>;

    fn handle(&mut self, job: Task<Job>, _: &mut Self::Context) -> Self::Result {
        let id = job.id;
        let run = async move {
            if id == 2 {
                // The first one runs beside it.
                tokio::task::yield_now().await;
                panic!("a handler panics in this test");
            }
            let _job = job;
            pending::<()>().await;
        };
        Box::pin(actix::fut::wrap_future::<_, Self>(run).map(|(), _, _| Ok(())))
    }
}

/// HOK-14: of an actor that ends by a panic, the task that panicked has failed, and the one beside it is given back; each
/// ends once.
#[actix::test]
async fn tasks_of_an_actor_that_panics_end_once() {
    let log = Log::default();
    let hooked = Hooked::open(|connector| connector.hook(Ends(log.clone()))).await;
    hooked.publish(1..=2).await;
    let consumer = hooked.jobs.tasks::<Job>().at_once(2).to(Worker.start()).await.unwrap();
    within("its end", 20, consumer.ended()).await;
    let mut lines = log.take();
    lines.sort();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("given_back, unanswered"), "{lines:?}");
    assert!(lines[1].contains(", unanswered (the actor panicked"), "{lines:?}");
}
