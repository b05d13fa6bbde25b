//! The broker around its core as plain machines: no actors, and a clock that the test moves.

mod faults;
mod hostile;
mod one_change;
mod parts;
mod rig;
mod settings;
