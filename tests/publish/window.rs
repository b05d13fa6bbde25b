//! The publish window with a real broker: the order in which publishes wait, deadlines, closing, and dropped handles.

use std::{
    cell::RefCell,
    future::Future,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use crate::support::{
    broker::Vhost,
    eventually,
    modes::Bench,
    oracle::Oracle,
    proxy::{Direction, Proxy},
    within,
};
use actix_pika::{
    Channel, Connection, ErrorKind, OpenChannel, Publishing, Result, connect,
    message::{Confirmation, Publish},
};
use actix_rt::task::JoinHandle;
use futures_util::{FutureExt, future::join_all};

/// A channel through a proxy, with the queue "q".
struct ProxiedChannel {
    vhost: Vhost,
    proxy: Proxy,
    connection: Connection,
    channel: Channel,
}

impl ProxiedChannel {
    async fn open(options: OpenChannel) -> Self {
        let vhost = Vhost::fresh().await;
        let proxy = Proxy::to(&vhost.broker().address());
        let connection = connect(proxy.url(&vhost.url())).await.unwrap();
        let channel = connection.channel_with(options).await.unwrap();
        channel.declare_queue("q").await.unwrap();
        Self { vhost, proxy, connection, channel }
    }

    /// Spawns a task that publishes `body` and then adds it to `done`. Returns when the publish waits for the window.
    async fn spawn_waiting(
        &self,
        body: impl Into<String>,
        done: &Rc<RefCell<Vec<String>>>,
    ) -> JoinHandle<Result<Confirmation>> {
        let (exchange, body, done) = (self.channel.default_exchange(), body.into(), done.clone());
        let before = self.waiting();
        let task = actix_rt::spawn(async move {
            let result = exchange.publish(body.clone(), "q").await;
            done.borrow_mut().push(body);
            result
        });
        eventually("one more waiting publish", 5, || async { (self.waiting() == before + 1).then_some(()) })
            .await;
        task
    }

    fn waiting(&self) -> usize {
        self.channel.load().waiting
    }

    async fn bodies(&self) -> Vec<String> {
        let bodies = Oracle::connect(&self.vhost.url()).await.drain_bodies("q").await;
        bodies.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }
}

/// Counts the wakes of a waker.
#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Design 13.6: publishes that wait for the window are sent in the order in which they came, and no other overtakes
/// them.
#[actix::test]
async fn waiting_publishes_are_sent_in_order() {
    let proxied = ProxiedChannel::open(OpenChannel::new().window(1)).await;
    let exchange = proxied.channel.default_exchange();
    proxied.proxy.stall(Direction::ToClient);
    let first = exchange.publish_deferred("first", "q").await.unwrap();
    assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    let done = Rc::default();
    let mut tasks = Vec::new();
    for n in 0..10 {
        tasks.push(proxied.spawn_waiting(n.to_string(), &done).await);
        assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    }
    proxied.proxy.resume(Direction::ToClient);
    // The window has room again, and none of the ten waiting tasks has been polled yet.
    within("the first", 10, first).await.unwrap();
    assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    let last = exchange.publish("last", "q");
    let (last, results) = within("the window", 10, async { tokio::join!(last, join_all(tasks)) }).await;
    assert_eq!(last.unwrap().sequence(), Some(12));
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.unwrap().unwrap().sequence(), Some(n as u64 + 2));
    }
    let mut expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(*done.borrow(), expected);
    expected.insert(0, "first".into());
    expected.push("last".into());
    assert_eq!(proxied.bodies().await, expected);
}

/// Design 13.6: a waiting publish that is dropped after its wake wakes the next one; one dropped before leaves the
/// queue.
#[actix::test]
async fn a_dropped_waiting_publish_wakes_the_next_one() {
    let proxied = ProxiedChannel::open(OpenChannel::new().window(1)).await;
    let exchange = proxied.channel.default_exchange();
    proxied.proxy.stall(Direction::ToClient);
    let first = exchange.publish_deferred("first", "q").await.unwrap();
    let wakes = Arc::new(WakeCount::default());
    let waker = Waker::from(wakes.clone());
    let mut woken = Box::pin(exchange.publish("dropped", "q"));
    assert!(woken.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let mut unwoken = Box::pin(exchange.publish("dropped", "q"));
    assert!((&mut unwoken).now_or_never().is_none());
    assert_eq!(proxied.waiting(), 2);
    let next = proxied.spawn_waiting("next", &Rc::default()).await;
    drop(unwoken);
    assert_eq!(proxied.waiting(), 2);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);

    proxied.proxy.resume(Direction::ToClient);
    within("the first", 10, first).await.unwrap();
    assert!(wakes.0.load(Ordering::SeqCst) > 0);
    assert!(!next.is_finished());
    drop(woken);
    assert_eq!(within("the wake", 10, next).await.unwrap().unwrap().sequence(), Some(2));
    assert_eq!(proxied.bodies().await, ["first", "next"]);
}

/// Design 13.4: a publish whose deadline passes while it waits was not sent; one that was sent may have arrived. The
/// channel stays open.
#[actix::test]
async fn a_timeout_distinguishes_sent_from_waiting_publishes() {
    let proxied =
        ProxiedChannel::open(OpenChannel::new().window(1).deadline(Duration::from_millis(300))).await;
    let exchange = proxied.channel.default_exchange();
    proxied.proxy.stall(Direction::ToClient);
    let sent = exchange.publish_deferred("sent", "q").await.unwrap();
    let done = Rc::default();
    let waiting =
        [proxied.spawn_waiting("not sent", &done).await, proxied.spawn_waiting("not sent", &done).await];
    let message = proxied.channel.actor().send(Publish::new("", "q", "by message"));
    let error = within("the deadline", 5, sent).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.may_have_arrived(), error.is_retryable()),
        (ErrorKind::Timeout, true, true)
    );
    for publish in waiting {
        let error = within("the deadline", 5, publish).await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.may_have_arrived(), error.is_retryable()),
            (ErrorKind::Timeout, false, true)
        );
        assert!(error.to_string().contains("not sent"), "{error}");
    }
    let error = within("the deadline", 5, message).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, false));
    assert_eq!(proxied.waiting(), 0);
    assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    proxied.proxy.resume(Direction::ToClient);
    eventually("the late confirm", 5, || async { (proxied.channel.load().unconfirmed == 0).then_some(()) })
        .await;
    // A busy machine may take longer for it than the deadline of the channel.
    let next = Publishing::new("next").deadline(Duration::from_secs(5));
    assert_eq!(exchange.publish(next, "q").await.unwrap().sequence(), Some(2));
    assert_eq!(proxied.bodies().await, ["sent", "next"]);
}

/// BLK-07, PUB-02: without confirms, the window limits the bytes that are not written to the socket yet: while the peer
/// does not read, publishes wait, and fail as not sent at their deadline. They are sent once it reads again.
#[actix::test]
async fn without_confirms_publishes_wait_for_the_socket() {
    let options = OpenChannel::new().confirms(false).window(4).deadline(Duration::from_millis(500));
    let proxied = ProxiedChannel::open(options).await;
    let exchange = proxied.channel.default_exchange();
    let body = vec![7u8; 256 << 10];
    proxied.proxy.stall(Direction::ToBroker);
    let mut sent = 0;
    let error = loop {
        match within("the window or the deadline", 10, exchange.publish(body.clone(), "q")).await {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 400, "100 MiB were published without waiting");
    };
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, false));
    assert!(proxied.channel.load().bytes <= 5 * (body.len() + 100), "{:?}", proxied.channel.load());
    assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    proxied.proxy.resume(Direction::ToBroker);
    within("the window", 10, exchange.publish("last", "q")).await.unwrap();
    proxied.channel.declare_queue("q").await.unwrap();
    let bodies = Oracle::connect(&proxied.vhost.url()).await.drain("q").await;
    assert_eq!(bodies.len(), sent + 1);
    assert!(bodies.iter().take(sent).all(|message| message.data == body));
}

/// PUB-18, design 13.4: the publish of a dropped Confirm counts in the window until the broker confirms it.
#[actix::test]
async fn the_publish_of_a_dropped_confirm_stays_in_the_window() {
    let proxied = ProxiedChannel::open(OpenChannel::new().window(2)).await;
    let exchange = proxied.channel.default_exchange();
    proxied.proxy.stall(Direction::ToClient);
    drop(exchange.publish_deferred("1", "q").await.unwrap());
    drop(exchange.try_publish("2", "q").unwrap().expect("room for two"));
    assert_eq!(proxied.channel.load().unconfirmed, 2);
    assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    let third = proxied.spawn_waiting("3", &Rc::default()).await;
    proxied.proxy.resume(Direction::ToClient);
    assert_eq!(within("the third", 10, third).await.unwrap().unwrap().sequence(), Some(3));
    assert_eq!(proxied.bodies().await, ["1", "2", "3"]);
}

/// Design 7.2, 13.12: closing a channel fails the publishes that wait for the window, and waits for those that were
/// sent.
#[actix::test]
async fn closing_fails_waiting_publishes() {
    let proxied = ProxiedChannel::open(OpenChannel::new().window(1)).await;
    proxied.proxy.stall(Direction::ToClient);
    let sent = proxied.channel.default_exchange().publish_deferred("sent", "q").await.unwrap();
    let waiting = proxied.spawn_waiting("not sent", &Rc::default()).await;
    let closing = actix_rt::spawn({
        let channel = proxied.channel.clone();
        async move { channel.close().await }
    });
    let error = within("a result", 5, waiting).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, false));
    assert!(!closing.is_finished());
    proxied.proxy.resume(Direction::ToClient);
    within("the confirm", 10, sent).await.unwrap();
    within("the close", 10, closing).await.unwrap().unwrap();
    assert_eq!(proxied.bodies().await, ["sent"]);
}

/// PUB-18, design 13.12: when all handles are dropped, a publish that was sent is still confirmed to its Confirm.
#[actix::test]
async fn outstanding_confirms_arrive_after_all_handles_are_dropped() {
    let ProxiedChannel { vhost, proxy, connection, channel } = ProxiedChannel::open(OpenChannel::new()).await;
    proxy.stall(Direction::ToClient);
    let confirm = channel.default_exchange().publish_deferred("body", "q").await.unwrap();
    drop((channel, connection));
    proxy.resume(Direction::ToClient);
    assert_eq!(within("the confirm", 10, confirm).await.unwrap().sequence(), Some(1));
    within("the connection ends", 10, proxy.wait_for_open(0)).await;
    Oracle::connect(&vhost.url()).await.wait_for_count("q", 1).await;
}

crate::modes! {
    /// Design 13.12: messages that were published before all handles were dropped arrive, even without awaiting a
    /// Confirm.
    async fn messages_published_before_all_handles_are_dropped_arrive(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        for n in 0..200 {
            drop(exchange.publish_deferred(vec![7; n * 50], "q").await.unwrap());
        }
        let Bench { vhost, connection, channel, .. } = bench;
        drop((exchange, channel, connection));
        let oracle = Oracle::connect(&vhost.url()).await;
        eventually("all messages", 10, || async { (oracle.count("q").await == 200).then_some(()) }).await;
    }

    /// Design 13.12: closing a channel or connection first writes the earlier publishes.
    async fn closing_writes_earlier_publishes(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let other = bench.another_channel().await;
        for n in 0..200 {
            drop(bench.channel.default_exchange().publish_deferred(vec![7; n * 50], "q").await.unwrap());
            drop(other.default_exchange().publish_deferred(vec![7; n * 50], "q").await.unwrap());
        }
        bench.channel.close().await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        // Without confirms they are counted later.
        eventually("those of the channel", 10, async || (oracle.count("q").await >= 200).then_some(())).await;
        bench.connection.close().await.unwrap();
        oracle.wait_for_count("q", 400).await;
    }

    /// PUB-27: a loop of publishes ends with an error soon after the connection is lost; later publishes fail at once.
    async fn a_lost_connection_ends_a_publish_loop(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let proxy = Proxy::to(&bench.vhost.broker().address());
        let connection = connect(proxy.url(&bench.vhost.url())).await.unwrap();
        let channel = connection.channel_with(Bench::options(bench.confirms)).await.unwrap();
        let exchange = channel.default_exchange();
        let publisher = actix_rt::spawn(async move {
            let mut sent = 0;
            loop {
                match exchange.publish(vec![7; 1000], "q").await {
                    Ok(_) => sent += 1,
                    Err(error) => return (sent, error),
                }
                tokio::task::yield_now().await;
            }
        });
        within("some publishes", 10, proxy.wait_for_bytes(Direction::ToBroker, 50_000)).await;
        proxy.cut_all(crate::support::proxy::Cut::Rst);
        let (sent, error) = within("an error", 5, publisher).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionClosed, "{error}");
        assert!(error.is_retryable() && (bench.confirms || !error.may_have_arrived()));
        assert!(sent >= 40);
        let again = channel.default_exchange().publish("body", "q").await.unwrap_err();
        assert_eq!((again.kind(), again.may_have_arrived()), (ErrorKind::ConnectionClosed, false));
    }

    /// PUB-31: a thousand tasks publish on a channel with a window of sixteen: all messages arrive, in order.
    async fn a_thousand_tasks_share_a_small_window(bench: Bench) {
        let options = Bench::options(bench.confirms).window(16);
        let channel = bench.connection.channel_with(options).await.unwrap();
        channel.declare_queue("q").await.unwrap();
        let tasks = (0..1000).map(|n| {
            let exchange = channel.default_exchange();
            actix_rt::spawn(async move { exchange.publish(n.to_string(), "q").await })
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            within("a publish", 20, task).await.unwrap().unwrap();
        }
        channel.declare_queue("q").await.unwrap();
        let bodies = Oracle::connect(&bench.vhost.url()).await.drain_bodies("q").await;
        assert_eq!(bodies, (0..1000).map(|n| n.to_string().into_bytes()).collect::<Vec<_>>());
        let load = channel.load();
        assert_eq!((load.unconfirmed, load.bytes, load.waiting), (0, 0, 0));
    }

    /// Design 13.6: a window of zero lets one publish at a time through.
    async fn a_window_of_zero_lets_one_publish_through(bench: Bench) {
        let options = Bench::options(bench.confirms).window(0).window_bytes(0);
        let channel = bench.connection.channel_with(options).await.unwrap();
        channel.declare_queue("q").await.unwrap();
        for n in 0..10 {
            let body = vec![7; n * 10_000];
            within("a publish", 10, channel.default_exchange().publish(body, "q")).await.unwrap();
        }
        channel.declare_queue("q").await.unwrap();
        Oracle::connect(&bench.vhost.url()).await.wait_for_count("q", 10).await;
    }

    /// PUB-31: handles can publish from threads other than the connection's.
    async fn handles_publish_from_other_threads(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let exchange = bench.channel.default_exchange();
                std::thread::spawn(move || {
                    let publish = async {
                        for _ in 0..100 {
                            exchange.publish("body", "q").await.unwrap();
                        }
                    };
                    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(publish);
                })
            })
            .collect();
        for thread in threads {
            tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        }
        bench.channel.declare_queue("q").await.unwrap();
        Oracle::connect(&bench.vhost.url()).await.wait_for_count("q", 400).await;
    }
}
