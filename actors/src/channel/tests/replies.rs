//! To which call a reply belongs, and what happens without one.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    channel::{
        PendingReply,
        replies::{FailedConsume, Replies},
        reply::{Answer, Reply},
    },
    error::{CloseReason, Error, ErrorKind},
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
fn a_hard_error_is_assigned_to_the_restarts_of_the_queue_that_it_names() {
    let mut replies = Replies::default();
    consume(&mut replies, "a", "mail", 6);
    consume(&mut replies, "b", "jobs", 7);
    consume(&mut replies, "c", "jobs", 8);
    let at_fault =
        |text, class_id, method_id, code| replies.restarts_at_fault(&reason(text, class_id, method_id, code));
    let text = "timed out consuming from quorum queue 'jobs' in vhost '/'";
    assert_eq!(at_fault(text, 60, 20, 541), [7, 8]);
    assert_eq!(at_fault(text, 0, 0, 541), [7, 8]);
    assert_eq!(at_fault(text, 60, 20, 404), [0; 0]);
    assert_eq!(at_fault(text, 50, 10, 541), [0; 0], "a declaration");
    assert_eq!(at_fault("queue 'other' in vhost '/'", 60, 20, 540), [0; 0], "of another channel");
}

#[test]
fn a_hard_error_without_a_name_is_assigned_to_the_consume_whose_turn_it_was() {
    let now = Instant::now();
    for ids in [(60, 20), (0, 0)] {
        let hard = reason("INTERNAL_ERROR", ids.0, ids.1, 541);
        let mut replies = Replies::default();
        assert_eq!(replies.restarts_at_fault(&hard), [0; 0]);
        consume(&mut replies, "a", "mail", 6);
        let _purged = purge(&mut replies, "mail", now);
        consume(&mut replies, "b", "jobs", 7);
        assert_eq!(replies.restarts_at_fault(&hard), [6]);
        assert!(replies.next(50, 31).is_ok(), "what comes behind the first is answered");
        assert_eq!(replies.restarts_at_fault(&hard), [7]);
    }
    let mut replies = Replies::default();
    let (_reply, responder) = Reply::later();
    let method = methods::basic_consume("new", "n", false, false, &Default::default());
    let new = PendingReply::Consumed { tag: "n".into(), responder, cancel: None };
    replies.expect(&method.expect("short names"), Some("new".into()), None, new, now);
    consume(&mut replies, "a", "mail", 6);
    assert_eq!(replies.restarts_at_fault(&reason("INTERNAL_ERROR", 60, 20, 541)), [0; 0], "a new consumer");
}

#[test]
fn a_late_reply_does_not_answer_the_next_call() {
    let (mut replies, start) = (Replies::default(), Instant::now());
    let first = purge(&mut replies, "first", start);
    let second = purge(&mut replies, "second", start + SECOND / 2);
    assert!(replies.expire(start + SECOND, SECOND, None).is_none());
    assert_eq!(first.error_kind(), Some(ErrorKind::Timeout));
    assert!(matches!(replies.next(50, 31), Ok(PendingReply::Internal)));
    assert!(second.take().is_none());
    assert!(matches!(replies.next(50, 31), Ok(PendingReply::Count(_))));
}

#[test]
fn a_silent_broker_has_two_deadlines_and_one_for_what_the_channel_needs() {
    let (mut replies, start) = (Replies::default(), Instant::now());
    let _purged = purge(&mut replies, "jobs", start);
    assert!(replies.expire(start + SECOND, SECOND, None).is_none());
    let silence = replies.expire(start + 2 * SECOND, SECOND, None).expect("silence");
    assert_eq!(silence.kind(), ErrorKind::Timeout);
    let mut replies = Replies::default();
    open(&mut replies, start);
    assert!(replies.expire(start + SECOND, SECOND, None).is_some());
}

#[test]
fn a_blocked_broker_has_one_more_deadline_once_it_reads_again() {
    let (mut replies, start) = (Replies::default(), Instant::now());
    open(&mut replies, start);
    let held_up = replies.expire(start + 5 * SECOND, SECOND, Some("low on memory")).expect("it takes longer");
    assert_eq!(held_up.kind(), ErrorKind::Blocked);
    assert!(replies.expire(start + 9 * SECOND, SECOND, Some("low on memory")).is_none(), "reported once");
    assert!(replies.expire(start + 9 * SECOND + SECOND / 2, SECOND, None).is_none());
    let silence = replies.expire(start + 10 * SECOND, SECOND, None).expect("silence");
    assert_eq!(silence.kind(), ErrorKind::Timeout);
}

/// A commit has its reply once the queues have stored what it commits; a call behind it may be refused before.
#[test]
fn a_commit_before_what_the_broker_refuses_may_have_taken_effect() {
    let missing = reason("no queue 'jobs' in vhost '/'", 50, 30, 404);
    let late = reason("delivery acknowledgement on channel 1 timed out", 0, 0, 406);
    let publish = reason("no exchange 'x' in vhost '/'", 60, 40, 404);
    for (is_first, cause, arrived) in
        [(true, &missing, true), (false, &missing, false), (true, &late, true), (true, &publish, false)]
    {
        let (mut replies, now) = (Replies::default(), Instant::now());
        let ids = match cause.code {
            404 if cause.method == "basic.publish" => (60, 40),
            404 => (50, 30),
            _ => (0, 0),
        };
        let purged = if is_first { None } else { Some(purge(&mut replies, "jobs", now)) };
        let (reply, responder) = Reply::later();
        replies.expect(&methods::tx_commit(), None, None, PendingReply::Committed(responder), now);
        let committed = reply.listen();
        let purged = purged.unwrap_or_else(|| purge(&mut replies, "jobs", now));
        replies.fail_refused(ids, cause);
        replies.fail_all(&Error::channel_closed("closed", Some(cause.clone())));
        let error = committed.take().unwrap().unwrap_err();
        assert_eq!(error.may_have_arrived(), arrived, "{error}");
        assert!(!purged.take().unwrap().unwrap_err().may_have_arrived());
    }
}
