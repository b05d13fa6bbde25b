//! Transactions and `basic.recover`: what is written before and after them.

use super::*;
use crate::{
    message::methods,
    wire::{AMQPClass, put_method},
};

fn outbox() -> Outbox {
    let (outbox, _) = attached(false, 131_072);
    outbox
}

fn deliver(outbox: &Outbox, first: u64, last: u64) {
    outbox.delivered(&[DeliveredTags { first, last, consumer: Some(1) }], 0).unwrap();
}

/// Returns what is written, as words.
fn written(outbox: &Outbox) -> Vec<String> {
    let mut out = Vec::new();
    outbox.take(EPOCH, usize::MAX, &mut out);
    let bytes = out.concat();
    let mut rest = &bytes[..];
    let mut words = Vec::new();
    while rest.len() > 7 {
        if rest[0] != 1 {
            let text = std::str::from_utf8(&rest[..4]).unwrap();
            words.push(text.to_owned());
            rest = &rest[4..];
            continue;
        }
        let len = u32::from_be_bytes(rest[3..7].try_into().unwrap()) as usize + 8;
        let frame = &rest[..len];
        let tag = || u64::from_be_bytes(frame[11..19].try_into().unwrap());
        words.push(match frame[10] {
            80 => format!("ack {}{}", tag(), if frame[19] == 1 { " and below" } else { "" }),
            90 => format!("reject {}, requeue {}", tag(), frame[19]),
            120 => format!("nack {}, requeue {}", tag(), frame[19] >> 1),
            other => other.to_string(),
        });
        rest = &rest[len..];
    }
    words
}

fn word(text: &'static str) -> Bytes {
    assert_eq!(text.len(), 4);
    Bytes::from_static(text.as_bytes())
}

fn tail() -> Bytes {
    // So that `written` reads to the end.
    Bytes::from_static(b"end.\0\0\0\0")
}

#[actix::test]
async fn rollback_requeues_uncommitted_acks_only() {
    let outbox = outbox();
    outbox.select_tx(word("sel.")).unwrap();
    deliver(&outbox, 1, 6);
    for tag in [1, 2] {
        outbox.settle(0, tag, 1, Outcome::Ack).unwrap();
    }
    outbox.commit_tx(word("com.")).unwrap();
    outbox.transaction_answered();
    for tag in [3, 5] {
        outbox.settle(0, tag, 1, Outcome::Ack).unwrap();
    }
    outbox.settle(0, 6, 1, Outcome::Nack { requeue: false }).unwrap();
    assert_eq!(outbox.rollback_tx(word("rol."), word("com.")).unwrap(), 3);
    outbox.transaction_answered();
    assert_eq!(outbox.rollback_tx(word("rol."), word("com.")).unwrap(), 0, "nothing to undo");
    outbox.transaction_answered();
    outbox.settle(0, 4, 1, Outcome::Ack).unwrap();
    outbox.method(tail()).unwrap();
    let mut words = written(&outbox);
    words.truncate(14);
    assert_eq!(
        words,
        [
            "sel.",
            "ack 2 and below",
            "com.",
            "nack 6, requeue 0",
            "ack 3",
            "ack 5",
            "rol.",
            "reject 3, requeue 1",
            "reject 5, requeue 1",
            "reject 6, requeue 1",
            "com.",
            "rol.",
            "ack 4",
            "end.",
        ]
    );
}

/// A method of the channel of these tests, as a frame.
fn frame(method: &AMQPClass) -> Bytes {
    let mut frame = BytesMut::new();
    put_method(&mut frame, 3, method).unwrap();
    frame.freeze()
}

const COMMIT: ReadBack = ReadBack::Method(90, 20);
const ACK: ReadBack = ReadBack::Method(60, 80);

fn commit(outbox: &Outbox) {
    outbox.commit_tx(frame(&methods::tx_commit())).unwrap();
}

fn read_all(outbox: &Outbox) -> Vec<ReadBack> {
    read_back(take_all(outbox, 64 * 1024), 131_072)
}

#[actix::test]
async fn what_follows_a_commit_is_written_after_its_reply() {
    let (outbox, flushes) = attached(false, 131_072);
    let body = Bytes::from_static(b"x");
    let of = |key: &str| ReadBack::Publish(key.into(), body.clone());
    outbox.select_tx(frame(&methods::tx_select())).unwrap();
    deliver(&outbox, 1, 3);
    publish(&outbox, "first", &body);
    outbox.settle(0, 1, 1, Outcome::Ack).unwrap();
    commit(&outbox);
    publish(&outbox, "second", &body);
    outbox.settle(0, 2, 1, Outcome::Ack).unwrap();
    assert_eq!(read_all(&outbox), [ReadBack::Method(90, 10), of("first"), ACK, COMMIT]);
    tokio::task::yield_now().await;
    flushes.lock().unwrap().clear();
    publish(&outbox, "third", &body);
    outbox.settle(0, 3, 1, Outcome::Nack { requeue: true }).unwrap();
    outbox.method(frame(&methods::flow_ok(true))).unwrap();
    tokio::task::yield_now().await;
    assert!(flushes.lock().unwrap().is_empty(), "there is nothing to take");
    assert_eq!(read_all(&outbox), []);
    assert!(!outbox.load().drained);
    outbox.transaction_answered();
    tokio::task::yield_now().await;
    assert_eq!(flushes.lock().unwrap().len(), 1);
    let rest = [of("second"), of("third"), ReadBack::Method(60, 120), ACK, ReadBack::Method(20, 21)];
    assert_eq!(read_all(&outbox), rest);
    assert!(outbox.load().drained);
}

#[actix::test]
async fn what_waits_for_the_reply_to_a_commit_fills_the_window() {
    let (outbox, _) = attached(false, 131_072);
    let (body, properties) = (Bytes::from_static(b"x"), Properties::new());
    outbox.select_tx(frame(&methods::tx_select())).unwrap();
    commit(&outbox);
    for _ in 0..config(false).window {
        publish(&outbox, "key", &body);
    }
    let (exchange, routing_key, mandatory, resend) = ("ex", "key", false, false);
    let one_more = || {
        let body = &body;
        Outgoing { exchange, routing_key, mandatory, resend, properties: &properties, body }
    };
    let mut ticket = Default::default();
    let mut poll = || outbox.poll_publish(&mut ticket, &mut Context::from_waker(Waker::noop()), one_more());
    assert!(poll().is_pending());
    let mut taken = Vec::new();
    assert!(!outbox.take(EPOCH, usize::MAX, &mut taken));
    assert!(poll().is_pending(), "the commit is written, the others are not");
    outbox.expire(Instant::now() + 2 * config(false).deadline);
    let Poll::Ready(Err(late)) = poll() else { panic!("it is late") };
    assert_eq!((late.kind(), late.may_have_arrived()), (ErrorKind::Timeout, false));
    let cause = std::error::Error::source(&late).expect("the cause").to_string();
    assert_eq!(cause, "the commit or rollback before it has no reply");
    outbox.transaction_answered();
    assert_eq!(read_all(&outbox).len(), config(false).window);
    assert!(outbox.queue_publish(one_more()).unwrap().is_some());
}

/// So many that they become frames before the connection takes them.
#[actix::test]
async fn many_acks_behind_a_commit_wait_for_its_reply() {
    const MANY: u64 = 10_000;
    let outbox = outbox();
    outbox.select_tx(frame(&methods::tx_select())).unwrap();
    deliver(&outbox, 1, MANY);
    commit(&outbox);
    outbox.settle_each(0, 1..=MANY, 1, Outcome::Nack { requeue: true }).unwrap();
    deliver(&outbox, MANY + 1, MANY + 1);
    assert_eq!(read_all(&outbox), [ReadBack::Method(90, 10), COMMIT]);
    assert!(outbox.waiting_answers().settled > 0);
    outbox.transaction_answered();
    assert_eq!(read_all(&outbox).len() as u64, MANY);
    assert_eq!(outbox.waiting_answers(), WaitingAnswers::default());
}

#[actix::test]
async fn only_a_close_is_written_before_the_reply_to_a_commit() {
    let body = Bytes::from_static(b"x");
    let close = frame(&methods::channel_close(200, "bye"));
    for written_before in [true, false] {
        let outbox = outbox();
        deliver(&outbox, 1, 1);
        publish(&outbox, "committed", &body);
        commit(&outbox);
        let mut written = if written_before { read_all(&outbox) } else { Vec::new() };
        publish(&outbox, "rolled back", &body);
        outbox.settle(0, 1, 1, Outcome::Ack).unwrap();
        outbox.end(Error::channel_closed("closed", None), FinalFrames::AfterQueued(close.clone()));
        written.extend(read_all(&outbox));
        let committed = ReadBack::Publish("committed".into(), body.clone());
        assert_eq!(written, [committed, COMMIT, ReadBack::Method(20, 40)]);
        outbox.transaction_answered();
        assert_eq!(read_all(&outbox), []);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Ack,
    Commit,
    Rollback,
    Take(usize),
    Answer,
}

/// Counts the commits and rollbacks among the frames.
fn transactions(mut frames: &[u8]) -> usize {
    let mut count = 0;
    while let [kind, _, _, a, b, c, d, payload @ ..] = frames {
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        count += usize::from(*kind == 1 && matches!(payload, [0, 90, 0, 20 | 30, ..]));
        frames = &payload[len + 1..];
    }
    count
}

/// Nothing is written between a commit or rollback and its reply, and nothing is lost.
#[actix::test]
async fn whatever_is_made_behind_a_commit_waits_for_its_reply() {
    let step = prop_oneof![
        6 => prop_oneof![0..200usize, 4000..9000usize, 9000..40_000usize].prop_map(Step::Publish),
        4 => Just(Step::Ack),
        2 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        6 => prop_oneof![Just(1), 1000..100_000usize].prop_map(Step::Take),
        3 => Just(Step::Answer),
    ];
    let check = |steps: Vec<Step>| {
        let (outbox, _) = attached(false, 8192);
        let (mut stream, mut published, mut acked, mut requeued) = (BytesMut::new(), 0, 0, 0);
        // How many commits and rollbacks were appended, and whether the last one has no reply.
        let (mut appended, mut awaits) = (0, false);
        outbox.select_tx(frame(&methods::tx_select())).unwrap();
        deliver(&outbox, 1, 1000);
        for step in steps.into_iter().chain([Step::Take(usize::MAX), Step::Answer, Step::Take(usize::MAX)]) {
            let is_written = transactions(&stream) == appended;
            match step {
                Step::Publish(size) => {
                    publish(&outbox, &published.to_string(), &Bytes::from(vec![7; size]));
                    published += 1;
                }
                Step::Ack => {
                    acked += 1;
                    outbox.settle(0, acked, 1, Outcome::Ack).unwrap();
                }
                Step::Commit if !awaits => {
                    (appended, awaits) = (appended + 1, true);
                    commit(&outbox);
                }
                Step::Rollback if !awaits => {
                    let frames = (frame(&methods::tx_rollback()), frame(&methods::tx_commit()));
                    let undone = outbox.rollback_tx(frames.0, frames.1).unwrap();
                    (appended, awaits) = (appended + 1 + usize::from(undone > 0), true);
                    requeued += undone;
                }
                Step::Take(budget) => {
                    let mut taken = Vec::new();
                    outbox.take(EPOCH, budget, &mut taken);
                    prop_assert!(!(awaits && is_written) || taken.is_empty());
                    stream.extend_from_slice(&taken.concat());
                }
                Step::Answer if awaits && is_written => {
                    awaits = false;
                    outbox.transaction_answered();
                }
                Step::Commit | Step::Rollback | Step::Answer => {}
            }
        }
        prop_assert!(outbox.load().drained && !awaits);
        let seen = read_back(stream, 8192);
        let is_reject = |one: &&ReadBack| **one == ReadBack::Method(60, 90);
        prop_assert_eq!(seen.iter().filter(is_reject).count() as u64, requeued);
        let keys: Vec<_> = seen.into_iter().filter_map(ReadBack::key).collect();
        prop_assert_eq!(keys, (0..published).map(|n| n.to_string()).collect::<Vec<_>>());
        prop_assert_eq!(outbox.load().unsettled as u64, 1000 - acked);
        Ok(())
    };
    TestRunner::default().run(&prop::collection::vec(step, 1..60), check).unwrap();
}

#[actix::test]
async fn tags_count_on_after_basic_recover_and_old_ones_are_stale() {
    let outbox = outbox();
    deliver(&outbox, 1, 3);
    outbox.settle(0, 2, 1, Outcome::Ack).unwrap();
    assert_eq!(outbox.basic_recover(word("rec.")).unwrap(), 1);
    assert_eq!(outbox.load().unsettled, 0);
    let stale = outbox.settle(0, 1, 1, Outcome::Ack).unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::StaleDelivery);
    assert!(outbox.is_stale(0, 0) && !outbox.is_stale(1, 0));
    // Delivered before the broker read basic.recover: the broker requeues it.
    outbox.delivered(&[DeliveredTags { first: 4, last: 4, consumer: None }], 0).unwrap();
    deliver(&outbox, 5, 6);
    assert_eq!(outbox.load().unsettled, 2);
    outbox.settle(1, 6, 1, Outcome::Ack).unwrap();
    outbox.settle(1, 5, 1, Outcome::Ack).unwrap();
    outbox.method(tail()).unwrap();
    assert_eq!(written(&outbox)[..4], ["ack 2", "rec.", "ack 6 and below", "end."]);
}

#[actix::test]
async fn basic_recover_drops_what_was_held_back_for_a_consumer() {
    let outbox = outbox();
    deliver(&outbox, 1, 1);
    outbox.hold_back(1);
    outbox.settle(0, 1, 1, Outcome::Failed).unwrap();
    outbox.basic_recover(word("rec.")).unwrap();
    outbox.release(1);
    outbox.method(tail()).unwrap();
    assert_eq!(written(&outbox)[..2], ["rec.", "end."]);
}
