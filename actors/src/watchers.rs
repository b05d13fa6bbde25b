//! The watchers of a channel or of a connection: actors and streams that receive its events.
//!
//! One list for both. It decides who receives an event. The owner decides when to send one. What waits for a
//! watcher is bounded: see `message/event_queue.rs`. What it misses is counted, and told in the next event that
//! has room.

use std::sync::Arc;

use actix::{Message, Recipient};
use tokio::time::Instant;

use crate::{
    log_schedule::LogSchedule,
    message::{Backlog, ChannelEvent, ConnectionEvent, EventSender, Place},
};

/// An event that watchers receive.
pub trait Event: Message<Result = ()> + Clone + Send + 'static {
    /// Returns whether the event is one of many that a long outage repeats. Minor events leave the last
    /// quarter of the room to the others.
    fn is_minor(&self) -> bool;

    /// Returns the size of the body in it.
    fn bytes(&self) -> usize;

    /// Returns the event that tells that so many were dropped.
    fn dropped(count: u64) -> Self;
}

impl Event for ChannelEvent {
    fn is_minor(&self) -> bool {
        false
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Returned(returned) => returned.body.len(),
            _ => 0,
        }
    }

    fn dropped(count: u64) -> Self {
        Self::EventsDropped(count)
    }
}

impl Event for ConnectionEvent {
    fn is_minor(&self) -> bool {
        matches!(self, Self::Retrying { .. } | Self::Health(_))
    }

    fn bytes(&self) -> usize {
        0
    }

    fn dropped(count: u64) -> Self {
        Self::EventsDropped(count)
    }
}

/// The watchers of one channel, connection or worker, until its last event.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{ChannelEvent, facade::{Watchers, event_queue}};
/// let mut watchers = Watchers::new("channel 1");
/// let (to, events) = event_queue();
/// watchers.add_stream(to);
/// watchers.notify(&ChannelEvent::EventsDropped(1));
/// assert_eq!(events.waiting(), 1);
/// ```
#[derive(Debug)]
pub struct Watchers<E: Event> {
    /// What is watched, for the log.
    watched: String,
    logged: LogSchedule,
    state: State<E>,
}

#[derive(Debug)]
enum State<E: Event> {
    Open(Vec<Watcher<E>>),
    /// The last event was sent; watchers that come later receive only that one.
    Closed(E),
}

#[derive(Debug)]
struct Watcher<E: Event> {
    to: Target<E>,
    backlog: Arc<Backlog>,
    /// The number of events that it has missed since the last one that it was sent.
    missed: u64,
}

#[derive(Debug)]
enum Target<E: Event> {
    Actor(Recipient<E>),
    Stream(EventSender<E>),
}

/// What became of an event for one watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Done,
    NoRoom,
    /// The watcher has stopped.
    Stopped,
}

impl<E: Event> Watchers<E> {
    /// Creates an empty list of the watchers of what the log calls `watched`.
    pub fn new(watched: impl Into<String>) -> Self {
        Self { watched: watched.into(), logged: LogSchedule::default(), state: State::Open(Vec::new()) }
    }

    /// Sends an event to all watchers that have room for it, and removes those that have stopped.
    pub fn notify(&mut self, event: &E) {
        let State::Open(watchers) = &mut self.state else { return };
        let mut missed = false;
        watchers.retain_mut(|watcher| {
            let sent = watcher.send(event);
            missed |= sent == Sent::NoRoom;
            sent != Sent::Stopped
        });
        if missed && let Some(so_far) = self.logged.count(Instant::now()) {
            log::warn!("{}: a watcher is too slow, an event was dropped{so_far}", self.watched);
        }
    }

    /// Sends the last event, whether there is room or not; streams end with it. After it, nothing is sent any
    /// more.
    pub fn close(&mut self, last: E) {
        if let State::Open(watchers) = &mut self.state {
            watchers.iter_mut().for_each(|watcher| watcher.send_last(&last));
            self.state = State::Closed(last);
        }
    }

    /// Adds an actor, unless it is among the watchers already.
    pub fn add_recipient(&mut self, recipient: Recipient<E>) {
        let is_known =
            |watcher: &Watcher<E>| matches!(&watcher.to, Target::Actor(known) if *known == recipient);
        match &self.state {
            State::Open(watchers) if watchers.iter().any(is_known) => {}
            _ => self.add(Watcher { to: Target::Actor(recipient), backlog: Arc::default(), missed: 0 }),
        }
    }

    /// Adds a stream.
    pub fn add_stream(&mut self, stream: EventSender<E>) {
        let backlog = stream.backlog().clone();
        self.add(Watcher { to: Target::Stream(stream), backlog, missed: 0 });
    }

    fn add(&mut self, mut watcher: Watcher<E>) {
        match &mut self.state {
            State::Closed(last) => watcher.send_last(last),
            State::Open(watchers) => watchers.push(watcher),
        }
    }
}

impl<E: Event> Watcher<E> {
    fn send(&mut self, event: &E) -> Sent {
        if self.to.has_stopped() {
            return Sent::Stopped;
        }
        let Some(place) = self.backlog.enter(event.is_minor(), event.bytes()) else {
            self.missed += 1;
            return Sent::NoRoom;
        };
        if let Some(dropped) = self.take_missed() {
            self.to.send(dropped, self.backlog.squeeze_in(0));
        }
        self.to.send(event.clone(), place);
        Sent::Done
    }

    fn send_last(&mut self, last: &E) {
        for event in self.take_missed().into_iter().chain([last.clone()]) {
            match &self.to {
                // Nothing comes after it, so that nothing has to know when it is handled.
                Target::Actor(recipient) => recipient.do_send(event),
                Target::Stream(stream) => {
                    stream.send(event, self.backlog.squeeze_in(0));
                }
            }
        }
    }

    /// Returns the event that tells what was missed.
    fn take_missed(&mut self) -> Option<E> {
        let missed = std::mem::take(&mut self.missed);
        (missed > 0).then(|| E::dropped(missed))
    }
}

impl<E: Event> Target<E> {
    fn has_stopped(&self) -> bool {
        match self {
            Self::Actor(recipient) => !recipient.connected(),
            Self::Stream(stream) => stream.is_closed(),
        }
    }

    /// Sends an event, whose place is free once the watcher has handled it, or taken it from its stream.
    fn send(&self, event: E, place: Place) {
        match self {
            Self::Actor(recipient) => {
                // A clone always has room in the mailbox, so that no event overtakes another one.
                let handled = recipient.clone().send(event);
                actix_rt::spawn(async move {
                    let _ = handled.await;
                    drop(place);
                });
            }
            Self::Stream(stream) => {
                stream.send(event, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use actix::{Actor, Context, Handler};
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::message::{EventReceiver, event_queue};

    #[derive(Clone, Debug, PartialEq, Message)]
    #[rtype(result = "()")]
    enum Noted {
        Major(u64),
        Minor,
        Body(usize),
        Dropped(u64),
        Last,
    }

    impl Event for Noted {
        fn is_minor(&self) -> bool {
            *self == Self::Minor
        }

        fn bytes(&self) -> usize {
            if let Self::Body(bytes) = self { *bytes } else { 0 }
        }

        fn dropped(count: u64) -> Self {
            Self::Dropped(count)
        }
    }

    fn try_next(stream: &mut EventReceiver<Noted>) -> Option<Option<Noted>> {
        match stream.poll_next(&mut std::task::Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(next) => Some(next),
            std::task::Poll::Pending => None,
        }
    }

    fn read(stream: &mut EventReceiver<Noted>) -> Vec<Noted> {
        std::iter::from_fn(|| try_next(stream).flatten()).collect()
    }

    #[test]
    fn streams_get_events_from_when_they_are_added() {
        let mut watchers = Watchers::new("channel 1");
        let ((first, mut early), (second, mut late)) = (event_queue(), event_queue());
        watchers.add_stream(first);
        watchers.notify(&Noted::Major(1));
        watchers.add_stream(second);
        watchers.notify(&Noted::Major(2));
        assert_eq!(read(&mut early), [Noted::Major(1), Noted::Major(2)]);
        assert_eq!(read(&mut late), [Noted::Major(2)]);
    }

    #[test]
    fn a_stream_ends_after_the_last_event() {
        let mut watchers = Watchers::new("channel 1");
        let (stream, mut events) = event_queue();
        watchers.add_stream(stream);
        watchers.close(Noted::Last);
        watchers.notify(&Noted::Major(1));
        watchers.close(Noted::Major(2));
        assert_eq!(try_next(&mut events), Some(Some(Noted::Last)));
        assert_eq!(try_next(&mut events), Some(None));
    }

    #[test]
    fn a_stream_of_something_closed_yields_the_last_event_once_and_ends() {
        let mut watchers = Watchers::new("channel 1");
        watchers.close(Noted::Last);
        let (stream, mut events) = event_queue();
        watchers.add_stream(stream);
        assert_eq!(try_next(&mut events), Some(Some(Noted::Last)));
        assert_eq!(try_next(&mut events), Some(None));
    }

    #[test]
    fn what_a_full_stream_misses_is_told_before_the_next_event() {
        let mut watchers = Watchers::new("connection");
        let (stream, mut events) = event_queue();
        watchers.add_stream(stream);
        (0..200).for_each(|_| watchers.notify(&Noted::Minor));
        (0..100).for_each(|n| watchers.notify(&Noted::Major(n)));
        let kept = read(&mut events);
        // Eight minor events had no room, and were told before the first one that had.
        assert_eq!(kept[191..194], [Noted::Minor, Noted::Dropped(8), Noted::Major(0)]);
        assert_eq!(kept.len(), 256);
        watchers.notify(&Noted::Major(100));
        assert_eq!(read(&mut events), [Noted::Dropped(37), Noted::Major(100)]);
    }

    #[test]
    fn the_last_event_always_has_room() {
        let mut watchers = Watchers::new("connection");
        let (stream, mut events) = event_queue();
        watchers.add_stream(stream);
        (0..300).for_each(|n| watchers.notify(&Noted::Major(n)));
        watchers.close(Noted::Last);
        assert_eq!(read(&mut events)[255..], [Noted::Major(255), Noted::Dropped(44), Noted::Last]);
    }

    #[test]
    fn bodies_are_bounded() {
        let mut watchers = Watchers::new("channel 1");
        let (stream, mut events) = event_queue();
        watchers.add_stream(stream);
        (0..100).for_each(|_| watchers.notify(&Noted::Body(1 << 20)));
        assert_eq!(read(&mut events).len(), 16);
    }

    #[test]
    fn streams_without_a_reader_are_forgotten() {
        let mut watchers = Watchers::new("connection");
        let (stream, events) = event_queue();
        watchers.add_stream(stream);
        drop(events);
        watchers.notify(&Noted::Minor);
        let State::Open(watchers) = &watchers.state else { panic!("closed") };
        assert!(watchers.is_empty());
    }

    /// Handles nothing until it is released, and then passes events on.
    struct Slow(mpsc::UnboundedSender<Noted>);

    impl Actor for Slow {
        type Context = Context<Self>;
    }

    impl Handler<Noted> for Slow {
        type Result = ();

        fn handle(&mut self, event: Noted, _: &mut Self::Context) {
            let _ = self.0.send(event);
        }
    }

    /// The thread of the test is that of the actor, which runs at the next `await` only.
    #[actix::test]
    async fn what_waits_for_an_actor_is_bounded_and_comes_in_order() {
        let (to, mut handled) = mpsc::unbounded_channel();
        let actor = Slow(to).start();
        let mut watchers = Watchers::new("channel 1");
        watchers.add_recipient(actor.clone().recipient());
        watchers.add_recipient(actor.clone().recipient());
        (0..1000).for_each(|n| watchers.notify(&Noted::Major(n)));
        for n in 0..256 {
            assert_eq!(handled.recv().await, Some(Noted::Major(n)));
        }
        // The tasks that free the places run before this one.
        let (done, is_done) = oneshot::channel();
        actix_rt::spawn(async { done.send(()) });
        is_done.await.unwrap();
        watchers.notify(&Noted::Major(1000));
        assert_eq!(handled.recv().await, Some(Noted::Dropped(744)));
        assert_eq!(handled.recv().await, Some(Noted::Major(1000)));
        watchers.close(Noted::Last);
        assert_eq!(handled.recv().await, Some(Noted::Last));
    }
}
