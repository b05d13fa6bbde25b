//! What user code and the broker may do to a consumer of tasks: it costs the message of its task.

use std::{
    cell::Cell,
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use actix_pika::{
    retry::Retry,
    tasks::{Done, Failure, Task},
};
use tokio::sync::Semaphore;

use super::{Job, Jobs, publish, reports};
use crate::support::{
    oracle::Oracle, proxy::Direction, robust_connection::RobustConnection, until_unsettled, within,
};

/// Errors of which each breaks a promise that code relies on.
#[derive(Debug, Clone, Copy)]
enum Bad {
    DisplayPanics,
    DisplayFails,
    DropPanics,
    IsItsOwnSource,
}

#[derive(Debug)]
struct BadError(Bad);

impl fmt::Display for BadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Bad::DisplayPanics => panic!("the text of an error panics in this test"),
            Bad::DisplayFails => Err(fmt::Error),
            Bad::DropPanics | Bad::IsItsOwnSource => write!(f, "bad"),
        }
    }
}

impl Error for BadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        matches!(self.0, Bad::IsItsOwnSource).then_some(self)
    }
}

impl Drop for BadError {
    fn drop(&mut self) {
        assert!(!matches!(self.0, Bad::DropPanics), "the end of an error panics in this test");
    }
}

/// TSK-80: an error whose text or end panics, whose text fails, or whose chain of sources has no end, rejects its own
/// message only.
#[actix::test]
async fn a_bad_error_costs_its_own_message() {
    let jobs = Jobs::new().await;
    let handle = |job: Task<Job>| {
        let bad = [Bad::DisplayPanics, Bad::DisplayFails, Bad::DropPanics, Bad::IsItsOwnSource];
        std::future::ready(match bad.get(job.id as usize) {
            Some(bad) => Err(Failure::reject(BadError(*bad))),
            None => Ok(()),
        })
    };
    let consumer = jobs.queue.for_each(2, handle).await.unwrap();
    jobs.publish(0..6).await;
    jobs.until_empty().await;
    assert_eq!(jobs.ids("dead").await, [0, 1, 2, 3]);
    assert!(consumer.end().is_none());
}

/// A future that panics when it is dropped.
struct BadFuture {
    ready: bool,
    armed: Cell<bool>,
}

impl Future for BadFuture {
    type Output = Done;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Done> {
        if self.ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Drop for BadFuture {
    fn drop(&mut self) {
        assert!(!self.armed.replace(false), "the end of a future panics in this test");
    }
}

/// TSK-81: a future that panics when it is dropped costs its own message: when it has ended, at its time-out, and at
/// the limit of a drain.
#[actix::test]
async fn a_future_that_panics_at_its_end_costs_its_own_message() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send((job.id, job.attempt())).unwrap();
        let first = job.attempt() == 1;
        BadFuture { ready: job.id != 2 || !first, armed: Cell::new(first && job.id < 3) }
    };
    let tasks = jobs.queue.tasks::<Job>().at_once(8).timeout(Duration::from_millis(500));
    let consumer = tasks.for_each(handle).await.unwrap();
    jobs.publish(1..=3).await;
    let mut runs = reports.take(5).await;
    runs.sort_unstable();
    assert_eq!(runs, [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]);
    jobs.until_empty().await;
    assert!(consumer.end().is_none());
}

/// TSK-81: the same at the limit of a drain.
#[actix::test]
async fn a_future_that_panics_when_a_drain_drops_it_returns() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send(job.id).unwrap();
        BadFuture { ready: false, armed: Cell::new(true) }
    };
    let consumer = jobs.queue.for_each(2, handle).await.unwrap();
    jobs.publish(1..=3).await;
    assert_eq!(reports.take(2).await, [1, 2]);
    jobs.until_unsettled(3).await;
    let drained = within("a drain", 10, consumer.drain(Duration::from_millis(200))).await;
    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (0, 1, 2));
    jobs.oracle.wait_for_count("jobs", 3).await;
    assert_eq!(jobs.ids("jobs").await, [1, 2, 3]);
}

/// TSK-82: a pause without end is one that is capped: the message waits, and returns at a drain.
#[actix::test]
async fn a_pause_without_end_is_no_panic() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send(job.id).unwrap();
        std::future::ready(match job.id {
            1 => Err(Failure::retry_in(Duration::MAX, "busy")),
            _ => Ok(()),
        })
    };
    let consumer = jobs.queue.for_each(2, handle).await.unwrap();
    jobs.publish(1..=2).await;
    assert_eq!(reports.take(2).await, [1, 2]);
    jobs.until_unsettled(1).await;
    let drained = within("a drain", 10, consumer.drain(Duration::from_secs(60))).await;
    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (0, 1, 0));
    jobs.oracle.wait_for_count("jobs", 1).await;
}

/// TSK-83: an ordered consumer runs one task at a time, whatever is set after `ordered`.
#[actix::test]
async fn ordered_is_one_at_a_time_in_any_order_of_the_options() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let running = Arc::new(AtomicUsize::new(0));
    let handle = move |job: Task<Job>| {
        let (report, running) = (report.clone(), running.clone());
        async move {
            let beside = running.fetch_add(1, Ordering::Relaxed);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::Relaxed);
            report.send((job.id, beside))?;
            Ok(())
        }
    };
    jobs.publish(1..=3).await;
    let _consumer = jobs.queue.tasks::<Job>().ordered().at_once(8).for_each(handle).await.unwrap();
    assert_eq!(reports.take(3).await, [(1, 0), (2, 0), (3, 0)]);
    jobs.until_empty().await;
}

/// TSK-87: a message whose headers leave no room for those of a ladder is a dead letter of the broker.
#[actix::test]
async fn a_message_without_room_for_the_ladder_is_a_dead_letter() {
    let vhost = crate::support::broker::Vhost::fresh().await;
    let connection = within("connect", 10, actix_pika::connect(&vhost.url())).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let ladder = Retry::ladder(&[Duration::from_millis(100)]);
    let queue = within("the queues", 20, channel.declare_jobs("jobs", &ladder)).await.unwrap();
    let mut room = 131_072;
    loop {
        let message = actix_pika::Publishing::new("{\"id\":1}").header("pad", "x".repeat(room));
        match within("a publish", 10, channel.default_exchange().publish(message, "jobs")).await {
            Ok(_) => break,
            Err(error) if room > 130_000 => {
                assert_eq!(error.kind(), actix_pika::ErrorKind::Limit);
                room -= 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send(job.attempt()).unwrap();
        std::future::ready(Err(Failure::retry("busy")))
    };
    let tasks = queue.tasks::<Job>().retry(ladder);
    let consumer = within("the consumer", 20, tasks.for_each(handle)).await.unwrap();
    assert_eq!(reports.next().await, 1);
    let oracle = Oracle::connect(&vhost.url()).await;
    oracle.wait_for_count("jobs.dead", 1).await;
    assert!(reports.is_empty() && consumer.end().is_none());
    assert_eq!(channel.load().unsettled, 0);
}

/// TSK-88: headers of the ladder that others have set to anything, and properties of every kind, are no obstacle for a
/// ladder with steps in any order, some of them twice or of no length.
#[actix::test]
async fn a_ladder_bears_any_message_and_any_steps() {
    use actix_pika::message::Value;
    let vhost = crate::support::broker::Vhost::fresh().await;
    let connection = within("connect", 10, actix_pika::connect(&vhost.url())).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let ladder = Retry::ladder(&[300, 0, 300].map(Duration::from_millis));
    let queue = within("the queues", 20, channel.declare_jobs("jobs", &ladder)).await.unwrap();
    let exchange = channel.default_exchange();
    let attempts: [Value; 5] =
        ["many".into(), (-7).into(), i64::MAX.into(), true.into(), Vec::<u8>::new().into()];
    for (id, attempt) in attempts.into_iter().enumerate() {
        let message = actix_pika::Publishing::new(format!("{{\"id\":{id}}}"))
            .header("retry-attempt", attempt)
            .header("CC", vec![Value::from("nowhere")])
            .header("retry-cause", 7)
            .expiration(Duration::from_secs(600))
            .priority(9);
        within("a publish", 10, exchange.publish(message, "jobs")).await.unwrap();
    }
    let bare = actix_pika::Publishing::new("{\"id\":9}");
    within("a publish", 10, exchange.publish(bare, "jobs")).await.unwrap();
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send((job.id, job.attempt())).unwrap();
        std::future::ready(Err(Failure::retry("busy")))
    };
    let tasks = queue.tasks::<Job>().at_once(8).retry(ladder);
    let _consumer = within("the consumer", 20, tasks.for_each(handle)).await.unwrap();
    let mut runs = reports.take(5 * 4 + 1).await;
    runs.sort_unstable();
    let mut expected: Vec<_> =
        [0, 1, 3, 4, 9].iter().flat_map(|id| (1..=4).map(move |attempt| (*id, attempt))).collect();
    expected.push((2, u32::MAX));
    expected.sort_unstable();
    assert_eq!(runs, expected);
    let oracle = Oracle::connect(&vhost.url()).await;
    oracle.wait_for_count("jobs.dead", 6).await;
    until_unsettled(&channel, 0).await;
}

/// TSK-89: while the broker confirms no copy, no more tasks begin than run at once, and no more is held than the prefetch;
/// a drain ends at its limit, and every message is still there.
#[actix::test]
async fn a_ladder_that_is_not_confirmed_stops_its_consumer() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let ladder = Retry::ladder(&[Duration::from_secs(600)]);
    let queue = within("the queues", 20, channel.declare_jobs("jobs", &ladder)).await.unwrap();
    publish(&channel, 1..=10).await;
    let (report, mut reports) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let handlers_gate = gate.clone();
    let handle = move |job: Task<Job>| {
        let (report, gate) = (report.clone(), handlers_gate.clone());
        async move {
            report.send(job.id)?;
            let _permit = gate.acquire().await?;
            Err(Failure::retry("busy"))
        }
    };
    let tasks = queue.tasks::<Job>().at_once(2).prefetch(4).retry(ladder);
    let consumer = within("the consumer", 20, tasks.for_each(handle)).await.unwrap();
    assert_eq!(reports.take(2).await, [1, 2]);
    until_unsettled(&channel, 4).await;
    robust.proxy.stall(Direction::ToClient);
    gate.add_permits(10);
    let oracle = robust.oracle().await;
    oracle.wait_for_count("jobs.retry.600000", 2).await;
    assert_eq!(channel.load().unsettled, 4);
    let drained = within("a drain", 10, consumer.drain(Duration::from_millis(100))).await;
    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (0, 2, 2));
    assert!(reports.is_empty());
    // The copies are in the ladder, but nobody knows: their messages return.
    robust.proxy.resume(Direction::ToClient);
    oracle.wait_for_count("jobs", 10).await;
    assert_eq!(oracle.count("jobs.retry.600000").await, 2);
    robust.cut_and_recover().await;
    assert_eq!(oracle.queue_counts("jobs").await, Some((10, 0)), "what was drained does not start again");
}

/// TSK-91: queues of a ladder that somebody has deleted are declared again when a message needs them.
#[actix::test]
async fn a_ladder_that_was_deleted_is_declared_again() {
    let vhost = crate::support::broker::Vhost::fresh().await;
    for robust in [true, false] {
        let connector = actix_pika::Connector::new(&vhost.url()).unwrap();
        let connector = if robust { connector.recovery(actix_pika::Recovery::default()) } else { connector };
        let connection = within("connect", 10, connector.connect()).await.unwrap();
        let channel = connection.channel().await.unwrap();
        let ladder = Retry::ladder(&[Duration::from_millis(100)]);
        let queue = within("the queues", 20, channel.declare_jobs("jobs", &ladder)).await.unwrap();
        let (report, mut reports) = reports();
        let handle = move |job: Task<Job>| {
            report.send((job.id, job.attempt())).unwrap();
            std::future::ready(Err(Failure::retry("busy")))
        };
        let tasks = queue.tasks::<Job>().retry(ladder);
        let _consumer = within("the consumer", 20, tasks.for_each(handle)).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        for queue in ["jobs.retry.100", "jobs.dead"] {
            oracle.channel().queue_delete(queue.into(), Default::default()).await.unwrap();
        }
        publish(&channel, [1]).await;
        assert_eq!(reports.take(2).await, [(1, 1), (1, 2)]);
        oracle.wait_for_count("jobs.dead", 1).await;
        until_unsettled(&channel, 0).await;
        assert!(reports.is_empty());
        connection.close().await.unwrap();
    }
}
