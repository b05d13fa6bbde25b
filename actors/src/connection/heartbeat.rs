//! Heartbeats: when to send one, and when the peer counts as dead.
//!
//! The interval is divided into four ticks. A tick in which nothing was written sends a heartbeat, so that an
//! idle connection sends two in each interval. After eight ticks (two intervals) in which nothing was read,
//! the peer is dead and the connection ends. Ticks while reading is paused count as ticks in which something
//! was read.
//!
//! A plain machine: the I/O loop holds the timer and calls [`tick`](Heartbeat::tick) with the time.
//!
//! Source: <https://www.rabbitmq.com/docs/heartbeats>

use std::time::Duration;

use tokio::time::Instant;

/// Ticks in one interval.
const TICKS: u32 = 4;
/// Ticks without a read after which the peer is dead: two intervals.
const DEAD_AFTER: u32 = 2 * TICKS;
/// Intervals without a tick after which the broker has given up the connection: it looks once in an interval,
/// and gives up when it has seen two without a byte.
const LOST_AFTER: u32 = 3;

/// What to do after a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeartbeatAction {
    None,
    Send,
    PeerIsDead,
}

#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    next_tick: Instant,
    /// The counts of reads and writes at the last tick.
    reads: u64,
    writes: u64,
    ticks_without_read: u32,
    /// When the last late tick came, and how late it was.
    last_stall: Option<(Instant, Duration)>,
}

impl Heartbeat {
    /// Starts heartbeats with an interval in seconds; 0 turns them off.
    pub(super) fn start(seconds: u16, now: Instant) -> Option<Self> {
        let interval = Duration::from_secs(seconds.into());
        (seconds > 0).then(|| Self {
            interval,
            next_tick: now + interval / TICKS,
            reads: 0,
            writes: 0,
            ticks_without_read: 0,
            last_stall: None,
        })
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns after which time without a tick the broker has given up the connection.
    pub(super) fn lost_after(&self) -> Duration {
        self.interval * LOST_AFTER
    }

    /// Returns for how long the thread of the connection stands still, if that is longer than half an
    /// interval.
    pub(super) fn stall(&self, now: Instant) -> Option<Duration> {
        let late = now.saturating_duration_since(self.next_tick);
        (late > self.interval / 2).then_some(late)
    }

    /// Returns for how long the thread of the connection stood still within the last intervals.
    pub(super) fn recent_stall(&self, now: Instant) -> Option<Duration> {
        let is_recent = |at: Instant| now.saturating_duration_since(at) <= self.lost_after();
        let recent = self.last_stall.filter(|(at, _)| is_recent(*at));
        self.stall(now).or(recent.map(|(_, late)| late))
    }

    /// Returns when to call [`tick`](Self::tick).
    pub(super) fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// Handles one tick, given how many reads and writes the connection has made so far. A late tick counts
    /// as one: this thread may have been blocked, and the peer not silent.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        reads: u64,
        writes: u64,
        read_paused: bool,
    ) -> HeartbeatAction {
        if let Some(late) = self.stall(now) {
            self.last_stall = Some((now, late));
        }
        self.next_tick = now + self.interval / TICKS;
        self.ticks_without_read =
            if reads != self.reads || read_paused { 0 } else { self.ticks_without_read + 1 };
        let wrote = writes != self.writes;
        (self.reads, self.writes) = (reads, writes);
        if self.ticks_without_read >= DEAD_AFTER {
            HeartbeatAction::PeerIsDead
        } else if wrote {
            HeartbeatAction::None
        } else {
            HeartbeatAction::Send
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u16 = 10;

    /// A connection with a heartbeat of ten seconds.
    struct Bench {
        heartbeat: Heartbeat,
        now: Instant,
        reads: u64,
        writes: u64,
        read_paused: bool,
    }

    impl Bench {
        fn start() -> Self {
            let now = Instant::now();
            let heartbeat = Heartbeat::start(INTERVAL, now).unwrap();
            Self { heartbeat, now, reads: 0, writes: 0, read_paused: false }
        }

        /// Lets a quarter of the interval pass.
        fn tick(&mut self) -> HeartbeatAction {
            self.now = self.heartbeat.next_tick();
            let action = self.heartbeat.tick(self.now, self.reads, self.writes, self.read_paused);
            self.writes += u64::from(action == HeartbeatAction::Send);
            action
        }
    }

    /// HB-02
    #[test]
    fn an_idle_connection_sends_two_heartbeats_per_interval() {
        let mut bench = Bench::start();
        for _ in 0..10 {
            bench.reads += 1;
            assert_eq!(bench.tick(), HeartbeatAction::Send);
            bench.reads += 1;
            assert_eq!(bench.tick(), HeartbeatAction::None);
        }
    }

    /// HB-04
    #[test]
    fn a_connection_that_writes_sends_no_heartbeats() {
        let mut bench = Bench::start();
        for _ in 0..40 {
            bench.reads += 1;
            bench.writes += 1;
            assert_eq!(bench.tick(), HeartbeatAction::None);
        }
        bench.reads += 1;
        assert_eq!(bench.tick(), HeartbeatAction::Send);
    }

    /// HB-05: every read counts, not only heartbeats, and so does a pause of reading.
    #[test]
    fn the_peer_is_dead_after_two_intervals_without_a_read() {
        let mut bench = Bench::start();
        for _ in 1..DEAD_AFTER {
            assert_ne!(bench.tick(), HeartbeatAction::PeerIsDead);
        }
        bench.reads += 1;
        for _ in 0..DEAD_AFTER {
            assert_ne!(bench.tick(), HeartbeatAction::PeerIsDead);
        }
        bench.read_paused = true;
        assert_ne!(bench.tick(), HeartbeatAction::PeerIsDead);
        bench.read_paused = false;
        for _ in 1..DEAD_AFTER {
            assert_ne!(bench.tick(), HeartbeatAction::PeerIsDead);
        }
        assert_eq!(bench.tick(), HeartbeatAction::PeerIsDead);
    }

    /// HB-01
    #[test]
    fn an_interval_of_0_turns_heartbeats_off() {
        assert!(Heartbeat::start(0, Instant::now()).is_none());
    }

    /// HB-08
    #[test]
    fn a_thread_that_is_blocked_for_more_than_half_an_interval_stands_still() {
        let mut bench = Bench::start();
        let due = bench.heartbeat.next_tick();
        let half = Duration::from_secs(5);
        assert_eq!(bench.heartbeat.stall(due + half), None);
        let late = half + Duration::from_secs(1);
        assert_eq!(bench.heartbeat.stall(due + late), Some(late));
        bench.heartbeat.tick(due + late, 0, 0, false);
        bench.now = due + late;
        assert_eq!(bench.heartbeat.stall(bench.now), None, "it runs again");
        bench.tick();
        assert_eq!(bench.heartbeat.recent_stall(bench.now), Some(late), "what ends now may be due to it");
        for _ in 0..LOST_AFTER * TICKS {
            bench.tick();
        }
        assert_eq!(bench.heartbeat.recent_stall(bench.now), None);
        assert_eq!(bench.heartbeat.lost_after(), Duration::from_secs(30));
    }

    #[test]
    fn a_tick_that_is_late_counts_as_one_tick() {
        let mut bench = Bench::start();
        bench.now += Duration::from_secs(10 * u64::from(INTERVAL));
        assert_eq!(bench.heartbeat.tick(bench.now, 0, 0, false), HeartbeatAction::Send);
        bench.writes += 1;
        for _ in 2..DEAD_AFTER {
            assert_ne!(bench.tick(), HeartbeatAction::PeerIsDead);
        }
        assert_eq!(bench.tick(), HeartbeatAction::PeerIsDead);
    }
}
