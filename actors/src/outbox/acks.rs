//! The unsettled deliveries of a channel, and what is to be said of them.
//!
//! A tag that is not outstanding here never becomes a frame. Acks are merged: the lowest run of settled tags goes out
//! as one `multiple` ack, and only when everything below it, over all consumers and gets, is settled.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::RangeInclusive,
};

use bytes::BytesMut;

use crate::{
    error::{Error, Result},
    wire::{put_ack, put_nack, put_reject},
};

/// Tags between the lowest unsettled one and the newest, before the oldest are set aside one by one.
const RING: usize = 32 * 1024;
const ACK_LEN: usize = 21;

/// What is said of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `basic.ack`
    Ack,
    /// `basic.ack` for this delivery and all older ones of its consumer.
    AckAll,
    /// `basic.nack`
    Nack {
        /// Back into its queue, or dropped or dead-lettered.
        requeue: bool,
    },
    /// `basic.nack` for this delivery and all older ones of its consumer.
    NackAll {
        /// Back into their queue, or dropped or dead-lettered.
        requeue: bool,
    },
    /// `basic.reject`
    Reject {
        /// Back into its queue, or dropped or dead-lettered.
        requeue: bool,
    },
    /// Nobody said anything: requeue, or hold back while its consumer goes.
    Dropped,
}

/// Deliveries with tags in a row, and the consumer that must settle them, if one must.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) consumer: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckState {
    Outstanding,
    /// Dropped, and to be requeued when its consumer is gone.
    Held,
    Acked,
    Settled,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    consumer: u32,
    mark: AckState,
}

#[derive(Debug)]
pub(super) struct Acks {
    /// The tag of `ring[0]`.
    base: u64,
    ring: VecDeque<Entry>,
    /// Outstanding, held or acked tags below `base`.
    stragglers: BTreeMap<u64, Entry>,
    acks: Vec<u64>,
    refusals: Vec<(u64, Outcome)>,
    held: HashMap<u32, Vec<u64>>,
    outstanding: usize,
    /// What was said since the last commit, on a channel with transactions.
    said: Option<Vec<RangeInclusive<u64>>>,
}

impl Default for Acks {
    fn default() -> Self {
        Self {
            base: 1,
            ring: VecDeque::new(),
            stragglers: BTreeMap::new(),
            acks: Vec::new(),
            refusals: Vec::new(),
            held: HashMap::new(),
            outstanding: 0,
            said: None,
        }
    }
}

impl Acks {
    pub(super) fn is_dirty(&self) -> bool {
        !self.acks.is_empty() || !self.refusals.is_empty()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Begins a new life: the broker counts from 1 again and has requeued what was not settled.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Notes deliveries; `Err` if their tags are not next in turn.
    pub(super) fn delivered(&mut self, seen: Seen) -> Result<(), ()> {
        // What nobody settles must not be counted: RabbitMQ gives direct replies the tag that is next, and gives that tag
        // again to what it delivers next.
        let Some(consumer) = seen.consumer else { return Ok(()) };
        let next = self.base + self.ring.len() as u64;
        if seen.first < next || seen.last < seen.first || seen.last == u64::MAX {
            return Err(());
        }
        self.skip(seen.first - next);
        let count = seen.last - seen.first + 1;
        self.outstanding += count as usize;
        self.push(Entry { consumer, mark: AckState::Outstanding }, count);
        Ok(())
    }

    /// Takes tags that are not ours for settled. A gap costs no more than what is outstanding, however wide it is.
    fn skip(&mut self, count: u64) {
        if count > 0 && count <= RING as u64 && !self.ring.is_empty() {
            self.push(Entry { consumer: 0, mark: AckState::Settled }, count);
        } else if count > 0 {
            for entry in self.ring.drain(..) {
                if entry.mark != AckState::Settled {
                    self.stragglers.insert(self.base, entry);
                }
                self.base += 1;
            }
            self.base += count;
        }
    }

    fn push(&mut self, entry: Entry, count: u64) {
        self.ring.extend(std::iter::repeat_n(entry, count as usize));
        while self.ring.len() > RING {
            let Some(oldest) = self.ring.pop_front() else { break };
            if oldest.mark != AckState::Settled {
                self.stragglers.insert(self.base, oldest);
            }
            self.base += 1;
        }
    }

    pub(super) fn mark(&mut self, tag: u64, consumer: u32, verdict: Outcome) -> Result<()> {
        let outstanding = self.entry(tag).is_some_and(|e| e.mark == AckState::Outstanding);
        if !outstanding {
            let known = matches!(verdict, Outcome::Dropped);
            return if known { Ok(()) } else { Err(Error::stale("the delivery is settled already")) };
        }
        match verdict {
            Outcome::Ack => self.acked(tag),
            Outcome::AckAll => {
                for tag in self.up_to(tag, consumer) {
                    self.acked(tag);
                }
            }
            Outcome::NackAll { requeue } => {
                for tag in self.up_to(tag, consumer) {
                    self.refuse(tag, Outcome::Nack { requeue });
                }
            }
            Outcome::Dropped if self.held.contains_key(&consumer) => self.keep_back(tag, consumer),
            Outcome::Dropped => self.refuse(tag, Outcome::Reject { requeue: true }),
            Outcome::Nack { .. } | Outcome::Reject { .. } => self.refuse(tag, verdict),
        }
        Ok(())
    }

    fn acked(&mut self, tag: u64) {
        if let Some(entry) = self.entry(tag) {
            entry.mark = AckState::Acked;
            self.outstanding -= 1;
            self.acks.push(tag);
        }
    }

    fn refuse(&mut self, tag: u64, verdict: Outcome) {
        if let Some(entry) = self.entry(tag) {
            entry.mark = AckState::Settled;
            self.outstanding -= 1;
            self.refusals.push((tag, verdict));
        }
        if tag < self.base {
            self.stragglers.remove(&tag);
        }
    }

    /// A held tag is nobody's to settle any more: not by its delivery, which is gone, nor by a later one for all.
    fn keep_back(&mut self, tag: u64, consumer: u32) {
        if let Some(entry) = self.entry(tag) {
            entry.mark = AckState::Held;
        }
        self.held.entry(consumer).or_default().push(tag);
    }

    /// The tags of `consumer` up to `tag` that are not settled.
    fn up_to(&self, tag: u64, consumer: u32) -> Vec<u64> {
        let mine = |e: &Entry| e.consumer == consumer && e.mark == AckState::Outstanding;
        let old = self.stragglers.range(..=tag).filter(|(_, e)| mine(e)).map(|(&tag, _)| tag);
        let new = (self.base..=tag).zip(&self.ring).filter(|(_, e)| mine(e)).map(|(tag, _)| tag);
        old.chain(new).collect()
    }

    pub(super) fn hold(&mut self, consumer: u32) {
        self.held.entry(consumer).or_default();
    }

    pub(super) fn release(&mut self, consumer: u32) {
        for tag in self.held.remove(&consumer).unwrap_or_default() {
            self.refuse(tag, Outcome::Reject { requeue: true });
        }
    }

    /// Remembers from now on what is said, until [`undo`](Self::undo).
    pub(super) fn remember(&mut self) {
        self.said.get_or_insert_default();
    }

    /// Hands out the tags of which something was said since the last time, lowest first.
    pub(super) fn undo(&mut self) -> Vec<RangeInclusive<u64>> {
        let mut said = self.said.as_mut().map(std::mem::take).unwrap_or_default();
        said.sort_unstable_by_key(|tags| *tags.start());
        said
    }

    /// Forgets what is outstanding: it goes back into its queues by itself. Tags go on counting.
    pub(super) fn forget_all(&mut self) {
        self.base += self.ring.len() as u64;
        self.ring.clear();
        self.stragglers.clear();
        self.held.values_mut().for_each(Vec::clear);
        self.outstanding = 0;
    }

    /// An upper bound of what [`render`](Self::render) writes.
    pub(super) fn rendered_len(&self) -> usize {
        (self.acks.len() + self.refusals.len() + 1) * ACK_LEN
    }

    /// Writes refusals first, then the lowest run as one ack, then what is acked beyond a gap one by one.
    pub(super) fn render(&mut self, channel: u16, buf: &mut BytesMut) {
        for (tag, verdict) in self.refusals.drain(..) {
            say(&mut self.said, tag);
            match verdict {
                Outcome::Nack { requeue } => put_nack(buf, channel, tag, false, requeue),
                Outcome::Reject { requeue } => put_reject(buf, channel, tag, requeue),
                Outcome::Ack | Outcome::AckAll | Outcome::NackAll { .. } | Outcome::Dropped => {}
            }
        }
        let (mut run, mut last) = (0, 0);
        if self.stragglers.is_empty() {
            while let Some(entry) = self.ring.front() {
                match entry.mark {
                    AckState::Outstanding | AckState::Held => break,
                    AckState::Acked => {
                        (run, last) = (run + 1, self.base);
                        say(&mut self.said, last);
                    }
                    AckState::Settled => {}
                }
                self.ring.pop_front();
                self.base += 1;
            }
            if run > 0 {
                put_ack(buf, channel, last, run > 1);
            }
        }
        if run == self.acks.len() {
            self.acks.clear();
            return;
        }
        let acks = std::mem::take(&mut self.acks);
        for tag in acks {
            if tag < self.base && self.stragglers.remove(&tag).is_none() {
                continue;
            }
            put_ack(buf, channel, tag, false);
            say(&mut self.said, tag);
            if let Some(entry) = self.entry(tag) {
                entry.mark = AckState::Settled;
            }
        }
    }

    fn entry(&mut self, tag: u64) -> Option<&mut Entry> {
        match tag.checked_sub(self.base) {
            Some(at) => self.ring.get_mut(at as usize),
            None => self.stragglers.get_mut(&tag),
        }
    }
}

/// Notes a tag of which something is said, where that may have to be undone.
fn say(said: &mut Option<Vec<RangeInclusive<u64>>>, tag: u64) {
    if let Some(said) = said {
        match said.last_mut() {
            Some(last) if *last.end() + 1 == tag => *last = *last.start()..=tag,
            _ => said.push(tag..=tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A frame as the broker reads it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Said {
        Ack { tag: u64, multiple: bool },
        Nack { tag: u64, requeue: bool },
        Reject { tag: u64, requeue: bool },
    }

    fn render(settles: &mut Acks) -> Vec<Said> {
        let mut buf = BytesMut::new();
        let promised = settles.rendered_len();
        settles.render(1, &mut buf);
        assert!(buf.len() <= promised, "{} bytes, {promised} promised", buf.len());
        let said = |frame: &[u8]| {
            let tag = u64::from_be_bytes(frame[11..19].try_into().unwrap());
            let bit = |n: u8| frame[19] & n != 0;
            match frame[10] {
                80 => Said::Ack { tag, multiple: bit(1) },
                120 => Said::Nack { tag, requeue: bit(2) },
                90 => Said::Reject { tag, requeue: bit(1) },
                other => panic!("method {other}"),
            }
        };
        buf.chunks(ACK_LEN).map(said).collect()
    }

    fn deliver(settles: &mut Acks, first: u64, last: u64, consumer: u32) {
        settles.delivered(Seen { first, last, consumer: Some(consumer) }).unwrap();
    }

    #[test]
    fn a_run_of_acks_is_one_multiple_ack() {
        let mut settles = Acks::default();
        deliver(&mut settles, 1, 5, 1);
        for tag in [2, 1, 3] {
            settles.mark(tag, 1, Outcome::Ack).unwrap();
        }
        assert_eq!(render(&mut settles), [Said::Ack { tag: 3, multiple: true }]);
        settles.mark(5, 1, Outcome::Ack).unwrap();
        assert_eq!(render(&mut settles), [Said::Ack { tag: 5, multiple: false }], "4 is still out");
        settles.mark(4, 1, Outcome::Ack).unwrap();
        assert_eq!(render(&mut settles), [Said::Ack { tag: 4, multiple: false }], "one is no run");
        assert_eq!((settles.outstanding(), settles.is_dirty()), (0, false));
    }

    #[test]
    fn refusals_go_before_the_ack_that_would_cover_them() {
        let mut settles = Acks::default();
        deliver(&mut settles, 1, 3, 1);
        settles.mark(1, 1, Outcome::Ack).unwrap();
        settles.mark(3, 1, Outcome::Ack).unwrap();
        settles.mark(2, 1, Outcome::Nack { requeue: true }).unwrap();
        let expected = [Said::Nack { tag: 2, requeue: true }, Said::Ack { tag: 3, multiple: true }];
        assert_eq!(render(&mut settles), expected);
    }

    #[test]
    fn ack_all_leaves_other_consumers_alone() {
        let mut settles = Acks::default();
        for tag in 1..=6 {
            deliver(&mut settles, tag, tag, 1 + u32::from(tag == 2));
        }
        settles.mark(5, 1, Outcome::AckAll).unwrap();
        let single = |tag| Said::Ack { tag, multiple: false };
        assert_eq!(render(&mut settles), [single(1), single(3), single(4), single(5)]);
        assert_eq!(settles.mark(4, 1, Outcome::Ack).unwrap_err().kind(), crate::ErrorKind::StaleDelivery);
        assert_eq!(settles.outstanding(), 2);
    }

    #[test]
    fn what_is_held_goes_back_when_released() {
        let mut settles = Acks::default();
        deliver(&mut settles, 1, 2, 7);
        settles.mark(1, 7, Outcome::Dropped).unwrap();
        assert_eq!(render(&mut settles), [Said::Reject { tag: 1, requeue: true }]);
        settles.hold(7);
        settles.mark(2, 7, Outcome::Dropped).unwrap();
        assert!(!settles.is_dirty());
        settles.release(7);
        assert_eq!(render(&mut settles), [Said::Reject { tag: 2, requeue: true }]);
    }

    #[test]
    fn tags_out_of_turn_are_refused() {
        let mut settles = Acks::default();
        deliver(&mut settles, 1, 2, 1);
        let seen = |tag| Seen { first: tag, last: tag, consumer: Some(1) };
        assert_eq!(settles.delivered(seen(2)), Err(()));
        assert_eq!(settles.delivered(seen(u64::MAX)), Err(()));
        assert_eq!(settles.delivered(seen(4)), Ok(()), "a gap is settled");
        assert_eq!(settles.mark(3, 1, Outcome::Ack).unwrap_err().kind(), crate::ErrorKind::StaleDelivery);
    }

    #[test]
    fn one_delivery_that_is_never_settled_does_not_grow_the_ring() {
        let mut settles = Acks::default();
        deliver(&mut settles, 1, 1, 1);
        for tag in 2..=4 * RING as u64 {
            deliver(&mut settles, tag, tag, 1);
            settles.mark(tag, 1, Outcome::Ack).unwrap();
            assert_eq!(render(&mut settles), [Said::Ack { tag, multiple: false }]);
        }
        assert!(settles.ring.len() <= RING && settles.stragglers.len() == 1);
        settles.mark(1, 1, Outcome::Ack).unwrap();
        assert_eq!(render(&mut settles), [Said::Ack { tag: 1, multiple: false }]);
        assert_eq!((settles.outstanding(), settles.stragglers.len()), (0, 0));
    }

    #[test]
    fn what_nobody_settles_takes_no_tag() {
        let mut settles = Acks::default();
        let direct_reply = Seen { first: 1, last: 1, consumer: None };
        settles.delivered(direct_reply).unwrap();
        settles.delivered(direct_reply).unwrap();
        deliver(&mut settles, 1, 1, 1);
        // A million deliveries without acks in between, and what is outstanding is still known.
        deliver(&mut settles, 1_000_002, 1_000_003, 1);
        assert!(settles.ring.len() <= 2);
        for tag in [1_000_003, 1, 1_000_002] {
            settles.mark(tag, 1, Outcome::Ack).unwrap();
        }
        let single = |tag| Said::Ack { tag, multiple: false };
        assert_eq!(render(&mut settles), [single(1_000_003), single(1), single(1_000_002)]);
        assert_eq!(settles.outstanding(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Deliver { count: u64, consumer: Option<u32> },
        AckState { pick: prop::sample::Index, verdict: Outcome },
        Render,
    }

    fn step() -> impl Strategy<Value = Step> {
        let verdict = prop_oneof![
            6 => Just(Outcome::Ack),
            1 => Just(Outcome::AckAll),
            1 => any::<bool>().prop_map(|requeue| Outcome::Nack { requeue }),
            1 => any::<bool>().prop_map(|requeue| Outcome::Reject { requeue }),
            1 => Just(Outcome::Dropped),
        ];
        prop_oneof![
            3 => (1..6u64, prop::option::weighted(0.8, 1..4u32))
                .prop_map(|(count, consumer)| Step::Deliver { count, consumer }),
            6 => (any::<prop::sample::Index>(), verdict).prop_map(|(pick, verdict)| Step::AckState { pick, verdict }),
            2 => Just(Step::Render),
        ]
    }

    proptest! {
        #[test]
        fn a_broker_never_hears_of_a_tag_twice(steps in prop::collection::vec(step(), 1..200)) {
            let mut settles = Acks::default();
            // What the broker has out, and what the application holds, with its consumer.
            let mut unacked = BTreeSet::new();
            let mut held: Vec<(u64, u32)> = Vec::new();
            let mut next = 1;
            let hear = |unacked: &mut BTreeSet<u64>, held: &[(u64, u32)], said: Vec<Said>| {
                for said in said {
                    match said {
                        Said::Ack { tag, multiple: true } => {
                            prop_assert!(unacked.range(..=tag).next().is_some(), "nothing up to {tag}");
                            prop_assert!(held.iter().all(|h| h.0 > tag), "{tag} covers what is held");
                            unacked.retain(|&t| t > tag);
                        }
                        Said::Ack { tag, .. } | Said::Nack { tag, .. } | Said::Reject { tag, .. } => {
                            prop_assert!(unacked.remove(&tag), "{tag} is not out");
                        }
                    }
                }
                Ok(())
            };
            for step in steps {
                match step {
                    Step::Deliver { count, consumer } => {
                        let last = next + count - 1;
                        settles.delivered(Seen { first: next, last, consumer }).unwrap();
                        if let Some(consumer) = consumer {
                            unacked.extend(next..=last);
                            held.extend((next..=last).map(|tag| (tag, consumer)));
                        }
                        next = last + 1;
                    }
                    Step::AckState { pick, verdict } if !held.is_empty() => {
                        let (tag, consumer) = held.swap_remove(pick.index(held.len()));
                        settles.mark(tag, consumer, verdict).unwrap();
                        if verdict == Outcome::AckAll {
                            held.retain(|h| h.1 != consumer || h.0 > tag);
                        }
                    }
                    Step::AckState { .. } => {}
                    Step::Render => {
                        let said = render(&mut settles);
                        hear(&mut unacked, &held, said)?;
                        prop_assert_eq!(unacked.len(), held.len());
                    }
                }
                prop_assert_eq!(settles.outstanding(), held.len());
            }
            for (tag, consumer) in std::mem::take(&mut held) {
                settles.mark(tag, consumer, Outcome::Ack).unwrap();
            }
            let said = render(&mut settles);
            hear(&mut unacked, &held, said)?;
            prop_assert!(unacked.is_empty() && !settles.is_dirty());
        }
    }
}
