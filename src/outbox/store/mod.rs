//! The rows of the outbox in a database. The statements of each database have a file of their own.

use crate::database::Component;

#[cfg(feature = "sqlx-postgres")]
mod postgres;
#[cfg(feature = "sqlx")]
mod sqlite;

/// The tables of the outbox.
pub(super) const OUTBOX: Component = Component {
    name: "outbox",
    #[cfg(feature = "sqlx")]
    sqlite: sqlite::SCHEMA,
    #[cfg(feature = "sqlx-postgres")]
    postgres: postgres::SCHEMA,
};
