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
pub(super) enum Beat {
    None,
    Send,
    PeerIsDead,
}

#[derive(Debug, Default)]
pub(super) struct Pulse(Option<Running>);

#[derive(Debug)]
struct Running {
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    due: Instant,
    heard: u64,
    said: u64,
    silent: u32,
}

impl Pulse {
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
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, heard: u64, said: u64, deaf: bool) -> Beat {
        let Some(running) = &mut self.0 else { return Beat::None };
        let mut beat = Beat::None;
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
                return Beat::PeerIsDead;
            }
            if said == running.said {
                beat = Beat::Send;
            }
            (running.heard, running.said) = (heard, said);
            running.due = now + running.interval / TICKS;
            running.timer.as_mut().reset(running.due);
        }
        beat
    }
}
