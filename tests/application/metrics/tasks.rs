//! What the hook tells of tasks and typed publishes.

use std::time::{Duration, SystemTime};

use ::metrics::set_default_local_recorder;
use actix_pika::{
    Connector, ErrorKind,
    message::Properties,
    retry::Retry,
    tasks::{Failure, Task},
};

use super::recorder::Recorded;
use crate::support::{broker::Vhost, eventually, within};

/// MET-05: each task is counted by its outcome, with the time that its handler took and the age of its message; each typed
/// publish with the time until its confirm.
#[actix::test]
async fn tasks_and_typed_publishes_are_timed() {
    let recorded = Recorded::default();
    let _guard = set_default_local_recorder(&recorded);
    let vhost = Vhost::fresh().await;
    let connector = Connector::new(&vhost.url()).unwrap().metrics();
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    let retry = Retry::ladder(&[Duration::from_millis(100)]);
    let jobs = within("the queues", 30, channel.declare_jobs("jobs", &retry)).await.unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let publisher = jobs.publisher::<String>().properties(Properties::new().with_timestamp(hour_ago));
    for job in ["done", "once more", "hopeless"] {
        within("a confirm", 10, publisher.publish(&job.to_owned())).await.unwrap();
    }
    let nowhere = channel.default_exchange().publisher::<String>().key("nowhere");
    let error = within("a return", 10, nowhere.publish(&"x".to_owned())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable);
    within("a confirm", 10, channel.default_exchange().publish("no JSON", "jobs")).await.unwrap();

    let tasks = jobs.tasks::<String>().retry(retry).for_each(|task: Task<String>| async move {
        match task.as_str() {
            "once more" if task.attempt() == 1 => Err(Failure::retry("not now")),
            "hopeless" => Err(Failure::reject("never")),
            _ => Ok(()),
        }
    });
    let consumer = within("the consumer", 10, tasks).await.unwrap();
    let ended =
        |outcome: &str| recorded.value(&format!("actix_pika_tasks_total{{queue=jobs,outcome={outcome}}}"));
    eventually("all tasks", 20, || async {
        let counts = ["acked", "retried", "dead_lettered"].map(|outcome| ended(outcome).unwrap_or_default());
        (counts == [2.0, 1.0, 2.0]).then_some(())
    })
    .await;
    for outcome in ["rejected", "requeued", "given_back", "stale"] {
        assert_eq!(ended(outcome), Some(0.0), "{outcome}");
    }
    assert_eq!(recorded.value("actix_pika_tasks_running{queue=jobs}"), Some(0.0));
    let took = |outcome: &str| {
        let series = format!("actix_pika_handler_duration_seconds{{queue=jobs,outcome={outcome}}}");
        recorded.values(&series)
    };
    // No handler is called for what is no JSON.
    assert_eq!((took("acked").len(), took("retried").len(), took("dead_lettered").len()), (2, 1, 1));
    let ages = recorded.values("actix_pika_delivery_age_seconds{queue=jobs}");
    assert_eq!(ages.len(), 4, "{ages:?}");
    assert!(ages.iter().all(|age| (3600.0..3700.0).contains(age)), "{ages:?}");

    let publishes = |kind: &str, outcome: &str| {
        let labels = format!("{{exchange=(default),kind={kind},outcome={outcome}}}");
        recorded.values(&format!("actix_pika_publish_duration_seconds{labels}")).len()
    };
    assert_eq!((publishes("message", "published"), publishes("message", "failed")), (3, 1));
    assert_eq!(publishes("retry", "published"), 3, "a step, and two dead letters");
    within("stop", 10, consumer.stop()).await;
    within("close", 10, connection.close()).await.unwrap();
}
