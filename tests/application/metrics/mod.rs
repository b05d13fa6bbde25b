//! Metrics, read by a recorder of the test.

mod connections;
mod recorder;
mod tasks;
