//! A connection against a peer that the test plays: handshake, protocol faults, heartbeats, and every way to end.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "../common/mod.rs"]
mod common;

mod end;
mod faults;
mod handshake;
mod heartbeats;
mod in_memory;
mod unread_answers;
