//! The thread on which a connection runs, and when it ends.

use std::path::PathBuf;

use actix::prelude::*;
use actix_pika::{Connection, Connector, Consume, Credentials, Delivery, ErrorKind, connect};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::{broker::Vhost, eventually, within};

/// Returns a connector that sends the thread of its connection: it is the one that asks for credentials.
fn thread_of(connector: Connector) -> (Connector, UnboundedReceiver<PathBuf>) {
    let (sender, receiver) = unbounded_channel();
    let provider = move || {
        let sent = sender.send(this_thread());
        async move {
            sent.unwrap();
            Ok(Credentials::new("guest", "guest"))
        }
    };
    (connector.credentials(provider), receiver)
}

/// Returns the path that the calling thread has in `/proc` until it ends.
fn this_thread() -> PathBuf {
    PathBuf::from("/proc").join(std::fs::read_link("/proc/thread-self").unwrap())
}

async fn thread_ends(thread: PathBuf) {
    eventually("the end of the thread", 10, async || (!thread.exists()).then_some(())).await;
}

async fn open(connector: Connector) -> (Connection, PathBuf) {
    let (connector, mut threads) = thread_of(connector);
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    (connection, threads.recv().await.unwrap())
}

async fn publish(connection: &Connection) {
    let work = async {
        let channel = connection.channel().await?;
        channel.declare_queue("jobs").await?;
        channel.default_exchange().publish("work", "jobs").await
    };
    within("a publish", 10, work).await.unwrap();
}

/// CON-28: as with a connection that a worker of actix-web opens.
#[actix::test]
async fn a_connection_outlives_the_arbiter_that_opens_it() {
    let vhost = Vhost::fresh().await;
    let worker = Arbiter::new();
    let (sender, mut opened) = unbounded_channel();
    let connector = Connector::new(&vhost.url()).unwrap();
    worker.spawn(async move { sender.send(open(connector).await).unwrap() });
    let (connection, thread) = within("a connection", 10, opened.recv()).await.unwrap();
    worker.stop();
    worker.join().unwrap();
    publish(&connection).await;
    assert_eq!(thread, this_thread());
    within("close", 10, connection.close()).await.unwrap();
}

/// CON-28
#[test]
fn a_connection_on_its_own_thread_outlives_the_system() {
    let (vhost, connection, thread) = System::new().block_on(async {
        let vhost = Vhost::fresh().await;
        let (connection, thread) = open(Connector::new(&vhost.url()).unwrap().own_thread()).await;
        assert_ne!(thread, this_thread());
        (vhost, connection, thread)
    });
    System::new().block_on(async {
        publish(&connection).await;
        // It still answers after the close, until no handle is left.
        within("close", 10, connection.close()).await.unwrap();
        assert_eq!(connection.channel().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
        assert!(thread.exists());
        drop(connection);
        thread_ends(thread).await;
        drop(vhost);
    });
}

/// CON-28: each connection has one thread, which ends after the close that the drop of the last handle begins.
#[tokio::test]
async fn threads_end_with_their_connections() {
    let vhost = Vhost::fresh().await;
    let mut threads = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..8 {
        let (connection, thread) = open(Connector::new(&vhost.url()).unwrap()).await;
        assert!(thread.exists() && !threads.contains(&thread));
        threads.push(thread);
        connections.push(connection);
    }
    let channel = connections.remove(0).channel().await.unwrap();
    drop(connections);
    for thread in threads.drain(1..) {
        thread_ends(thread).await;
    }
    // A channel keeps its connection open.
    assert!(threads[0].exists());
    within("a declare", 10, channel.declare_queue("jobs")).await.unwrap();
    drop(channel);
    thread_ends(threads.remove(0)).await;
}

#[tokio::test]
async fn the_thread_of_a_connect_that_fails_ends() {
    let (connector, mut threads) = thread_of(Connector::host("127.0.0.1", 1));
    let error = within("connect", 10, connector.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    // Nothing listens, so that credentials may not be asked for.
    if let Some(thread) = threads.recv().await {
        thread_ends(thread).await;
    }

    let vhost = Vhost::fresh().await;
    let connector = Connector::new(&vhost.url()).unwrap().vhost("no such virtual host");
    let (connector, mut threads) = thread_of(connector);
    let error = within("connect", 10, connector.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Vhost);
    thread_ends(threads.recv().await.unwrap()).await;
}

/// Stops the `System` of its thread, and sends the bodies of its deliveries.
struct Stopper(UnboundedSender<String>);

impl Actor for Stopper {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        System::current().stop();
    }
}

impl Handler<Delivery> for Stopper {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        let body = String::from_utf8_lossy(delivery.body()).into_owned();
        delivery.ack().unwrap();
        self.0.send(body).unwrap();
    }
}

/// Without an arbiter of the caller, supervised workers run on the thread of the connection.
#[tokio::test]
async fn a_worker_that_stops_the_system_of_the_thread_does_not_end_the_connection() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    let (sender, mut bodies) = unbounded_channel();
    let worker = move || Stopper(sender.clone());
    queue.consume_supervised(Consume::new(), worker).await.unwrap();
    for body in ["one", "two"] {
        within("a publish", 10, channel.default_exchange().publish(body, "jobs")).await.unwrap();
        assert_eq!(within("a delivery", 10, bodies.recv()).await.as_deref(), Some(body));
    }
    within("close", 10, connection.close()).await.unwrap();
}
