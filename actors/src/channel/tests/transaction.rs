//! Calls, publishes and acks behind a commit or rollback, which the broker reads only once it has committed.

use std::time::Duration;

use super::bench::Bench;
use crate::{
    channel::reply::Answer,
    error::ErrorKind,
    message::{CancelConsumer, CloseChannel, CommitTx, ConsumerEnd, Outcome, PurgeQueue, RollbackTx},
    outbox::DeliveredTags,
    wire::{AMQPClass, basic, queue, tx},
};

fn commit(bench: &mut Bench) -> Answer<()> {
    bench.machine.commit(CommitTx, bench.now).listen()
}

fn committed(bench: &mut Bench) {
    bench.receive(AMQPClass::Tx(tx::AMQPMethod::CommitOk(tx::CommitOk {})));
}

fn purged(bench: &mut Bench) {
    bench.receive(AMQPClass::Queue(queue::AMQPMethod::PurgeOk(queue::PurgeOk { message_count: 0 })));
}

#[test]
fn calls_behind_a_commit_are_made_in_order_after_its_reply() {
    let mut bench = Bench::in_transaction();
    let sink = bench.consume("c");
    let first = commit(&mut bench);
    let purge = bench.call(PurgeQueue::new("jobs"));
    let cancel = bench.machine.cancel_consumer(&CancelConsumer::new("c"), bench.now).listen();
    let second = commit(&mut bench);
    let rollback = bench.machine.rollback(RollbackTx, bench.now).listen();
    let last = bench.call(PurgeQueue::new("jobs"));
    assert_eq!(bench.sent(), ["tx.commit"]);
    committed(&mut bench);
    assert!(first.is_ok());
    assert_eq!(bench.sent(), ["queue.purge", "basic.cancel c", "tx.commit"]);
    purged(&mut bench);
    let tag = "c".into();
    bench.receive(AMQPClass::Basic(basic::AMQPMethod::CancelOk(basic::CancelOk { consumer_tag: tag })));
    assert!(purge.is_ok() && cancel.is_ok());
    assert!(matches!(sink.end(), Some(ConsumerEnd::Cancelled)));
    assert_eq!(bench.sent(), [""; 0]);
    committed(&mut bench);
    assert!(second.is_ok());
    assert_eq!(bench.sent(), ["tx.rollback"]);
    bench.receive(AMQPClass::Tx(tx::AMQPMethod::RollbackOk(tx::RollbackOk {})));
    assert!(rollback.is_ok());
    assert_eq!(bench.sent(), ["queue.purge"]);
    purged(&mut bench);
    assert!(last.is_ok());
}

#[test]
fn the_end_of_the_channel_releases_what_waits_behind_a_commit() {
    for by_broker in [true, false] {
        let mut bench = Bench::in_transaction();
        bench.consume("c");
        let first = commit(&mut bench);
        let purge = bench.call(PurgeQueue::new("jobs"));
        let cancel = bench.machine.cancel_consumer(&CancelConsumer::new("c"), bench.now).listen();
        let second = commit(&mut bench);
        match by_broker {
            true => bench.close_by_broker(404, "NOT_FOUND - no exchange 'x' in vhost '/'", 60, 40),
            false => bench.lose_connection(),
        }
        for call in [first, second] {
            assert_eq!(call.error_kind(), Some(ErrorKind::ChannelClosed));
        }
        assert_eq!(purge.error_kind(), Some(ErrorKind::ChannelClosed));
        assert!(cancel.is_ok(), "the consumer has ended with the channel");
        assert!(bench.machine.waiting.is_empty());
    }
}

#[test]
fn calls_behind_a_commit_keep_their_deadline() {
    let mut bench = Bench::in_transaction();
    bench.consume("c");
    let deadline = bench.machine.outbox.config().deadline;
    let first = commit(&mut bench);
    bench.wait(Duration::from_secs(1));
    let purge = bench.call(PurgeQueue::new("jobs"));
    let cancel = bench.machine.cancel_consumer(&CancelConsumer::new("c"), bench.now).listen();
    bench.wait(deadline - Duration::from_secs(1));
    assert_eq!(first.error_kind(), Some(ErrorKind::Timeout));
    assert!(purge.take().is_none());
    bench.wait(Duration::from_secs(1));
    assert_eq!(purge.error_kind(), Some(ErrorKind::Timeout));
    assert_eq!(cancel.error_kind(), Some(ErrorKind::Timeout));
    committed(&mut bench);
    // The purge was not made; nothing is delivered to the consumer any more, so its cancel is.
    assert_eq!(bench.sent(), ["tx.commit", "basic.cancel c"]);
}

fn settle(bench: &Bench, tag: u64) {
    let (epoch, consumer) = (bench.machine.channel_epoch, Some(1));
    bench.machine.outbox.delivered(&[DeliveredTags { first: tag, last: tag, consumer }]).unwrap();
    bench.machine.outbox.settle(epoch, tag, 1, Outcome::Ack).unwrap();
}

#[test]
fn publishes_and_acks_behind_a_commit_or_rollback_are_written_after_its_last_reply() {
    let mut bench = Bench::in_transaction();
    bench.publish();
    settle(&bench, 1);
    let first = commit(&mut bench);
    assert_eq!(bench.sent(), ["basic.publish", "basic.ack", "tx.commit"]);
    bench.publish();
    settle(&bench, 2);
    let rollback = bench.machine.rollback(RollbackTx, bench.now).listen();
    bench.publish();
    assert_eq!(bench.sent(), [""; 0]);
    committed(&mut bench);
    assert!(first.is_ok());
    assert_eq!(
        bench.sent(),
        ["basic.publish", "basic.publish", "basic.ack", "tx.rollback", "basic.reject", "tx.commit"]
    );
    bench.publish();
    settle(&bench, 3);
    bench.receive(AMQPClass::Tx(tx::AMQPMethod::RollbackOk(tx::RollbackOk {})));
    assert_eq!(bench.sent(), [""; 0], "the commit of the rollback has no reply");
    assert!(rollback.take().is_none());
    committed(&mut bench);
    assert!(rollback.is_ok());
    assert_eq!(bench.sent(), ["basic.publish", "basic.ack"]);
}

#[test]
fn a_channel_closes_although_a_commit_has_no_reply() {
    let mut bench = Bench::in_transaction();
    let first = commit(&mut bench);
    bench.publish();
    settle(&bench, 1);
    let closed = bench.machine.close(CloseChannel::new(), bench.now).listen();
    assert_eq!(bench.sent(), ["tx.commit", "channel.close"]);
    let error = first.take().expect("an answer").unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, true));
    committed(&mut bench);
    assert_eq!(bench.sent(), [""; 0]);
    bench.answer_close();
    assert!(closed.is_ok());
}
