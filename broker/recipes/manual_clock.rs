use std::{cell::Cell, io, rc::Rc, time::Duration};

use actix_pika::{DeclareQueue, connect_robust, retry::Retry, tasks::Task};
use actix_pika_broker::Broker;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);
const PAUSES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(3600)];

#[actix::test]
async fn a_task_is_tried_after_a_minute_and_an_hour() {
    let broker = Broker::builder().manual_clock().start().unwrap();
    let connection = connect_robust(broker.url()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let ladder = Retry::ladder(&PAUSES);
    let jobs = channel.declare_jobs(DeclareQueue::new("jobs").quorum(), &ladder).await.unwrap();
    let tries = Rc::new(Cell::new(0));
    let counter = Rc::clone(&tries);
    let fails = move |_: Task<String>| {
        counter.set(counter.get() + 1);
        async { Err::<(), _>(io::Error::other("declined").into()) }
    };
    let worker = jobs.tasks::<String>().retry(ladder).for_each(fails).await.unwrap();
    jobs.publisher().publish(&"job 1".to_owned()).await.unwrap();

    for (n, pause) in PAUSES.into_iter().enumerate() {
        // What the client does is waited for, to its end: a delivery without its ack would be too late in an hour.
        let waits = format!("jobs.retry.{}", pause.as_millis());
        let failed = broker.until(|state| state.ready(&waits) == 1 && state.unacked("jobs") == 0);
        timeout(LIMIT, failed).await.unwrap();
        assert_eq!(tries.get(), n + 1);
        // What only time brings comes with this.
        broker.advance(pause);
    }
    timeout(LIMIT, broker.until(|state| state.ready("jobs.dead") == 1)).await.unwrap();
    assert_eq!(tries.get(), 3);
    worker.drain(LIMIT).await;
}
