//! The statements for SQLite.

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
