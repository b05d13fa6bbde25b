//! What a channel does between a commit and its reply: the broker closes the connection (504) for anything but a close.

use std::{cell::Cell, rc::Rc};

use actix_pika::testing::{
    PeerSocket,
    protocol::{basic, channel, queue, tx},
};
use actix_pika::{
    Channel, Consume, DeclareQueue, OpenChannel, Publishing, connect,
    message::{CommitTx, Get, RollbackTx, SelectTx},
};
use futures_util::StreamExt;

use crate::support::{
    broker::Vhost,
    oracle::Oracle,
    scripted_peer::{connect_with_channel, open_channel},
    within,
};

const TASKS: usize = 4;
const PUBLISHES: usize = 200;
const DELIVERIES: usize = 300;

/// TX-12: four tasks publish and one settles, while another one commits as fast as it can.
#[actix::test]
async fn many_tasks_publish_and_settle_while_commits_run() {
    let test = async {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let options = OpenChannel::new().confirms(false).window(64);
        let channel = connection.channel_with(options).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        for name in ["in", "out"] {
            channel.declare_queue(DeclareQueue::new(name).quorum()).await.unwrap();
        }
        for n in 0..DELIVERIES {
            oracle.publish("", "in", n.to_string()).await;
        }
        channel.actor().send(SelectTx).await.unwrap().unwrap();
        let working = Rc::new(Cell::new(TASKS + 1));
        for task in 0..TASKS {
            let (channel, working) = (channel.clone(), working.clone());
            actix_rt::spawn(async move {
                for n in 0..PUBLISHES {
                    let content = Publishing::new(format!("{task}-{n:03}")).persistent(true);
                    channel.default_exchange().publish(content, "out").await.unwrap();
                    tokio::task::yield_now().await;
                }
                working.set(working.get() - 1);
            });
        }
        let mut deliveries = channel.queue("in").deliveries_with(Consume::new().prefetch(50)).await.unwrap();
        let settling = working.clone();
        let settled = actix_rt::spawn(async move {
            let (mut acked, mut rejected) = (0, 0);
            while acked + rejected < DELIVERIES {
                let delivery = deliveries.next().await.unwrap();
                if delivery.delivery_tag() % 3 == 0 {
                    delivery.reject(false).unwrap();
                    rejected += 1;
                } else {
                    delivery.ack().unwrap();
                    acked += 1;
                }
            }
            settling.set(settling.get() - 1);
            deliveries
        });
        let mut commits = 0;
        while working.get() > 0 {
            channel.actor().send(CommitTx).await.unwrap().unwrap();
            commits += 1;
        }
        channel.actor().send(CommitTx).await.unwrap().unwrap();
        assert!(commits > 1, "{commits} commits");
        assert!(!connection.is_closed() && !channel.is_closed());
        drop(settled.await.unwrap());
        channel.close().await.unwrap();
        assert_eq!(oracle.count("in").await, 0);
        let mut bodies = oracle.drain_bodies("out").await;
        assert_eq!(bodies.len(), TASKS * PUBLISHES);
        for task in 0..TASKS {
            let of_task = bodies.iter().filter(|body| body.starts_with(format!("{task}-").as_bytes()));
            assert!(of_task.is_sorted(), "task {task}");
        }
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), TASKS * PUBLISHES);
    };
    within("publishes and acks beside commits", 120, test).await;
}

/// A channel in transaction mode at a scripted peer, and another one of the same connection.
async fn connect_in_transaction() -> (PeerSocket, actix_pika::Connection, Channel, Channel) {
    let (mut socket, connection, channel) = connect_with_channel(OpenChannel::new(), false).await;
    let other = open_channel(&connection, &mut socket, 2, OpenChannel::new().confirms(false)).await;
    let (selected, select) =
        tokio::join!(channel.actor().send(SelectTx), socket.answer(1, |_: tx::Select| tx::SelectOk {}));
    selected.unwrap().unwrap();
    select.unwrap();
    (socket, connection, channel, other)
}

/// The next frame is that of the other channel: the client has nothing to write on the first one.
async fn expect_nothing_on_first(socket: &mut PeerSocket, other: &Channel) {
    let queue = other.queue("jobs");
    let answer = async {
        let frame = socket.next_frame().await.unwrap();
        assert!(frame.channel == 2 && frame.is::<queue::Purge>(), "{frame:?}");
        socket.send(2, queue::PurgeOk { message_count: 0 }).await.unwrap();
    };
    let (purged, ()) = tokio::join!(queue.purge(), answer);
    purged.unwrap();
}

async fn get(socket: &mut PeerSocket, channel: &Channel, tag: u64) -> actix_pika::Delivery {
    let queue = channel.queue("jobs");
    let answer = async {
        let _: basic::Get = socket.expect(1).await.unwrap();
        socket.get_ok(1, tag, 0, "job").await.unwrap();
    };
    let (delivery, ()) = tokio::join!(queue.get_with(Get::new("jobs")), answer);
    delivery.unwrap().expect("a message")
}

/// TX-12
#[actix::test]
async fn publishes_and_acks_are_written_after_the_reply_to_a_commit_or_rollback() {
    let test = async {
        let (mut socket, _connection, channel, other) = connect_in_transaction().await;
        let [first, second, third] = [
            get(&mut socket, &channel, 1).await,
            get(&mut socket, &channel, 2).await,
            get(&mut socket, &channel, 3).await,
        ];
        let exchange = channel.exchange("ledger");
        exchange.publish("debit", "a").await.unwrap();
        first.ack().unwrap();
        let actor = channel.actor().clone();
        let commit = actix_rt::spawn(async move { actor.send(CommitTx).await.unwrap() });
        assert_eq!(socket.expect_publish(1).await.unwrap().routing_key, "a");
        assert_eq!(socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag, 1);
        socket.expect::<tx::Commit>(1).await.unwrap();
        exchange.publish("credit", "b").await.unwrap();
        second.ack().unwrap();
        expect_nothing_on_first(&mut socket, &other).await;
        socket.send(1, tx::CommitOk {}).await.unwrap();
        commit.await.unwrap().unwrap();
        assert_eq!(socket.expect_publish(1).await.unwrap().routing_key, "b");
        assert_eq!(socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag, 2);

        let actor = channel.actor().clone();
        let rollback = actix_rt::spawn(async move { actor.send(RollbackTx).await.unwrap() });
        socket.expect::<tx::Rollback>(1).await.unwrap();
        // The client has no delivery for tag 2 any more: it is requeued.
        assert_eq!(socket.expect::<basic::Reject>(1).await.unwrap().delivery_tag, 2);
        socket.expect::<tx::Commit>(1).await.unwrap();
        third.reject(false).unwrap();
        exchange.publish("interest", "c").await.unwrap();
        socket.send(1, tx::RollbackOk {}).await.unwrap();
        expect_nothing_on_first(&mut socket, &other).await;
        socket.send(1, tx::CommitOk {}).await.unwrap();
        rollback.await.unwrap().unwrap();
        assert_eq!(socket.expect_publish(1).await.unwrap().routing_key, "c");
        assert_eq!(socket.expect::<basic::Reject>(1).await.unwrap().delivery_tag, 3);
    };
    within("a commit and a rollback", 20, test).await;
}

/// TX-13: the caller of the commit gets its result. What comes behind it is rolled back by the close.
#[actix::test]
async fn a_close_waits_for_the_reply_to_a_commit() {
    let test = async {
        let (mut socket, connection, channel, other) = connect_in_transaction().await;
        let job = get(&mut socket, &channel, 1).await;
        let actor = channel.actor().clone();
        let commit = actix_rt::spawn(async move { actor.send(CommitTx).await.unwrap() });
        socket.expect::<tx::Commit>(1).await.unwrap();
        channel.exchange("ledger").publish("credit", "b").await.unwrap();
        job.ack().unwrap();
        let answers = async {
            expect_nothing_on_first(&mut socket, &other).await;
            socket.send(1, tx::CommitOk {}).await.unwrap();
            assert_eq!(socket.expect_publish(1).await.unwrap().routing_key, "b");
            assert_eq!(socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag, 1);
            socket.answer(1, |_: channel::Close| channel::CloseOk {}).await.unwrap();
        };
        let (closed, ()) = tokio::join!(channel.close(), answers);
        closed.unwrap();
        commit.await.unwrap().unwrap();
        assert!(!connection.is_closed());
    };
    within("a close behind a commit", 20, test).await;
}
