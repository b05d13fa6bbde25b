//! Channels that have ended on a connection that recovers, though the application did not close them, and their
//! consumers. Only the application can consume again, on another channel: they are missing until it does with the
//! same tag, or gives them up.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use crate::{
    error::Error,
    internal::EndedChannel,
    message::{EntityKind, MissingEntity, NextTry, Skipped},
};

/// The most consumers that are kept. Beyond that the channels that ended first are given up.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct EndedChannels {
    /// Oldest first; each has consumers.
    channels: VecDeque<Ended>,
}

#[derive(Debug)]
struct Ended {
    channel: EndedChannel,
    since: Instant,
}

impl EndedChannels {
    pub(super) fn insert(&mut self, channel: EndedChannel, now: Instant) {
        self.channels.push_back(Ended { channel, since: now });
        while self.consumers() > MOST && self.channels.len() > 1 {
            self.channels.pop_front();
        }
    }

    fn consumers(&self) -> usize {
        self.channels.iter().map(|ended| ended.channel.consumers.len()).sum()
    }

    /// Removes consumers, and channels without any. Returns whether there were some.
    fn remove(&mut self, is_removed: impl Fn(&EndedChannel, &str, &str) -> bool) -> bool {
        let before = self.consumers();
        for Ended { channel, .. } in &mut self.channels {
            let mut consumers = std::mem::take(&mut channel.consumers);
            consumers.retain(|(tag, queue, _)| !is_removed(channel, tag, queue));
            channel.consumers = consumers;
        }
        self.channels.retain(|ended| !ended.channel.consumers.is_empty());
        self.consumers() < before
    }

    /// The application gives up the consumer with this tag, or all, of a channel.
    pub(super) fn give_up(&mut self, id: u64, tag: Option<&str>) {
        self.remove(|channel, other, _| channel.id == id && tag.is_none_or(|tag| tag == other));
    }

    /// A consumer with this tag has started. Returns whether it takes the place of one of these.
    pub(super) fn consumed(&mut self, tag: &str) -> bool {
        self.remove(|_, other, _| other == tag)
    }

    /// The application gives up what has this name. Returns whether something had.
    pub(super) fn forget(&mut self, kind: EntityKind, name: &str) -> bool {
        match kind {
            EntityKind::Consumer => self.consumed(name),
            EntityKind::Queue => self.remove(|_, _, queue| queue == name),
            EntityKind::Channel => self.remove(|channel, _, _| channel.channel.to_string() == name),
            EntityKind::Exchange | EntityKind::Binding | EntityKind::Prefetch => false,
        }
    }

    pub(super) fn rename_queue(&mut self, old: &str, new: &str) {
        let consumers = self.channels.iter_mut().flat_map(|ended| &mut ended.channel.consumers);
        consumers.filter(|(_, queue, _)| queue == old).for_each(|(_, queue, _)| new.clone_into(queue));
    }

    /// Returns kind, name and error of each, and since when it is missing.
    fn all(&self) -> impl Iterator<Item = (Skipped, Instant)> {
        self.channels.iter().flat_map(|Ended { channel, since }| {
            let consumer = |(tag, _, error): &(Arc<str>, String, Error)| Skipped {
                kind: EntityKind::Consumer,
                name: tag.to_string(),
                error: error.clone(),
            };
            let (kind, name, error) =
                (EntityKind::Channel, channel.channel.to_string(), channel.error.clone());
            let ended = std::iter::once(Skipped { kind, name, error });
            channel.consumers.iter().map(consumer).chain(ended).map(|one| (one, *since))
        })
    }

    pub(super) fn skipped(&self) -> impl Iterator<Item = Skipped> {
        self.all().map(|(one, _)| one)
    }

    pub(super) fn count(&self) -> usize {
        self.channels.iter().map(|ended| ended.channel.consumers.len() + 1).sum()
    }

    pub(super) fn list(&self) -> impl Iterator<Item = MissingEntity> {
        self.all().map(|(Skipped { kind, name, error }, since)| MissingEntity {
            kind,
            name,
            error,
            since: since.into_std(),
            next_try: NextTry::ByApplication,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(id: u64, channel: u16, consumers: &[(&str, &str)]) -> EndedChannel {
        let error = Error::stopped("test");
        let consumer = |(tag, queue): &(&str, &str)| ((*tag).into(), (*queue).to_owned(), error.clone());
        EndedChannel {
            id,
            channel,
            error: error.clone(),
            consumers: consumers.iter().map(consumer).collect(),
        }
    }

    fn names(ended: &EndedChannels) -> Vec<String> {
        ended.skipped().map(|one| format!("{} {}", one.kind, one.name)).collect()
    }

    #[test]
    fn a_channel_is_listed_as_long_as_one_of_its_consumers_is_wanted() {
        let (mut channels, now) = (EndedChannels::default(), Instant::now());
        channels.insert(ended(1, 5, &[("a", "one"), ("b", "two")]), now);
        // A later channel with the same number.
        channels.insert(ended(2, 5, &[("b", "two")]), now);
        assert_eq!(names(&channels), ["consumer a", "consumer b", "channel 5", "consumer b", "channel 5"]);
        assert!(channels.list().all(|one| one.next_try == NextTry::ByApplication));
        channels.give_up(1, Some("b"));
        assert_eq!(names(&channels), ["consumer a", "channel 5", "consumer b", "channel 5"]);
        channels.give_up(2, None);
        assert_eq!(names(&channels), ["consumer a", "channel 5"]);
        assert!(!channels.consumed("b") && channels.consumed("a"));
        assert_eq!(names(&channels), [""; 0]);
    }

    #[test]
    fn it_is_given_up_by_the_name_of_the_consumer_the_queue_or_the_channel() {
        for (kind, name) in
            [(EntityKind::Consumer, "a"), (EntityKind::Queue, "new"), (EntityKind::Channel, "5")]
        {
            let mut channels = EndedChannels::default();
            channels.insert(ended(1, 5, &[("a", "one")]), Instant::now());
            channels.rename_queue("one", "new");
            assert!(!channels.forget(kind, "one") && !channels.forget(EntityKind::Exchange, name));
            assert!(channels.forget(kind, name));
            assert_eq!(names(&channels), [""; 0]);
        }
    }

    #[test]
    fn the_oldest_of_too_many_are_given_up() {
        let (mut channels, now) = (EndedChannels::default(), Instant::now());
        for id in 0..=MOST as u64 {
            channels.insert(ended(id, 1, &[(&id.to_string(), "jobs")]), now);
        }
        assert_eq!(channels.consumers(), MOST);
        assert!(!channels.consumed("0") && channels.consumed("1"));
    }
}
