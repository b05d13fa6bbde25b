//! Incomplete bodies, and the limit that the channels of a connection share for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::fault::Fault;

/// The highest number of empty body frames in one content.
pub const EMPTY_FRAMES: u32 = 64;

/// The highest number of octets that are allocated before they arrive.
const PREALLOCATED: u64 = 1 << 20;

/// Why the body of a content was dropped while it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkippedBody {
    /// Its announced size is over the limit of bodies, in octets.
    TooLarge {
        /// The announced size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// It was the largest incomplete body when those of the connection were over their limit.
    Crowded {
        /// The announced size.
        size: u64,
        /// The limit of all incomplete bodies together.
        limit: usize,
    },
}

impl SkippedBody {
    /// Returns the announced size, in octets.
    pub fn size(self) -> u64 {
        match self {
            Self::TooLarge { size, .. } | Self::Crowded { size, .. } => size,
        }
    }
}

/// The incomplete bodies of one connection. When they have more octets than the limit, the largest is dropped.
#[derive(Debug)]
pub struct PartialBodies {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The octets of all bodies.
    octets: usize,
    bodies: HashMap<u64, Vec<u8>>,
    next_id: u64,
}

impl PartialBodies {
    /// Creates a limit of this many octets.
    pub fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    #[cfg(test)]
    fn octets(&self) -> usize {
        self.lock().octets
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a part to a body. Returns whether the body is kept; if not, it is removed.
    fn append(&self, id: &mut Option<u64>, part: &[u8], size: u64) -> bool {
        let kept = &mut *self.lock();
        let id = *id.get_or_insert_with(|| {
            kept.next_id += 1;
            kept.bodies.insert(kept.next_id, Vec::new());
            kept.next_id
        });
        // Another channel may have removed it.
        let Some(body) = kept.bodies.get_mut(&id) else { return false };
        let needed = body.len() + part.len();
        if body.capacity() < needed {
            let first = usize::try_from(size.min(PREALLOCATED)).unwrap_or_default();
            // The size is at least what is needed.
            let most = usize::try_from(size).unwrap_or(usize::MAX);
            let capacity = needed.max(first).max(2 * body.capacity()).min(most);
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(part);
        kept.octets += part.len();
        while kept.octets > self.limit {
            let largest = kept.bodies.iter().max_by_key(|(id, body)| (body.len(), **id)).map(|(id, _)| *id);
            let Some(largest) = largest else { break };
            kept.remove(largest);
        }
        kept.bodies.contains_key(&id)
    }
}

impl Kept {
    fn remove(&mut self, id: u64) -> Option<Vec<u8>> {
        let body = self.bodies.remove(&id)?;
        self.octets -= body.len();
        Some(body)
    }
}

/// The body of one content, as far as it has come.
#[derive(Debug)]
pub(super) struct PartialBody {
    shared: Arc<PartialBodies>,
    state: State,
    empty_frames: u32,
}

#[derive(Debug)]
enum State {
    /// No octet has come.
    Unstarted,
    /// It is among the bodies of the connection, unless another channel has removed it.
    Kept {
        id: Option<u64>,
        received: u64,
    },
    Skipped {
        why: SkippedBody,
        received: u64,
    },
}

/// What a body frame has added.
#[derive(Debug)]
pub(super) enum BodyPart {
    /// More frames follow.
    More,
    /// It was the last one.
    Last(Result<Bytes, SkippedBody>),
}

impl PartialBody {
    pub(super) fn new(shared: Arc<PartialBodies>) -> Self {
        Self { shared, state: State::Unstarted, empty_frames: 0 }
    }

    pub(super) fn shared(&self) -> &Arc<PartialBodies> {
        &self.shared
    }

    #[inline]
    pub(super) fn is_unstarted(&self) -> bool {
        matches!(self.state, State::Unstarted)
    }

    /// Drops the frames that are to come.
    pub(super) fn skip(&mut self, why: SkippedBody) {
        self.state = State::Skipped { why, received: 0 };
    }

    /// Adds a part of a body that was announced with `size` octets.
    pub(super) fn append(&mut self, part: &[u8], size: u64) -> Result<BodyPart, Fault> {
        if part.is_empty() {
            self.empty_frames += 1;
            if self.empty_frames > EMPTY_FRAMES {
                return Err(Fault::unexpected(format!("more than {EMPTY_FRAMES} empty body frames")));
            }
            return Ok(BodyPart::More);
        }
        if self.is_unstarted() {
            self.state = State::Kept { id: None, received: 0 };
        }
        let (State::Kept { received, .. } | State::Skipped { received, .. }) = &mut self.state else {
            return Ok(BodyPart::More);
        };
        *received += part.len() as u64;
        let total = *received;
        if total > size {
            return Err(Fault::unexpected(format!("body of {total} octets where {size} were announced")));
        }
        if let State::Kept { id, .. } = &mut self.state
            && !self.shared.append(id, part, size)
        {
            let why = SkippedBody::Crowded { size, limit: self.shared.limit };
            self.state = State::Skipped { why, received: total };
        }
        if total < size {
            return Ok(BodyPart::More);
        }
        let body = match std::mem::replace(&mut self.state, State::Unstarted) {
            State::Kept { id: Some(id), .. } => self.shared.lock().remove(id).unwrap_or_default().into(),
            State::Skipped { why, .. } => return Ok(BodyPart::Last(Err(why))),
            State::Kept { id: None, .. } | State::Unstarted => Bytes::new(),
        };
        Ok(BodyPart::Last(Ok(body)))
    }

    /// The content is complete.
    #[inline]
    pub(super) fn restart(&mut self) {
        self.empty_frames = 0;
    }
}

impl Drop for PartialBody {
    fn drop(&mut self) {
        if let State::Kept { id: Some(id), .. } = self.state {
            self.shared.lock().remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies<const N: usize>(limit: usize) -> (Arc<PartialBodies>, [PartialBody; N]) {
        let shared = Arc::new(PartialBodies::new(limit));
        (shared.clone(), std::array::from_fn(|_| PartialBody::new(shared.clone())))
    }

    fn more(body: &mut PartialBody, octets: usize, size: u64) {
        assert!(matches!(body.append(&vec![7; octets], size), Ok(BodyPart::More)));
    }

    fn last(body: &mut PartialBody, octets: usize, size: u64) -> Result<Bytes, SkippedBody> {
        match body.append(&vec![7; octets], size) {
            Ok(BodyPart::Last(body)) => body,
            other => panic!("not the last but {other:?}"),
        }
    }

    /// PRO-19
    #[test]
    fn the_largest_body_is_dropped_at_the_limit_of_the_connection() {
        let (shared, [mut small, mut large, mut other]) = bodies(1000);
        more(&mut small, 200, 300);
        more(&mut large, 600, 700);
        more(&mut other, 200, 300);
        assert_eq!(shared.octets(), 1000);
        more(&mut other, 1, 300);
        assert_eq!(shared.octets(), 401, "of another channel, at once");
        assert_eq!(last(&mut large, 100, 700), Err(SkippedBody::Crowded { size: 700, limit: 1000 }));
        assert_eq!(last(&mut small, 100, 300).unwrap(), vec![7; 300]);
        assert_eq!(last(&mut other, 99, 300).unwrap(), vec![7; 300]);
        assert_eq!(shared.octets(), 0);
        // The channel goes on.
        more(&mut large, 600, 700);
        assert_eq!(last(&mut large, 100, 700).unwrap().len(), 700);
    }

    #[test]
    fn a_body_over_the_limit_alone_is_dropped() {
        let (shared, [mut body]) = bodies(1000);
        more(&mut body, 1000, 3000);
        more(&mut body, 1000, 3000);
        assert_eq!(shared.octets(), 0);
        assert!(last(&mut body, 1000, 3000).is_err());
    }

    #[test]
    fn a_body_that_is_given_up_frees_its_octets() {
        let (shared, [mut one, two]) = bodies(1000);
        more(&mut one, 500, 700);
        drop(two);
        assert_eq!(shared.octets(), 500);
        drop(one);
        assert_eq!(shared.octets(), 0);
    }

    #[test]
    fn the_buffer_grows_with_what_arrives_up_to_the_size() {
        let (shared, [mut body]) = bodies(usize::MAX);
        let size = 5 << 20;
        for _ in 0..39 {
            more(&mut body, 131_072, size);
            let kept = shared.lock();
            let buffer = kept.bodies.values().next().unwrap();
            assert!(buffer.capacity() <= (2 * buffer.len()).max(1 << 20) && buffer.capacity() as u64 <= size);
        }
        assert_eq!(last(&mut body, 131_072, size).unwrap().len() as u64, size);
    }

    #[test]
    fn many_bodies_are_kept_within_the_limit() {
        let (shared, mut all) = bodies::<40>(1 << 20);
        let mut skipped = 0;
        for _ in 0..9 {
            all.iter_mut().for_each(|body| more(body, 10_000, 100_000));
            assert!(shared.octets() <= 1 << 20);
        }
        for body in &mut all {
            skipped += u32::from(last(body, 10_000, 100_000).is_err());
        }
        // Ten fit; the first that is complete makes room.
        assert!((29..=30).contains(&skipped), "{skipped}");
    }
}
