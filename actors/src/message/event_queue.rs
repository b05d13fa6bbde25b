//! How many events may wait for one watcher, an actor or a stream, and the queue of a stream.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// The most events that wait for a watcher. The last quarter is for those that are not minor.
const MOST_EVENTS: usize = 256;
/// The most bytes of the bodies in them; a larger body waits alone.
const MOST_BYTES: usize = 16 << 20;

/// Counts what waits for one watcher.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

/// The place of an event that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// Takes a place for an event with so many bytes, if there is room for it. Only the owner of the watchers
    /// takes places.
    pub(crate) fn enter(self: &Arc<Self>, is_minor: bool, bytes: usize) -> Option<Place> {
        let (events, used) = (self.events.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire));
        let most = if is_minor { MOST_EVENTS - MOST_EVENTS / 4 } else { MOST_EVENTS };
        let is_full = events >= most || (events > 0 && used.saturating_add(bytes) > MOST_BYTES);
        (!is_full).then(|| self.squeeze_in(bytes))
    }

    /// Takes a place even if there is no room.
    pub(crate) fn squeeze_in(self: &Arc<Self>, bytes: usize) -> Place {
        self.events.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Place { backlog: self.clone(), bytes }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.backlog.events.fetch_sub(1, Ordering::AcqRel);
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// The end of an event queue to which a channel or a connection sends.
pub struct EventSender<E> {
    queue: UnboundedSender<(E, Place)>,
    backlog: Arc<Backlog>,
}

/// The end of an event queue from which a stream takes.
pub struct EventReceiver<E>(UnboundedReceiver<(E, Place)>);

/// Creates the queue of a stream of events: at most 256 events, with at most 16 MiB of bodies, wait in it.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{ConnectionEvent, facade::event_queue};
/// let (to, events) = event_queue::<ConnectionEvent>();
/// # drop(to);
/// assert_eq!(events.waiting(), 0);
/// ```
pub fn event_queue<E>() -> (EventSender<E>, EventReceiver<E>) {
    let (to, events) = mpsc::unbounded_channel();
    (EventSender { queue: to, backlog: Arc::default() }, EventReceiver(events))
}

impl<E> EventSender<E> {
    pub(crate) fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// Sends an event that has a place; returns whether the stream is still read.
    pub(crate) fn send(&self, event: E, place: Place) -> bool {
        self.queue.send((event, place)).is_ok()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

impl<E> EventReceiver<E> {
    /// Takes the next event; `None` once the last one was taken.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionEvent, facade::EventReceiver};
    /// async fn next(events: &mut EventReceiver<ConnectionEvent>) -> Option<ConnectionEvent> {
    ///     std::future::poll_fn(|cx| events.poll_next(cx)).await
    /// }
    /// ```
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<E>> {
        self.0.poll_recv(cx).map(|next| next.map(|(event, _)| event))
    }

    /// Returns the number of events that wait.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ChannelEvent, facade::event_queue};
    /// assert_eq!(event_queue::<ChannelEvent>().1.waiting(), 0);
    /// ```
    pub fn waiting(&self) -> usize {
        self.0.len()
    }
}

impl<E> Clone for EventSender<E> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), backlog: self.backlog.clone() }
    }
}

impl<E> fmt::Debug for EventSender<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSender").field("backlog", &self.backlog).finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for EventReceiver<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReceiver").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let backlog = Arc::new(Backlog::default());
        let mut places: Vec<Place> = std::iter::from_fn(|| backlog.enter(true, 0)).collect();
        assert_eq!(places.len(), 192);
        places.extend(std::iter::from_fn(|| backlog.enter(false, 0)));
        assert_eq!(places.len(), 256);
        places.push(backlog.squeeze_in(0));
        places.truncate(255);
        assert!(backlog.enter(false, 0).is_some());
    }

    #[test]
    fn bytes_are_bounded_and_a_large_event_waits_alone() {
        let backlog = Arc::new(Backlog::default());
        let large = backlog.enter(false, MOST_BYTES + 1).unwrap();
        assert!(backlog.enter(false, 1).is_none());
        drop(large);
        let _half = backlog.enter(false, MOST_BYTES / 2).unwrap();
        let _other_half = backlog.enter(false, MOST_BYTES / 2).unwrap();
        assert!(backlog.enter(false, 1).is_none());
        assert!(backlog.enter(false, 0).is_some(), "has no body");
    }
}
