//! The broker around its core as plain machines: no actors, and a clock that the test moves.

mod hostile;
mod rig;
mod settings;
