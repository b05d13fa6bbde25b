//! The publish window: who waits, in which order, for how long, and what is sent meanwhile.

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
    Channel, Connection, ErrorKind, OpenChannel, Result, connect,
    message::{Confirmation, Publish},
};
use actix_rt::task::JoinHandle;
use futures_util::{FutureExt, future::join_all};

/// A channel through a proxy, with the queue "q" to publish to.
struct Line {
    vhost: Vhost,
    proxy: Proxy,
    connection: Connection,
    channel: Channel,
}

impl Line {
    async fn open(options: OpenChannel) -> Self {
        let vhost = Vhost::fresh().await;
        let proxy = Proxy::to(&vhost.broker().address());
        let connection = connect(proxy.url(&vhost.url())).await.unwrap();
        let channel = connection.channel_with(options).await.unwrap();
        channel.declare_queue("q").await.unwrap();
        Self { vhost, proxy, connection, channel }
    }

    /// Publishes from a task of its own, and waits until that waits.
    async fn wait(
        &self,
        body: impl Into<String>,
        done: &Rc<RefCell<Vec<String>>>,
    ) -> JoinHandle<Result<Confirmation>> {
        let (exchange, body, done) = (self.channel.default_exchange(), body.into(), done.clone());
        let before = self.waiting();
        let task = actix_rt::spawn(async move {
            let answer = exchange.publish(body.clone(), "q").await;
            done.borrow_mut().push(body);
            answer
        });
        eventually("it waits", 5, || async { (self.waiting() == before + 1).then_some(()) }).await;
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

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Design 13.6: those who wait for the window enter in the order in which they came, and nobody overtakes them.
#[actix::test]
async fn waiters_enter_in_order_and_nobody_barges() {
    let line = Line::open(OpenChannel::new().window(1)).await;
    let exchange = line.channel.default_exchange();
    line.proxy.stall(Direction::ToClient);
    let first = exchange.publish_deferred("first", "q").await.unwrap();
    assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    let done = Rc::default();
    let mut tasks = Vec::new();
    for n in 0..10 {
        tasks.push(line.wait(n.to_string(), &done).await);
        assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    }
    line.proxy.resume(Direction::ToClient);
    // The window is free at this point and ten wait for it: none of them has been polled yet.
    within("the first", 10, first).await.unwrap();
    assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    let barger = exchange.publish("last", "q");
    let (barger, answers) = within("the window", 10, async { tokio::join!(barger, join_all(tasks)) }).await;
    assert_eq!(barger.unwrap().sequence(), Some(12));
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().unwrap().sequence(), Some(n as u64 + 2));
    }
    let mut expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(*done.borrow(), expected);
    expected.insert(0, "first".into());
    expected.push("last".into());
    assert_eq!(line.bodies().await, expected);
}

/// Design 13.6: a waiter that was woken and is dropped passes its wake on; one that is dropped before leaves the line.
#[actix::test]
async fn a_dropped_waiter_passes_its_wake_on() {
    let line = Line::open(OpenChannel::new().window(1)).await;
    let exchange = line.channel.default_exchange();
    line.proxy.stall(Direction::ToClient);
    let first = exchange.publish_deferred("first", "q").await.unwrap();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut woken = Box::pin(exchange.publish("dropped", "q"));
    assert!(woken.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let mut unwoken = Box::pin(exchange.publish("dropped", "q"));
    assert!((&mut unwoken).now_or_never().is_none());
    assert_eq!(line.waiting(), 2);
    let next = line.wait("next", &Rc::default()).await;
    drop(unwoken);
    assert_eq!(line.waiting(), 2);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);

    line.proxy.resume(Direction::ToClient);
    within("the first", 10, first).await.unwrap();
    assert!(wakes.0.load(Ordering::SeqCst) > 0);
    assert!(!next.is_finished());
    drop(woken);
    assert_eq!(within("the wake", 10, next).await.unwrap().unwrap().sequence(), Some(2));
    assert_eq!(line.bodies().await, ["first", "next"]);
}

/// Design 13.4: a deadline that passes while a publish waits means "not sent"; after it was sent, "may have arrived".
/// The channel goes on.
#[actix::test]
async fn deadlines_tell_what_was_sent_from_what_was_not() {
    let line = Line::open(OpenChannel::new().window(1).deadline(Duration::from_millis(300))).await;
    let exchange = line.channel.default_exchange();
    line.proxy.stall(Direction::ToClient);
    let sent = exchange.publish_deferred("sent", "q").await.unwrap();
    let done = Rc::default();
    let waits = [line.wait("not sent", &done).await, line.wait("nor this", &done).await];
    let message = line.channel.actor().send(Publish::new("", "q", "by message"));
    let error = within("the deadline", 5, sent).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.may_have_arrived(), error.is_retryable()),
        (ErrorKind::Timeout, true, true)
    );
    for wait in waits {
        let error = within("the deadline", 5, wait).await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.may_have_arrived(), error.is_retryable()),
            (ErrorKind::Timeout, false, true)
        );
        assert!(error.to_string().contains("not sent"), "{error}");
    }
    let error = within("the deadline", 5, message).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, false));
    assert_eq!(line.waiting(), 0);
    assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    line.proxy.resume(Direction::ToClient);
    eventually("the confirm comes late", 5, || async {
        (line.channel.load().unconfirmed == 0).then_some(())
    })
    .await;
    assert_eq!(exchange.publish("goes on", "q").await.unwrap().sequence(), Some(2));
    assert_eq!(line.bodies().await, ["sent", "goes on"]);
}

/// BLK-07, PUB-02: without confirms the window is of what the socket has not taken: a peer that does not read holds the
/// publisher back, "not sent" after the deadline, and goes on when it reads again.
#[actix::test]
async fn without_confirms_the_socket_holds_publishers_back() {
    let options = OpenChannel::new().confirms(false).window(4).deadline(Duration::from_millis(500));
    let line = Line::open(options).await;
    let exchange = line.channel.default_exchange();
    let body = vec![7u8; 256 << 10];
    line.proxy.stall(Direction::ToBroker);
    let mut sent = 0;
    let error = loop {
        match within("the window or the deadline", 10, exchange.publish(body.clone(), "q")).await {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 400, "100 MiB and nothing held the publisher back");
    };
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, false));
    assert!(line.channel.load().bytes <= 5 * (body.len() + 100), "{:?}", line.channel.load());
    assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    line.proxy.resume(Direction::ToBroker);
    within("the window", 10, exchange.publish("last", "q")).await.unwrap();
    line.channel.declare_queue("q").await.unwrap();
    let bodies = Oracle::connect(&line.vhost.url()).await.drain("q").await;
    assert_eq!(bodies.len(), sent + 1);
    assert!(bodies.iter().take(sent).all(|message| message.data == body));
}

/// PUB-18, design 13.4: a Confirm that is dropped frees nothing: its publish counts until the broker has answered.
#[actix::test]
async fn a_dropped_confirm_keeps_its_place() {
    let line = Line::open(OpenChannel::new().window(2)).await;
    let exchange = line.channel.default_exchange();
    line.proxy.stall(Direction::ToClient);
    drop(exchange.publish_deferred("1", "q").await.unwrap());
    drop(exchange.try_publish("2", "q").unwrap().expect("room for two"));
    assert_eq!(line.channel.load().unconfirmed, 2);
    assert!(exchange.try_publish("refused", "q").unwrap().is_none());
    let third = line.wait("3", &Rc::default()).await;
    line.proxy.resume(Direction::ToClient);
    assert_eq!(within("the third", 10, third).await.unwrap().unwrap().sequence(), Some(3));
    assert_eq!(line.bodies().await, ["1", "2", "3"]);
}

/// Design 7.2, 13.12: closing the channel answers those who wait for the window, and awaits those who have entered.
#[actix::test]
async fn closing_answers_who_waits() {
    let line = Line::open(OpenChannel::new().window(1)).await;
    line.proxy.stall(Direction::ToClient);
    let sent = line.channel.default_exchange().publish_deferred("sent", "q").await.unwrap();
    let waits = line.wait("not sent", &Rc::default()).await;
    let closing = actix_rt::spawn({
        let channel = line.channel.clone();
        async move { channel.close().await }
    });
    let error = within("an answer", 5, waits).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, false));
    assert!(!closing.is_finished());
    line.proxy.resume(Direction::ToClient);
    within("the confirm", 10, sent).await.unwrap();
    within("the close", 10, closing).await.unwrap().unwrap();
    assert_eq!(line.bodies().await, ["sent"]);
}

/// PUB-18, design 13.12: when every handle is dropped, what is under way is still confirmed, and who awaits it hears so.
#[actix::test]
async fn dropping_every_handle_awaits_the_confirms() {
    let Line { vhost, proxy, connection, channel } = Line::open(OpenChannel::new()).await;
    proxy.stall(Direction::ToClient);
    let confirm = channel.default_exchange().publish_deferred("body", "q").await.unwrap();
    drop((channel, connection));
    proxy.resume(Direction::ToClient);
    assert_eq!(within("the confirm", 10, confirm).await.unwrap().sequence(), Some(1));
    within("the connection ends", 10, proxy.wait_for_open(0)).await;
    assert_eq!(Oracle::connect(&vhost.url()).await.count("q").await, 1);
}

crate::modes! {
    /// Design 13.12: what was published before the last handle was dropped arrives, also where nobody waits for it.
    async fn what_was_published_before_the_handles_were_dropped_arrives(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let exchange = bench.channel.default_exchange();
        for n in 0..200 {
            drop(exchange.publish_deferred(vec![7; n * 50], "q").await.unwrap());
        }
        let Bench { vhost, connection, channel, .. } = bench;
        drop((exchange, channel, connection));
        let oracle = Oracle::connect(&vhost.url()).await;
        eventually("all of them", 10, || async { (oracle.count("q").await == 200).then_some(()) }).await;
    }

    /// Design 13.12: closing writes out what was published before it.
    async fn closing_writes_out_what_was_published(bench: Bench) {
        bench.channel.declare_queue("q").await.unwrap();
        let other = bench.another_channel().await;
        for n in 0..200 {
            drop(bench.channel.default_exchange().publish_deferred(vec![7; n * 50], "q").await.unwrap());
            drop(other.default_exchange().publish_deferred(vec![7; n * 50], "q").await.unwrap());
        }
        bench.channel.close().await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert!(oracle.count("q").await >= 200);
        bench.connection.close().await.unwrap();
        assert_eq!(oracle.count("q").await, 400);
    }

    /// PUB-27: a connection that breaks while somebody publishes without pause: the next publishes are errors at once.
    async fn a_broken_connection_ends_a_publish_loop(bench: Bench) {
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

    /// PUB-31: a thousand tasks with a window of sixteen: all are done, and all is there.
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

    /// Design 13.6: a window of nothing is one of one, not a hang.
    async fn a_window_of_nothing_lets_one_through(bench: Bench) {
        let options = Bench::options(bench.confirms).window(0).window_bytes(0);
        let channel = bench.connection.channel_with(options).await.unwrap();
        channel.declare_queue("q").await.unwrap();
        for n in 0..10 {
            let body = vec![7; n * 10_000];
            within("a publish", 10, channel.default_exchange().publish(body, "q")).await.unwrap();
        }
        channel.declare_queue("q").await.unwrap();
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.count("q").await, 10);
    }

    /// PUB-31: handles may be used from other threads than the connection's.
    async fn publishing_from_other_threads(bench: Bench) {
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
        assert_eq!(Oracle::connect(&bench.vhost.url()).await.count("q").await, 400);
    }
}
