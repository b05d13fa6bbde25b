//! A model of the broker: reads the frames of an outbox, and panics at what a broker would not accept.

use std::collections::{BTreeMap, BTreeSet};

/// The content of which the broker has a part.
#[derive(Debug)]
pub(super) struct PartialContent {
    pub(super) id: u64,
    pub(super) missing: Option<usize>,
}

/// Reads frames, and panics at what must not happen.
#[derive(Debug, Default)]
pub(super) struct ModelBroker {
    pub(super) frame_max: usize,
    /// It has sent `channel.close`, which has no reply yet.
    pub(super) closing: bool,
    pub(super) partial: Option<PartialContent>,
    /// What it received in this channel epoch, in order, and whether it has replied to it.
    pub(super) received: Vec<(u64, bool)>,
    pub(super) returned: BTreeSet<u64>,
    /// What it has ever received, in part or whole.
    pub(super) ever_received: BTreeSet<u64>,
    /// What the broker may have, or had in an earlier channel epoch.
    pub(super) arrived: BTreeSet<u64>,
    /// What may come once more: it was in flight when a connection was lost.
    pub(super) may_repeat: BTreeSet<u64>,
    /// What had its outcome before this channel epoch, or before it was written.
    pub(super) must_not_come: BTreeSet<u64>,
    /// What has failed with an error that says that it has not arrived.
    pub(super) not_arrived: BTreeSet<u64>,
    pub(super) last_new: u64,
    pub(super) acked: BTreeSet<u64>,
    /// The channel epochs in which publishes were acked.
    pub(super) acked_in: BTreeMap<u64, u32>,
    pub(super) nacked: BTreeSet<u64>,
    /// Nacked while nacks are deferred: these come again, unless the retry ends first.
    pub(super) deferred: BTreeSet<u64>,
    pub(super) unroutable: BTreeSet<u64>,
    /// What it may have had when an earlier channel epoch ended.
    pub(super) received_earlier: BTreeSet<u64>,
}

impl ModelBroker {
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let [kind, _, _, size @ ..] = bytes {
            let size = u32::from_be_bytes(*size.first_chunk().expect("a head")) as usize;
            assert!(
                size + 8 <= self.frame_max,
                "a frame of {size} bytes where {} are allowed",
                self.frame_max
            );
            assert_eq!(bytes.get(size + 7), Some(&0xCE), "a part of a frame");
            self.frame(*kind, &bytes[7..size + 7]);
            bytes = &bytes[size + 8..];
        }
        assert!(bytes.is_empty());
    }

    pub(super) fn frame(&mut self, kind: u8, payload: &[u8]) {
        if kind == 1 && payload[..4] == [0, 20, 0, 41] {
            assert!(std::mem::take(&mut self.closing), "channel.close-ok without channel.close");
            assert!(self.partial.is_none(), "channel.close-ok within a content");
            return;
        }
        let partial = match kind {
            1 => {
                assert_eq!(payload[..4], [0, 60, 0, 40]);
                assert!(self.partial.is_none(), "a publish within a content");
                let exchange = usize::from(payload[6]);
                let key = &payload[8 + exchange..][..usize::from(payload[7 + exchange])];
                let id = std::str::from_utf8(key).unwrap().parse().unwrap();
                assert!(!self.closing, "a publish behind channel.close");
                self.begin(id);
                PartialContent { id, missing: None }
            }
            2 => {
                let partial = self.partial.take().expect("a header without a method");
                assert!(partial.missing.is_none());
                let length = u64::from_be_bytes(*payload[4..].first_chunk().unwrap());
                PartialContent { id: partial.id, missing: Some(length as usize) }
            }
            _ => {
                let partial = self.partial.take().expect("a body without a header");
                let missing = partial.missing.expect("a body before its header");
                PartialContent {
                    id: partial.id,
                    missing: Some(missing.checked_sub(payload.len()).expect("too long")),
                }
            }
        };
        match partial.missing {
            Some(0) if self.closing => {}
            Some(0) => self.received.push((partial.id, false)),
            _ => self.partial = Some(partial),
        }
    }

    /// It was behind a refused publish, or was refused itself.
    pub(super) fn drop_publish(&mut self, id: u64) {
        if !self.received_earlier.contains(&id) {
            self.arrived.remove(&id);
        }
    }

    pub(super) fn begin(&mut self, id: u64) {
        self.arrived.insert(id);
        assert!(!self.must_not_come.contains(&id), "{id} has an outcome");
        assert!(!self.not_arrived.contains(&id), "{id} arrives after all");
        if self.ever_received.insert(id) {
            assert!(id > self.last_new, "{id} after {}", self.last_new);
            self.last_new = id;
        } else {
            assert!(self.may_repeat.remove(&id), "{id} twice, but it was not in flight");
        }
    }

    pub(super) fn open(&self) -> Vec<usize> {
        (0..self.received.len()).filter(|&at| !self.received[at].1).collect()
    }

    /// Returns what was received in this channel epoch, and has no reply.
    pub(super) fn in_flight(&self) -> Vec<u64> {
        let whole = self.received.iter().filter(|(_, answered)| !answered).map(|(id, _)| *id);
        // Behind its channel.close, it drops the rest.
        let partial = self.partial.iter().filter(|_| !self.closing);
        whole.chain(partial.map(|partial| partial.id)).collect()
    }

    pub(super) fn end_epoch(&mut self) {
        self.may_repeat.extend(&self.deferred);
        self.received_earlier.extend(&self.arrived);
        self.received.clear();
        self.returned.clear();
    }
}
