//! Tests of the core by sequences of operations, written as text: see `rig.rs`.

mod basics;
mod rig;
