//! Schemas, in steps that are made once, whoever migrates beside.

use actix_pika_actors::facade;

#[cfg(feature = "sqlx-postgres")]
use super::postgres;
#[cfg(feature = "sqlx")]
use super::sqlite;
use super::{AnyPool, Names, failed};
use crate::Result;

/// What has a schema of its own: the outbox, the inbox. A step that was released is never changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    /// The statements of each version, from 1 on, with `{p}` in place of the prefix.
    #[cfg(feature = "sqlx")]
    pub(crate) sqlite: &'static [&'static str],
    #[cfg(feature = "sqlx-postgres")]
    pub(crate) postgres: &'static [&'static str],
}

/// Makes the steps that are missing, in one transaction.
///
/// # Errors
/// `Database`; `Refused` if a newer version of this crate has made the schema.
pub(crate) async fn migrate(pool: &AnyPool, names: &Names, component: Component) -> Result<()> {
    let done = match pool {
        #[cfg(feature = "sqlx")]
        AnyPool::Sqlite(pool) => sqlite::migrate(pool, names, component).await,
        #[cfg(feature = "sqlx-postgres")]
        AnyPool::Postgres(pool) => postgres::migrate(pool, names, component).await,
    };
    let newer =
        done.map_err(|error| failed(&format!("the {} cannot be migrated", component.name), &error))?;
    match newer {
        None => Ok(()),
        Some(version) => Err(facade::refused(format!(
            "the {} in the database has version {version}, which is newer than this program",
            component.name
        ))),
    }
}

/// What is to be done with a schema.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The statements that are missing, and the version after them.
    Steps(Vec<String>, i64),
    /// Somebody newer has made it.
    Newer(i64),
}

/// Returns what is missing after a version.
pub(super) fn plan(steps: &[&str], version: i64, names: &Names) -> Plan {
    let last = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if version > last {
        return Plan::Newer(version);
    }
    let missing = steps.iter().skip(usize::try_from(version).unwrap_or_default());
    Plan::Steps(missing.map(|step| names.sql(step)).collect(), last)
}

/// The table of the versions.
pub(super) const SCHEMA: &str =
    "create table if not exists {p}schema (component text primary key, version bigint not null)";
pub(super) const VERSION: &str = "select version from {p}schema where component = $1";
pub(super) const SET_VERSION: &str = "insert into {p}schema (component, version) values ($1, $2) \
                                      on conflict (component) do update set version = excluded.version";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_steps_are_made() {
        let (names, steps) = (Names::default(), ["create {p}a", "create {p}b"]);
        let all = vec!["create pika_a".to_owned(), "create pika_b".to_owned()];
        assert_eq!(plan(&steps, 0, &names), Plan::Steps(all.clone(), 2));
        assert_eq!(plan(&steps, 1, &names), Plan::Steps(all[1..].to_vec(), 2));
        assert_eq!(plan(&steps, 2, &names), Plan::Steps(vec![], 2));
        assert_eq!(plan(&steps, 3, &names), Plan::Newer(3));
    }
}
