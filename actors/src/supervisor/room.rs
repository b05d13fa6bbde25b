//! Whether the user of the connection is at its limit of channels. The broker closes the connection (530) for
//! one channel too many, so that the library opens none of its own after that.
//!
//! There is room again when a channel of this connection closes. Other connections of the user may make room
//! as well: while something waits for it, a channel is opened on a short-lived connection now and then, which
//! costs only that one if the limit still holds. After two losses in a row, only that declares room: an application
//! that closes channels and opens others takes the room itself. No actix and no clock here.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// The pause before the first probe. It doubles with each probe that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PROBE_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause after the connection itself was lost again and again, because the room was gone at once.
const MAX_LOSS_PAUSE: Duration = Duration::from_secs(300);
/// How long there must be room for the pauses to begin anew.
const STOOD: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Room {
    state: RoomState,
    /// How many connections were lost in a row.
    losses: u32,
}

#[derive(Debug, Default)]
enum RoomState {
    /// Never at the limit.
    #[default]
    Free,
    /// Not at the limit any more, as far as is known.
    FreeSince(Instant),
    AtLimit {
        error: Error,
        pause: Duration,
        /// The pause after the loss is over.
        not_before: Instant,
        due: Instant,
        /// The number of the trial that looks for room.
        probe: Option<u64>,
    },
}

/// What the close of a channel means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freed {
    /// There is room. A probe that is under way is not needed now.
    Room { probing: bool },
    /// A probe has to find out.
    Probe,
}

impl Room {
    /// The broker has closed the connection because of a channel of the library.
    pub(super) fn exceeded(&mut self, error: Error, now: Instant) {
        if let RoomState::FreeSince(since) = self.state
            && now.saturating_duration_since(since) >= STOOD
        {
            self.losses = 0;
        }
        self.losses = self.losses.saturating_add(1);
        let pause = self.loss_pause();
        let due = now + pause;
        self.state = RoomState::AtLimit { error, pause, not_before: due, due, probe: None };
    }

    fn loss_pause(&self) -> Duration {
        FIRST_PAUSE.saturating_mul(1 << self.losses.saturating_sub(1).min(20)).min(MAX_LOSS_PAUSE)
    }

    /// Returns why no channel is opened.
    pub(super) fn error(&self) -> Option<&Error> {
        match &self.state {
            RoomState::AtLimit { error, .. } => Some(error),
            RoomState::Free | RoomState::FreeSince(_) => None,
        }
    }

    /// Returns when the next probe is due; `None` while one is under way.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            RoomState::AtLimit { due, probe: None, .. } => Some(due),
            _ => None,
        }
    }

    pub(super) fn is_probing(&self) -> bool {
        matches!(self.state, RoomState::AtLimit { probe: Some(_), .. })
    }

    /// A probe has begun, as the trial with this number.
    pub(super) fn probing(&mut self, number: u64) {
        if let RoomState::AtLimit { probe, .. } = &mut self.state {
            *probe = Some(number);
        }
    }

    /// A trial has ended. Returns whether there is room, if that trial was the probe.
    pub(super) fn probed(&mut self, number: u64, accepted: bool, now: Instant) -> Option<bool> {
        let longest = MAX_PROBE_PAUSE.max(self.loss_pause());
        let RoomState::AtLimit { pause, due, probe, .. } = &mut self.state else { return None };
        probe.take_if(|probe| *probe == number)?;
        if accepted {
            self.state = RoomState::FreeSince(now);
        } else {
            *pause = (*pause * 2).min(longest);
            *due = now + *pause;
        }
        Some(accepted)
    }

    /// The connection is lost, and with it the reason for a probe. Returns whether one was under way.
    pub(super) fn stop_probe(&mut self, now: Instant) -> bool {
        let RoomState::AtLimit { pause, due, probe, .. } = &mut self.state else { return false };
        let probing = probe.take().is_some();
        if probing {
            *due = now + *pause;
        }
        probing
    }

    /// A channel of the connection has closed. That makes room, unless the room was gone at once before: then the next
    /// probe need not wait longer than after the loss.
    pub(super) fn freed(&mut self, now: Instant) -> Freed {
        let probing = self.is_probing();
        match &mut self.state {
            RoomState::AtLimit { not_before, due, probe, .. } if self.losses > 1 => {
                if probe.is_none() {
                    *due = now.max(*not_before).min(*due);
                }
                return Freed::Probe;
            }
            RoomState::AtLimit { .. } => self.state = RoomState::FreeSince(now),
            RoomState::Free | RoomState::FreeSince(_) => {}
        }
        Freed::Room { probing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> Error {
        Error::limit("test")
    }

    /// Fails the next probe, and returns after how many seconds it was due.
    fn fail(room: &mut Room, now: &mut Instant) -> u64 {
        let pause = room.due().expect("a probe") - *now;
        *now += pause;
        room.probing(7);
        assert!(room.is_probing() && room.due().is_none(), "one at a time");
        assert_eq!(room.probed(6, true, *now), None, "another trial");
        assert_eq!(room.probed(7, false, *now), Some(false));
        pause.as_secs()
    }

    #[test]
    fn probes_are_repeated_with_doubling_pauses_until_there_is_room() {
        let (mut room, mut now) = (Room::default(), Instant::now());
        assert!(room.error().is_none() && room.due().is_none());
        room.exceeded(limit(), now);
        assert!(room.error().is_some());
        let pauses: Vec<_> = (0..6).map(|_| fail(&mut room, &mut now)).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        room.probing(8);
        assert_eq!(room.probed(8, true, now), Some(true));
        assert!(room.error().is_none() && room.due().is_none());
    }

    #[test]
    fn pauses_go_on_growing_when_the_room_is_gone_at_once() {
        let (mut room, mut now) = (Room::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            room.exceeded(limit(), now);
            let due = room.due().expect("a probe");
            pauses.push((due - now).as_secs());
            now = due;
            room.probing(1);
            assert_eq!(room.probed(1, true, now), Some(true));
            now += STOOD - Duration::from_millis(1);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
        now += Duration::from_millis(1);
        room.exceeded(limit(), now);
        assert_eq!(room.due(), Some(now + FIRST_PAUSE));
    }

    #[test]
    fn a_channel_that_closes_makes_room_and_a_lost_connection_ends_a_probe() {
        let (mut room, now) = (Room::default(), Instant::now());
        assert!(room.freed(now) == Freed::Room { probing: false } && !room.stop_probe(now));
        room.exceeded(limit(), now);
        room.probing(1);
        assert!(room.stop_probe(now) && !room.stop_probe(now));
        assert_eq!(room.due(), Some(now + FIRST_PAUSE));
        room.probing(2);
        assert!(room.freed(now) == Freed::Room { probing: true } && room.error().is_none());
        assert_eq!(room.probed(2, true, now), None, "its result comes too late");
    }

    #[test]
    fn after_two_losses_a_close_makes_the_probe_due_and_no_room() {
        let (mut room, start) = (Room::default(), Instant::now());
        room.exceeded(limit(), start);
        assert_eq!(room.freed(start), Freed::Room { probing: false });
        room.exceeded(limit(), start);
        let after_loss = start + 2 * FIRST_PAUSE;
        assert_eq!((room.freed(start), room.due()), (Freed::Probe, Some(after_loss)), "the pause holds");
        let mut now = start;
        fail(&mut room, &mut now);
        assert_eq!((now, room.due()), (after_loss, Some(now + 4 * FIRST_PAUSE)));
        now += Duration::from_secs(1);
        assert_eq!((room.freed(now), room.due()), (Freed::Probe, Some(now)));
        assert!(room.error().is_some());
        room.probing(9);
        assert_eq!((room.freed(now), room.due()), (Freed::Probe, None), "it goes on");
        assert_eq!(room.probed(9, true, now), Some(true));
        // What is free for long begins anew.
        now += STOOD;
        room.exceeded(limit(), now);
        assert_eq!(room.freed(now), Freed::Room { probing: false });
    }
}
