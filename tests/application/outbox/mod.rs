//! The outbox, on SQLite and on PostgreSQL.

#[cfg(feature = "sqlx")]
mod sqlite;
