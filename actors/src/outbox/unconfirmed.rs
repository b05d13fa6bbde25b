//! Content that was handed over and is not confirmed, in the batches in which it was written.
//!
//! A batch is dropped when all of its publishes are confirmed. What a returned publish was is found by walking the
//! frames: the cold path, so that the hot one need not remember an exchange and a key per publish.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    returned::Return,
    wire::{FRAME_OVERHEAD, HEAD_LEN},
};

#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    batches: VecDeque<Batch>,
    /// How many batches were dropped so far, to give positions that survive dropping.
    dropped: u64,
    /// Where the search for the next returned publish begins.
    resume: Option<Position>,
}

/// The publishes that a run of bytes holds, or holds a part of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) messages: usize,
    pub(super) cost: usize,
}

impl Range {
    pub(super) fn add(&mut self, sequence: u64, cost: usize) {
        if self.messages == 0 {
            self.first = sequence;
        }
        self.last = sequence;
        self.messages += 1;
        self.cost += cost;
    }
}

#[derive(Debug)]
struct Batch {
    bytes: Bytes,
    range: Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    batch: u64,
    at: usize,
    sequence: u64,
}

impl Unconfirmed {
    pub(super) fn push(&mut self, bytes: Bytes, range: Range) {
        self.batches.push_back(Batch { bytes, range });
    }

    /// One more than the last publish that was handed over.
    pub(super) fn handed_over(&self) -> u64 {
        self.batches.back().map_or(0, |b| b.range.last + 1)
    }

    /// Drops what lies wholly below `base`; tells how many bytes of the window that frees.
    pub(super) fn drop_below(&mut self, base: u64, freed: &mut Vec<Bytes>) -> usize {
        let mut cost = 0;
        while self.batches.front().is_some_and(|b| b.range.last < base) {
            if let Some(batch) = self.batches.pop_front() {
                cost += batch.range.cost;
                freed.push(batch.bytes);
                self.dropped += 1;
            }
        }
        cost
    }

    /// Shows every publish, oldest first.
    pub(super) fn each(&self, mut show: impl FnMut(Publish<'_>)) {
        let Some(front) = self.batches.front() else { return };
        let position = Position { batch: self.dropped, at: 0, sequence: front.range.first };
        let mut walk = Walk { kept: self, position };
        while let Some(publish) = walk.next_publish() {
            show(publish);
        }
    }

    /// Finds the publish that came back, with these property bytes: of those with the same exchange and key the one
    /// that is most alike, and among equals the oldest one behind the last match.
    pub(super) fn match_return(
        &mut self,
        returned: &Return,
        properties: &[u8],
        open: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        let front =
            self.batches.front().map(|b| Position { batch: self.dropped, at: 0, sequence: b.range.first })?;
        let start = self.resume.filter(|p| p.batch >= self.dropped).unwrap_or(front);
        let mut best: Option<(Likeness, u64, Position)> = None;
        for (from, until) in [(start, u64::MAX), (front, start.sequence)] {
            let mut walk = Walk { kept: self, position: from };
            while walk.position.sequence < until && best.is_none_or(|(found, ..)| found < Likeness::Same) {
                let Some(publish) = walk.next_publish() else { break };
                let Some(likeness) = publish.likeness(returned, properties) else { continue };
                if best.is_none_or(|(found, ..)| found < likeness) && open(publish.sequence) {
                    best = Some((likeness, publish.sequence, walk.position));
                }
            }
        }
        let (_, sequence, next) = best?;
        self.resume = Some(next);
        Some(sequence)
    }
}

/// What a publish has in common with one that came back, beside exchange and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Key,
    Body,
    /// Body and properties; the broker may have changed the latter (`BCC`).
    Same,
}

struct Walk<'a> {
    kept: &'a Unconfirmed,
    position: Position,
}

/// One publish, as it was written.
pub(super) struct Publish<'a> {
    pub(super) sequence: u64,
    pub(super) exchange: &'a [u8],
    pub(super) routing_key: &'a [u8],
    pub(super) mandatory: bool,
    /// The payload of the content header.
    pub(super) header: &'a [u8],
    properties: &'a [u8],
    body: Vec<(&'a Bytes, &'a [u8])>,
}

impl Publish<'_> {
    pub(super) fn body_len(&self) -> usize {
        self.body.iter().map(|(_, part)| part.len()).sum()
    }

    /// The parts of the body, as views of what was written.
    pub(super) fn body(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.body.iter().map(|(bytes, part)| bytes.slice_ref(part))
    }

    /// Compares; `None` for another exchange or key.
    fn likeness(&self, returned: &Return, properties: &[u8]) -> Option<Likeness> {
        if self.exchange != returned.exchange.as_bytes()
            || self.routing_key != returned.routing_key.as_bytes()
        {
            return None;
        }
        Some(match self.body_is(&returned.body) {
            true if self.properties == properties => Likeness::Same,
            true => Likeness::Body,
            false => Likeness::Key,
        })
    }

    fn body_is(&self, body: &[u8]) -> bool {
        let mut rest = body;
        for (_, part) in &self.body {
            match rest.strip_prefix(*part) {
                Some(more) => rest = more,
                None => return false,
            }
        }
        rest.is_empty()
    }
}

impl<'a> Walk<'a> {
    /// The bytes from here to the end of the batch.
    fn rest(&mut self) -> Option<&'a [u8]> {
        self.place().map(|(_, rest)| rest)
    }

    /// The batch that goes on here, and its bytes from here on.
    fn place(&mut self) -> Option<(&'a Bytes, &'a [u8])> {
        loop {
            let index = self.position.batch.checked_sub(self.kept.dropped)?;
            let batch = self.kept.batches.get(index as usize)?;
            if self.position.at == 0 && batch.range.messages > 0 {
                // Not always the next number: what was confirmed is not written again in a later life.
                self.position.sequence = batch.range.first;
            }
            match batch.bytes.get(self.position.at..) {
                Some(rest) if !rest.is_empty() => return Some((&batch.bytes, rest)),
                _ => {
                    self.position.batch += 1;
                    self.position.at = 0;
                }
            }
        }
    }

    fn skip(&mut self, mut bytes: usize) -> Option<()> {
        while bytes > 0 {
            let step = self.rest()?.len().min(bytes);
            self.position.at += step;
            bytes -= step;
        }
        Some(())
    }

    /// The head of the frame here: its type and the size of its payload.
    fn head(&mut self) -> Option<(u8, usize)> {
        let rest = self.rest()?;
        let size = rest.get(3..7)?;
        let size = u32::from_be_bytes([*size.first()?, *size.get(1)?, *size.get(2)?, *size.get(3)?]);
        Some((*rest.first()?, size as usize))
    }

    fn next_publish(&mut self) -> Option<Publish<'a>> {
        let (_, size) = self.head()?;
        let sequence = self.position.sequence;
        let method = self.rest()?.get(HEAD_LEN..HEAD_LEN + size)?;
        let (exchange, rest) = short(method.get(6..)?)?;
        let (routing_key, flags) = short(rest)?;
        let mandatory = flags.first()? & 1 != 0;
        self.skip(size + FRAME_OVERHEAD)?;
        let (_, size) = self.head()?;
        let header = self.rest()?.get(HEAD_LEN..HEAD_LEN + size)?;
        let (fixed, properties) = header.split_at_checked(12)?;
        let length = fixed.get(4..)?;
        let length = length.iter().fold(0u64, |sum, &b| sum << 8 | u64::from(b)) as usize;
        self.skip(size + FRAME_OVERHEAD)?;
        let mut body = Vec::new();
        let mut got = 0;
        while got < length {
            let (_, size) = self.head()?;
            self.skip(HEAD_LEN)?;
            let mut left = size;
            while left > 0 {
                let (bytes, rest) = self.place()?;
                let part = rest.get(..left.min(rest.len()))?;
                body.push((bytes, part));
                left -= part.len();
                self.position.at += part.len();
            }
            self.skip(1)?;
            got += size;
        }
        self.position.sequence += 1;
        Some(Publish { sequence, exchange, routing_key, mandatory, header, properties, body })
    }
}

fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(len))
}
