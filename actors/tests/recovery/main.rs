//! Recovery against a peer that the test plays: reconnecting, channels, consumers, publishes, closing.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "../common/mod.rs"]
mod common;

mod channel_closes;
mod channels;
mod closing;
mod consumers;
mod nacks;
mod publish;
mod ready;
mod reconnect;
mod refusals;
mod refused_publishes;
mod room;
mod silence;
mod trials;
