//! Bytes to meaning and back: AMQP 0-9-1 as plain structs that are fed with bytes and asked for values.
//!
//! Nothing in here reads a socket, a clock or a mailbox, so that all of it is tested and fuzzed without a runtime.
//! What a connection reads and writes for every message ([`hot`], [`content`], [`frame`]) is written by hand and
//! allocates nothing; the rest of the methods goes through `amq-protocol` ([`method`]). Bytes from the network are
//! checked before anything recursive sees them, and what is wrong with them is a [`fault::Fault`], never a panic.

pub mod content;
pub mod fault;
pub mod frame;
pub mod handshake;
pub mod hot;
pub mod method;
pub mod properties;
pub mod short;
pub mod table;
pub mod text;
pub mod tune;
pub mod value;

mod cursor;
mod field;
mod field_table;
mod greeting;
mod property_list;
mod scan;
