//! Consuming: consumers, streams of deliveries, `basic.get`, prefetch, settling.

mod basics;
mod batches;
mod ends;
mod get;
mod handlers;
mod process;
mod qos;
mod read_ahead;
mod refused;
mod settle_frames;
mod stream;
mod targets;
