//! For how long reading has paused because too much waits for user code.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// What is to be done about it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchdogAction {
    None,
    Warn,
    /// Whoever holds most must go.
    Relieve,
}

#[derive(Debug, Default)]
pub(super) struct SlowConsumerWatchdog(Option<Running>);

#[derive(Debug)]
struct Running {
    timer: Pin<Box<Sleep>>,
    warned: bool,
}

impl SlowConsumerWatchdog {
    /// Looks at the clock; `deaf` says that we do not listen now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deaf: bool, limit: Duration) -> WatchdogAction {
        if !deaf {
            self.0 = None;
            return WatchdogAction::None;
        }
        let early = limit / 4;
        let running = self.0.get_or_insert_with(|| Running { timer: Box::pin(sleep(early)), warned: false });
        let mut remedy = WatchdogAction::None;
        while remedy != WatchdogAction::Relieve && running.timer.as_mut().poll(cx) == Poll::Ready(()) {
            remedy = if running.warned { WatchdogAction::Relieve } else { WatchdogAction::Warn };
            // One that is gone may not have been enough: then the next one goes soon.
            let next = if running.warned { limit / 20 } else { limit - early };
            running.timer = Box::pin(sleep(next.max(Duration::from_millis(1))));
            running.warned = true;
        }
        if remedy == WatchdogAction::Relieve {
            // Arms the new timer.
            cx.waker().wake_by_ref();
        }
        remedy
    }
}
