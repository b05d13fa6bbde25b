//! Exchanges that are not recorded and do not exist, and that the application publishes to: they are looked
//! for as long as somebody asks for them.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{EntityBackoff, LONGEST_PAUSE};

/// How many names are looked for at once.
const MOST: usize = 256;
/// How long a name that nobody asks for is looked for.
const ASKED_WITHIN: Duration = Duration::from_secs(60);

/// The pause after a name has cost the connection. It doubles each time.
const FIRST_COSTLY_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_COSTLY_PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct Probes {
    by_name: BTreeMap<String, Probe>,
    /// Names that have cost a connection when they were looked for: not before when they are again, and the
    /// pause.
    costly: BTreeMap<String, (Instant, Duration)>,
}

#[derive(Debug)]
struct Probe {
    asked: Instant,
    backoff: EntityBackoff,
    /// `None` while it is at the broker.
    due: Option<Instant>,
}

impl Probes {
    /// Notes that somebody asks for an exchange. Returns `false` if too many are looked for already.
    pub(super) fn ask(&mut self, name: &str, now: Instant) -> bool {
        if self.ask_again(name, now) {
            return true;
        }
        if self.by_name.len() >= MOST {
            return false;
        }
        let mut backoff = EntityBackoff::new(now);
        // The broker has just said that there is none.
        backoff.tried();
        let due = backoff.next(now, LONGEST_PAUSE);
        let due = Some(self.costly.get(name).map_or(due, |(from, _)| due.max(*from)));
        self.by_name.insert(name.to_owned(), Probe { asked: now, backoff, due });
        true
    }

    /// Notes that somebody asks again. Returns `false` if the exchange is not looked for.
    pub(super) fn ask_again(&mut self, name: &str, now: Instant) -> bool {
        let probe = self.by_name.get_mut(name);
        probe.map(|probe| probe.asked = now).is_some()
    }

    /// The broker has closed the connection because it was asked for this exchange.
    pub(super) fn cost_connection(&mut self, name: &str, now: Instant) {
        let pause = self.costly.get(name).map_or(FIRST_COSTLY_PAUSE, |(_, pause)| *pause * 2);
        if self.costly.len() >= MOST && !self.costly.contains_key(name) {
            self.costly.retain(|_, (from, _)| *from > now);
        }
        let pause = pause.min(LONGEST_COSTLY_PAUSE);
        if self.costly.len() < MOST || self.costly.contains_key(name) {
            self.costly.insert(name.to_owned(), (now + pause, pause));
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_name.values().filter_map(|probe| probe.due).min()
    }

    /// Returns the names that are due to be looked for.
    pub(super) fn due(&self, now: Instant) -> Vec<String> {
        let due = self.by_name.iter().filter(|(_, probe)| probe.due.is_some_and(|due| due <= now));
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Removes and returns the names that are due and that nobody has asked for lately.
    pub(super) fn take_unasked(&mut self, now: Instant) -> Vec<String> {
        let is_unasked = |probe: &Probe| {
            probe.due.is_some_and(|due| due <= now)
                && now.saturating_duration_since(probe.asked) >= ASKED_WITHIN
        };
        let unasked: Vec<_> = self
            .by_name
            .iter()
            .filter(|(_, probe)| is_unasked(probe))
            .map(|(name, _)| name.clone())
            .collect();
        self.by_name.retain(|_, probe| !is_unasked(probe));
        unasked
    }

    /// These are at the broker.
    pub(super) fn sent(&mut self, names: &[String]) {
        for name in names {
            if let Some(probe) = self.by_name.get_mut(name) {
                probe.due = None;
            }
        }
    }

    /// There is no channel on which those that are due can be looked for.
    pub(super) fn postpone(&mut self, now: Instant) {
        for name in self.due(now) {
            self.refused(&name, now);
        }
    }

    /// Those of a run that got no result are due again later.
    pub(super) fn without_result(&mut self, names: &[String], now: Instant) {
        for name in names {
            if self.by_name.get(name).is_some_and(|probe| probe.due.is_none()) {
                self.refused(name, now);
            }
        }
    }

    /// The broker has said that the exchange does not exist.
    pub(super) fn answered(&mut self, name: &str, now: Instant) {
        self.costly.remove(name);
        self.refused(name, now);
    }

    fn refused(&mut self, name: &str, now: Instant) {
        if let Some(probe) = self.by_name.get_mut(name) {
            probe.backoff.tried();
            probe.due = Some(probe.backoff.next(now, LONGEST_PAUSE));
        }
    }

    /// Returns whether it was looked for.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.costly.remove(name);
        self.by_name.remove(name).is_some()
    }

    pub(super) fn clear(&mut self) -> Vec<String> {
        std::mem::take(&mut self.by_name).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_has_cost_a_connection_is_looked_for_after_growing_pauses() {
        let (mut probes, mut now) = (Probes::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..7 {
            probes.cost_connection("theirs", now);
            probes.clear();
            assert!(probes.ask("theirs", now));
            let due = probes.deadline().expect("a try");
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        probes.answered("theirs", now);
        probes.clear();
        assert!(probes.ask("theirs", now));
        assert_eq!(probes.deadline(), Some(now + Duration::from_millis(50)));
    }

    #[test]
    fn the_names_that_have_cost_connections_are_bounded() {
        let (mut probes, now) = (Probes::default(), Instant::now());
        for n in 0..1000 {
            probes.cost_connection(&n.to_string(), now);
        }
        assert_eq!(probes.costly.len(), MOST);
        probes.cost_connection("later", now + FIRST_COSTLY_PAUSE);
        assert_eq!(probes.costly.len(), 1);
    }
}
