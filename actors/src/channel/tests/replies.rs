//! To which call a reply belongs, and what happens without one.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    channel::{
        PendingReply,
        replies::{FailedConsume, Replies},
        reply::{Answer, Reply},
    },
    error::{CloseReason, ErrorKind},
    message::{
        PurgeQueue,
        methods::{self, Method},
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn purge(replies: &mut Replies, queue: &str, now: Instant) -> Answer<u32> {
    let (reply, responder) = Reply::later();
    let method = PurgeQueue::new(queue).method().expect("a short name");
    replies.expect(&method, Some(queue.into()), None, PendingReply::Count(responder), now);
    reply.listen()
}

fn consume(replies: &mut Replies, tag: &str, queue: &str, consumer: u32) {
    let method = methods::basic_consume(queue, tag, false, false, &Default::default());
    let reply = PendingReply::Restarted { tag: tag.into(), consumer, cancel: None };
    replies.expect(&method.expect("short names"), Some(queue.into()), None, reply, Instant::now());
}

fn open(replies: &mut Replies, now: Instant) {
    replies.expect(&methods::channel_open(), None, None, PendingReply::Open, now);
}

fn reason(text: &str, class_id: u16, method_id: u16, code: u16) -> CloseReason {
    CloseReason::new(code, text, class_id, method_id)
}

#[test]
fn replies_come_in_order_except_those_of_consumers() {
    let (mut replies, now) = (Replies::default(), Instant::now());
    consume(&mut replies, "a", "jobs", 1);
    consume(&mut replies, "b", "jobs", 2);
    let _purged = purge(&mut replies, "jobs", now);
    assert!(replies.next(50, 41).is_err(), "a delete-ok for a purge");
    assert!(matches!(replies.next(50, 31), Ok(PendingReply::Count(_))));
    let second = replies.of_consumer(60, 21, "b");
    assert!(matches!(second, Ok(PendingReply::Restarted { consumer: 2, .. })));
    let renamed = replies.of_consumer(60, 21, "another tag");
    assert!(matches!(renamed, Ok(PendingReply::Restarted { consumer: 1, .. })));
    assert!(replies.is_empty());
    assert!(replies.of_consumer(60, 21, "a").is_err());
}

#[test]
fn a_refused_consume_is_the_one_whose_queue_the_broker_names() {
    let mut replies = Replies::default();
    consume(&mut replies, "a", "jobs", 1);
    consume(&mut replies, "b", "mail", 2);
    let failed = replies.fail_refused((60, 20), &reason("no queue 'mail' in vhost '/'", 60, 20, 404));
    assert_eq!(failed.entity.as_deref(), Some("mail"));
    assert!(matches!(failed.consume, Some(FailedConsume::Restarted(2, _))));
}

#[test]
fn a_refused_call_comes_behind_accepted_ones() {
    let (mut replies, now) = (Replies::default(), Instant::now());
    consume(&mut replies, "a", "jobs", 1);
    let purged = purge(&mut replies, "jobs", now);
    consume(&mut replies, "b", "mail", 2);
    assert!(replies.next(50, 31).is_ok());
    drop(purged);
    let failed = replies.fail_refused((60, 20), &reason("refused", 60, 20, 403));
    assert!(matches!(failed.consume, Some(FailedConsume::Restarted(2, _))), "{failed:?}");
}

#[test]
fn only_a_hard_error_that_names_the_queue_blames_a_restart() {
    let mut replies = Replies::default();
    consume(&mut replies, "a", "jobs", 7);
    let text = "queue 'jobs' in vhost '/'";
    assert_eq!(replies.restart_that_closed(&reason(text, 60, 20, 540)), Some(7));
    assert_eq!(replies.restart_that_closed(&reason(text, 60, 20, 404)), None);
    assert_eq!(replies.restart_that_closed(&reason("another queue", 60, 20, 540)), None);
}

#[test]
fn a_late_reply_does_not_answer_the_next_call() {
    let (mut replies, start) = (Replies::default(), Instant::now());
    let first = purge(&mut replies, "first", start);
    let second = purge(&mut replies, "second", start + SECOND / 2);
    assert!(replies.expire(start + SECOND, SECOND, false).is_none());
    assert_eq!(first.error_kind(), Some(ErrorKind::Timeout));
    assert!(matches!(replies.next(50, 31), Ok(PendingReply::Internal)));
    assert!(second.take().is_none());
    assert!(matches!(replies.next(50, 31), Ok(PendingReply::Count(_))));
}

#[test]
fn a_silent_broker_has_two_deadlines_and_one_for_what_the_channel_needs() {
    let (mut replies, start) = (Replies::default(), Instant::now());
    let _purged = purge(&mut replies, "jobs", start);
    assert!(replies.expire(start + SECOND, SECOND, false).is_none());
    let silence = replies.expire(start + 2 * SECOND, SECOND, false).expect("silence");
    assert_eq!(silence.kind(), ErrorKind::Timeout);
    let mut replies = Replies::default();
    open(&mut replies, start);
    assert!(replies.expire(start + SECOND, SECOND, false).is_some());
}

#[test]
fn a_blocked_broker_has_one_more_deadline_once_it_reads_again() {
    let (mut replies, start) = (Replies::default(), Instant::now());
    open(&mut replies, start);
    let held_up = replies.expire(start + 5 * SECOND, SECOND, true).expect("it takes longer");
    assert_eq!(held_up.kind(), ErrorKind::Blocked);
    assert!(replies.expire(start + 9 * SECOND, SECOND, true).is_none(), "reported once");
    assert!(replies.expire(start + 9 * SECOND + SECOND / 2, SECOND, false).is_none());
    let silence = replies.expire(start + 10 * SECOND, SECOND, false).expect("silence");
    assert_eq!(silence.kind(), ErrorKind::Timeout);
}
