//! Heartbeats: a sign of life when we were silent for a quarter of the interval, death when the peer was for two.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Ticks per interval.
const TICKS: u32 = 4;
/// Ticks of silence after which the peer is dead: two intervals.
const DEAD_AFTER: u32 = 2 * TICKS;

/// What a tick asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeartbeatAction {
    None,
    Send,
    PeerIsDead,
}

#[derive(Debug, Default)]
pub(super) struct Heartbeat(Option<Running>);

#[derive(Debug)]
struct Running {
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    due: Instant,
    heard: u64,
    said: u64,
    silent: u32,
}

impl Heartbeat {
    /// Begins to beat every `seconds`; 0 never does.
    pub(super) fn start(seconds: u16) -> Self {
        if seconds == 0 {
            return Self(None);
        }
        let interval = Duration::from_secs(seconds.into());
        let due = Instant::now() + interval / TICKS;
        Self(Some(Running { interval, timer: Box::pin(sleep_until(due)), due, heard: 0, said: 0, silent: 0 }))
    }

    pub(super) fn interval(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |running| running.interval)
    }

    /// Looks at the clock; `heard` and `said` count reads and writes so far, `deaf` says that we do not listen now.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        heard: u64,
        said: u64,
        deaf: bool,
    ) -> HeartbeatAction {
        let Some(running) = &mut self.0 else { return HeartbeatAction::None };
        let mut beat = HeartbeatAction::None;
        while running.timer.as_mut().poll(cx) == Poll::Ready(()) {
            let now = Instant::now();
            let late = now.saturating_duration_since(running.due);
            if late > running.interval / 2 {
                log::warn!(
                    "this arbiter was blocked for {late:?}, more than half a heartbeat interval; the broker may take \
                     the connection for dead"
                );
            }
            running.silent = if heard != running.heard || deaf { 0 } else { running.silent + 1 };
            if running.silent >= DEAD_AFTER {
                return HeartbeatAction::PeerIsDead;
            }
            if said == running.said {
                beat = HeartbeatAction::Send;
            }
            (running.heard, running.said) = (heard, said);
            running.due = now + running.interval / TICKS;
            running.timer.as_mut().reset(running.due);
        }
        beat
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, pause};

    use super::*;

    /// A quarter of ten seconds; timers are good to a millisecond.
    const TICK: Duration = Duration::from_millis(2501);

    /// A pulse of ten seconds, in time that stands still.
    struct Bench {
        pulse: Heartbeat,
        heard: u64,
        said: u64,
        deaf: bool,
    }

    impl Bench {
        fn start() -> Self {
            pause();
            Self { pulse: Heartbeat::start(10), heard: 0, said: 0, deaf: false }
        }

        /// Lets one quarter of the interval pass.
        async fn tick(&mut self) -> HeartbeatAction {
            advance(TICK).await;
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let beat = self.pulse.poll(&mut cx, self.heard, self.said, self.deaf);
            self.said += u64::from(beat == HeartbeatAction::Send);
            beat
        }
    }

    /// HB-02: twice in each interval.
    #[tokio::test]
    async fn who_is_silent_beats_at_half_of_the_interval() {
        let mut bench = Bench::start();
        for _ in 0..10 {
            bench.heard += 1;
            assert_eq!(bench.tick().await, HeartbeatAction::Send);
            bench.heard += 1;
            assert_eq!(bench.tick().await, HeartbeatAction::None);
        }
    }

    /// HB-04
    #[tokio::test]
    async fn who_speaks_does_not_beat() {
        let mut bench = Bench::start();
        for _ in 0..40 {
            bench.heard += 1;
            bench.said += 1;
            assert_eq!(bench.tick().await, HeartbeatAction::None);
        }
        bench.heard += 1;
        assert_eq!(bench.tick().await, HeartbeatAction::Send);
    }

    /// HB-05: whatever was heard counts, and so does whatever we did not listen to.
    #[tokio::test]
    async fn two_silent_intervals_are_the_end() {
        let mut bench = Bench::start();
        for _ in 1..DEAD_AFTER {
            assert_ne!(bench.tick().await, HeartbeatAction::PeerIsDead);
        }
        bench.heard += 1;
        for _ in 0..DEAD_AFTER {
            assert_ne!(bench.tick().await, HeartbeatAction::PeerIsDead);
        }
        bench.deaf = true;
        assert_ne!(bench.tick().await, HeartbeatAction::PeerIsDead);
        bench.deaf = false;
        for _ in 1..DEAD_AFTER {
            assert_ne!(bench.tick().await, HeartbeatAction::PeerIsDead);
        }
        assert_eq!(bench.tick().await, HeartbeatAction::PeerIsDead);
    }

    /// HB-01
    #[tokio::test]
    async fn no_interval_is_no_pulse() {
        let mut bench = Bench { pulse: Heartbeat::start(0), ..Bench::start() };
        for _ in 0..100 {
            assert_eq!(bench.tick().await, HeartbeatAction::None);
        }
    }

    /// An arbiter that was blocked for long gives the peer the benefit of the doubt: one tick, not many.
    #[tokio::test]
    async fn a_blocked_arbiter_counts_as_one_tick() {
        let mut bench = Bench::start();
        advance(TICK * 100).await;
        assert_eq!(bench.tick().await, HeartbeatAction::Send);
        for _ in 2..DEAD_AFTER {
            assert_ne!(bench.tick().await, HeartbeatAction::PeerIsDead);
        }
        assert_eq!(bench.tick().await, HeartbeatAction::PeerIsDead);
    }
}
