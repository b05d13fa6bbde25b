//! Runs the application as a process, disturbs it, and counts what becomes of its jobs.
//!
//! `JOBS=full` sends 5,000 requests in each test instead of 300, and prints the figures.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[macro_use]
#[path = "../../../tests/support/mod.rs"]
mod support;

mod app;

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use self::app::App;
use crate::support::{
    broker::{SecondNode, Vhost},
    eventually,
    oracle::Oracle,
    within,
};

fn requests() -> usize {
    if std::env::var("JOBS").is_ok_and(|jobs| jobs == "full") { 5_000 } else { 300 }
}

/// Sends jobs until each is accepted, by several clients side by side. A client repeats a request that fails.
struct Clients {
    /// Jobs that were accepted, and requests that failed.
    accepted: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Clients {
    fn start(address: &str, jobs: usize) -> Self {
        let zero = || Arc::new(AtomicUsize::new(0));
        let (next, accepted, failed) = (zero(), zero(), zero());
        let client = |_| {
            let (next, accepted, failed) = (Arc::clone(&next), Arc::clone(&accepted), Arc::clone(&failed));
            let address = address.to_owned();
            tokio::spawn(async move {
                loop {
                    let job = next.fetch_add(1, SeqCst);
                    if job >= jobs {
                        return;
                    }
                    let body = format!(r#"{{"id":"job-{job}","to":"{job}@example.org"}}"#);
                    while !matches!(app::request(&address, "POST", "/jobs", &body).await, Ok((202, _))) {
                        failed.fetch_add(1, SeqCst);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    accepted.fetch_add(1, SeqCst);
                }
            })
        };
        let tasks = (0..16).map(client).collect();
        Self { accepted, failed, tasks }
    }

    async fn until_accepted(&self, jobs: usize) {
        eventually("accepted jobs", 300, async || (self.accepted.load(SeqCst) >= jobs).then_some(())).await;
    }

    async fn finish(&mut self) {
        for task in self.tasks.drain(..) {
            within("a client", 300, task).await.unwrap();
        }
    }
}

/// Waits until nothing is left anywhere, and returns how many jobs were accepted, done, lost and done twice.
async fn figures(what: &str, app: &App, vhost: &Vhost, clients: &Clients, since: Instant) -> [usize; 4] {
    let oracle = Oracle::connect(&vhost.url()).await;
    let database = app.database().await;
    eventually("an empty outbox", 120, async || {
        (app::count(&database, "pika_outbox", "true").await == 0).then_some(())
    })
    .await;
    eventually("the last job", 300, async || {
        (app::count(&database, "jobs", "sent = 0").await == 0).then_some(())
    })
    .await;
    within("empty queues", 120, oracle.wait_for_count("jobs", 0)).await;
    eventually("no retry", 60, async || (oracle.count("jobs.retry.200").await == 0).then_some(())).await;
    let accepted = clients.accepted.load(SeqCst);
    let done = app::count(&database, "jobs", "sent > 0").await;
    let lost = accepted.saturating_sub(done);
    let twice = app::count(&database, "jobs", "sent > 1").await;
    let (failed, took) = (clients.failed.load(SeqCst), since.elapsed());
    writeln!(
        std::io::stderr(),
        "{what}: {accepted} accepted, {done} done, {lost} lost, {twice} done twice; {failed} requests repeated, {took:.1?}"
    )
    .expect("stderr is open");
    [accepted, done, lost, twice]
}

/// APP-01: the broker is stopped and started again in the middle: jobs are accepted while it is down, and each is done
/// once.
#[actix::test]
async fn a_restart_of_the_broker_loses_no_job() {
    let jobs = requests();
    let node = SecondNode::start().await;
    let vhost = Vhost::fresh_on(node.broker()).await;
    let app = App::start(&vhost.url()).await;
    let since = Instant::now();
    let mut clients = Clients::start(&app.address, jobs);
    clients.until_accepted(jobs / 2).await;
    node.stop().await;
    eventually("not ready", 30, async || (app.status("/health/ready").await == 503).then_some(())).await;
    // Requests need no broker.
    clients.until_accepted(jobs).await;
    node.start_again().await;
    clients.finish().await;
    assert_eq!(figures("broker restarted", &app, &vhost, &clients, since).await, [jobs, jobs, 0, 0]);
    app.ready().await;
    app.terminate().await;
}

/// APP-02: the process is killed in the middle, twice, and started again: every accepted job is done once.
#[actix::test]
async fn a_killed_process_loses_no_job() {
    let jobs = requests();
    let vhost = Vhost::fresh().await;
    let mut app = App::start(&vhost.url()).await;
    let since = Instant::now();
    let mut clients = Clients::start(&app.address, jobs);
    for third in 1..3 {
        clients.until_accepted(jobs * third / 3).await;
        app.kill9_and_start_again().await;
    }
    clients.finish().await;
    assert_eq!(figures("process killed twice", &app, &vhost, &clients, since).await, [jobs, jobs, 0, 0]);
    app.terminate().await;
}

/// APP-03: a job that cannot be done is a dead letter; a job that is sent twice is one; SIGTERM ends the process with
/// nothing cut off; readiness and metrics tell what happens.
#[actix::test]
async fn the_routes_tell_what_happens() {
    let vhost = Vhost::fresh().await;
    let app = App::start(&vhost.url()).await;
    assert_eq!(app.status("/health/live").await, 200);
    for (body, status) in [
        (r#"{"id":"1","to":"ada@example.org"}"#, 202),
        (r#"{"id":"1","to":"ada@example.org"}"#, 202),
        (r#"{"id":"2","to":"nobody"}"#, 202),
        (r#"{"id":"3"}"#, 400),
    ] {
        let (got, answer) = app::request(&app.address, "POST", "/jobs", body).await.unwrap();
        assert_eq!(got, status, "{body}: {answer}");
    }
    let oracle = Oracle::connect(&vhost.url()).await;
    within("a dead letter", 30, oracle.wait_for_count("jobs.dead", 1)).await;
    let database = app.database().await;
    eventually("the job", 30, async || (app::count(&database, "jobs", "sent = 1").await == 1).then_some(()))
        .await;
    assert_eq!(app::count(&database, "jobs", "true").await, 2);
    let dead = oracle.get("jobs.dead").await.unwrap();
    assert_eq!(dead.properties.message_id().as_ref().map(|id| id.as_str()), Some("2"));
    let metrics = eventually("metrics", 10, async || {
        let (_, metrics) = app::request(&app.address, "GET", "/metrics", "").await.unwrap();
        metrics.contains("actix_pika_delivered_total").then_some(metrics)
    });
    assert!(metrics.await.contains("actix_pika_confirmed_total"));
    app.terminate().await;
}
