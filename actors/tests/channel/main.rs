//! A channel against a peer that the test plays: how it closes, late replies, panics, and malformed content.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "../common/mod.rs"]
mod common;

mod body_limits;
mod closing;
mod failing_deliveries;
mod late_replies;
mod malformed_content;
mod panics;
mod prefetch_bytes;
