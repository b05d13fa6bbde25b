//! Marks of deliveries and the frames that they become.

use std::{collections::BTreeSet, time::Duration};

use bytes::BytesMut;
use proptest::prelude::*;
use tokio::time::Instant;

use crate::{
    message::{Failures, Outcome},
    outbox::{
        DeliveredTags,
        ack_frames::ACK_LEN,
        acks::{Acks, RING},
        delayed_requeues::RequeueLater,
    },
};

/// A frame as the broker reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckFrame {
    Ack { tag: u64, multiple: bool },
    Nack { tag: u64, requeue: bool },
    Reject { tag: u64, requeue: bool },
}

fn render(acks: &mut Acks) -> Vec<AckFrame> {
    let mut buf = BytesMut::new();
    let promised = acks.rendered_len();
    acks.render(1, &mut buf);
    assert!(buf.len() <= promised, "{} bytes, {promised} promised", buf.len());
    let parse = |frame: &[u8]| {
        let tag = u64::from_be_bytes(frame[11..19].try_into().unwrap());
        let bit = |n: u8| frame[19] & n != 0;
        match frame[10] {
            80 => AckFrame::Ack { tag, multiple: bit(1) },
            120 => AckFrame::Nack { tag, requeue: bit(2) },
            90 => AckFrame::Reject { tag, requeue: bit(1) },
            other => panic!("method {other}"),
        }
    };
    buf.chunks(ACK_LEN).map(parse).collect()
}

fn deliver(acks: &mut Acks, first: u64, last: u64, consumer: u32) {
    acks.delivered(DeliveredTags { first, last, consumer: Some(consumer) }).unwrap();
}

#[test]
fn what_the_broker_has_taken_back_is_never_settled() {
    let mut acks = Acks::default();
    deliver(&mut acks, 1, 2, 1);
    deliver(&mut acks, 3, 3, 2);
    deliver(&mut acks, 4, RING as u64 + 2, 1);
    acks.mark(2, 1, Outcome::Ack).unwrap();
    acks.hold_back(1);
    acks.mark(5, 1, Outcome::Failed).unwrap();
    acks.take_back(1);
    assert_eq!(acks.outstanding(), 1, "of the other consumer");
    assert!(acks.mark(1, 1, Outcome::Ack).is_err(), "a straggler");
    assert!(acks.mark(4, 1, Outcome::AckAll).is_err());
    acks.mark(6, 1, Outcome::Failed).unwrap();
    acks.release(1);
    assert_eq!(render(&mut acks), [AckFrame::Ack { tag: 2, multiple: false }], "marked before");
    acks.mark(3, 2, Outcome::Ack).unwrap();
    deliver(&mut acks, RING as u64 + 3, RING as u64 + 3, 1);
    acks.mark(RING as u64 + 3, 1, Outcome::Ack).unwrap();
    let single = |tag| AckFrame::Ack { tag, multiple: false };
    assert_eq!(render(&mut acks), [single(3), single(RING as u64 + 3)]);
    assert_eq!((acks.outstanding(), acks.is_dirty()), (0, false));
}

#[test]
fn consecutive_acks_are_one_multiple_ack() {
    let mut acks = Acks::default();
    deliver(&mut acks, 1, 5, 1);
    for tag in [2, 1, 3] {
        acks.mark(tag, 1, Outcome::Ack).unwrap();
    }
    assert_eq!(render(&mut acks), [AckFrame::Ack { tag: 3, multiple: true }]);
    acks.mark(5, 1, Outcome::Ack).unwrap();
    assert_eq!(render(&mut acks), [AckFrame::Ack { tag: 5, multiple: false }], "4 is still out");
    acks.mark(4, 1, Outcome::Ack).unwrap();
    assert_eq!(render(&mut acks), [AckFrame::Ack { tag: 4, multiple: false }], "only one");
    assert_eq!((acks.outstanding(), acks.is_dirty()), (0, false));
}

#[test]
fn nacks_are_written_before_the_ack_that_would_cover_them() {
    let mut acks = Acks::default();
    deliver(&mut acks, 1, 3, 1);
    acks.mark(1, 1, Outcome::Ack).unwrap();
    acks.mark(3, 1, Outcome::Ack).unwrap();
    acks.mark(2, 1, Outcome::Nack { requeue: true }).unwrap();
    let expected = [AckFrame::Nack { tag: 2, requeue: true }, AckFrame::Ack { tag: 3, multiple: true }];
    assert_eq!(render(&mut acks), expected);
}

#[test]
fn ack_all_leaves_other_consumers_deliveries() {
    let mut acks = Acks::default();
    for tag in 1..=6 {
        deliver(&mut acks, tag, tag, 1 + u32::from(tag == 2));
    }
    acks.mark(5, 1, Outcome::AckAll).unwrap();
    let single = |tag| AckFrame::Ack { tag, multiple: false };
    assert_eq!(render(&mut acks), [single(1), single(3), single(4), single(5)]);
    assert_eq!(acks.mark(4, 1, Outcome::Ack).unwrap_err().kind(), crate::ErrorKind::StaleDelivery);
    assert_eq!(acks.outstanding(), 2);
}

#[test]
fn what_was_begun_is_rejected_and_what_was_not_is_nacked() {
    let mut acks = Acks::default();
    deliver(&mut acks, 1, 2, 7);
    acks.mark(1, 7, Outcome::Failed).unwrap();
    acks.mark(2, 7, Outcome::NotBegun).unwrap();
    let frames = [AckFrame::Reject { tag: 1, requeue: true }, AckFrame::Nack { tag: 2, requeue: true }];
    assert_eq!(render(&mut acks), frames);
}

/// A quorum queue delivers them again in the order in which they are returned.
#[test]
fn held_back_deliveries_are_requeued_in_order_when_released() {
    let mut acks = Acks::default();
    deliver(&mut acks, 1, 4, 7);
    let now = Instant::now();
    assert!(acks.requeue_later(3, 7, RequeueLater::Failed(Failures::Uncounted), now));
    acks.hold_back(7);
    acks.mark(4, 7, Outcome::NotBegun).unwrap();
    acks.mark(2, 7, Outcome::NotBegun).unwrap();
    assert!(
        !acks.requeue_later(1, 7, RequeueLater::Failed(Failures::Uncounted), now),
        "it waits for the cancel only"
    );
    assert!(!acks.is_dirty());
    acks.release(7);
    let frames = [
        AckFrame::Reject { tag: 1, requeue: true },
        AckFrame::Nack { tag: 2, requeue: true },
        AckFrame::Reject { tag: 3, requeue: true },
        AckFrame::Nack { tag: 4, requeue: true },
    ];
    assert_eq!(render(&mut acks), frames);
    assert_eq!(acks.outstanding(), 0);
}

#[test]
fn a_delivery_that_waits_is_unsettled_until_it_is_requeued() {
    let mut acks = Acks::default();
    deliver(&mut acks, 1, 2, 7);
    let now = Instant::now();
    assert!(acks.requeue_later(1, 7, RequeueLater::Failed(Failures::Counted(1)), now));
    acks.mark(2, 7, Outcome::AckAll).unwrap();
    assert_eq!(render(&mut acks), [AckFrame::Ack { tag: 2, multiple: false }]);
    assert_eq!(acks.mark(1, 7, Outcome::Ack).unwrap_err().kind(), crate::ErrorKind::StaleDelivery);
    acks.requeue_due(now);
    assert_eq!((acks.outstanding(), acks.is_dirty()), (1, false));
    acks.requeue_due(now + Duration::from_secs(1));
    assert_eq!(render(&mut acks), [AckFrame::Reject { tag: 1, requeue: true }]);
    assert_eq!(acks.outstanding(), 0);
}

/// A later commit would settle it.
#[test]
fn nothing_waits_on_a_channel_with_transactions() {
    let mut acks = Acks::default();
    deliver(&mut acks, 1, 1, 7);
    acks.begin_transaction();
    assert!(!acks.requeue_later(1, 7, RequeueLater::Failed(Failures::Uncounted), Instant::now()));
    assert_eq!(render(&mut acks), [AckFrame::Reject { tag: 1, requeue: true }]);
}

#[test]
fn unexpected_tags_are_refused() {
    let mut acks = Acks::default();
    deliver(&mut acks, 1, 2, 1);
    let seen = |tag| DeliveredTags { first: tag, last: tag, consumer: Some(1) };
    assert_eq!(acks.delivered(seen(2)), Err(()));
    assert_eq!(acks.delivered(seen(u64::MAX)), Err(()));
    assert_eq!(acks.delivered(seen(4)), Ok(()), "a gap is settled");
    assert_eq!(acks.mark(3, 1, Outcome::Ack).unwrap_err().kind(), crate::ErrorKind::StaleDelivery);
}

#[test]
fn an_unsettled_delivery_does_not_grow_the_ring() {
    let mut acks = Acks::default();
    deliver(&mut acks, 1, 1, 1);
    for tag in 2..=4 * RING as u64 {
        deliver(&mut acks, tag, tag, 1);
        acks.mark(tag, 1, Outcome::Ack).unwrap();
        assert_eq!(render(&mut acks), [AckFrame::Ack { tag, multiple: false }]);
    }
    assert!(acks.ring.len() <= RING && acks.stragglers.len() == 1);
    acks.mark(1, 1, Outcome::Ack).unwrap();
    assert_eq!(render(&mut acks), [AckFrame::Ack { tag: 1, multiple: false }]);
    assert_eq!((acks.outstanding(), acks.stragglers.len()), (0, 0));
}

#[test]
fn deliveries_without_ack_take_no_tag() {
    let mut acks = Acks::default();
    let direct_reply = DeliveredTags { first: 1, last: 1, consumer: None };
    acks.delivered(direct_reply).unwrap();
    acks.delivered(direct_reply).unwrap();
    deliver(&mut acks, 1, 1, 1);
    // A million deliveries without acks in between, and what is outstanding is still known.
    deliver(&mut acks, 1_000_002, 1_000_003, 1);
    assert!(acks.ring.len() <= 2);
    for tag in [1_000_003, 1, 1_000_002] {
        acks.mark(tag, 1, Outcome::Ack).unwrap();
    }
    let single = |tag| AckFrame::Ack { tag, multiple: false };
    assert_eq!(render(&mut acks), [single(1_000_003), single(1), single(1_000_002)]);
    assert_eq!(acks.outstanding(), 0);
}

#[derive(Clone, Debug)]
enum AckStep {
    Deliver { count: u64, consumer: Option<u32> },
    Settle { pick: prop::sample::Index, outcome: Outcome },
    Render,
}

fn step() -> impl Strategy<Value = AckStep> {
    let outcome = prop_oneof![
        6 => Just(Outcome::Ack),
        1 => Just(Outcome::AckAll),
        1 => any::<bool>().prop_map(|requeue| Outcome::Nack { requeue }),
        1 => any::<bool>().prop_map(|requeue| Outcome::Reject { requeue }),
        1 => Just(Outcome::NotBegun),
        1 => Just(Outcome::Failed),
    ];
    prop_oneof![
        3 => (1..6u64, prop::option::weighted(0.8, 1..4u32))
            .prop_map(|(count, consumer)| AckStep::Deliver { count, consumer }),
        6 => (any::<prop::sample::Index>(), outcome).prop_map(|(pick, outcome)| AckStep::Settle { pick, outcome }),
        2 => Just(AckStep::Render),
    ]
}

proptest! {
    #[test]
    fn every_tag_is_settled_once(steps in prop::collection::vec(step(), 1..200)) {
        let mut acks = Acks::default();
        // Unsettled deliveries at the broker, and those of the application, with their consumers.
        let mut unacked = BTreeSet::new();
        let mut held: Vec<(u64, u32)> = Vec::new();
        let mut next = 1;
        let check = |unacked: &mut BTreeSet<u64>, held: &[(u64, u32)], frames: Vec<AckFrame>| {
            for frame in frames {
                match frame {
                    AckFrame::Ack { tag, multiple: true } => {
                        prop_assert!(unacked.range(..=tag).next().is_some(), "nothing up to {tag}");
                        prop_assert!(held.iter().all(|h| h.0 > tag), "{tag} covers what is held");
                        unacked.retain(|&t| t > tag);
                    }
                    AckFrame::Ack { tag, .. } | AckFrame::Nack { tag, .. } | AckFrame::Reject { tag, .. } => {
                        prop_assert!(unacked.remove(&tag), "{tag} is not out");
                    }
                }
            }
            Ok(())
        };
        for step in steps {
            match step {
                AckStep::Deliver { count, consumer } => {
                    let last = next + count - 1;
                    acks.delivered(DeliveredTags { first: next, last, consumer }).unwrap();
                    if let Some(consumer) = consumer {
                        unacked.extend(next..=last);
                        held.extend((next..=last).map(|tag| (tag, consumer)));
                    }
                    next = last + 1;
                }
                AckStep::Settle { pick, outcome } if !held.is_empty() => {
                    let (tag, consumer) = held.swap_remove(pick.index(held.len()));
                    acks.mark(tag, consumer, outcome).unwrap();
                    if outcome == Outcome::AckAll {
                        held.retain(|h| h.1 != consumer || h.0 > tag);
                    }
                }
                AckStep::Settle { .. } => {}
                AckStep::Render => {
                    let frames = render(&mut acks);
                    check(&mut unacked, &held, frames)?;
                    prop_assert_eq!(unacked.len(), held.len());
                }
            }
            prop_assert_eq!(acks.outstanding(), held.len());
        }
        for (tag, consumer) in std::mem::take(&mut held) {
            acks.mark(tag, consumer, Outcome::Ack).unwrap();
        }
        let frames = render(&mut acks);
        check(&mut unacked, &held, frames)?;
        prop_assert!(unacked.is_empty() && !acks.is_dirty());
    }
}
