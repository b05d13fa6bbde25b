//! The broker without I/O, clock or runtime: it is fed with methods and with the time, and answers with frames.
//!
//! Everything is deterministic: the same calls give the same answers, names generated from the seed included.

mod error;
mod line;
mod message;
mod properties;
mod queue;
mod routing;
mod settings;
mod term;
mod time;

pub use self::{
    error::{Close, Failure},
    line::{Line, QuorumPriorities, Rules},
    message::{Message, Name},
    settings::{Overflow, QueueKind, QueueSettings},
    time::Time,
};
