//! Transactions and `basic.recover`: what is written before and after them.

use super::*;

fn outbox() -> Outbox {
    let (outbox, _) = attached(false, 131_072);
    outbox
}

fn deliver(outbox: &Outbox, first: u64, last: u64) {
    outbox.delivered(&[DeliveredTags { first, last, consumer: Some(1) }]).unwrap();
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
    for tag in [3, 5] {
        outbox.settle(0, tag, 1, Outcome::Ack).unwrap();
    }
    outbox.settle(0, 6, 1, Outcome::Nack { requeue: false }).unwrap();
    assert_eq!(outbox.rollback_tx(word("rol."), word("com.")).unwrap(), 3);
    assert_eq!(outbox.rollback_tx(word("rol."), word("com.")).unwrap(), 0, "nothing to undo");
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
    outbox.delivered(&[DeliveredTags { first: 4, last: 4, consumer: None }]).unwrap();
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
