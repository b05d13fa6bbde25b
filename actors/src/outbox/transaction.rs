//! Transactions and `basic.recover` under the lock: what is settled before them leaves before them, and what they undo
//! is known in the same moment.

use bytes::Bytes;

use super::{Attachment, DeferredEffects, Outbox, State};
use crate::error::Result;

impl Outbox {
    /// Appends `tx.select`; what is settled from now on is remembered until it is committed.
    pub(crate) fn select_tx(&self, frame: Bytes) -> Result<()> {
        self.append(|state, channel| {
            state.queue.settles(channel, &mut state.settles);
            state.queue.method(frame);
            state.settles.remember();
        })
    }

    /// Appends `tx.commit` behind all that it is to commit.
    pub(crate) fn commit_tx(&self, frame: Bytes) -> Result<()> {
        self.append(|state, channel| {
            state.queue.settles(channel, &mut state.settles);
            state.queue.method(frame);
            drop(state.settles.undo());
        })
    }

    /// Appends `tx.rollback`; then, because nobody has the deliveries any more whose settling that undoes, their
    /// requeue and `tx.commit`. Tells how many there are; without any, nothing is committed.
    pub(crate) fn rollback_tx(&self, rollback: Bytes, commit: Bytes) -> Result<u64> {
        self.append(|state, channel| {
            state.queue.settles(channel, &mut state.settles);
            state.queue.method(rollback);
            let undone = state.settles.undo();
            let requeued = undone.iter().map(|tags| tags.end() - tags.start() + 1).sum();
            if requeued > 0 {
                state.queue.requeue(channel, undone);
                state.queue.method(commit);
            }
            requeued
        })
    }

    /// Appends `basic.recover` behind all that was settled: what is outstanding then belongs to an earlier incarnation.
    /// Tells the new one. The broker's tags go on counting.
    pub(crate) fn recover(&self, frame: Bytes) -> Result<u32> {
        self.append(|state, channel| {
            state.queue.settles(channel, &mut state.settles);
            state.queue.method(frame);
            state.settles.forget_all();
            state.channel_epoch += 1;
            state.channel_epoch
        })
    }

    fn append<T>(&self, write: impl FnOnce(&mut State, u16) -> T) -> Result<T> {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        if let Attachment::Closed { error, .. } = &state.life {
            return Err(error.clone());
        }
        let answer = write(&mut state, self.terms.channel);
        state.schedule(&self.terms, &mut after);
        drop(state);
        after.run();
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix::{Actor, Context, Handler};

    use super::*;
    use crate::{
        ErrorKind,
        outbox::{Flush, OutboxConfig, Outcome, Seen},
    };

    struct Sink;

    impl Actor for Sink {
        type Context = Context<Self>;
    }

    impl Handler<Flush> for Sink {
        type Result = ();

        fn handle(&mut self, _: Flush, _: &mut Self::Context) {}
    }

    fn outbox() -> Outbox {
        let outbox = Outbox::new(OutboxConfig {
            channel: 1,
            confirms: false,
            window: 10,
            window_bytes: 1 << 20,
            deadline: std::time::Duration::from_secs(30),
        });
        outbox.attach(1, Arc::new(Sink.start().recipient()), 131_072, false);
        outbox
    }

    fn deliver(outbox: &Outbox, first: u64, last: u64) {
        outbox.delivered(&[Seen { first, last, consumer: Some(1) }]).unwrap();
    }

    /// What the broker hears, as words.
    fn heard(outbox: &Outbox) -> Vec<String> {
        let mut out = Vec::new();
        outbox.take(1, usize::MAX, &mut out);
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
        // Keeps `heard` going to the end.
        Bytes::from_static(b"end.\0\0\0\0")
    }

    #[actix::test]
    async fn a_rollback_requeues_what_it_undoes_and_a_commit_forgets_it() {
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
        let mut words = heard(&outbox);
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
    async fn after_recover_tags_go_on_and_the_old_ones_are_stale() {
        let outbox = outbox();
        deliver(&outbox, 1, 3);
        outbox.settle(0, 2, 1, Outcome::Ack).unwrap();
        assert_eq!(outbox.recover(word("rec.")).unwrap(), 1);
        assert_eq!(outbox.load().unsettled, 0);
        let stale = outbox.settle(0, 1, 1, Outcome::Ack).unwrap_err();
        assert_eq!(stale.kind(), ErrorKind::StaleDelivery);
        assert!(outbox.is_stale(0) && !outbox.is_stale(1));
        // On its way when recover left: requeued by the broker, ours to forget.
        outbox.delivered(&[Seen { first: 4, last: 4, consumer: None }]).unwrap();
        deliver(&outbox, 5, 6);
        assert_eq!(outbox.load().unsettled, 2);
        outbox.settle(1, 6, 1, Outcome::Ack).unwrap();
        outbox.settle(1, 5, 1, Outcome::Ack).unwrap();
        outbox.method(tail()).unwrap();
        assert_eq!(heard(&outbox)[..4], ["ack 2", "rec.", "ack 6 and below", "end."]);
    }

    #[actix::test]
    async fn recover_drops_what_was_held_back_for_a_consumer_that_goes() {
        let outbox = outbox();
        deliver(&outbox, 1, 1);
        outbox.hold(1);
        outbox.settle(0, 1, 1, Outcome::Dropped).unwrap();
        outbox.recover(word("rec.")).unwrap();
        outbox.release(1);
        outbox.method(tail()).unwrap();
        assert_eq!(heard(&outbox)[..2], ["rec.", "end."]);
    }
}
