//! The actors of a broker are its parts that run: one listens, there is one for each socket, and one keeps the time. Here are
//! that one, and what happens when a part panics.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use actix::prelude::*;
use tokio::time::sleep;

use super::shared::Shared;

/// Runs a part of the broker. Its panic ends the broker, which tells those who wait for something.
pub(super) async fn watched(shared: Arc<Shared>, part: &'static str, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    let poll = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
        polled.unwrap_or_else(|panic| {
            shared.break_off(part, &*panic);
            Poll::Ready(())
        })
    });
    poll.await;
}

/// Lets happen what is due.
#[derive(Debug)]
pub(super) struct Timekeeper(pub(super) Arc<Shared>);

impl Actor for Timekeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let shared = Arc::clone(&self.0);
        let mut stopped = shared.stop.subscribe();
        let keep_time = async move {
            loop {
                let idle = shared.idle_for();
                let due = async {
                    match idle {
                        Some(idle) => sleep(idle).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased; // Runs of a paused clock are repeatable.
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                    () = shared.timer.notified() => {}
                    () = due => shared.tick(),
                }
            }
        };
        let keep_time = watched(Arc::clone(&self.0), "the clock", keep_time);
        ctx.spawn(keep_time.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}
