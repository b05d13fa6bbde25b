//! What is particular to PostgreSQL.

use sqlx::{PgPool, query, query_scalar, raw_sql};

use super::{
    Component, Names,
    migrate::{Plan, SCHEMA, SET_VERSION, VERSION, plan},
};

/// Returns the version of a schema that is newer than the known ones.
pub(super) async fn migrate(pool: &PgPool, names: &Names, component: Component) -> sqlx::Result<Option<i64>> {
    let mut tx = pool.begin().await?;
    // Two that create the same table at once fail, also with `if not exists`.
    let lock = format!("{}schema", names.prefix());
    query("select pg_advisory_xact_lock(hashtextextended($1, 0))").bind(lock).execute(&mut *tx).await?;
    query(&names.sql(SCHEMA)).execute(&mut *tx).await?;
    let version = query_scalar(&names.sql(VERSION)).bind(component.name).fetch_optional(&mut *tx).await?;
    match plan(component.postgres, version.unwrap_or_default(), names) {
        Plan::Newer(version) => return Ok(Some(version)),
        Plan::Steps(steps, _) if steps.is_empty() => {}
        Plan::Steps(steps, version) => {
            for step in steps {
                raw_sql(&step).execute(&mut *tx).await?;
            }
            query(&names.sql(SET_VERSION)).bind(component.name).bind(version).execute(&mut *tx).await?;
        }
    }
    tx.commit().await?;
    Ok(None)
}
