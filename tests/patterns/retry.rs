//! The queues of a ladder of retries.

use crate::support::{get_message, modes::Bench, robust_connection::RobustConnection, within};
use actix_pika::{
    Channel, DeclareQueue, Delivery, ErrorKind, Publishing, Queue,
    codec::Raw,
    message::{DeathReason, Table, Value},
    retry::Retry,
    tasks::{Failure, Task, TaskConsumer},
};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

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
        let of = |key: &str| {
            queue.arguments.get(key).map_or("null".into(), |value| value.to_string().replace('"', ""))
        };
        let strategy = (of("x-dead-letter-strategy"), of("x-overflow"));
        assert_eq!(queue.kind, "quorum");
        let name = queue.name.clone();
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
    let types: Vec<_> = bench.vhost.queues().await.into_iter().map(|queue| queue.kind).collect();
    assert_eq!(types, ["classic"; 3]);
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

/// Consumes "mail" with a ladder; each task fails with "no 1", "no 2" and so on, and reports its attempt and headers.
async fn failing(mail: &Queue, ladder: &Retry) -> (TaskConsumer, UnboundedReceiver<(u32, Table)>) {
    let (report, reports) = unbounded_channel();
    let handle = move |task: Task<String>| {
        let headers = task.content().properties().unwrap().headers().cloned().unwrap_or_default();
        report.send((task.attempt(), headers)).unwrap();
        std::future::ready(Err(Failure::retry(format!("no {}", task.attempt()))))
    };
    let tasks = mail.tasks::<String>().codec(Raw).retry(ladder.clone());
    (within("the consumer", 30, tasks.for_each(handle)).await.unwrap(), reports)
}

fn text<'a>(letter: &'a Delivery, header: &str) -> Option<&'a str> {
    letter.properties().unwrap().header(header)?.as_str()
}

/// RTY-05: the tries of a message are counted from 1 on, in the order of the steps; a copy has what a copy keeps, and a
/// dead letter its reason.
#[actix::test]
async fn a_message_climbs_its_ladder_to_the_dead_letters() {
    let bench = Bench::open(true).await;
    let ladder = Retry::ladder(&millis(&[300, 100, 200]));
    let mail = jobs(&bench.channel, &ladder).await;
    bench.channel.declare_queue("other").await.unwrap();
    let (_consumer, mut reports) = failing(&mail, &ladder).await;
    let headers = Table::new().with("traceparent", "00-1").with("x-tenant", "a");
    let headers = headers.with("CC", vec![Value::from("other")]).with("BCC", vec![Value::from("other")]);
    let message =
        Publishing::new("x").headers(headers).message_id("mail-7").timestamp(SystemTime::UNIX_EPOCH);
    let message = message.expiration(Duration::from_secs(60)).user_id("guest").priority(3);
    let before = SystemTime::now() - Duration::from_secs(1);
    bench.channel.default_exchange().publish(message, "mail").await.unwrap();
    let mut expected = vec!["300", "100", "200"].into_iter();
    for attempt in 1..=4 {
        let (reported, headers) = within("a try", 10, reports.recv()).await.unwrap();
        assert_eq!(reported, attempt);
        if attempt > 1 {
            // The broker's own header tells which step it was in last.
            let step = headers
                .get("x-death")
                .and_then(|deaths| deaths.as_array()?.first()?.as_table()?.get("queue"));
            let step = step.and_then(|step| step.as_str()).unwrap_or_default();
            assert_eq!(step, format!("mail.retry.{}", expected.next().unwrap()));
            assert_eq!(headers.get("x-death").and_then(|deaths| deaths.as_array()).map(<[_]>::len), Some(1));
            assert_eq!(headers.get("retry-attempt").and_then(|n| n.as_i64()), Some(i64::from(attempt) - 1));
            let cause = format!("no {}", attempt - 1);
            assert_eq!(headers.get("retry-cause").and_then(|cause| cause.as_str()), Some(&*cause));
            assert!(!headers.contains_key("CC") && !headers.contains_key("BCC"), "{headers:?}");
        }
    }
    let letter = get_message(&bench.channel.queue("mail.dead")).await;
    let properties = letter.properties().unwrap();
    assert_eq!((letter.body(), letter.routing_key()), (&b"x"[..], "mail.dead"));
    assert_eq!((properties.message_id(), properties.timestamp_seconds()), (Some("mail-7"), Some(0)));
    assert_eq!((properties.priority(), properties.user_id(), properties.expiration()), (Some(3), None, None));
    assert_eq!((text(&letter, "retry-cause"), text(&letter, "retry-queue")), (Some("no 4"), Some("mail")));
    assert_eq!((text(&letter, "traceparent"), text(&letter, "x-tenant")), (Some("00-1"), Some("a")));
    assert_eq!(properties.header("retry-attempt").and_then(|n| n.as_i64()), Some(4));
    assert!(properties.header("retry-time").and_then(|time| time.as_time()).unwrap() > before);
    letter.ack().unwrap();
    // That of the original; its copies went nowhere else.
    let other = bench.channel.queue("other");
    let copy = get_message(&other).await;
    assert!(copy.properties().unwrap().header("retry-attempt").is_none());
    copy.ack().unwrap();
    assert!(other.get().await.unwrap().is_none());
    assert!(reports.is_empty());
}

/// RTY-06: `.retry()` on a queue that was declared otherwise names the argument that it lacks; of a queue that the handle
/// does not know, nothing is asked.
#[actix::test]
async fn a_queue_that_was_declared_otherwise_is_refused() {
    let bench = Bench::open(true).await;
    let plain = bench.channel.declare_queue(DeclareQueue::new("mail").quorum()).await.unwrap();
    let ladder = Retry::ladder(&millis(&[100]));
    let consume = |queue: &Queue| {
        let tasks = queue.tasks::<String>().codec(Raw).retry(ladder.clone());
        tasks.for_each(|_| std::future::ready(Ok(())))
    };
    let error = within("a refusal", 10, consume(&plain)).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, None));
    let text = "the queue has no retries without its argument x-dead-letter-exchange = \"\": the broker would drop what \
                it rejects; declare it by Channel::declare_jobs under a new name, and move its messages with \
                Queue::redrive [mail]";
    assert_eq!(error.to_string(), text);
    assert_eq!(bench.vhost.queues().await.len(), 1, "nothing was declared");
    within("the consumer", 30, consume(&bench.channel.queue("mail"))).await.unwrap();
    assert_eq!(bench.vhost.queues().await.len(), 3);
}

/// RTY-07: a step that somebody has deleted is declared again by the next retry.
#[actix::test]
async fn a_deleted_step_is_declared_again() {
    let bench = Bench::open(true).await;
    let ladder = Retry::ladder(&millis(&[100]));
    let mail = jobs(&bench.channel, &ladder).await;
    let (_consumer, mut reports) = failing(&mail, &ladder).await;
    let another = bench.another_channel().await;
    another.queue("mail.retry.100").delete().await.unwrap();
    another.queue("mail.dead").delete().await.unwrap();
    bench.channel.default_exchange().publish("x", "mail").await.unwrap();
    for attempt in 1..=2 {
        assert_eq!(within("a try", 20, reports.recv()).await.unwrap().0, attempt);
    }
    let letter = get_message(&another.queue("mail.dead")).await;
    assert_eq!(text(&letter, "retry-cause"), Some("no 2"));
    letter.ack().unwrap();
}

/// RTY-08: a message whose headers leave no room for a cause is retried without it.
#[actix::test]
async fn headers_that_fill_their_frame_are_retried() {
    let bench = Bench::open(true).await;
    let ladder = Retry::ladder(&millis(&[100]));
    let mail = jobs(&bench.channel, &ladder).await;
    let (_consumer, mut reports) = failing(&mail, &ladder).await;
    // Less than the head of its frame, its names and the count of tries leave.
    let filler = "x".repeat(bench.connection.frame_max().unwrap() as usize - 72);
    let message = Publishing::new("x").header("filler", filler.as_str());
    bench.channel.default_exchange().publish(message, "mail").await.unwrap();
    assert_eq!(within("a try", 10, reports.recv()).await.unwrap().0, 1);
    let (attempt, headers) = within("a try", 10, reports.recv()).await.unwrap();
    assert_eq!(
        (attempt, headers.contains_key("retry-cause"), headers.contains_key("filler")),
        (2, false, true)
    );
    let letter = get_message(&bench.channel.queue("mail.dead")).await;
    assert_eq!((text(&letter, "filler"), text(&letter, "retry-cause")), (Some(&*filler), None));
    letter.ack().unwrap();
}

/// RTY-09: what the broker itself dead-letters (delivery limit) can be moved back, and retried again.
#[actix::test]
async fn a_dead_letter_of_the_broker_can_be_retried() {
    let bench = Bench::open(true).await;
    let ladder = Retry::ladder(&millis(&[100]));
    let declare = DeclareQueue::new("mail").quorum().delivery_limit(2);
    let mail = within("the declarations", 30, bench.channel.declare_jobs(declare, &ladder)).await.unwrap();
    bench.channel.default_exchange().publish("x", "mail").await.unwrap();
    for _ in 0..3 {
        get_message(&mail).await.reject(true).unwrap();
    }
    let dead = bench.channel.queue("mail.dead");
    let letter = get_message(&dead).await;
    assert_eq!(letter.deaths().first().map(|death| death.reason.clone()), Some(DeathReason::DeliveryLimit));
    letter.nack(true).unwrap();
    crate::support::eventually("the dead letter", 10, async || {
        (bench.channel.get_queue("mail.dead").await.unwrap().declared()?.message_count == 1).then_some(())
    })
    .await;
    let (_consumer, mut reports) = failing(&mail, &ladder).await;
    let done = within("the redrive", 20, dead.redrive("mail").run()).await.unwrap();
    assert_eq!((done.moved, done.failed), (1, 0));
    for attempt in 1..=2 {
        assert_eq!(within("a try", 20, reports.recv()).await.unwrap().0, attempt);
    }
    let letter = get_message(&dead).await;
    assert_eq!((text(&letter, "retry-cause"), letter.deaths().len()), (Some("no 2"), 0));
    letter.ack().unwrap();
}
