//! Channels: opening, closing, channel numbers, events, actor messages, transactions, `basic.recover`.

mod actor_messages;
mod basic_recover;
mod commits;
mod events;
mod open;
mod registry;
mod transactions;
