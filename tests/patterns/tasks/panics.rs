//! A panic costs the message of its own task.

use actix_pika::tasks::{Failure, Task};

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
