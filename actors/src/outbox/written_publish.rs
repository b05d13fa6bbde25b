//! Reads publishes back from the frames that were written.

use bytes::Bytes;

use super::{
    publish::PUBLISH_COST,
    unconfirmed::{ReadPosition, Unconfirmed},
};
use crate::wire::{FRAME_OVERHEAD, HEAD_LEN};

/// One publish, by reference to the frames in which it was written.
pub(super) struct WrittenPublish<'a> {
    pub(super) sequence: u64,
    pub(super) exchange: &'a [u8],
    pub(super) routing_key: &'a [u8],
    pub(super) mandatory: bool,
    /// The payload of the content header.
    pub(super) header: &'a [u8],
    /// The encoded properties, a part of the header.
    pub(super) properties: &'a [u8],
    body: Vec<(&'a Bytes, &'a [u8])>,
}

impl WrittenPublish<'_> {
    pub(super) fn body_len(&self) -> usize {
        self.body.iter().map(|(_, part)| part.len()).sum()
    }

    /// Returns what the publish costs in the window.
    pub(super) fn cost(&self) -> usize {
        self.exchange.len() + self.routing_key.len() + self.body_len() + PUBLISH_COST
    }

    /// Returns the parts of the body, without copying them.
    pub(super) fn body(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.body.iter().map(|(bytes, part)| bytes.slice_ref(part))
    }

    pub(super) fn body_is(&self, body: &[u8]) -> bool {
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

/// Reads one publish after the other.
pub(super) struct PublishReader<'a> {
    unconfirmed: &'a Unconfirmed,
    position: ReadPosition,
}

impl<'a> PublishReader<'a> {
    pub(super) fn new(unconfirmed: &'a Unconfirmed, position: ReadPosition) -> Self {
        Self { unconfirmed, position }
    }

    pub(super) fn position(&self) -> ReadPosition {
        self.position
    }

    pub(super) fn next_publish(&mut self) -> Option<WrittenPublish<'a>> {
        let (_, size) = self.frame_head()?;
        let sequence = self.position.sequence;
        let method = self.rest()?.get(HEAD_LEN..HEAD_LEN + size)?;
        let (exchange, rest) = short_string(method.get(6..)?)?;
        let (routing_key, flags) = short_string(rest)?;
        let mandatory = flags.first()? & 1 != 0;
        self.skip(size + FRAME_OVERHEAD)?;
        let (_, size) = self.frame_head()?;
        let header = self.rest()?.get(HEAD_LEN..HEAD_LEN + size)?;
        let (fixed, properties) = header.split_at_checked(12)?;
        let length = fixed.get(4..)?;
        let length = length.iter().fold(0u64, |sum, &b| sum << 8 | u64::from(b)) as usize;
        self.skip(size + FRAME_OVERHEAD)?;
        let body = self.body(length)?;
        self.position.sequence += 1;
        Some(WrittenPublish { sequence, exchange, routing_key, mandatory, header, properties, body })
    }

    fn body(&mut self, length: usize) -> Option<Vec<(&'a Bytes, &'a [u8])>> {
        let mut body = Vec::new();
        let mut got = 0;
        while got < length {
            let (_, size) = self.frame_head()?;
            self.skip(HEAD_LEN)?;
            let mut left = size;
            while left > 0 {
                let (bytes, rest) = self.batch_and_rest()?;
                let part = rest.get(..left.min(rest.len()))?;
                body.push((bytes, part));
                left -= part.len();
                self.position.at += part.len();
            }
            self.skip(1)?;
            got += size;
        }
        Some(body)
    }

    /// Returns the type of the frame here and the size of its payload.
    fn frame_head(&mut self) -> Option<(u8, usize)> {
        let rest = self.rest()?;
        let size = rest.get(3..7)?;
        let size = u32::from_be_bytes([*size.first()?, *size.get(1)?, *size.get(2)?, *size.get(3)?]);
        Some((*rest.first()?, size as usize))
    }

    fn skip(&mut self, mut bytes: usize) -> Option<()> {
        while bytes > 0 {
            let step = self.rest()?.len().min(bytes);
            self.position.at += step;
            bytes -= step;
        }
        Some(())
    }

    /// Returns the bytes from here to the end of the batch.
    fn rest(&mut self) -> Option<&'a [u8]> {
        self.batch_and_rest().map(|(_, rest)| rest)
    }

    /// Returns the bytes of the batch here, or of the next one at the end of it, and those of them that are
    /// left.
    fn batch_and_rest(&mut self) -> Option<(&'a Bytes, &'a [u8])> {
        loop {
            let batch = self.unconfirmed.batch(self.position.batch)?;
            if self.position.at == 0 && batch.range.messages > 0 {
                // Not always the next number: what is confirmed is not written again.
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
}

fn short_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(len))
}

impl Unconfirmed {
    /// Reads one publish. To find several in rising order takes no longer than to read all.
    pub(super) fn find(&self, sequence: u64) -> Option<WrittenPublish<'_>> {
        let mut reader = PublishReader::new(self, self.position_before(sequence)?);
        while let Some(publish) = reader.next_publish() {
            if publish.sequence >= sequence {
                self.found.set(Some(reader.position()));
                return Some(publish).filter(|publish| publish.sequence == sequence);
            }
        }
        None
    }

    /// Calls `visit` with every publish, oldest first.
    pub(super) fn for_each(&self, mut visit: impl FnMut(WrittenPublish<'_>)) {
        let Some(front) = self.front() else { return };
        let mut reader = PublishReader::new(self, front);
        while let Some(publish) = reader.next_publish() {
            visit(publish);
        }
    }
}
