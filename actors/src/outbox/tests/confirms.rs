//! The confirm ring alone.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;

use crate::{
    Error, ErrorKind, Result, Return,
    outbox::{broker_answers::BrokerAnswer, confirms::Confirms, unconfirmed::Unconfirmed},
    wire::Properties,
};

fn poll(confirms: &mut Confirms, sequence: u64) -> Poll<Result<()>> {
    let cx = Context::from_waker(Waker::noop());
    confirms.poll(sequence, &cx).0.map_ok(|_| ())
}

fn kind(answer: Poll<Result<()>>) -> Option<ErrorKind> {
    match answer {
        Poll::Ready(Err(error)) => Some(error.kind()),
        Poll::Ready(Ok(())) | Poll::Pending => None,
    }
}

fn publish(confirms: &mut Confirms, count: u64) {
    let now = Instant::now();
    for _ in 0..count {
        confirms.push(now, true, true);
    }
}

fn some_return() -> Return {
    Return {
        code: 312,
        text: "NO_ROUTE".into(),
        exchange: String::new(),
        routing_key: "nowhere".into(),
        properties: Ok(Properties::new()),
        body: Bytes::new(),
    }
}

#[test]
fn acks_may_arrive_out_of_order_and_cover_several() {
    let mut confirms = Confirms::default();
    let mut woken = Vec::new();
    publish(&mut confirms, 10);
    for (tag, multiple) in [(1, false), (3, false), (5, true), (10, false), (9, true)] {
        confirms
            .answered(tag, multiple, confirms.end(), BrokerAnswer::Ack, &Unconfirmed::default(), &mut woken)
            .unwrap();
    }
    assert_eq!((confirms.unconfirmed(), confirms.base), (0, 11));
    assert!((1..=10).all(|sequence| poll(&mut confirms, sequence).is_ready()));
    assert_eq!(
        confirms.answered(11, false, confirms.end(), BrokerAnswer::Ack, &Unconfirmed::default(), &mut woken),
        Err(()),
        "never published"
    );
    assert_eq!(
        confirms.answered(4, false, confirms.end(), BrokerAnswer::Ack, &Unconfirmed::default(), &mut woken),
        Ok(()),
        "known already"
    );
}

#[test]
fn a_nack_and_a_return_fail_only_their_publish() {
    let mut confirms = Confirms::default();
    let mut woken = Vec::new();
    publish(&mut confirms, 4);
    assert!(poll(&mut confirms, 2).is_pending());
    confirms.returns.insert(3, some_return());
    confirms
        .answered(2, false, confirms.end(), BrokerAnswer::Nack, &Unconfirmed::default(), &mut woken)
        .unwrap();
    assert_eq!(woken.len(), 1);
    confirms
        .answered(4, true, confirms.end(), BrokerAnswer::Ack, &Unconfirmed::default(), &mut woken)
        .unwrap();
    assert_eq!(kind(poll(&mut confirms, 2)), Some(ErrorKind::Nacked));
    assert_eq!(kind(poll(&mut confirms, 3)), Some(ErrorKind::Unroutable));
    assert!(poll(&mut confirms, 1).is_ready() && poll(&mut confirms, 4).is_ready());
    assert!(confirms.failures.is_empty() && confirms.returns.is_empty());
}

#[test]
fn forgotten_confirms_leave_nothing_behind() {
    let mut confirms = Confirms::default();
    let mut woken = Vec::new();
    publish(&mut confirms, 3);
    confirms.forget(1);
    confirms.forget(2);
    confirms.returns.insert(2, some_return());
    confirms
        .answered(3, true, confirms.end(), BrokerAnswer::Nack, &Unconfirmed::default(), &mut woken)
        .unwrap();
    confirms.forget(3);
    assert!(confirms.failures.is_empty() && confirms.returns.is_empty() && confirms.published_at.is_empty());
}

#[test]
fn a_late_publish_fails_once_and_its_ack_still_counts_if_it_was_written() {
    let mut confirms = Confirms::default();
    let mut woken = Vec::new();
    let late = std::time::Duration::from_secs(1);
    let start = Instant::now();
    confirms.push(start, true, true);
    confirms.push(start + late / 2, true, true);
    confirms.push(start + late / 2, true, true);
    confirms.taken.below(3);
    let expire = |confirms: &mut Confirms, now, error: Error| {
        let end = confirms.late_end(now, late);
        let (mut cause, mut unsent) = (error.into(), Error::limit("not sent").into());
        confirms.expire(end, &mut cause, &mut unsent, &Unconfirmed::default(), &mut Vec::new())
    };
    assert!(!expire(&mut confirms, start + late, Error::timeout("late")));
    assert_eq!(kind(poll(&mut confirms, 1)), Some(ErrorKind::Timeout));
    assert!(poll(&mut confirms, 2).is_pending());
    assert_eq!(confirms.unconfirmed(), 3);
    assert!(expire(&mut confirms, start + late * 2, Error::blocked("late")));
    assert_eq!(kind(poll(&mut confirms, 2)), Some(ErrorKind::Blocked));
    let Poll::Ready(Err(unsent)) = poll(&mut confirms, 3) else { panic!("unanswered") };
    assert_eq!((unsent.kind(), unsent.may_have_arrived()), (ErrorKind::Limit, false));
    assert_eq!(confirms.unconfirmed(), 2, "what was not written is withdrawn");
    confirms
        .answered(2, true, confirms.end(), BrokerAnswer::Ack, &Unconfirmed::default(), &mut woken)
        .unwrap();
    assert_eq!((confirms.unconfirmed(), confirms.failures.len()), (0, 0));
}

#[test]
fn closing_fails_all_and_written_publishes_may_have_arrived() {
    let mut confirms = Confirms::default();
    let mut woken = Vec::new();
    publish(&mut confirms, 3);
    confirms
        .answered(1, false, confirms.end(), BrokerAnswer::Ack, &Unconfirmed::default(), &mut woken)
        .unwrap();
    confirms.taken.below(3);
    confirms.fail_all(&Error::channel_closed("gone", None), &Unconfirmed::default(), &mut woken);
    assert!(matches!(poll(&mut confirms, 1), Poll::Ready(Ok(()))));
    let Poll::Ready(Err(written)) = poll(&mut confirms, 2) else { panic!("unanswered") };
    let Poll::Ready(Err(queued)) = poll(&mut confirms, 3) else { panic!("unanswered") };
    assert_eq!((written.kind(), written.may_have_arrived()), (ErrorKind::ChannelClosed, true));
    assert_eq!((queued.kind(), queued.may_have_arrived()), (ErrorKind::ChannelClosed, false));
}

proptest! {
    #[test]
    fn every_publish_has_the_outcome_that_the_broker_sent(
        answers in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 1..60),
        count in 1..200u64,
    ) {
        let mut confirms = Confirms::default();
        let mut woken = Vec::new();
        publish(&mut confirms, count);
        let mut truth: Vec<Option<bool>> = vec![None; count as usize];
        for (pick, multiple, nack) in answers {
            let at = pick.index(truth.len());
            let first = if multiple { 0 } else { at };
            truth[first..=at].iter_mut().for_each(|t| { t.get_or_insert(nack); });
            let answer = if nack { BrokerAnswer::Nack } else { BrokerAnswer::Ack };
            confirms.answered(at as u64 + 1, multiple, confirms.end(), answer, &Unconfirmed::default(), &mut woken).unwrap();
        }
        prop_assert_eq!(confirms.unconfirmed(), truth.iter().filter(|t| t.is_none()).count());
        for (sequence, nacked) in (1..).zip(truth) {
            let answer = poll(&mut confirms, sequence);
            prop_assert_eq!(answer.is_ready(), nacked.is_some());
            prop_assert_eq!(kind(answer) == Some(ErrorKind::Nacked), nacked == Some(true));
        }
    }
}
