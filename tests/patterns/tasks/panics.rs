//! A panic costs the message of its own task.

use actix_pika::tasks::{Done, Failure, Task};

use super::{Job, Jobs, reports};

/// TSK-30: a closure that panics, before or in its future, fails for that message only, and is tried again.
#[actix::test]
async fn a_closure_that_panics_costs_its_own_message() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send((job.id, job.attempt())).unwrap();
        assert!(job.id != 2 || job.attempt() > 1, "the closure panics in this test");
        async move {
            tokio::task::yield_now().await;
            assert!(job.id != 4 || job.attempt() > 2, "the future panics in this test");
            if job.id == 5 { Err(Failure::reject("never")) } else { Ok(()) }
        }
    };
    let _consumer = jobs.queue.for_each(4, handle).await.unwrap();
    jobs.publish(1..=6).await;
    let mut runs = reports.take(9).await;
    runs.sort_unstable();
    assert_eq!(runs, [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (4, 2), (4, 3), (5, 1), (6, 1)]);
    jobs.until_empty().await;
    assert_eq!(jobs.ids("dead").await, [5]);
}

/// TSK-31: an error that panics when it is written costs its own message.
#[actix::test]
async fn an_error_that_panics_costs_its_own_message() {
    #[derive(Debug)]
    struct Unwritable;

    impl std::fmt::Display for Unwritable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("an error panics in this test")
        }
    }

    impl std::error::Error for Unwritable {}

    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send(job.id).unwrap();
        std::future::ready(if job.id == 1 { Err(Failure::reject(Unwritable)) } else { Done::Ok(()) })
    };
    let _consumer = jobs.queue.for_each(1, handle).await.unwrap();
    jobs.publish(1..=2).await;
    assert_eq!(reports.take(2).await, [1, 2]);
    jobs.until_empty().await;
    assert_eq!(jobs.ids("dead").await, [1]);
}

/// TSK-32: a message that every handler requeues comes back after growing pauses, and not in a storm.
#[actix::test]
async fn a_message_that_nobody_takes_is_no_storm() {
    let jobs = Jobs::new().await;
    let (report, mut reports) = reports();
    let handle = move |job: Task<Job>| {
        report.send(std::time::Instant::now()).unwrap();
        std::future::ready(if job.id == 1 { Err(Failure::requeue("no GPU")) } else { Ok(()) })
    };
    let consumer = jobs.queue.for_each(1, handle).await.unwrap();
    jobs.publish([1]).await;
    let runs = reports.take(4).await;
    assert!(runs[3] - runs[1] >= std::time::Duration::from_millis(100), "{:?}", runs[3] - runs[1]);
    let drained =
        crate::support::within("a drain", 10, consumer.drain(std::time::Duration::from_secs(5))).await;
    assert_eq!(drained.abandoned, 0);
    jobs.oracle.wait_for_count("jobs", 1).await;
}
