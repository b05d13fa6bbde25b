//! Connections in an actix `System`, on several arbiters, and in a tokio runtime without actix.

use std::{sync::mpsc, time::Duration};

use crate::support::{
    broker::Vhost,
    oracle::Oracle,
    scripted_peer::{connect_to_peer, open_channel},
    within,
};
use actix::prelude::*;
use actix_pika::{
    Channel, Connection, Connector, Delivery, ErrorKind, OpenChannel, Result, connect,
    testing::{Probe, protocol::queue},
};
use futures_util::{StreamExt, future::join_all};

/// Connects, makes a [`round_trip`] through a queue of this name, and closes.
async fn session(url: &str, name: &str) -> Result<()> {
    let connection = connect(url).await?;
    let channel = connection.channel().await?;
    round_trip(&channel, name).await?;
    connection.close().await?;
    assert!(connection.is_closed());
    Ok(())
}

/// Publishes 20 messages to a queue of this name and consumes them.
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

/// Creates a virtual host without a runtime of the caller.
fn vhost() -> Vhost {
    tokio::runtime::Runtime::new().unwrap().block_on(Vhost::fresh())
}

/// As with `#[actix::main]`.
#[test]
fn a_session_works_in_a_system() {
    let vhost = vhost();
    let url = vhost.url();
    System::new().block_on(within("a session", 20, async { session(&url, "jobs").await.unwrap() }));
}

/// On the same thread.
#[test]
fn sessions_work_in_consecutive_systems() {
    let vhost = vhost();
    for n in 0..3 {
        let session = async { session(&vhost.url(), &format!("jobs{n}")).await.unwrap() };
        System::new().block_on(within("a session", 20, session));
    }
}

/// On the same thread.
#[test]
fn a_session_works_in_tokio_after_a_system_has_ended() {
    let vhost = vhost();
    System::new().block_on(async {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(within("a session", 20, async { session(&vhost.url(), "jobs").await.unwrap() }));
}

/// As with `#[tokio::main]`, which has several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_work_in_tokio_without_a_system() {
    let vhost = Vhost::fresh().await;
    within("a session", 20, session(&vhost.url(), "jobs")).await.unwrap();
    let sessions = (0..6).map(|n| {
        let url = vhost.url();
        tokio::spawn(async move { session(&url, &format!("jobs{n}")).await })
    });
    let all = within("six sessions", 30, join_all(sessions)).await;
    all.into_iter().for_each(|session| session.unwrap().unwrap());
}

/// On several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_a_tokio_runtime_share_a_connection() {
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

/// The connection runs on a thread of its own.
#[test]
fn a_connection_outlives_the_tokio_runtime_that_opened_it() {
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

/// As in actix-web, where every worker has an arbiter. A worker uses its own connection, its own channel on a shared
/// connection, or a shared channel.
#[test]
fn arbiters_use_own_and_shared_connections() {
    let vhost = vhost();
    System::new().block_on(within("three arbiters", 30, async {
        let shared = connect(vhost.url()).await.unwrap();
        let channel = shared.channel().await.unwrap();
        let (sender, mut results) = tokio::sync::mpsc::unbounded_channel();
        let arbiters: Vec<Arbiter> = (0..3).map(|_| Arbiter::new()).collect();
        for (n, arbiter) in arbiters.iter().enumerate() {
            let (url, shared, channel, sender) =
                (vhost.url(), shared.clone(), channel.clone(), sender.clone());
            arbiter.spawn(async move {
                let of_arbiter = [
                    session(&url, &format!("own{n}")).await,
                    async { round_trip(&shared.channel().await?, &format!("connection{n}")).await }.await,
                    round_trip(&channel, &format!("channel{n}")).await,
                ];
                sender.send(of_arbiter).unwrap();
            });
        }
        for _ in 0..3 {
            results.recv().await.unwrap().into_iter().for_each(|result| result.unwrap());
        }
        shared.close().await.unwrap();
        for arbiter in arbiters {
            arbiter.stop();
            arbiter.join().unwrap();
        }
    }));
}

/// Acknowledges each delivery, and sends its body and the thread of the actor.
struct Worker(mpsc::Sender<(String, std::thread::ThreadId)>);

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Worker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        let body = String::from_utf8(delivery.body().to_vec()).unwrap();
        delivery.ack().unwrap();
        // The test may have ended.
        let _ = self.0.send((body, std::thread::current().id()));
    }
}

/// The worker runs on the arbiter that it was started on.
#[actix::test]
async fn a_connection_runs_on_the_given_arbiter() {
    let vhost = Vhost::fresh().await;
    let (io, work) = (Arbiter::new(), Arbiter::new());
    let connector = Connector::new(&vhost.url()).unwrap().arbiter(&io.handle());
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    let (sender, received) = mpsc::channel();
    let worker = Worker::start_in_arbiter(&work.handle(), |_| Worker(sender));
    let consumer = queue.consume(worker.recipient()).await.unwrap();
    for n in 0..50 {
        channel.default_exchange().publish(n.to_string(), "jobs").await.unwrap();
    }
    // Before the cancel, because the worker acknowledges on another thread.
    let seen = tokio::task::spawn_blocking(move || {
        let limit = std::time::Duration::from_secs(10);
        (0..50).map(|_| received.recv_timeout(limit).unwrap()).collect::<Vec<_>>()
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

/// CON-27: every pending and later call fails, the closes too.
#[actix::test]
async fn a_connection_ends_when_its_arbiter_stops() {
    let vhost = Vhost::fresh().await;
    let io = Arbiter::new();
    let connector = Connector::new(&vhost.url()).unwrap().arbiter(&io.handle());
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    let mut deliveries = queue.deliveries().await.unwrap();
    channel.default_exchange().publish("early", "jobs").await.unwrap();
    let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
    let probe = Probe::<Delivery>::start();
    let consumer = channel.declare_queue("others").await.unwrap().consume(probe.recipient()).await.unwrap();
    io.stop();
    io.join().unwrap();
    let rest = async {
        assert!(deliveries.next().await.is_none());
        assert_eq!(connection.closed().await.unwrap_err().kind(), ErrorKind::Stopped);
        assert!(connection.is_closed() && channel.is_closed());
        let kinds = [ErrorKind::Stopped, ErrorKind::ConnectionClosed];
        let publish = channel.default_exchange().publish("late", "jobs").await.unwrap_err();
        assert!(kinds.contains(&publish.kind()), "{publish:?}");
        assert!(kinds.contains(&channel.set_qos(1).await.unwrap_err().kind()));
        assert!(kinds.contains(&connection.channel().await.unwrap_err().kind()));
        assert!(kinds.contains(&channel.declare_queue("late").await.unwrap_err().kind()));
        assert!(kinds.contains(&channel.wait_for_confirms().await.unwrap_err().kind()));
        assert!(kinds.contains(&consumer.cancel().await.unwrap_err().kind()));
        assert!(delivery.ack().is_err());
        assert_eq!(connection.health().await.unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!(connection.update_secret("late", "").await.unwrap_err().kind(), ErrorKind::Stopped);
        for _ in 0..2 {
            assert_eq!(channel.close().await.unwrap_err().kind(), ErrorKind::Stopped);
            assert_eq!(connection.close().await.unwrap_err().kind(), ErrorKind::Stopped);
        }
        let again =
            Connector::new(&vhost.url()).unwrap().arbiter(&handle_of_a_stopped_arbiter()).connect().await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Stopped);
    };
    within("the results", 10, rest).await;
}

/// CON-27: what is under way when the arbiter of the connection stops fails.
#[actix::test]
async fn pending_calls_fail_when_the_arbiter_of_the_connection_stops() {
    let io = Arbiter::new();
    let connect = connect_to_peer(|connector| connector.arbiter(&io.handle()));
    let (connection, mut socket) = within("connect", 10, connect).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    let second = open_channel(&connection, &mut socket, 2, OpenChannel::new()).await;
    let confirm = channel.default_exchange().publish_deferred("x", "jobs").await.unwrap();
    socket.expect_publish(1).await.unwrap();
    let declare = actix::spawn(async move { second.declare_queue("jobs").await.map(drop) });
    socket.expect::<queue::Declare>(2).await.unwrap();
    let closes = [
        actix::spawn({
            let channel = channel.clone();
            async move { channel.close().await }
        }),
        actix::spawn({
            let connection = connection.clone();
            async move { connection.close().await }
        }),
    ];
    // Lets both calls begin. The connection is being closed once it opens no channel any more.
    socket.expect_nothing(Duration::from_millis(50)).await.unwrap();
    let late = within("a refusal", 10, connection.channel()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ConnectionClosed);
    io.stop();
    io.join().unwrap();
    let kinds = [ErrorKind::Stopped, ErrorKind::ConnectionClosed];
    assert!(kinds.contains(&within("the confirm", 10, confirm).await.unwrap_err().kind()));
    assert!(kinds.contains(&within("the call", 10, declare).await.unwrap().unwrap_err().kind()));
    for close in closes {
        within("the close", 10, close).await.unwrap().unwrap_err();
    }
    assert_eq!(within("ready", 10, connection.ready()).await.unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(within("the end", 10, connection.closed()).await.unwrap_err().kind(), ErrorKind::Stopped);
}

fn handle_of_a_stopped_arbiter() -> ArbiterHandle {
    let arbiter = Arbiter::new();
    let handle = arbiter.handle();
    arbiter.stop();
    arbiter.join().unwrap();
    handle
}
