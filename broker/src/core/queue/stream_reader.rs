//! [`StreamReader`]: how far a consumer of a stream has read.

use super::{stored::Stored, stream::StreamLog, stream_filter::StreamFilter};
use crate::core::Time;

/// Where a consumer of a stream is.
#[derive(Debug, Default)]
pub(crate) struct StreamReader {
    /// The next offset.
    cursor: u64,
    filtered: Option<Filtered>,
}

/// What a consumer with a filter knows of chunks, so that it looks at each message once.
#[derive(Debug)]
struct Filtered {
    filter: StreamFilter,
    /// Between the cursor and this offset, no message is wanted. The last chunk may grow, and be wanted then.
    looked_at: u64,
    /// When the messages of the last chunk arrived that is wanted.
    wanted: Option<Time>,
}

impl StreamReader {
    pub(crate) fn new(cursor: u64, filter: Option<StreamFilter>) -> Self {
        let filtered = filter.map(|filter| Filtered { filter, looked_at: 0, wanted: None });
        Self { cursor, filtered }
    }

    /// Returns the next message whose chunk is wanted, and goes behind it.
    pub(crate) fn next<'a>(&mut self, log: &'a StreamLog) -> Option<&'a Stored> {
        if let Some(filtered) = &mut self.filtered {
            self.cursor = filtered.seek(log, self.cursor)?;
        }
        let stored = log.read(self.cursor)?;
        self.cursor = stored.place + 1;
        Some(stored)
    }
}

impl Filtered {
    /// Returns the first offset from one on whose chunk is wanted.
    fn seek(&mut self, log: &StreamLog, cursor: u64) -> Option<u64> {
        let next = log.read(cursor)?;
        if self.wanted == Some(next.arrived) {
            return Some(next.place);
        }
        // A consumer may start in the middle of a chunk, which is wanted or not as a whole.
        let from = if self.looked_at > next.place { self.looked_at } else { log.chunk_of(next) };
        let Some(wanted) = log.read_on(from).find(|stored| self.filter.wants(&stored.message)) else {
            self.looked_at = log.next();
            return None;
        };
        self.looked_at = wanted.place + 1;
        self.wanted = Some(wanted.arrived);
        Some(log.chunk_of(wanted).max(next.place))
    }
}
