//! A timer of the Connection actor, which polls it in its I/O loop.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that can be set again and again. Unset, it is never due.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Sets the time at which it is due. Call [`is_due`](Self::is_due) afterwards, otherwise the task is not
    /// woken.
    pub(super) fn set(&mut self, at: Instant) {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.0 = Some(Box::pin(sleep_until(at))),
        }
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// Returns whether it is due; if it is set and not due, wakes the task when it is.
    pub(super) fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        self.0.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx) == Poll::Ready(()))
    }
}
