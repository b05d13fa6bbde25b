//! Tests of the core by sequences of operations, written as text: see `operation.rs` and `rig.rs`.

mod asked;
mod basics;
mod channels;
mod consumers;
mod control;
mod dead_letters;
mod differences;
mod entities;
mod errors;
mod headers;
mod memory;
mod operation;
mod operator;
mod oracle;
mod policies;
mod queues;
mod quorum;
mod random;
mod rig;
mod routes;
mod show;
mod streams;
