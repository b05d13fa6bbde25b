//! Metrics, read by a recorder of the test.

mod connections;
mod dashboard;
mod recorder;
mod tasks;
