//! The watchers of a channel or of a connection: actors and bounded streams that receive its events.
//!
//! One list for both. It decides who receives an event. The owner decides when to send one.

use actix::{Message, Recipient};
use tokio::sync::mpsc::{Sender, error::TrySendError};

use crate::message::{ChannelEvent, ConnectionEvent};

/// An event that watchers receive.
pub(crate) trait Event: Message<Result = ()> + Clone + Send + 'static {
    /// Returns whether the event is one of many that a long outage repeats. Minor events leave the last
    /// quarter of a stream to the others.
    fn is_minor(&self) -> bool;
}

impl Event for ChannelEvent {
    fn is_minor(&self) -> bool {
        false
    }
}

impl Event for ConnectionEvent {
    fn is_minor(&self) -> bool {
        matches!(self, Self::Retrying { .. } | Self::Health(_))
    }
}

/// The watchers of one channel or connection, until its last event.
#[derive(Debug)]
pub(crate) struct Watchers<E: Event> {
    /// What is watched, for the log.
    watched: String,
    state: State<E>,
}

#[derive(Debug)]
enum State<E: Event> {
    Open {
        recipients: Vec<Recipient<E>>,
        streams: Vec<Sender<E>>,
    },
    /// The last event was sent; watchers that come later receive only that one.
    Closed(E),
}

impl<E: Event> Watchers<E> {
    pub(crate) fn new(watched: impl Into<String>) -> Self {
        Self { watched: watched.into(), state: State::Open { recipients: Vec::new(), streams: Vec::new() } }
    }

    /// Sends an event to all watchers and removes those that have stopped.
    pub(crate) fn notify(&mut self, event: &E) {
        let State::Open { recipients, streams } = &mut self.state else { return };
        recipients.retain(Recipient::connected);
        for recipient in recipients {
            recipient.do_send(event.clone());
        }
        streams.retain(|stream| send(stream, event, &self.watched));
    }

    /// Sends the last event; streams end with it. After it, nothing is sent any more.
    pub(crate) fn close(&mut self, last: E) {
        self.notify(&last);
        if let State::Open { .. } = self.state {
            self.state = State::Closed(last);
        }
    }

    /// Adds an actor, unless it is among the watchers already.
    pub(crate) fn add_recipient(&mut self, recipient: Recipient<E>) {
        match &mut self.state {
            State::Closed(last) => recipient.do_send(last.clone()),
            State::Open { recipients, .. } => {
                if !recipients.contains(&recipient) {
                    recipients.push(recipient);
                }
            }
        }
    }

    /// Adds a bounded stream.
    pub(crate) fn add_stream(&mut self, stream: Sender<E>) {
        match &mut self.state {
            State::Closed(last) => {
                send(&stream, last, &self.watched);
            }
            State::Open { streams, .. } => streams.push(stream),
        }
    }
}

/// Sends an event to a stream that has room for it; returns whether the stream is still read.
fn send<E: Event>(stream: &Sender<E>, event: &E, watched: &str) -> bool {
    if event.is_minor() && stream.capacity() <= stream.max_capacity() / 4 {
        return !stream.is_closed();
    }
    match stream.try_send(event.clone()) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => {
            log::warn!("{watched}: a stream of events is full, event dropped");
            true
        }
        Err(TrySendError::Closed(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{self, Receiver, error::TryRecvError};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Message)]
    #[rtype(result = "()")]
    enum Noted {
        Major(u32),
        Minor,
        Last,
    }

    impl Event for Noted {
        fn is_minor(&self) -> bool {
            *self == Self::Minor
        }
    }

    fn read(stream: &mut Receiver<Noted>) -> Vec<Noted> {
        std::iter::from_fn(|| stream.try_recv().ok()).collect()
    }

    #[test]
    fn streams_get_events_from_when_they_are_added() {
        let mut watchers = Watchers::new("channel 1");
        let ((first, mut early), (second, mut late)) = (mpsc::channel(8), mpsc::channel(8));
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
        let (stream, mut events) = mpsc::channel(8);
        watchers.add_stream(stream);
        watchers.close(Noted::Last);
        watchers.notify(&Noted::Major(1));
        watchers.close(Noted::Major(2));
        assert_eq!(events.try_recv(), Ok(Noted::Last));
        assert_eq!(events.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn a_stream_of_something_closed_yields_the_last_event_once_and_ends() {
        let mut watchers = Watchers::new("channel 1");
        watchers.close(Noted::Last);
        let (stream, mut events) = mpsc::channel(8);
        watchers.add_stream(stream);
        assert_eq!(events.try_recv(), Ok(Noted::Last));
        assert_eq!(events.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn minor_events_leave_the_last_quarter_of_a_stream_to_others() {
        let mut watchers = Watchers::new("connection");
        let (stream, mut events) = mpsc::channel(8);
        watchers.add_stream(stream);
        (0..20).for_each(|_| watchers.notify(&Noted::Minor));
        watchers.notify(&Noted::Major(1));
        watchers.notify(&Noted::Last);
        watchers.notify(&Noted::Major(2));
        let read = read(&mut events);
        assert_eq!(read.len(), 8);
        assert_eq!(read[6..], [Noted::Major(1), Noted::Last]);
    }

    #[test]
    fn streams_without_a_reader_are_forgotten() {
        let mut watchers = Watchers::new("connection");
        let (stream, events) = mpsc::channel(8);
        watchers.add_stream(stream);
        drop(events);
        watchers.notify(&Noted::Minor);
        let State::Open { streams, .. } = &watchers.state else { panic!("closed") };
        assert!(streams.is_empty());
    }
}
