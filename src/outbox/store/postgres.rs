//! The statements for PostgreSQL.

use std::collections::BTreeSet;

use sqlx::{Connection, PgConnection, Row as _, postgres::PgRow, query, query_scalar};

use super::{
    super::row::{HeldRow, Message, NewRow, Parked, Row},
    Holder, PAGE, PARKED, millis,
};
use crate::database::Names;

pub(super) const SCHEMA: &[&str] = &["
create table {p}outbox (
    id bigint generated always as identity primary key,
    message_id text not null unique,
    exchange text not null,
    routing_key text not null,
    lane text,
    mandatory boolean not null,
    properties bytea not null,
    body bytea not null,
    created bigint not null,
    tries integer not null default 0,
    held_until bigint,
    reason text
);
create index {p}outbox_held on {p}outbox (lane, id) where held_until is not null;
create table {p}outbox_lease (
    one integer primary key check (one = 1),
    holder text not null,
    until bigint not null,
    fence bigint not null
);
"];

/// Milliseconds since 1970, the same for all rows of a statement: a hold that runs out while rows are read must not let a
/// later row of its lane pass.
const NOW: &str = "(extract(epoch from statement_timestamp()) * 1000)::bigint";

fn sql(names: &Names, statement: &str) -> String {
    names.sql(statement).replace("{now}", NOW)
}

pub(super) async fn insert(
    connection: &mut PgConnection,
    names: &Names,
    rows: &[NewRow],
) -> sqlx::Result<Vec<String>> {
    lock_lanes(connection, names, rows).await?;
    let statement = sql(
        names,
        "insert into {p}outbox (message_id, exchange, routing_key, lane, mandatory, properties, body, created)
         select message_id, exchange, routing_key, lane, mandatory, properties, body, {now}
         from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::bytea[], $7::bytea[])
             with ordinality as r (message_id, exchange, routing_key, lane, mandatory, properties, body, place)
         order by place
         on conflict (message_id) do nothing returning message_id",
    );
    query_scalar(&statement)
        .bind(rows.iter().map(|row| &*row.message_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.exchange).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.routing_key).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.lane.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.mandatory).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.properties).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.body).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
}

/// Makes other transactions with the same lanes wait until this one has ended. An id is given before the commit: without
/// it, a later message of a lane could be committed, and published, before an earlier one.
async fn lock_lanes(connection: &mut PgConnection, names: &Names, rows: &[NewRow]) -> sqlx::Result<()> {
    // In one order, so that two transactions do not wait for each other.
    let lanes: BTreeSet<_> = rows.iter().filter_map(|row| row.lane.as_deref()).collect();
    if lanes.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = lanes.into_iter().map(|lane| format!("{}outbox:{lane}", names.prefix())).collect();
    let lock = "select pg_advisory_xact_lock(hashtextextended(key, 0)) from unnest($1::text[]) as keys (key)";
    query(lock).bind(keys).execute(connection).await?;
    Ok(())
}

pub(super) async fn lease(
    connection: &mut PgConnection,
    names: &Names,
    holder: &Holder,
) -> sqlx::Result<Option<i64>> {
    let take = "insert into {p}outbox_lease as l (one, holder, until, fence) values (1, $1, {now} + $2, 1)
        on conflict (one) do update set holder = excluded.holder, until = excluded.until,
            fence = case when l.holder = excluded.holder then l.fence else l.fence + 1 end
        where l.holder = excluded.holder or l.until < {now}
        returning fence";
    query_scalar(&sql(names, take)).bind(&holder.name).bind(holder.millis()).fetch_optional(connection).await
}

pub(super) async fn fetch(
    connection: &mut PgConnection,
    names: &Names,
    most: i64,
    bytes: i64,
) -> sqlx::Result<Vec<Row>> {
    let statement = "
        with page as (
            select id, length(body) + length(properties) as size from {p}outbox as o
            where (held_until is null or held_until <= {now}) and (lane is null or not exists (
                select 1 from {p}outbox as b where b.lane = o.lane and b.id < o.id and b.held_until > {now}))
            order by id limit $1
        ), summed as (select id, size, sum(size) over (order by id) as total from page)
        select o.id, o.lane, o.tries, o.message_id, o.exchange, o.routing_key, o.mandatory, o.properties, o.body
        from summed as s join {p}outbox as o on o.id = s.id
        where s.total <= $2 or s.total = s.size order by o.id";
    let rows = query(&sql(names, statement)).bind(most).bind(bytes).fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> sqlx::Result<Row> {
    let message = Message::read(
        row.try_get("message_id")?,
        row.try_get("exchange")?,
        row.try_get("routing_key")?,
        row.try_get("mandatory")?,
        row.try_get("properties")?,
        row.try_get("body")?,
    );
    let tries: i32 = row.try_get("tries")?;
    Ok(Row {
        id: row.try_get("id")?,
        lane: row.try_get("lane")?,
        tries: tries.try_into().unwrap_or_default(),
        message,
    })
}

pub(super) async fn settle(
    connection: &mut PgConnection,
    names: &Names,
    holder: &Holder,
    fence: i64,
    published: &[i64],
    held: &[HeldRow],
) -> sqlx::Result<bool> {
    let mut tx = connection.begin().await?;
    let renew = sql(names, "update {p}outbox_lease set until = {now} + $3 where holder = $1 and fence = $2");
    let renewed = query(&renew).bind(&holder.name).bind(fence).bind(holder.millis());
    if renewed.execute(&mut *tx).await?.rows_affected() == 0 {
        tx.rollback().await?;
        return Ok(false);
    }
    if !published.is_empty() {
        let delete = "delete from {p}outbox where id = any($1)";
        query(&sql(names, delete)).bind(published).execute(&mut *tx).await?;
    }
    let hold = sql(
        names,
        "update {p}outbox set tries = $2, held_until = coalesce({now} + $3, $4), reason = $5 where id = $1",
    );
    for row in held {
        let hold = query(&hold)
            .bind(row.id)
            .bind(i32::try_from(row.tries).unwrap_or(i32::MAX))
            .bind(row.millis())
            .bind(PARKED)
            .bind(&row.reason);
        hold.execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn release(
    connection: &mut PgConnection,
    names: &Names,
    holder: &Holder,
    fence: i64,
) -> sqlx::Result<()> {
    let release = "update {p}outbox_lease set until = 0 where holder = $1 and fence = $2";
    query(&sql(names, release)).bind(&holder.name).bind(fence).execute(connection).await?;
    Ok(())
}

pub(super) async fn check(connection: &mut PgConnection, names: &Names) -> sqlx::Result<()> {
    let statement = "select 1 from {p}outbox_lease, {p}outbox limit 1";
    query(&sql(names, statement)).fetch_optional(connection).await?;
    Ok(())
}

pub(super) async fn lag(
    connection: &mut PgConnection,
    names: &Names,
) -> sqlx::Result<(i64, Option<i64>, i64)> {
    let statement = "
        select count(case when held_until = $1 then null else 1 end),
            {now} - min(case when held_until = $1 then null else created end),
            count(case when held_until = $1 then 1 end)
        from {p}outbox";
    let row = query(&sql(names, statement)).bind(PARKED).fetch_one(connection).await?;
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

pub(super) async fn parked(connection: &mut PgConnection, names: &Names) -> sqlx::Result<Vec<Parked>> {
    let statement = "
        select message_id, exchange, routing_key, lane, tries, coalesce(reason, '') as reason,
            {now} - created as age
        from {p}outbox where held_until = $1 order by id limit $2";
    let rows = query(&sql(names, statement)).bind(PARKED).bind(PAGE).fetch_all(connection).await?;
    let parked = |row: &PgRow| {
        Ok(Parked {
            message_id: row.try_get("message_id")?,
            exchange: row.try_get("exchange")?,
            routing_key: row.try_get("routing_key")?,
            lane: row.try_get("lane")?,
            tries: row.try_get::<i32, _>("tries")?.try_into().unwrap_or_default(),
            reason: row.try_get("reason")?,
            age: millis(row.try_get("age")?),
        })
    };
    rows.iter().map(parked).collect()
}

pub(super) async fn unpark(
    connection: &mut PgConnection,
    names: &Names,
    message_id: Option<&str>,
) -> sqlx::Result<u64> {
    let statement = "update {p}outbox set held_until = null, tries = 0, reason = null
        where held_until = $1 and ($2::text is null or message_id = $2)";
    let done = query(&sql(names, statement)).bind(PARKED).bind(message_id).execute(connection).await?;
    Ok(done.rows_affected())
}

pub(super) async fn prune(connection: &mut PgConnection, names: &Names, age: i64) -> sqlx::Result<u64> {
    let statement = "delete from {p}outbox where id in (
        select id from {p}outbox where held_until = $1 and created <= {now} - $2 order by id limit $3)";
    let done = query(&sql(names, statement)).bind(PARKED).bind(age).bind(PAGE).execute(connection).await?;
    Ok(done.rows_affected())
}
