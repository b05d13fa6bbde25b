//! Metrics, read by a recorder of the test.

mod connections;
mod dashboard;
#[cfg(feature = "sqlx")]
mod outbox;
mod recorder;
mod tasks;
