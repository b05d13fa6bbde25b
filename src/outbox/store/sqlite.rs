//! The statements for SQLite.

use sqlx::{Connection, Row as _, SqliteConnection, query, query_scalar, sqlite::SqliteRow};

use super::{
    super::row::{HeldRow, Message, NewRow, Parked, Row},
    Holder, PAGE, PARKED, millis,
};
use crate::database::Names;

/// The ids of deleted rows are not used again (`autoincrement`): a relay that deletes late must not meet another row.
pub(super) const SCHEMA: &[&str] = &["
create table {p}outbox (
    id integer primary key autoincrement,
    message_id text not null unique,
    exchange text not null,
    routing_key text not null,
    lane text,
    mandatory boolean not null,
    properties blob not null,
    body blob not null,
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

/// Milliseconds since 1970.
const NOW: &str = "cast(round((julianday('now') - 2440587.5) * 86400000) as integer)";

fn sql(names: &Names, statement: &str) -> String {
    names.sql(statement).replace("{now}", NOW)
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    names: &Names,
    rows: &[NewRow],
) -> sqlx::Result<Vec<String>> {
    let statement = sql(
        names,
        "insert into {p}outbox (message_id, exchange, routing_key, lane, mandatory, properties, body, created)
         values ($1, $2, $3, $4, $5, $6, $7, {now})
         on conflict (message_id) do nothing returning message_id",
    );
    let mut written = Vec::with_capacity(rows.len());
    for row in rows {
        let insert = query_scalar(&statement)
            .bind(&row.message_id)
            .bind(&row.exchange)
            .bind(&row.routing_key)
            .bind(&row.lane)
            .bind(row.mandatory)
            .bind(&row.properties)
            .bind(&*row.body);
        written.extend(insert.fetch_optional(&mut *connection).await?);
    }
    Ok(written)
}

pub(super) async fn lease(
    connection: &mut SqliteConnection,
    names: &Names,
    holder: &Holder,
) -> sqlx::Result<Option<i64>> {
    // The statement below would take the write lock, also if it changes nothing.
    let other = "select fence from {p}outbox_lease where holder <> $1 and until >= {now}";
    let other: Option<i64> =
        query_scalar(&sql(names, other)).bind(&holder.name).fetch_optional(&mut *connection).await?;
    if other.is_some() {
        return Ok(None);
    }
    let take = "insert into {p}outbox_lease as l (one, holder, until, fence) values (1, $1, {now} + $2, 1)
        on conflict (one) do update set holder = excluded.holder, until = excluded.until,
            fence = case when l.holder = excluded.holder then l.fence else l.fence + 1 end
        where l.holder = excluded.holder or l.until < {now}
        returning fence";
    query_scalar(&sql(names, take)).bind(&holder.name).bind(holder.millis()).fetch_optional(connection).await
}

pub(super) async fn fetch(
    connection: &mut SqliteConnection,
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

/// SQLite has values of any type in any column, so that each may be unreadable.
fn read(row: &SqliteRow) -> sqlx::Result<Row> {
    let message = || {
        Ok::<_, sqlx::Error>((
            row.try_get("message_id")?,
            row.try_get("exchange")?,
            row.try_get("routing_key")?,
            row.try_get("mandatory")?,
            row.try_get::<&[u8], _>("properties")?,
            row.try_get("body")?,
        ))
    };
    let (lane, tries) = (row.try_get("lane"), row.try_get::<u32, _>("tries"));
    let message = match (message(), &lane) {
        (Ok((id, exchange, key, mandatory, properties, body)), Ok(_)) => {
            Message::read(id, exchange, key, mandatory, properties, body)
        }
        (Err(error), _) => Err(unreadable(&error)),
        (_, Err(error)) => Err(unreadable(error)),
    };
    Ok(Row {
        id: row.try_get("id")?,
        lane: lane.unwrap_or_default(),
        tries: tries.unwrap_or_default(),
        message,
    })
}

fn unreadable(error: &sqlx::Error) -> String {
    format!("the row cannot be read: {error}")
}

pub(super) async fn settle(
    connection: &mut SqliteConnection,
    names: &Names,
    holder: &Holder,
    fence: i64,
    published: &[i64],
    held: &[HeldRow],
) -> sqlx::Result<bool> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let renew = sql(names, "update {p}outbox_lease set until = {now} + $3 where holder = $1 and fence = $2");
    let renewed = query(&renew).bind(&holder.name).bind(fence).bind(holder.millis());
    if renewed.execute(&mut *tx).await?.rows_affected() == 0 {
        tx.rollback().await?;
        return Ok(false);
    }
    if !published.is_empty() {
        let delete = "delete from {p}outbox where id in (select value from json_each($1))";
        let ids = published.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        query(&sql(names, delete)).bind(format!("[{ids}]")).execute(&mut *tx).await?;
    }
    let hold = sql(
        names,
        "update {p}outbox set tries = $2, held_until = coalesce({now} + $3, $4), reason = $5 where id = $1",
    );
    for row in held {
        let hold =
            query(&hold).bind(row.id).bind(row.tries).bind(row.millis()).bind(PARKED).bind(&row.reason);
        hold.execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn release(
    connection: &mut SqliteConnection,
    names: &Names,
    holder: &Holder,
    fence: i64,
) -> sqlx::Result<()> {
    let release = "update {p}outbox_lease set until = 0 where holder = $1 and fence = $2";
    query(&sql(names, release)).bind(&holder.name).bind(fence).execute(connection).await?;
    Ok(())
}

pub(super) async fn check(connection: &mut SqliteConnection, names: &Names) -> sqlx::Result<()> {
    let statement = "select 1 from {p}outbox_lease, {p}outbox limit 1";
    query(&sql(names, statement)).fetch_optional(connection).await?;
    Ok(())
}

pub(super) async fn lag(
    connection: &mut SqliteConnection,
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

pub(super) async fn parked(connection: &mut SqliteConnection, names: &Names) -> sqlx::Result<Vec<Parked>> {
    let statement = "
        select cast(message_id as blob) as message_id, cast(exchange as blob) as exchange,
            cast(routing_key as blob) as routing_key, cast(lane as blob) as lane,
            cast(tries as integer) as tries, coalesce(reason, '') as reason, {now} - created as age
        from {p}outbox where held_until = $1 order by id limit $2";
    let rows = query(&sql(names, statement)).bind(PARKED).bind(PAGE).fetch_all(connection).await?;
    // They may be parked because they are no texts.
    let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let parked = |row: &SqliteRow| {
        Ok(Parked {
            message_id: lossy(row.try_get("message_id")?),
            exchange: lossy(row.try_get("exchange")?),
            routing_key: lossy(row.try_get("routing_key")?),
            lane: row.try_get::<Option<_>, _>("lane")?.map(lossy),
            tries: row.try_get("tries")?,
            reason: row.try_get("reason")?,
            age: millis(row.try_get("age")?),
        })
    };
    rows.iter().map(parked).collect()
}

pub(super) async fn unpark(
    connection: &mut SqliteConnection,
    names: &Names,
    message_id: Option<&str>,
) -> sqlx::Result<u64> {
    let statement = "update {p}outbox set held_until = null, tries = 0, reason = null
        where held_until = $1 and ($2 is null or message_id = $2)";
    let done = query(&sql(names, statement)).bind(PARKED).bind(message_id).execute(connection).await?;
    Ok(done.rows_affected())
}

pub(super) async fn prune(connection: &mut SqliteConnection, names: &Names, age: i64) -> sqlx::Result<u64> {
    let statement = "delete from {p}outbox where id in (
        select id from {p}outbox where held_until = $1 and created <= {now} - $2 order by id limit $3)";
    let done = query(&sql(names, statement)).bind(PARKED).bind(age).bind(PAGE).execute(connection).await?;
    Ok(done.rows_affected())
}
