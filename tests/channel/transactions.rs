//! AMQP transactions: commit, rollback, and errors that end them.

use crate::support::{
    broker::Vhost, eventually, oracle::Oracle, scripted_peer::connect_with_channel, within,
};
use actix_pika::testing::protocol::{basic, tx};
use actix_pika::{
    Channel, Connection, DeclareQueue, ErrorKind, OpenChannel, Queue, connect,
    message::{CommitTx, Get, RollbackTx, SelectTx, Settle},
};

/// A channel without confirms and the queue "jobs", in a virtual host of their own.
struct Fixture {
    vhost: Vhost,
    connection: Connection,
    channel: Channel,
    queue: Queue,
    oracle: Oracle,
}

impl Fixture {
    async fn open() -> Self {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let channel = connection.channel_with(OpenChannel::new().confirms(false)).await.unwrap();
        let queue = channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        Self { vhost, connection, channel, queue, oracle }
    }

    /// Publishes to the queue with the other client.
    async fn publish(&self, bodies: &[&str]) {
        for body in bodies {
            self.oracle.publish("", "jobs", body).await;
        }
    }

    async fn get(&self) -> actix_pika::Delivery {
        self.queue.get().await.unwrap().expect("a message")
    }
}

/// Defines a test for each `async fn name(fixture: Fixture)`, with a limit of 60 seconds.
macro_rules! transaction_tests {
    ($($(#[$meta:meta])* async fn $name:ident($fixture:ident: Fixture) $body:block)*) => { $(
        $(#[$meta])*
        #[actix::test]
        async fn $name() {
            within(stringify!($name), 60, async { let $fixture = Fixture::open().await; $body }).await;
        }
    )* };
}

transaction_tests! {
    /// TX-02, TX-04: messages are in the queue after the commit, and not before.
    async fn a_commit_publishes(fixture: Fixture) {
        let transaction = fixture.channel.transaction().await.unwrap();
        for body in ["one", "two"] {
            fixture.channel.default_exchange().publish(body, "jobs").await.unwrap();
        }
        // The answer shows that the broker has read the publishes.
        assert_eq!(fixture.channel.get_queue("jobs").await.unwrap().declared().unwrap().message_count, 0);
        assert_eq!(fixture.oracle.count("jobs").await, 0);
        transaction.commit().await.unwrap();
        assert_eq!(fixture.oracle.drain_bodies("jobs").await, [b"one", b"two"]);
    }

    /// TX-02, TX-04: the next transaction does not contain them.
    async fn a_rollback_discards_publishes(fixture: Fixture) {
        let transaction = fixture.channel.transaction().await.unwrap();
        fixture.channel.default_exchange().publish("never", "jobs").await.unwrap();
        transaction.rollback().await.unwrap();
        let transaction = fixture.channel.transaction().await.unwrap();
        fixture.channel.default_exchange().publish("now", "jobs").await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(fixture.oracle.drain_bodies("jobs").await, [b"now"]);
    }

    /// TX-03: for instance by an early return.
    async fn a_dropped_transaction_rolls_back(fixture: Fixture) {
        let failing = async {
            let _transaction = fixture.channel.transaction().await?;
            fixture.channel.default_exchange().publish("never", "jobs").await?;
            Err::<(), _>(actix_pika::Error::credentials("the work failed"))
        };
        assert_eq!(failing.await.unwrap_err().kind(), ErrorKind::Auth, "the error of the closure");
        let transaction = fixture.channel.transaction().await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(fixture.oracle.count("jobs").await, 0);
        assert!(!fixture.channel.is_closed());
    }

    /// TX-04
    async fn closing_the_channel_discards_uncommitted_publishes(fixture: Fixture) {
        let transaction = fixture.channel.transaction().await.unwrap();
        fixture.channel.default_exchange().publish("never", "jobs").await.unwrap();
        fixture.channel.close().await.unwrap();
        let late = transaction.commit().await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::ChannelClosed);
        assert_eq!(fixture.oracle.count("jobs").await, 0);
    }

    /// TX-01: the client refuses them, and the channel stays open.
    async fn a_channel_with_confirms_has_no_transactions(fixture: Fixture) {
        let channel = fixture.connection.channel().await.unwrap();
        let refused = channel.transaction().await.unwrap_err();
        assert_eq!((refused.kind(), refused.close_reason()), (ErrorKind::Refused, None));
        channel.default_exchange().publish("x", "jobs").await.unwrap();
        assert!(channel.transaction().await.is_err(), "refused again");
    }

    /// TX-05: the client refuses them, and the channel stays open.
    async fn commit_and_rollback_require_select(fixture: Fixture) {
        let actor = fixture.channel.actor();
        for result in [actor.send(CommitTx).await.unwrap(), actor.send(RollbackTx).await.unwrap()] {
            let refused = result.unwrap_err();
            assert_eq!((refused.kind(), refused.close_reason()), (ErrorKind::Refused, None));
        }
        actor.send(SelectTx).await.unwrap().unwrap();
        actor.send(SelectTx).await.unwrap().unwrap();
        actor.send(CommitTx).await.unwrap().unwrap();
        assert!(!fixture.channel.is_closed());
    }

    /// TX-11: the broker reads them only once it has committed.
    async fn calls_behind_a_commit_wait_for_its_reply(fixture: Fixture) {
        let actor = fixture.channel.actor();
        let jobs = fixture.channel.default_exchange();
        actor.send(SelectTx).await.unwrap().unwrap();
        for body in ["1", "2", "3"] {
            jobs.publish(body, "jobs").await.unwrap();
            let (first, second, rolled_back, declared, last) = tokio::join!(
                actor.send(CommitTx),
                actor.send(CommitTx),
                actor.send(RollbackTx),
                fixture.channel.declare_queue(DeclareQueue::new("more")),
                actor.send(CommitTx),
            );
            for result in [first, second, rolled_back, last] {
                result.unwrap().unwrap();
            }
            declared.unwrap();
        }
        assert_eq!(fixture.oracle.drain_bodies("jobs").await, [b"1", b"2", b"3"]);
        jobs.publish("4", "jobs").await.unwrap();
        let (committed, missing) = tokio::join!(actor.send(CommitTx), fixture.channel.get_queue("nope"));
        committed.unwrap().unwrap();
        assert_eq!(missing.unwrap_err().code(), Some(404));
        assert_eq!(fixture.oracle.drain_bodies("jobs").await, [b"4"]);
        assert!(!fixture.connection.is_closed());
    }

    /// TX-02
    async fn a_channel_has_one_transaction_at_a_time(fixture: Fixture) {
        let first = fixture.channel.transaction().await.unwrap();
        let second = fixture.channel.clone().transaction().await.unwrap_err();
        assert_eq!((second.kind(), second.close_reason()), (ErrorKind::Refused, None));
        first.commit().await.unwrap();
        fixture.channel.transaction().await.unwrap().rollback().await.unwrap();
    }

    /// TX-06: the other publishes of the transaction are committed.
    async fn commit_reports_an_unroutable_publish(fixture: Fixture) {
        let transaction = fixture.channel.transaction().await.unwrap();
        let exchange = fixture.channel.default_exchange();
        exchange.publish("unroutable", "nowhere").await.unwrap();
        exchange.publish("routable", "jobs").await.unwrap();
        let unroutable = transaction.commit().await.unwrap_err();
        assert_eq!(unroutable.kind(), ErrorKind::Unroutable);
        let returned = unroutable.returned().expect("the publish");
        assert_eq!((returned.code, &returned.body[..]), (312, &b"unroutable"[..]));
        assert_eq!(fixture.oracle.drain_bodies("jobs").await, [b"routable"]);
        let transaction = fixture.channel.transaction().await.unwrap();
        transaction.commit().await.expect("the return was reported before");
    }

    /// TX-08: acks in any order, and rejects.
    async fn acks_and_rejects_take_effect_at_the_commit(fixture: Fixture) {
        fixture.publish(&["1", "2", "3"]).await;
        let transaction = fixture.channel.transaction().await.unwrap();
        let (first, second, third) = (fixture.get().await, fixture.get().await, fixture.get().await);
        third.ack().unwrap();
        first.ack().unwrap();
        second.reject(true).unwrap();
        // The answer shows that the broker has read the reject.
        assert_eq!(fixture.channel.get_queue("jobs").await.unwrap().declared().unwrap().message_count, 0);
        transaction.commit().await.unwrap();
        assert_eq!(fixture.oracle.drain_bodies("jobs").await, [b"2"]);
        fixture.channel.close().await.unwrap();
        assert_eq!(fixture.oracle.count("jobs").await, 0, "nothing is unacknowledged");
    }

    /// TX-08
    async fn closing_the_channel_discards_uncommitted_acks(fixture: Fixture) {
        fixture.publish(&["1"]).await;
        let _transaction = fixture.channel.transaction().await.unwrap();
        fixture.get().await.ack().unwrap();
        fixture.channel.close().await.unwrap();
        let again = eventually("the message is requeued", 10, || fixture.oracle.get("jobs")).await;
        assert!(again.redelivered);
    }

    /// TX-08: the messages are requeued. Later acks do not include them.
    async fn a_rollback_requeues_settled_messages(fixture: Fixture) {
        fixture.publish(&["1", "2", "3", "4", "5"]).await;
        let transaction = fixture.channel.transaction().await.unwrap();
        let [one, two, three] = [fixture.get().await, fixture.get().await, fixture.get().await];
        one.ack().unwrap();
        three.reject(false).unwrap();
        transaction.rollback().await.unwrap();
        let mut requeued = fixture.oracle.drain("jobs").await;
        requeued.sort_by(|a, b| a.data.cmp(&b.data));
        let requeued: Vec<_> = requeued.iter().map(|m| (&m.data[..], m.redelivered)).collect();
        assert_eq!(requeued, [(&b"1"[..], true), (b"3", true), (b"4", false), (b"5", false)]);
        let transaction = fixture.channel.transaction().await.unwrap();
        two.ack().unwrap();
        transaction.commit().await.unwrap();
        fixture.channel.close().await.unwrap();
        assert_eq!(fixture.oracle.count("jobs").await, 0);
    }

    /// TX-10: the broker closes the channel at the publish.
    async fn a_publish_to_a_missing_exchange_ends_the_transaction(fixture: Fixture) {
        let transaction = fixture.channel.transaction().await.unwrap();
        fixture.channel.default_exchange().publish("never", "jobs").await.unwrap();
        fixture.channel.exchange("nothing").publish("x", "y").await.unwrap();
        let error = transaction.commit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ChannelClosed);
        assert_eq!(error.close_reason().unwrap().code, 404);
        assert_eq!(fixture.oracle.count("jobs").await, 0);
        assert!(!fixture.connection.is_closed());
    }

    /// TX-07: its settle is sent on its own channel, even if the `Settle` message goes to the channel with the transaction.
    async fn a_delivery_of_another_channel_is_no_part_of_the_transaction(fixture: Fixture) {
        fixture.publish(&["1", "2"]).await;
        let transaction = fixture.channel.transaction().await.unwrap();
        let own = fixture.get().await;
        let other = fixture.connection.channel().await.unwrap();
        let foreign = other.queue("jobs").get().await.unwrap().expect("a message");
        // Both channels use the same tag.
        assert_eq!((own.delivery_tag(), foreign.delivery_tag()), (1, 1));
        fixture.channel.actor().send(Settle::reject(foreign, true)).await.unwrap().unwrap();
        let requeued = eventually("the message is requeued", 10, || fixture.oracle.get("jobs")).await;
        assert_eq!(requeued.data, b"2");
        own.ack().unwrap();
        transaction.commit().await.unwrap();
        fixture.channel.close().await.unwrap();
        assert_eq!(fixture.oracle.count("jobs").await, 0);
    }
}

/// TX-07: the broker closes the channel at the ack. The commit fails with the cause.
#[actix::test]
async fn an_unknown_tag_ends_the_transaction() {
    let test = async {
        let (mut socket, connection, channel) = connect_with_channel(OpenChannel::new(), false).await;
        let (transaction, select) =
            tokio::join!(channel.transaction(), socket.answer(1, |_: tx::Select| tx::SelectOk {}));
        let (transaction, _) = (transaction.unwrap(), select.unwrap());
        let queue = channel.queue("jobs");
        let answer_get = async {
            let _: basic::Get = socket.expect(1).await.unwrap();
            socket.get_ok(1, 7, 0, "x").await.unwrap();
        };
        let (delivery, ()) = tokio::join!(queue.get_with(Get::new("jobs")), answer_get);
        delivery.unwrap().expect("a message").ack().unwrap();
        let ack: basic::Ack = socket.expect(1).await.unwrap();
        assert_eq!(ack.delivery_tag, 7);
        let text = "PRECONDITION_FAILED - unknown delivery tag 7";
        socket.close_channel(1, 406, text, 60, 80).await.unwrap();
        let error = within("the commit", 5, transaction.commit()).await.unwrap_err();
        let reason = error.close_reason().unwrap();
        assert_eq!((error.kind(), reason.code, reason.method), (ErrorKind::ChannelClosed, 406, "basic.ack"));
        assert!(channel.is_closed() && !connection.is_closed());
    };
    within("an unknown tag", 20, test).await;
}
