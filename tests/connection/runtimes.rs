//! Where a connection can live: an actix `System`, several arbiters, a tokio runtime without any of these.

use std::sync::mpsc;

use crate::support::{broker::Vhost, oracle::Oracle, within};
use actix::prelude::*;
use actix_pika::{Channel, Connection, Connector, Delivery, ErrorKind, Result, connect};
use futures_util::{StreamExt, future::join_all};

/// Publishes to a queue of this name, reads it back from a stream, and closes.
async fn session(url: &str, name: &str) -> Result<()> {
    let connection = connect(url).await?;
    let channel = connection.channel().await?;
    round_trip(&channel, name).await?;
    connection.close().await?;
    assert!(connection.is_closed());
    Ok(())
}

async fn round_trip(channel: &Channel, name: &str) -> Result<()> {
    let queue = channel.declare_queue(name).await?;
    let exchange = channel.default_exchange();
    let mut deliveries = queue.deliveries().await?;
    for n in 0..20 {
        exchange.publish(format!("{name} {n}"), name).await?;
    }
    for n in 0..20 {
        let delivery = deliveries.next().await.expect("a delivery");
        assert_eq!(delivery.body(), format!("{name} {n}").as_bytes());
        delivery.ack()?;
    }
    deliveries.close().await
}

/// A virtual host from outside of any runtime.
fn vhost() -> Vhost {
    tokio::runtime::Runtime::new().unwrap().block_on(Vhost::fresh())
}

/// `#[actix::main]` is this.
#[test]
fn a_session_runs_in_a_system() {
    let vhost = vhost();
    let url = vhost.url();
    System::new().block_on(within("a session", 20, async { session(&url, "jobs").await.unwrap() }));
}

/// One System after the other, on the same thread.
#[test]
fn a_session_runs_in_one_system_after_the_other() {
    let vhost = vhost();
    for n in 0..3 {
        let session = async { session(&vhost.url(), &format!("jobs{n}")).await.unwrap() };
        System::new().block_on(within("a session", 20, session));
    }
}

/// A tokio runtime on a thread whose System is over.
#[test]
fn a_session_runs_in_tokio_after_a_system() {
    let vhost = vhost();
    System::new().block_on(async {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(within("a session", 20, async { session(&vhost.url(), "jobs").await.unwrap() }));
}

/// `#[tokio::main]`: no System anywhere, many threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_run_in_tokio_without_a_system() {
    let vhost = Vhost::fresh().await;
    within("a session", 20, session(&vhost.url(), "jobs")).await.unwrap();
    let sessions = (0..6).map(|n| {
        let url = vhost.url();
        tokio::spawn(async move { session(&url, &format!("jobs{n}")).await })
    });
    let all = within("six sessions", 30, join_all(sessions)).await;
    all.into_iter().for_each(|session| session.unwrap().unwrap());
}

/// The handles of one connection, used and dropped by tasks on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_are_shared_by_the_tasks_of_a_tokio_runtime() {
    let vhost = Vhost::fresh().await;
    let connection = connect(vhost.url()).await.unwrap();
    let tasks = (0..4).map(|n| {
        let connection = connection.clone();
        tokio::spawn(async move { round_trip(&connection.channel().await?, &format!("jobs{n}")).await })
    });
    let all = within("four tasks", 30, join_all(tasks)).await;
    all.into_iter().for_each(|task| task.unwrap().unwrap());
    within("close", 10, connection.close()).await.unwrap();
}

/// What lives on the library's own thread outlives the runtime that asked for it.
#[test]
fn a_connection_outlives_the_tokio_runtime_that_made_it() {
    let vhost = vhost();
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = runtime();
    let (connection, channel): (Connection, Channel) = first.block_on(async {
        let connection = connect(vhost.url()).await.unwrap();
        let channel = connection.channel().await.unwrap();
        (connection, channel)
    });
    drop(first);
    assert!(!connection.is_closed());
    let second = runtime();
    second.block_on(within("the second runtime", 20, async {
        round_trip(&channel, "jobs").await.unwrap();
        session(&vhost.url(), "others").await.unwrap();
        connection.close().await.unwrap();
    }));
    drop(second);
    assert!(connection.is_closed());
    drop((connection, channel));
}

/// As in actix-web: every worker has an arbiter, and either connects or shares a connection.
#[test]
fn several_arbiters_connect_and_share() {
    let vhost = vhost();
    System::new().block_on(within("three arbiters", 30, async {
        let shared = connect(vhost.url()).await.unwrap();
        let channel = shared.channel().await.unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let arbiters: Vec<Arbiter> = (0..3).map(|_| Arbiter::new()).collect();
        for (n, arbiter) in arbiters.iter().enumerate() {
            let (url, shared, channel, tell) = (vhost.url(), shared.clone(), channel.clone(), tell.clone());
            arbiter.spawn(async move {
                let results = [
                    session(&url, &format!("own{n}")).await,
                    async { round_trip(&shared.channel().await?, &format!("connection{n}")).await }.await,
                    round_trip(&channel, &format!("channel{n}")).await,
                ];
                tell.send(results).unwrap();
            });
        }
        for _ in 0..3 {
            told.recv().await.unwrap().into_iter().for_each(|result| result.unwrap());
        }
        shared.close().await.unwrap();
        for arbiter in arbiters {
            arbiter.stop();
            arbiter.join().unwrap();
        }
    }));
}

/// Acknowledges, and tells the bodies and its thread.
struct Worker(mpsc::Sender<(String, std::thread::ThreadId)>);

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Worker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        let body = String::from_utf8(delivery.body().to_vec()).unwrap();
        delivery.ack().unwrap();
        // The test may have seen enough.
        let _ = self.0.send((body, std::thread::current().id()));
    }
}

/// The connection on an arbiter by choice, the worker on another: it runs where it was started.
#[actix::test]
async fn a_connection_lives_on_the_arbiter_that_it_is_given() {
    let vhost = Vhost::fresh().await;
    let (io, work) = (Arbiter::new(), Arbiter::new());
    let connector = Connector::new(&vhost.url()).unwrap().arbiter(&io.handle());
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    let (tell, told) = mpsc::channel();
    let worker = Worker::start_in_arbiter(&work.handle(), |_| Worker(tell));
    let consumer = queue.consume(worker.recipient()).await.unwrap();
    for n in 0..50 {
        channel.default_exchange().publish(n.to_string(), "jobs").await.unwrap();
    }
    // Before anything ends: the worker acknowledges on a thread of its own.
    let seen = tokio::task::spawn_blocking(move || {
        let limit = std::time::Duration::from_secs(10);
        (0..50).map(|_| told.recv_timeout(limit).unwrap()).collect::<Vec<_>>()
    });
    let seen = seen.await.unwrap();
    within("cancel", 10, consumer.cancel()).await.unwrap();
    within("close", 10, connection.close()).await.unwrap();
    let numbers: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(seen.iter().map(|(body, _)| body.clone()).collect::<Vec<_>>(), numbers);
    assert!(seen.iter().all(|(_, thread)| *thread == seen[0].1 && *thread != std::thread::current().id()));
    let oracle = Oracle::connect(&vhost.url()).await;
    assert_eq!(oracle.count("jobs").await, 0);
}

/// Whoever stops the arbiter below a connection leaves nobody waiting.
#[actix::test]
async fn the_end_of_its_arbiter_is_the_end_of_a_connection() {
    let vhost = Vhost::fresh().await;
    let io = Arbiter::new();
    let connector = Connector::new(&vhost.url()).unwrap().arbiter(&io.handle());
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    let mut deliveries = queue.deliveries().await.unwrap();
    io.stop();
    io.join().unwrap();
    let rest = async {
        assert!(deliveries.next().await.is_none());
        assert_eq!(connection.closed().await.unwrap_err().kind(), ErrorKind::Stopped);
        assert!(connection.is_closed() && channel.is_closed());
        let gone = [ErrorKind::Stopped, ErrorKind::ConnectionClosed];
        let publish = channel.default_exchange().publish("late", "jobs").await.unwrap_err();
        assert!(gone.contains(&publish.kind()), "{publish:?}");
        assert!(gone.contains(&channel.set_qos(1).await.unwrap_err().kind()));
        assert!(gone.contains(&connection.channel().await.unwrap_err().kind()));
        channel.close().await.unwrap();
        connection.close().await.unwrap();
        let again = Connector::new(&vhost.url()).unwrap().arbiter(&io_handle_of_the_dead()).connect().await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Stopped);
    };
    within("the answers", 10, rest).await;
}

fn io_handle_of_the_dead() -> ArbiterHandle {
    let arbiter = Arbiter::new();
    let handle = arbiter.handle();
    arbiter.stop();
    arbiter.join().unwrap();
    handle
}
