//! Calls, publishes and acks behind a commit or rollback, which the broker reads only once it has committed.

use std::time::Duration;

use super::bench::Bench;
use crate::{
    channel::{output::Output, reply::Answer},
    error::ErrorKind,
    internal::SupervisorMessage,
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
    bench.machine.outbox.delivered(&[DeliveredTags { first: tag, last: tag, consumer }], 0).unwrap();
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
fn a_close_waits_for_the_reply_to_a_commit_within_its_deadline() {
    for is_answered in [true, false] {
        let mut bench = Bench::in_transaction();
        let first = commit(&mut bench);
        let second = commit(&mut bench);
        settle(&bench, 1);
        let closed = bench.machine.close(CloseChannel::new(), bench.now).listen();
        assert_eq!(bench.sent(), ["tx.commit"]);
        if is_answered {
            committed(&mut bench);
            assert!(first.is_ok());
            // What comes behind it is not made.
            assert_eq!(second.error_kind(), Some(ErrorKind::ChannelClosed));
            assert_eq!(bench.sent(), ["basic.ack", "channel.close"]);
        } else {
            let config = bench.machine.outbox.config();
            bench.now += config.deadline + 2 * config.tick();
            bench.machine.tick(bench.now);
            assert_eq!(bench.sent(), ["channel.close"]);
            let error = first.take().expect("an answer").unwrap_err();
            assert!(error.may_have_arrived(), "{error}");
        }
        bench.answer_close();
        assert!(closed.is_ok());
    }
}

fn ended(bench: &mut Bench) -> Vec<String> {
    let report = |output| match output {
        Output::Supervisor(SupervisorMessage::ConsumersEnded(ended)) => {
            let tags: Vec<_> =
                ended.consumers.iter().map(|(tag, queue, _)| format!("{tag} of {queue}")).collect();
            Some(format!("channel {} without {}", ended.channel, tags.join(", ")))
        }
        Output::Supervisor(SupervisorMessage::EndedChannelGivenUp { tag, .. }) => {
            Some(format!("given up {tag:?}"))
        }
        Output::Supervisor(SupervisorMessage::ConsumerMissing { tag, .. }) => {
            Some(format!("{tag} is missing"))
        }
        Output::Supervisor(SupervisorMessage::ChannelClosed { .. }) => Some("closed".into()),
        Output::Supervisor(SupervisorMessage::ConsumerGivenUp { tag, .. }) => Some(format!("{tag} given up")),
        _ => None,
    };
    bench.outputs().into_iter().filter_map(report).collect()
}

/// A channel in transaction mode ends; what it consumed stays wanted.
#[test]
fn the_consumers_of_a_channel_that_has_ended_are_missing_until_they_are_given_up() {
    for by_broker in [true, false] {
        let mut bench = Bench::in_transaction();
        for tag in ["a", "b", "c"] {
            bench.consume(tag);
        }
        let cancel = bench.machine.cancel_consumer(&CancelConsumer::new("c"), bench.now).listen();
        bench.outputs();
        match by_broker {
            true => bench.close_by_broker(404, "NOT_FOUND - no exchange 'x' in vhost '/'", 60, 40),
            false => bench.lose_connection(),
        }
        assert_eq!(ended(&mut bench), ["channel 1 without a of jobs, b of jobs", "closed"], "{by_broker}");
        drop(cancel);
        for times in [1, 0] {
            let cancel = bench.machine.cancel_consumer(&CancelConsumer::new("a"), bench.now).listen();
            assert!(cancel.is_ok());
            assert_eq!(ended(&mut bench), vec![r#"given up Some("a")"#; times]);
        }
        bench.machine.release(bench.now);
        assert_eq!(ended(&mut bench), ["given up None"]);
        bench.machine.release(bench.now);
        assert_eq!(ended(&mut bench), [""; 0]);
    }
}

/// They do not wait for the reply to the close, which may not come either.
#[test]
fn the_consumers_of_a_channel_that_is_given_up_are_missing_at_once() {
    let mut bench = Bench::in_transaction();
    bench.consume("a");
    let _purge = bench.call(PurgeQueue::new("jobs"));
    assert_eq!((bench.sent(), ended(&mut bench)), (vec!["queue.purge".to_owned()], Vec::new()));
    let deadline = bench.machine.outbox.config().deadline;
    for _ in 0..2 {
        bench.now += deadline + Duration::from_secs(1);
        bench.machine.tick(bench.now);
    }
    assert_eq!(bench.sent(), ["channel.close"]);
    assert_eq!(ended(&mut bench), ["a is missing"]);
    bench.answer_close();
    assert_eq!(ended(&mut bench), ["channel 1 without a of jobs", "closed"]);
}

#[test]
fn the_consumers_of_a_channel_that_the_application_closes_are_not_missing() {
    let mut bench = Bench::in_transaction();
    bench.consume("a");
    bench.outputs();
    let closed = bench.machine.close(CloseChannel::new(), bench.now).listen();
    bench.answer_close();
    assert!(closed.is_ok());
    assert_eq!(ended(&mut bench), ["closed"]);
    // The broker closes it while it waits for a commit.
    let mut bench = Bench::in_transaction();
    bench.consume("a");
    let (_commit, closed) =
        (commit(&mut bench), bench.machine.close(CloseChannel::new(), bench.now).listen());
    bench.outputs();
    bench.close_by_broker(404, "NOT_FOUND - no exchange 'x' in vhost '/'", 60, 40);
    assert!(closed.take().is_some());
    assert_eq!(ended(&mut bench), ["closed"]);
}
