//! A transactional outbox: messages are written to a table in the transaction of the application, and published after it.

pub use self::{
    actor::{RelayActor, Wake},
    event::RelayEvent,
    handle::{Outbox, Queued},
    relay::{OutboxRelay, RelayBuilder, RelayCounters},
    row::{Lag, Parked},
    to::To,
};

mod actor;
mod batch;
mod event;
mod handle;
mod looks;
mod machine;
#[cfg(test)]
mod machine_tests;
mod relay;
mod row;
mod runner;
mod store;
mod to;
