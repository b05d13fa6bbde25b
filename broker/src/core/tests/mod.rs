//! Tests of the core by sequences of operations, written as text: see `operation.rs` and `rig.rs`.

mod basics;
mod consumers;
mod errors;
mod operation;
mod oracle;
mod queues;
mod rig;
mod show;
