//! Errors of the database.

use actix_pika_actors::facade;

use crate::Error;

/// Returns what failed, and why.
pub(crate) fn failed(what: &str, error: &sqlx::Error) -> Error {
    let explained = match error {
        sqlx::Error::PoolTimedOut => "no connection of the pool was free in time".into(),
        other => other.to_string(),
    };
    facade::database(format!("{what}: {explained}"), is_retryable(error))
}

fn is_retryable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| passes(&code)),
        _ => false,
    }
}

/// Returns whether the cause of an SQLSTATE of PostgreSQL, or of an extended result code of SQLite, passes.
fn passes(code: &str) -> bool {
    match code.parse::<u32>() {
        // SQLITE_BUSY and SQLITE_LOCKED, with what is said beside them in the upper bits.
        Ok(number) if code.len() < 5 => matches!(number & 0xff, 5 | 6),
        // Lost connections, too little room, a server that stops; deadlocks and serialization failures; locks.
        _ => {
            ["08", "53", "57P"].iter().any(|class| code.starts_with(class))
                || matches!(code, "40001" | "40P01" | "55P03")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_retryable() {
        for code in ["5", "517", "261", "6", "262", "08006", "40001", "40P01", "53300", "55P03", "57P01"] {
            assert!(passes(code), "{code}");
        }
        for code in ["1", "19", "2067", "23505", "42P01", "40002", "28P01"] {
            assert!(!passes(code), "{code}");
        }
        let error = failed("a test", &sqlx::Error::PoolTimedOut);
        assert_eq!((error.kind(), error.is_retryable()), (crate::ErrorKind::Database, true));
        assert_eq!(error.to_string(), "a test: no connection of the pool was free in time");
        assert!(!failed("a test", &sqlx::Error::PoolClosed).is_retryable());
    }
}
