//! The queues of a ladder of retries.

use crate::support::{get_message, modes::Bench, robust_connection::RobustConnection, within};
use actix_pika::{Channel, DeclareQueue, ErrorKind, Queue, retry::Retry};
use std::time::Duration;

fn millis(millis: &[u64]) -> Vec<Duration> {
    millis.iter().map(|&millis| Duration::from_millis(millis)).collect()
}

async fn jobs(channel: &Channel, retry: &Retry) -> Queue {
    let declare = DeclareQueue::new("mail");
    within("the declarations", 30, channel.declare_jobs(declare, retry)).await.unwrap()
}

/// RTY-01: `declare_jobs` declares the job queue, the steps and the dead letters; a message in a step returns to the job
/// queue.
#[actix::test]
async fn a_job_queue_is_declared_with_its_ladder() {
    let bench = Bench::open(true).await;
    let mail = jobs(&bench.channel, &Retry::ladder(&millis(&[100, 300_000]))).await;
    assert_eq!(mail.name(), "mail");
    let mut declared = Vec::new();
    for queue in bench.vhost.queues().await {
        let of = |key: &str| queue["arguments"][key].to_string().replace('"', "");
        let strategy = (of("x-dead-letter-strategy"), of("x-overflow"));
        assert_eq!(queue["type"].to_string(), "\"quorum\"");
        let name = queue["name"].to_string().replace('"', "");
        assert!(
            name == "mail.dead" || strategy == ("at-least-once".into(), "reject-publish".into()),
            "{name}"
        );
        declared.push((name, of("x-dead-letter-routing-key"), of("x-message-ttl"), of("x-delivery-limit")));
    }
    declared.sort();
    let expected = [
        ("mail", "mail.dead", "null", "20"),
        ("mail.dead", "null", "null", "1000000000"),
        ("mail.retry.100", "mail", "100", "null"),
        ("mail.retry.300000", "mail", "300000", "null"),
    ];
    let expected = expected.map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned()));
    assert_eq!(declared, expected);
    bench.channel.default_exchange().publish("x", "mail.retry.100").await.unwrap();
    let returned = get_message(&mail).await;
    assert_eq!((returned.body(), returned.routing_key()), (&b"x"[..], "mail"));
    returned.ack().unwrap();
    // Again: nothing differs.
    jobs(&bench.channel, &Retry::ladder(&millis(&[100]))).await;
}

/// RTY-02: a ladder for classic queues has classic queues.
#[actix::test]
async fn a_classic_job_queue_has_classic_steps() {
    let bench = Bench::open(true).await;
    let mail = jobs(&bench.channel, &Retry::ladder(&millis(&[100])).classic().dead_letters("failed")).await;
    let types: Vec<_> = bench.vhost.queues().await.iter().map(|queue| queue["type"].to_string()).collect();
    assert_eq!(types, ["\"classic\""; 3]);
    bench.channel.default_exchange().publish("x", "mail.retry.100").await.unwrap();
    let returned = get_message(&mail).await;
    returned.reject(false).unwrap();
    let dead = get_message(&bench.channel.queue("failed")).await;
    assert_eq!(dead.body(), b"x");
    dead.ack().unwrap();
}

/// RTY-03: a declaration that contradicts its ladder is refused before anything is sent, and the channel stays open.
#[actix::test]
async fn a_contradiction_is_refused_at_once() {
    let bench = Bench::open(true).await;
    let ladder = Retry::ladder(&millis(&[100]));
    let refused = [
        (DeclareQueue::new("mail").classic(), "a classic queue has a ladder by Retry::classic only [mail]"),
        (
            DeclareQueue::new("mail").dead_letter_exchange("x"),
            "the ladder sets the dead-letter exchange and its routing key (Retry::dead_letters) [mail]",
        ),
        (
            DeclareQueue::server_named(),
            "a queue that the broker names has another name after a reconnect, and its retries would be lost []",
        ),
    ];
    for (declare, text) in refused {
        let error = bench.channel.declare_jobs(declare, &ladder).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code(), error.to_string().as_str()),
            (ErrorKind::Refused, None, text)
        );
    }
    assert!(!bench.channel.is_closed());
    assert_eq!(bench.vhost.queues().await.len(), 0);
}

/// RTY-04: if the queue exists with other arguments, the error has the broker's code and the way to migrate.
#[actix::test]
async fn a_queue_that_exists_otherwise_tells_how_to_migrate() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_queue(DeclareQueue::new("mail").quorum()).await.unwrap();
    let ladder = Retry::ladder(&millis(&[100]));
    let error = channel.declare_jobs(DeclareQueue::new("mail").quorum(), &ladder).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some(406)));
    let mismatch = error.mismatch().unwrap();
    let text = format!(
        "queue \"mail\" exists with other arguments ({}), which RabbitMQ cannot change: declare the jobs under a new \
         name, publish to that, and move what is left in \"mail\" to it with Queue::redrive: ",
        mismatch.argument
    );
    assert!(error.to_string().starts_with(&text), "{error}");
    let moved = channel.declare_jobs(DeclareQueue::new("mail.2").quorum(), &ladder);
    within("the declarations, once the channel is open again", 30, moved).await.unwrap();
}
