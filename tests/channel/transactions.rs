//! Transactions.

use crate::support::{
    broker::Vhost, eventually, oracle::Oracle, scripted_peer::connect_with_channel, within,
};
use actix_pika::testing::protocol::{basic, tx};
use actix_pika::{
    Channel, Connection, DeclareQueue, ErrorKind, OpenChannel, Queue, connect,
    message::{CommitTx, Get, RollbackTx, SelectTx, Settle},
};

struct Bank {
    vhost: Vhost,
    connection: Connection,
    channel: Channel,
    queue: Queue,
    oracle: Oracle,
}

impl Bank {
    async fn open() -> Self {
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let channel = connection.channel_with(OpenChannel::new().confirms(false)).await.unwrap();
        let queue = channel.declare_queue(DeclareQueue::new("ledger")).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        Self { vhost, connection, channel, queue, oracle }
    }

    async fn put(&self, bodies: &[&str]) {
        for body in bodies {
            self.oracle.publish("", "ledger", body).await;
        }
    }

    async fn take(&self) -> actix_pika::Delivery {
        self.queue.get().await.unwrap().expect("a message")
    }
}

/// Runs an `async fn(bank: Bank)`, 60 seconds at most.
macro_rules! banks {
    ($($(#[$meta:meta])* async fn $name:ident($bank:ident: Bank) $body:block)*) => { $(
        $(#[$meta])*
        #[actix::test]
        async fn $name() {
            within(stringify!($name), 60, async { let $bank = Bank::open().await; $body }).await;
        }
    )* };
}

banks! {
    /// TX-02, TX-04: what is published inside is there after the commit, and not before.
    async fn a_commit_publishes(bank: Bank) {
        let transaction = bank.channel.transaction().await.unwrap();
        for body in ["one", "two"] {
            bank.channel.default_exchange().publish(body, "ledger").await.unwrap();
        }
        // An answer behind the publishes: they have arrived, and are not visible.
        assert_eq!(bank.channel.get_queue("ledger").await.unwrap().declared().unwrap().message_count, 0);
        assert_eq!(bank.oracle.count("ledger").await, 0);
        transaction.commit().await.unwrap();
        assert_eq!(bank.oracle.drain_bodies("ledger").await, [b"one", b"two"]);
    }

    /// TX-02, TX-04: a rollback discards what was published, and the next transaction begins empty.
    async fn a_rollback_discards(bank: Bank) {
        let transaction = bank.channel.transaction().await.unwrap();
        bank.channel.default_exchange().publish("never", "ledger").await.unwrap();
        transaction.rollback().await.unwrap();
        let transaction = bank.channel.transaction().await.unwrap();
        bank.channel.default_exchange().publish("now", "ledger").await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(bank.oracle.drain_bodies("ledger").await, [b"now"]);
    }

    /// TX-03: a transaction that is dropped, by an error in the middle, rolls back.
    async fn a_transaction_that_is_dropped_rolls_back(bank: Bank) {
        let failing = async {
            let _transaction = bank.channel.transaction().await?;
            bank.channel.default_exchange().publish("never", "ledger").await?;
            Err::<(), _>(actix_pika::Error::credentials("the work failed"))
        };
        assert_eq!(failing.await.unwrap_err().kind(), ErrorKind::Auth, "the error is the one of the work");
        let transaction = bank.channel.transaction().await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(bank.oracle.count("ledger").await, 0);
        assert!(!bank.channel.is_closed());
    }

    /// TX-04: closing the channel discards what was not committed.
    async fn closing_discards(bank: Bank) {
        let transaction = bank.channel.transaction().await.unwrap();
        bank.channel.default_exchange().publish("never", "ledger").await.unwrap();
        bank.channel.close().await.unwrap();
        let late = transaction.commit().await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::ChannelClosed);
        assert_eq!(bank.oracle.count("ledger").await, 0);
    }

    /// TX-01: on a channel with confirms a transaction is refused here, and the channel goes on.
    async fn a_channel_with_confirms_has_no_transactions(bank: Bank) {
        let channel = bank.connection.channel().await.unwrap();
        let refused = channel.transaction().await.unwrap_err();
        assert_eq!((refused.kind(), refused.close_reason()), (ErrorKind::Refused, None));
        channel.default_exchange().publish("still works", "ledger").await.unwrap();
        assert!(channel.transaction().await.is_err(), "refused again, not \"already has one\"");
    }

    /// TX-05: commit and rollback outside of transaction mode are refused here, and the channel goes on.
    async fn there_is_nothing_to_commit_without_select(bank: Bank) {
        let actor = bank.channel.actor();
        for answer in [actor.send(CommitTx).await.unwrap(), actor.send(RollbackTx).await.unwrap()] {
            let refused = answer.unwrap_err();
            assert_eq!((refused.kind(), refused.close_reason()), (ErrorKind::Refused, None));
        }
        actor.send(SelectTx).await.unwrap().unwrap();
        actor.send(SelectTx).await.unwrap().unwrap();
        actor.send(CommitTx).await.unwrap().unwrap();
        assert!(!bank.channel.is_closed());
    }

    /// TX-02: a channel has one transaction at a time.
    async fn one_transaction_at_a_time(bank: Bank) {
        let first = bank.channel.transaction().await.unwrap();
        let second = bank.channel.clone().transaction().await.unwrap_err();
        assert_eq!((second.kind(), second.close_reason()), (ErrorKind::Refused, None));
        first.commit().await.unwrap();
        bank.channel.transaction().await.unwrap().rollback().await.unwrap();
    }

    /// TX-06: a mandatory publish that nobody gets comes back at the commit, whose other effects hold.
    async fn a_commit_tells_of_what_came_back(bank: Bank) {
        let transaction = bank.channel.transaction().await.unwrap();
        let exchange = bank.channel.default_exchange();
        exchange.publish("for nobody", "nowhere").await.unwrap();
        exchange.publish("for the ledger", "ledger").await.unwrap();
        let unroutable = transaction.commit().await.unwrap_err();
        assert_eq!(unroutable.kind(), ErrorKind::Unroutable);
        let returned = unroutable.returned().expect("the publish");
        assert_eq!((returned.code, &returned.body[..]), (312, &b"for nobody"[..]));
        assert_eq!(bank.oracle.drain_bodies("ledger").await, [b"for the ledger"]);
        let transaction = bank.channel.transaction().await.unwrap();
        transaction.commit().await.expect("told once");
    }

    /// TX-08: acks inside take effect with the commit, whatever their order, and only then.
    async fn acks_take_effect_with_the_commit(bank: Bank) {
        bank.put(&["1", "2", "3"]).await;
        let transaction = bank.channel.transaction().await.unwrap();
        let (first, second, third) = (bank.take().await, bank.take().await, bank.take().await);
        third.ack().unwrap();
        first.ack().unwrap();
        second.reject(true).unwrap();
        // An answer behind the settles: the reject has arrived, and has no effect yet.
        assert_eq!(bank.channel.get_queue("ledger").await.unwrap().declared().unwrap().message_count, 0);
        transaction.commit().await.unwrap();
        assert_eq!(bank.oracle.drain_bodies("ledger").await, [b"2"]);
        bank.channel.close().await.unwrap();
        assert_eq!(bank.oracle.count("ledger").await, 0, "nothing was left unacknowledged");
    }

    /// TX-08: uncommitted acks are lost with the channel.
    async fn uncommitted_acks_are_lost_with_the_channel(bank: Bank) {
        bank.put(&["1"]).await;
        let _transaction = bank.channel.transaction().await.unwrap();
        bank.take().await.ack().unwrap();
        bank.channel.close().await.unwrap();
        let again = eventually("it is back", 10, || bank.oracle.get("ledger")).await;
        assert!(again.redelivered);
    }

    /// TX-08: a rollback undoes acks and nacks; the messages, which nobody holds any more, come again, and acks after it
    /// cover nothing that it has undone.
    async fn a_rollback_puts_back_what_was_settled(bank: Bank) {
        bank.put(&["1", "2", "3", "4", "5"]).await;
        let transaction = bank.channel.transaction().await.unwrap();
        let [one, two, three] = [bank.take().await, bank.take().await, bank.take().await];
        one.ack().unwrap();
        three.reject(false).unwrap();
        transaction.rollback().await.unwrap();
        let mut back = bank.oracle.drain(("ledger").as_ref()).await;
        back.sort_by(|a, b| a.data.cmp(&b.data));
        let back: Vec<_> = back.iter().map(|m| (&m.data[..], m.redelivered)).collect();
        assert_eq!(back, [(&b"1"[..], true), (b"3", true), (b"4", false), (b"5", false)]);
        let transaction = bank.channel.transaction().await.unwrap();
        two.ack().unwrap();
        transaction.commit().await.unwrap();
        bank.channel.close().await.unwrap();
        assert_eq!(bank.oracle.count("ledger").await, 0);
    }

    /// TX-10: a publish to an exchange that does not exist costs the channel at once, and the transaction with it.
    async fn a_missing_exchange_ends_the_transaction(bank: Bank) {
        let transaction = bank.channel.transaction().await.unwrap();
        bank.channel.default_exchange().publish("never", "ledger").await.unwrap();
        bank.channel.exchange("nothing").publish("x", "y").await.unwrap();
        let error = transaction.commit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ChannelClosed);
        assert_eq!(error.close_reason().unwrap().code, 404);
        assert_eq!(bank.oracle.count("ledger").await, 0);
        assert!(!bank.connection.is_closed());
    }

    /// TX-07: a tag that the channel does not know cannot be made: a delivery of another channel is settled on its own,
    /// at once, though the message is sent to the channel with the transaction.
    async fn a_delivery_of_another_channel_is_no_part_of_the_transaction(bank: Bank) {
        bank.put(&["1", "2"]).await;
        let transaction = bank.channel.transaction().await.unwrap();
        let mine = bank.take().await;
        let other = bank.connection.channel().await.unwrap();
        let theirs = other.queue("ledger").get().await.unwrap().expect("a message");
        // The tag would be that of ours here.
        assert_eq!((mine.delivery_tag(), theirs.delivery_tag()), (1, 1));
        bank.channel.actor().send(Settle::reject(theirs, true)).await.unwrap().unwrap();
        let back = eventually("it is back", 10, || bank.oracle.get("ledger")).await;
        assert_eq!(back.data, b"2");
        mine.ack().unwrap();
        transaction.commit().await.unwrap();
        bank.channel.close().await.unwrap();
        assert_eq!(bank.oracle.count("ledger").await, 0);
    }
}

/// TX-07: what the broker says of a tag that it does not know it says at once: the transaction ends with its channel, and
/// the commit has the cause.
#[actix::test]
async fn an_unknown_tag_ends_the_transaction() {
    let test = async {
        let (mut socket, connection, channel) = connect_with_channel(OpenChannel::new(), false).await;
        let (transaction, select) =
            tokio::join!(channel.transaction(), socket.answer(1, |_: tx::Select| tx::SelectOk {}));
        let (transaction, _) = (transaction.unwrap(), select.unwrap());
        let queue = channel.queue("ledger");
        let got = async {
            let _: basic::Get = socket.expect(1).await.unwrap();
            socket.get_ok(1, 7, 0, "x").await.unwrap();
        };
        let (delivery, ()) = tokio::join!(queue.get_with(Get::new("ledger")), got);
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
