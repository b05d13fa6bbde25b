//! Moving dead letters back.

use crate::support::{
    get_message, modes::Bench, oracle::Oracle, proxy::*, robust_connection::RobustConnection, within,
};
use actix_pika::{Channel, Consume, ErrorKind, Publishing, Queue, redrive::RedriveProgress, retry::Retry};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Declares "mail" with its ladder, and publishes this many dead letters with their headers to "mail.dead".
async fn dead_letters(channel: &Channel, count: u32) -> Queue {
    let ladder = Retry::ladder(&[Duration::from_secs(1)]);
    channel.declare_jobs("mail", &ladder).await.unwrap();
    for n in 0..count {
        let message =
            Publishing::new(n.to_string()).message_id(format!("mail-{n}")).header("retry-attempt", 2);
        let message = message.header("retry-cause", "no such host").header("traceparent", "00-1");
        channel.default_exchange().publish(message, "mail.dead").await.unwrap();
    }
    channel.queue("mail.dead")
}

type Reports = Arc<Mutex<Vec<(u64, u64, u64)>>>;

/// Returns a function for the progress, and what it was told: moved, failed, remaining.
fn reports() -> (impl FnMut(&RedriveProgress) + Send + 'static, Reports) {
    let reports = Reports::default();
    let written = reports.clone();
    let write = move |so_far: &RedriveProgress| {
        written.lock().unwrap().push((so_far.moved, so_far.failed, so_far.remaining));
    };
    (write, reports)
}

/// RTY-10: all dead letters are moved once, with progress, and their tries begin again.
#[actix::test]
async fn dead_letters_are_moved_back() {
    let bench = Bench::open(true).await;
    let dead = dead_letters(&bench.channel, 30).await;
    let (progress, reports) = reports();
    let done =
        within("the redrive", 20, dead.redrive("mail").progress(progress).rate(1_000).run()).await.unwrap();
    assert_eq!((done.moved, done.failed, done.remaining), (30, 0, 0));
    assert!(done.error.is_none());
    let expected: Vec<_> = (1..=30).map(|n| (n, 0, 30 - n)).collect();
    assert_eq!(*reports.lock().unwrap(), expected);
    let mut bodies = BTreeSet::new();
    for _ in 0..30 {
        let job = get_message(&bench.channel.queue("mail")).await;
        let headers = job.properties().unwrap().headers().unwrap();
        assert_eq!(headers.get("retry-redriven").and_then(|times| times.as_i64()), Some(1));
        assert_eq!(headers.get("traceparent").and_then(|parent| parent.as_str()), Some("00-1"));
        assert!(
            !headers.contains_key("retry-attempt") && !headers.contains_key("retry-cause"),
            "{headers:?}"
        );
        let body = String::from_utf8_lossy(job.body()).into_owned();
        assert_eq!(job.properties().unwrap().message_id(), Some(&*format!("mail-{body}")));
        assert!(bodies.insert(body));
        job.ack().unwrap();
    }
    bench.channel.close().await.unwrap();
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    assert_eq!((oracle.count("mail").await, oracle.count("mail.dead").await), (0, 0));
    let none = bench.connection.channel().await.unwrap().queue("mail.dead").redrive("mail").run();
    assert_eq!(within("a redrive of nothing", 10, none).await.unwrap().moved, 0);
}

/// RTY-11: a redrive to a queue that is missing ends after 16 failures, and every message is still there.
#[actix::test]
async fn dead_letters_that_cannot_be_moved_stay() {
    let bench = Bench::open(true).await;
    let dead = dead_letters(&bench.channel, 40).await;
    let (progress, reports) = reports();
    let done = within("the redrive", 20, dead.redrive("nowhere").progress(progress).run()).await.unwrap();
    assert_eq!((done.moved, done.failed, done.remaining), (0, 16, 24));
    assert_eq!(done.error.map(|error| error.kind()), Some(ErrorKind::Unroutable));
    assert_eq!(reports.lock().unwrap().len(), 16);
    bench.channel.close().await.unwrap();
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    within("the messages", 20, oracle.wait_for_requeue("mail.dead", 40)).await;
}

/// RTY-12: no more are moved than the limit, and a queue is not moved to itself.
#[actix::test]
async fn a_redrive_has_a_limit() {
    let bench = Bench::open(true).await;
    let dead = dead_letters(&bench.channel, 10).await;
    let done = within("the redrive", 20, dead.redrive("mail").limit(3).run()).await.unwrap();
    assert_eq!((done.moved, done.failed, done.remaining), (3, 0, 0));
    let refused = dead.redrive("mail.dead").run().await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Refused, None));
    bench.channel.close().await.unwrap();
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    within("the rest", 20, oracle.wait_for_requeue("mail.dead", 7)).await;
    assert_eq!(oracle.count("mail").await, 3);
}

/// RTY-13: a redrive ends when another consumer has the rest.
#[actix::test]
async fn a_redrive_ends_when_others_take_the_rest() {
    let bench = Bench::open(true).await;
    let dead = dead_letters(&bench.channel, 60).await;
    let another = bench.another_channel().await;
    let (moved, mut first) = tokio::sync::mpsc::unbounded_channel();
    let redrive = dead.redrive("mail").rate(20).progress(move |so_far| {
        let _ = moved.send(so_far.moved);
    });
    let redrive = tokio::task::spawn_local(redrive.run());
    within("the first one", 10, first.recv()).await.unwrap();
    let taken = another.queue("mail.dead").deliveries_with(Consume::new().prefetch(0)).await.unwrap();
    let done = within("the redrive", 20, redrive).await.unwrap().unwrap();
    assert_eq!((done.moved + done.remaining, done.failed), (60, 0));
    assert!(done.remaining > 0, "{done:?}");
    assert_eq!(another.load().unsettled as u64, done.remaining);
    drop(taken);
}

/// RTY-14: over cuts, every dead letter is moved; one that is moved twice has its id.
#[actix::test]
async fn a_redrive_goes_on_over_cuts() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let dead = dead_letters(&channel, 200).await;
    let redrive = tokio::task::spawn_local(dead.redrive("mail").rate(100).run());
    for n in 0..3 {
        let direction = if n % 2 == 0 { Direction::ToClient } else { Direction::ToBroker };
        robust.proxy.cut_once_after(direction, 2_000 + 500 * n, Cut::Rst);
        robust.wait_for_loss().await;
        robust.wait_for_recovery().await;
    }
    let done = within("the redrive", 40, redrive).await.unwrap().unwrap();
    assert_eq!((done.failed, done.remaining), (0, 0), "{done:?}");
    within("the close", 10, robust.connection.close()).await.unwrap();
    let oracle = robust.oracle().await;
    let left = oracle.drain("mail.dead").await.into_iter().map(|message| message.data);
    let moved = oracle.drain("mail").await.into_iter().map(|message| message.data);
    let bodies: BTreeSet<_> = moved.chain(left).map(|body| String::from_utf8(body).unwrap()).collect();
    assert_eq!(bodies.len(), 200);
}

/// RTY-16: a function for the progress that panics is not called again, and every message is moved once.
#[actix::test]
async fn a_redrive_goes_on_without_a_progress_that_panics() {
    let bench = Bench::open(true).await;
    let dead = dead_letters(&bench.channel, 5).await;
    let redrive =
        dead.redrive("mail").progress(|so_far| panic!("a progress panics in this test: {so_far:?}"));
    let done = within("the redrive", 20, redrive.run()).await.unwrap();
    assert_eq!((done.moved, done.failed, done.remaining), (5, 0, 0));
    bench.channel.close().await.unwrap();
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    assert_eq!((oracle.count("mail").await, oracle.count("mail.dead").await), (5, 0));
}
