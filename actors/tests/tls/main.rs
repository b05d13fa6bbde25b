//! TLS against a server of rustls that the test plays, with certificates that it makes: whom the client trusts, how it
//! identifies itself, what each failure is called, and what happens when bytes are missing.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/log_lines.rs"]
mod log_lines;

mod certificates;
mod client_certificates;
mod handshake;
mod logs;
mod missing_bytes;
mod other_end;
mod refusals;
mod rotation;
mod server;
mod setup;
