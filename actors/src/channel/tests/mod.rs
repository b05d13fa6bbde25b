//! Tests of the channel: its machine without a runtime, and costs that are counted, with the actor.

mod bench;
mod cancel;
mod closing;
mod counting;
mod recovery;
mod reduce_prefetch;
mod replies;
mod schedules;
mod silence;
mod skipped;
mod state;
mod transaction;
