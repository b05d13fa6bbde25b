//! Many tasks on one channel: each gets the reply to its own call, and no message is lost or duplicated.

use std::{collections::BTreeSet, sync::Arc};

use crate::support::scripted_peer::{connect_to_peer, open_channel};
use crate::support::{broker::Vhost, eventually, oracle::Oracle, within};
use actix::prelude::*;
use actix_pika::testing::protocol::{basic, queue};
use actix_pika::testing::{PeerSocket, RawFrame};
use actix_pika::{
    Consume, DeclareExchange, DeclareQueue, Delivery, OpenChannel, Publishing, connect,
    message::CancelConsumer,
};
use futures_util::{StreamExt, future::join_all};
use tokio::sync::{Barrier, mpsc};

crate::modes! {
    /// STR-01: 50 tasks publish 200 messages each; the sequence numbers are 1 to 10,000, and each task's order is kept.
    async fn fifty_tasks_publish_on_one_channel(bench: Bench) {
        bench.channel.declare_queue("jobs").await.unwrap();
        let tasks = (0..50).map(|task| {
            let exchange = bench.channel.default_exchange();
            actix::spawn(async move {
                let mut sequences = Vec::new();
                for n in 0..200 {
                    sequences.extend(exchange.publish(format!("{task}:{n}"), "jobs").await.unwrap().sequence());
                }
                sequences
            })
        });
        let joined = join_all(tasks.collect::<Vec<_>>()).await;
        let mut sequences: Vec<u64> = joined.into_iter().flat_map(Result::unwrap).collect();
        sequences.sort_unstable();
        let expected = if bench.confirms { 10_000 } else { 0 };
        assert_eq!(sequences, (1..=expected).collect::<Vec<u64>>());
        let mut deliveries = bench.channel.queue("jobs").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
        let mut next = [0; 50];
        for _ in 0..10_000 {
            let delivery = deliveries.next().await.unwrap();
            let body = String::from_utf8(delivery.body().to_vec()).unwrap();
            let (task, n) = body.split_once(':').unwrap();
            let next: &mut usize = &mut next[task.parse::<usize>().unwrap()];
            assert_eq!(n, next.to_string(), "task {task}");
            *next += 1;
        }
        assert_eq!(next, [200; 50]);
    }

    /// CH-24: a hundred queues and a hundred exchanges declared at the same time each get their own reply.
    async fn simultaneous_declares_each_get_their_own_reply(bench: Bench) {
        let queues = join_all((0..100).map(|n| bench.channel.declare_queue(format!("q{n}"))));
        let exchanges = join_all((0..100).map(|n| bench.channel.declare_exchange(DeclareExchange::topic(format!("e{n}")))));
        let (queues, exchanges) = tokio::join!(queues, exchanges);
        for (n, (queue, exchange)) in queues.into_iter().zip(exchanges).enumerate() {
            assert_eq!(queue.unwrap().name(), format!("q{n}"));
            assert_eq!(exchange.unwrap().name(), format!("e{n}"));
        }
        assert_eq!(bench.vhost.queues().await.len(), 100);
    }

    /// CH-24: simultaneous consumes, gets and declares each get their own reply, also when the broker replies out of
    /// order.
    async fn simultaneous_consumes_and_gets_each_get_their_own_reply(bench: Bench) {
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        for n in 0..30 {
            oracle.declare_queue(&format!("q{n}")).await;
            oracle.publish("", &format!("q{n}"), format!("for {n}")).await;
        }
        let tasks = (0..30).map(|n| {
            let queue = bench.channel.queue(format!("q{n}"));
            async move {
                let mut deliveries = queue.deliveries_with(Consume::new().tag(format!("t{n}"))).await.unwrap();
                queue.channel().declare_queue(DeclareQueue::new(format!("q{n}")).passive(true)).await.unwrap();
                let delivery = deliveries.next().await.unwrap();
                assert_eq!(delivery.body(), format!("for {n}").as_bytes());
                assert_eq!(delivery.consumer_tag(), format!("t{n}"));
                delivery.ack().unwrap();
                assert!(queue.get().await.unwrap().is_none());
                deliveries.close().await.unwrap();
            }
        });
        join_all(tasks).await;
        assert!(!bench.channel.is_closed());
    }

    /// STR-04: publishes that are started before any confirm came arrive in order.
    async fn four_thousand_publishes_at_once_arrive_in_order(bench: Bench) {
        bench.channel.declare_queue("jobs").await.unwrap();
        let exchange = bench.channel.default_exchange();
        let publishes = join_all((0..4001).map(|n: u32| exchange.publish(n.to_be_bytes().to_vec(), "jobs")));
        assert!(publishes.await.iter().all(Result::is_ok));
        let mut deliveries = bench.channel.queue("jobs").deliveries_with(Consume::new().no_ack(true)).await.unwrap();
        for n in 0..4001_u32 {
            assert_eq!(deliveries.next().await.unwrap().body()[..], n.to_be_bytes());
        }
    }
}

/// Replies to consume and cancel may come after replies to later calls: in the broker, queues send the former and the
/// channel the latter.
#[actix::test]
async fn consume_and_cancel_replies_may_come_after_later_replies() {
    async fn expect_consume(socket: &mut PeerSocket) -> String {
        socket.expect::<basic::Qos>(1).await.unwrap();
        socket.expect::<basic::Consume>(1).await.unwrap().consumer_tag.to_string()
    }
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
        let ok = |tag: &str| RawFrame::method(1, basic::ConsumeOk { consumer_tag: tag.into() });
        let qos = || RawFrame::method(1, basic::QosOk {});
        let (a, b) = (channel.queue("a"), channel.queue("b"));
        let clients = async {
            tokio::join!(
                a.deliveries_with(Consume::new().tag("A")),
                b.deliveries_with(Consume::new().tag("B")),
                channel.declare_queue("c"),
            )
        };
        let server = async {
            assert_eq!([expect_consume(&mut socket).await, expect_consume(&mut socket).await], ["A", "B"]);
            socket.expect::<queue::Declare>(1).await.unwrap();
            let declared = queue::DeclareOk { queue: "c".into(), ..Default::default() };
            let frames = [qos(), qos(), RawFrame::method(1, declared), ok("B"), ok("A")];
            socket.send_frames(&frames).await.unwrap();
        };
        let ((a, b, c), ()) = tokio::join!(clients, server);
        assert_eq!(
            (a.as_ref().unwrap().tag(), b.as_ref().unwrap().tag(), c.unwrap().name()),
            ("A", "B", "c")
        );

        let clients =
            async { tokio::join!(channel.actor().send(CancelConsumer::new("A")), channel.set_qos(1)) };
        let server = async {
            socket.expect::<basic::Cancel>(1).await.unwrap();
            socket.expect::<basic::Qos>(1).await.unwrap();
            let cancelled = RawFrame::method(1, basic::CancelOk { consumer_tag: "A".into() });
            socket.send_frames(&[qos(), cancelled]).await.unwrap();
        };
        let ((cancelled, limited), ()) = tokio::join!(clients, server);
        cancelled.unwrap().unwrap();
        limited.unwrap();
        assert!(a.unwrap().next().await.is_none());
    };
    within("replies out of order", 10, test).await;
}

/// A consumer whose handlers wait at `barrier`, and then send the body and acknowledge.
struct BarrierWorker {
    barrier: Arc<Barrier>,
    done: mpsc::UnboundedSender<Vec<u8>>,
}

impl Actor for BarrierWorker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for BarrierWorker {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) -> Self::Result {
        let (barrier, done) = (self.barrier.clone(), self.done.clone());
        Box::pin(async move {
            barrier.wait().await;
            done.send(delivery.body().to_vec()).unwrap();
            delivery.ack().unwrap();
        })
    }
}

crate::modes! {
    /// STR-03: a hundred handlers run at the same time: none returns before all have started.
    async fn a_hundred_handlers_run_concurrently(bench: Bench) {
        let oracle = bench.fill_queue("jobs", (0..100).map(|n| n.to_string())).await;
        let (done, mut bodies) = mpsc::unbounded_channel();
        let worker = BarrierWorker { barrier: Arc::new(Barrier::new(100)), done }.start();
        bench.channel.queue("jobs").consume(worker).await.unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            seen.insert(bodies.recv().await.unwrap());
        }
        assert_eq!(seen.len(), 100);
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
    }

    /// STR-03: a hundred deliveries of a stream are processed at the same time.
    async fn a_hundred_stream_deliveries_are_processed_concurrently(bench: Bench) {
        let oracle = bench.fill_queue("jobs", (0..100).map(|n| n.to_string())).await;
        let barrier = Barrier::new(100);
        let deliveries = bench.channel.queue("jobs").deliveries().await.unwrap();
        let work = deliveries.take(100).for_each_concurrent(None, |delivery| {
            let barrier = &barrier;
            async move {
                barrier.wait().await;
                delivery.ack().unwrap();
            }
        });
        work.await;
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
    }

    /// STR-02, scaled: a channel with 150 consumers that settle nothing, on 150 queues bound to one fanout, is closed
    /// while 100 tasks publish: the close returns, the connection stays open, and no message is lost.
    async fn a_channel_with_many_consumers_closes_during_publishes(bench: Bench) {
        let (mut names, mut streams, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..150 {
            let declare = DeclareQueue::new("").exclusive(true).durable(false);
            let queue = bench.channel.declare_queue(declare).await.unwrap();
            queue.bind("amq.fanout", "").await.unwrap();
            streams.push(queue.deliveries_with(Consume::new().prefetch(0)).await.unwrap());
            names.push(queue.name().to_owned());
        }
        let other = bench.another_channel().await;
        let publishers: Vec<_> = (0..100).map(|n| {
            let exchange = other.exchange("amq.fanout");
            actix::spawn(async move {
                for _ in 0..4 {
                    exchange.publish(Publishing::new(n.to_string()).persistent(false), "").await.unwrap();
                }
            })
        }).collect();
        for stream in &mut streams {
            held.push(stream.next().await.unwrap());
        }
        within("the close", 20, bench.channel.close()).await.unwrap();
        assert!(held.iter().all(Delivery::is_stale));
        join_all(publishers).await.into_iter().for_each(|published| published.unwrap());
        for name in names {
            eventually("all messages are requeued", 10, async || {
                let queue = other.declare_queue(DeclareQueue::new(&*name).passive(true)).await.unwrap();
                let declared = queue.declared().unwrap();
                ((declared.message_count, declared.consumer_count) == (400, 0)).then_some(())
            })
            .await;
        }
    }
}

/// STR-05, scaled: three connections with five channels each publish a hundred messages per channel; all arrive once.
#[actix::test]
async fn counts_of_many_channels_agree() {
    let vhost = Vhost::fresh().await;
    let test = async {
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("jobs").await;
        let connections = (0..3).map(|c| {
            let url = vhost.url();
            async move {
                let connection = connect(url).await.unwrap();
                let channels = (0..5).map(|k| {
                    let connection = connection.clone();
                    async move {
                        let channel = connection.channel().await.unwrap();
                        let exchange = channel.default_exchange();
                        let publishes = (0..100).map(|n| exchange.publish(format!("{c}.{k}.{n}"), "jobs"));
                        let confirmed = join_all(publishes).await;
                        assert_eq!(channel.load().unconfirmed, 0);
                        confirmed.into_iter().map(|confirm| confirm.unwrap().sequence().unwrap()).max()
                    }
                });
                let last = join_all(channels).await;
                connection.close().await.unwrap();
                last
            }
        });
        let last: Vec<_> = join_all(connections).await.into_iter().flatten().collect();
        assert_eq!(last, [Some(100); 15]);
        let bodies: BTreeSet<Vec<u8>> = oracle.drain_bodies("jobs").await.into_iter().collect();
        assert_eq!(bodies.len(), 1500);
    };
    within("fifteen channels", 40, test).await;
}
